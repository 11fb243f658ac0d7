//! The Redfish client against the fixture BMC: sessions, retries, ETags, tasks, TLS, and what is done when things go wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

mod redfish_support;

use std::time::{Duration, Instant};

use bessemer_drivers::redfish::{PoolConfig, RedfishError, RedfishPool, RedfishSystem};
use bessemer_model::state::PowerChange;
use redfish_support::{endpoint, quick, system};
use serde_json::{Value, json};
use virtualbmc_fixtures::machine::{Machine, Power};
use virtualbmc_fixtures::redfish::{
    AMI, CISCO, DELL_17G, EtagHabit, Fault, FaultRule, HPE, LENOVO, ORDINARY, Profile, RedfishBmc, RedfishConfig, SessionHabit,
};

async fn bmc(profile: Profile) -> (RedfishBmc, Machine) {
    let machine = Machine::new("node");
    let bmc = RedfishBmc::start(RedfishConfig::new(machine.clone()).profile(profile)).await.unwrap();
    (bmc, machine)
}

fn info(bmc: &RedfishBmc) -> Value {
    json!({"redfish_address": bmc.url(), "redfish_username": "admin", "redfish_password": "secret-password"})
}

async fn ordinary() -> (RedfishBmc, Machine, RedfishSystem) {
    let (bmc, machine) = bmc(ORDINARY).await;
    let s = system(&info(&bmc), quick());
    (bmc, machine, s)
}

fn count(bmc: &RedfishBmc, method: &str, path: &str) -> usize {
    bmc.requests().iter().filter(|r| r.method == method && r.path.contains(path)).count()
}

#[tokio::test]
async fn a_burst_of_requests_makes_one_session_and_close_ends_it() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let pool = RedfishPool::new(quick());
    let e = endpoint(&info(&bmc));
    futures::future::join_all((0..20).map(|_| {
        let s = pool.client(&e).unwrap();
        async move { s.power().await.unwrap() }
    }))
    .await;
    assert_eq!(bmc.sessions(), 1);
    assert_eq!(count(&bmc, "POST", "/SessionService/Sessions"), 1);
    pool.close().await;
    assert_eq!(bmc.sessions(), 0);
    pool.client(&e).unwrap().power().await.unwrap();
    assert_eq!(bmc.sessions(), 1, "the pool stays usable");
}

#[tokio::test]
async fn idle_clients_are_forgotten_with_their_sessions() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let pool = RedfishPool::new(quick());
    pool.client(&endpoint(&info(&bmc))).unwrap().power().await.unwrap();
    pool.close_idle(Duration::from_secs(60)).await;
    assert_eq!(bmc.sessions(), 1);
    pool.close_idle(Duration::ZERO).await;
    assert_eq!(bmc.sessions(), 0);
}

#[tokio::test]
async fn a_lost_session_is_made_again_once() {
    let (bmc, _machine, s) = ordinary().await;
    s.power().await.unwrap();
    bmc.lose_sessions();
    s.power().await.unwrap();
    assert_eq!(count(&bmc, "POST", "/SessionService/Sessions"), 2);
    bmc.inject(FaultRule::once(Fault::SessionsLost).on("POST", "/Actions/"));
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(count(&bmc, "POST", "/SessionService/Sessions"), 3);
}

#[tokio::test]
async fn behind_a_closed_fence_nothing_is_changed_but_reading_goes_on() {
    let (bmc, machine) = bmc(ORDINARY).await;
    let config = quick();
    let fence = config.fence.clone();
    let s = system(&info(&bmc), config);
    fence.close_at(Instant::now());
    s.power().await.unwrap();
    let error = s.change_power(PowerChange::On, None).await.unwrap_err();
    assert!(matches!(error, RedfishError::Fenced { .. }), "{error}");
    assert_eq!((machine.power(), count(&bmc, "POST", "/Actions/")), (Power::Off, 0));
    fence.close_at(Instant::now() + Duration::from_secs(60));
    s.change_power(PowerChange::On, None).await.unwrap();
}

#[tokio::test]
async fn a_bad_password_is_given_once_and_never_shown() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let mut i = info(&bmc);
    i["redfish_password"] = "wrong-and-secret".into();
    let pool = RedfishPool::new(quick());
    for _ in 0..5 {
        let e = pool.client(&endpoint(&i)).unwrap().power().await.unwrap_err();
        assert!(matches!(e, RedfishError::Auth { .. }), "{e}");
        // The fixture repeats the password in its message, as a careless BMC might.
        assert!(!format!("{e} {e:?}").contains("wrong-and-secret"), "{e:?}");
    }
    assert_eq!(bmc.bad_logins(), 1);
    // The right one is another client and works at once.
    pool.client(&endpoint(&info(&bmc))).unwrap().power().await.unwrap();
}

#[tokio::test]
async fn a_changed_password_is_noticed_without_hammering() {
    let (bmc, _machine, s) = ordinary().await;
    s.power().await.unwrap();
    bmc.set_password("other-password");
    bmc.lose_sessions();
    for _ in 0..5 {
        assert!(matches!(s.power().await.unwrap_err(), RedfishError::Auth { .. }));
    }
    assert_eq!(bmc.bad_logins(), 1);
}

#[tokio::test]
async fn a_refused_password_is_tried_again_after_the_hold() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let s = system(&info(&bmc), PoolConfig { refused_hold: Duration::from_millis(100), ..quick() });
    bmc.set_password("other-password");
    assert!(s.power().await.is_err());
    bmc.set_password("secret-password");
    assert!(s.power().await.is_err(), "still held");
    tokio::time::sleep(Duration::from_millis(120)).await;
    s.power().await.unwrap();
}

#[tokio::test]
async fn sessions_that_are_linked_in_the_root_only_are_found() {
    let (bmc, _machine) = bmc(HPE).await;
    let s = system(&info(&bmc), quick());
    s.power().await.unwrap();
    assert!(s.client().has_session());
}

#[tokio::test]
async fn basic_is_used_where_sessions_are_absent_or_exhausted() {
    for profile in [CISCO, DELL_17G] {
        let (bmc, _machine) = bmc(profile).await;
        let s = system(&info(&bmc), quick());
        s.power().await.unwrap();
        assert!(!s.client().has_session());
        assert!(bmc.requests().iter().any(|r| r.auth == "basic" && r.status == 200), "{:?}", profile.sessions);
        assert!(count(&bmc, "POST", "/Sessions") <= 1, "not asked again for each request");
    }
}

#[tokio::test]
async fn basic_is_not_a_way_out_once_sessions_have_worked_or_when_they_are_demanded() {
    let (full, _machine) = bmc(Profile { sessions: SessionHabit::Full, ..ORDINARY }).await;
    let mut i = info(&full);
    i["redfish_auth_type"] = "session".into();
    assert!(system(&i, quick()).power().await.is_err());
    assert!(full.requests().iter().all(|r| r.auth != "basic"));

    let (bmc, _machine, s) = ordinary().await;
    s.power().await.unwrap();
    bmc.lose_sessions();
    bmc.inject(FaultRule::once(Fault::Status(404, None)).on("POST", "/Sessions").times(u32::MAX));
    assert!(s.power().await.is_err());
    assert!(bmc.requests().iter().all(|r| r.auth != "basic"));
}

#[tokio::test]
async fn basic_and_none_are_used_when_asked_for() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let mut i = info(&bmc);
    i["redfish_auth_type"] = "basic".into();
    system(&i, quick()).power().await.unwrap();
    assert_eq!(bmc.sessions(), 0);
    i["redfish_auth_type"] = "none".into();
    assert!(matches!(system(&i, quick()).power().await.unwrap_err(), RedfishError::Auth { .. }));
    assert!(bmc.requests().iter().any(|r| r.auth == "none" && r.status == 401));
}

#[tokio::test]
async fn a_busy_bmc_is_asked_again_when_it_says_so() {
    let (bmc, _machine, s) = ordinary().await;
    s.power().await.unwrap();
    bmc.inject(FaultRule::once(Fault::Status(503, Some(1))).on("GET", "/Systems/1"));
    let started = Instant::now();
    s.power().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(950), "Retry-After is obeyed");
    // Also for actions: a 503 says that nothing was done.
    bmc.inject(FaultRule::once(Fault::Status(503, None)).on("POST", "ComputerSystem.Reset").times(3));
    s.change_power(PowerChange::On, None).await.unwrap();
}

#[tokio::test]
async fn a_bmc_that_stays_busy_is_given_up_with_its_own_words() {
    let (bmc, _machine, s) = ordinary().await;
    bmc.inject(FaultRule::once(Fault::Status(503, None)).on("GET", "/Systems/1").times(u32::MAX));
    let e = s.power().await.unwrap_err();
    assert!(e.to_string().contains("temporarily unavailable") && e.status() == Some(503), "{e}");
    assert_eq!(count(&bmc, "GET", "/Systems/1"), 5);
}

#[tokio::test]
async fn reads_survive_resets_torn_replies_and_500() {
    let (bmc, _machine, s) = ordinary().await;
    for fault in [Fault::Reset, Fault::LostReply, Fault::TornReply, Fault::Status(500, None), Fault::Status(502, None)] {
        bmc.inject(FaultRule::once(fault.clone()).on("GET", "/Systems/1"));
        s.power().await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
    }
}

#[tokio::test]
async fn an_action_whose_reply_is_lost_is_not_sent_twice_and_power_still_arrives() {
    let (bmc, machine, s) = ordinary().await;
    bmc.inject(FaultRule::once(Fault::LostReply).on("POST", "ComputerSystem.Reset"));
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(machine.power(), Power::On);
    assert_eq!(count(&bmc, "POST", "ComputerSystem.Reset"), 1);
}

#[tokio::test]
async fn a_silent_bmc_costs_no_more_than_the_deadline() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let config = PoolConfig {
        read_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(200),
        deadline: Duration::from_secs(1),
        ..quick()
    };
    let s = system(&info(&bmc), config);
    bmc.inject(FaultRule::once(Fault::Slow(Duration::from_secs(30))).times(u32::MAX));
    let started = Instant::now();
    let e = s.power().await.unwrap_err();
    assert!(matches!(&e, RedfishError::Timeout { waited_for, .. } if waited_for.contains("GET /redfish/v1")), "{e}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn answers_that_are_too_large_or_no_json_are_errors() {
    let (bmc, _machine) = bmc(ORDINARY).await;
    let s = system(&info(&bmc), PoolConfig { max_body: 64 * 1024, ..quick() });
    for text in ["{\"a\": \"".to_owned() + &"x".repeat(100_000), "<html>login</html>".to_owned(), "[1, 2]".to_owned(), String::new()] {
        bmc.inject(FaultRule::once(Fault::Body(text)).on("GET", "/Systems/1"));
        let e = s.power().await.unwrap_err();
        assert!(matches!(e, RedfishError::Malformed { .. }), "{e}");
    }
}

#[tokio::test]
async fn redirects_are_followed_with_the_same_method_and_never_to_another_host() {
    let (bmc, machine, s) = ordinary().await;
    bmc.inject(FaultRule::once(Fault::Redirect(308, "https://elsewhere.invalid/redfish/v1/Systems/1/".into())).on("GET", "/Systems/1"));
    s.power().await.unwrap();
    bmc.inject(FaultRule::once(Fault::Redirect(307, "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset/".into())).on("POST", "Reset"));
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(machine.power(), Power::On);
    bmc.inject(FaultRule::once(Fault::Redirect(302, "/redfish/v1/Systems/1?again".into())).on("GET", "/Systems/1").times(u32::MAX));
    let e = s.power().await.unwrap_err();
    assert!(e.to_string().contains("redirects without end"), "{e}");
}

#[tokio::test]
async fn every_known_etag_habit_ends_in_a_change() {
    use EtagHabit::{Empty, Ignored, Refused, Required, Strong, Weak, WeakWantsStrong};
    for etag in [Refused, Ignored, Strong, Weak, WeakWantsStrong, Empty, Required] {
        let (bmc, _machine) = bmc(Profile { etag, ..ORDINARY }).await;
        let s = system(&info(&bmc), quick());
        for led in [bessemer_drivers::redfish::health::Led::Blinking, bessemer_drivers::redfish::health::Led::On] {
            s.set_led(led).await.unwrap_or_else(|e| panic!("{etag:?}: {e}"));
            assert_eq!(s.led().await.unwrap(), Some(led));
        }
        // What worked is remembered: the second change takes one request.
        let tries: Vec<_> = bmc.requests().into_iter().filter(|r| r.method == "PATCH").map(|r| r.if_match).collect();
        assert!(tries.len() <= 4, "{etag:?}: {tries:?}");
    }
}

#[tokio::test]
async fn a_resource_that_changed_in_between_is_read_again() {
    let (bmc, _machine, s) = ordinary().await;
    bmc.inject(FaultRule::once(Fault::Status(412, None)).on("PATCH", "/Systems/1"));
    s.set_led(bessemer_drivers::redfish::health::Led::On).await.unwrap();
}

#[tokio::test]
async fn tasks_are_waited_for() {
    let (bmc, machine) = bmc(Profile { etag: EtagHabit::Strong, ..LENOVO }).await;
    let s = system(&info(&bmc), quick());
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(machine.power(), Power::On);
    assert!(count(&bmc, "GET", "/TaskMonitors/") >= 3);
}

#[tokio::test]
async fn a_task_that_fails_or_does_not_end_is_told() {
    let (bmc, _machine) = bmc(Profile { etag: EtagHabit::Strong, ..LENOVO }).await;
    let s = system(&info(&bmc), PoolConfig { task_wait: Duration::from_millis(200), ..quick() });
    let bad = json!({"TaskState": "Exception", "Messages": {"Message": "fan wall open", "MessageId": "X.1"}});
    bmc.inject(FaultRule::once(Fault::Body(bad.to_string())).on("GET", "/TaskMonitors/"));
    let e = s.change_power(PowerChange::On, None).await.unwrap_err();
    assert!(matches!(&e, RedfishError::TaskFailed { .. }) && e.to_string().contains("fan wall open"), "{e}");
    bmc.inject(FaultRule::once(Fault::Body(json!({"TaskState": "Running"}).to_string())).on("GET", "/TaskMonitors/").times(u32::MAX));
    let e = s.change_power(PowerChange::On, None).await.unwrap_err();
    assert!(matches!(&e, RedfishError::Timeout { waited_for, .. } if waited_for.contains("task")), "{e}");
}

#[tokio::test]
async fn a_task_that_is_not_there_yet_or_no_longer_is_no_failure() {
    let (bmc, machine) = bmc(Profile { etag: EtagHabit::Strong, ..LENOVO }).await;
    let s = system(&info(&bmc), quick());
    bmc.inject(FaultRule::once(Fault::Status(404, None)).on("GET", "/TaskMonitors/").times(2));
    s.change_power(PowerChange::On, None).await.unwrap();
    assert_eq!(machine.power(), Power::On);
}

#[tokio::test]
async fn no_more_than_the_allowed_number_of_requests_is_under_way() {
    let (bmc, _machine) = bmc(AMI).await;
    let s = system(&info(&bmc), PoolConfig { per_bmc: 2, ..quick() });
    s.power().await.unwrap();
    bmc.inject(FaultRule::once(Fault::Slow(Duration::from_millis(100))).on("GET", "/Managers").times(u32::MAX));
    let started = Instant::now();
    futures::future::join_all((0..6).map(|_| s.client().get_fresh("/redfish/v1/Managers"))).await;
    assert!(started.elapsed() >= Duration::from_millis(290), "six slow reads two at a time: {:?}", started.elapsed());
}

#[tokio::test]
async fn equal_reads_at_the_same_time_are_one_request_unless_something_was_written() {
    let (bmc, _machine, s) = ordinary().await;
    s.power().await.unwrap();
    bmc.forget_requests();
    bmc.inject(FaultRule::once(Fault::Slow(Duration::from_millis(100))).on("GET", "/Systems/1"));
    futures::future::join_all((0..10).map(|_| s.system())).await.into_iter().for_each(|r| drop(r.unwrap()));
    assert_eq!(count(&bmc, "GET", "/Systems/1"), 1);

    bmc.inject(FaultRule::once(Fault::Slow(Duration::from_millis(150))).on("GET", "/Systems/1"));
    let slow = s.system();
    let (old, new) = tokio::join!(slow, async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        s.client().post("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", &json!({"ResetType": "On"})).await.unwrap();
        s.system().await.unwrap()
    });
    drop(old);
    assert_eq!(new.text(&["PowerState"]), Some("On"), "a read after a write does not join one from before");
}

#[tokio::test]
async fn a_service_with_several_systems_wants_to_know_which() {
    let config = RedfishConfig::new(Machine::new("a"));
    let mut machines = config.machines.clone();
    machines.push(("2".into(), Machine::new("b"), virtualbmc_fixtures::redfish::Hardware::default()));
    let bmc = RedfishBmc::start(RedfishConfig { machines, ..config }).await.unwrap();
    let e = system(&info(&bmc), quick()).power().await.unwrap_err().to_string();
    assert!(e.contains("redfish_system_id") && e.contains("/redfish/v1/Systems/1"), "{e}");
    let mut i = info(&bmc);
    i["redfish_system_id"] = "/redfish/v1/Systems/2".into();
    system(&i, quick()).power().await.unwrap();
    i["redfish_system_id"] = "/redfish/v1/Systems/3".into();
    assert!(system(&i, quick()).power().await.unwrap_err().is_not_found());
}

mod tls {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::sync::Arc;

    struct Made {
        bmc: RedfishBmc,
        ca: String,
        leaf: String,
    }

    /// A BMC whose certificate names `name`, signed by a private CA.
    async fn bmc_with_certificate(name: &str) -> Made {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let config = RedfishConfig { tls: Some(Arc::new(server)), ..RedfishConfig::new(Machine::new("node")) };
        Made { bmc: RedfishBmc::start(config).await.unwrap(), ca: ca_cert.pem(), leaf: cert.pem() }
    }

    fn info_with(made: &Made, verify: Value) -> Value {
        let mut i = info(&made.bmc);
        i["redfish_verify_ca"] = verify;
        i
    }

    fn file(pem: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[tokio::test]
    async fn a_private_ca_is_accepted_as_file_and_as_directory() {
        let made = bmc_with_certificate("127.0.0.1").await;
        let (dir, path) = file(&made.ca);
        system(&info_with(&made, path.into()), quick()).power().await.unwrap();
        system(&info_with(&made, dir.path().to_str().unwrap().into()), quick()).power().await.unwrap();
    }

    #[tokio::test]
    async fn the_check_can_be_switched_off_and_the_certificate_itself_can_be_named() {
        let made = bmc_with_certificate("some.other.name").await;
        system(&info_with(&made, false.into()), quick()).power().await.unwrap();
        let (_dir, path) = file(&made.leaf);
        system(&info_with(&made, path.into()), quick()).power().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_said_with_the_remedy() {
        let made = bmc_with_certificate("some.other.name").await;
        let (_dir, path) = file(&made.ca);
        let e = system(&info_with(&made, path.into()), quick()).power().await.unwrap_err();
        assert!(matches!(e, RedfishError::Tls { .. }) && e.to_string().contains("another name"), "{e}");
        let stranger = bmc_with_certificate("127.0.0.1").await;
        let (_dir, path) = file(&stranger.ca);
        let e = system(&info_with(&made, path.into()), quick()).power().await.unwrap_err();
        assert!(e.to_string().contains("redfish_verify_ca"), "{e}");
        assert!(made.bmc.requests().is_empty(), "nothing is sent to a BMC that is not who it should be");
    }

    #[tokio::test]
    async fn a_replaced_ca_file_is_noticed() {
        let made = bmc_with_certificate("127.0.0.1").await;
        let stranger = bmc_with_certificate("127.0.0.1").await;
        let (_dir, path) = file(&stranger.ca);
        let pool = RedfishPool::new(quick());
        let e = endpoint(&info_with(&made, path.clone().into()));
        assert!(pool.client(&e).unwrap().power().await.is_err());
        std::fs::write(&path, &made.ca).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
        pool.client(&e).unwrap().power().await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_speaks_no_tls_is_named() {
        let (bmc, _machine) = bmc(ORDINARY).await;
        let mut i = info(&bmc);
        i["redfish_address"] = bmc.url().replace("http:", "https:").into();
        i["redfish_verify_ca"] = false.into();
        let e = system(&i, quick()).power().await.unwrap_err();
        assert!(matches!(e, RedfishError::Tls { .. }), "{e}");
    }

    #[tokio::test]
    async fn a_ca_file_that_cannot_be_read_is_named() {
        let i = json!({"redfish_address": "https://127.0.0.1:1", "redfish_verify_ca": "/nonexistent/ca.pem"});
        let pool = RedfishPool::new(quick());
        for e in [pool.client(&endpoint(&i)).unwrap_err(), pool.check(&endpoint(&i)).unwrap_err()] {
            assert!(e.to_string().contains("/nonexistent/ca.pem"), "{e}");
        }
    }
}
