//! Answers that no sane BMC gives: every operation must end, with a result or an error, without a panic and without
//! talking to anybody else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod redfish_support;

use std::time::{Duration, Instant};

use bessemer_drivers::redfish::media::MediaKind;
use bessemer_drivers::redfish::{BootRequest, BootTarget, FirmwareMode, PoolConfig};
use bessemer_model::state::PowerChange;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redfish_support::{quick, system};
use serde_json::{Value, json};
use virtualbmc_fixtures::machine::Machine;
use virtualbmc_fixtures::redfish::{Fault, FaultRule, ORDINARY, RedfishBmc, RedfishConfig};

/// A value that does not belong there.
fn junk(rng: &mut StdRng) -> Value {
    match rng.random_range(0..12) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(-1),
        3 => json!(1.0e300),
        4 => json!(u64::MAX),
        5 => json!([]),
        6 => json!({}),
        7 => json!([{"@odata.id": "//evil.invalid/x"}, {"@odata.id": 7}, null, "x"]),
        8 => json!({"@odata.id": "https://evil.invalid/redfish/v1/Systems/1"}),
        9 => json!("\u{0}\u{202e}ünï\r\nX-Injected: 1"),
        10 => json!("x".repeat(5000)),
        _ => json!({"@odata.id": "/redfish/v1/../../etc/passwd\r\nHost: x"}),
    }
}

/// Replaces one value somewhere below `v`.
fn spoil(v: &mut Value, rng: &mut StdRng) {
    let n = match v {
        Value::Object(m) => m.len(),
        Value::Array(a) => a.len(),
        _ => 0,
    };
    if n == 0 || rng.random_range(0..4) == 0 {
        *v = junk(rng);
        return;
    }
    let pick = rng.random_range(0..n);
    let next = match v {
        Value::Object(m) => m.values_mut().nth(pick),
        Value::Array(a) => a.get_mut(pick),
        _ => None,
    };
    spoil(next.unwrap(), rng);
}

#[tokio::test]
async fn spoilt_answers_never_hang_or_crash_an_operation() {
    let ms = Duration::from_millis;
    let config = PoolConfig {
        attempts: 2,
        retry_interval: ms(2),
        deadline: ms(2000),
        post_boot_delay: ms(1),
        post_boot_attempts: 2,
        power_on_interval: ms(1),
        power_on_attempts: 2,
        poll: ms(1),
        power_wait: ms(20),
        reboot_pause: ms(1),
        media_wait: ms(10),
        task_wait: ms(20),
        ..quick()
    };
    let paths = [
        "/redfish/v1/",
        "/redfish/v1/Systems",
        "/redfish/v1/Systems/1",
        "/redfish/v1/Systems/1/VirtualMedia",
        "/redfish/v1/Systems/1/VirtualMedia/Cd",
        "/redfish/v1/Systems/1/Processors/0",
        "/redfish/v1/Systems/1/EthernetInterfaces/1",
        "/redfish/v1/Systems/1/Storage/1",
        "/redfish/v1/Systems/1/Storage/1/Drives/0",
        "/redfish/v1/Systems/1/SecureBoot",
        "/redfish/v1/Chassis/1/Thermal",
    ];
    let bmc = RedfishBmc::start(RedfishConfig::new(Machine::new("node")).profile(ORDINARY)).await.unwrap();
    let info = json!({"redfish_address": bmc.url(), "redfish_username": "admin", "redfish_password": "secret-password", "redfish_auth_type": "basic"});
    let sane = system(&info, config.clone());
    let mut bodies = Vec::new();
    for path in paths {
        bodies.push(sane.client().get_fresh(path).await.unwrap().body);
    }
    let mut rng = StdRng::seed_from_u64(0x5eed);
    for round in 0..150 {
        let at = rng.random_range(0..paths.len());
        let mut body = bodies[at].clone();
        for _ in 0..rng.random_range(1..6) {
            spoil(&mut body, &mut rng);
        }
        let text = body.to_string();
        bmc.inject(FaultRule::once(Fault::Body(text.clone())).on("GET", paths[at]).times(40));
        let s = system(&info, config.clone());
        let started = Instant::now();
        s.power().await.ok();
        s.boot_targets().await.ok();
        s.set_boot(&BootRequest::once(BootTarget::Pxe)).await.ok();
        s.set_boot_mode(FirmwareMode::Legacy, ms(5)).await.ok();
        s.inspect().await.ok();
        s.sensors().await.ok();
        s.media().await.ok();
        s.insert_media(MediaKind::Cd, "http://192.0.2.1/x.iso").await.ok();
        s.secure_boot().await.ok();
        s.change_power(PowerChange::Reboot, None).await.ok();
        assert!(started.elapsed() < Duration::from_secs(20), "round {round}: {:?} for {text}", started.elapsed());
        bmc.clear_faults();
    }
    sane.power().await.unwrap();
}
