//! Power interface `ipmitool`.
//!
//! Reads before it acts and polls after it acted, because BMCs answer before the power changes and some refuse what already is.
//! Never uses the BMC's own power cycle: an interrupted one leaves the machine in an unknown state.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bessemer_model::Json;
use bessemer_model::node::Node;
use bessemer_model::state::{PowerChange, PowerState};
use tokio::time::{Instant, sleep, timeout};

use super::chassis::ChassisControl;
use super::client::{IpmiClient, IpmiPool};
use super::error::IpmiError;
use super::info::{self, IpmiSettings, PROPERTIES};
use super::management;
use crate::iface::{BootDevice, BootMode, DriverCx, DriverError, Power, Property, Result};

/// A power request that shows no effect is sent again after this time: some BMCs drop one that comes right after another.
const REPEAT: Duration = Duration::from_secs(15);

/// What the `ipmitool` interfaces share.
#[derive(Debug, Clone)]
pub struct IpmiDriver {
    pool: IpmiPool,
    settings: IpmiSettings,
}

impl IpmiDriver {
    /// Interfaces over this pool.
    #[must_use]
    pub fn new(pool: IpmiPool, settings: IpmiSettings) -> Arc<Self> {
        Arc::new(Self { pool, settings })
    }

    /// The pool, to close its sessions at the end.
    #[must_use]
    pub const fn pool(&self) -> &IpmiPool {
        &self.pool
    }

    pub(super) const fn settings(&self) -> &IpmiSettings {
        &self.settings
    }

    pub(super) fn check(&self, node: &Node) -> Result<()> {
        info::endpoint(node, &self.settings).map(drop)
    }

    /// A client for the node's BMC, no call longer than the deadline.
    pub(super) fn client(&self, cx: &DriverCx<'_>) -> Result<IpmiClient> {
        let mut endpoint = info::endpoint(cx.node, &self.settings)?;
        endpoint.timeout = endpoint.timeout.min(cx.deadline);
        Ok(self.pool.client(&endpoint))
    }
}

/// Runs `work` within the deadline of a call.
pub(super) async fn within<T>(cx: &DriverCx<'_>, what: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match timeout(cx.deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(DriverError::TimedOut(format!("{what} took longer than the {} s that it may take", cx.deadline.as_secs()))),
    }
}

/// Power interface.
#[derive(Debug, Clone)]
pub struct IpmiPower(pub Arc<IpmiDriver>);

#[async_trait]
impl Power for IpmiPower {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.0.check(node)
    }

    async fn state(&self, cx: &DriverCx<'_>) -> Result<Option<PowerState>> {
        let client = self.0.client(cx)?;
        within(cx, "reading the power state", async { Ok(Some(read(&client).await?)) }).await
    }

    async fn set(&self, cx: &DriverCx<'_>, change: PowerChange, wait: Duration) -> Result<()> {
        let client = self.0.client(cx)?;
        let whole = async {
            match change {
                PowerChange::On => self.on(cx, &client, wait).await,
                PowerChange::Off => self.reach(&client, ChassisControl::Off, PowerState::Off, wait).await,
                PowerChange::SoftOff => self.reach(&client, ChassisControl::Soft, PowerState::Off, wait).await,
                PowerChange::Reboot | PowerChange::SoftReboot => self.reboot(cx, &client, change, wait).await,
            }
        };
        within(cx, "changing the power state", whole).await
    }

    fn supported(&self) -> &'static [PowerChange] {
        &[PowerChange::On, PowerChange::Off, PowerChange::Reboot, PowerChange::SoftOff, PowerChange::SoftReboot]
    }
}

async fn read(client: &IpmiClient) -> Result<PowerState, IpmiError> {
    Ok(if client.chassis_status().await?.on { PowerState::On } else { PowerState::Off })
}

impl IpmiPower {
    async fn on(&self, cx: &DriverCx<'_>, client: &IpmiClient, wait: Duration) -> Result<()> {
        if read(client).await? == PowerState::On {
            return Ok(());
        }
        self.force_boot_device(cx, client).await?;
        self.reach(client, ChassisControl::On, PowerState::On, wait).await
    }

    async fn reboot(&self, cx: &DriverCx<'_>, client: &IpmiClient, change: PowerChange, wait: Duration) -> Result<()> {
        if read(client).await? == PowerState::Off {
            return self.on(cx, client, wait).await;
        }
        if cx.node.keeps_power() {
            self.force_boot_device(cx, client).await?;
            return Ok(client.chassis_control(ChassisControl::Reset).await?);
        }
        let how = if change == PowerChange::SoftReboot { ChassisControl::Soft } else { ChassisControl::Off };
        self.reach(client, how, PowerState::Off, wait).await?;
        sleep(self.0.settings().reboot_pause).await;
        self.on(cx, client, wait).await
    }

    /// Asks for a state and polls until it is there.
    async fn reach(&self, client: &IpmiClient, how: ChassisControl, wanted: PowerState, wait: Duration) -> Result<()> {
        if read(client).await? == wanted {
            return Ok(());
        }
        let started = Instant::now();
        let mut asked = started;
        match self.ask(client, how, wanted).await {
            // Nobody knows whether it was carried out: the state will tell.
            Err(e @ (DriverError::Unreachable(_) | DriverError::TimedOut(_))) => {
                tracing::debug!(host = %client.endpoint().host, "power request not answered: {e}");
            }
            other => other?,
        }
        let mut pause = self.0.settings().poll_interval;
        let longest = pause * 4;
        let last_error = loop {
            sleep(pause).await;
            pause = (pause * 3 / 2).min(longest);
            let failed = match read(client).await {
                Ok(now) if now == wanted => return Ok(()),
                Ok(_) => None,
                // Some BMCs are deaf while the power changes.
                Err(e) if e.is_transient() => Some(e),
                Err(e) => return Err(e.into()),
            };
            if started.elapsed() >= wait {
                break failed;
            }
            if how != ChassisControl::Soft && failed.is_none() && asked.elapsed() >= REPEAT {
                asked = Instant::now();
                self.ask(client, how, wanted).await?;
            }
        };
        let why = match (last_error, how) {
            (Some(e), _) => e.to_string(),
            (None, ChassisControl::Soft) => "the operating system does not react to the request; use a hard power off".into(),
            (None, _) => "the BMC took the request but the state did not change; look at the BMC's event log".into(),
        };
        Err(DriverError::TimedOut(format!("{} not reached within {} s: {why}", wanted.as_str(), wait.as_secs())))
    }

    async fn ask(&self, client: &IpmiClient, how: ChassisControl, wanted: PowerState) -> Result<()> {
        match client.chassis_control(how).await {
            // Refused because it is so already, or got there in between.
            Err(e @ IpmiError::Completion { .. }) => {
                if read(client).await? == wanted {
                    Ok(())
                } else {
                    Err(e.into())
                }
            }
            other => Ok(other?),
        }
    }

    /// `ipmi_force_boot_device`: BMCs that lose the boot device over a power cycle get it again before each start.
    async fn force_boot_device(&self, cx: &DriverCx<'_>, client: &IpmiClient) -> Result<()> {
        if !info::flag(&cx.node.spec.driver_info, "ipmi_force_boot_device")?.unwrap_or(false) {
            return Ok(());
        }
        let known = &cx.node.status.driver_internal_info;
        if known.get("is_next_boot_persistent").and_then(Json::as_bool) == Some(false) {
            return Ok(());
        }
        let Some(device) = known.get("persistent_boot_device").and_then(Json::as_str).and_then(BootDevice::parse) else {
            return Ok(());
        };
        let mode = cx.node.status.boot_mode.as_deref().and_then(BootMode::parse).unwrap_or(BootMode::Uefi);
        management::apply(&self.0, cx, client, device, true, mode).await
    }
}
