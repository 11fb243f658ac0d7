//! What a simulated BMC does: chassis, boot options, event log, sensors, identity.

use std::collections::HashMap;
use std::time::Instant;

use super::IpmiBmcConfig;
use super::sensors::Sensor;
use super::wire::{Command, algorithms_of};
use crate::machine::{BootDevice, BootMode, BootOverride, Machine, Power, PowerAction};

/// Everything but sessions.
pub(super) struct Management {
    boot_options: HashMap<u8, Vec<u8>>,
    flags_set: Option<Instant>,
    /// Event records in order; numbers start at 1.
    events: Vec<[u8; 16]>,
    next_event: u16,
    sel_reservation: u16,
    sdr_reservation: u16,
    sensors: Vec<Sensor>,
    /// Console session and sequence number for the answer to Close Session.
    pub(super) closed: Option<(u32, u32)>,
}

type Answer = (u8, Vec<u8>);

const OK: Answer = (0, Vec::new());

fn fail(code: u8) -> Answer {
    (code, Vec::new())
}

/// Data of Get Channel Cipher Suites: records of all suites, 16 bytes per question.
pub(super) fn cipher_suites(config: &IpmiBmcConfig, index: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for id in &config.suites {
        if let Some((a, i, c)) = algorithms_of(*id) {
            all.extend([0xc0, *id, a, 0x40 | i, 0x80 | c]);
        }
    }
    let mut d = vec![1];
    d.extend(all.iter().skip(usize::from(index & 0x3f) * 16).take(16));
    d
}

/// Lowest privilege for a command (appendix G).
fn needed(netfn: u8, cmd: u8) -> u8 {
    match (netfn, cmd) {
        (0, 0x02 | 0x05 | 0x08) | (0x0a, 0x44 | 0x47 | 0x49) => 3,
        (6, 0x02 | 0x03) => 4,
        _ => 2,
    }
}

impl Management {
    pub(super) fn new(config: &IpmiBmcConfig) -> Self {
        Self {
            boot_options: HashMap::new(),
            flags_set: None,
            events: Vec::new(),
            next_event: 1,
            sel_reservation: 0,
            sdr_reservation: 0,
            sensors: config.sensors.clone(),
            closed: None,
        }
    }

    pub(super) fn add_event(&mut self, mut record: [u8; 16]) -> u16 {
        let id = self.next_event;
        self.next_event += 1;
        record[..2].copy_from_slice(&id.to_le_bytes());
        self.events.push(record);
        id
    }

    pub(super) fn set_reading(&mut self, number: u8, raw: Option<u8>) {
        for s in self.sensors.iter_mut().filter(|s| s.number == number) {
            s.raw = raw;
        }
    }

    /// Parameter 5, unless it was used up or its time has come.
    pub(super) fn boot_flags(&self, config: &IpmiBmcConfig, machine: &Machine) -> Option<[u8; 5]> {
        let kept = self.boot_options.get(&3).is_some_and(|d| d.first().is_some_and(|b| b & 0x08 != 0));
        let lapsed = self.flags_set.is_some_and(|t| t.elapsed() >= config.boot_flag_lifetime);
        if lapsed && !kept && machine.boot_override().is_some_and(|b| !b.persistent) {
            machine.set_boot_override(None);
        }
        let o = machine.boot_override()?;
        let written = self.boot_options.get(&5);
        let rest = |i: usize| written.and_then(|w| w.get(i)).copied().unwrap_or(0);
        let mut first = 0x80;
        if o.persistent {
            first |= 0x40;
        }
        if o.mode == Some(BootMode::Uefi) {
            first |= 0x20;
        }
        let selector = match o.device {
            BootDevice::Pxe => 0x04,
            BootDevice::Disk => 0x08,
            BootDevice::SafeDisk => 0x0c,
            BootDevice::Cdrom => 0x14,
            BootDevice::BiosSetup => 0x18,
            BootDevice::Floppy => 0x3c,
            BootDevice::Usb | BootDevice::UefiHttp => 0x00,
        };
        // A selector of a maker (24h) reads back as written.
        let device = if rest(1) & 0x3c == 0x24 && selector == 0x08 { 0x24 } else { selector };
        Some([first, device, rest(2), rest(3), rest(4)])
    }

    pub(super) fn run(&mut self, config: &IpmiBmcConfig, machine: &Machine, level: u8, c: &Command) -> Answer {
        if level < needed(c.netfn, c.cmd) {
            return fail(0xd4);
        }
        match (c.netfn, c.cmd) {
            (0, 0x00) => (0, vec![0, 0x20, 0x20, 0x20, 0x20, 0x20]),
            (0, 0x01) => (0, vec![u8::from(machine.power() == Power::On), 0, 0, 0]),
            (0, 0x02) => chassis_control(machine, &c.data),
            (0, 0x08) => self.set_boot(config, machine, &c.data),
            (0, 0x09) => self.get_boot(config, machine, &c.data),
            (6, 0x01) => (
                0,
                // device 20h rev 1, firmware 2.35, IPMI 2.0, SDR+SEL+chassis, maker 7154, product 1
                vec![0x20, 0x01, 2, 0x35, 0x02, 0x8f, 0xf2, 0x1b, 0, 1, 0, 0, 0, 0, 0],
            ),
            (6, 0x02 | 0x03) => OK,
            (6, 0x37) => (0, config.guid.to_vec()),
            (6, 0x38) => (0, vec![1, 0x80, 0x04, 2, 0, 0, 0, 0]),
            (6, 0x54) => match c.data[..] {
                [_, _, index] => (0, cipher_suites(config, index)),
                _ => fail(0xc7),
            },
            (4, 0x2d) => match c.data[..] {
                [n] => match self.sensors.iter().find(|s| s.number == n) {
                    Some(s) => (0, s.reading()),
                    None => fail(0xcb),
                },
                _ => fail(0xc7),
            },
            (0x0a, cmd) => self.storage(config, cmd, &c.data),
            _ => fail(0xc1),
        }
    }

    fn set_boot(&mut self, config: &IpmiBmcConfig, machine: &Machine, d: &[u8]) -> Answer {
        let Some((p, data)) = d.split_first() else {
            return fail(0xc7);
        };
        let p = p & 0x7f;
        match p {
            0 => {
                let busy = self.boot_options.get(&0).is_some_and(|v| v == &[1]);
                match data {
                    [1] if busy => return fail(0x81),
                    [0..=2] => {}
                    _ => return fail(0xcc),
                }
            }
            3 if config.refuse_boot_timeout => return fail(0x80),
            1..=4 | 6 | 7 => {}
            5 => {
                let [first, device, ..] = data else {
                    return fail(0xc7);
                };
                let chosen = match device & 0x3c {
                    0x00 => None,
                    0x04 => Some(BootDevice::Pxe),
                    0x08 | 0x24 => Some(BootDevice::Disk),
                    0x0c => Some(BootDevice::SafeDisk),
                    0x14 => Some(BootDevice::Cdrom),
                    0x18 => Some(BootDevice::BiosSetup),
                    0x3c => Some(BootDevice::Floppy),
                    _ => return fail(0xcc),
                };
                let valid = first & 0x80 != 0;
                machine.set_boot_override(chosen.filter(|_| valid).map(|device| BootOverride {
                    device,
                    persistent: first & 0x40 != 0,
                    mode: Some(if first & 0x20 != 0 { BootMode::Uefi } else { BootMode::Bios }),
                    http_url: None,
                }));
                self.flags_set = Some(Instant::now());
            }
            _ => return fail(0x80),
        }
        // Commit (2) leaves the guard open, as set complete (0) does.
        self.boot_options.insert(p, data.to_vec());
        OK
    }

    fn get_boot(&mut self, config: &IpmiBmcConfig, machine: &Machine, d: &[u8]) -> Answer {
        let [p, _, _] = d else {
            return fail(0xc7);
        };
        let p = p & 0x7f;
        let stored = match p {
            5 => self.boot_flags(config, machine).map_or_else(|| vec![0; 5], |f| f.to_vec()),
            0..=4 | 6 | 7 => self.boot_options.get(&p).cloned().unwrap_or_else(|| vec![0]),
            _ => return fail(0x80),
        };
        let mut a = vec![1, p];
        a.extend(stored);
        (0, a)
    }

    fn storage(&mut self, config: &IpmiBmcConfig, cmd: u8, d: &[u8]) -> Answer {
        match cmd {
            0x20 => {
                let n = (self.sensors.len() as u16).to_le_bytes();
                (0, vec![0x51, n[0], n[1], 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0x02])
            }
            0x22 => {
                self.sdr_reservation += 1;
                (0, self.sdr_reservation.to_le_bytes().to_vec())
            }
            0x23 => self.get_sdr(config, d),
            0x40 => {
                let n = (self.events.len() as u16).to_le_bytes();
                (0, vec![0x51, n[0], n[1], 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a])
            }
            0x42 => {
                self.sel_reservation += 1;
                (0, self.sel_reservation.to_le_bytes().to_vec())
            }
            0x43 => self.get_sel(d),
            0x44 => match <[u8; 16]>::try_from(d) {
                Ok(r) => (0, self.add_event(r).to_le_bytes().to_vec()),
                Err(_) => fail(0xc7),
            },
            0x47 => match d {
                [a, b, b'C', b'L', b'R', what] => {
                    if u16::from_le_bytes([*a, *b]) != self.sel_reservation {
                        return fail(0xc5);
                    }
                    if *what == 0xaa {
                        self.events.clear();
                    }
                    (0, vec![1])
                }
                _ => fail(0xcc),
            },
            0x48 => (0, vec![0, 0, 0, 0x60]),
            0x49 => OK,
            _ => fail(0xc1),
        }
    }

    fn get_sel(&self, d: &[u8]) -> Answer {
        let [_, _, a, b, offset, count] = *d else {
            return fail(0xc7);
        };
        let wanted = u16::from_le_bytes([a, b]);
        let at = match wanted {
            0 => 0,
            0xffff => self.events.len().saturating_sub(1),
            id => match self.events.iter().position(|e| e[..2] == id.to_le_bytes()) {
                Some(i) => i,
                None => return fail(0xcb),
            },
        };
        let Some(record) = self.events.get(at) else {
            return fail(0xcb);
        };
        let mut answer = match self.events.get(at + 1) {
            Some(next) => next[..2].to_vec(),
            None => vec![0xff, 0xff],
        };
        let (from, count) = (usize::from(offset), usize::from(count));
        answer.extend(record.iter().skip(from).take(count));
        (0, answer)
    }

    fn get_sdr(&self, config: &IpmiBmcConfig, d: &[u8]) -> Answer {
        let [r0, r1, a, b, offset, count] = *d else {
            return fail(0xc7);
        };
        if offset != 0 && u16::from_le_bytes([r0, r1]) != self.sdr_reservation {
            return fail(0xc5);
        }
        let at = match u16::from_le_bytes([a, b]) {
            0xffff => self.sensors.len().saturating_sub(1),
            id => usize::from(id),
        };
        let Some(sensor) = self.sensors.get(at) else {
            return fail(0xcb);
        };
        let record = sensor.record(at as u16);
        let from = usize::from(offset);
        let count = match count {
            0xff => record.len().saturating_sub(from),
            n => usize::from(n),
        };
        if count > usize::from(config.sdr_chunk) {
            return fail(0xca);
        }
        if from > record.len() {
            return fail(0xc9);
        }
        let next = if at + 1 < self.sensors.len() { (at + 1) as u16 } else { 0xffff };
        let mut answer = next.to_le_bytes().to_vec();
        answer.extend(record.iter().skip(from).take(count));
        (0, answer)
    }
}

fn chassis_control(machine: &Machine, d: &[u8]) -> Answer {
    let [what] = d else {
        return fail(0xc7);
    };
    let action = match what & 0x0f {
        0 => PowerAction::ForceOff,
        1 => PowerAction::On,
        2 => PowerAction::Cycle,
        3 => PowerAction::Reset,
        4 => PowerAction::Diag,
        5 => PowerAction::SoftOff,
        _ => return fail(0xcc),
    };
    // Most BMCs refuse to cycle or reset a machine without power.
    if matches!(action, PowerAction::Cycle | PowerAction::Reset | PowerAction::Diag) && machine.power() == Power::Off {
        return fail(0xd5);
    }
    machine.act(action);
    OK
}
