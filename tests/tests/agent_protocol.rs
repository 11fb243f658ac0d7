//! The agent protocol is nobody's private dialect: Ironic's own agent client drives our agent, and our conductor drives Ironic's own agent.
//!
//! Both come from PyPI (some minutes, once), so these tests are left to `cargo xtask test --all`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bessemer_lab::{
    imageserver::{Behaviour, ImageServer},
    peers::{self, Peer},
    tool::{self, Guarded, command},
};
use bessemer_tests::{
    machine::LoopDisk,
    rig::{DISK, Daemon, Image, free_port, program},
};
use serde_json::{Value, json};

const AGENT: Peer = Peer { name: "ironic-python-agent", needs: &["ironic-python-agent==13.0.0", "setuptools"] };
const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "an-agent-token-of-more-than-thirty-two-letters";
const NODE: &str = "8d3b1c5e-0000-4000-8000-000000000001";
const MIB: u64 = 1 << 20;

/// A conductor that knows one node and hands the first heartbeat out.
fn stub() -> Result<(String, mpsc::Receiver<Value>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let (beats, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut writer) = stream.try_clone() else { continue };
            let mut reader = BufReader::new(stream);
            let (mut first, mut length) = (String::new(), 0);
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(v) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = v.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let answer = if first.starts_with("POST /v1/heartbeat/") {
                let _ = beats.send(serde_json::from_slice(&body).unwrap_or_default());
                json!(null)
            } else if first.starts_with("GET /v1/lookup") {
                json!({"node": {"uuid": NODE, "properties": {}}, "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}})
            } else {
                json!({"default_version": {"version": "1.115"}})
            };
            let status = if answer.is_null() { "202 Accepted" } else { "200 OK" };
            let text = if answer.is_null() { String::new() } else { answer.to_string() };
            let _ = write!(writer, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        }
    });
    Ok((url, heard))
}

#[test]
#[ignore = "needs Ironic from PyPI; run by cargo xtask test --all"]
fn ironics_own_client_drives_our_agent() -> Result<()> {
    peers::IRONIC.ensure()?;
    let dir = tempfile::tempdir()?;
    let disk = LoopDisk::new(&dir.path().join("disk"), DISK)?;
    let image = Image::noise(&dir.path().join("image"), 16)?;
    let server = ImageServer::start("127.0.0.1:0", &dir.path().join("images.log"))?;
    let image_url = server.serve("/image", &image.path, Behaviour { rate: Some(8 * MIB), ..Behaviour::default() });
    let (api, beats) = stub()?;
    let log = dir.path().join("agent.log");
    let mut run = command(&program("bessemer-agent")?.display().to_string());
    run.args(["run", "--no-power", "--listen", "127.0.0.1:0", "--param", &format!("ipa-api-url={api}"), "--only-disk"]).arg(disk.device());
    let _agent = Guarded::start(&mut run, &log)?;
    let beat = beats.recv_timeout(LIMIT).with_context(|| tool::log_tail(&log, 20))?;
    ensure!(beat["agent_token"] == TOKEN, "{beat}");
    let given = json!({
        "url": beat["callback_url"], "ca": beat["agent_verify_ca"], "token": TOKEN, "node": NODE,
        "image_url": image_url, "image_sha256": image.sha256,
    });
    let mut python = command(&peers::IRONIC.program("python").display().to_string());
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/ironic_client.py"));
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(given.to_string().as_bytes())?;
    let out = child.wait_with_output()?;
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    print!("{said}");
    ensure!(out.status.success() && said.trim_end().ends_with("DONE"), "{said}{errors}\nagent: {}", tool::log_tail(&log, 30));
    image.is_on(disk.device())?;
    ensure!(std::fs::read_to_string(&log)?.contains("power_off recorded"), "{}", tool::log_tail(&log, 5));
    Ok(())
}

const MAC: &str = "52:54:00:00:00:01";

struct PythonAgent {
    process: Guarded,
    folder: std::path::PathBuf,
}

impl PythonAgent {
    fn start(folder: &Path, api: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut python = command(&AGENT.program("python").display().to_string());
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python_agent.py"));
        python.args([api, &free_port()?.to_string(), MAC]).arg(folder);
        Ok(Self { process: Guarded::start(&mut python, &folder.join("log"))?, folder: folder.to_owned() })
    }

    fn record(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("record")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let of_kind = self.record().into_iter().filter(|r| r["kind"] == kind);
        of_kind.filter_map(|r| r["name"].as_str().map(str::to_owned)).collect()
    }

    fn log(&self) -> String {
        tool::log_tail(&self.folder.join("log"), 40)
    }
}

#[test]
#[ignore = "needs Ironic from PyPI; run by cargo xtask test --all"]
fn our_conductor_drives_ironics_own_agent() -> Result<()> {
    AGENT.ensure()?;
    let dir = tempfile::tempdir()?;
    let set = ["conductor.automated_clean=true", "deploy.default_boot_mode=uefi", "agent.require_tls=true", "agent.command_timeout=20"];
    let mut daemon = Daemon::start(dir.path(), false, &set)?;
    let api = daemon.api();
    let body = json!({
        "name": "n", "driver": "fake-hardware", "deploy_interface": "direct", "boot_interface": "fake",
        "instance_info": {
            "image_source": "http://127.0.0.1:1/i", "image_os_hash_algo": "sha256", "image_os_hash_value": "0".repeat(64),
            "image_disk_format": "raw", "secret_password": "do-not-tell",
        },
    });
    let node = api.call("POST", "/v1/nodes", Some(&body))?;
    api.call("POST", "/v1/ports", Some(&json!({"node_uuid": node["uuid"], "address": MAC})))?;
    api.provision("n", "manage", &[])?;
    daemon.reach("n", &["manageable"], LIMIT)?;

    api.provision("n", "provide", &[])?;
    daemon.reach("n", &["clean wait"], LIMIT)?;
    let cleaner = PythonAgent::start(&dir.path().join("cleaning"), api.base())?;
    let end = daemon.reach("n", &["available", "clean failed"], LIMIT).with_context(|| cleaner.log())?;
    ensure!(end["provision_state"] == "available", "{}: {}", end["last_error"], cleaner.log());
    ensure!(cleaner.names("hardware").starts_with(&["erase_devices_metadata".into(), "erase_devices".into()]), "{:?}", cleaner.record());
    let commands = cleaner.names("command");
    ensure!(
        commands.starts_with(&["clean.get_clean_steps".into(), "clean.execute_clean_step".into(), "clean.execute_clean_step".into()]),
        "{commands:?}"
    );
    let told = cleaner.record().into_iter().find(|r| r["name"] == "erase_devices").context("erase_devices")?;
    ensure!(told["node"]["uuid"] == node["uuid"] && told["ports"][0]["address"] == MAC, "{told}");
    ensure!(!told.to_string().contains("do-not-tell"), "the agent is told no secret");
    drop(cleaner);

    api.provision("n", "active", &[])?;
    daemon.reach("n", &["wait call-back"], LIMIT)?;
    let mut deployer = PythonAgent::start(&dir.path().join("deployment"), api.base())?;
    let writing = || deployer.names("hardware").iter().any(|n| n == "write_image");
    tool::until("the image being written", LIMIT, writing).with_context(|| format!("{}\n{}", deployer.log(), daemon.log_tail()))?;
    // An agent that knows nothing of step ids is not told twice either.
    daemon.kill();
    daemon.restart()?;
    let end = daemon.reach("n", &["active", "deploy failed"], LIMIT).with_context(|| deployer.log())?;
    ensure!(end["provision_state"] == "active", "{}: {}", end["last_error"], deployer.log());
    ensure!(deployer.process.alive(), "one boot of the agent: {}", deployer.log());
    let (commands, hardware) = (deployer.names("command"), deployer.names("hardware"));
    for wanted in [
        "deploy.get_deploy_steps",
        "deploy.execute_deploy_step",
        "standby.get_partition_uuids",
        "image.install_bootloader",
        "standby.sync",
        "standby.power_off",
    ] {
        ensure!(commands.iter().any(|c| c == wanted), "{wanted}: {commands:?}");
    }
    ensure!(commands.iter().filter(|c| *c == "deploy.execute_deploy_step").count() == 1, "{commands:?}");
    for wanted in ["write_image", "boot entry", "full_sync", "poweroff"] {
        if !hardware.iter().any(|c| c == wanted) {
            bail!("{wanted}: {hardware:?}");
        }
    }
    Ok(())
}
