//! An IPMI 2.0 baseboard management controller over RMCP+ (UDP).
//!
//! Speaks cipher suites 3 and 17 (0, 1 and 2 when told to), keeps boot options with their persistent and EFI flags, an event
//! log and a few sensors, and drives a [`Machine`]. Faults are injected through [`Faults`].
//! Many run in one process, each on its own address or port.

mod commands;
mod faults;
mod sensors;
mod server;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::machine::Machine;
use commands::Management;
pub use faults::{Fault, Faults};
pub use sensors::Sensor;
use server::Server;

/// Privilege levels as numbers: 2 user, 3 operator, 4 administrator.
pub type Level = u8;

/// Settings of a simulated BMC.
#[derive(Debug, Clone)]
pub struct IpmiBmcConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one user.
    pub user: String,
    /// Password of the user, at most 20 bytes.
    pub password: String,
    /// Highest privilege of the user.
    pub user_level: Level,
    /// Refuse a privilege above the user's already in RAKP 2 (status 0Ah) instead of in Set Session Privilege Level (81h).
    pub refuse_level_early: bool,
    /// BMC key (Kg), if set.
    pub kg: Option<Vec<u8>>,
    /// Cipher suites offered, of 0, 1, 2, 3 and 17.
    pub suites: Vec<u8>,
    /// Answer a refused suite with a two-byte message, as OpenIPMI's simulator does.
    pub short_refusals: bool,
    /// Say nothing to an unknown user instead of status 0Dh, as pyghmi does.
    pub silent_to_unknown_users: bool,
    /// Sessions at the same time.
    pub max_sessions: usize,
    /// A session without traffic ends after this time.
    pub session_timeout: Duration,
    /// Boot flags end after this time unless the client switched that off (parameter 3).
    pub boot_flag_lifetime: Duration,
    /// Refuse parameter 3 with completion code 80h, as OpenBMC does.
    pub refuse_boot_timeout: bool,
    /// Largest number of bytes that Get SDR gives at once; more is answered CAh.
    pub sdr_chunk: u8,
    /// GUID told in the log-in.
    pub guid: [u8; 16],
    /// Sensors in the repository.
    pub sensors: Vec<Sensor>,
}

impl Default for IpmiBmcConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            user: "admin".into(),
            password: "password".into(),
            user_level: 4,
            refuse_level_early: false,
            kg: None,
            suites: vec![3, 17],
            short_refusals: false,
            silent_to_unknown_users: false,
            max_sessions: 4,
            session_timeout: Duration::from_secs(60),
            boot_flag_lifetime: Duration::from_secs(60),
            refuse_boot_timeout: false,
            sdr_chunk: 0x20,
            guid: *b"\xa1\x23\x45\x67\x89\xab\xcd\xef\xa1\x23\x45\x67\x89\xab\xcd\xef",
            sensors: sensors::defaults(),
        }
    }
}

/// A command that reached the BMC within a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCommand {
    /// Network function.
    pub netfn: u8,
    /// Command.
    pub cmd: u8,
    /// Data.
    pub data: Vec<u8>,
    /// Session sequence number.
    pub sequence: u32,
    /// Request sequence number.
    pub rq_seq: u8,
}

struct Shared {
    config: IpmiBmcConfig,
    machine: Machine,
    faults: Faults,
    server: Mutex<Server>,
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running simulated BMC. It stops when dropped.
pub struct IpmiBmc {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for IpmiBmc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl IpmiBmc {
    /// Starts a BMC for a machine.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(machine: Machine, config: IpmiBmcConfig) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(config.listen).await?);
        let address = socket.local_addr()?;
        let shared =
            Arc::new(Shared { server: Mutex::new(Server::new(Management::new(&config))), config, machine, faults: Faults::default() });
        let task = tokio::spawn(server::serve(socket, shared.clone()));
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The machine behind it.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.shared.machine
    }

    /// Switches for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Sessions that are logged in now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.server().active_sessions()
    }

    /// Log-ins completed since the start.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.shared.server().logins
    }

    /// Suite of the last completed log-in.
    #[must_use]
    pub fn last_suite(&self) -> Option<u8> {
        self.shared.server().last_suite
    }

    /// Drops all sessions without telling anybody, as a restarted BMC does.
    pub fn forget_sessions(&self) {
        self.shared.server().sessions.clear();
    }

    /// Commands that arrived within sessions, oldest first (also those whose answer was dropped).
    #[must_use]
    pub fn seen(&self) -> Vec<SeenCommand> {
        self.shared.server().seen.clone()
    }

    /// Appends a system event record (16 bytes; the record number is filled in).
    pub fn add_event(&self, record: [u8; 16]) {
        self.shared.server().management.add_event(record);
    }

    /// Sets the raw reading of a sensor; `None`: not available.
    pub fn set_reading(&self, sensor: u8, raw: Option<u8>) {
        self.shared.server().management.set_reading(sensor, raw);
    }

    /// Boot option parameter 5 as last written (five bytes), if valid.
    #[must_use]
    pub fn boot_flags(&self) -> Option<[u8; 5]> {
        self.shared.server().management.boot_flags(&self.shared.config, &self.shared.machine)
    }
}
