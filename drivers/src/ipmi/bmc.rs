//! The conversation with one BMC: log-in, one command at a time, retries, idle sessions.
//!
//! Every try of a command has a session sequence number and a request sequence number of its own, and a request
//! sequence number that stayed unanswered is not used again for [`QUARANTINE`]: a late answer to an earlier try can
//! only ever be taken for the answer to the same command. All state changes are made so that a caller may drop
//! its future at any await.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::{IpmiEndpoint, Timing};
use super::codec::{self, Packet, PayloadType, Request, Response};
use super::crypto::CipherSuite;
use super::error::{CredentialFault, Doing, IpmiError, is_busy};
use super::sdr::{SensorRecord, Stamp};
use super::session::{Handshake, Login, Privilege, Refusal, Session, Stage, Step};
use super::transport::{Line, Transport};

/// A request sequence number without an answer is left alone for this long.
const QUARANTINE: Duration = Duration::from_secs(60);
/// A session that answered this recently is taken to be alive.
const FRESH: Duration = Duration::from_secs(2);
/// What is known of a BMC (cipher suite, sensor records) is kept this long after its last use.
const FORGET: Duration = Duration::from_secs(24 * 3600);
/// Log-ins tried anew within one call when the answers of a log-in do not fit together (lost and repeated packets).
const LOGIN_TRIES: u32 = 2;

const NETFN_APP: u8 = 0x06;
const CMD_DEVICE_ID: u8 = 0x01;
const CMD_AUTH_CAPABILITIES: u8 = 0x38;
const CMD_SET_PRIVILEGE: u8 = 0x3b;
const CMD_CLOSE_SESSION: u8 = 0x3c;

/// Whether a command may be sent again when its answer is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Carrying it out twice is the same as once.
    Yes,
    /// Carrying it out twice would do harm (power cycle): sent once, over a session just seen alive.
    Never,
}

/// Request sequence numbers: 6 bits, handed out in turn.
struct RequestNumbers {
    next: u8,
    unanswered: [Option<Instant>; 64],
}

impl RequestNumbers {
    const fn new() -> Self {
        Self { next: 0, unanswered: [None; 64] }
    }

    /// The next number that has no unanswered try behind it (or, if all have, simply the next). Counts as unanswered from now on.
    fn take(&mut self, now: Instant) -> u8 {
        let mut n = self.next;
        for _ in 0..64 {
            let slot = self.unanswered.get(usize::from(n)).copied().flatten();
            if slot.is_none_or(|since| now.duration_since(since) >= QUARANTINE) {
                break;
            }
            n = (n + 1) % 64;
        }
        self.next = (n + 1) % 64;
        if let Some(slot) = self.unanswered.get_mut(usize::from(n)) {
            *slot = Some(now);
        }
        n
    }

    fn answered(&mut self, n: u8) {
        if let Some(slot) = self.unanswered.get_mut(usize::from(n)) {
            *slot = None;
        }
    }
}

/// A session in use, with the line it lives on.
struct Live {
    session: Session,
    line: Line,
    login: Login,
    numbers: RequestNumbers,
    /// Last time a command was answered.
    heard: Instant,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Suite of the last log-in that worked, tried first next time.
    suite: Option<u8>,
    /// When the last command was sent, for the rate limit.
    last_sent: Option<Instant>,
}

/// One BMC.
pub(super) struct Bmc {
    host: String,
    port: u16,
    state: Mutex<State>,
    /// Sensor records with the state of the repository that they were read from.
    sensors: std::sync::Mutex<Option<(Stamp, Arc<Vec<SensorRecord>>)>>,
}

/// One call: who asks, and until when.
struct Call<'a> {
    transport: &'a Transport,
    endpoint: &'a IpmiEndpoint,
    timing: &'a Timing,
    started: Instant,
    deadline: Instant,
}

impl Call<'_> {
    fn unreachable(&self, doing: Doing) -> IpmiError {
        IpmiError::Unreachable { host: self.endpoint.host.clone(), doing, waited: self.started.elapsed() }
    }

    fn socket(&self, source: std::io::Error) -> IpmiError {
        IpmiError::Socket { host: self.endpoint.host.clone(), source }
    }

    /// Time for try `n` (0 first) to be answered: doubling, capped, never past the deadline.
    fn patience(&self, n: u32) -> Instant {
        let wait = self.timing.first_wait.saturating_mul(1 << n.min(16)).min(self.timing.longest_wait);
        (Instant::now() + wait).min(self.deadline)
    }

    fn expired(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl Bmc {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, state: Mutex::new(State::default()), sensors: std::sync::Mutex::default() }
    }

    pub(super) fn known_sensors(&self, stamp: Stamp) -> Option<Arc<Vec<SensorRecord>>> {
        let known = self.sensors.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(s, _)| *s == stamp).map(|(_, r)| r.clone())
    }

    pub(super) fn remember_sensors(&self, stamp: Stamp, records: Arc<Vec<SensorRecord>>) {
        *self.sensors.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, records));
    }

    /// Sends a command and gives its answer, whatever the completion code (busy codes are waited out first).
    pub(super) async fn execute(
        &self,
        transport: &Transport,
        endpoint: &IpmiEndpoint,
        timing: &Timing,
        request: &Request,
        resend: Resend,
    ) -> Result<Response, IpmiError> {
        let started = Instant::now();
        let call = Call { transport, endpoint, timing, started, deadline: started + endpoint.timeout };
        let mut state = timeout_at(call.deadline, self.state.lock()).await.map_err(|_| call.unreachable(Doing::Queue))?;
        let mut busy = 0;
        loop {
            let response = self.answered(&call, &mut state, request, resend).await?;
            if !is_busy(response.completion) || call.expired() {
                return Ok(response);
            }
            let until = call.patience(busy);
            busy += 1;
            if until >= call.deadline {
                return Ok(response);
            }
            sleep_until(until).await;
        }
    }

    /// One command until it is answered; opens the session anew when the BMC has forgotten it.
    async fn answered(&self, call: &Call<'_>, state: &mut State, request: &Request, resend: Resend) -> Result<Response, IpmiError> {
        if state.live.as_ref().is_some_and(|l| l.login != call.endpoint.login()) {
            // Other credentials: never go on under the old ones.
            self.log_out(state, call.timing).await;
        }
        let mut reopened = false;
        loop {
            let fresh_session = state.live.is_none();
            self.ensure_session(call, state).await?;
            if resend == Resend::Never {
                self.prove_alive(call, state).await?;
            }
            let tries = match resend {
                Resend::Never => 1,
                // A reused session may be gone: find out early by opening a new one.
                Resend::Yes if !fresh_session => call.timing.tries.min(2),
                Resend::Yes => call.timing.tries,
            };
            if let Some(r) = self.exchange(call, state, request, tries).await? {
                return Ok(r);
            }
            state.live = None;
            if resend == Resend::Never {
                return Err(IpmiError::OutcomeUnknown { host: self.host.clone(), netfn: request.netfn, cmd: request.cmd });
            }
            // A session just opened that answers nothing will not do so a second time.
            if reopened || fresh_session || call.expired() {
                return Err(call.unreachable(Doing::Command));
            }
            reopened = true;
        }
    }

    /// Makes sure that a session which was idle for a while still stands, before a command that is sent only once.
    async fn prove_alive(&self, call: &Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        let idle = state.live.as_ref().map(|l| l.heard.elapsed());
        if idle.is_some_and(|t| t <= FRESH) {
            return Ok(());
        }
        let probe = Request::new(NETFN_APP, CMD_DEVICE_ID, &[]);
        if self.exchange(call, state, &probe, 2).await?.is_some() {
            return Ok(());
        }
        state.live = None;
        self.ensure_session(call, state).await
    }

    async fn rate_limit(&self, call: &Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        if let Some(last) = state.last_sent {
            let at = last + call.endpoint.min_command_interval;
            if at > call.deadline {
                return Err(call.unreachable(Doing::Queue));
            }
            sleep_until(at).await;
        }
        state.last_sent = Some(Instant::now());
        Ok(())
    }

    /// Sends a command over the standing session up to `tries` times. `None`: never answered.
    async fn exchange(&self, call: &Call<'_>, state: &mut State, request: &Request, tries: u32) -> Result<Option<Response>, IpmiError> {
        let mut numbers = Vec::new();
        for n in 0..tries {
            if call.expired() {
                break;
            }
            self.rate_limit(call, state).await?;
            let Some(live) = state.live.as_mut() else {
                return Ok(None);
            };
            let number = live.numbers.take(Instant::now());
            numbers.push(number);
            let iv: [u8; 16] = rand::rng().random();
            let packet = live.session.seal(PayloadType::Ipmi, &request.message(number), &iv);
            live.line.send(&packet).await.map_err(|e| call.socket(e))?;
            let until = call.patience(n);
            while let Some(datagram) = live.line.receive(until).await {
                let Ok(Packet::Plus(p)) = codec::parse(&datagram) else {
                    continue;
                };
                let received = match live.session.open(&p) {
                    Ok(r) if r.payload_type == PayloadType::Ipmi => r,
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::debug!(host = %self.host, %error, "dropped a packet");
                        continue;
                    }
                };
                let Ok(response) = Response::decode(&received.payload) else {
                    continue;
                };
                live.heard = Instant::now();
                // An answer to an earlier try of this same command is as good as one to the last.
                if numbers.iter().any(|n| response.answers(request, *n)) {
                    live.numbers.answered(response.rq_seq);
                    return Ok(Some(response));
                }
            }
        }
        Ok(None)
    }

    /// Sends a command outside of a session. `None`: never answered.
    async fn sessionless(&self, call: &Call<'_>, line: &mut Line, variants: &[Request], tries: u32) -> Result<Option<Response>, IpmiError> {
        let first: u8 = rand::rng().random_range(0..64);
        let mut sent = Vec::new();
        for n in 0..tries {
            if call.expired() {
                break;
            }
            let variant = usize::try_from(n / 2).unwrap_or(usize::MAX).min(variants.len().saturating_sub(1));
            let Some(request) = variants.get(variant) else {
                return Ok(None);
            };
            let number = (first + (n % 64) as u8) % 64;
            sent.push((request, number));
            line.send(&codec::sessionless_packet(&request.message(number))).await.map_err(|e| call.socket(e))?;
            let until = call.patience(n);
            while let Some(datagram) = line.receive(until).await {
                let message = match codec::parse(&datagram) {
                    Ok(Packet::Sessionless(m)) => m,
                    // Some BMCs answer in the new format.
                    Ok(Packet::Plus(p)) if p.session_id == 0 && p.payload_type == PayloadType::Ipmi => p.payload,
                    _ => continue,
                };
                let Ok(response) = Response::decode(message) else {
                    continue;
                };
                if sent.iter().any(|(r, n)| response.answers(r, *n)) {
                    return Ok(Some(response));
                }
            }
        }
        Ok(None)
    }

    async fn ensure_session(&self, call: &Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        if state.live.is_some() {
            return Ok(());
        }
        let peer = self.resolve(call).await?;
        let mut line = call.transport.line(peer).await.map_err(|e| call.socket(e))?;
        let mut full = 0;
        loop {
            self.contact(call, &mut line).await?;
            match self.log_in(call, state, &mut line).await {
                Err(IpmiError::NoSession { .. }) if !call.expired() => {
                    let until = call.patience(full + 2);
                    full += 1;
                    sleep_until(until).await;
                    if call.expired() {
                        return Err(IpmiError::NoSession { host: self.host.clone() });
                    }
                }
                Err(e) => return Err(e),
                Ok(session) => {
                    state.suite = Some(session.suite().id);
                    state.live =
                        Some(Live { session, line, login: call.endpoint.login(), numbers: RequestNumbers::new(), heard: Instant::now() });
                    break;
                }
            }
        }
        let raised = self.raise_privilege(call, state).await;
        if raised.is_err() {
            self.log_out(state, call.timing).await;
        }
        raised
    }

    async fn resolve(&self, call: &Call<'_>) -> Result<std::net::SocketAddr, IpmiError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let lookup = timeout_at(call.deadline, tokio::net::lookup_host((host, self.port)));
        let failed = |source| IpmiError::Resolve { host: self.host.clone(), source };
        match lookup.await {
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
            Ok(Err(e)) => Err(failed(e)),
            Ok(Ok(mut addresses)) => addresses.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into())),
        }
    }

    /// Get Channel Authentication Capabilities (22.13): says that the BMC is there, and makes servers that tell sessions by source port
    /// forget the last one.
    async fn contact(&self, call: &Call<'_>, line: &mut Line) -> Result<(), IpmiError> {
        line.set_session(None);
        let level = call.endpoint.privilege as u8;
        let variants = [
            // channel 0Eh: this one; bit 7: tell about IPMI 2.0. Very old BMCs do not answer when the bit is set.
            Request::new(NETFN_APP, CMD_AUTH_CAPABILITIES, &[0x8e, level]),
            Request::new(NETFN_APP, CMD_AUTH_CAPABILITIES, &[0x0e, level]),
        ];
        let answer = self.sessionless(call, line, &variants, call.timing.tries).await?.ok_or_else(|| call.unreachable(Doing::Contact))?;
        // Byte 2 bit 7: extended data present; byte 4 bit 1: IPMI 2.0. A BMC that refuses the question may still speak it.
        if let [_, kinds, _, versions, ..] = answer.data[..]
            && answer.completion == 0
            && kinds & 0x80 != 0
            && versions & 0x02 == 0
        {
            return Err(IpmiError::NoRmcpPlus { host: self.host.clone() });
        }
        Ok(())
    }

    async fn log_in(&self, call: &Call<'_>, state: &State, line: &mut Line) -> Result<Session, IpmiError> {
        let mut order = call.endpoint.cipher_suites.clone();
        if let Some(good) = state.suite
            && let Some(at) = order.iter().position(|s| *s == good)
        {
            order.remove(at);
            order.insert(0, good);
        }
        let mut tried = Vec::new();
        let mut silent = false;
        for (i, id) in order.iter().enumerate() {
            let Some(suite) = CipherSuite::by_id(*id) else {
                continue;
            };
            tried.push(*id);
            let last = i + 1 == order.len();
            let mut again = 0;
            loop {
                match self.handshake(call, line, suite, last).await {
                    Ok(session) => return Ok(session),
                    Err(Ended::Refused(Refusal::Suite { .. } | Refusal::OtherSuite { .. })) => {
                        tracing::debug!(host = %self.host, suite = id, "BMC does not speak this cipher suite");
                        break;
                    }
                    Err(Ended::Silent(Stage::Open)) if !last => {
                        silent = true;
                        break;
                    }
                    // Keys that do not fit may come from a repeated packet; a wrong password shows again at once.
                    Err(Ended::Refused(Refusal::Status(_) | Refusal::Malformed(_) | Refusal::Password))
                        if again + 1 < LOGIN_TRIES && self.repeated(call) =>
                    {
                        again += 1
                    }
                    Err(e) => return Err(self.login_error(call, e)),
                }
            }
        }
        if silent && tried.len() > 1 {
            tracing::debug!(host = %self.host, "BMC left some open session requests unanswered");
        }
        Err(IpmiError::NoCipherSuite { host: self.host.clone(), tried })
    }

    fn repeated(&self, call: &Call<'_>) -> bool {
        !call.expired() && call.started.elapsed() >= call.timing.first_wait
    }

    fn login_error(&self, call: &Call<'_>, ended: Ended) -> IpmiError {
        let host = self.host.clone();
        let credentials = |why, remedy| IpmiError::Credentials { host: self.host.clone(), why, remedy };
        match ended {
            Ended::Socket(e) => call.socket(e),
            Ended::Silent(Stage::Open) => call.unreachable(Doing::OpenSession),
            Ended::Silent(Stage::User) => {
                credentials(CredentialFault::UserSilence, "ipmi_username")
            }
            Ended::Silent(Stage::Keys) => call.unreachable(Doing::Keys),
            Ended::TooLong => IpmiError::Argument {
                what: "a user name has at most 16 bytes, a password and a BMC key at most 20; shorten ipmi_username, ipmi_password or ipmi_hex_kg_key".into(),
            },
            Ended::Refused(r) => match r {
                Refusal::User => credentials(CredentialFault::User, "ipmi_username"),
                Refusal::Password => credentials(CredentialFault::Password, "ipmi_password"),
                Refusal::BmcKey => credentials(CredentialFault::BmcKey, "ipmi_hex_kg_key"),
                Refusal::Privilege => IpmiError::Privilege { host, level: call.endpoint.privilege },
                Refusal::NoResources => IpmiError::NoSession { host },
                refusal => IpmiError::LogIn { host, refusal },
            },
        }
    }

    async fn handshake(&self, call: &Call<'_>, line: &mut Line, suite: CipherSuite, last: bool) -> Result<Session, Ended> {
        let (sid, random, tag) = {
            let mut rng = rand::rng();
            (rng.random_range(1..=u32::MAX), rng.random(), rng.random())
        };
        let mut shake = Handshake::new(suite, &call.endpoint.login(), sid, random, tag).ok_or(Ended::TooLong)?;
        line.set_session(Some(sid));
        loop {
            let stage = shake.stage();
            let tries = match stage {
                Stage::Open if !last => call.timing.tries.min(2),
                _ => call.timing.tries,
            };
            match self.step(call, line, &mut shake, tries).await? {
                Step::Next => {}
                Step::Established(session) => return Ok(*session),
                Step::Refused(refusal, farewell) => {
                    if let Some(packet) = farewell {
                        line.send(&packet).await.map_err(Ended::Socket)?;
                    }
                    return Err(Ended::Refused(refusal));
                }
                Step::Ignored => return Err(Ended::Silent(stage)),
            }
        }
    }

    /// One step of a log-in; [`Step::Ignored`] when it was never answered.
    async fn step(&self, call: &Call<'_>, line: &mut Line, shake: &mut Handshake, tries: u32) -> Result<Step, Ended> {
        for n in 0..tries {
            if call.expired() {
                break;
            }
            line.send(&shake.packet()).await.map_err(Ended::Socket)?;
            let until = call.patience(n);
            while let Some(datagram) = line.receive(until).await {
                match shake.receive(&datagram) {
                    Step::Ignored => {}
                    step => return Ok(step),
                }
            }
        }
        Ok(Step::Ignored)
    }

    /// Set Session Privilege Level (22.18): sessions start as USER.
    async fn raise_privilege(&self, call: &Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        let level = call.endpoint.privilege;
        if level <= Privilege::User {
            return Ok(());
        }
        let request = Request::new(NETFN_APP, CMD_SET_PRIVILEGE, &[level as u8]);
        let response =
            self.exchange(call, state, &request, call.timing.tries).await?.ok_or_else(|| call.unreachable(Doing::OpenSession))?;
        match response.completion {
            0 => Ok(()),
            0x80 | 0x81 | 0xd4 => Err(IpmiError::Privilege { host: self.host.clone(), level }),
            code => Err(IpmiError::Completion { host: self.host.clone(), netfn: NETFN_APP, cmd: CMD_SET_PRIVILEGE, code }),
        }
    }

    /// Close Session (22.19), one try: the BMC drops the session by itself otherwise.
    async fn log_out(&self, state: &mut State, timing: &Timing) {
        let Some(mut live) = state.live.take() else {
            return;
        };
        let request = Request::new(NETFN_APP, CMD_CLOSE_SESSION, &live.session.bmc_sid().to_le_bytes());
        let number = live.numbers.take(Instant::now());
        let iv: [u8; 16] = rand::rng().random();
        let packet = live.session.seal(PayloadType::Ipmi, &request.message(number), &iv);
        if live.line.send(&packet).await.is_ok() {
            // Waiting for the answer keeps the next log-in from overtaking the end of this session.
            let until = Instant::now() + timing.first_wait;
            while let Some(datagram) = live.line.receive(until).await {
                if let Ok(Packet::Plus(p)) = codec::parse(&datagram)
                    && let Ok(r) = live.session.open(&p)
                    && Response::decode(&r.payload).is_ok_and(|r| r.answers(&request, number))
                {
                    break;
                }
            }
        }
    }

    /// Ends the session if it has not been used for `idle` and nobody uses it now. Tells whether the BMC may be forgotten.
    pub(super) async fn close_idle(&self, idle: Duration, timing: &Timing) -> bool {
        let Ok(mut state) = self.state.try_lock() else {
            return false;
        };
        if state.live.as_ref().is_some_and(|l| l.heard.elapsed() >= idle) {
            self.log_out(&mut state, timing).await;
        }
        state.live.is_none() && state.last_sent.is_none_or(|t| t.elapsed() >= FORGET)
    }

    /// Ends the session, waiting for a command under way.
    pub(super) async fn close(&self, timing: &Timing) {
        let mut state = self.state.lock().await;
        self.log_out(&mut state, timing).await;
    }
}

/// How a log-in attempt ended without a session.
enum Ended {
    Silent(Stage),
    Refused(Refusal),
    Socket(std::io::Error),
    TooLong,
}
