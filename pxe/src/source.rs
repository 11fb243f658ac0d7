//! The questions that the boot services ask the rest of the daemon.
//!
//! Any number of daemons may serve one network: the answers must come from one store, so that each gives the same.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use uuid::Uuid;

use crate::config::AddressRange;
use crate::mac::MacAddr;
use crate::plan::BootPlan;

/// A machine that may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Who it is.
    pub kind: MachineKind,
    /// Whether it may boot from the network now. If not (an active node with its own disk) it gets an address, firmware
    /// is sent on to its next boot entry, and a proxy-DHCP service stays silent.
    pub netboot: bool,
    /// Address reserved for the asking port.
    pub reserved: Option<Ipv4Addr>,
}

/// Who a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineKind {
    /// An enrolled node owns the asking hardware address.
    Known {
        /// The node.
        node: Uuid,
        /// Host name to tell the machine, if it is to have one.
        hostname: Option<String>,
    },
    /// Nobody enrolled it, but unknown machines may be discovered here.
    Discoverable,
}

/// What address a client would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Any free address.
    Any,
    /// This one if it is free and in the pool, else any.
    Prefer(Ipv4Addr),
    /// A reservation: this one, in the pool or outside it, or none.
    Exactly(Ipv4Addr),
}

/// The pool that an address is to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Name of the network; leases are unique per (network, address) and per (network, MAC).
    pub network: String,
    /// First and last address that may be handed out without a reservation; none on a network that gives reservations only.
    pub range: Option<AddressRange>,
}

/// The store could not answer. The client is not answered either and asks again by itself.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot answer the boot services ({reason}); they go on by themselves when it is back")]
pub struct SourceError {
    /// What the store said.
    pub reason: String,
    /// The error underneath, if there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error with a reason alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }
}

/// What the boot services need to know, asked anew for every packet and request. Each call is given 5 seconds.
#[async_trait]
pub trait BootSource: Send + Sync + 'static {
    /// Who asks. `None` is a stranger, who gets no answer at all. The UUID is the SMBIOS one (DHCP option 97), already
    /// in text order; it is only what the client claims.
    async fn machine(&self, mac: MacAddr, uuid: Option<Uuid>) -> Result<Option<Machine>, SourceError>;

    /// Holds an address for (network, MAC) during `hold_secs` and returns it: the one that this pair holds already if it
    /// does, so that every daemon gives the same answer. `None` when the pool is used up or the reservation is taken.
    /// An address that was just released or declined must not go to another machine at once: some firmware goes on
    /// using an address after releasing it.
    async fn offer(&self, pool: &Pool, mac: MacAddr, wish: Wish, hold_secs: u32) -> Result<Option<Ipv4Addr>, SourceError>;

    /// Makes the hold of `addr` a lease of `lease_secs`, or renews it; false if (network, MAC) may not have this address
    /// (the client is then told to start again). Must succeed for an address that nobody holds if `wish` allows it:
    /// a client that kept its address over a reboot confirms it without an offer.
    async fn commit(&self, pool: &Pool, mac: MacAddr, wish: Wish, addr: Ipv4Addr, lease_secs: u32) -> Result<bool, SourceError>;

    /// The client gives its address back. Ignored unless (network, MAC) holds exactly this address.
    async fn release(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError>;

    /// The client found the address in use by another. Ignored unless (network, MAC) holds exactly this address; else
    /// the address rests for some minutes and the client gets another.
    async fn decline(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError>;

    /// Whom an address of a network is leased to (also shortly after a release). `None` if to nobody.
    async fn mac_of(&self, network: &str, addr: Ipv4Addr) -> Result<Option<MacAddr>, SourceError>;

    /// What the machine with this hardware address boots next.
    async fn plan_for(&self, mac: MacAddr) -> Result<Option<BootPlan>, SourceError>;

    /// The plan with this nonce, as long as it is its machine's current one.
    async fn plan_by_nonce(&self, nonce: &str) -> Result<Option<BootPlan>, SourceError>;
}
