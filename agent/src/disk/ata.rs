//! ATA Security Erase (ACS-3 section 4.17 and 7.37 to 7.42) through SCSI pass-through (SAT-3 section 12.2.2).
//!
//! The state logic is pure: from the IDENTIFY data follows what to do. A disk that is frozen or locked with an
//! unknown password is reported, never worked around. If the erase fails, the temporary password is taken off again.

use std::fs::File;
use std::io;

use crate::ioctl::{self, SgData};

const SECTOR: usize = 512;
const IDENTIFY: u8 = 0xec;
const SET_PASSWORD: u8 = 0xf1;
const UNLOCK: u8 = 0xf2;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;

const SHORT_MS: u32 = 15_000;
/// Where the disk does not say how long it takes.
const UNKNOWN_MS: u32 = 12 * 3600 * 1000;
/// Password set for the time of the erase: a disk that loses power in between can be unlocked with it.
const PASSWORD: &[u8] = b"NULL";

/// Security state of a disk, from IDENTIFY DEVICE word 128 (and 82, 89, 90).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Security {
    /// The feature set exists.
    pub supported: bool,
    /// A password is set.
    pub enabled: bool,
    /// Data is not accessible without the password.
    pub locked: bool,
    /// No security command is accepted until the next power cycle.
    pub frozen: bool,
    /// Enhanced erase exists.
    pub enhanced: bool,
    /// How long the erase may take.
    pub timeout_ms: u32,
}

/// What to do with a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It cannot erase itself.
    Unsupported,
    /// It can, but not now.
    Blocked(&'static str),
    /// Unlock if needed, set a password, erase.
    Erase {
        /// Whether a password must be taken off first.
        unlock: bool,
        /// Whether to use the enhanced erase.
        enhanced: bool,
    },
}

impl Security {
    /// Reads the state out of IDENTIFY data.
    pub fn parse(identify: &[u8; SECTOR]) -> Self {
        let word = |n: usize| identify.get(2 * n..2 * n + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
        let status = word(128);
        let enhanced = status & 1 << 5 != 0;
        let units = u32::from(word(if enhanced { 90 } else { 89 }));
        // Bit 15 marks the longer form of the field.
        let units = if units & 0x8000 != 0 { units & 0x7fff } else { units & 0xff };
        Self {
            supported: word(82) & 2 != 0 && status & 1 != 0,
            enabled: status & 2 != 0,
            locked: status & 4 != 0,
            frozen: status & 8 != 0,
            enhanced,
            timeout_ms: if units == 0 { UNKNOWN_MS } else { units.saturating_mul(2 * 60 * 1000).saturating_mul(2) },
        }
    }

    /// Decides.
    pub fn plan(self) -> Plan {
        if !self.supported {
            Plan::Unsupported
        } else if self.frozen {
            Plan::Blocked(
                "its security is frozen by the firmware: switch the freeze lock off in the firmware, or power the disk off and on",
            )
        } else {
            Plan::Erase { unlock: self.enabled || self.locked, enhanced: self.enhanced }
        }
    }
}

/// ATA PASS-THROUGH (16).
fn pass_through(protocol: u8, flags: u8, command: u8, sectors: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x85;
    cdb[1] = protocol << 1;
    cdb[2] = flags;
    cdb[6] = sectors;
    cdb[14] = command;
    cdb
}

/// PIO data-in of one sector.
fn read_command(command: u8) -> [u8; 16] {
    pass_through(4, 0x0e, command, 1)
}

/// PIO data-out of one sector.
fn write_command(command: u8) -> [u8; 16] {
    pass_through(5, 0x06, command, 1)
}

/// No data.
fn plain_command(command: u8) -> [u8; 16] {
    pass_through(3, 0, command, 0)
}

/// Parameter sector of a security command: user password, high level; bit 1 of the first word asks for enhanced erase.
fn parameters(password: &[u8], enhanced: bool) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[0] = if enhanced { 2 } else { 0 };
    for (place, byte) in sector.iter_mut().skip(2).take(32).zip(password) {
        *place = *byte;
    }
    sector
}

fn send(file: &File, cdb: &[u8; 16], data: SgData<'_>, timeout_ms: u32) -> io::Result<()> {
    let outcome = ioctl::scsi_command(file, cdb, data, timeout_ms)?;
    // 0x1b, 0x5b and 0x11 are the additional sense of "ATA status follows", which is no error.
    let failed = outcome.host_status != 0
        || (outcome.status != 0 && !matches!(outcome.sense.get(1), Some(0..=1)))
        || (outcome.driver_status & !8) != 0;
    if failed {
        let sense: Vec<u8> = outcome.sense.iter().take(12).copied().collect();
        let text = format!(
            "command {:#04x}: status {:#04x}, host {:#06x}, sense {}",
            cdb[14],
            outcome.status,
            outcome.host_status,
            hex::encode(sense)
        );
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// Asks a disk for its security state.
///
/// # Errors
/// When it is no ATA disk.
pub fn security(file: &File) -> io::Result<Security> {
    let mut identify = [0; SECTOR];
    send(file, &read_command(IDENTIFY), SgData::In(&mut identify), SHORT_MS)?;
    Ok(Security::parse(&identify))
}

/// Erases the disk by its own command. Blocks until it is done.
///
/// # Errors
/// Text of what failed; the disk then has no password that it did not have before, if that could be had.
pub fn erase(file: &File, state: Security) -> Result<(), String> {
    let Plan::Erase { unlock, enhanced } = state.plan() else { return Err("it cannot erase itself".into()) };
    let with = |command: u8, mut sector: [u8; SECTOR], timeout: u32| {
        send(file, &write_command(command), SgData::Out(&mut sector), timeout).map_err(|error| error.to_string())
    };
    if unlock {
        let take_off = |password: &[u8]| {
            if state.locked {
                with(UNLOCK, parameters(password, false), SHORT_MS)?;
            }
            with(DISABLE_PASSWORD, parameters(password, false), SHORT_MS)
        };
        take_off(b"").or_else(|_| take_off(PASSWORD)).map_err(|error| format!("it is locked with an unknown password ({error})"))?;
    }
    with(SET_PASSWORD, parameters(PASSWORD, false), SHORT_MS)?;
    let erased = send(file, &plain_command(ERASE_PREPARE), SgData::None, SHORT_MS)
        .map_err(|error| error.to_string())
        .and_then(|()| with(ERASE_UNIT, parameters(PASSWORD, enhanced), state.timeout_ms));
    let after = security(file).map_err(|error| error.to_string())?;
    match erased {
        Ok(()) if !after.enabled => Ok(()),
        other => {
            let _ = with(DISABLE_PASSWORD, parameters(PASSWORD, false), SHORT_MS);
            Err(other.err().unwrap_or_else(|| "it still has its password set after the erase".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(status: u16) -> [u8; SECTOR] {
        let mut data = [0; SECTOR];
        data[164] = 2;
        data[178] = 30;
        data[256..258].copy_from_slice(&status.to_le_bytes());
        data
    }

    #[test]
    fn the_state_of_the_disk_decides() {
        let plan = |status| Security::parse(&identify(status)).plan();
        assert_eq!(plan(0), Plan::Unsupported);
        assert_eq!(plan(0b1), Plan::Erase { unlock: false, enhanced: false });
        assert_eq!(plan(0b10_0001), Plan::Erase { unlock: false, enhanced: true });
        assert_eq!(plan(0b0111), Plan::Erase { unlock: true, enhanced: false });
        assert!(matches!(plan(0b1001), Plan::Blocked(_)));
        assert_eq!(Security::parse(&[0; SECTOR]).plan(), Plan::Unsupported);
    }

    #[test]
    fn the_erase_is_given_twice_the_time_that_the_disk_announces() {
        assert_eq!(Security::parse(&identify(1)).timeout_ms, 30 * 2 * 60 * 1000 * 2);
        assert_eq!(Security::parse(&[0; SECTOR]).timeout_ms, UNKNOWN_MS);
    }

    #[test]
    fn command_bytes_are_those_that_hdparm_sends() {
        assert_eq!(read_command(IDENTIFY), [0x85, 8, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0]);
        assert_eq!(write_command(ERASE_UNIT), [0x85, 10, 0x06, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xf4, 0]);
        assert_eq!(plain_command(ERASE_PREPARE), [0x85, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf3, 0]);
        let sector = parameters(b"NULL", true);
        assert_eq!(&sector[..8], b"\x02\0NULL\0\0");
    }
}
