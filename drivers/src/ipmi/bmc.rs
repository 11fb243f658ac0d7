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

use crate::fence::EffectFence;

use super::client::{IpmiEndpoint, Timing};
use super::codec::{self, Packet, PayloadType, Request, Response};
use super::error::{Doing, IpmiError, is_busy};
use super::login::Call;
use super::sdr::{SensorRecord, Stamp};
use super::session::{Login, Privilege, Session};
use super::transport::{Line, Transport};

/// A request sequence number without an answer is left alone for this long.
const QUARANTINE: Duration = Duration::from_secs(60);
/// A session that answered this recently is taken to be alive.
const FRESH: Duration = Duration::from_secs(2);
/// What is known of a BMC (cipher suite, sensor records) is kept this long after its last use.
const FORGET: Duration = Duration::from_secs(24 * 3600);

const NETFN_APP: u8 = 0x06;
const CMD_DEVICE_ID: u8 = 0x01;
const CMD_SET_PRIVILEGE: u8 = 0x3b;
const CMD_CLOSE_SESSION: u8 = 0x3c;
/// Completion code: the BMC itself timed out; the command may have been carried out.
const TIMEOUT_IN_BMC: u8 = 0xc3;

/// Whether a command may be sent again when its answer is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Carrying it out twice is the same as once.
    Yes,
    /// Carrying it out twice would do harm (power cycle): sent once, over a session just seen alive.
    Never,
}

/// A cipher suite found by trying is tried first for this long.
const SUITE_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// How often one packet is sent.
#[derive(Debug, Clone, Copy)]
enum Tries {
    /// Once, with the patience of all tries together.
    Once,
    /// Up to this often.
    UpTo(u32),
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
    /// The privilege level was raised; until then only readings are allowed.
    raised: bool,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Suite of the last log-in that worked, tried first next time, and when it was found by trying all.
    suite: Option<(u8, Instant)>,
    /// When the last command was sent, for the rate limit.
    last_sent: Option<Instant>,
    /// How long this BMC takes to answer, smoothed.
    answer_time: Duration,
}

/// One BMC.
pub(super) struct Bmc {
    host: String,
    state: Mutex<State>,
    /// Sensor records with the state of the repository that they were read from.
    sensors: std::sync::Mutex<Option<(Stamp, Arc<Vec<SensorRecord>>)>>,
}

impl Bmc {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), state: Mutex::new(State::default()), sensors: std::sync::Mutex::default() }
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
        fence: &EffectFence,
        request: &Request,
        resend: Resend,
    ) -> Result<Response, IpmiError> {
        let started = Instant::now();
        let mut call =
            Call { transport, endpoint, timing, first_wait: timing.first_wait, started, deadline: started + endpoint.timeout, fence };
        let mut state = timeout_at(call.deadline, self.state.lock()).await.map_err(|_| call.unreachable(Doing::Queue))?;
        // Asking a slow BMC again before it can have answered only makes it slower.
        call.first_wait = timing.first_wait.max(state.answer_time * 2).min(timing.longest_wait);
        let mut busy = 0;
        loop {
            let response = self.answered(&mut call, &mut state, request, resend).await?;
            let again = is_busy(response.completion) || (response.completion == TIMEOUT_IN_BMC && resend == Resend::Yes);
            if !again || call.expired() {
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
    async fn answered(&self, call: &mut Call<'_>, state: &mut State, request: &Request, resend: Resend) -> Result<Response, IpmiError> {
        if state.live.as_ref().is_some_and(|l| l.login != call.endpoint.login()) {
            // Other credentials: never go on under the old ones.
            self.log_out(state, call.timing).await;
        }
        // BMCs end sessions after 60 s without traffic: near that age a new one is cheaper than finding out by lost packets.
        if state.live.as_ref().is_some_and(|l| l.heard.elapsed() >= call.timing.idle * 5 / 6) {
            abandon(state).await;
        }
        let mut reopened = false;
        loop {
            let fresh_session = state.live.is_none();
            self.ensure_session(call, state).await?;
            if resend == Resend::Never {
                self.prove_alive(call, state).await?;
            }
            let tries = match resend {
                Resend::Never => Tries::Once,
                // A reused session may be gone: find out early by opening a new one.
                Resend::Yes if !fresh_session => Tries::UpTo(call.timing.tries.min(2)),
                Resend::Yes => Tries::UpTo(call.timing.tries),
            };
            if let Some(r) = self.exchange(call, state, request, tries).await? {
                return Ok(r);
            }
            abandon(state).await;
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
    async fn prove_alive(&self, call: &mut Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        let idle = state.live.as_ref().map(|l| l.heard.elapsed());
        if idle.is_some_and(|t| t <= FRESH) {
            return Ok(());
        }
        let probe = Request::new(NETFN_APP, CMD_DEVICE_ID, &[]);
        if self.exchange(call, state, &probe, Tries::UpTo(2)).await?.is_some() {
            return Ok(());
        }
        abandon(state).await;
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
    async fn exchange(&self, call: &Call<'_>, state: &mut State, request: &Request, tries: Tries) -> Result<Option<Response>, IpmiError> {
        let mut numbers = Vec::new();
        let count = match tries {
            Tries::Once => 1,
            Tries::UpTo(n) => n,
        };
        for n in 0..count {
            if call.expired() {
                break;
            }
            self.rate_limit(call, state).await?;
            if !call.fence.is_open() {
                return Err(IpmiError::Fenced { host: self.host.clone() });
            }
            let Some(live) = state.live.as_mut() else {
                return Ok(None);
            };
            let number = live.numbers.take(Instant::now());
            numbers.push((number, Instant::now()));
            let iv: [u8; 16] = rand::rng().random();
            let packet = live.session.seal(PayloadType::Ipmi, &request.message(number), &iv);
            live.line.send(&packet).await.map_err(|e| call.socket(e))?;
            let until = match tries {
                Tries::Once => call.patience_for_all(),
                Tries::UpTo(_) => call.patience(n),
            };
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
                if let Some((_, sent)) = numbers.iter().find(|(n, _)| response.answers(request, *n)) {
                    live.numbers.answered(response.rq_seq);
                    state.answer_time = (state.answer_time * 3 + sent.elapsed()) / 4;
                    return Ok(Some(response));
                }
            }
        }
        Ok(None)
    }

    async fn ensure_session(&self, call: &mut Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        if state.live.is_none() {
            let mut line = call.reach().await?;
            // Asked anew once in a while: a BMC whose firmware was updated may have learned a better one.
            let known = state.suite.filter(|(_, found)| found.elapsed() < SUITE_MEMORY);
            let session = self.log_in(call, known.map(|(id, _)| id), &mut line).await?;
            let id = session.suite().id;
            state.suite = Some((id, known.filter(|(k, _)| *k == id).map_or_else(Instant::now, |(_, found)| found)));
            state.live = Some(Live {
                session,
                line,
                login: call.endpoint.login(),
                numbers: RequestNumbers::new(),
                heard: Instant::now(),
                raised: false,
            });
        }
        if state.live.as_ref().is_some_and(|l| l.raised) {
            return Ok(());
        }
        // A caller may have given up between the log-in and here.
        if let Err(e) = self.raise_privilege(call, state).await {
            self.log_out(state, call.timing).await;
            return Err(e);
        }
        if let Some(live) = &mut state.live {
            live.raised = true;
        }
        Ok(())
    }

    /// Logs in, waiting for a free session of the BMC if need be.
    async fn log_in(&self, call: &mut Call<'_>, known: Option<u8>, line: &mut Line) -> Result<Session, IpmiError> {
        let mut full = 0;
        loop {
            match call.log_in(known, line).await {
                Err(e @ IpmiError::NoSession { .. }) => {
                    let until = call.patience(full + 2);
                    full += 1;
                    if until >= call.deadline {
                        return Err(e);
                    }
                    sleep_until(until).await;
                    call.contact(line).await?;
                }
                other => return other,
            }
        }
    }

    /// Set Session Privilege Level (22.18): sessions start as USER.
    async fn raise_privilege(&self, call: &Call<'_>, state: &mut State) -> Result<(), IpmiError> {
        let level = call.endpoint.privilege;
        if level <= Privilege::User {
            return Ok(());
        }
        let request = Request::new(NETFN_APP, CMD_SET_PRIVILEGE, &[level as u8]);
        let tries = Tries::UpTo(call.timing.tries);
        let mut busy = 0;
        loop {
            let response = self.exchange(call, state, &request, tries).await?.ok_or_else(|| call.unreachable(Doing::OpenSession))?;
            match response.completion {
                0 => return Ok(()),
                0x80 | 0x81 | 0xd4 => return Err(IpmiError::Privilege { host: self.host.clone(), level }),
                code => {
                    let until = call.patience(busy);
                    busy += 1;
                    if !is_busy(code) || until >= call.deadline {
                        return Err(IpmiError::Completion { host: self.host.clone(), netfn: NETFN_APP, cmd: CMD_SET_PRIVILEGE, code });
                    }
                    sleep_until(until).await;
                }
            }
        }
    }

    /// Close Session, and waits a moment for the answer: it keeps the next log-in from overtaking the end of this session.
    async fn log_out(&self, state: &mut State, timing: &Timing) {
        let Some((mut live, request, number)) = abandon(state).await else {
            return;
        };
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

/// Takes the session out of use and sends Close Session (22.19) without waiting, so that a BMC which still has it gets it back.
async fn abandon(state: &mut State) -> Option<(Live, Request, u8)> {
    let mut live = state.live.take()?;
    let request = Request::new(NETFN_APP, CMD_CLOSE_SESSION, &live.session.bmc_sid().to_le_bytes());
    let number = live.numbers.take(Instant::now());
    let iv: [u8; 16] = rand::rng().random();
    let packet = live.session.seal(PayloadType::Ipmi, &request.message(number), &iv);
    if let Err(error) = live.line.send(&packet).await {
        tracing::debug!(%error, "could not send Close Session");
    }
    Some((live, request, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_number_is_not_used_again_for_a_minute() {
        let mut numbers = RequestNumbers::new();
        let lost = numbers.take(Instant::now());
        for _ in 0..200 {
            let n = numbers.take(Instant::now());
            assert_ne!(n, lost);
            numbers.answered(n);
        }
        tokio::time::sleep(QUARANTINE).await;
        assert!((0..64).any(|_| {
            let n = numbers.take(Instant::now());
            numbers.answered(n);
            n == lost
        }));
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_go_on_when_every_one_is_unanswered() {
        let mut numbers = RequestNumbers::new();
        let mut all: Vec<_> = (0..64).map(|_| numbers.take(Instant::now())).collect();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<u8>>());
        assert!(numbers.take(Instant::now()) < 64);
    }
}
