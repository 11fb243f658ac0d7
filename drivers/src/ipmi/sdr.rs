//! Sensors: the sensor data repository and its readings (IPMI 2.0 sections 33, 35, 36 and 43).
//!
//! Records are read once and kept as long as the repository says it has not changed.

use std::sync::Arc;

use super::bmc::Resend;
use super::client::IpmiClient;
use super::codec::{PacketError, read_u16, read_u32};
use super::error::IpmiError;

const NETFN_SENSOR: u8 = 0x04;
const NETFN_STORAGE: u8 = 0x0a;
const CMD_READING: u8 = 0x2d;
const CMD_SDR_INFO: u8 = 0x20;
const CMD_SDR_RESERVE: u8 = 0x22;
const CMD_SDR_GET: u8 = 0x23;

const HEADER: u8 = 5;
const LAST: u16 = 0xffff;
/// Bytes per read; 16 fits every message size, and is halved when a BMC still says "too much".
const CHUNK: u8 = 16;
/// Most records that are read from one BMC.
const MAX_RECORDS: usize = 4096;
/// New reservations per record before the repository counts as never at rest.
const MAX_RESERVATIONS: u32 = 8;
const RESERVATION_CANCELLED: u8 = 0xc5;
const TOO_MANY_BYTES: u8 = 0xca;

/// A sensor as its record describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorRecord {
    /// Record number.
    pub id: u16,
    /// Controller that owns the sensor; 20h is the BMC itself.
    pub owner: u8,
    /// Logical unit of the owner.
    pub lun: u8,
    /// Sensor number.
    pub number: u8,
    /// Physical thing (table 43-13) and its instance.
    pub entity: (u8, u8),
    /// Sensor type (table 42-3).
    pub sensor_type: u8,
    /// 01h: thresholds; 6Fh: states of the sensor type; else generic states (table 42-1).
    pub event_type: u8,
    /// Name.
    pub name: String,
    /// How raw readings become values; `None` for sensors with states only.
    pub scale: Option<Scale>,
}

/// From raw byte to value: `L((m x + b 10^b_exp) 10^r_exp)` (36.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// 0 unsigned, 1 ones' complement, 2 two's complement.
    pub format: u8,
    /// Percentage instead of a plain unit.
    pub percent: bool,
    /// Base unit (table 43-15).
    pub unit: u8,
    /// Linearisation L.
    pub linearization: u8,
    /// Multiplier.
    pub m: i16,
    /// Offset.
    pub b: i16,
    /// Exponent of the offset.
    pub b_exp: i8,
    /// Exponent of the result.
    pub r_exp: i8,
    /// Which of the thresholds can be read, bit 0 lower non-critical to bit 5 upper non-recoverable.
    pub readable: u8,
    /// Raw thresholds, lower non-critical, critical, non-recoverable, then upper likewise.
    pub thresholds: [u8; 6],
}

fn sign_extend(value: u16, bits: u32) -> i16 {
    let shift = 16 - bits;
    ((value << shift) as i16) >> shift
}

impl Scale {
    /// The value of a raw reading; `None` when the sensor is not linear in a way that its record describes.
    #[must_use]
    pub fn value(&self, raw: u8) -> Option<f64> {
        let x = match self.format {
            0 => f64::from(raw),
            1 => f64::from(if raw & 0x80 != 0 { (raw as i8).wrapping_add(1) } else { raw as i8 }),
            2 => f64::from(raw as i8),
            _ => return None,
        };
        let y = (f64::from(self.m) * x + f64::from(self.b) * 10f64.powi(self.b_exp.into())) * 10f64.powi(self.r_exp.into());
        let value = match self.linearization & 0x7f {
            0 => y,
            1 => y.ln(),
            2 => y.log10(),
            3 => y.log2(),
            4 => y.exp(),
            5 => 10f64.powf(y),
            6 => y.exp2(),
            7 => 1.0 / y,
            8 => y * y,
            9 => y * y * y,
            10 => y.sqrt(),
            11 => y.cbrt(),
            _ => return None,
        };
        value.is_finite().then_some(value)
    }

    /// Name of the unit.
    #[must_use]
    pub const fn unit_name(&self) -> &'static str {
        if self.percent {
            return "percent";
        }
        match self.unit {
            1 => "degrees C",
            2 => "degrees F",
            3 => "degrees K",
            4 => "Volts",
            5 => "Amps",
            6 => "Watts",
            7 => "Joules",
            17 => "CFM",
            18 => "RPM",
            19 => "Hz",
            20 => "microsecond",
            21 => "millisecond",
            22 => "second",
            _ => "unspecified",
        }
    }
}

/// Name of a sensor type (table 42-3).
#[must_use]
pub const fn sensor_type_name(kind: u8) -> &'static str {
    match kind {
        0x01 => "Temperature",
        0x02 => "Voltage",
        0x03 => "Current",
        0x04 => "Fan",
        0x05 => "Physical Security",
        0x06 => "Platform Security",
        0x07 => "Processor",
        0x08 => "Power Supply",
        0x09 => "Power Unit",
        0x0a => "Cooling Device",
        0x0b => "Other",
        0x0c => "Memory",
        0x0d => "Drive Slot / Bay",
        0x0f => "System Firmwares",
        0x10 => "Event Logging Disabled",
        0x11 | 0x23 => "Watchdog",
        0x12 => "System Event",
        0x13 => "Critical Interrupt",
        0x14 => "Button",
        0x15 => "Module / Board",
        0x1b => "Cable / Interconnect",
        0x1d => "System Boot Initiated",
        0x1e => "Boot Error",
        0x1f => "OS Boot",
        0x20 => "OS Critical Stop",
        0x21 => "Slot / Connector",
        0x22 => "System ACPI Power State",
        0x24 => "Platform Alert",
        0x25 => "Entity Presence",
        0x27 => "LAN",
        0x28 => "Management Subsystem Health",
        0x29 => "Battery",
        0x2b => "Version Change",
        0xc0..=0xff => "OEM",
        _ => "Unknown",
    }
}

/// Name from a type/length byte and its bytes (43.15).
fn name(type_length: u8, bytes: &[u8]) -> String {
    let bytes = bytes.get(..usize::from(type_length & 0x1f)).unwrap_or(bytes);
    match type_length >> 6 {
        3 => bytes.iter().map(|b| char::from(*b)).collect(),
        2 => sixbit(bytes),
        1 => bytes
            .iter()
            .flat_map(|b| [b >> 4, b & 0x0f])
            .filter_map(|n| b"0123456789 -.:,_".get(usize::from(n)).map(|c| char::from(*c)))
            .collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
    .trim_end_matches(['\0', ' '])
    .to_owned()
}

/// Six bits per character, least significant bits first, counted from the space.
fn sixbit(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut acc, mut bits) = (0u32, 0);
    for b in bytes {
        acc |= u32::from(*b) << bits;
        bits += 8;
        while bits >= 6 {
            out.push(char::from(0x20 + (acc & 0x3f) as u8));
            acc >>= 6;
            bits -= 6;
        }
    }
    out
}

impl SensorRecord {
    /// Decodes a full (01h) or compact (02h) sensor record; `None` for other types and for what is cut short.
    #[must_use]
    pub fn decode(r: &[u8]) -> Option<Self> {
        let at = |i: usize| r.get(i).copied();
        let kind = at(3)?;
        let name_at = match kind {
            1 => 47,
            2 => 31,
            _ => return None,
        };
        let units = at(20)?;
        let scale = if kind == 1 && units >> 6 != 3 {
            Some(Scale {
                format: units >> 6,
                percent: units & 1 != 0,
                unit: at(21)?,
                linearization: at(23)?,
                m: sign_extend(u16::from(at(24)?) | u16::from(at(25)? & 0xc0) << 2, 10),
                b: sign_extend(u16::from(at(26)?) | u16::from(at(27)? & 0xc0) << 2, 10),
                b_exp: sign_extend(u16::from(at(29)? & 0x0f), 4) as i8,
                r_exp: sign_extend(u16::from(at(29)? >> 4), 4) as i8,
                readable: at(18)? & 0x3f,
                thresholds: [at(41)?, at(40)?, at(39)?, at(38)?, at(37)?, at(36)?],
            })
        } else {
            None
        };
        Some(Self {
            id: read_u16(r, 0)?,
            owner: at(5)?,
            lun: at(6)? & 3,
            number: at(7)?,
            entity: (at(8)?, at(9)? & 0x7f),
            sensor_type: at(12)?,
            event_type: at(13)? & 0x7f,
            name: name(at(name_at)?, r.get(name_at + 1..).unwrap_or_default()),
            scale,
        })
    }
}

/// How a sensor stands against its thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SensorStatus {
    /// No reading.
    Unavailable,
    /// Within all thresholds, or a sensor with states only.
    Ok,
    /// Beyond a non-critical threshold.
    NonCritical,
    /// Beyond a critical threshold.
    Critical,
    /// Beyond a non-recoverable threshold.
    NonRecoverable,
}

impl SensorStatus {
    /// Short name, as operators know it from other tools.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "ns",
            Self::Ok => "ok",
            Self::NonCritical => "nc",
            Self::Critical => "cr",
            Self::NonRecoverable => "nr",
        }
    }
}

/// A sensor with its present reading.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorReading {
    /// Its record.
    pub record: SensorRecord,
    /// Value in the unit of the record.
    pub value: Option<f64>,
    /// State bits of a sensor without a value.
    pub states: Option<u16>,
    /// Against the thresholds.
    pub status: SensorStatus,
}

/// What tells one state of a repository from another: records, last addition, last erasure.
pub(super) type Stamp = (u16, u32, u32);

impl IpmiClient {
    /// All sensors with their readings. The records are read on the first call and when the repository changed.
    ///
    /// # Errors
    /// See [`IpmiError`]; a sensor that cannot be read is in the list without a reading.
    pub async fn sensors(&self) -> Result<Vec<SensorReading>, IpmiError> {
        let records = self.sensor_records().await?;
        let mut readings = Vec::with_capacity(records.len());
        for record in records.iter() {
            readings.push(self.sensor_reading(record).await?);
        }
        Ok(readings)
    }

    /// The sensors of the repository.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn sensor_records(&self) -> Result<Arc<Vec<SensorRecord>>, IpmiError> {
        let d = self.raw(NETFN_STORAGE, CMD_SDR_INFO, &[]).await?;
        let stamp = || Some((read_u16(&d, 1)?, read_u32(&d, 5)?, read_u32(&d, 9)?));
        let stamp: Stamp = stamp().ok_or_else(|| self.bad_answer(NETFN_STORAGE, CMD_SDR_INFO, PacketError::Short))?;
        if let Some(known) = self.known_sensors(stamp) {
            return Ok(known);
        }
        let records = Arc::new(self.read_repository().await?);
        self.remember_sensors(stamp, records.clone());
        Ok(records)
    }

    async fn read_repository(&self) -> Result<Vec<SensorRecord>, IpmiError> {
        let mut reservation = self.sdr_reserve().await?;
        let mut records = Vec::new();
        let mut next = 0u16;
        for _ in 0..MAX_RECORDS {
            let (following, bytes) = match self.read_record(&mut reservation, next).await {
                // An empty repository says "not present" to the first record.
                Err(e) if next == 0 && e.completion() == Some(0xcb) => break,
                other => other?,
            };
            records.extend(SensorRecord::decode(&bytes));
            if following == LAST {
                break;
            }
            if following == next {
                return Err(self.bad_answer(NETFN_STORAGE, CMD_SDR_GET, PacketError::Message));
            }
            next = following;
        }
        Ok(records)
    }

    async fn sdr_reserve(&self) -> Result<u16, IpmiError> {
        let d = self.raw(NETFN_STORAGE, CMD_SDR_RESERVE, &[]).await?;
        read_u16(&d, 0).ok_or_else(|| self.bad_answer(NETFN_STORAGE, CMD_SDR_RESERVE, PacketError::Short))
    }

    /// One record in pieces; a cancelled reservation starts it anew.
    async fn read_record(&self, reservation: &mut u16, id: u16) -> Result<(u16, Vec<u8>), IpmiError> {
        let mut chunk = CHUNK;
        let mut reservations = 0;
        let mut bytes: Vec<u8> = Vec::new();
        let mut wanted = HEADER;
        loop {
            let have = bytes.len() as u8;
            let count = wanted.saturating_sub(have).min(chunk);
            let [r0, r1] = reservation.to_le_bytes();
            let [i0, i1] = id.to_le_bytes();
            let d = match self.raw(NETFN_STORAGE, CMD_SDR_GET, &[r0, r1, i0, i1, have, count]).await {
                Err(e) if e.completion() == Some(RESERVATION_CANCELLED) && reservations < MAX_RESERVATIONS => {
                    reservations += 1;
                    *reservation = self.sdr_reserve().await?;
                    bytes.clear();
                    wanted = HEADER;
                    continue;
                }
                Err(e) if e.completion() == Some(TOO_MANY_BYTES) && chunk > 4 => {
                    chunk /= 2;
                    continue;
                }
                other => other?,
            };
            let bad = |e| self.bad_answer(NETFN_STORAGE, CMD_SDR_GET, e);
            let following = read_u16(&d, 0).ok_or_else(|| bad(PacketError::Short))?;
            let piece = d.get(2..).filter(|p| !p.is_empty() && p.len() <= usize::from(count)).ok_or_else(|| bad(PacketError::Short))?;
            bytes.extend_from_slice(piece);
            if wanted == HEADER && bytes.len() >= usize::from(HEADER) {
                // fifth byte: bytes that follow the header
                wanted = bytes.get(4).map_or(HEADER, |n| HEADER.saturating_add(*n));
            }
            if bytes.len() >= usize::from(wanted) {
                return Ok((following, bytes));
            }
        }
    }

    async fn sensor_reading(&self, record: &SensorRecord) -> Result<SensorReading, IpmiError> {
        let unavailable = SensorReading { record: record.clone(), value: None, states: None, status: SensorStatus::Unavailable };
        // Sensors of other controllers would need a bridge.
        if record.owner != super::codec::BMC_ADDRESS {
            return Ok(unavailable);
        }
        let r = self.ask_unit(record.lun, NETFN_SENSOR, CMD_READING, &[record.number], Resend::Yes).await?;
        let (0, [raw, flags, rest @ ..]) = (r.completion, &r.data[..]) else {
            return Ok(unavailable);
        };
        // bit 5: reading not valid; bit 6: scanning on
        if flags & 0x20 != 0 || flags & 0x40 == 0 {
            return Ok(unavailable);
        }
        let low = rest.first().copied().unwrap_or(0);
        let states = u16::from(low) | u16::from(rest.get(1).copied().unwrap_or(0) & 0x7f) << 8;
        let status = match record.event_type {
            0x01 if low & 0x24 != 0 => SensorStatus::NonRecoverable,
            0x01 if low & 0x12 != 0 => SensorStatus::Critical,
            0x01 if low & 0x09 != 0 => SensorStatus::NonCritical,
            _ => SensorStatus::Ok,
        };
        Ok(SensorReading {
            value: record.scale.and_then(|s| s.value(*raw)),
            states: (record.event_type != 0x01).then_some(states),
            status,
            ..unavailable
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_names_are_read() {
        // "IPMI" in six bits: 29 30 2d 29 (hex) from the specification's example
        assert_eq!(name(0x83, &[0x29, 0xdc, 0xa6]), "IPMI");
        assert_eq!(name(0xc4, b"FAN1rest"), "FAN1");
        assert_eq!(name(0x42, &[0x12, 0xc3]), "12.3");
        assert_eq!(name(0xc5, b"A\0\0\0\0"), "A");
    }

    #[test]
    fn ones_complement_and_curves_are_computed() {
        let s =
            Scale { format: 1, percent: false, unit: 1, linearization: 0, m: 1, b: 0, b_exp: 0, r_exp: 0, readable: 0, thresholds: [0; 6] };
        assert_eq!(s.value(0xfe), Some(-1.0));
        assert_eq!(s.value(0x05), Some(5.0));
        let s = Scale { format: 0, linearization: 7, ..s };
        assert_eq!(s.value(4), Some(0.25));
        assert_eq!(s.value(0), None, "infinity is no reading");
        assert_eq!(Scale { linearization: 0x70, ..s }.value(4), None);
    }

    #[test]
    fn cut_records_are_no_sensors() {
        let whole = {
            let mut r = vec![1, 0, 0x51, 1, 46];
            r.extend([0; 42]);
            r.push(0xc1);
            r.push(b'X');
            r
        };
        assert_eq!(SensorRecord::decode(&whole).map(|s| s.name), Some("X".into()));
        for n in 0..47 {
            assert_eq!(SensorRecord::decode(&whole[..n]), None);
        }
    }
}
