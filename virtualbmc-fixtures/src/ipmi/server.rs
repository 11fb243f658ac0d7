//! Sessions of a simulated BMC: log-in, protection, sequence numbers, and the loop that serves a socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::commands::Management;
use super::wire::{self, Command, Datagram, Incoming, Keys};
use super::{Fault, SeenCommand, Shared};

/// Half-open log-ins are dropped after this time.
const HALF_OPEN: Duration = Duration::from_secs(10);

enum Phase {
    Opened,
    Named { rm: Vec<u8>, rc: [u8; 16], role: u8, user: Vec<u8> },
    Active(Keys),
}

pub(super) struct Session {
    console: u32,
    suite: u8,
    algorithms: (u8, u8, u8),
    phase: Phase,
    max_level: u8,
    level: u8,
    next_out: u32,
    highest_in: u32,
    seen_in: u64,
    touched: Instant,
}

pub(super) struct Server {
    pub(super) sessions: HashMap<u32, Session>,
    pub(super) management: Management,
    pub(super) logins: u64,
    pub(super) last_suite: Option<u8>,
    pub(super) seen: Vec<SeenCommand>,
}

/// A packet to send, when to send it, and when to send it again.
struct Outgoing {
    packet: Vec<u8>,
    after: Duration,
    again: Option<Duration>,
}

impl Outgoing {
    fn now(packet: Vec<u8>) -> Self {
        Self { packet, after: Duration::ZERO, again: None }
    }
}

pub(super) async fn serve(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buf = [0; 4096];
    loop {
        let Ok((n, peer)) = socket.recv_from(&mut buf).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if shared.faults.silent() {
            continue;
        }
        let Some(out) = handle(&shared, &buf[..n]) else {
            continue;
        };
        let after = out.after + shared.faults.delay();
        if after.is_zero() {
            let _ = socket.send_to(&out.packet, peer).await;
        } else {
            later(&socket, out.packet.clone(), peer, after);
        }
        if let Some(d) = out.again {
            later(&socket, out.packet, peer, after + d);
        }
    }
}

fn later(socket: &Arc<UdpSocket>, packet: Vec<u8>, peer: SocketAddr, after: Duration) {
    let socket = socket.clone();
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let _ = socket.send_to(&packet, peer).await;
    });
}

fn handle(shared: &Shared, datagram: &[u8]) -> Option<Outgoing> {
    match wire::read(datagram)? {
        Datagram::Ping(tag) => Some(Outgoing::now(pong(tag))),
        Datagram::Lan15(message) => sessionless(shared, message).map(Outgoing::now),
        Datagram::Plus(p) => match p.kind {
            0 if p.sid == 0 => None,
            0 => shared.server().in_session(shared, &p),
            0x10 | 0x12 | 0x14 => {
                let answer = {
                    let mut s = shared.server();
                    s.expire(shared.config.session_timeout);
                    match p.kind {
                        0x10 => s.open(shared, p.payload)?,
                        0x12 => s.rakp1(shared, p.payload)?,
                        _ => s.rakp3(shared, p.payload)?,
                    }
                };
                if shared.faults.take_login_drop(p.kind) {
                    return None;
                }
                Some(Outgoing::now(wire::unprotected(p.kind + 1, &answer)))
            }
            _ => None,
        },
    }
}

fn pong(tag: u8) -> Vec<u8> {
    let mut p = vec![6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x40, tag, 0, 16];
    p.extend([0, 0, 0x11, 0xbe, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    p
}

/// The two commands that are answered outside of a session.
fn sessionless(shared: &Shared, message: &[u8]) -> Option<Vec<u8>> {
    let c = Command::read(message)?;
    let kg = if shared.config.kg.is_some() { 0x20 } else { 0 };
    let answer = match (c.netfn, c.cmd) {
        // channel 1, no 1.5 authentication, IPMI 2.0 data; non-null users; IPMI 2.0 only
        (6, 0x38) if c.data.len() == 2 => c.answer(0, &[1, 0x80, 0x04 | kg, 2, 0, 0, 0, 0]),
        (6, 0x54) if c.data.len() == 3 => c.answer(0, &super::commands::cipher_suites(&shared.config, c.data[2])),
        _ => c.answer(0xd4, &[]),
    };
    Some(wire::lan15(&answer))
}

impl Server {
    pub(super) fn new(management: Management) -> Self {
        Self { sessions: HashMap::new(), management, logins: 0, last_suite: None, seen: Vec::new() }
    }

    pub(super) fn active_sessions(&self) -> usize {
        self.sessions.values().filter(|s| matches!(s.phase, Phase::Active(_))).count()
    }

    fn expire(&mut self, timeout: Duration) {
        self.sessions.retain(|_, s| {
            let limit = match s.phase {
                Phase::Active(_) => timeout,
                _ => HALF_OPEN,
            };
            s.touched.elapsed() < limit
        });
    }

    fn open(&mut self, shared: &Shared, p: &[u8]) -> Option<Vec<u8>> {
        let tag = *p.first()?;
        let console = wire::le32(p.get(4..)?)?;
        let fail = |status: u8| {
            let mut a = vec![tag, status];
            if !shared.config.short_refusals {
                a.extend([0, 0]);
                a.extend(console.to_le_bytes());
            }
            Some(a)
        };
        if shared.faults.take_no_session() || self.sessions.len() >= shared.config.max_sessions {
            return fail(0x01);
        }
        if p.len() != 32 || console == 0 {
            return fail(0x12);
        }
        for (i, record) in p[8..].chunks_exact(8).enumerate() {
            if usize::from(record[0]) != i || record[3] != 8 {
                return fail(0x12);
            }
        }
        let wanted = (p[12], p[20], p[28]);
        let suite = shared.config.suites.iter().copied().find(|s| wire::algorithms_of(*s) == Some(wanted));
        let Some(suite) = suite else {
            return fail(0x11);
        };
        let mut bmc: u32 = rand::random();
        while bmc == 0 || self.sessions.contains_key(&bmc) {
            bmc = rand::random();
        }
        self.sessions.insert(
            bmc,
            Session {
                console,
                suite,
                algorithms: wanted,
                phase: Phase::Opened,
                max_level: 0,
                level: 0,
                next_out: 1,
                highest_in: 0,
                seen_in: 1,
                touched: Instant::now(),
            },
        );
        let mut a = vec![tag, 0, 4, 0];
        a.extend(console.to_le_bytes());
        a.extend(bmc.to_le_bytes());
        for (kind, algorithm) in [(0, wanted.0), (1, wanted.1), (2, wanted.2)] {
            a.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        Some(a)
    }

    fn rakp1(&mut self, shared: &Shared, p: &[u8]) -> Option<Vec<u8>> {
        let tag = *p.first()?;
        let bmc = wire::le32(p.get(4..)?)?;
        let Some(session) = self.sessions.get_mut(&bmc) else {
            return Some(vec![tag, 2, 0, 0, 0, 0, 0, 0]);
        };
        let console = session.console.to_le_bytes();
        let fail = |status: u8| {
            let mut a = vec![tag, status, 0, 0];
            a.extend(console);
            Some(a)
        };
        if matches!(session.phase, Phase::Active(_)) {
            return fail(0x02);
        }
        let (Some(rm), Some(&role), Some(&len)) = (p.get(8..24), p.get(24), p.get(27)) else {
            return fail(0x12);
        };
        let user = p.get(28..).unwrap_or_default();
        if len > 16 || usize::from(len) != user.len() {
            return fail(0x0c);
        }
        if user != shared.config.user.as_bytes() {
            if shared.config.silent_to_unknown_users {
                return None;
            }
            self.sessions.remove(&bmc);
            return fail(0x0d);
        }
        let wanted = role & 0x0f;
        if wanted > shared.config.user_level && shared.config.refuse_level_early {
            self.sessions.remove(&bmc);
            return fail(0x0a);
        }
        session.max_level = wanted.min(shared.config.user_level);
        session.level = session.max_level.min(2);
        session.touched = Instant::now();
        let rc: [u8; 16] = rand::random();
        let mut text = console.to_vec();
        text.extend(bmc.to_le_bytes());
        text.extend(rm);
        text.extend(rc);
        text.extend(shared.config.guid);
        text.extend([role, len]);
        text.extend(user);
        let code = wire::keyed(session.algorithms.0, &wire::twenty(shared.config.password.as_bytes()), &text);
        session.phase = Phase::Named { rm: rm.to_vec(), rc, role, user: user.to_vec() };
        let mut a = vec![tag, 0, 0, 0];
        a.extend(console);
        a.extend(rc);
        a.extend(shared.config.guid);
        a.extend(code);
        Some(a)
    }

    fn rakp3(&mut self, shared: &Shared, p: &[u8]) -> Option<Vec<u8>> {
        let (tag, status) = (*p.first()?, *p.get(1)?);
        let bmc = wire::le32(p.get(4..)?)?;
        let Some(session) = self.sessions.get_mut(&bmc) else {
            return Some(vec![tag, 2, 0, 0, 0, 0, 0, 0]);
        };
        let console = session.console.to_le_bytes();
        let mut a = vec![tag, 0, 0, 0];
        a.extend(console);
        let Phase::Named { rm, rc, role, user } = &session.phase else {
            a[1] = 2;
            return Some(a);
        };
        if status != 0 {
            self.sessions.remove(&bmc);
            return None;
        }
        let auth = session.algorithms.0;
        let kuid = wire::twenty(shared.config.password.as_bytes());
        let mut name = vec![*role, user.len() as u8];
        name.extend(user);
        let expected = wire::keyed(auth, &kuid, &[&rc[..], &console, &name].concat());
        if p.get(8..) != Some(&expected[..]) {
            self.sessions.remove(&bmc);
            a[1] = 0x0f;
            return Some(a);
        }
        let kg = shared.config.kg.as_deref().map_or(kuid, wire::twenty);
        let sik = wire::keyed(auth, &kg, &[&rm[..], &rc[..], &name].concat());
        let check = wire::keyed(auth, &sik, &[&rm[..], &bmc.to_le_bytes(), &shared.config.guid].concat());
        a.extend(&check[..wire::rakp4_len(auth)]);
        session.phase = Phase::Active(Keys::new(session.algorithms, &sik));
        session.touched = Instant::now();
        self.logins += 1;
        self.last_suite = Some(session.suite);
        Some(a)
    }

    fn in_session(&mut self, shared: &Shared, p: &Incoming<'_>) -> Option<Outgoing> {
        self.expire(shared.config.session_timeout);
        let session = self.sessions.get_mut(&p.sid)?;
        let Phase::Active(keys) = &session.phase else {
            return None;
        };
        let keys = keys.clone();
        let plain = keys.admit(p)?;
        if !fresh(&mut session.highest_in, &mut session.seen_in, p.seq) {
            return None;
        }
        session.touched = Instant::now();
        let command = Command::read(&plain)?;
        let fault = shared.faults.take(command.netfn, command.cmd);
        if fault == Some(Fault::DropRequest) {
            return None;
        }
        self.seen.push(SeenCommand {
            netfn: command.netfn,
            cmd: command.cmd,
            data: command.data.clone(),
            sequence: p.seq,
            rq_seq: command.rq_seq(),
        });
        let (code, data) = match fault {
            Some(Fault::Completion(c)) => (c, vec![]),
            Some(Fault::Lie) => (0, vec![]),
            Some(Fault::DoneBut(code)) => {
                self.run(shared, p.sid, &command);
                (code, vec![])
            }
            _ => self.run(shared, p.sid, &command),
        };
        let data = if fault == Some(Fault::CutReply) { vec![] } else { data };
        // Close Session removes it; its answer still goes out under its keys.
        let (console, seq) = match self.sessions.get_mut(&p.sid) {
            Some(s) => {
                let seq = s.next_out;
                s.next_out += 1;
                (s.console, seq)
            }
            None => self.management.closed.take()?,
        };
        let console = if fault == Some(Fault::WrongSession) { console ^ 0x55aa_55aa } else { console };
        let mut packet = keys.protect(0, console, seq, &command.answer(code, &data));
        let (mut after, mut again) = (Duration::ZERO, None);
        match fault {
            Some(Fault::DropReply) => return None,
            Some(Fault::Late(d)) => after = d,
            Some(Fault::Duplicate(d)) => again = Some(d),
            Some(Fault::BadCode) => {
                if let Some(last) = packet.last_mut() {
                    *last ^= 1;
                }
            }
            _ => {}
        }
        Some(Outgoing { packet, after, again })
    }

    /// Session commands; everything else goes to [`Management`].
    fn run(&mut self, shared: &Shared, sid: u32, c: &Command) -> (u8, Vec<u8>) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return (0xff, vec![]);
        };
        match (c.netfn, c.cmd, &c.data[..]) {
            (6, 0x3b, [level]) => match level & 0x0f {
                0 => (0, vec![session.level]),
                1 => (0x80, vec![]),
                l if l > session.max_level => (0x81, vec![]),
                l => {
                    session.level = l;
                    (0, vec![l])
                }
            },
            (6, 0x3c, [a, b, c, d, ..]) => {
                let other = u32::from_le_bytes([*a, *b, *c, *d]);
                let seq = session.next_out;
                let console = session.console;
                if self.sessions.remove(&other).is_none() {
                    return (0x87, vec![]);
                }
                if other == sid {
                    self.management.closed = Some((console, seq));
                }
                (0, vec![])
            }
            (6, 0x3b | 0x3c, _) => (0xc7, vec![]),
            _ => {
                let level = session.level;
                self.management.run(&shared.config, &shared.machine, level, c)
            }
        }
    }
}

/// Sequence window of 32: each number once, none far behind.
fn fresh(highest: &mut u32, seen: &mut u64, n: u32) -> bool {
    if n > *highest {
        *seen = seen.checked_shl(n - *highest).unwrap_or(0) | 1;
        *highest = n;
        return true;
    }
    let behind = *highest - n;
    if behind > 31 || *seen >> behind & 1 == 1 {
        return false;
    }
    *seen |= 1 << behind;
    true
}
