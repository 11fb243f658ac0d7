//! `node enroll`: takes machines in, from whatever state each of them is in already.
//!
//! A machine is created with its ports, verified, inspected and made available. Run again after a failure, it goes on from
//! the node's state; fields of a node that exists are left as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::args::node::Enroll;
use crate::args::output::{Format, Output};
use crate::client::{Client, Request};
use crate::commands::Session;
use crate::commands::{node_body, provision};
use crate::display::Line;
use crate::error::CliError;
use crate::inventory::{self, Machine};
use crate::record::Record;
use crate::{fields, wait};

/// How far to go.
#[derive(Debug, Clone, Copy)]
struct Course {
    inspect: bool,
    provide: bool,
    limit: Duration,
}

/// Does it.
pub async fn run(session: &Session, mut args: Enroll) -> Result<(), CliError> {
    take_format(&mut args);
    let machines = match &args.file {
        Some(file) => {
            if args.driver.is_some() || args.new.name.is_some() || args.new.uuid.is_some() || !args.macs.is_empty() {
                let text = "an inventory tells of its machines itself: --driver, --name, --uuid and --mac do not go with --file";
                return Err(CliError::Usage(text.into()));
            }
            inventory::read(file)?
        }
        None => vec![single(&args)?],
    };
    let (jobs, limit) = (Arc::new(Semaphore::new(args.jobs.into())), Duration::from_secs(args.wait_timeout));
    let mut work = JoinSet::new();
    for (at, machine) in machines.into_iter().enumerate() {
        let course = Course {
            inspect: !args.no_inspect && machine.inspect.unwrap_or(true),
            provide: !args.no_provide && machine.provide.unwrap_or(true),
            limit,
        };
        let (client, jobs, line) = (Arc::clone(&session.client), Arc::clone(&jobs), session.display.line(&machine.label));
        work.spawn(async move {
            let _place = jobs.acquire_owned().await;
            let result = take_in(&client, machine, course, &line).await;
            match &result {
                Ok(node) => line.finish(node.text("provision_state").unwrap_or("done")),
                Err(_) => line.finish("failed"),
            }
            (at, result)
        });
    }
    let (mut nodes, mut failures) = (Vec::new(), Vec::new());
    while let Some(done) = work.join_next().await {
        match done {
            Ok((at, Ok(node))) => nodes.push((at, node.without(fields::NODE_LINKS))),
            Ok((_, Err(error))) => failures.push(error),
            Err(error) => failures.push(CliError::Failed(format!("an enrolment ended abnormally: {error}"))),
        }
    }
    session.display.end();
    nodes.sort_by_key(|(at, _)| *at);
    let nodes: Vec<Record> = nodes.into_iter().map(|(_, node)| node).collect();
    let output = Output::from(args.output);
    match (&args.file, nodes.first()) {
        (None, Some(node)) => session.show(node, &output)?,
        (None, None) => {}
        (Some(_), _) => session.list(fields::NODE, &nodes, &output)?,
    }
    CliError::gather(failures)
}

/// Every other command takes its output format by `-f`. Here it names a file, unless it is the name of a format and the
/// machine is told by options; a file of such a name is given as `./json`.
fn take_format(args: &mut Enroll) {
    let format = args.file.as_deref().filter(|_| args.driver.is_some()).and_then(|name| Format::from_str(name, true).ok());
    if let Some(format) = format {
        args.output.format = format;
        args.file = None;
    }
}

/// The machine that the options tell of.
fn single(args: &Enroll) -> Result<Machine, CliError> {
    if args.driver.is_none() {
        return Err(CliError::Usage("what is to be enrolled? Give --driver with its options, or an inventory by --file".into()));
    }
    let body = node_body(args.driver.as_deref(), &args.new)?;
    let label = args.new.name.clone().or_else(|| args.new.uuid.clone());
    let label = label.or_else(|| args.macs.first().cloned()).unwrap_or_else(|| "new node".into());
    let ports = args.macs.iter().map(|mac| Map::from_iter([("address".to_owned(), mac.clone().into())])).collect();
    Ok(Machine { label, body, ports, inspect: None, provide: None })
}

/// Takes one machine in and returns the node.
async fn take_in(client: &Client, machine: Machine, course: Course, line: &Line) -> Result<Record, CliError> {
    let end = Instant::now() + course.limit;
    let node = find_or_create(client, &machine, line).await.map_err(|e| named(&machine.label, e))?;
    let uuid = node.text("uuid").unwrap_or(&machine.label).to_owned();
    let ident = node.text("name").unwrap_or(&uuid).to_owned();
    ports(client, &uuid, &machine.ports, line).await.map_err(|e| named(&ident, e))?;
    advance(client, &ident, course, end, line).await.map_err(|e| named(&ident, e))
}

/// Errors of several machines tell which one they are about.
fn named(label: &str, error: CliError) -> CliError {
    match error {
        CliError::Failed(text) => CliError::Failed(format!("{label}: {text}")),
        CliError::Api(mut error) => {
            error.message = format!("{label}: {}", error.message);
            CliError::Api(error)
        }
        other => other,
    }
}

async fn find_or_create(client: &Client, machine: &Machine, line: &Line) -> Result<Record, CliError> {
    let ident = machine.body.get("name").or_else(|| machine.body.get("uuid")).and_then(Value::as_str);
    if let Some(ident) = ident {
        match client.get(Request::to(&["nodes", ident])).await {
            Ok(node) => {
                let (wanted, found) = (machine.body.get("driver").and_then(Value::as_str), node.text("driver"));
                if wanted != found {
                    return Err(CliError::Failed(format!(
                        "a node of that name exists with driver {} instead of {}; delete it (`baremetal node delete {ident}`) or set its driver",
                        found.unwrap_or("unknown"),
                        wanted.unwrap_or("unknown"),
                    )));
                }
                line.say("exists already; goes on from its state");
                return Ok(node);
            }
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    line.say("creating the node");
    client.post(&["nodes"], &Value::Object(machine.body.clone())).await
}

async fn ports(client: &Client, uuid: &str, ports: &[Map<String, Value>], line: &Line) -> Result<(), CliError> {
    if ports.is_empty() {
        return Ok(());
    }
    let there = client.list(Request::to(&["ports"]).query("node", uuid), "ports", Some(0)).await?;
    for port in ports {
        let address = port.get("address").and_then(Value::as_str).unwrap_or_default();
        // As labels and other tools write addresses, too.
        let address = address.to_ascii_lowercase().replace('-', ":");
        let same = |known: &Record| known.text("address").is_some_and(|known| known.eq_ignore_ascii_case(&address));
        if there.iter().any(same) {
            continue;
        }
        line.say(&format!("adding port {address}"));
        let mut body = port.clone();
        body.insert("address".into(), address.into());
        body.insert("node_uuid".into(), uuid.into());
        client.post(&["ports"], &Value::Object(body)).await?;
    }
    Ok(())
}

/// What to do next with a node in some state.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Tell it to do this, then look again when it is in that state.
    Do(&'static str, &'static str),
    /// It is on its way to that state.
    Wait(&'static str),
    /// Nothing.
    Done,
    /// It was never this command's to move.
    Foreign,
}

/// Decides by the state, and by what was done in this run already: nothing is tried twice.
fn next(state: &str, target: Option<&str>, inspected: bool, course: Course) -> Next {
    match state {
        "enroll" => Next::Do("manage", "manageable"),
        "verifying" => Next::Wait("manageable"),
        "manageable" if course.inspect && !inspected => Next::Do("inspect", "manageable"),
        "manageable" if course.provide => Next::Do("provide", "available"),
        "manageable" | "available" => Next::Done,
        "inspecting" | "inspect wait" => Next::Wait("manageable"),
        "inspect failed" if course.inspect => Next::Do("inspect", "manageable"),
        "inspect failed" | "clean failed" => Next::Do("manage", "manageable"),
        "cleaning" | "clean wait" if target == Some("manageable") => Next::Wait("manageable"),
        "cleaning" | "clean wait" => Next::Wait("available"),
        _ => Next::Foreign,
    }
}

async fn advance(client: &Client, ident: &str, course: Course, end: Instant, line: &Line) -> Result<Record, CliError> {
    let mut done: Vec<(&str, &str)> = Vec::new();
    loop {
        let node = client.get(Request::to(&["nodes", ident])).await?;
        line.node(&node);
        let state = node.text("provision_state").unwrap_or_default().to_owned();
        let inspected = node.text("inspection_finished_at").is_some() || done.iter().any(|(verb, _)| *verb == "inspect");
        let left = end.saturating_duration_since(Instant::now());
        match next(&state, node.text("target_provision_state"), inspected, course) {
            Next::Done => return Ok(node),
            Next::Foreign => {
                let hint = format!("Enrolling goes as far as `available`; `baremetal node show {ident}` tells what the node is used for.");
                return Err(CliError::WentWrong {
                    node: ident.into(),
                    state,
                    wanted: "available".into(),
                    why: "it is in use".into(),
                    hint,
                });
            }
            Next::Wait(wanted) => drop(wait::for_state(client, ident, wanted, Some(left), line).await?),
            Next::Do(verb, wanted) => {
                // The same act twice in one run would go on for ever.
                if done.iter().filter(|(did, _)| *did == verb).count() >= 2 {
                    let why = node.text("last_error").unwrap_or("it does not get further").to_owned();
                    let hint = format!("`baremetal node history list {ident}` tells what happened.");
                    return Err(CliError::WentWrong { node: ident.into(), state, wanted: wanted.into(), why, hint });
                }
                done.push((verb, wanted));
                provision::send(client, ident, &json!({"target": verb})).await?;
                wait::for_state(client, ident, wanted, Some(left), line).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Course = Course { inspect: true, provide: true, limit: Duration::from_secs(1) };

    #[test]
    fn each_state_leads_on_to_available() {
        for (state, target, inspected, expected) in [
            ("enroll", None, false, Next::Do("manage", "manageable")),
            ("verifying", Some("manageable"), false, Next::Wait("manageable")),
            ("manageable", None, false, Next::Do("inspect", "manageable")),
            ("manageable", None, true, Next::Do("provide", "available")),
            ("inspect failed", None, false, Next::Do("inspect", "manageable")),
            ("clean failed", None, true, Next::Do("manage", "manageable")),
            ("clean wait", Some("available"), true, Next::Wait("available")),
            ("cleaning", Some("manageable"), true, Next::Wait("manageable")),
            ("available", None, false, Next::Done),
            ("active", None, false, Next::Foreign),
        ] {
            assert_eq!(next(state, target, inspected, ALL), expected, "{state}");
        }
    }

    #[test]
    fn less_is_done_when_less_is_asked() {
        let course = Course { inspect: false, ..ALL };
        assert_eq!(next("manageable", None, false, course), Next::Do("provide", "available"));
        assert_eq!(next("manageable", None, false, Course { provide: false, ..course }), Next::Done);
        assert_eq!(next("inspect failed", None, false, course), Next::Do("manage", "manageable"));
    }
}
