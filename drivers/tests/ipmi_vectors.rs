//! The IPMI codec and session against recorded conversations and computed vectors, byte for byte.
#![allow(clippy::unwrap_used, missing_docs)]

use bessemer_drivers::ipmi::Privilege;
use bessemer_drivers::ipmi::codec::{self, Packet, PayloadType, PlusPacket, Response};
use bessemer_drivers::ipmi::crypto::{self, CipherSuite, SUITES, SessionKeys};
use bessemer_drivers::ipmi::session::{self, Handshake, Login, Refusal, Session, Stage, Step};
use bessemer_model::secret::Secret;
use serde::Deserialize;

fn unhex(s: &str) -> Vec<u8> {
    hex::decode(s).unwrap()
}

fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/ipmi/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn plus(datagram: &[u8]) -> PlusPacket<'_> {
    match codec::parse(datagram).unwrap() {
        Packet::Plus(p) => p,
        other => panic!("not RMCP+: {other:?}"),
    }
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    suite: u8,
    inputs: Inputs,
    values: Values,
    setup: Vec<Frame>,
    packets: Vec<InSession>,
    must_reject: Vec<Bad>,
}

#[derive(Deserialize)]
struct Inputs {
    user: String,
    password: String,
    kg: String,
    role_byte: u8,
    sid_console: u32,
    sid_bmc: u32,
    rm: String,
}

#[derive(Deserialize)]
struct Values {
    sik: String,
    k1: String,
    aes_key: String,
}

#[derive(Deserialize)]
struct Frame {
    what: String,
    dir: String,
    hex: String,
}

#[derive(Deserialize)]
struct InSession {
    what: String,
    dir: String,
    payload_type: u8,
    seq: u32,
    session_id: u32,
    iv: String,
    plain: String,
    hex: String,
}

#[derive(Deserialize)]
struct Bad {
    what: String,
    hex: String,
}

fn privilege(role: u8) -> Privilege {
    match role & 0x0f {
        2 => Privilege::User,
        3 => Privilege::Operator,
        _ => Privilege::Administrator,
    }
}

fn login(user: &str, password: &str, kg: &[u8], role: u8) -> Login {
    Login {
        user: user.into(),
        password: Secret::new(password.into()),
        kg: (!kg.is_empty()).then(|| Secret::new(kg.to_vec())),
        privilege: privilege(role),
        name_only: role & 0x10 != 0,
    }
}

#[test]
fn the_handshake_of_every_vector_is_reproduced_byte_for_byte() {
    let all: Vectors = serde_json::from_str(&data("suite-vectors.json")).unwrap();
    assert!(all.vectors.len() >= 2);
    for v in &all.vectors {
        let suite = CipherSuite::by_id(v.suite).unwrap();
        let login = login(&v.inputs.user, &v.inputs.password, &unhex(&v.inputs.kg), v.inputs.role_byte);
        let rm: [u8; 16] = unhex(&v.inputs.rm).try_into().unwrap();
        let mut shake = Handshake::new(suite, &login, v.inputs.sid_console, rm, 0).unwrap();
        let mut session = None;
        for frame in &v.setup {
            if frame.dir == "client" {
                assert_eq!(hex::encode(shake.packet()), frame.hex, "{}: {}", v.name, frame.what);
            } else {
                match shake.receive(&unhex(&frame.hex)) {
                    Step::Next => {}
                    Step::Established(s) => session = Some(s),
                    _ => panic!("{}: {} not taken", v.name, frame.what),
                }
            }
        }
        let mut session = session.expect("session stands");
        assert_eq!((session.console_sid(), session.bmc_sid()), (v.inputs.sid_console, v.inputs.sid_bmc));
        check_packets(v, suite, &mut session);
    }
}

fn check_packets(v: &Vector, suite: CipherSuite, session: &mut Session) {
    let keys = SessionKeys::derive(suite.authentication, &unhex(&v.values.sik));
    assert_eq!(hex::encode(keys.k1()), v.values.k1);
    assert_eq!(hex::encode(keys.aes()), v.values.aes_key);
    for p in &v.packets {
        let raw = unhex(&p.hex);
        let kind = PayloadType::from_wire(p.payload_type).unwrap();
        let iv: [u8; 16] = unhex(&p.iv).try_into().unwrap();
        let plain = unhex(&p.plain);
        let sealed = session::seal(suite, &keys, kind, p.seq, p.session_id, &plain, &iv);
        assert_eq!(hex::encode(&sealed), p.hex, "{}: {}", v.name, p.what);
        assert_eq!(session::unseal(suite, &keys, &plus(&raw)).unwrap(), plain, "{}: {}", v.name, p.what);
        if p.dir == "client" {
            assert_eq!(hex::encode(session.seal(kind, &plain, &iv)), p.hex, "sequence numbers count up from 1: {}", p.what);
        } else {
            assert_eq!(session.open(&plus(&raw)).unwrap().payload, plain);
            assert!(session.open(&plus(&raw)).is_err(), "a repeated packet is refused: {}", p.what);
        }
    }
    for bad in &v.must_reject {
        let raw = unhex(&bad.hex);
        assert!(session::unseal(suite, &keys, &plus(&raw)).is_err(), "{}: accepted: {}", v.name, bad.what);
    }
}

#[derive(Deserialize)]
struct Conversation {
    name: String,
    user: String,
    password: String,
    kg: String,
    frames: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    dir: String,
    hex: String,
    plain: Option<String>,
}

fn suite_of(algorithms: [u8; 3]) -> Option<CipherSuite> {
    SUITES.iter().copied().find(|s| s.wire() == algorithms)
}

/// Plays the recorded BMC to our handshake, which is told the random numbers of the recorded client: our packets must be the recorded ones.
/// Returns the packets checked.
fn replay(c: &Conversation) -> usize {
    let mut checked = 0;
    let mut shake: Option<Handshake> = None;
    let mut keys: Option<(CipherSuite, SessionKeys)> = None;
    let mut at = 0;
    while let Some(frame) = c.frames.get(at) {
        at += 1;
        let raw = unhex(&frame.hex);
        let Ok(Packet::Plus(p)) = codec::parse(&raw) else {
            continue;
        };
        match (p.payload_type, frame.dir.as_str()) {
            (PayloadType::OpenRequest, _) => {
                keys = None;
                let algorithms = [p.payload[12], p.payload[20], p.payload[28]];
                let Some(suite) = suite_of(algorithms) else {
                    shake = None;
                    continue;
                };
                // random number and role stand in the RAKP 1 that follows
                let next = c.frames[at..]
                    .iter()
                    .map(|f| unhex(&f.hex))
                    .find(|r| matches!(codec::parse(r), Ok(Packet::Plus(p)) if p.payload_type == PayloadType::Rakp1));
                let (rm, role) = next.map_or(([0; 16], 0x14), |r| (plus(&r).payload[8..24].try_into().unwrap(), plus(&r).payload[24]));
                let sid = u32::from_le_bytes(p.payload[4..8].try_into().unwrap());
                let login = login(&c.user, &c.password, c.kg.as_bytes(), role);
                let mut h = Handshake::new(suite, &login, sid, rm, p.payload[0]).unwrap();
                assert_eq!(h.packet(), raw, "{}: open session request", c.name);
                checked += 1;
                shake = Some(h);
            }
            (PayloadType::Rakp1 | PayloadType::Rakp3, _) => {
                if let Some(h) = &mut shake {
                    assert_eq!(h.packet(), raw, "{}: {:?}", c.name, p.payload_type);
                    checked += 1;
                }
            }
            (PayloadType::OpenResponse | PayloadType::Rakp2 | PayloadType::Rakp4, _) => {
                let Some(h) = &mut shake else { continue };
                match h.receive(&raw) {
                    Step::Next => {}
                    Step::Established(s) => {
                        let random_and_guid: Vec<u8> = c.frames[..at]
                            .iter()
                            .rev()
                            .map(|f| unhex(&f.hex))
                            .find(|r| matches!(codec::parse(r), Ok(Packet::Plus(p)) if p.payload_type == PayloadType::Rakp2))
                            .map(|r| plus(&r).payload[8..24].to_vec())
                            .unwrap();
                        keys = Some((s.suite(), rederive(c, s.suite(), &random_and_guid, at)));
                    }
                    Step::Refused(..) | Step::Ignored => panic!("{}: {:?} not taken", c.name, p.payload_type),
                }
                checked += 1;
            }
            (PayloadType::Ipmi | PayloadType::Sol, _) if p.session_id != 0 => {
                let (suite, keys) = keys.as_ref().expect("session stands");
                let plain = session::unseal(*suite, keys, &p).unwrap_or_else(|e| panic!("{}: frame {at}: {e}", c.name));
                assert_eq!(Some(hex::encode(&plain)), frame.plain, "{}: frame {at}", c.name);
                let iv: [u8; 16] = if p.encrypted { p.payload[..16].try_into().unwrap() } else { [0; 16] };
                assert_eq!(
                    session::seal(*suite, keys, p.payload_type, p.sequence, p.session_id, &plain, &iv),
                    raw,
                    "{}: frame {at} sealed again",
                    c.name
                );
                if p.payload_type == PayloadType::Ipmi && frame.dir == "server" {
                    Response::decode(&plain).unwrap();
                }
                checked += 1;
            }
            _ => {}
        }
    }
    checked
}

/// Session keys computed a second time from the recorded random numbers.
fn rederive(c: &Conversation, suite: CipherSuite, rc: &[u8], before: usize) -> SessionKeys {
    let rakp1 = c.frames[..before]
        .iter()
        .rev()
        .map(|f| unhex(&f.hex))
        .find(|r| matches!(codec::parse(r), Ok(Packet::Plus(p)) if p.payload_type == PayloadType::Rakp1))
        .unwrap();
    let p = plus(&rakp1).payload;
    let mut name = vec![p[24], p[27]];
    name.extend(&p[28..]);
    let secret = if c.kg.is_empty() { &c.password } else { &c.kg };
    let key = crypto::padded_key(secret.as_bytes()).unwrap();
    let sik = suite.authentication.hash(&*key, &[&p[8..24], rc, &name]);
    SessionKeys::derive(suite.authentication, &sik)
}

fn conversations() -> Vec<Conversation> {
    serde_json::from_str(&data("conversations.json")).unwrap()
}

#[test]
fn recorded_conversations_of_every_suite_are_reproduced_byte_for_byte() {
    let mut total = 0;
    for c in conversations().iter().filter(|c| !is_refusal(&c.name)) {
        let n = replay(c);
        assert!(n > 10, "{}: only {n} packets", c.name);
        total += n;
    }
    assert!(total > 400, "{total}");
}

fn is_refusal(name: &str) -> bool {
    name.contains("err") || name.contains("asked") || name.contains("missing")
}

/// Our handshake with the recorded refusals; gives the stage and the refusal.
fn refused(name: &str, password: &str, kg: &[u8]) -> (Stage, Refusal) {
    let all = conversations();
    let c = all.iter().find(|c| c.name == name).unwrap();
    let mut shake: Option<Handshake> = None;
    for (at, frame) in c.frames.iter().enumerate() {
        let raw = unhex(&frame.hex);
        let Ok(Packet::Plus(p)) = codec::parse(&raw) else { continue };
        if p.payload_type == PayloadType::OpenRequest {
            let suite = suite_of([p.payload[12], p.payload[20], p.payload[28]]).unwrap();
            let rm = c.frames[at..]
                .iter()
                .map(|f| unhex(&f.hex))
                .find(|r| matches!(codec::parse(r), Ok(Packet::Plus(p)) if p.payload_type == PayloadType::Rakp1))
                .map_or([0; 16], |r| plus(&r).payload[8..24].try_into().unwrap());
            let sid = u32::from_le_bytes(p.payload[4..8].try_into().unwrap());
            shake = Handshake::new(suite, &login(&c.user, password, kg, 0x14), sid, rm, 0);
        }
        let Some(h) = &mut shake else { continue };
        if frame.dir == "client" {
            if matches!(p.payload_type, PayloadType::OpenRequest | PayloadType::Rakp1 | PayloadType::Rakp3) {
                h.packet();
            }
        } else if let Step::Refused(why, _) = h.receive(&raw) {
            return (h.stage(), why);
        }
    }
    panic!("{name}: not refused");
}

#[test]
fn recorded_refusals_are_told_apart() {
    assert!(matches!(refused("cipher-17-asked", "password", b""), (Stage::Open, Refusal::Suite { suite: 17, status: 4 })));
    assert_eq!(refused("err-wrong-user", "password", b""), (Stage::User, Refusal::User));
    assert_eq!(refused("mini-err-c17-wrong-user", "password", b""), (Stage::User, Refusal::User));
    assert_eq!(refused("mini-err-c17-wrong-password", "not the password", b""), (Stage::User, Refusal::Password));
    assert_eq!(refused("err-wrong-password", "not the password", b""), (Stage::User, Refusal::Password));
}

#[test]
fn a_missing_bmc_key_shows_at_the_last_message_only() {
    assert_eq!(refused("lanplus-c3-kg-missing", "password", b""), (Stage::Keys, Refusal::BmcKey));
}

#[derive(Deserialize)]
struct Malformed {
    what: String,
    hex: String,
    to: String,
}

fn malformed() -> Vec<Malformed> {
    serde_json::from_str(&data("malformed.json")).unwrap()
}

/// A handshake at each of its stages, and a session, all with the ids that the hostile packets use.
fn waiting(stage: Stage) -> Handshake {
    let suite = CipherSuite::by_id(3).unwrap();
    let login = login("admin", "password", &[], 0x14);
    let mut h = Handshake::new(suite, &login, 0xa0a2_a3a4, [0; 16], 0).unwrap();
    h.packet();
    if stage == Stage::Open {
        return h;
    }
    let open = unhex("0600ff0706110000000000000000240000000400a4a3a2a001000002000000080100000001000008010000000200000801000000");
    assert!(matches!(h.receive(&open), Step::Next));
    h.packet();
    if stage == Stage::User {
        return h;
    }
    let key = crypto::padded_key(b"password").unwrap();
    let code = suite
        .authentication
        .hash(&*key, &[&0xa0a2_a3a4u32.to_le_bytes(), &0x0200_0001u32.to_le_bytes(), &[0; 16], &[7; 16], &[9; 16], &[0x14, 5], b"admin"]);
    let mut payload = vec![0, 0, 0, 0];
    payload.extend(0xa0a2_a3a4u32.to_le_bytes());
    payload.extend([7; 16]);
    payload.extend([9; 16]);
    payload.extend(code);
    let rakp2 = codec::plus_packet(PayloadType::Rakp2, false, false, 0, 0, &payload);
    assert!(matches!(h.receive(&rakp2), Step::Next));
    h.packet();
    h
}

#[test]
fn hostile_packets_neither_panic_nor_open_a_session() {
    let packets = malformed();
    assert!(packets.len() >= 34);
    for m in &packets {
        let raw = unhex(&m.hex);
        for stage in [Stage::Open, Stage::User, Stage::Keys] {
            let mut h = waiting(stage);
            assert!(!matches!(h.receive(&raw), Step::Established(_) | Step::Next), "{stage:?}: {}", m.what);
        }
        let suite = CipherSuite::by_id(3).unwrap();
        let mut s = Session::new(suite, SessionKeys::derive(suite.authentication, &[5; 20]), 0xa0a2_a3a4, 0x0200_0001);
        if let Ok(Packet::Plus(p)) = codec::parse(&raw) {
            assert!(s.open(&p).is_err(), "{}", m.what);
            let _ = Response::decode(p.payload);
        }
    }
}

#[test]
fn hostile_packets_for_clients_end_as_they_should() {
    let step = |what: &str, stage| {
        let all = malformed();
        let m = all.iter().find(|m| m.to == "client" && m.what.contains(what)).unwrap();
        waiting(stage).receive(&unhex(&m.hex))
    };
    let refusal = |what: &str, stage| match step(what, stage) {
        Step::Refused(r, _) => r,
        _ => panic!("{what}: not refused"),
    };
    assert!(matches!(refusal("success but only 8 bytes", Stage::Open), Refusal::Malformed(_)));
    assert!(matches!(refusal("weaker suite", Stage::Open), Refusal::OtherSuite { chosen: [0, 0, 0], .. }));
    assert!(matches!(step("another message tag", Stage::Open), Step::Ignored));
    assert!(matches!(refusal("without the authentication code", Stage::User), Refusal::Malformed(_)));
    assert!(matches!(refusal("16-byte code where 20", Stage::User), Refusal::Malformed(_)));
    assert_eq!(refusal("status 0Dh", Stage::User), Refusal::User);
    assert!(matches!(refusal("empty check value", Stage::Keys), Refusal::Malformed(_)));
}

#[test]
fn names_and_keys_that_the_protocol_cannot_carry_are_refused_before_anything_is_sent() {
    let suite = CipherSuite::by_id(17).unwrap();
    let new = |user: &str, password: &str, kg: &[u8]| Handshake::new(suite, &login(user, password, kg, 0x14), 1, [0; 16], 0).is_some();
    assert!(new(&"u".repeat(16), &"p".repeat(20), &[1; 20]));
    assert!(!new(&"u".repeat(17), "p", &[]));
    assert!(!new("u", &"p".repeat(21), &[]));
    assert!(!new("u", "p", &[1; 21]));
}

proptest::proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let mut framed = codec::RMCP_HEADER.to_vec();
        framed.extend(&raw);
        for d in [&raw, &framed] {
            for stage in [Stage::Open, Stage::User, Stage::Keys] {
                let _ = waiting(stage).receive(d);
            }
            if let Ok(Packet::Plus(p)) = codec::parse(d) {
                for id in [0, 3, 17] {
                    let suite = CipherSuite::by_id(id).unwrap();
                    let mut s = Session::new(suite, SessionKeys::derive(suite.authentication, &[5; 20]), p.session_id, 1);
                    let _ = s.open(&p);
                }
            }
            let _ = Response::decode(d);
            let _ = crypto::decrypt(&[3; 16], d);
        }
    }

    #[test]
    fn what_is_sealed_opens_again(plain in proptest::collection::vec(proptest::num::u8::ANY, 0..80), iv in proptest::array::uniform16(proptest::num::u8::ANY)) {
        for suite in SUITES {
            let keys = || SessionKeys::derive(suite.authentication, &[9; 32]);
            let packet = session::seal(*suite, &keys(), PayloadType::Ipmi, 1, 7, &plain, &iv);
            let mut s = Session::new(*suite, keys(), 7, 8);
            proptest::prop_assert_eq!(&s.open(&plus(&packet)).unwrap().payload, &plain);
        }
    }
}
