//! Logging in to a BMC: first contact, choice of the cipher suite, handshake with retries.
//!
//! Nothing here changes what is known of the BMC; the caller keeps the session that comes out.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, timeout_at};

use crate::fence::EffectFence;

use super::client::{IpmiEndpoint, Timing};
use super::codec::{self, Packet, PayloadType, Request, Response};
use super::crypto::CipherSuite;
use super::error::{CredentialFault, Doing, IpmiError};
use super::session::{Handshake, Refusal, Session, Stage, Step};
use super::transport::{Line, Transport};

/// Log-ins tried anew within one call when the answers of a log-in do not fit together (lost and repeated packets).
const LOGIN_TRIES: u32 = 2;

const NETFN_APP: u8 = 0x06;
const CMD_AUTH_CAPABILITIES: u8 = 0x38;

/// One call: who asks, and until when.
pub(super) struct Call<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a IpmiEndpoint,
    pub(super) timing: &'a Timing,
    /// Wait for the first try: longer than the configured one for a BMC that is known to be slow.
    pub(super) first_wait: Duration,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) fence: &'a EffectFence,
}

impl Call<'_> {
    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }

    pub(super) fn unreachable(&self, doing: Doing) -> IpmiError {
        IpmiError::Unreachable { host: self.endpoint.host.clone(), doing, waited: self.started.elapsed() }
    }

    pub(super) fn socket(&self, source: std::io::Error) -> IpmiError {
        IpmiError::Socket { host: self.endpoint.host.clone(), source }
    }

    /// Time for try `n` (0 first) to be answered: doubling, capped, never past the deadline.
    pub(super) fn patience(&self, n: u32) -> Instant {
        let wait = self.first_wait.saturating_mul(1 << n.min(16)).min(self.timing.longest_wait);
        (Instant::now() + wait).min(self.deadline)
    }

    /// Time that all tries together have.
    pub(super) fn patience_for_all(&self) -> Instant {
        let mut until = Instant::now();
        for n in 0..self.timing.tries {
            until += self.first_wait.saturating_mul(1 << n.min(16)).min(self.timing.longest_wait);
        }
        until.min(self.deadline)
    }

    pub(super) fn expired(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Sends a command outside of a session; gives the answer and the time that it took. `None`: never answered.
    async fn sessionless(&self, line: &mut Line, variants: &[Request], tries: u32) -> Result<Option<(Response, Duration)>, IpmiError> {
        let first: u8 = rand::rng().random_range(0..64);
        let mut sent = Vec::new();
        for n in 0..tries {
            if self.expired() {
                break;
            }
            let variant = usize::try_from(n / 2).unwrap_or(usize::MAX).min(variants.len().saturating_sub(1));
            let Some(request) = variants.get(variant) else {
                return Ok(None);
            };
            let number = (first + (n % 64) as u8) % 64;
            sent.push((request, number, Instant::now()));
            line.send(&codec::sessionless_packet(&request.message(number))).await.map_err(|e| self.socket(e))?;
            let until = self.patience(n);
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
                if let Some((_, _, at)) = sent.iter().find(|(r, n, _)| response.answers(r, *n)) {
                    return Ok(Some((response, at.elapsed())));
                }
            }
        }
        Ok(None)
    }

    /// A line to the first address of the BMC that answers.
    pub(super) async fn reach(&mut self) -> Result<Line, IpmiError> {
        let addresses = self.resolve().await?;
        let last = addresses.len().saturating_sub(1);
        for (i, peer) in addresses.into_iter().enumerate() {
            let reached = match self.transport.line(peer).await {
                Ok(mut line) => self.contact(&mut line).await.map(|()| line),
                Err(e) => Err(self.socket(e)),
            };
            match reached {
                // No route to one family, say: the next address may do.
                Err(IpmiError::Socket { .. }) if i < last => {}
                other => return other,
            }
        }
        Err(self.unreachable(Doing::Contact))
    }

    async fn resolve(&self) -> Result<Vec<std::net::SocketAddr>, IpmiError> {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        let lookup = timeout_at(self.deadline, tokio::net::lookup_host((host, self.endpoint.port)));
        let failed = |source| IpmiError::Resolve { host: self.host().to_owned(), source };
        let addresses: Vec<_> = match lookup.await {
            Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
            Ok(Err(e)) => return Err(failed(e)),
            Ok(Ok(addresses)) => addresses.collect(),
        };
        if addresses.is_empty() { Err(failed(std::io::ErrorKind::NotFound.into())) } else { Ok(addresses) }
    }

    /// Get Channel Authentication Capabilities (22.13): says that the BMC is there, and makes servers that tell sessions by source port
    /// forget the last one.
    pub(super) async fn contact(&mut self, line: &mut Line) -> Result<(), IpmiError> {
        line.opening(None);
        let level = self.endpoint.privilege as u8;
        let variants = [
            // channel 0Eh: this one; bit 7: tell about IPMI 2.0. Very old BMCs do not answer when the bit is set.
            Request::new(NETFN_APP, CMD_AUTH_CAPABILITIES, &[0x8e, level]),
            Request::new(NETFN_APP, CMD_AUTH_CAPABILITIES, &[0x0e, level]),
        ];
        let (answer, took) = self.sessionless(line, &variants, self.timing.tries).await?.ok_or_else(|| self.unreachable(Doing::Contact))?;
        self.first_wait = self.first_wait.max(took * 2).min(self.timing.longest_wait);
        // Byte 2 bit 7: extended data present; byte 4 bit 1: IPMI 2.0. A BMC that refuses the question may still speak it.
        if let [_, kinds, _, versions, ..] = answer.data[..]
            && answer.completion == 0
            && kinds & 0x80 != 0
            && versions & 0x02 == 0
        {
            return Err(IpmiError::NoRmcpPlus { host: self.host().to_owned() });
        }
        Ok(())
    }

    /// A session with the first cipher suite that the BMC speaks; `known` is tried first.
    pub(super) async fn log_in(&mut self, known: Option<u8>, line: &mut Line) -> Result<Session, IpmiError> {
        let mut order = self.endpoint.cipher_suites.clone();
        if let Some(good) = known
            && let Some(at) = order.iter().position(|s| *s == good)
        {
            order.remove(at);
            order.insert(0, good);
        }
        let mut tried = Vec::new();
        for (i, id) in order.iter().enumerate() {
            let Some(suite) = CipherSuite::by_id(*id) else {
                continue;
            };
            tried.push(*id);
            let last = i + 1 == order.len();
            let mut again = 0;
            loop {
                match self.handshake(line, suite, last).await {
                    Ok(session) => return Ok(session),
                    Err(Ended::Refused(Refusal::Suite { .. } | Refusal::OtherSuite { .. })) => {
                        tracing::debug!(host = %self.host(), suite = id, "BMC does not speak this cipher suite");
                        break;
                    }
                    Err(Ended::Silent(Stage::Open)) if !last => {
                        tracing::debug!(host = %self.host(), suite = id, "BMC does not answer to this cipher suite");
                        break;
                    }
                    // Keys that do not fit may come from a repeated packet; a wrong password shows again at once.
                    Err(Ended::Refused(Refusal::Status(_) | Refusal::Malformed(_) | Refusal::Password))
                        if again + 1 < LOGIN_TRIES && self.repeated() =>
                    {
                        again += 1
                    }
                    // A BMC that is still there but does not answer to the name; or one that has just gone away.
                    Err(e @ Ended::Silent(Stage::User)) => {
                        self.contact(line).await?;
                        return Err(self.login_error(e));
                    }
                    Err(e) => return Err(self.login_error(e)),
                }
            }
        }
        Err(IpmiError::NoCipherSuite { host: self.host().to_owned(), tried })
    }

    fn repeated(&self) -> bool {
        !self.expired() && self.started.elapsed() >= self.first_wait
    }

    fn login_error(&self, ended: Ended) -> IpmiError {
        let host = self.host().to_owned();
        let credentials = |why, remedy| IpmiError::Credentials { host: self.host().to_owned(), why, remedy };
        match ended {
            Ended::Socket(e) => self.socket(e),
            Ended::Silent(Stage::Open) => self.unreachable(Doing::OpenSession),
            Ended::Silent(Stage::User) => {
                credentials(CredentialFault::UserSilence, "ipmi_username")
            }
            Ended::Silent(Stage::Keys) => self.unreachable(Doing::Keys),
            Ended::TooLong => IpmiError::Argument {
                what: "a user name has at most 16 bytes, a password and a BMC key at most 20; shorten ipmi_username, ipmi_password or ipmi_hex_kg_key".into(),
            },
            Ended::Refused(r) => match r {
                Refusal::User => credentials(CredentialFault::User, "ipmi_username"),
                Refusal::Password => credentials(CredentialFault::Password, "ipmi_password"),
                Refusal::BmcKey => credentials(CredentialFault::BmcKey, "ipmi_hex_kg_key"),
                Refusal::Privilege => IpmiError::Privilege { host, level: self.endpoint.privilege },
                Refusal::NoResources => IpmiError::NoSession { host },
                refusal => IpmiError::LogIn { host, refusal },
            },
        }
    }

    async fn handshake(&self, line: &mut Line, suite: CipherSuite, last: bool) -> Result<Session, Ended> {
        let (sid, random, tag) = {
            let mut rng = rand::rng();
            (rng.random_range(1..=u32::MAX), rng.random(), rng.random())
        };
        let mut shake = Handshake::new(suite, &self.endpoint.login(), sid, random, tag).ok_or(Ended::TooLong)?;
        line.opening(Some(sid));
        loop {
            let stage = shake.stage();
            let tries = match stage {
                Stage::Open if !last => self.timing.tries.min(2),
                _ => self.timing.tries,
            };
            match self.step(line, &mut shake, tries).await? {
                Step::Next => {}
                Step::Established(session) => {
                    line.established(sid);
                    return Ok(*session);
                }
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
    async fn step(&self, line: &mut Line, shake: &mut Handshake, tries: u32) -> Result<Step, Ended> {
        for n in 0..tries {
            if self.expired() {
                break;
            }
            line.send(&shake.packet()).await.map_err(Ended::Socket)?;
            let until = self.patience(n);
            while let Some(datagram) = line.receive(until).await {
                match shake.receive(&datagram) {
                    Step::Ignored => {}
                    step => return Ok(step),
                }
            }
        }
        Ok(Step::Ignored)
    }
}

/// How a log-in attempt ended without a session.
enum Ended {
    Silent(Stage),
    Refused(Refusal),
    Socket(std::io::Error),
    TooLong,
}
