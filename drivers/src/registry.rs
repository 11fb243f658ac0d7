//! Implementations by name. One registry per daemon; it owns the BMC connection pools through the implementations.

use std::{collections::HashMap, sync::Arc};

use bessemer_model::{interface::InterfaceKind, node::Node};

use crate::{
    fake::{
        FAKE_BIOS, FAKE_DEPLOY, FAKE_FIRMWARE, FAKE_RAID, FAKE_VENDOR, FAKE_VENDOR_PROPERTIES, FakeConsole, FakeHardware, FakeInspect,
        FakeManagement, FakePower, FakeSteps, FakeVendor,
    },
    fence::EffectFence,
    iface::{Bios, Console, DriverError, Firmware, Inspect, Management, Power, Result, Steps, Vendor, VirtualMedia},
    noop::{AgentPower, NoopManagement},
};

/// All implementations that this program has. Which of them may be used is configuration, checked elsewhere.
#[derive(Default)]
pub struct Registry {
    power: HashMap<&'static str, Arc<dyn Power>>,
    management: HashMap<&'static str, Arc<dyn Management>>,
    inspect: HashMap<&'static str, Arc<dyn Inspect>>,
    media: HashMap<&'static str, Arc<dyn VirtualMedia>>,
    managed_media: HashMap<&'static str, Arc<dyn VirtualMedia>>,
    consoles: HashMap<&'static str, Arc<dyn Console>>,
    vendors: HashMap<&'static str, Arc<dyn Vendor>>,
    bios: HashMap<&'static str, Arc<dyn Bios>>,
    firmware: HashMap<&'static str, Arc<dyn Firmware>>,
    steps: HashMap<(InterfaceKind, &'static str), Arc<dyn Steps>>,
    fence: EffectFence,
}

impl Registry {
    /// A registry with the fake and noop implementations on `hardware`.
    #[must_use]
    pub fn with_fake(hardware: &Arc<FakeHardware>) -> Self {
        let mut r = Self::default();
        r.add_power("fake", Arc::new(FakePower(Arc::clone(hardware))));
        r.add_management("fake", Arc::new(FakeManagement(Arc::clone(hardware))));
        r.add_management("noop", Arc::new(NoopManagement));
        r.add_power("agent", Arc::new(AgentPower));
        r.add_inspect("fake", Arc::new(FakeInspect(Arc::clone(hardware))));
        r.add_console("fake", Arc::new(FakeConsole(Arc::clone(hardware))));
        r.add_vendor("fake", Arc::new(FakeVendor(Arc::clone(hardware))));
        for (kind, interface, steps, properties) in [
            (InterfaceKind::Bios, "bios", FAKE_BIOS, &[][..]),
            (InterfaceKind::Raid, "raid", FAKE_RAID, &[][..]),
            (InterfaceKind::Firmware, "firmware", FAKE_FIRMWARE, &[][..]),
            (InterfaceKind::Vendor, "vendor", FAKE_VENDOR, FAKE_VENDOR_PROPERTIES),
            (InterfaceKind::Deploy, "deploy", FAKE_DEPLOY, &[][..]),
        ] {
            r.add_steps(kind, "fake", Arc::new(FakeSteps { interface, steps, properties, hardware: Arc::clone(hardware) }));
        }
        r
    }

    /// Adds a power implementation.
    pub fn add_power(&mut self, name: &'static str, p: Arc<dyn Power>) {
        self.power.insert(name, p);
    }
    /// The fence that the implementations ask before they change anything at a BMC.
    #[must_use]
    pub const fn fence(&self) -> &EffectFence {
        &self.fence
    }
    /// Takes the fence that was given to the implementations.
    pub fn set_fence(&mut self, fence: EffectFence) {
        self.fence = fence;
    }
    /// Adds a management implementation.
    pub fn add_management(&mut self, name: &'static str, m: Arc<dyn Management>) {
        self.management.insert(name, m);
    }
    /// Adds an inspect implementation.
    pub fn add_inspect(&mut self, name: &'static str, i: Arc<dyn Inspect>) {
        self.inspect.insert(name, i);
    }
    /// Adds virtual media, under the name of the boot interface that uses it.
    pub fn add_media(&mut self, name: &'static str, m: Arc<dyn VirtualMedia>) {
        self.media.insert(name, m);
    }
    /// Adds virtual media that operators may use, under the name of the management interface they belong to.
    pub fn add_managed_media(&mut self, name: &'static str, m: Arc<dyn VirtualMedia>) {
        self.managed_media.insert(name, m);
    }
    /// Adds a console implementation.
    pub fn add_console(&mut self, name: &'static str, c: Arc<dyn Console>) {
        self.consoles.insert(name, c);
    }
    /// Adds BIOS settings that can be read.
    pub fn add_bios(&mut self, name: &'static str, b: Arc<dyn Bios>) {
        self.bios.insert(name, b);
    }
    /// Adds versions of firmware that can be read.
    pub fn add_firmware(&mut self, name: &'static str, f: Arc<dyn Firmware>) {
        self.firmware.insert(name, f);
    }
    /// Adds vendor methods.
    pub fn add_vendor(&mut self, name: &'static str, v: Arc<dyn Vendor>) {
        self.vendors.insert(name, v);
    }
    /// Adds an implementation whose only work are steps.
    pub fn add_steps(&mut self, kind: InterfaceKind, name: &'static str, s: Arc<dyn Steps>) {
        self.steps.insert((kind, name), s);
    }

    /// The node's power implementation.
    ///
    /// # Errors
    /// `NotBuilt` when its name is known but nothing implements it.
    pub fn power(&self, node: &Node) -> Result<&Arc<dyn Power>> {
        let name = node.spec.interfaces.get(InterfaceKind::Power);
        self.power.get(name).ok_or_else(|| missing(InterfaceKind::Power, name))
    }
    /// The node's management implementation.
    ///
    /// # Errors
    /// As for [`Self::power`].
    pub fn management(&self, node: &Node) -> Result<&Arc<dyn Management>> {
        let name = node.spec.interfaces.get(InterfaceKind::Management);
        self.management.get(name).ok_or_else(|| missing(InterfaceKind::Management, name))
    }
    /// The node's out-of-band inspection, if it is of that sort.
    #[must_use]
    pub fn inspect(&self, node: &Node) -> Option<&Arc<dyn Inspect>> {
        self.inspect.get(node.spec.interfaces.get(InterfaceKind::Inspect))
    }
    /// Virtual media of the node's boot interface, if it is of that sort.
    #[must_use]
    pub fn media(&self, node: &Node) -> Option<&Arc<dyn VirtualMedia>> {
        self.media.get(node.spec.interfaces.get(InterfaceKind::Boot))
    }
    /// Virtual media of the node's management interface.
    ///
    /// # Errors
    /// `Unsupported` when it has none.
    pub fn media_of_management(&self, node: &Node) -> Result<&Arc<dyn VirtualMedia>> {
        let found = self.managed_media.get(node.spec.interfaces.get(InterfaceKind::Management));
        found.ok_or_else(|| {
            let driver = &node.spec.driver;
            DriverError::Unsupported(format!("Driver {driver} does not support virtual media (disabled or not implemented)."))
        })
    }
    /// The node's console.
    ///
    /// # Errors
    /// `Unsupported` for `no-console`; else as for [`Self::power`].
    pub fn console(&self, node: &Node) -> Result<&Arc<dyn Console>> {
        let name = node.spec.interfaces.get(InterfaceKind::Console);
        if name == "no-console" {
            return Err(DriverError::Unsupported(format!(
                "Driver {} does not support console (disabled or not implemented).",
                node.spec.driver
            )));
        }
        self.consoles.get(name).ok_or_else(|| missing(InterfaceKind::Console, name))
    }
    /// The node's BIOS settings, if they can be read.
    #[must_use]
    pub fn bios(&self, node: &Node) -> Option<&Arc<dyn Bios>> {
        self.bios.get(node.spec.interfaces.get(InterfaceKind::Bios))
    }
    /// The node's versions of firmware, if they can be read.
    #[must_use]
    pub fn firmware(&self, node: &Node) -> Option<&Arc<dyn Firmware>> {
        self.firmware.get(node.spec.interfaces.get(InterfaceKind::Firmware))
    }
    /// Vendor methods of the implementation of this name, if it has any.
    #[must_use]
    pub fn vendor_named(&self, name: &str) -> Option<&Arc<dyn Vendor>> {
        self.vendors.get(name)
    }
    /// The node's step-only implementation of `kind`.
    #[must_use]
    pub fn steps(&self, node: &Node, kind: InterfaceKind) -> Option<&Arc<dyn Steps>> {
        self.steps.iter().find(|((k, n), _)| *k == kind && *n == node.spec.interfaces.get(kind)).map(|(_, s)| s)
    }
    /// Implementations by name, for describing hardware types.
    #[must_use]
    pub fn power_named(&self, name: &str) -> Option<&Arc<dyn Power>> {
        self.power.get(name)
    }
    /// As [`Self::power_named`].
    #[must_use]
    pub fn management_named(&self, name: &str) -> Option<&Arc<dyn Management>> {
        self.management.get(name)
    }
    /// As [`Self::power_named`].
    #[must_use]
    pub fn steps_named(&self, kind: InterfaceKind, name: &str) -> Option<&Arc<dyn Steps>> {
        self.steps.iter().find(|((k, n), _)| *k == kind && *n == name).map(|(_, s)| s)
    }
}

fn missing(kind: InterfaceKind, name: &str) -> DriverError {
    DriverError::NotBuilt(format!("the {} interface '{name}'", kind.as_str()))
}
