//! `cargo xtask bench api`: our API and Ironic's under the same load on the same machine in the same run.
//!
//! Each server is loaded alone, one after the other, from an empty database with its default durability, by the same client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bessemer_lab::{
    dev::DevServer,
    ironic::Ironic,
    load::{self, Client, Series},
};
use serde_json::{Value, json};

use crate::measure::{cargo, program};

/// Nodes of a small site.
const FEW: usize = 100;
/// Nodes of the usual measurements.
const NODES: usize = 1000;
/// Nodes of the long list.
const MANY: usize = 10_000;
/// Nodes that live at the same time.
const LIVES: usize = 200;
const TIME: Duration = Duration::from_secs(5);

/// What is measured of one server. Rates are per second, times in seconds, memory in MB.
#[derive(Debug, Default)]
struct Figures {
    start: f64,
    idle: f64,
    lives: f64,
    create: Series,
    get: Series,
    get_parallel: Series,
    patch: Series,
    page: Series,
    detail: Series,
    all_pages: f64,
    loaded: f64,
    growth: Vec<Grown>,
}

/// What single requests take once there are so many nodes.
#[derive(Debug)]
struct Grown {
    nodes: usize,
    get: Series,
    patch: Series,
}

/// Measures both and prints the ratios.
pub(crate) fn run() -> Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "bessemer"])?;
    // A peer that does not start is found out before minutes are spent.
    drop(Ironic::start()?);
    let ours = {
        let begin = Instant::now();
        let server = DevServer::start(&program("release", "bessemer"), &[])?;
        let start = begin.elapsed().as_secs_f64();
        measure("bessemer", &server.url(), server.pid().context("it runs")?, start)?
    };
    let theirs = {
        let server = Ironic::start()?;
        measure("ironic", &server.url(), server.pid(), server.started_in.as_secs_f64())?
    };
    report(&ours, &theirs);
    Ok(())
}

fn measure(name: &str, url: &str, pid: u32, start: f64) -> Result<Figures> {
    let say = |what: &str| eprintln!("{name}: {what} …");
    std::thread::sleep(Duration::from_secs(2));
    let mut f = Figures { start, idle: memory(pid)?, ..Figures::default() };
    say("lives");
    f.lives = LIVES as f64 / lives(url)?;
    say("creating nodes");
    load::each(url, 16, FEW, create)?;
    f.growth.push(grown(url, FEW)?);
    f.create = load::each(url, 16, NODES - FEW, |c, n| create(c, FEW + n))?;
    say("reading and changing");
    let first = Client::open(url)?.ask("GET", "/v1/nodes?fields=uuid", None)?.json()?;
    let ids: Vec<String> = first["nodes"].as_array().into_iter().flatten().filter_map(|n| n["uuid"].as_str().map(str::to_owned)).collect();
    let path = |n: usize| ids.get(n * 7919 % ids.len().max(1)).map(|id| format!("/v1/nodes/{id}")).unwrap_or_default();
    let get = |c: &mut Client, n: usize| c.ask("GET", &path(n), None).map(drop);
    f.growth.push(grown(url, NODES)?);
    f.get = load::during(url, 1, TIME, get)?;
    f.get_parallel = load::during(url, 32, TIME, get)?;
    f.patch = load::during(url, 16, TIME, |c, n| {
        let patch = json!([{"op": "add", "path": "/extra/n", "value": n}]);
        c.ask("PATCH", &path(n), Some(&patch)).map(drop)
    })?;
    f.page = load::each(url, 1, 20, |c, _| c.ask("GET", "/v1/nodes", None).map(drop))?;
    f.detail = load::each(url, 1, 20, |c, _| c.ask("GET", "/v1/nodes/detail", None).map(drop))?;
    say("ten thousand nodes");
    load::each(url, 16, MANY - NODES, |c, n| create(c, NODES + n))?;
    let begin = Instant::now();
    let listed = all_pages(url)?;
    f.all_pages = begin.elapsed().as_secs_f64();
    if listed < MANY {
        bail!("{name} lists {listed} of {MANY} nodes");
    }
    f.growth.push(grown(url, MANY)?);
    f.loaded = memory(pid)?;
    Ok(f)
}

/// Reads and changes single nodes, of which there are so many.
fn grown(url: &str, nodes: usize) -> Result<Grown> {
    let path = |n: usize| format!("/v1/nodes/{}", named(n * 7919 % nodes));
    let get = load::during(url, 1, TIME / 2, |c, n| c.ask("GET", &path(n), None).map(drop))?;
    let patch = load::during(url, 1, TIME / 2, |c, n| {
        c.ask("PATCH", &path(n), Some(&json!([{"op": "add", "path": "/extra/n", "value": n}]))).map(drop)
    })?;
    Ok(Grown { nodes, get, patch })
}

fn named(n: usize) -> String {
    format!("bench-{n:06}")
}

fn create(c: &mut Client, n: usize) -> Result<()> {
    let node = json!({
        "driver": "fake-hardware",
        "name": named(n),
        "resource_class": format!("bench{}", n % 7),
        "properties": {"cpus": 8, "memory_mb": 16384, "local_gb": 100, "cpu_arch": "x86_64"},
        "driver_info": {"addr": format!("192.0.2.{}", n % 250)},
        "extra": {"rack": format!("r{}", n % 40)},
    });
    c.ask("POST", "/v1/nodes", Some(&node)).map(drop)
}

/// Reads all nodes in detail, page by page; gives their number. The answers are searched and not parsed: 20 MB of JSON would take this client, which
/// is not optimised, longer than the server.
fn all_pages(url: &str) -> Result<usize> {
    let mut client = Client::open(url)?;
    let mut path = "/v1/nodes/detail".to_owned();
    let mut count = 0;
    loop {
        let reply = client.ask("GET", &path, None)?;
        let text = reply.text();
        count += text.matches("\"driver_internal_info\"").count();
        // The link to the next page is a member of the whole, before or after the nodes.
        let next = text.rfind("\"next\"").and_then(|at| text.get(at + 6..)).and_then(|t| t.split('"').nth(1));
        match next.and_then(|n| n.find("/v1/").and_then(|at| n.get(at..))) {
            Some(next) => path = next.to_owned(),
            None => return Ok(count),
        }
    }
}

/// Seconds for enroll → manageable → available → active → available of all, then they are deleted.
fn lives(url: &str) -> Result<f64> {
    let name = |n: usize| format!("life-{n:05}");
    let begin = Instant::now();
    load::each(url, 16, LIVES, |c, n| c.ask("POST", "/v1/nodes", Some(&json!({"driver": "fake-hardware", "name": name(n)}))).map(drop))?;
    for (verb, state) in [("manage", "manageable"), ("provide", "available"), ("active", "active"), ("deleted", "available")] {
        load::each(url, 16, LIVES, |c, n| {
            c.ask("PUT", &format!("/v1/nodes/{}/states/provision", name(n)), Some(&json!({"target": verb}))).map(drop)
        })?;
        reach(url, state)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    load::each(url, 16, LIVES, |c, n| c.ask("DELETE", &format!("/v1/nodes/{}", name(n)), None).map(drop))?;
    Ok(seconds)
}

fn reach(url: &str, state: &str) -> Result<()> {
    let mut client = Client::open(url)?;
    let until = Instant::now() + Duration::from_secs(900);
    while Instant::now() < until {
        let list = client.ask("GET", "/v1/nodes?fields=name,provision_state,reservation", None)?.json()?;
        let nodes = list["nodes"].as_array().cloned().unwrap_or_default();
        if let Some(bad) = nodes.iter().find(|n| n["provision_state"].as_str().is_some_and(|s| s.contains("fail"))) {
            bail!("{bad}");
        }
        if nodes.iter().all(|n| n["provision_state"] == state && n["reservation"] == Value::Null) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("not all nodes reach {state} within 15 minutes")
}

/// Resident memory of a process and its descendants, in MB.
fn memory(pid: u32) -> Result<f64> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(one) = all.get(at).copied() {
        at += 1;
        for entry in std::fs::read_dir(format!("/proc/{one}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(entry.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
    }
    let mut bytes = 0;
    for one in all {
        bytes += crate::measure::resident(one).unwrap_or(0);
    }
    if bytes == 0 { bail!("the server ended") } else { Ok(bytes as f64 / 1e6) }
}

fn report(ours: &Figures, theirs: &Figures) {
    println!("{:<46} {:>12} {:>12} {:>9}   goal", "", "bessemer", "ironic", "ratio");
    let line = |name: &str, a: f64, b: f64, ratio: f64, goal: Option<f64>| {
        let verdict = goal.map_or(String::new(), |g| format!("{g:.0}x, {}", if ratio >= g { "met" } else { "MISSED" }));
        println!("{name:<46} {a:>12.2} {b:>12.2} {ratio:>8.1}x   {verdict}");
    };
    let rates: [(&str, &Series, &Series, f64); 4] = [
        ("create nodes, 16 clients, /s", &ours.create, &theirs.create, 20.0),
        ("GET one node, 1 client, /s", &ours.get, &theirs.get, 50.0),
        ("GET one node, 32 clients, /s", &ours.get_parallel, &theirs.get_parallel, 50.0),
        ("PATCH, 16 clients, /s", &ours.patch, &theirs.patch, 20.0),
    ];
    for (name, a, b, goal) in rates {
        line(name, a.rate(), b.rate(), a.rate() / b.rate(), Some(goal));
        for (share, word) in [(0.5, "half"), (0.99, "99 %")] {
            let (x, y) = (a.within(share), b.within(share));
            line(&format!("    {word} of them within, ms"), x, y, y / x, None);
        }
    }
    for (name, a, b, goal) in [
        ("page of 1,000 nodes, half within, ms", &ours.page, &theirs.page, None),
        ("page of 1,000 in detail, half within, ms", &ours.detail, &theirs.detail, Some(30.0)),
    ] {
        line(name, a.within(0.5), b.within(0.5), b.within(0.5) / a.within(0.5), goal);
    }
    line("10,000 nodes in detail, page by page, s", ours.all_pages, theirs.all_pages, theirs.all_pages / ours.all_pages, Some(30.0));
    line("lives of fake nodes, 200 at once, /s", ours.lives, theirs.lives, ours.lives / theirs.lives, Some(20.0));
    line("start to the first answer, s", ours.start, theirs.start, theirs.start / ours.start, Some(20.0));
    line("memory when idle, MB", ours.idle, theirs.idle, theirs.idle / ours.idle, Some(6.0));
    line("memory after all this, MB", ours.loaded, theirs.loaded, theirs.loaded / ours.loaded, Some(6.0));
    for (a, b) in ours.growth.iter().zip(&theirs.growth) {
        for (what, x, y) in [("GET", &a.get, &b.get), ("PATCH", &a.patch, &b.patch)] {
            for (share, word) in [(0.5, "half"), (0.99, "99 %")] {
                let (x, y) = (x.within(share), y.within(share));
                line(&format!("{what} one of {} nodes, {word} within, ms", a.nodes), x, y, y / x, None);
            }
        }
    }
    println!("409 answers waited out: bessemer {}, ironic {}", ours.patch.conflicts, theirs.patch.conflicts);
}
