//! The `ipmitool` interfaces against the fixture BMC, and what they make of `driver_info`.
#![allow(clippy::unwrap_used, missing_docs)]

mod ipmi_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bessemer_drivers::iface::{BootDevice, BootDeviceState, BootMode, DriverCx, DriverError, Management, Power, StepOutcome};
use bessemer_drivers::ipmi::{IpmiDriver, IpmiManagement, IpmiPool, IpmiPower, IpmiSettings, IpmiVendor, register};
use bessemer_drivers::registry::Registry;
use bessemer_model::interface::InterfaceKind;
use bessemer_model::node::Node;
use bessemer_model::state::{PowerChange, PowerState};
use bessemer_model::step::{Replay, Step};
use ipmi_support::{bmc, node, quick};
use serde_json::{Value, json};
use virtualbmc_fixtures::ipmi::{Fault, IpmiBmc, IpmiBmcConfig};
use virtualbmc_fixtures::machine::{Habits, Happening, Power as MachinePower, PowerAction, SoftOff};

const CHASSIS: u8 = 0;
const STATUS: u8 = 1;
const CONTROL: u8 = 2;
const WAIT: Duration = Duration::from_secs(3);

fn settings() -> IpmiSettings {
    IpmiSettings {
        poll_interval: Duration::from_millis(30),
        reboot_pause: Duration::from_millis(20),
        min_command_interval: Duration::ZERO,
        command_retry_timeout: Duration::from_secs(5),
        ..IpmiSettings::default()
    }
}

fn driver() -> Arc<IpmiDriver> {
    IpmiDriver::new(IpmiPool::new(quick()), settings())
}

fn info(bmc: &IpmiBmc) -> Value {
    json!({"ipmi_address": "127.0.0.1", "ipmi_port": bmc.address().port(), "ipmi_username": "admin", "ipmi_password": "password"})
}

const fn cx(node: &Node) -> DriverCx<'_> {
    DriverCx { node, deadline: Duration::from_secs(20) }
}

fn asked(bmc: &IpmiBmc) -> Vec<PowerAction> {
    let action = |h| if let Happening::Asked(a) = h { Some(a) } else { None };
    bmc.machine().happenings().into_iter().filter_map(action).collect()
}

#[tokio::test]
async fn power_changes_are_waited_for_and_not_asked_for_twice() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let slow = Duration::from_millis(150);
    b.machine().set_habits(Habits { on_delay: slow, off_delay: slow, soft_off: SoftOff::After(slow) });
    let n = node(&info(&b));
    let power = IpmiPower(driver());
    assert_eq!(power.state(&cx(&n)).await.unwrap(), Some(PowerState::Off));
    let steps = [
        (PowerChange::On, MachinePower::On, vec![PowerAction::On]),
        (PowerChange::On, MachinePower::On, vec![]),
        (PowerChange::Reboot, MachinePower::On, vec![PowerAction::ForceOff, PowerAction::On]),
        (PowerChange::SoftReboot, MachinePower::On, vec![PowerAction::SoftOff, PowerAction::On]),
        (PowerChange::SoftOff, MachinePower::Off, vec![PowerAction::SoftOff]),
        (PowerChange::SoftOff, MachinePower::Off, vec![]),
        (PowerChange::Off, MachinePower::Off, vec![]),
        (PowerChange::Reboot, MachinePower::On, vec![PowerAction::On]),
        (PowerChange::Off, MachinePower::Off, vec![PowerAction::ForceOff]),
    ];
    let mut seen = 0;
    for (change, state, actions) in steps {
        power.set(&cx(&n), change, WAIT).await.unwrap();
        assert_eq!(b.machine().power(), state, "{change:?}");
        assert_eq!(asked(&b)[seen..], actions[..], "{change:?}");
        seen += actions.len();
    }
}

#[tokio::test]
async fn a_node_that_must_not_lose_power_is_reset_instead() {
    let b = bmc(IpmiBmcConfig::default()).await;
    b.machine().assume_power(MachinePower::On);
    let mut n = node(&info(&b));
    n.spec.disable_power_off = Some(true);
    IpmiPower(driver()).set(&cx(&n), PowerChange::Reboot, WAIT).await.unwrap();
    assert_eq!(asked(&b), [PowerAction::Reset]);
}

#[tokio::test]
async fn an_ignored_request_ends_with_the_remedy() {
    let b = bmc(IpmiBmcConfig::default()).await;
    b.machine().assume_power(MachinePower::On);
    b.machine().set_habits(Habits { soft_off: SoftOff::Ignored, ..Habits::default() });
    let n = node(&info(&b));
    let power = IpmiPower(driver());
    let t = Instant::now();
    let error = power.set(&cx(&n), PowerChange::SoftOff, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(&error, DriverError::TimedOut(text) if text.contains("hard power off")), "{error}");
    assert!(t.elapsed() < Duration::from_secs(1));
    assert_eq!(asked(&b), [PowerAction::SoftOff], "pressing the button twice could cancel the first");
    b.faults().once_for(CHASSIS, CONTROL, Fault::Lie);
    let error = power.set(&cx(&n), PowerChange::Off, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(&error, DriverError::TimedOut(text) if text.contains("did not change")), "{error}");
}

#[tokio::test]
async fn a_refusal_of_what_already_is_counts_as_done() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let n = node(&info(&b));
    let power = IpmiPower(driver());
    // The machine came on by itself between the question and the request, which the BMC then refuses.
    b.faults().once_for(CHASSIS, CONTROL, Fault::DoneBut(0xd5));
    power.set(&cx(&n), PowerChange::On, WAIT).await.unwrap();
    assert_eq!(b.machine().power(), MachinePower::On);
    // A refusal that is meant is an error.
    b.faults().once_for(CHASSIS, CONTROL, Fault::Completion(0xd5));
    let error = power.set(&cx(&n), PowerChange::Off, WAIT).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(text) if text.contains("0xd5")), "{error}");
}

#[tokio::test]
async fn a_bmc_that_is_deaf_while_the_power_changes_is_waited_for() {
    let b = bmc(IpmiBmcConfig::default()).await;
    b.machine().set_habits(Habits { on_delay: Duration::from_millis(100), ..Habits::default() });
    let n = node(&info(&b));
    let power = IpmiPower(driver());
    power.state(&cx(&n)).await.unwrap();
    let task = {
        let (power, n) = (power.clone(), n.clone());
        tokio::spawn(async move { power.set(&cx(&n), PowerChange::On, Duration::from_secs(10)).await })
    };
    tokio::time::sleep(Duration::from_millis(60)).await;
    b.faults().set_silent(true);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    b.faults().set_silent(false);
    task.await.unwrap().unwrap();
    assert_eq!(b.machine().power(), MachinePower::On);
}

#[tokio::test]
async fn a_power_request_whose_answers_are_all_lost_is_judged_by_the_state() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let n = node(&info(&b));
    // Two tries in the old session, four in the new one.
    for _ in 0..6 {
        b.faults().once_for(CHASSIS, CONTROL, Fault::DropReply);
    }
    IpmiPower(driver()).set(&cx(&n), PowerChange::On, Duration::from_secs(10)).await.unwrap();
    assert_eq!(b.machine().power(), MachinePower::On);
}

#[tokio::test]
async fn the_deadline_of_a_call_holds_whatever_the_bmc_does() {
    let b = bmc(IpmiBmcConfig::default()).await;
    b.faults().set_silent(true);
    let n = node(&info(&b));
    let t = Instant::now();
    let cx = DriverCx { node: &n, deadline: Duration::from_millis(250) };
    let error = IpmiPower(driver()).state(&cx).await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable(_) | DriverError::TimedOut(_)), "{error}");
    assert!(error.is_transient() && t.elapsed() < Duration::from_millis(600));
}

#[tokio::test]
async fn boot_device_carries_persistence_and_firmware_mode() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let n = node(&info(&b));
    let management = IpmiManagement(driver());
    assert_eq!(management.boot_device(&cx(&n)).await.unwrap(), BootDeviceState::default());
    let devices = management.supported_boot_devices(&n);
    assert_eq!(devices, [BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios, BootDevice::Safe]);
    let flags = [(true, BootMode::Uefi, 0xe0), (false, BootMode::Uefi, 0xa0), (true, BootMode::Bios, 0xc0), (false, BootMode::Bios, 0x80)];
    for (persistent, mode, first) in flags {
        for (device, byte) in devices.iter().zip([0x04, 0x08, 0x14, 0x18, 0x0c]) {
            management.set_boot_device(&cx(&n), *device, persistent, mode).await.unwrap();
            assert_eq!(b.boot_flags(), Some([first, byte, 0, 0, 0]));
            let state = management.boot_device(&cx(&n)).await.unwrap();
            assert_eq!(state, BootDeviceState { device: Some(*device), persistent: Some(persistent) });
        }
    }
    let error = management.set_boot_device(&cx(&n), BootDevice::Floppy, false, BootMode::Bios).await.unwrap_err();
    assert!(matches!(&error, DriverError::Invalid(text) if text.contains("pxe, disk")), "{error}");
}

fn written(b: &IpmiBmc) -> Vec<Vec<u8>> {
    b.seen().into_iter().filter(|c| (c.netfn, c.cmd) == (CHASSIS, 0x08)).map(|c| c.data).collect()
}

#[tokio::test]
async fn the_boot_timeout_is_switched_off_where_wanted_and_a_refusal_tolerated() {
    for refuse_boot_timeout in [false, true] {
        let b = bmc(IpmiBmcConfig { refuse_boot_timeout, ..IpmiBmcConfig::default() }).await;
        let n = node(&info(&b));
        IpmiManagement(driver()).set_boot_device(&cx(&n), BootDevice::Pxe, false, BootMode::Uefi).await.unwrap();
        let sent = written(&b);
        assert_eq!(sent, [&[3, 8][..], &[0, 1], &[4, 1, 1], &[5, 0xa0, 4, 0, 0, 0], &[0, 2], &[0, 0]]);
    }
    let b = bmc(IpmiBmcConfig::default()).await;
    let mut with = info(&b);
    with["ipmi_disable_boot_timeout"] = "false".into();
    IpmiManagement(driver()).set_boot_device(&cx(&node(&with)), BootDevice::Pxe, false, BootMode::Uefi).await.unwrap();
    assert!(!written(&b).contains(&vec![3, 8]));
}

#[tokio::test]
async fn supermicro_gets_its_own_selector_for_the_uefi_disk() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let mut n = node(&info(&b));
    n.spec.properties.insert("vendor".into(), "Supermicro".into());
    let management = IpmiManagement(driver());
    management.set_boot_device(&cx(&n), BootDevice::Disk, true, BootMode::Uefi).await.unwrap();
    assert_eq!(b.boot_flags(), Some([0xe0, 0x24, 0, 0, 0]));
    assert_eq!(management.boot_device(&cx(&n)).await.unwrap().device, Some(BootDevice::Disk));
    management.set_boot_device(&cx(&n), BootDevice::Disk, true, BootMode::Bios).await.unwrap();
    assert_eq!(b.boot_flags(), Some([0xc0, 0x08, 0, 0, 0]));
}

#[tokio::test]
async fn a_forced_boot_device_is_set_again_before_each_start() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let mut with = info(&b);
    with["ipmi_force_boot_device"] = true.into();
    let mut n = node(&with);
    n.status.driver_internal_info.insert("persistent_boot_device".into(), "pxe".into());
    n.status.boot_mode = Some("uefi".into());
    let power = IpmiPower(driver());
    power.set(&cx(&n), PowerChange::On, WAIT).await.unwrap();
    assert_eq!(b.boot_flags(), Some([0xe0, 0x04, 0, 0, 0]));
    power.set(&cx(&n), PowerChange::Off, WAIT).await.unwrap();
    b.machine().set_boot_override(None);
    n.status.driver_internal_info.insert("is_next_boot_persistent".into(), false.into());
    power.set(&cx(&n), PowerChange::On, WAIT).await.unwrap();
    assert_eq!(b.boot_flags(), None);
}

#[tokio::test]
async fn sensors_health_vendor_and_nmi_are_told() {
    let b = bmc(IpmiBmcConfig::default()).await;
    b.machine().assume_power(MachinePower::On);
    b.set_reading(1, Some(96));
    b.set_reading(2, None);
    let n = node(&info(&b));
    let management = IpmiManagement(driver());
    let sensors = management.sensors(&cx(&n)).await.unwrap();
    let cpu = &sensors["Temperature"]["CPU Temp (0x1)"];
    assert_eq!((cpu["Sensor Reading"].as_str(), cpu["Status"].as_str()), (Some("96 degrees C"), Some("cr")), "{sensors:#}");
    assert_eq!(cpu["Upper critical"], json!(95.0));
    assert_eq!(sensors["Temperature"]["Inlet Temp (0x4)"]["Sensor Reading"], json!("-7.5 degrees C"));
    assert_eq!(sensors["Voltage"]["12V (0x3)"]["Sensor Reading"], json!("12.159 Volts"));
    assert_eq!(sensors["Fan"]["FAN1 (0x2)"]["Sensor Reading"], Value::Null);
    assert_eq!(sensors["Power Supply"]["PS1 Status (0x5)"]["Sensor Reading"], json!("0x0001"));
    assert_eq!(management.health(&cx(&n)).await.unwrap().as_deref(), Some("OK"));
    assert_eq!(management.vendor(&cx(&n)).await.unwrap(), None);
    management.inject_nmi(&cx(&n)).await.unwrap();
    assert_eq!(asked(&b), [PowerAction::Diag]);
}

#[tokio::test]
async fn raw_commands_run_as_steps_and_by_registry() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let mut n = node(&info(&b));
    let mut registry = Registry::default();
    register(&mut registry, &driver());
    for kind in [InterfaceKind::Power, InterfaceKind::Management, InterfaceKind::Vendor] {
        n.spec.interfaces.set(kind, "ipmitool");
    }
    registry.power(&n).unwrap().validate(&n).unwrap();
    registry.management(&n).unwrap().validate(&n).unwrap();
    let vendor = registry.steps(&n, InterfaceKind::Vendor).unwrap();
    let mut step = Step::internal("send_raw", Replay::Never);
    step.interface = InterfaceKind::Vendor;
    step.args.insert("raw_bytes".into(), "0x00 0x02 0x01".into());
    assert_eq!(vendor.run(&cx(&n), &step).await.unwrap(), StepOutcome::Done);
    assert_eq!(b.machine().power(), MachinePower::On);
    step.args.insert("raw_bytes".into(), "on".into());
    assert!(matches!(vendor.run(&cx(&n), &step).await.unwrap_err(), DriverError::Invalid(_)));
    step.args.clear();
    assert!(matches!(vendor.run(&cx(&n), &step).await.unwrap_err(), DriverError::Missing(_)));
    IpmiVendor(driver()).bmc_reset(&cx(&n), true).await.unwrap();
}

#[test]
fn driver_info_is_checked_with_the_key_and_the_remedy() {
    let power = IpmiPower(driver());
    let check = |extra: Value| {
        let mut info = json!({"ipmi_address": "bmc.example.org", "ipmi_username": "admin", "ipmi_password": "secret-secret"});
        for (k, v) in extra.as_object().unwrap() {
            info[k] = v.clone();
        }
        power.validate(&node(&info))
    };
    let good = [
        json!({}),
        json!({"ipmi_port": 624}),
        json!({"ipmi_port": "624"}),
        json!({"ipmi_priv_level": "operator", "ipmi_cipher_suite": 17, "ipmi_protocol_version": "2.0", "ipmi_bridging": "no"}),
        json!({"ipmi_cipher_suite": "3", "ipmi_hex_kg_key": "00".repeat(20), "ipmi_force_boot_device": "True", "ipmi_terminal_port": 10000}),
        json!({"ipmi_username": null, "ipmi_password": null}),
        json!({"ipmi_address": "fd00::1"}),
    ];
    for g in good {
        check(g.clone()).unwrap_or_else(|e| panic!("{g}: {e}"));
    }
    let bad = [
        ("ipmi_port", json!(0)),
        ("ipmi_port", json!("x")),
        ("ipmi_port", json!(70000)),
        ("ipmi_priv_level", json!("ROOT")),
        ("ipmi_cipher_suite", json!(99)),
        ("ipmi_cipher_suite", json!("seventeen")),
        ("ipmi_hex_kg_key", json!("abc")),
        ("ipmi_hex_kg_key", json!("zz".repeat(20))),
        ("ipmi_protocol_version", json!("3.0")),
        ("ipmi_bridging", json!("maybe")),
        ("ipmi_force_boot_device", json!("perhaps")),
        ("ipmi_disable_boot_timeout", json!([])),
        ("ipmi_terminal_port", json!(-1)),
        ("ipmi_username", json!("seventeen-letters")),
        ("ipmi_password", json!("x".repeat(21))),
        ("ipmi_address", json!("http://bmc")),
        ("ipmi_address", json!({"a": 1})),
    ];
    for (key, value) in bad {
        let error = check(json!({key: value})).unwrap_err();
        assert!(matches!(&error, DriverError::Invalid(text) if text.contains(key)), "{key}={value}: {error}");
        if key == "ipmi_hex_kg_key" || key == "ipmi_password" {
            assert!(!error.to_string().contains(value.as_str().unwrap()), "the value is a secret: {error}");
        }
    }
    for address in [json!(null), json!(""), json!("  ")] {
        let error = check(json!({"ipmi_address": address})).unwrap_err();
        assert!(matches!(&error, DriverError::Missing(text) if text.contains("ipmi_address")), "{error}");
    }
    for later in [json!({"ipmi_protocol_version": "1.5"}), json!({"ipmi_bridging": "single"})] {
        assert!(matches!(check(later).unwrap_err(), DriverError::NotBuilt(_)));
    }
}

#[tokio::test]
async fn errors_of_the_bmc_become_the_kinds_that_a_conductor_acts_on() {
    let b = bmc(IpmiBmcConfig::default()).await;
    let power = IpmiPower(driver());
    let mut with = info(&b);
    with["ipmi_password"] = "wrong-secret".into();
    let error = power.state(&cx(&node(&with))).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Credentials(text) if text.contains("ipmi_password") && !text.contains("wrong-secret")),
        "{error}"
    );
    let n = node(&info(&b));
    b.faults().once_for(CHASSIS, STATUS, Fault::Completion(0xff));
    assert!(matches!(power.state(&cx(&n)).await.unwrap_err(), DriverError::Refused(_)));
    b.faults().set_silent(true);
    assert!(matches!(power.state(&cx(&n)).await.unwrap_err(), DriverError::Unreachable(_)));
}
