//! The bench itself: real emulators power real machines, and the test image boots on them.
//! Needs root, QEMU and the set-up; `cargo xtask test --all` runs these.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use bessemer_lab::image::{ImageSpec, TestImage};
use bessemer_lab::machines::{Firmware, MachineSpec};
use bessemer_lab::tool::{command, run};
use bessemer_lab::{Bench, Lab, bmc, disks, enter, http, setup};

const LIMIT: Duration = Duration::from_secs(20);

fn write_image(image: &TestImage, disk: &std::path::Path) -> Result<()> {
    let mut copy = command("dd");
    copy.arg(format!("if={}", image.raw.path.display())).arg(format!("of={}", disk.display()));
    run(copy.args(["bs=1M", "conv=notrunc,sparse", "status=none"]), Duration::from_secs(60)).map(drop)
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test --all"]
fn the_test_image_boots_from_disk_on_bios_and_uefi_by_either_bmc() {
    if enter::outside() {
        setup::all().unwrap();
        TestImage::build(&ImageSpec::small("boot")).unwrap();
    }
    enter::test("the_test_image_boots_from_disk_on_bios_and_uefi_by_either_bmc", boots).unwrap();
}

fn boots(lab: &Lab) -> Result<()> {
    let image = TestImage::build(&ImageSpec::small("boot"))?;
    let specs = [MachineSpec::usual("bios", 0, Firmware::Bios), MachineSpec::usual("uefi", 1, Firmware::Uefi)];
    let bench = Bench::start(lab, &specs)?;
    let [bios, uefi] = &bench.machines[..] else { anyhow::bail!("two machines were asked for") };
    for machine in [bios, uefi] {
        write_image(&image, &machine.disks[0])?;
        disks::has_no_partition_table(&machine.disks[1])?;
        ensure!(disks::has_no_partition_table(&machine.disks[0]).is_err());
    }
    let port = bench.ipmi_port(bios).to_string();
    for words in [&["chassis", "bootdev", "disk"][..], &["chassis", "power", "on"]] {
        let mut ipmi = command("ipmitool");
        ipmi.args(["-I", "lanplus", "-C", "3", "-H", "172.30.0.1", "-p", &port]);
        run(ipmi.args(["-U", bmc::USER, "-P", bmc::PASSWORD]).args(words), LIMIT)?;
    }
    let system = format!("{}{}", bench.redfish.url(), bmc::Redfish::system(uefi));
    // "admin:password"
    let headers = [("Authorization", "Basic YWRtaW46cGFzc3dvcmQ="), ("Content-Type", "application/json")];
    let boot = br#"{"Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"}}"#;
    let reply = http::request("PATCH", &system, &headers, Some(boot), LIMIT)?;
    ensure!(reply.status < 300, "boot device: {}", reply.text());
    let reset = format!("{system}/Actions/ComputerSystem.Reset");
    let reply = http::request("POST", &reset, &headers, Some(br#"{"ResetType": "On"}"#), LIMIT)?;
    ensure!(reply.status < 300, "power on: {}", reply.text());
    for (machine, firmware) in [(bios, "firmware=bios"), (uefi, "firmware=uefi")] {
        let start = bessemer_lab::serial::Mark::default();
        let seen = bench.wait_for(machine, &image.ready(), start, Duration::from_secs(180))?;
        ensure!(seen.contains(&format!("{}{firmware}", image.banner())), "{seen}");
        ensure!(seen.contains("CONFIG-DRIVE none"), "{seen}");
        ensure!(seen.contains("DISK vda 12582912 vda1 vda2 vda3"), "{seen}");
    }
    Ok(())
}
