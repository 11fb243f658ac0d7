//! The `fake` implementations: no hardware, settable delays and faults, for developers and tests.

mod devices;

pub use devices::{FakeConsole, FakeVendor};

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bessemer_model::{
    Json, JsonMap,
    firmware::BiosSetting,
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    state::{PowerChange, PowerState},
    step::{Replay, Step},
};

use crate::iface::{
    BootDevice, BootDeviceState, BootMode, DriverCx, DriverError, Indicator, IndicatorState, Inspect, Inspected, Management, Power,
    Property, Result, StepDecl, StepOutcome, Steps,
};

/// How the fake hardware misbehaves. Shared by every fake implementation of a registry.
#[derive(Clone, Debug, Default)]
pub struct FakeBehaviour {
    /// Seconds that an operation of an interface takes (`[fake] <interface>_delay`), by interface name.
    pub delays: HashMap<String, f64>,
    /// Operations (`deploy.deploy`, `power.set`…) whose first runs fail, and how many of them (`[fake] failures`).
    pub failures: HashMap<String, u32>,
}

/// Reads `[fake] failures`: `OPERATION` or `OPERATION:TIMES`, separated by commas; without TIMES every run fails.
///
/// # Errors
/// The word that is neither.
pub fn parse_failures(text: &str) -> std::result::Result<HashMap<String, u32>, String> {
    let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
    words
        .map(|word| {
            let (operation, times) = word.split_once(':').map_or((word, Some(u32::MAX)), |(o, t)| (o, t.parse().ok()));
            let known = operation.split_once('.').is_some_and(|(i, name)| InterfaceKind::parse(i).is_some() && !name.is_empty());
            match times.filter(|_| known) {
                Some(times) => Ok((operation.to_owned(), times)),
                None => Err(format!("'{word}' is not INTERFACE.OPERATION or INTERFACE.OPERATION:TIMES, for example deploy.deploy:1")),
            }
        })
        .collect()
}

/// What the fake machines remember, and the faults asked of them.
#[derive(Debug, Default)]
pub struct FakeHardware {
    behaviour: FakeBehaviour,
    boot: Mutex<HashMap<NodeId, (BootDevice, bool)>>,
    faults: Mutex<HashMap<String, u32>>,
    calls: Mutex<HashMap<String, u64>>,
    findings: Mutex<Inspected>,
}

impl FakeHardware {
    /// Fake hardware with these delays.
    #[must_use]
    pub fn new(behaviour: FakeBehaviour) -> Arc<Self> {
        let faults = Mutex::new(behaviour.failures.clone());
        Arc::new(Self { behaviour, faults, ..Self::default() })
    }

    /// Makes the next `times` runs of an operation (`deploy.deploy`, `power.set`…) fail.
    pub fn fail_next(&self, operation: &str, times: u32) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(operation.to_owned(), times);
    }

    /// What every inspection finds from now on.
    pub fn finds(&self, findings: Inspected) {
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = findings;
    }

    /// How often an operation was run.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(operation).copied().unwrap_or(0)
    }

    /// One operation: counts it, takes the interface's delay, fails if told to.
    ///
    /// # Errors
    /// The fault asked for by [`Self::fail_next`].
    pub async fn operate(&self, interface: &str, name: &str) -> Result<()> {
        let op = format!("{interface}.{name}");
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(op.clone()).or_default() += 1;
        if let Some(d) = self.behaviour.delays.get(interface).filter(|d| **d > 0.0) {
            tokio::time::sleep(Duration::from_secs_f64(d.min(86_400.0))).await;
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = faults.get_mut(&op).filter(|n| **n > 0) {
            *n = if *n == u32::MAX { *n } else { *n - 1 };
            return Err(DriverError::Refused(format!("fake hardware was told to fail {op}")));
        }
        Ok(())
    }
}

/// `fake` power: the state is what was last asked for.
#[derive(Clone, Debug)]
pub struct FakePower(pub Arc<FakeHardware>);

#[async_trait]
impl Power for FakePower {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    async fn state(&self, cx: &DriverCx<'_>) -> Result<Option<PowerState>> {
        Ok(cx.node.status.power_state)
    }
    async fn set(&self, _cx: &DriverCx<'_>, _change: PowerChange, _wait: Duration) -> Result<()> {
        self.0.operate("power", "set").await
    }
    fn supported(&self) -> &'static [PowerChange] {
        &[PowerChange::On, PowerChange::Off, PowerChange::Reboot, PowerChange::SoftReboot, PowerChange::SoftOff]
    }
}

/// `fake` management.
#[derive(Clone, Debug)]
pub struct FakeManagement(pub Arc<FakeHardware>);

#[async_trait]
impl Management for FakeManagement {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    fn supported_boot_devices(&self, _node: &Node) -> Vec<BootDevice> {
        vec![BootDevice::Pxe]
    }
    async fn boot_device(&self, cx: &DriverCx<'_>) -> Result<BootDeviceState> {
        let memory = self.0.boot.lock().unwrap_or_else(PoisonError::into_inner);
        let (device, persistent) = memory.get(&cx.node.id).copied().unwrap_or((BootDevice::Pxe, false));
        Ok(BootDeviceState { device: Some(device), persistent: Some(persistent) })
    }
    async fn set_boot_device(&self, cx: &DriverCx<'_>, device: BootDevice, persistent: bool, _mode: BootMode) -> Result<()> {
        self.0.operate("management", "set_boot_device").await?;
        self.0.boot.lock().unwrap_or_else(PoisonError::into_inner).insert(cx.node.id, (device, persistent));
        Ok(())
    }
    async fn sensors(&self, _cx: &DriverCx<'_>) -> Result<Json> {
        Ok(serde_json::json!({}))
    }
    async fn indicators(&self, _cx: &DriverCx<'_>, component: Option<&str>) -> Result<Vec<Indicator>> {
        Ok(devices::indicators(component))
    }
    async fn indicator(&self, _cx: &DriverCx<'_>, component: &str, name: &str) -> Result<IndicatorState> {
        devices::indicator(component, name)
    }
}

/// `fake` inspection: finds what it was told to find, which is nothing at first.
#[derive(Clone, Debug)]
pub struct FakeInspect(pub Arc<FakeHardware>);

#[async_trait]
impl Inspect for FakeInspect {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    async fn inspect(&self, _cx: &DriverCx<'_>) -> Result<Inspected> {
        self.0.operate("inspect", "inspect").await?;
        Ok(self.0.findings.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// `fake` bios, raid, firmware, deploy and vendor: steps that do nothing but take time.
#[derive(Clone, Debug)]
pub struct FakeSteps {
    /// The interface that it stands for.
    pub interface: &'static str,
    /// Its steps.
    pub steps: &'static [StepDecl],
    /// Keys that it reads.
    pub properties: &'static [Property],
    /// The hardware.
    pub hardware: Arc<FakeHardware>,
}

const fn fake(name: &'static str, args: &'static [(&'static str, bool)]) -> StepDecl {
    StepDecl { args, ..StepDecl::on_request(name) }
}

/// Steps of `fake` bios.
pub const FAKE_BIOS: &[StepDecl] =
    &[fake("apply_configuration", &[("settings", true)]), fake("factory_reset", &[]), fake("cache_bios_settings", &[])];
/// Steps of `fake` raid.
pub const FAKE_RAID: &[StepDecl] = &[
    fake("create_configuration", &[("create_root_volume", false), ("create_nonroot_volumes", false)]),
    fake("delete_configuration", &[]),
    StepDecl { clean_priority: None, ..fake("apply_configuration", &[("raid_config", true), ("delete_existing", false)]) },
];
/// Steps of `fake` firmware.
pub const FAKE_FIRMWARE: &[StepDecl] = &[fake("update", &[("settings", true)])];
/// Steps of `fake` vendor.
pub const FAKE_VENDOR: &[StepDecl] = &[
    StepDecl {
        clean_priority: Some(1),
        deploy_priority: None,
        requires_ramdisk: true,
        service: true,
        ..StepDecl::on_request("log_passthrough")
    },
    StepDecl { clean_priority: None, deploy_priority: None, ..StepDecl::on_request("trigger_servicewait") },
];
/// Steps of `fake` deploy.
pub const FAKE_DEPLOY: &[StepDecl] = &[StepDecl {
    clean_priority: None,
    deploy_priority: Some(100),
    service: false,
    replay: Replay::Idempotent,
    ..StepDecl::on_request("deploy")
}];

/// Keys of `fake` vendor and deploy, as the contract lists them for the hardware type.
pub const FAKE_VENDOR_PROPERTIES: &[Property] =
    &[Property { key: "B1", text: "B1 description. Required." }, Property { key: "B2", text: "B2 description. Required." }];

#[async_trait]
impl Steps for FakeSteps {
    fn properties(&self) -> &'static [Property] {
        self.properties
    }
    fn steps(&self) -> &'static [StepDecl] {
        self.steps
    }
    async fn run(&self, cx: &DriverCx<'_>, step: &Step) -> Result<StepOutcome> {
        if !self.steps.iter().any(|s| s.name == step.name) {
            return Err(DriverError::Unsupported(format!("fake {} has no step '{}'", self.interface, step.name)));
        }
        self.hardware.operate(self.interface, &step.name).await?;
        match (self.interface, step.name.as_str()) {
            ("vendor", "trigger_servicewait") => Ok(StepOutcome::Wait { poll: None, note: Json::Null }),
            ("bios", "apply_configuration") => {
                let settings = step.args.get("settings").and_then(Json::as_array).cloned().unwrap_or_default();
                let named = settings.iter().filter_map(|s| Some((s.get("name")?.as_str()?, s.get("value").unwrap_or(&Json::Null))));
                // The last of equal names wins.
                let map: BTreeMap<&str, &Json> = named.collect();
                Ok(StepOutcome::BiosSettings(map.into_iter().map(|(name, value)| BiosSetting::plain(name, value)).collect()))
            }
            ("bios", "factory_reset") => Ok(StepOutcome::BiosSettings(vec![])),
            ("raid", "create_configuration") => Ok(StepOutcome::RaidConfig(created(&cx.node.spec.target_raid_config, &step.args))),
            ("raid", "apply_configuration") => {
                Ok(StepOutcome::RaidConfig(step.args.get("raid_config").and_then(Json::as_object).cloned().unwrap_or_default()))
            }
            ("raid", "delete_configuration") => Ok(StepOutcome::RaidConfig(JsonMap::new())),
            _ => Ok(StepOutcome::Done),
        }
    }
}

/// The volumes of the wish that the arguments do not leave out.
fn created(target: &JsonMap, args: &JsonMap) -> JsonMap {
    let take = |key: &str| args.get(key) != Some(&Json::Bool(false));
    let (root, others) = (take("create_root_volume"), take("create_nonroot_volumes"));
    let disks = target.get("logical_disks").and_then(Json::as_array).into_iter().flatten();
    let wanted = |d: &&Json| if d.get("is_root_volume") == Some(&Json::Bool(true)) { root } else { others };
    let disks: Vec<Json> = disks.filter(wanted).cloned().collect();
    let mut out = JsonMap::new();
    if !disks.is_empty() {
        out.insert("logical_disks".to_owned(), disks.into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_with_and_without_times_and_nonsense_is_named() {
        let read = parse_failures(" deploy.deploy:2, power.set,").unwrap_or_default();
        assert_eq!((read.get("deploy.deploy"), read.get("power.set"), read.len()), (Some(&2), Some(&u32::MAX), 2));
        for bad in ["deploy", "engine.start", "deploy.deploy:often", "deploy."] {
            assert!(parse_failures(bad).is_err_and(|e| e.contains(bad)), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_operation_fails_as_often_as_it_was_told_to() {
        let failures = [("deploy.deploy".to_owned(), 1), ("power.set".to_owned(), u32::MAX)].into();
        let hardware = FakeHardware::new(FakeBehaviour { failures, ..FakeBehaviour::default() });
        assert!(hardware.operate("deploy", "deploy").await.is_err());
        assert!(hardware.operate("deploy", "deploy").await.is_ok());
        for _ in 0..3 {
            assert!(hardware.operate("power", "set").await.is_err());
        }
    }
}
