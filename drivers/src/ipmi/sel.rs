//! System event log (IPMI 2.0 sections 31 and 32).

use std::time::Duration;

use super::bmc::Resend;
use super::client::IpmiClient;
use super::codec::{PacketError, read_u16, read_u32};
use super::error::IpmiError;

const NETFN_STORAGE: u8 = 0x0a;
const CMD_INFO: u8 = 0x40;
const CMD_RESERVE: u8 = 0x42;
const CMD_GET: u8 = 0x43;
const CMD_CLEAR: u8 = 0x47;

const FIRST: u16 = 0x0000;
const LAST: u16 = 0xffff;
const RECORD: usize = 16;
const RESERVATION_CANCELLED: u8 = 0xc5;
const NOT_PRESENT: u8 = 0xcb;
/// Pause between two looks at an erasure under way.
const ERASE_POLL: Duration = Duration::from_millis(200);

/// State of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelInfo {
    /// Version, as two decimal digits (0x51: 1.5).
    pub version: u8,
    /// Entries.
    pub entries: u16,
    /// Free bytes.
    pub free: u16,
    /// Last addition, seconds since 1970 by the BMC's clock.
    pub last_added: u32,
    /// Last erasure, likewise.
    pub last_erased: u32,
    /// Entries were lost because the log was full.
    pub overflow: bool,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelEntry {
    /// Record number.
    pub id: u16,
    /// What it says.
    pub event: SelEvent,
}

/// Content of an entry (32.1 to 32.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelEvent {
    /// Event of a sensor.
    System {
        /// Seconds since 1970 by the BMC's clock; below 2000-01-01 it counts from the BMC's start.
        timestamp: u32,
        /// Who reports it.
        generator: u16,
        /// Sensor type.
        sensor_type: u8,
        /// Sensor number.
        sensor: u8,
        /// The condition ended.
        deasserted: bool,
        /// Event type: 01h threshold, 6Fh of the sensor's own type.
        event_type: u8,
        /// Event data.
        data: [u8; 3],
    },
    /// Event of a maker, with a time.
    OemTimed {
        /// Record type, C0h to DFh.
        kind: u8,
        /// Time, as above.
        timestamp: u32,
        /// Maker, IANA number.
        manufacturer: u32,
        /// Data.
        data: [u8; 6],
    },
    /// Event of a maker, without a time, or of an unknown record type.
    Other {
        /// Record type.
        kind: u8,
        /// Data.
        data: [u8; 13],
    },
}

impl SelEntry {
    /// Decodes a record of 16 bytes.
    pub fn decode(r: &[u8]) -> Result<Self, PacketError> {
        let r: &[u8; RECORD] = r.try_into().map_err(|_| PacketError::Short)?;
        let [i0, i1, kind, rest @ ..] = *r;
        let id = u16::from_le_bytes([i0, i1]);
        let [t0, t1, t2, t3, b7, b8, b9, b10, b11, b12, b13, b14, b15] = rest;
        let timestamp = u32::from_le_bytes([t0, t1, t2, t3]);
        let event = match kind {
            0x02 => SelEvent::System {
                timestamp,
                generator: u16::from_le_bytes([b7, b8]),
                // b9: revision of the event format
                sensor_type: b10,
                sensor: b11,
                deasserted: b12 & 0x80 != 0,
                event_type: b12 & 0x7f,
                data: [b13, b14, b15],
            },
            0xc0..=0xdf => SelEvent::OemTimed {
                kind,
                timestamp,
                manufacturer: u32::from_le_bytes([b7, b8, b9, 0]),
                data: [b10, b11, b12, b13, b14, b15],
            },
            _ => SelEvent::Other { kind, data: rest },
        };
        Ok(Self { id, event })
    }
}

impl IpmiClient {
    /// State of the event log.
    ///
    /// # Errors
    /// See [`IpmiError`]; BMCs without a log answer C1h.
    pub async fn sel_info(&self) -> Result<SelInfo, IpmiError> {
        let d = self.raw(NETFN_STORAGE, CMD_INFO, &[]).await?;
        let field = || -> Option<SelInfo> {
            Some(SelInfo {
                version: *d.first()?,
                entries: read_u16(&d, 1)?,
                free: read_u16(&d, 3)?,
                last_added: read_u32(&d, 5)?,
                last_erased: read_u32(&d, 9)?,
                overflow: d.get(13)? & 0x80 != 0,
            })
        };
        field().ok_or_else(|| self.bad_answer(NETFN_STORAGE, CMD_INFO, PacketError::Short))
    }

    /// Entries, oldest first, at most `limit`. Each is a command of its own.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn sel_entries(&self, limit: usize) -> Result<Vec<SelEntry>, IpmiError> {
        let mut entries = Vec::new();
        let mut next = FIRST;
        while entries.len() < limit {
            let [low, high] = next.to_le_bytes();
            // no reservation is needed to read whole records
            let d = match self.raw(NETFN_STORAGE, CMD_GET, &[0, 0, low, high, 0, 0xff]).await {
                Ok(d) => d,
                // empty log, or the rest was erased meanwhile
                Err(e) if e.completion() == Some(NOT_PRESENT) => break,
                Err(e) => return Err(e),
            };
            let bad = |e| self.bad_answer(NETFN_STORAGE, CMD_GET, e);
            let following = read_u16(&d, 0).ok_or_else(|| bad(PacketError::Short))?;
            entries.push(SelEntry::decode(d.get(2..).unwrap_or_default()).map_err(bad)?);
            if following == LAST {
                break;
            }
            if following == next || following == FIRST {
                return Err(bad(PacketError::Message));
            }
            next = following;
        }
        Ok(entries)
    }

    /// Erases the log and waits until the BMC says so.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn sel_clear(&self) -> Result<(), IpmiError> {
        let deadline = tokio::time::Instant::now() + self.endpoint().timeout;
        let mut reservation = self.sel_reserve().await?;
        let mut action = 0xaa;
        loop {
            let [low, high] = reservation.to_le_bytes();
            let d = match self.command(NETFN_STORAGE, CMD_CLEAR, &[low, high, b'C', b'L', b'R', action], Resend::Yes).await {
                Err(e) if e.completion() == Some(RESERVATION_CANCELLED) && tokio::time::Instant::now() < deadline => {
                    // An event was added in between.
                    reservation = self.sel_reserve().await?;
                    continue;
                }
                other => other?,
            };
            // Low four bits: 1 erased, 0 under way.
            if d.first().is_some_and(|s| s & 0x0f == 1) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(self.bad_answer(NETFN_STORAGE, CMD_CLEAR, PacketError::Message));
            }
            action = 0x00;
            tokio::time::sleep(ERASE_POLL).await;
        }
    }

    async fn sel_reserve(&self) -> Result<u16, IpmiError> {
        let d = match self.raw(NETFN_STORAGE, CMD_RESERVE, &[]).await {
            // Reservations are optional.
            Err(e) if e.completion() == Some(0xc1) => return Ok(0),
            other => other?,
        };
        read_u16(&d, 0).ok_or_else(|| self.bad_answer(NETFN_STORAGE, CMD_RESERVE, PacketError::Short))
    }
}
