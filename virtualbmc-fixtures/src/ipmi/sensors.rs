//! Sensors of a simulated BMC and their records in the sensor data repository.

/// One sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensor {
    /// Number.
    pub number: u8,
    /// Name, at most 16 characters.
    pub name: String,
    /// Sensor type (table 42-3): 01h temperature, 02h voltage, 04h fan, 08h power supply.
    pub kind: u8,
    /// Raw reading; `None`: not available. For discrete sensors the low byte of the state bits.
    pub raw: Option<u8>,
    /// How the reading is told.
    pub reading: Reading,
}

/// How a sensor is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// `value = (m * raw + b * 10^b_exp) * 10^r_exp` in this unit (table 43-15), with upper critical and upper non-critical raw thresholds.
    Analog {
        /// Unit code: 1 degrees C, 4 volts, 6 watts, 18 rpm.
        unit: u8,
        /// Raw values are two's complement.
        signed: bool,
        /// Multiplier, -512 to 511.
        m: i16,
        /// Offset, -512 to 511.
        b: i16,
        /// Exponent of the offset, -8 to 7.
        b_exp: i8,
        /// Exponent of the result, -8 to 7.
        r_exp: i8,
        /// Raw upper thresholds: non-critical, critical.
        upper: (u8, u8),
    },
    /// State bits of the sensor's own type (event type 6Fh).
    Discrete,
}

/// A processor temperature, a fan, a 12 V rail, an inlet temperature below zero, and a power supply.
pub(super) fn defaults() -> Vec<Sensor> {
    let analog = |unit, signed, m, b, b_exp, r_exp, upper| Reading::Analog { unit, signed, m, b, b_exp, r_exp, upper };
    let sensor = |number, name: &str, kind, raw, reading| Sensor { number, name: name.into(), kind, raw: Some(raw), reading };
    vec![
        sensor(1, "CPU Temp", 1, 42, analog(1, false, 1, 0, 0, 0, (80, 95))),
        sensor(2, "FAN1", 4, 53, analog(18, false, 100, 0, 0, 0, (200, 220))),
        sensor(3, "12V", 2, 193, analog(4, false, 63, 0, 0, -3, (210, 220))),
        // -7.5: (5 * -17 + 1 * 10^1) * 10^-1
        sensor(4, "Inlet Temp", 1, 0xef, analog(1, true, 5, 1, 1, -1, (80, 90))),
        sensor(5, "PS1 Status", 8, 0x01, Reading::Discrete),
    ]
}

impl Sensor {
    /// Sensor data record: type 01h for analog, 02h for discrete sensors (43.1, 43.2).
    pub(super) fn record(&self, id: u16) -> Vec<u8> {
        let mut body = vec![0x20, 0, self.number, 7, 1]; // owner BMC, lun 0, number, entity system board 1
        match self.reading {
            Reading::Analog { unit, signed, m, b, b_exp, r_exp, upper } => {
                let (m, b) = (m as u16 & 0x3ff, b as u16 & 0x3ff);
                body.extend([0x7f, 0x68, self.kind, 1]); // initialised; auto re-arm, thresholds readable; type; threshold based
                body.extend([0; 6]);
                // byte 20 on: settable/readable masks live in the 6 bytes above; units
                let last = body.len();
                body[last - 2] = 0x18; // readable: upper non-critical, upper critical
                body.extend([if signed { 0x80 } else { 0 }, unit, 0, 0]); // linear
                body.extend([m as u8, ((m >> 8) as u8) << 6, b as u8, ((b >> 8) as u8) << 6, 0]);
                body.push(((r_exp as u8) & 0x0f) << 4 | (b_exp as u8) & 0x0f);
                body.extend([0, 0, 0, 0]); // no nominal reading
                body.extend(if signed { [0x7f, 0x80] } else { [0xff, 0] });
                body.extend([0, upper.1, upper.0, 0, 0, 0]); // upper NR, C, NC, lower NR, C, NC
                body.extend([2, 2, 0, 0, 0]); // hysteresis, reserved, OEM
            }
            Reading::Discrete => {
                body.extend([0x67, 0x40, self.kind, 0x6f]);
                body.extend([0x0f, 0, 0x0f, 0, 0x0f, 0]); // assertion, deassertion, readable states
                body.extend([0xc0, 0, 0]); // no analog reading
                body.extend([1, 0]); // one sensor in the record
                body.extend([0, 0]); // hysteresis
                body.extend([0; 4]);
            }
        }
        let name: Vec<u8> = self.name.bytes().take(16).collect();
        body.push(0xc0 | name.len() as u8);
        body.extend(name);
        let kind = match self.reading {
            Reading::Analog { .. } => 1,
            Reading::Discrete => 2,
        };
        let mut r = id.to_le_bytes().to_vec();
        r.extend([0x51, kind, body.len() as u8]);
        r.extend(body);
        r
    }

    /// Data of Get Sensor Reading.
    pub(super) fn reading(&self) -> Vec<u8> {
        match (self.raw, self.reading) {
            (None, _) => vec![0, 0xe0, 0, 0],
            (Some(v), Reading::Discrete) => vec![0, 0xc0, v, 0x80],
            (Some(v), Reading::Analog { upper, signed, .. }) => {
                let above = |t: u8| {
                    if signed { (v as i8) >= t as i8 } else { v >= t }
                };
                let state = u8::from(above(upper.0)) << 3 | u8::from(above(upper.1)) << 4;
                vec![v, 0xc0, 0xc0 | state, 0]
            }
        }
    }
}
