//! A Redfish service (DMTF DSP0266, DSP0268) in front of simulated machines, with the habits of real BMCs.
//!
//! A [`RedfishBmc`] listens on a free port of 127.0.0.1 until it is dropped. What is special about it is a [`Profile`]; what
//! goes wrong is injected with [`RedfishBmc::inject`]; what clients did is told by [`RedfishBmc::requests`].
//! Nothing here is shared with the client that is tested.

mod answer;
mod fault;
mod hardware;
mod line;
mod profile;
mod read;
mod server;
mod write;

pub use fault::{Fault, FaultRule};
pub use hardware::{Disk, Hardware, Nic, Processor};
pub use profile::{
    AMI, ASROCKRACK, BootPlace, CISCO, DELL, DELL_17G, EtagHabit, HPE, LENOVO, LENOVO_SD530, MediaPlace, ModeHabit, NOKIA, ORDINARY,
    OffWhenOff, Partial, Profile, SUPERMICRO, SessionHabit,
};
pub use server::{RedfishBmc, RedfishConfig, Seen};
