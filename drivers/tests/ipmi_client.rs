//! The IPMI client against the fixture BMC, with faults.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use bessemer_drivers::fence::EffectFence;
use bessemer_drivers::ipmi::chassis::{BootFlags, BootSelector, ChassisControl};
use bessemer_drivers::ipmi::{CredentialFault, Doing, IpmiClient, IpmiConfig, IpmiEndpoint, IpmiError, IpmiPool, Privilege, Timing};
use bessemer_model::secret::Secret;
use virtualbmc_fixtures::ipmi::{Fault, IpmiBmc, IpmiBmcConfig};
use virtualbmc_fixtures::machine::{BootDevice, BootMode, BootOverride, Happening, Machine, Power, PowerAction};

const CHASSIS: u8 = 0;
const STATUS: u8 = 1;
const CONTROL: u8 = 2;

fn quick() -> IpmiConfig {
    IpmiConfig {
        timing: Timing {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(400),
            tries: 4,
            idle: Duration::from_secs(60),
        },
        ..IpmiConfig::default()
    }
}

fn endpoint(bmc: &IpmiBmc) -> IpmiEndpoint {
    let mut e = IpmiEndpoint::new("127.0.0.1", "admin", Secret::new("password".into()));
    e.port = bmc.address().port();
    e.timeout = Duration::from_secs(10);
    e
}

async fn bmc(config: IpmiBmcConfig) -> IpmiBmc {
    IpmiBmc::start(Machine::new("node-0"), config).await.unwrap()
}

async fn pair(config: IpmiBmcConfig) -> (IpmiBmc, IpmiClient) {
    let bmc = bmc(config).await;
    let client = IpmiPool::new(quick()).client(&endpoint(&bmc));
    (bmc, client)
}

fn controls(bmc: &IpmiBmc) -> usize {
    bmc.seen().iter().filter(|c| (c.netfn, c.cmd) == (CHASSIS, CONTROL)).count()
}

#[tokio::test]
async fn power_and_boot_device_work_over_both_cipher_suites() {
    for suite in [17, 3] {
        let (bmc, client) = pair(IpmiBmcConfig { suites: vec![suite], ..IpmiBmcConfig::default() }).await;
        assert!(!client.chassis_status().await.unwrap().on);
        client.chassis_control(ChassisControl::On).await.unwrap();
        assert!(client.chassis_status().await.unwrap().on);
        assert_eq!(bmc.machine().power(), Power::On);
        let flags = BootFlags { device: BootSelector::Pxe, persistent: true, efi: true };
        client.set_boot_flags(flags).await.unwrap();
        assert_eq!(client.boot_flags().await.unwrap(), Some(flags));
        assert_eq!(bmc.last_suite(), Some(suite));
        assert_eq!(bmc.logins(), 1, "one session serves all commands");
    }
}

#[tokio::test]
async fn suite_17_is_preferred_and_the_refusal_of_it_is_quick_and_remembered() {
    for short_refusals in [false, true] {
        let (bmc, client) = pair(IpmiBmcConfig { suites: vec![3], short_refusals, ..IpmiBmcConfig::default() }).await;
        let t = Instant::now();
        client.chassis_status().await.unwrap();
        assert!(t.elapsed() < Duration::from_millis(280), "{:?}", t.elapsed());
        bmc.forget_sessions();
        client.chassis_status().await.unwrap();
        assert_eq!(bmc.last_suite(), Some(3));
    }
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    assert_eq!(bmc.last_suite(), Some(17));
}

#[tokio::test]
async fn every_boot_flag_combination_arrives_as_the_specification_says() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    for (persistent, efi, first) in [(true, true, 0xe0), (false, true, 0xa0), (true, false, 0xc0), (false, false, 0x80)] {
        for (device, byte) in [
            (BootSelector::Pxe, 0x04),
            (BootSelector::Disk, 0x08),
            (BootSelector::Cdrom, 0x14),
            (BootSelector::Bios, 0x18),
            (BootSelector::SafeDisk, 0x0c),
        ] {
            let flags = BootFlags { device, persistent, efi };
            client.set_boot_flags(flags).await.unwrap();
            assert_eq!(bmc.boot_flags(), Some([first, byte, 0, 0, 0]));
            assert_eq!(client.boot_flags().await.unwrap(), Some(flags));
        }
    }
    let expected = BootOverride { device: BootDevice::SafeDisk, persistent: false, mode: Some(BootMode::Bios), http_url: None };
    assert_eq!(bmc.machine().boot_override(), Some(expected));
}

#[tokio::test]
async fn boot_flags_survive_a_minute_only_when_the_timeout_is_switched_off() {
    let config = || IpmiBmcConfig { boot_flag_lifetime: Duration::from_millis(30), ..IpmiBmcConfig::default() };
    let flags = BootFlags { device: BootSelector::Pxe, persistent: false, efi: false };
    for (refuse_boot_timeout, disable, kept) in [(false, false, false), (false, true, true), (true, true, false)] {
        let (_bmc, client) = pair(IpmiBmcConfig { refuse_boot_timeout, ..config() }).await;
        if disable {
            client.disable_boot_timeout().await.unwrap();
        }
        client.set_boot_flags(flags).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(client.boot_flags().await.unwrap().is_some(), kept);
    }
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_under_new_numbers() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    bmc.faults().once_for(CHASSIS, STATUS, Fault::DropReply);
    client.chassis_status().await.unwrap();
    let seen: Vec<_> = bmc.seen().into_iter().filter(|c| c.netfn == CHASSIS).collect();
    let [.., lost, second] = &seen[..] else { panic!("{seen:?}") };
    assert!(second.sequence > lost.sequence, "a repeated session sequence number would be dropped by the BMC");
    assert_ne!(second.rq_seq, lost.rq_seq);
    assert_eq!(bmc.logins(), 1);
}

#[tokio::test]
async fn a_late_reply_is_never_taken_for_the_answer_to_another_command() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    // The answer "off" to this question comes when the machine has long been on and other questions are open.
    bmc.faults().once_for(CHASSIS, STATUS, Fault::Late(Duration::from_millis(250)));
    let first = client.chassis_status().await.unwrap();
    assert!(!first.on);
    client.chassis_control(ChassisControl::On).await.unwrap();
    // Let it come just when the same question is open and its true answer lost.
    tokio::time::sleep(Duration::from_millis(80)).await;
    bmc.faults().once_for(CHASSIS, STATUS, Fault::DropReply);
    assert!(client.chassis_status().await.unwrap().on, "the stale answer was taken");
    // The request numbers go round at least once.
    for asked in 0..80 {
        assert!(client.chassis_status().await.unwrap().on, "a stale answer was taken after {asked} questions");
    }
    assert_eq!(bmc.logins(), 1);
}

#[tokio::test]
async fn duplicates_foreign_sessions_and_bad_codes_are_dropped() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    for fault in [Fault::Duplicate(Duration::from_millis(1)), Fault::WrongSession, Fault::BadCode] {
        bmc.faults().once(fault);
        for _ in 0..70 {
            client.chassis_status().await.unwrap();
        }
    }
    assert_eq!(bmc.logins(), 1, "the session stood through all of it");
}

#[tokio::test]
async fn a_busy_bmc_is_asked_again_until_it_answers() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    for code in [0xc0, 0xc4, 0xd2] {
        bmc.faults().once_for(CHASSIS, CONTROL, Fault::Completion(code));
        client.chassis_control(ChassisControl::On).await.unwrap();
    }
    bmc.faults().always(Some(Fault::Completion(0xc0)));
    let mut e = endpoint(&bmc);
    e.timeout = Duration::from_millis(700);
    let error = IpmiPool::new(quick()).client(&e).chassis_status().await.unwrap_err();
    assert_eq!(error.completion(), Some(0xc0));
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_session_that_the_bmc_forgot_is_opened_anew() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    bmc.forget_sessions();
    client.chassis_control(ChassisControl::On).await.unwrap();
    assert_eq!(bmc.machine().power(), Power::On);
    assert_eq!(bmc.logins(), 2);
    assert_eq!(bmc.sessions(), 1);
}

#[tokio::test]
async fn a_power_cycle_is_never_sent_twice() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.machine().assume_power(Power::On);
    client.chassis_status().await.unwrap();
    bmc.faults().once_for(CHASSIS, CONTROL, Fault::DropReply);
    let error = client.chassis_control(ChassisControl::Cycle).await.unwrap_err();
    assert!(matches!(error, IpmiError::OutcomeUnknown { cmd: CONTROL, .. }), "{error}");
    assert_eq!(controls(&bmc), 1);
    let cycles = bmc.machine().happenings().iter().filter(|h| **h == Happening::Asked(PowerAction::Cycle)).count();
    assert_eq!(cycles, 1);
}

#[tokio::test]
async fn behind_a_closed_fence_no_command_is_sent_and_after_a_renewal_it_is() {
    let fence = EffectFence::default();
    let bmc = bmc(IpmiBmcConfig::default()).await;
    let client = IpmiPool::new(IpmiConfig { fence: fence.clone(), ..quick() }).client(&endpoint(&bmc));
    client.chassis_status().await.unwrap();
    fence.close_at(Instant::now());
    let error = client.chassis_control(ChassisControl::On).await.unwrap_err();
    assert!(matches!(error, IpmiError::Fenced { .. }), "{error}");
    assert_eq!(controls(&bmc), 0);
    fence.close_at(Instant::now() + Duration::from_secs(60));
    client.chassis_control(ChassisControl::On).await.unwrap();
    assert_eq!(controls(&bmc), 1);
}

#[tokio::test]
async fn a_forgotten_session_does_not_swallow_a_command_that_is_sent_once() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.machine().assume_power(Power::On);
    client.chassis_status().await.unwrap();
    bmc.forget_sessions();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    client.chassis_control(ChassisControl::Reset).await.unwrap();
    assert_eq!(controls(&bmc), 1);
}

#[tokio::test]
async fn a_silent_bmc_is_unreachable_within_bounded_time() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.faults().set_silent(true);
    let t = Instant::now();
    let error = client.chassis_status().await.unwrap_err();
    assert!(matches!(error, IpmiError::Unreachable { doing: Doing::Contact, .. }), "{error}");
    assert!(error.is_transient() && t.elapsed() < Duration::from_secs(3));
    bmc.faults().set_silent(false);
    client.chassis_status().await.unwrap();
    bmc.faults().set_silent(true);
    assert!(client.chassis_status().await.unwrap_err().is_unreachable());
    bmc.faults().set_silent(false);
    client.chassis_status().await.unwrap();
}

#[tokio::test]
async fn the_deadline_of_a_call_includes_waiting_behind_others() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    client.chassis_status().await.unwrap();
    bmc.faults().set_silent(true);
    let mut impatient = endpoint(&bmc);
    impatient.timeout = Duration::from_millis(150);
    let pool_mate = client.clone();
    let slow = tokio::spawn(async move { pool_mate.chassis_status().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let t = Instant::now();
    let error = client.with_timeout(impatient.timeout).chassis_status().await.unwrap_err();
    assert!(matches!(error, IpmiError::Unreachable { doing: Doing::Queue, .. }), "{error}");
    assert!(t.elapsed() < Duration::from_millis(300));
    slow.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn wrong_credentials_are_told_apart_and_never_shown() {
    let secret = "hunter2-hunter2";
    let kg_bmc = bmc(IpmiBmcConfig { kg: Some(b"KgKgKgKgKgKgKgKgKgKg".to_vec()), ..IpmiBmcConfig::default() }).await;
    let loud = bmc(IpmiBmcConfig::default()).await;
    let mute = bmc(IpmiBmcConfig { silent_to_unknown_users: true, ..IpmiBmcConfig::default() }).await;
    let fault = |e: &IpmiError| match e {
        IpmiError::Credentials { why, .. } => *why,
        other => panic!("{other}"),
    };
    let cases = [
        (&loud, "nobody", CredentialFault::User),
        (&mute, "nobody", CredentialFault::UserSilence),
        (&loud, "admin", CredentialFault::Password),
    ];
    for (server, user, expected) in cases {
        let mut e = endpoint(server);
        e.username = user.into();
        e.password = Secret::new(secret.into());
        let client = IpmiPool::new(quick()).client(&e);
        let error = client.chassis_status().await.unwrap_err();
        assert_eq!(fault(&error), expected);
        assert!(error.is_credentials());
        assert!(!format!("{error} {error:?} {client:?}").contains(secret));
        assert_eq!(server.sessions(), 0);
    }
    let error = IpmiPool::new(quick()).client(&endpoint(&kg_bmc)).chassis_status().await.unwrap_err();
    assert_eq!(fault(&error), CredentialFault::BmcKey);
    let mut e = endpoint(&kg_bmc);
    e.kg = Some(Secret::new(b"KgKgKgKgKgKgKgKgKgKg".to_vec()));
    IpmiPool::new(quick()).client(&e).chassis_status().await.unwrap();
}

#[tokio::test]
async fn a_changed_password_is_used_at_once_and_the_old_session_is_not() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    let pool = IpmiPool::new(quick());
    pool.client(client.endpoint()).chassis_status().await.unwrap();
    let mut e = endpoint(&bmc);
    e.password = Secret::new("other".into());
    assert!(pool.client(&e).chassis_status().await.unwrap_err().is_credentials());
    assert_eq!(bmc.sessions(), 0, "the session of the old password was closed");
}

#[tokio::test]
async fn too_little_privilege_is_an_error_of_its_own() {
    for refuse_level_early in [false, true] {
        let (_bmc, client) = pair(IpmiBmcConfig { user_level: 2, refuse_level_early, ..IpmiBmcConfig::default() }).await;
        let error = client.chassis_status().await.unwrap_err();
        assert!(matches!(error, IpmiError::Privilege { level: Privilege::Administrator, .. }), "{error}");
    }
    let (bmc, client) = pair(IpmiBmcConfig { user_level: 2, ..IpmiBmcConfig::default() }).await;
    let mut e = client.endpoint().clone();
    e.privilege = Privilege::User;
    let client = IpmiPool::new(quick()).client(&e);
    client.chassis_status().await.unwrap();
    let error = client.chassis_control(ChassisControl::On).await.unwrap_err();
    assert!(matches!(error, IpmiError::Privilege { level: Privilege::User, .. }), "{error}");
    assert_eq!(bmc.machine().power(), Power::Off);
}

#[tokio::test]
async fn no_common_cipher_suite_names_those_tried() {
    let (bmc, _) = pair(IpmiBmcConfig { suites: vec![3], ..IpmiBmcConfig::default() }).await;
    let mut e = endpoint(&bmc);
    e.cipher_suites = vec![17];
    let error = IpmiPool::new(quick()).client(&e).chassis_status().await.unwrap_err();
    assert!(matches!(&error, IpmiError::NoCipherSuite { tried, .. } if tried == &[17]), "{error}");
    assert!(error.to_string().contains("ipmi_cipher_suite"));
}

#[tokio::test]
async fn a_bmc_without_free_sessions_is_waited_for() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.faults().refuse_sessions(2);
    client.chassis_status().await.unwrap();
    bmc.forget_sessions();
    bmc.faults().refuse_sessions(u32::MAX);
    let error = client.with_timeout(Duration::from_secs(1)).chassis_status().await.unwrap_err();
    assert!(matches!(error, IpmiError::NoSession { .. }), "{error}");
}

#[tokio::test]
async fn lost_log_in_answers_are_asked_for_again() {
    for kind in [0x10, 0x12, 0x14] {
        let (bmc, client) = pair(IpmiBmcConfig::default()).await;
        bmc.faults().drop_login_replies(kind, 1);
        let outcome = client.chassis_status().await;
        assert!(outcome.is_ok(), "{kind:#x}: {}", outcome.unwrap_err());
    }
}

#[tokio::test]
async fn commands_keep_the_distance_that_a_bmc_needs() {
    let (bmc, _) = pair(IpmiBmcConfig::default()).await;
    let mut e = endpoint(&bmc);
    e.min_command_interval = Duration::from_millis(80);
    let client = IpmiPool::new(quick()).client(&e);
    client.chassis_status().await.unwrap();
    let t = Instant::now();
    for _ in 0..4 {
        client.chassis_status().await.unwrap();
    }
    assert!(t.elapsed() >= Duration::from_millis(300), "{:?}", t.elapsed());
}

#[tokio::test]
async fn idle_sessions_are_closed() {
    let mut config = quick();
    config.timing.idle = Duration::from_millis(200);
    let bmc = bmc(IpmiBmcConfig::default()).await;
    let pool = IpmiPool::new(config);
    let client = pool.client(&endpoint(&bmc));
    client.chassis_status().await.unwrap();
    assert_eq!((bmc.sessions(), pool.open_sessions()), (1, 1));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!((bmc.sessions(), pool.open_sessions()), (0, 0));
    client.chassis_status().await.unwrap();
    pool.close().await;
    assert_eq!(bmc.sessions(), 0);
}

#[tokio::test]
async fn callers_may_give_up_at_any_moment() {
    // Each log-in given up half way occupies a session of the BMC until it expires there.
    let (bmc, client) = pair(IpmiBmcConfig { max_sessions: 100, ..IpmiBmcConfig::default() }).await;
    bmc.faults().set_delay(Duration::from_millis(10));
    for ms in 0..60 {
        let _ = tokio::time::timeout(Duration::from_millis(ms), client.chassis_status()).await;
    }
    bmc.machine().act(PowerAction::On);
    assert!(client.chassis_status().await.unwrap().on);
}

#[tokio::test]
async fn a_log_in_that_was_given_up_half_way_is_finished_by_the_next_call() {
    for ms in 0..40 {
        let (bmc, client) = pair(IpmiBmcConfig::default()).await;
        bmc.faults().set_delay(Duration::from_millis(5));
        let _ = tokio::time::timeout(Duration::from_millis(ms), client.chassis_status()).await;
        bmc.faults().set_delay(Duration::ZERO);
        client.chassis_control(ChassisControl::On).await.unwrap_or_else(|e| panic!("given up after {ms} ms: {e}"));
    }
}

#[tokio::test]
async fn a_slow_answer_to_a_command_that_is_sent_once_is_waited_for() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.machine().assume_power(Power::On);
    bmc.faults().once_for(CHASSIS, CONTROL, Fault::Late(Duration::from_millis(600)));
    client.chassis_control(ChassisControl::Reset).await.unwrap();
    assert_eq!(controls(&bmc), 1);
}

#[tokio::test]
async fn a_session_near_its_end_is_replaced_before_it_costs_lost_packets() {
    let mut config = quick();
    config.timing.idle = Duration::from_millis(400);
    let bmc = bmc(IpmiBmcConfig { session_timeout: Duration::from_millis(350), ..IpmiBmcConfig::default() }).await;
    let client = IpmiPool::new(config).client(&endpoint(&bmc));
    client.chassis_status().await.unwrap();
    tokio::time::sleep(Duration::from_millis(360)).await;
    let t = Instant::now();
    client.chassis_status().await.unwrap();
    assert!(t.elapsed() < Duration::from_millis(280), "{:?}", t.elapsed());
}

#[tokio::test]
async fn a_bmc_that_vanishes_during_the_log_in_is_not_blamed_on_the_user() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.faults().drop_login_replies(0x12, u32::MAX);
    let error = client.chassis_status().await.unwrap_err();
    assert!(error.is_credentials(), "it is there and does not answer to the name: {error}");
    let gone = client.clone();
    let call = tokio::spawn(async move { gone.chassis_status().await });
    tokio::time::sleep(Duration::from_millis(250)).await;
    bmc.faults().set_silent(true);
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_unreachable(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bmcs_share_one_socket_and_are_asked_at_the_same_time() {
    const COUNT: usize = 300;
    let mut bmcs = Vec::new();
    for i in 0..COUNT {
        let machine = Machine::new(&format!("node-{i}"));
        if i % 3 == 0 {
            machine.assume_power(Power::On);
        }
        let config = IpmiBmcConfig { suites: vec![if i % 2 == 0 { 17 } else { 3 }], ..IpmiBmcConfig::default() };
        bmcs.push(IpmiBmc::start(machine, config).await.unwrap());
        bmcs[i].faults().set_delay(Duration::from_millis(20));
    }
    let pool = IpmiPool::new(IpmiConfig::default());
    let t = Instant::now();
    let mut calls = Vec::new();
    for (i, bmc) in bmcs.iter().enumerate() {
        let client = pool.client(&endpoint(bmc));
        calls.push(tokio::spawn(async move {
            for _ in 0..5 {
                assert_eq!(client.chassis_status().await.unwrap().on, i % 3 == 0);
            }
        }));
    }
    for c in calls {
        c.await.unwrap();
    }
    assert_eq!(pool.open_sessions(), COUNT);
    assert!(bmcs.iter().all(|b| b.logins() == 1));
    eprintln!("{COUNT} BMCs, 5 questions each, 20 ms per answer: {:?}", t.elapsed());
}

#[tokio::test]
async fn a_slow_bmc_is_not_asked_twice_once_it_is_known_to_be_slow() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.faults().set_delay(Duration::from_millis(150));
    for _ in 0..8 {
        client.chassis_status().await.unwrap();
    }
    let before = bmc.seen().len();
    for _ in 0..4 {
        client.chassis_status().await.unwrap();
    }
    let asked = bmc.seen().len() - before;
    assert!(asked <= 5, "asked {asked} times for 4 answers");
}

#[tokio::test]
async fn two_consoles_of_one_bmc_do_not_disturb_each_other() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    let other = IpmiPool::new(quick()).client(client.endpoint());
    for _ in 0..20 {
        let (ours, theirs) = tokio::join!(client.chassis_status(), other.chassis_status());
        ours.unwrap();
        theirs.unwrap();
    }
    assert_eq!(bmc.logins(), 2);
}

#[tokio::test]
async fn hostile_packets_leave_the_fixture_alive() {
    let text = std::fs::read_to_string(format!("{}/tests/data/ipmi/malformed.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let packets: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (bmc, client) = pair(IpmiBmcConfig { max_sessions: 100, ..IpmiBmcConfig::default() }).await;
    client.chassis_status().await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for p in &packets {
        socket.send_to(&hex::decode(p["hex"].as_str().unwrap()).unwrap(), bmc.address()).await.unwrap();
    }
    client.chassis_control(ChassisControl::On).await.unwrap();
    assert_eq!((bmc.logins(), bmc.machine().power()), (1, Power::On));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_so() {
    let mut e = IpmiEndpoint::new("no-such-host.invalid", "admin", Secret::new("p".into()));
    e.timeout = Duration::from_secs(5);
    let error = IpmiPool::new(quick()).client(&e).chassis_status().await.unwrap_err();
    assert!(matches!(error, IpmiError::Resolve { .. }) && error.to_string().contains("ipmi_address"), "{error}");
}

#[tokio::test]
async fn ipv6_works_as_ipv4() {
    let config = IpmiBmcConfig { listen: "[::1]:0".parse().unwrap(), ..IpmiBmcConfig::default() };
    let Ok(bmc) = IpmiBmc::start(Machine::new("v6"), config).await else {
        eprintln!("no IPv6 loopback on this machine");
        return;
    };
    for host in ["::1", "[::1]"] {
        let mut e = endpoint(&bmc);
        e.host = host.into();
        IpmiPool::new(quick()).client(&e).chassis_status().await.unwrap();
    }
}

#[tokio::test]
async fn cut_answers_are_errors() {
    let (bmc, client) = pair(IpmiBmcConfig::default()).await;
    bmc.faults().once_for(CHASSIS, STATUS, Fault::CutReply);
    assert!(matches!(client.chassis_status().await.unwrap_err(), IpmiError::BadAnswer { .. }));
    bmc.faults().once_for(6, 1, Fault::CutReply);
    assert!(matches!(client.device_id().await.unwrap_err(), IpmiError::BadAnswer { .. }));
}

#[tokio::test]
async fn the_controller_tells_who_it_is() {
    let (_bmc, client) = pair(IpmiBmcConfig::default()).await;
    let id = client.device_id().await.unwrap();
    assert_eq!((id.firmware, id.ipmi, id.manufacturer, id.product), ((2, 35), (2, 0), 7154, 1));
    assert!(!id.updating);
    let error = client.raw(0x06, 0x77, &[]).await.unwrap_err();
    assert_eq!(error.completion(), Some(0xc1));
    assert!(error.to_string().contains("invalid command"), "{error}");
    client.mc_reset(false).await.unwrap();
}
