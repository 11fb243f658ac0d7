//! SIGKILL of the daemon while the agent writes an image: the same boot of the agent, one `write_image`, no byte fetched twice, `active` with
//! the right bytes on the disk. For an image from an external server and for one that the daemon serves itself.
//!
//! Needs root (a loop device) and the built programs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bessemer_lab::{
    imageserver::{Behaviour, ImageServer},
    tool,
};
use bessemer_tests::{
    gate::Gate,
    rig::{Image, NODE, Rig},
};
use serde_json::json;

const MIB: u64 = 1 << 20;
const IMAGE_MIB: u64 = 48;
/// What one lost connection may cost: bytes on their way when it broke.
const BUFFER: u64 = MIB;
const LIMIT: Duration = Duration::from_secs(40);

/// When the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The agent has its command but not one byte of the image.
    BeforeTheFirstByte,
    /// Half of the image is written.
    AtHalf,
    /// The agent has received the last byte.
    AfterTheLastByte,
}

/// The deployment goes on to its end, by the same ramdisk and the same command.
fn goes_on_to_the_end(rig: &mut Rig, image: &Image, ramdisk: u32, when: When) -> Result<()> {
    // Dead for long enough that heartbeats are lost.
    std::thread::sleep(Duration::from_millis(1500));
    rig.daemon.restart()?;
    let node = rig.deployed(LIMIT)?;
    ensure!(node["provision_state"] == "active", "{when:?}: {}: {}", node["provision_state"], node["last_error"]);
    ensure!(node["last_error"].is_null(), "{when:?}: {}", node["last_error"]);
    ensure!(rig.machine.pids() == [ramdisk], "{when:?}: another ramdisk was started: {:?}", rig.machine.pids());
    let commands = rig.machine.commands()?;
    let writes = commands.iter().filter(|(name, ..)| name == "execute_deploy_step" || name == "prepare_image").collect::<Vec<_>>();
    ensure!(matches!(writes.as_slice(), [(_, status, step)] if status == "SUCCEEDED" && step == "write_image"), "{when:?}: {commands:?}");
    image.is_on(rig.machine.disk().device())
}

/// The one ramdisk that runs now; the node waits for it.
fn only_ramdisk(rig: &Rig) -> Result<u32> {
    let node = rig.api().node(NODE)?;
    ensure!(["wait call-back", "deploying"].contains(&node["provision_state"].as_str().unwrap_or_default()), "{}", node["provision_state"]);
    match rig.machine.pids().as_slice() {
        [one] => Ok(*one),
        other => anyhow::bail!("ramdisks: {other:?}"),
    }
}

fn external(when: When) -> Result<()> {
    let mut rig = Rig::new(false, &["ipa-image-download-connection-timeout=5"], &[])?;
    let image = Image::noise(&rig.dir.path().join("image.raw"), IMAGE_MIB)?;
    let server = ImageServer::start("127.0.0.1:0", &rig.dir.path().join("images.log"))?;
    let throttled = Behaviour { rate: Some(IMAGE_MIB * MIB / 3), ..Behaviour::default() };
    // Busy at first where the kill must come before any byte.
    let busy = Behaviour { status: Some(503), ..Behaviour::default() };
    let first = if when == When::BeforeTheFirstByte { busy } else { throttled.clone() };
    let url = server.serve("/image.raw", &image.path, first);
    rig.instance_info(&json!({
        "image_source": url, "image_os_hash_algo": "sha256", "image_os_hash_value": image.sha256, "image_disk_format": "raw"
    }))?;
    rig.deploy()?;
    let accesses = || server.accesses_of("/image.raw");
    match when {
        When::BeforeTheFirstByte => {
            tool::until("the agent asking for the image", LIMIT, || !accesses().is_empty())
                .with_context(|| format!("{}\n{}", rig.daemon.log_tail(), rig.machine.log()))?;
        }
        When::AtHalf => rig.progress_until("half of the image", LIMIT, |p| p.phase == "writing" && p.done >= image.len() / 2)?,
        When::AfterTheLastByte => tool::until("the last byte", LIMIT, || accesses().iter().any(|a| a.sent == image.len()))
            .with_context(|| format!("{}\n{}", rig.daemon.log_tail(), rig.machine.log()))?,
    }
    rig.daemon.kill();
    let sent: u64 = accesses().iter().map(|a| a.sent).sum();
    match when {
        When::BeforeTheFirstByte => ensure!(sent == 0 && rig.machine.progress().done == 0),
        When::AtHalf => ensure!(sent == 0 && rig.machine.progress().done < image.len(), "the kill came too late to be at half"),
        When::AfterTheLastByte => ensure!(sent == image.len()),
    }
    // The daemon is dead: what it had recorded is what counts.
    let ramdisk = match rig.machine.pids().as_slice() {
        [one] => *one,
        other => anyhow::bail!("ramdisks: {other:?}"),
    };
    server.serve("/image.raw", &image.path, throttled);
    goes_on_to_the_end(&mut rig, &image, ramdisk, when)?;
    let answers = accesses();
    let full: Vec<_> = answers.iter().filter(|a| a.sent > 0).collect();
    // The server outlived the daemon: no connection was lost, so every byte went over the wire exactly once.
    ensure!(full.len() == 1 && full[0].sent == image.len() && full[0].from == 0, "{answers:?}");
    Ok(())
}

fn own(when: When) -> Result<()> {
    let mut rig = Rig::new(true, &["ipa-image-download-connection-timeout=5", "ipa-image-download-connection-retry-interval=1"], &[])?;
    let image = Image::noise(&rig.dir.path().join("image.raw"), IMAGE_MIB)?;
    let before = match when {
        When::BeforeTheFirstByte => 0,
        When::AtHalf => image.len() / 2,
        When::AfterTheLastByte => image.len(),
    };
    let gate = Gate::start(before)?;
    rig.api().patch(NODE, &[("/driver_info/image_http_proxy", json!(gate.url()))])?;
    rig.instance_info(&json!({"image_source": format!("file://{}", image.path.display()), "image_disk_format": "raw"}))?;
    // With a config drive, which is written after the image's last byte.
    rig.api().provision(NODE, "active", &[("configdrive", json!({"meta_data": {"name": "config-drive-content"}}))])?;
    if when == When::BeforeTheFirstByte {
        rig.progress_until("the agent waiting for the image", LIMIT, |p| p.phase == "writing")?;
    } else {
        tool::until("the bytes before the gate", LIMIT, || gate.passed() == before)
            .with_context(|| format!("{}\n{}", rig.daemon.log_tail(), rig.machine.log()))?;
        if when == When::AtHalf {
            let close = |p: &bessemer_tests::machine::Progress| p.done + BUFFER >= before;
            rig.progress_until("the agent holding the bytes", LIMIT, close)?;
        }
    }
    let ramdisk = only_ramdisk(&rig)?;
    rig.daemon.kill();
    gate.cut();
    gate.allow(u64::MAX);
    ensure!(gate.passed() == before, "{when:?}: {} bytes had passed", gate.passed());
    goes_on_to_the_end(&mut rig, &image, ramdisk, when)?;
    let table = tool::run(tool::command("sgdisk").arg("-p").arg(rig.machine.disk().device()), LIMIT)?;
    ensure!(table.matches("config-2").count() == 1, "one config drive: {table}");
    let answers = gate.log();
    let lost = if when == When::AfterTheLastByte { 0 } else { 1 };
    ensure!(answers.iter().filter(|a| a.status != 502 && a.bytes > 0).count() <= 1 + lost, "{answers:?}");
    ensure!(gate.passed() >= image.len() && gate.passed() <= image.len() + BUFFER * lost as u64, "{}: {answers:?}", gate.passed());
    if when == When::AtHalf {
        ensure!(answers.iter().any(|a| a.status == 206 && a.from + BUFFER >= before), "taken up where it broke: {answers:?}");
    }
    Ok(())
}

#[test]
fn a_kill_before_the_first_byte_from_an_external_server_loses_nothing() -> Result<()> {
    external(When::BeforeTheFirstByte)
}

#[test]
fn a_kill_at_half_of_an_image_from_an_external_server_loses_nothing() -> Result<()> {
    external(When::AtHalf)
}

#[test]
fn a_kill_after_the_last_byte_from_an_external_server_loses_nothing() -> Result<()> {
    external(When::AfterTheLastByte)
}

#[test]
fn a_kill_before_the_first_byte_of_an_image_of_its_own_loses_nothing() -> Result<()> {
    own(When::BeforeTheFirstByte)
}

#[test]
fn a_kill_at_half_of_an_image_of_its_own_loses_nothing() -> Result<()> {
    own(When::AtHalf)
}

#[test]
fn a_kill_after_the_last_byte_of_an_image_of_its_own_loses_nothing() -> Result<()> {
    own(When::AfterTheLastByte)
}
