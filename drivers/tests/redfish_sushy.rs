//! The Redfish client against the real sushy-emulator 2.2.0 (fake driver): a peer that shares nothing with this project.
#![allow(clippy::unwrap_used, reason = "tests")]

mod redfish_support;

use std::time::Duration;

use bessemer_drivers::iface::{BootDevice, BootMode, DriverCx, DriverError, Inspect, Management, Power, VirtualMedia};
use bessemer_drivers::redfish::iface::RedfishInterfaces;
use bessemer_drivers::redfish::{BootRequest, BootTarget, FirmwareMode, PoolConfig, RedfishError, RedfishPool, RedfishPower};
use bessemer_model::state::{PowerChange, PowerState};
use redfish_support::{ImageServer, SUSHY_SYSTEM, Sushy, node, quick, system};

/// The fake driver takes up to 11 s for a power change.
fn patient() -> PoolConfig {
    PoolConfig { power_wait: Duration::from_secs(30), ..quick() }
}

#[tokio::test]
async fn basic_is_used_where_there_is_no_session_service() {
    let peer = Sushy::start(true);
    let s = system(&peer.driver_info(), quick());
    assert_eq!(s.path().await.unwrap(), format!("/redfish/v1/Systems/{SUSHY_SYSTEM}"));
    assert_eq!(s.power().await.unwrap(), RedfishPower::Off);
    assert!(!s.client().has_session());
}

#[tokio::test]
async fn a_wrong_password_is_reported_once_and_not_tried_again() {
    let peer = Sushy::start(true);
    let mut info = peer.driver_info();
    info["redfish_password"] = "wrong-secret".into();
    let s = system(&info, quick());
    for _ in 0..3 {
        let e = s.power().await.unwrap_err();
        assert!(matches!(e, RedfishError::Auth { .. }), "{e}");
        assert!(!e.to_string().contains("wrong-secret"));
    }
    let seen = peer.log().lines().filter(|l| l.contains(" 401 ")).count();
    assert!(seen <= 3, "the BMC was asked {seen} times with a bad password");
}

#[tokio::test]
async fn power_goes_on_restarts_and_goes_off() {
    let peer = Sushy::start(false);
    let s = system(&peer.driver_info(), patient());
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(s.power().await.unwrap(), RedfishPower::On);
    s.change_power(PowerChange::On, None).await.unwrap();
    s.change_power(PowerChange::SoftOff, None).await.unwrap();
    assert_eq!(s.power().await.unwrap(), RedfishPower::Off);
    s.change_power(PowerChange::Off, None).await.unwrap();
}

#[tokio::test]
async fn boot_device_and_mode_are_set_and_read_back() {
    let peer = Sushy::start(false);
    let s = system(&peer.driver_info(), quick());
    for target in [BootTarget::Pxe, BootTarget::Disk, BootTarget::Cd] {
        let out = s.set_boot(&BootRequest::always(target)).await.unwrap();
        assert!(out.confirmed && out.persistent, "{target:?}: {out:?}");
        assert_eq!(s.boot().await.unwrap().target, Some(target));
    }
    assert!(s.set_boot_mode(FirmwareMode::Legacy, Duration::from_secs(1)).await.unwrap());
    assert_eq!(s.boot_mode().await.unwrap(), Some(FirmwareMode::Legacy));
    assert!(s.set_boot_mode(FirmwareMode::Uefi, Duration::from_secs(1)).await.unwrap());
}

#[tokio::test]
async fn the_interfaces_drive_a_node() {
    let peer = Sushy::start(true);
    let node = node(&peer.driver_info());
    let redfish = RedfishInterfaces::new(std::sync::Arc::new(RedfishPool::new(patient())));
    let cx = DriverCx { node: &node, deadline: Duration::from_secs(60) };
    Power::validate(&redfish, &node).unwrap();
    assert_eq!(redfish.state(&cx).await.unwrap(), Some(PowerState::Off));
    redfish.set_boot_device(&cx, BootDevice::Pxe, false, BootMode::Uefi).await.unwrap();
    assert_eq!(redfish.boot_device(&cx).await.unwrap().device, Some(BootDevice::Pxe));
    redfish.set(&cx, PowerChange::On, Duration::from_secs(30)).await.unwrap();
    assert_eq!(redfish.state(&cx).await.unwrap(), Some(PowerState::On));
    let e = redfish.set_boot_device(&cx, BootDevice::Floppy, false, BootMode::Uefi).await.unwrap_err();
    assert!(matches!(e, DriverError::Invalid(_)), "{e}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable_within_the_deadline() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let s = system(&serde_json::json!({"redfish_address": format!("http://127.0.0.1:{port}")}), quick());
    let e = s.power().await.unwrap_err();
    assert!(matches!(e, RedfishError::Unreachable { .. }), "{e}");
}

#[tokio::test]
async fn virtual_media_are_inserted_replaced_and_ejected() {
    let peer = Sushy::start(false);
    let images = ImageServer::start();
    let node = node(&peer.driver_info());
    let redfish = RedfishInterfaces::new(std::sync::Arc::new(RedfishPool::new(quick())));
    let cx = DriverCx { node: &node, deadline: Duration::from_secs(60) };
    for name in ["one.iso", "two.iso"] {
        redfish.insert(&cx, BootDevice::Cdrom, &images.url(name)).await.unwrap();
        let inserted: Vec<_> = redfish.list(&cx).await.unwrap().into_iter().filter(|m| m["inserted"] == true).collect();
        assert_eq!(inserted.len(), 1, "{inserted:?}");
        assert_eq!(inserted[0]["image"], images.url(name));
    }
    redfish.eject(&cx, None).await.unwrap();
    assert!(redfish.list(&cx).await.unwrap().iter().all(|m| m["inserted"] == false));
    redfish.eject(&cx, Some(BootDevice::Cdrom)).await.unwrap();
    let e = redfish.insert(&cx, BootDevice::Cdrom, &images.url("missing")).await.unwrap_err();
    assert!(matches!(e, DriverError::Refused(_)), "{e:?}");
}

#[tokio::test]
async fn inspection_reads_what_the_emulator_has_and_skips_the_rest() {
    let peer = Sushy::start(false);
    let node = node(&peer.driver_info());
    let redfish = RedfishInterfaces::new(std::sync::Arc::new(RedfishPool::new(quick())));
    let cx = DriverCx { node: &node, deadline: Duration::from_secs(60) };
    let found = redfish.inspect(&cx).await.unwrap();
    assert_eq!(found.macs, ["00:5c:52:31:3a:9c"]);
    assert_eq!(found.inventory.unwrap()["interfaces"][0]["mac_address"], "00:5c:52:31:3a:9c");
}

#[tokio::test]
async fn secure_boot_led_and_vendor_are_read_and_set() {
    let peer = Sushy::start(false);
    let s = system(&peer.driver_info(), quick());
    assert_eq!(s.secure_boot().await.unwrap(), Some(false));
    assert!(s.set_secure_boot(true, Duration::from_secs(1)).await.unwrap());
    s.set_led(bessemer_drivers::redfish::health::Led::Blinking).await.unwrap();
    assert_eq!(s.led().await.unwrap(), Some(bessemer_drivers::redfish::health::Led::Blinking));
    assert!(matches!(s.nmi().await, Err(RedfishError::Unsupported { .. } | RedfishError::Refused { .. })));
    assert_eq!(s.health().await.unwrap().as_deref(), Some("OK"));
}
