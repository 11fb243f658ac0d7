//! One simulated machine, driven by the BMC servers of this crate.
//!
//! It knows power, boot override and inserted media, keeps a log of everything that happened to it, and tells an
//! optional hook about power changes (a test may start and stop a real emulator there). It never speaks a
//! protocol: the IPMI and the Redfish server translate, and both may drive the same machine at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether the machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    /// Running.
    On,
    /// Stand-by power only: the BMC answers, nothing else does.
    Off,
}

/// What a BMC may do to the power of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerAction {
    /// Power on; nothing happens to a machine that is on.
    On,
    /// Cut the power; nothing happens to a machine that is off.
    ForceOff,
    /// Ask the operating system to shut down (an ACPI power button press); see [`SoftOff`].
    SoftOff,
    /// Power off, then on again. Nothing happens to a machine that is off.
    Cycle,
    /// Hardware reset without losing power. Nothing happens to a machine that is off.
    Reset,
    /// Diagnostic (non-maskable) interrupt: only written to the log.
    Diag,
}

/// How the simulated operating system reacts to a polite power-off request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftOff {
    /// Powers off after this time (zero: at once).
    After(Duration),
    /// Never reacts, as a machine without an operating system does.
    Ignored,
}

/// What the machine is told to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BootDevice {
    /// Network, by PXE.
    Pxe,
    /// The default disk.
    Disk,
    /// Optical drive, also virtual media.
    Cdrom,
    /// The firmware's own setup screen.
    BiosSetup,
    /// The default disk in a safe mode.
    SafeDisk,
    /// USB mass storage.
    Usb,
    /// UEFI HTTP boot.
    UefiHttp,
    /// Floppy or primary removable medium.
    Floppy,
}

/// Firmware flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BootMode {
    /// Legacy BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// A boot override: what the next start (or every start) uses instead of the firmware's own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOverride {
    /// Device to start from.
    pub device: BootDevice,
    /// Kept after the next start; a one-time override is used up by it.
    pub persistent: bool,
    /// Firmware flavour asked for together with the device, when the protocol said so.
    pub mode: Option<BootMode>,
    /// Address for [`BootDevice::UefiHttp`].
    pub http_url: Option<String>,
}

/// One entry of the log of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A BMC was asked for this (whether or not the state changed).
    Asked(PowerAction),
    /// Power changed to this state.
    Power(Power),
    /// The machine started: device used for it (`None`: the firmware's own order) and firmware flavour.
    Booted(Option<BootDevice>, BootMode),
    /// The boot override was set or cleared.
    Override(Option<BootOverride>),
    /// The firmware flavour was changed.
    Mode(BootMode),
    /// A medium was inserted into (or, with `None`, removed from) a slot.
    Media(String, Option<String>),
}

/// A [`Happening`] with the time it happened at, counted from the making of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Time since the machine was made.
    pub at: Duration,
    /// What happened.
    pub what: Happening,
}

/// What a hook is told: the machine was started or stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerEvent {
    /// The machine starts (power on, cycle or reset) from this device in this mode, with these media inserted.
    Start {
        /// Device of the override in force, `None` for the firmware's own order.
        device: Option<BootDevice>,
        /// Firmware flavour.
        mode: BootMode,
        /// Slot name to image address.
        media: BTreeMap<String, String>,
        /// True when the machine was already running (reset or cycle).
        again: bool,
    },
    /// The power is cut or the operating system went down.
    Stop,
}

/// Called with the machine's name on every start and stop, outside the machine's lock, in the task of the BMC server that caused it.
pub type PowerHook = Arc<dyn Fn(&str, &PowerEvent) + Send + Sync>;

/// Delays and habits of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Time between the request to power on and the state `On`.
    pub on_delay: Duration,
    /// Time between the request to cut the power and the state `Off`.
    pub off_delay: Duration,
    /// Reaction to a polite power-off.
    pub soft_off: SoftOff,
}

impl Default for Habits {
    fn default() -> Self {
        Self { on_delay: Duration::ZERO, off_delay: Duration::ZERO, soft_off: SoftOff::After(Duration::ZERO) }
    }
}

struct State {
    power: Power,
    mode: BootMode,
    boot: Option<BootOverride>,
    media: BTreeMap<String, String>,
    habits: Habits,
    log: Vec<LogEntry>,
    hook: Option<PowerHook>,
    /// Counts power requests, so that a delayed change which was overtaken is dropped.
    generation: u64,
}

/// A simulated machine. Clones are handles of the same machine.
#[derive(Clone)]
pub struct Machine {
    name: Arc<str>,
    born: Instant,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self.lock();
        f.debug_struct("Machine")
            .field("name", &self.name)
            .field("power", &s.power)
            .field("mode", &s.mode)
            .field("boot", &s.boot)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that is off, starts as UEFI and has no boot override.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            born: Instant::now(),
            state: Arc::new(Mutex::new(State {
                power: Power::Off,
                mode: BootMode::Uefi,
                boot: None,
                media: BTreeMap::new(),
                habits: Habits::default(),
                log: Vec::new(),
                hook: None,
                generation: 0,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole, so a panic elsewhere while the lock was held does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name given at the making.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Power state now.
    #[must_use]
    pub fn power(&self) -> Power {
        self.lock().power
    }

    /// Firmware flavour.
    #[must_use]
    pub fn boot_mode(&self) -> BootMode {
        self.lock().mode
    }

    /// Boot override in force, if any.
    #[must_use]
    pub fn boot_override(&self) -> Option<BootOverride> {
        self.lock().boot.clone()
    }

    /// Media inserted: slot name to image address.
    #[must_use]
    pub fn media(&self) -> BTreeMap<String, String> {
        self.lock().media.clone()
    }

    /// Everything that happened, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.lock().log.clone()
    }

    /// [`Machine::log`] without the times.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        self.lock().log.iter().map(|e| e.what.clone()).collect()
    }

    /// Sets the delays and habits.
    pub fn set_habits(&self, habits: Habits) {
        self.lock().habits = habits;
    }

    /// Sets the hook that is told about starts and stops (one at a time; a second replaces the first).
    pub fn set_hook(&self, hook: PowerHook) {
        self.lock().hook = Some(hook);
    }

    /// Sets the firmware flavour.
    pub fn set_boot_mode(&self, mode: BootMode) {
        let mut s = self.lock();
        if s.mode != mode {
            s.mode = mode;
            self.note(&mut s, Happening::Mode(mode));
        }
    }

    /// Sets or clears the boot override.
    pub fn set_boot_override(&self, boot: Option<BootOverride>) {
        let mut s = self.lock();
        s.boot.clone_from(&boot);
        self.note(&mut s, Happening::Override(boot));
    }

    /// Inserts an image into a slot, or removes what is there.
    pub fn set_media(&self, slot: &str, image: Option<&str>) {
        let mut s = self.lock();
        match image {
            Some(i) => {
                s.media.insert(slot.to_owned(), i.to_owned());
            }
            None => {
                s.media.remove(slot);
            }
        }
        self.note(&mut s, Happening::Media(slot.to_owned(), image.map(str::to_owned)));
    }

    /// Sets the power state as if it had always been so: no log entry, no hook, no boot.
    pub fn assume_power(&self, power: Power) {
        let mut s = self.lock();
        s.generation += 1;
        s.power = power;
    }

    /// Tells the machine that the emulator behind its hook changed state by itself (the guest powered off).
    /// Written to the log; the hook is not called.
    pub fn observe_power(&self, power: Power) {
        let mut s = self.lock();
        s.generation += 1;
        if s.power != power {
            s.power = power;
            self.note(&mut s, Happening::Power(power));
        }
    }

    /// Does `action`, after the delays of [`Habits`]. Returns at once.
    ///
    /// # Panics
    /// When a delay is set and there is no tokio runtime to wait in.
    pub fn act(&self, action: PowerAction) {
        let (generation, delay) = {
            let mut s = self.lock();
            self.note(&mut s, Happening::Asked(action));
            let delay = match action {
                PowerAction::Diag => return,
                PowerAction::On => s.habits.on_delay,
                PowerAction::ForceOff | PowerAction::Cycle => s.habits.off_delay,
                PowerAction::Reset => Duration::ZERO,
                PowerAction::SoftOff => match s.habits.soft_off {
                    SoftOff::After(d) => d,
                    SoftOff::Ignored => return,
                },
            };
            s.generation += 1;
            (s.generation, delay)
        };
        if delay.is_zero() {
            self.finish(action, generation);
        } else {
            let machine = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                machine.finish(action, generation);
            });
        }
    }

    fn finish(&self, action: PowerAction, generation: u64) {
        let mut events = Vec::new();
        let hook = {
            let mut s = self.lock();
            if s.generation != generation {
                return;
            }
            let was = s.power;
            match (action, was) {
                (PowerAction::On, Power::Off) => events.push(self.start(&mut s, false)),
                (PowerAction::Reset, Power::On) => events.push(self.start(&mut s, true)),
                (PowerAction::ForceOff | PowerAction::SoftOff, Power::On) => {
                    events.push(self.stop(&mut s));
                }
                (PowerAction::Cycle, Power::On) => {
                    events.push(self.stop(&mut s));
                    events.push(self.start(&mut s, true));
                }
                _ => {}
            }
            s.hook.clone()
        };
        if let Some(hook) = hook {
            for event in &events {
                hook(&self.name, event);
            }
        }
    }

    fn start(&self, s: &mut State, again: bool) -> PowerEvent {
        if s.power == Power::Off {
            s.power = Power::On;
            self.note(s, Happening::Power(Power::On));
        }
        let used = s.boot.clone();
        let mode = used.as_ref().and_then(|b| b.mode).unwrap_or(s.mode);
        let device = used.as_ref().map(|b| b.device);
        if used.is_some_and(|b| !b.persistent) {
            s.boot = None;
        }
        self.note(s, Happening::Booted(device, mode));
        PowerEvent::Start { device, mode, media: s.media.clone(), again }
    }

    fn stop(&self, s: &mut State) -> PowerEvent {
        s.power = Power::Off;
        self.note(s, Happening::Power(Power::Off));
        PowerEvent::Stop
    }

    fn note(&self, s: &mut State, what: Happening) {
        let at = self.born.elapsed();
        s.log.push(LogEntry { at, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(device: BootDevice) -> BootOverride {
        BootOverride { device, persistent: false, mode: None, http_url: None }
    }

    #[test]
    fn a_one_time_override_is_used_up_by_one_start() {
        let m = Machine::new("m");
        m.set_boot_override(Some(once(BootDevice::Pxe)));
        m.act(PowerAction::On);
        m.act(PowerAction::Reset);
        let boots: Vec<_> = m
            .happenings()
            .into_iter()
            .filter_map(|h| match h {
                Happening::Booted(d, _) => Some(d),
                _ => None,
            })
            .collect();
        assert_eq!(boots, [Some(BootDevice::Pxe), None]);
    }

    #[test]
    fn a_machine_without_an_operating_system_ignores_a_polite_request() {
        let m = Machine::new("m");
        m.set_habits(Habits { soft_off: SoftOff::Ignored, ..Habits::default() });
        m.act(PowerAction::On);
        m.act(PowerAction::SoftOff);
        assert_eq!(m.power(), Power::On);
    }

    #[test]
    fn the_hook_sees_stop_and_start_of_a_cycle() {
        let m = Machine::new("m");
        m.act(PowerAction::On);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        m.set_hook(Arc::new(move |_, e| sink.lock().unwrap().push(e.clone())));
        m.act(PowerAction::Cycle);
        let seen = seen.lock().unwrap();
        assert!(matches!(seen[..], [PowerEvent::Stop, PowerEvent::Start { again: true, .. }]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_power_change_is_dropped_when_a_later_request_overtakes_it() {
        let m = Machine::new("m");
        m.set_habits(Habits { off_delay: Duration::from_secs(5), ..Habits::default() });
        m.act(PowerAction::On);
        m.act(PowerAction::ForceOff);
        assert_eq!(m.power(), Power::On);
        m.act(PowerAction::On);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(m.power(), Power::On);
        m.act(PowerAction::ForceOff);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(m.power(), Power::Off);
    }
}
