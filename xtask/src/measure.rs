//! `cargo xtask bench`: the figures of `docs/benchmarks.md`, each beside its goal and, where there
//! is one, the peer of the same run.
//!
//! A goal that is missed is printed as such; it never makes the run fail.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bessemer_lab::daemon::{Daemon, Settings};
use bessemer_lab::image::{Form, ImageSpec, TestImage};
use bessemer_lab::imageserver::{Behaviour, ImageServer};
use bessemer_lab::tool::{Guarded, command, own_program, run};
use bessemer_lab::{enter, peers, setup};
use serde_json::Value;

use crate::ramdisk;

const MIB: u64 = 1 << 20;
/// Size of the image whose writing is measured.
const IMAGE_MIB: u64 = 4096;
const LONG: Duration = Duration::from_secs(1800);

/// Which figures to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Figure {
    /// Bytes of kernel and ramdisk
    Sizes,
    /// Memory of a guest that suffices; seconds until the first heartbeat
    Boot,
    /// Rate of the image writer beside dd
    Write,
    /// TFTP and HTTP beside tftpd-hpa, dnsmasq and nginx
    Serve,
    /// Start and idle memory of the daemon
    Daemon,
    /// Seconds of the whole life of one UEFI machine
    Life,
    /// The API under load beside Ironic's (a quarter of an hour)
    Api,
}

pub(crate) fn run_figures(wanted: &[Figure]) -> Result<()> {
    let all = [Figure::Sizes, Figure::Boot, Figure::Write, Figure::Serve, Figure::Daemon, Figure::Life, Figure::Api];
    let wanted = if wanted.is_empty() { &all[..] } else { wanted };
    setup::all()?;
    for figure in wanted {
        let result = match figure {
            Figure::Sizes => sizes(),
            Figure::Boot => boot(),
            Figure::Write => write(),
            Figure::Serve => serve_as_child(),
            Figure::Daemon => daemon_as_child(),
            Figure::Life => life(),
            Figure::Api => crate::bench_api::run(),
        };
        if let Err(error) = result {
            eprintln!("{figure:?}: {error:#}");
        }
    }
    Ok(())
}

/// One line of the report: figure, value, goal, and whether it is met.
fn figure(name: &str, value: f64, unit: &str, goal: Option<(f64, Better)>, beside: &str) {
    let verdict = goal.map_or(String::new(), |(goal, better)| {
        let met = match better {
            Better::Less => value <= goal,
            Better::More => value >= goal,
        };
        format!("goal {goal} {unit}, {}", if met { "met" } else { "MISSED" })
    });
    println!("{name:<58} {value:>10.1} {unit:<6} {verdict:<26} {beside}");
}

#[derive(Debug, Clone, Copy)]
enum Better {
    Less,
    More,
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn sizes() -> Result<()> {
    for (set, name, goal) in [(ramdisk::Set::Minimal, "minimal", 15.0), (ramdisk::Set::Full, "full", 60.0)] {
        let made = ramdisk::build(&ramdisk::Options::new(set))?.manifest;
        let both = made.kernel.size + made.ramdisk.size;
        let beside = format!(
            "kernel {:.1}, ramdisk {:.1} ({} modules, {} firmware files); the Python agent's ramdisk: 132",
            mib(made.kernel.size),
            mib(made.ramdisk.size),
            made.modules,
            made.firmware
        );
        figure(&format!("ramdisk with kernel, {name}"), mib(both), "MB", Some((goal, Better::Less)), &beside);
    }
    Ok(())
}

/// Boots the ramdisk with less and less memory until it no longer reports itself.
fn boot() -> Result<()> {
    ramdisk::build(&ramdisk::Options::new(ramdisk::Set::Minimal))?;
    cargo(&["build", "--quiet", "-p", "bessemer-lab", "--example", "rehearsal"])?;
    let mut least = None;
    for memory in [512, 256, 192, 160, 128, 112, 96, 80] {
        let mut rehearse = command(&example("debug", "rehearsal").display().to_string());
        let Ok(text) = run(rehearse.args(["bios", &memory.to_string()]), Duration::from_secs(240)) else { break };
        least = Some(memory);
        if memory == 512 {
            let uptime = text.lines().filter_map(|line| line.strip_prefix("bessemer: ")).find_map(|line| {
                let (time, what) = line.split_once(' ')?;
                (what.contains("commands at") || what.contains("heartbeat")).then(|| time.parse::<f64>().ok())?
            });
            let uptime = uptime.context("the console tells no time of the heartbeat")?;
            figure("uptime at the first heartbeat (BIOS, 1 CPU, TCG)", uptime, "s", Some((3.0, Better::Less)), "");
        }
    }
    let least = least.context("the ramdisk did not boot at all")?;
    figure("guest memory that suffices until the heartbeat", f64::from(least), "MiB", Some((256.0, Better::Less)), "");
    Ok(())
}

/// The agent's writer beside dd: the same bytes, the same loop device, alternating.
fn write() -> Result<()> {
    cargo(&["build", "--quiet", "-p", "bessemer-lab", "--example", "write_rate", "--profile", "ramdisk", "--target", setup::TARGET])?;
    setup::install(setup::PEER_SERVERS)?;
    let image = big_image()?;
    let folder = tempfile::tempdir_in(enter::root())?;
    let server = ImageServer::start("127.0.0.1:0", &folder.path().join("log"))?;
    let url = server.serve("/image", &image.path, Behaviour::default());
    let disk = LoopDevice::attach(&folder.path().join("disk"), (IMAGE_MIB + 256) * MIB)?;
    let (mut ours, mut theirs, mut peak, mut direct) = (Vec::new(), Vec::new(), 0, true);
    let rate = |seconds: f64| (image.bytes as f64) / 1e6 / seconds;
    for _ in 0..3 {
        let begin = Instant::now();
        let mut dd = command("dd");
        dd.arg(format!("if={}", image.path.display())).arg(format!("of={}", disk.path));
        run(dd.args(["bs=1M", "oflag=direct", "conv=fsync", "status=none"]), LONG)?;
        theirs.push(rate(begin.elapsed().as_secs_f64()));
        let mut write = command(&example(&format!("{}/ramdisk", setup::TARGET), "write_rate").display().to_string());
        let told: Value = serde_json::from_str(&run(write.args([&url, &disk.path, &image.sha256]), LONG)?)?;
        ours.push(rate(told["seconds"].as_f64().context("no seconds")?));
        peak = peak.max(told["peak_memory"].as_u64().unwrap_or(0));
        direct &= told["direct"] == true;
    }
    same_bytes(&image, Path::new(&disk.path))?;
    // What the two other parts of the work would cost alone.
    let begin = Instant::now();
    run(command("curl").args(["-sf", "-o", "/dev/null", &url]), LONG)?;
    let download = rate(begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    run(command("sha256sum").arg(&image.path), LONG)?;
    let hash = rate(begin.elapsed().as_secs_f64());
    let (ours, theirs) = (median(ours), median(theirs));
    let beside = format!(
        "dd of the same bytes in the same run: {theirs:.0} MB/s{}; ours also downloads (curl alone: {download:.0}) and hashes (sha256sum alone: {hash:.0})",
        if direct { "" } else { " (ours went through the page cache)" }
    );
    figure("image write, raw, 4 GiB over HTTP to a loop device", ours, "MB/s", None, &beside);
    figure("  of dd's rate", 100.0 * ours / theirs, "%", Some((90.0, Better::More)), "");
    figure("  the agent's peak memory meanwhile", mib(peak), "MB", Some((64.0, Better::Less)), "");
    Ok(())
}

fn same_bytes(image: &Form, disk: &Path) -> Result<()> {
    let mut compare = command("cmp");
    compare.args(["-n", &image.bytes.to_string()]).arg(&image.path).arg(disk);
    run(&mut compare, LONG).map(drop).context("the written bytes are not the image's")
}

/// 4 GiB that begin as a bootable image and go on with bytes that no compression shrinks.
fn big_image() -> Result<Form> {
    let path = peers::cache().join("images/bench.raw");
    if path.metadata().map_or(0, |meta| meta.len()) != IMAGE_MIB * MIB {
        let small = TestImage::build(&ImageSpec::small("bench"))?;
        let partial = path.with_extension("partial");
        std::fs::copy(&small.raw.path, &partial)?;
        let mut file = File::options().write(true).open(&partial)?;
        let at = file.seek(SeekFrom::End(0))?;
        std::io::copy(&mut File::open("/dev/urandom")?.take(IMAGE_MIB * MIB - at), &mut file)?;
        file.flush()?;
        std::fs::rename(&partial, &path)?;
    }
    Form::of(&path)
}

/// A loop device past the page cache over a file with all its blocks allocated.
struct LoopDevice {
    path: String,
}

impl LoopDevice {
    fn attach(file: &Path, bytes: u64) -> Result<Self> {
        run(command("fallocate").args(["-l", &bytes.to_string()]).arg(file), LONG)?;
        let mut setup = command("losetup");
        setup.args(["--find", "--show", "--direct-io=on"]).arg(file);
        Ok(Self { path: run(&mut setup, LONG)?.trim().to_owned() })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = run(command("losetup").args(["--detach", &self.path]), LONG);
    }
}

/// Runs a part that needs a lab in a process of its own.
fn in_lab(part: &str) -> Result<()> {
    let status = Command::new(own_program()?).args(["bench-in-lab", part]).status()?;
    ensure!(status.success(), "measuring {part} ended with {status}");
    Ok(())
}

/// One of the parts that [`in_lab`] starts.
pub(crate) fn part_in_lab(part: &str) -> Result<()> {
    match part {
        "serve" => serve(),
        "daemon" => daemon(),
        other => bail!("there is no part {other}"),
    }
}

fn serve_as_child() -> Result<()> {
    setup::install(setup::PEER_SERVERS)?;
    cargo(&["build", "--quiet", "--release", "-p", "bessemer-lab", "--examples"])?;
    in_lab("serve")
}

/// A client behind a veth pair reads the same files from our services and from the peers.
fn serve() -> Result<()> {
    enter::run("bench-serve", false, |lab| {
        for line in [
            "netns add client",
            "link add v0 type veth peer name v1 netns client",
            "link set v0 master br0 up",
            "-n client addr add 172.30.0.2/24 dev v1",
            "-n client link set v1 up",
        ] {
            run(command("ip").args(line.split(' ')), LONG)?;
        }
        let files = lab.dir("files")?;
        for (name, size) in [("tftp.bin", 32 * MIB), ("http.bin", 1024 * MIB)] {
            std::io::copy(&mut File::open("/dev/urandom")?.take(size), &mut File::create(files.join(name))?)?;
        }
        let folder = files.display().to_string();
        let start = |program: &str, args: &[&str]| Guarded::start(command(program).args(args), &lab.log("servers.log")?);
        let ours = start(&example("release", "serve_boot").display().to_string(), &[&folder])?;
        let ours_tftp = [tftp("1")?, tftp("4")?, tftp("64")?];
        let ours_http = http("8088/files")?;
        drop(ours);
        let hpa = start("in.tftpd", &["-L", "-a", "172.30.0.1:69", "-s", &folder])?;
        let hpa_tftp = [tftp("1")?, tftp("4")?, tftp("64")?];
        drop(hpa);
        let root = format!("--tftp-root={folder}");
        let dnsmasq = start("dnsmasq", &["-k", "--port=0", "--enable-tftp", "--user=root", "--conf-file=/dev/null", &root])?;
        let dnsmasq_tftp = [tftp("1")?, tftp("4")?, tftp("64")?];
        drop(dnsmasq);
        let config = lab.state().join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "user root; daemon off; pid {state}/nginx.pid; error_log {state}/log/nginx.log; events {{}} http {{ access_log off;                  sendfile on; client_body_temp_path {state}/b; proxy_temp_path {state}/p; fastcgi_temp_path {state}/f;                  uwsgi_temp_path {state}/u; scgi_temp_path {state}/s; server {{ listen 172.30.0.1:8090; root {folder}; }} }}",
                state = lab.state().display()
            ),
        )?;
        let nginx = start("nginx", &["-c", &config.display().to_string()])?;
        let nginx_http = http("8090")?;
        drop(nginx);
        for (at, window) in ["1 block", "4 blocks (firmware's)", "64 blocks"].iter().enumerate() {
            let beside = format!("tftpd-hpa {:.1}, dnsmasq {:.1}", hpa_tftp[at], dnsmasq_tftp[at]);
            figure(&format!("TFTP, 32 MiB, blocks of 1468, window {window}"), ours_tftp[at], "MB/s", None, &beside);
        }
        figure("HTTP, 1 GiB", ours_http, "MB/s", None, &format!("nginx {nginx_http:.0}"));
        Ok(())
    })
}

/// Median rate of five TFTP reads with that window, in MB/s.
fn tftp(window: &str) -> Result<f64> {
    let client = example("release", "tftp_get").display().to_string();
    let mut rates = Vec::new();
    let read = || run(command("ip").args(["netns", "exec", "client", &client, "172.30.0.1:69", "tftp.bin", "1468", window]), LONG);
    bessemer_lab::tool::until("the TFTP server", Duration::from_secs(20), || read().is_ok())?;
    for _ in 0..5 {
        rates.push(read()?.trim().parse::<f64>()? / 1e6);
    }
    Ok(median(rates))
}

/// Median rate of five HTTP reads, in MB/s.
fn http(place: &str) -> Result<f64> {
    let url = format!("http://172.30.0.1:{place}/http.bin");
    let read = || {
        let mut curl = command("ip");
        curl.args(["netns", "exec", "client", "curl", "-sf", "-o", "/dev/null", "-w", "%{speed_download}", &url]);
        run(&mut curl, LONG)
    };
    bessemer_lab::tool::until("the HTTP server", Duration::from_secs(20), || read().is_ok())?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        rates.push(read()?.trim().parse::<f64>()? / 1e6);
    }
    Ok(median(rates))
}

fn daemon_as_child() -> Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "bessemer"])?;
    ramdisk::build(&ramdisk::Options::new(ramdisk::Set::Minimal))?;
    in_lab("daemon")
}

/// One UEFI machine alone, booted by the firmware's own PXE, cleaned of metadata, a power cycle for each phase.
fn life() -> Result<()> {
    let mut demo = Command::new(own_program()?);
    let text = run(demo.args(["demo", "--only", "uefi", "--by", "api"]), LONG)?;
    let line = text.lines().find_map(|line| line.split_once("retired: seconds: ")).context("the demo tells no times")?.1;
    let phases: Vec<(&str, f64)> = line
        .split([',', ';'])
        .filter_map(|part| part.trim().rsplit_once(' '))
        .filter_map(|(name, seconds)| Some((name, seconds.parse().ok()?)))
        .collect();
    let seconds = |name: &str| phases.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, seconds)| *seconds);
    let deploy = seconds("deploy") + seconds("first boot");
    let rows =
        [("inspect", seconds("inspect"), 67.0), ("clean", seconds("clean"), 71.0), ("deploy to the system's first line", deploy, 104.0)];
    for (name, value, peer) in rows {
        figure(&format!("life of a UEFI machine: {name}"), value, "s", None, &format!("Ironic 39 with its Python agent: {peer}"));
    }
    let together = rows.iter().map(|(_, value, _)| value).sum();
    figure("  together", together, "s", Some((70.0, Better::Less)), "Ironic 39 with its Python agent: 242");
    Ok(())
}

/// Starts the released daemon five times: time to the first answer, memory when idle.
fn daemon() -> Result<()> {
    enter::run("bench", false, |lab| {
        let files = ramdisk::Options::new(ramdisk::Set::Minimal).out;
        let settings = Settings { kernel: files.join("vmlinuz"), ramdisk: files.join("ramdisk.img"), ..Settings::default() };
        let config = settings.write(lab)?;
        let mut starts = Vec::new();
        let mut memory = 0;
        for round in 0..5 {
            let _ = std::fs::remove_dir_all(lab.state().join("daemon"));
            settings.write(lab)?;
            let begin = Instant::now();
            let daemon = Daemon::start(lab, &program("release", "bessemer"), &config)?;
            starts.push(begin.elapsed().as_secs_f64() * 1e3);
            if round == 4 {
                std::thread::sleep(Duration::from_secs(10));
                memory = resident(daemon.pid())?;
            }
        }
        figure("daemon: empty database to first answer", median(starts), "ms", Some((100.0, Better::Less)), "");
        figure("daemon: resident memory when idle", mib(memory), "MB", Some((50.0, Better::Less)), "Ironic's conductor: 178");
        Ok(())
    })
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(args).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

/// A program of the workspace, as built with that profile.
pub(crate) fn program(profile: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join(profile).join(name)
}

fn example(profile: &str, name: &str) -> PathBuf {
    program(profile, "examples").join(name)
}
