//! Programs of others on the other side: ipmitool against the fixture BMC, the client against ipmi_sim and virtualbmc.
#![allow(clippy::unwrap_used, missing_docs)]

mod ipmi_support;

use std::time::{Duration, Instant};

use bessemer_drivers::iface::{BootDevice, BootMode, DriverCx, Management, Power};
use bessemer_drivers::ipmi::chassis::{BootFlags, BootSelector, ChassisControl};
use bessemer_drivers::ipmi::sel::SelEvent;
use bessemer_drivers::ipmi::{
    CredentialFault, IpmiConfig, IpmiDriver, IpmiError, IpmiManagement, IpmiPool, IpmiPower, IpmiSettings, Timing,
};
use bessemer_model::secret::Secret;
use bessemer_model::state::{PowerChange, PowerState};
use ipmi_support::{Peer, bmc, endpoint_at, ipmitool, ipmitool_ok, node, patient};
use serde_json::json;
use virtualbmc_fixtures::ipmi::IpmiBmcConfig;
use virtualbmc_fixtures::machine::{BootMode as Mode, Happening, Power as MachinePower};

const EVENT: [u8; 16] = [0, 0, 2, 0x80, 0x1a, 0, 0, 0x20, 0, 4, 1, 1, 1, 0x57, 0x5a, 0x50];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fixture_speaks_suites_3_and_17_as_ipmitool_understands_them() {
    for suite in ["3", "17"] {
        let b = bmc(IpmiBmcConfig::default()).await;
        let port = b.address().port();
        let run = |args: &'static str| async move {
            let mut all = vec!["-C", suite];
            all.extend(args.split(' '));
            ipmitool_ok(port, &all).await
        };
        assert!(run("chassis power status").await.contains("is off"));
        run("chassis power on").await;
        assert!(run("chassis status").await.contains("System Power         : on"));
        run("chassis power reset").await;
        run("chassis power cycle").await;
        run("chassis power diag").await;
        run("chassis bootdev pxe options=persistent,efiboot").await;
        let flags = run("chassis bootparam get 5").await;
        for line in ["Boot parameter data: e004000000", "all future boots", "BIOS EFI boot", "Force PXE"] {
            assert!(flags.contains(line), "{flags}");
        }
        run("chassis bootdev disk options=efiboot").await;
        assert!(run("chassis bootparam get 5").await.contains("data: a008000000"));
        run("chassis power soft").await;
        assert_eq!(b.machine().power(), MachinePower::Off);
        assert!(run("mc info").await.contains("Firmware Revision         : 2.35"));
        run("mc guid").await;
        b.add_event(EVENT);
        let sel = run("sel elist").await;
        assert!(sel.contains("CPU Temp") && sel.contains("Upper Non-critical going high"), "{sel}");
        run("sel clear").await;
        assert!(run("sel list").await.contains("no entries"));
        let sensors = run("sdr elist full").await;
        for line in [
            "CPU Temp         | 01h | ok  |  7.1 | 42 degrees C",
            "FAN1             | 02h | ok  |  7.1 | 5300 RPM",
            "12.16 Volts",
            "-7.50 degrees C",
        ] {
            assert!(sensors.contains(line), "{sensors}");
        }
        assert!(run("sdr elist compact").await.contains("PS1 Status"));
        assert_eq!(b.last_suite(), Some(suite.parse().unwrap()));
        let modes: Vec<_> =
            b.machine().happenings().into_iter().filter_map(|h| if let Happening::Booted(_, m) = h { Some(m) } else { None }).collect();
        assert_eq!(modes, [Mode::Uefi; 3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fixture_refuses_ipmitool_as_a_bmc_would() {
    let b = bmc(IpmiBmcConfig { kg: Some(b"KgKgKgKgKgKgKgKgKgKg".to_vec()), ..IpmiBmcConfig::default() }).await;
    let port = b.address().port();
    for suite in ["3", "17"] {
        ipmitool_ok(port, &["-C", suite, "-k", "KgKgKgKgKgKgKgKgKgKg", "mc", "info"]).await;
    }
    let refused = |args: Vec<&'static str>| tokio::task::spawn_blocking(move || ipmitool(port, &args));
    let (ok, text) = refused(vec!["-C", "17", "mc", "info"]).await.unwrap();
    assert!(!ok, "without Kg: {text}");
    let (ok, _) = refused(vec!["-C", "17", "-k", "KgKgKgKgKgKgKgKgKgKg", "-P", "wrong", "mc", "info"]).await.unwrap();
    assert!(!ok, "wrong password");
    let (ok, text) = refused(vec!["-C", "8", "mc", "info"]).await.unwrap();
    assert!(!ok && text.contains("open session"), "suite that is not offered: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_works_with_ipmi_sim() {
    let peer = Peer::ipmi_sim();
    let pool = IpmiPool::new(patient());
    let client = pool.client(&endpoint_at(peer.port));
    let t = Instant::now();
    assert!(!client.chassis_status().await.unwrap().on);
    assert!(t.elapsed() < Duration::from_secs(2), "suite 17 is refused at once: {:?}", t.elapsed());
    client.chassis_control(ChassisControl::On).await.unwrap();
    assert!(client.chassis_status().await.unwrap().on);
    assert_eq!(peer.read("power"), "1");
    client.set_boot_flags(BootFlags { device: BootSelector::Pxe, persistent: false, efi: false }).await.unwrap();
    assert_eq!(peer.read("boot"), "pxe");
    let id = client.device_id().await.unwrap();
    assert_eq!((id.firmware, id.manufacturer, id.product), ((9, 8), 0x1291, 0xf02));
    let sensors = client.sensors().await.unwrap();
    let [temp] = &sensors[..] else { panic!("{sensors:?}") };
    assert_eq!((temp.record.name.as_str(), temp.value), ("Temp", Some(42.0)));
    assert_eq!(client.sel_info().await.unwrap().entries, 1);
    let entries = client.sel_entries(10).await.unwrap();
    assert!(
        matches!(entries[0].event, SelEvent::System { sensor_type: 1, sensor: 1, event_type: 1, data: [0x57, 0xe0, 0xd0], .. }),
        "{entries:?}"
    );
    client.sel_clear().await.unwrap();
    assert_eq!(client.sel_entries(10).await.unwrap(), []);
    assert_eq!(client.raw(0x06, 0x77, &[]).await.unwrap_err().completion(), Some(0xc1));
    pool.close().await;
    for suite in [0, 1, 2, 3] {
        let mut e = endpoint_at(peer.port);
        e.cipher_suites = vec![suite];
        let pool = IpmiPool::new(patient());
        assert!(pool.client(&e).chassis_status().await.unwrap().on, "suite {suite}");
        pool.close().await;
    }
    for (user, password, expected) in [("nobody", "password", CredentialFault::User), ("admin", "wrong", CredentialFault::Password)] {
        let mut e = endpoint_at(peer.port);
        e.username = user.into();
        e.password = Secret::new(password.into());
        let error = IpmiPool::new(patient()).client(&e).chassis_status().await.unwrap_err();
        assert!(matches!(&error, IpmiError::Credentials { why, .. } if *why == expected), "{user}/{password}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_works_with_virtualbmc() {
    let peer = Peer::virtualbmc();
    let pool = IpmiPool::new(patient());
    let client = pool.client(&endpoint_at(peer.port));
    let t = Instant::now();
    assert!(!client.chassis_status().await.unwrap().on);
    assert!(t.elapsed() < Duration::from_secs(2), "it answers suite 17 with suite 3; that must be seen at once: {:?}", t.elapsed());
    client.chassis_control(ChassisControl::On).await.unwrap();
    assert!(client.chassis_status().await.unwrap().on);
    for (device, name) in [(BootSelector::Pxe, "network"), (BootSelector::Disk, "hd"), (BootSelector::Cdrom, "cdrom")] {
        let flags = BootFlags { device, persistent: true, efi: true };
        client.disable_boot_timeout().await.unwrap();
        client.set_boot_flags(flags).await.unwrap();
        assert!(peer.read("xml").contains(&format!("dev=\"{name}\"")));
        // It keeps neither flag.
        let read = client.boot_flags().await.unwrap();
        assert_eq!(read, Some(BootFlags { device, persistent: false, efi: false }));
    }
    client.device_id().await.unwrap();
    assert_eq!(client.sensors().await.unwrap_err().completion(), Some(0xc1));
    assert_eq!(client.chassis_control(ChassisControl::Cycle).await.unwrap_err().completion(), Some(0xcc));
    client.chassis_control(ChassisControl::Reset).await.unwrap();
    client.chassis_control(ChassisControl::Off).await.unwrap();
    assert_eq!(peer.read("calls"), "create\nreset\ndestroy");
    // Closing and opening again from the same port: it tells sessions apart by port alone.
    pool.close().await;
    assert!(!client.chassis_status().await.unwrap().on);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_at_virtualbmc_are_found_although_it_says_nothing() {
    let peer = Peer::virtualbmc();
    let config = IpmiConfig { timing: Timing { tries: 3, ..patient().timing }, ..patient() };
    for (user, password, expected) in [("nobody", "password", CredentialFault::UserSilence), ("admin", "wrong", CredentialFault::Password)]
    {
        let mut e = endpoint_at(peer.port);
        e.username = user.into();
        e.password = Secret::new(password.into());
        let error = IpmiPool::new(config.clone()).client(&e).chassis_status().await.unwrap_err();
        assert!(matches!(&error, IpmiError::Credentials { why, .. } if *why == expected), "{user}/{password}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interfaces_drive_virtualbmc() {
    let peer = Peer::virtualbmc();
    let settings =
        IpmiSettings { poll_interval: Duration::from_millis(100), reboot_pause: Duration::from_millis(50), ..IpmiSettings::default() };
    let driver = IpmiDriver::new(IpmiPool::new(patient()), settings);
    let (power, management) = (IpmiPower(driver.clone()), IpmiManagement(driver));
    let node = node(
        &json!({"ipmi_address": "127.0.0.1", "ipmi_port": peer.port.to_string(), "ipmi_username": "admin", "ipmi_password": "password"}),
    );
    let cx = DriverCx { node: &node, deadline: Duration::from_secs(30) };
    let wait = Duration::from_secs(5);
    management.set_boot_device(&cx, BootDevice::Pxe, false, BootMode::Bios).await.unwrap();
    assert_eq!(management.boot_device(&cx).await.unwrap().device, Some(BootDevice::Pxe));
    power.set(&cx, PowerChange::On, wait).await.unwrap();
    power.set(&cx, PowerChange::Reboot, wait).await.unwrap();
    power.set(&cx, PowerChange::SoftOff, wait).await.unwrap();
    assert_eq!(power.state(&cx).await.unwrap(), Some(PowerState::Off));
    assert_eq!(peer.read("calls"), "create\ndestroy\ncreate\nshutdown");
    // A guest without an operating system.
    std::fs::write(peer.dir.path().join("deaf"), "").unwrap();
    power.set(&cx, PowerChange::On, wait).await.unwrap();
    let error = power.set(&cx, PowerChange::SoftOff, Duration::from_millis(300)).await.unwrap_err();
    assert!(error.to_string().contains("hard power off"), "{error}");
    power.set(&cx, PowerChange::Off, wait).await.unwrap();
}
