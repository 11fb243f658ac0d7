//! Images that cannot be deployed, and servers that misbehave: a clear error each, nothing lost, and the same node deploys afterwards.
//!
//! Needs root (a loop device) and the built programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use bessemer_lab::{
    imageserver::{Behaviour, ImageServer},
    tool::{self, command},
};
use bessemer_tests::rig::{DISK, Image, Rig};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);
const MIB: u64 = 1 << 20;

struct Bench {
    rig: Rig,
    server: ImageServer,
    image: Image,
}

impl Bench {
    fn new(agent_params: &[&str], mib: u64) -> Result<Self> {
        let rig = Rig::new(false, agent_params, &[])?;
        let image = Image::noise(&rig.dir.path().join("image.raw"), mib)?;
        let server = ImageServer::start("127.0.0.1:0", &rig.dir.path().join("images.log"))?;
        Ok(Self { rig, server, image })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.rig.dir.path().join(name)
    }

    /// Deploys and gives the node as it is afterwards.
    fn deploy(&self, url: &str, sha256: &str, format: &str, more: &[(&str, Value)]) -> Result<Value> {
        let mut info = json!({
            "image_source": url, "image_os_hash_algo": "sha256", "image_os_hash_value": sha256, "image_disk_format": format
        });
        for (key, value) in more {
            info[*key] = value.clone();
        }
        self.rig.instance_info(&info)?;
        self.rig.deploy()?;
        self.rig.deployed(LIMIT)
    }

    /// The deployment fails, and `last_error` holds each of `words`. The ramdisk is gone afterwards.
    fn refused(&self, url: &str, sha256: &str, format: &str, more: &[(&str, Value)], words: &[&str]) -> Result<()> {
        let node = self.deploy(url, sha256, format, more)?;
        let error = node["last_error"].as_str().unwrap_or_default();
        ensure!(node["provision_state"] == "deploy failed", "{words:?}: {}: {error}", node["provision_state"]);
        for word in words {
            ensure!(error.contains(word), "{word:?} is not in the error: {error}");
        }
        ensure!(!error.contains('\n') && error.len() < 1000, "an error is for people: {error}");
        Ok(())
    }

    /// The good image reaches `active` on the same node.
    fn works(&self, url: &str) -> Result<()> {
        let node = self.deploy(url, &self.image.sha256, "raw", &[])?;
        ensure!(node["provision_state"] == "active", "{}: {}", node["provision_state"], node["last_error"]);
        ensure!(node["last_error"].is_null(), "an old error stays: {}", node["last_error"]);
        self.image.is_on(self.rig.machine.disk().device())
    }
}

fn qemu_img(args: &[&str], file: &Path) -> Result<()> {
    let mut make = command("qemu-img");
    make.args(["create", "-q", "-f", "qcow2"]).args(args).arg(file).arg("64M");
    tool::run(&mut make, Duration::from_secs(20)).map(drop)
}

#[test]
fn an_image_that_cannot_be_used_is_explained_and_the_node_deploys_afterwards() -> Result<()> {
    let bench = Bench::new(&["ipa-image-download-connection-timeout=2"], 8)?;
    let raw = &bench.image.sha256;
    let good = bench.server.serve("/image.raw", &bench.image.path, Behaviour::default());

    bench.refused(&good, &"0".repeat(64), "raw", &[], &["write_image", "checksum is wrong", raw, &"0".repeat(64)])?;
    // What was half written never boots: no partition table at either end.
    let table = Command::new("wipefs").args(["-n", "--all", "--force"]).arg(bench.rig.machine.disk().device()).output()?;
    ensure!(table.stdout.is_empty(), "{}", String::from_utf8_lossy(&table.stdout));

    bench.refused(&format!("{good}.gone"), raw, "raw", &[], &["404", "/image.raw.gone"])?;
    let hints = [("root_device", json!({"serial": "no-such-disk"}))];
    bench.refused(&good, raw, "raw", &hints, &["no disk", "no-such-disk"])?;

    let large = bench.file("large.raw");
    std::fs::File::create(&large)?.set_len(DISK + MIB)?;
    let url = bench.server.serve("/large.raw", &large, Behaviour::default());
    let (need, have) = ((DISK + MIB).to_string(), DISK.to_string());
    bench.refused(&url, raw, "raw", &[], &[&need, &have, "larger disk"])?;
    let sent: u64 = bench.server.accesses_of("/large.raw").iter().map(|a| a.sent).sum();
    ensure!(sent < 64 * MIB, "an image that cannot fit is not fetched: {sent} bytes were");

    let backed = bench.file("backed.qcow2");
    qemu_img(&["-b", "/etc/hostname", "-F", "raw", "-u"], &backed)?;
    let sum = Image::of(&backed)?.sha256;
    let url = bench.server.serve("/backed.qcow2", &backed, Behaviour::default());
    bench.refused(&url, &sum, "qcow2", &[], &["qcow2", "backing file"])?;

    let data = bench.file("data.raw");
    let outside = bench.file("outside.qcow2");
    qemu_img(&["-o", &format!("data_file={},data_file_raw=on", data.display())], &outside)?;
    let sum = Image::of(&outside)?.sha256;
    let url = bench.server.serve("/outside.qcow2", &outside, Behaviour::default());
    bench.refused(&url, &sum, "qcow2", &[], &["qcow2", "data is in another file"])?;

    let mistaken = bench.server.serve("/not.qcow2", &bench.image.path, Behaviour::default());
    bench.refused(&mistaken, raw, "qcow2", &[], &["image refused"])?;

    bench.works(&good)
}

#[test]
fn an_image_cut_half_way_is_resumed_by_a_range_request() -> Result<()> {
    let bench = Bench::new(&["ipa-image-download-connection-timeout=2"], 16)?;
    let half = 8 * MIB;
    let cut = Behaviour { cut_after: Some(half), cuts: 1, ..Behaviour::default() };
    let url = bench.server.serve("/cut.raw", &bench.image.path, cut);
    bench.works(&url)?;
    let answers = bench.server.accesses_of("/cut.raw");
    let parts: Vec<_> = answers.iter().map(|a| (a.status, a.from, a.sent)).collect();
    ensure!(parts == [(200, 0, half), (206, half, half)], "{parts:?}");
    Ok(())
}

#[test]
fn an_image_cut_half_way_is_fetched_again_where_the_server_knows_no_ranges() -> Result<()> {
    let bench = Bench::new(&["ipa-image-download-connection-timeout=2"], 16)?;
    let cut = Behaviour { cut_after: Some(8 * MIB), cuts: 1, ranges: false, ..Behaviour::default() };
    let url = bench.server.serve("/cut.raw", &bench.image.path, cut);
    bench.works(&url)?;
    let statuses: Vec<_> = bench.server.accesses_of("/cut.raw").iter().map(|a| a.status).collect();
    ensure!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
    Ok(())
}

#[test]
fn a_server_that_stalls_is_left_and_the_image_taken_up_where_it_stood() -> Result<()> {
    let bench = Bench::new(&["ipa-image-download-connection-timeout=1"], 16)?;
    let stalls = Behaviour { stall_after: Some(6 * MIB), ..Behaviour::default() };
    let url = bench.server.serve("/slow.raw", &bench.image.path, stalls);
    bench.works(&url)
}

#[test]
fn a_server_that_stalls_for_ever_is_named_in_the_error_and_a_repeat_succeeds() -> Result<()> {
    let bench = Bench::new(&["ipa-image-download-connection-timeout=1", "ipa-image-download-max-duration=5"], 4)?;
    let stalls = Behaviour { stall_after: Some(0), ..Behaviour::default() };
    let url = bench.server.serve("/image.raw", &bench.image.path, stalls);
    bench.refused(&url, &bench.image.sha256, "raw", &[], &["/image.raw", "longer than 5 s", "no data for 1 s"])?;
    // The same request again, once the server is well.
    bench.server.serve("/image.raw", &bench.image.path, Behaviour::default());
    bench.works(&url)
}
