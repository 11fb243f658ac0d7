//! Entrance: the pool of BMC conversations, and a client for one BMC.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bessemer_model::secret::Secret;

use crate::fence::EffectFence;

use super::bmc::{Bmc, Resend};
use super::codec::{PacketError, Request, Response};
use super::error::IpmiError;
use super::sdr::{SensorRecord, Stamp};
use super::session::{Login, Privilege};
use super::transport::Transport;

/// Times that are the same for every BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Wait for the first try of a packet; doubles with each further try.
    pub first_wait: Duration,
    /// Longest wait for one try.
    pub longest_wait: Duration,
    /// Tries of one packet before the BMC counts as silent.
    pub tries: u32,
    /// A session unused for this long is closed.
    pub idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { first_wait: Duration::from_millis(600), longest_wait: Duration::from_secs(5), tries: 5, idle: Duration::from_secs(60) }
    }
}

/// Settings of an [`IpmiPool`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpmiConfig {
    /// Waits and retries.
    pub timing: Timing,
    /// Asked before each packet.
    pub fence: EffectFence,
}

/// Where a BMC is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpmiEndpoint {
    /// Name or address.
    pub host: String,
    /// UDP port, usually 623.
    pub port: u16,
    /// User name, at most 16 bytes; empty for the NULL user.
    pub username: String,
    /// Password, at most 20 bytes.
    pub password: Secret<String>,
    /// BMC key (Kg), at most 20 bytes.
    pub kg: Option<Secret<Vec<u8>>>,
    /// Privilege of the session.
    pub privilege: Privilege,
    /// Cipher suites to try, in this order.
    pub cipher_suites: Vec<u8>,
    /// Least time between two commands to this BMC.
    pub min_command_interval: Duration,
    /// Deadline of one call, including log-in, retries and waiting for its turn.
    pub timeout: Duration,
}

impl IpmiEndpoint {
    /// An endpoint with port 623, administrator privilege, cipher suites 17 then 3, no rate limit and a deadline of 60 s.
    #[must_use]
    pub fn new(host: &str, username: &str, password: Secret<String>) -> Self {
        Self {
            host: host.to_owned(),
            port: 623,
            username: username.to_owned(),
            password,
            kg: None,
            privilege: Privilege::Administrator,
            cipher_suites: vec![17, 3],
            min_command_interval: Duration::ZERO,
            timeout: Duration::from_secs(60),
        }
    }

    pub(super) fn login(&self) -> Login {
        Login {
            user: self.username.clone(),
            password: self.password.clone(),
            kg: self.kg.clone(),
            privilege: self.privilege,
            name_only: true,
        }
    }
}

type Bmcs = Mutex<HashMap<(String, u16), Arc<Bmc>>>;

struct Inner {
    timing: Timing,
    fence: EffectFence,
    transport: Transport,
    bmcs: Bmcs,
    janitor: std::sync::Once,
}

/// All conversations with BMCs of one process: two sockets, one conversation per BMC. Clones share.
#[derive(Clone)]
pub struct IpmiPool(Arc<Inner>);

impl std::fmt::Debug for IpmiPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpmiPool").field("timing", &self.0.timing).finish_non_exhaustive()
    }
}

impl Default for IpmiPool {
    fn default() -> Self {
        Self::new(IpmiConfig::default())
    }
}

impl IpmiPool {
    /// An empty pool. Opens nothing before the first call, which must be made within a tokio runtime that outlives the pool's use.
    #[must_use]
    pub fn new(config: IpmiConfig) -> Self {
        Self(Arc::new(Inner {
            timing: config.timing,
            fence: config.fence,
            transport: Transport::default(),
            bmcs: Mutex::default(),
            janitor: std::sync::Once::new(),
        }))
    }

    /// A client for a BMC. Cheap; clients of the same host and port share one conversation and its session.
    #[must_use]
    pub fn client(&self, endpoint: &IpmiEndpoint) -> IpmiClient {
        let bmc = self
            .0
            .bmcs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((endpoint.host.clone(), endpoint.port))
            .or_insert_with(|| Arc::new(Bmc::new(&endpoint.host)))
            .clone();
        IpmiClient { pool: self.clone(), bmc, endpoint: Arc::new(endpoint.clone()) }
    }

    /// Ends all sessions in an orderly way. The pool stays usable.
    pub async fn close(&self) {
        let bmcs: Vec<_> = self.0.bmcs.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        futures::future::join_all(bmcs.iter().map(|b| b.close(&self.0.timing))).await;
    }

    /// Number of lines to BMCs that are open now: one per session.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.0.transport.lines()
    }

    fn start_janitor(&self) {
        self.0.janitor.call_once(|| {
            let pool = Arc::downgrade(&self.0);
            let period = (self.0.timing.idle / 4).max(Duration::from_millis(50));
            tokio::spawn(tidy(pool, period));
        });
    }
}

/// Closes idle sessions and forgets BMCs that were not used for long, until the pool is gone.
async fn tidy(pool: Weak<Inner>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let bmcs: Vec<_> = pool.bmcs.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let timing = &pool.timing;
        let tidied = bmcs.iter().map(|(key, bmc)| async move { bmc.close_idle(timing.idle, timing).await.then_some(key) });
        let forgettable = futures::future::join_all(tidied).await;
        let unused: Vec<_> = forgettable.into_iter().flatten().cloned().collect();
        drop(bmcs);
        let mut table = pool.bmcs.lock().unwrap_or_else(PoisonError::into_inner);
        for key in unused {
            // Only the table itself holds it: no client, so no command can be under way.
            if table.get(&key).is_some_and(|b| Arc::strong_count(b) == 1) {
                table.remove(&key);
            }
        }
    }
}

/// Talks to one BMC. Cheap to clone; calls of all clients of a BMC run one after the other.
#[derive(Clone)]
pub struct IpmiClient {
    pool: IpmiPool,
    bmc: Arc<Bmc>,
    endpoint: Arc<IpmiEndpoint>,
}

impl std::fmt::Debug for IpmiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpmiClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl IpmiClient {
    /// Where this client talks to.
    #[must_use]
    pub fn endpoint(&self) -> &IpmiEndpoint {
        &self.endpoint
    }

    /// The same client with another deadline per call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut endpoint = IpmiEndpoint::clone(&self.endpoint);
        endpoint.timeout = timeout;
        Self { endpoint: Arc::new(endpoint), ..self.clone() }
    }

    /// Sends any command that may be repeated; gives the data after the completion code. Codes other than 0 are errors.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn raw(&self, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, IpmiError> {
        self.command(netfn, cmd, data, Resend::Yes).await
    }

    /// As [`IpmiClient::raw`], for commands that must not be carried out twice.
    ///
    /// # Errors
    /// See [`IpmiError`]; [`IpmiError::OutcomeUnknown`] when the answer is missing.
    pub async fn raw_once(&self, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, IpmiError> {
        self.command(netfn, cmd, data, Resend::Never).await
    }

    /// Sends a command; the answer may carry any completion code.
    ///
    /// # Errors
    /// Everything but [`IpmiError::Completion`].
    pub async fn ask(&self, netfn: u8, cmd: u8, data: &[u8], resend: Resend) -> Result<Response, IpmiError> {
        self.ask_unit(0, netfn, cmd, data, resend).await
    }

    /// As [`IpmiClient::ask`], for another logical unit of the BMC.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_unit(&self, lun: u8, netfn: u8, cmd: u8, data: &[u8], resend: Resend) -> Result<Response, IpmiError> {
        if netfn & 1 != 0 || netfn > 0x3e {
            return Err(IpmiError::Argument {
                what: format!("network function {netfn:#04x} is not that of a request: use an even number up to 0x3e"),
            });
        }
        if data.len() > MAX_DATA {
            return Err(IpmiError::Argument { what: format!("command data of {} bytes is too long: at most {MAX_DATA}", data.len()) });
        }
        self.pool.start_janitor();
        self.bmc
            .execute(
                &self.pool.0.transport,
                &self.endpoint,
                &self.pool.0.timing,
                &self.pool.0.fence,
                &Request { lun, ..Request::new(netfn, cmd, data) },
                resend,
            )
            .await
    }

    pub(super) fn bad_answer(&self, netfn: u8, cmd: u8, packet: PacketError) -> IpmiError {
        IpmiError::BadAnswer { host: self.endpoint.host.clone(), netfn, cmd, packet }
    }

    pub(super) fn known_sensors(&self, stamp: Stamp) -> Option<Arc<Vec<SensorRecord>>> {
        self.bmc.known_sensors(stamp)
    }

    pub(super) fn remember_sensors(&self, stamp: Stamp, records: Arc<Vec<SensorRecord>>) {
        self.bmc.remember_sensors(stamp, records);
    }

    pub(super) async fn command(&self, netfn: u8, cmd: u8, data: &[u8], resend: Resend) -> Result<Vec<u8>, IpmiError> {
        let response = self.ask(netfn, cmd, data, resend).await?;
        match response.completion {
            0 => Ok(response.data),
            0xd4 => Err(IpmiError::Privilege { host: self.endpoint.host.clone(), level: self.endpoint.privilege }),
            code => Err(IpmiError::Completion { host: self.endpoint.host.clone(), netfn, cmd, code }),
        }
    }
}

/// Command data that fits every LAN channel (the length of a sessionless message is one byte).
const MAX_DATA: usize = 240;
