//! Power of a system: state, and changes that are waited for.

use std::time::Duration;

use bessemer_model::state::{PowerChange, PowerState};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::error::RedfishError;
use super::resource::{self, Resource};
use super::system::RedfishSystem;

/// `PowerState` of a ComputerSystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedfishPower {
    /// On, or paused.
    On,
    /// Off.
    Off,
    /// On its way to on.
    PoweringOn,
    /// On its way to off.
    PoweringOff,
    /// Not told, or not understood.
    Unknown,
}

impl RedfishPower {
    fn of(system: &Resource) -> Self {
        match system.text(&["PowerState"]) {
            Some("On" | "Paused") => Self::On,
            Some("Off") => Self::Off,
            Some("PoweringOn") => Self::PoweringOn,
            Some("PoweringOff") => Self::PoweringOff,
            _ => Self::Unknown,
        }
    }

    /// As a node's power state. A machine on its way counts as what it leaves: it is not there yet.
    #[must_use]
    pub fn settled(self) -> PowerState {
        match self {
            Self::On | Self::PoweringOff => PowerState::On,
            Self::Off | Self::PoweringOn => PowerState::Off,
            Self::Unknown => PowerState::Error,
        }
    }

    fn is(self, wanted: PowerState) -> bool {
        matches!((self, wanted), (Self::On, PowerState::On) | (Self::Off, PowerState::Off))
    }
}

impl RedfishSystem {
    /// Power state now.
    pub async fn power(&self) -> Result<RedfishPower, RedfishError> {
        Ok(RedfishPower::of(&self.system().await?))
    }

    /// `ResetType` values that the BMC names (DSP0268, ComputerSystem.Reset); `None` when it names none.
    pub async fn reset_types(&self, system: &Resource) -> Result<Option<Vec<String>>, RedfishError> {
        let action = ["Actions", "#ComputerSystem.Reset"];
        let Some(reset) = system.at(&action) else { return Ok(None) };
        let named = resource::texts(reset, &["ResetType@Redfish.AllowableValues"]);
        if !named.is_empty() {
            return Ok(Some(named));
        }
        let Some(info) = resource::link(reset, &["@Redfish.ActionInfo"]) else { return Ok(None) };
        let Some(info) = self.client().find(info).await? else { return Ok(None) };
        let parameters = info.at(&["Parameters"]).and_then(serde_json::Value::as_array);
        let values = parameters
            .into_iter()
            .flatten()
            .find(|p| resource::text(p, &["Name"]) == Some("ResetType"))
            .map(|p| resource::texts(p, &["AllowableValues"]))
            .filter(|v| !v.is_empty());
        Ok(values)
    }

    /// Sends one ComputerSystem.Reset; the first of `wanted` that the BMC offers.
    pub async fn reset(&self, system: &Resource, wanted: &[&str]) -> Result<(), RedfishError> {
        let target = system
            .text(&["Actions", "#ComputerSystem.Reset", "target"])
            .map(str::to_owned)
            .unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", system.path.trim_end_matches('/')));
        let kind = match self.reset_types(system).await? {
            Some(offered) => wanted
                .iter()
                .find(|w| offered.iter().any(|o| o == **w))
                .copied()
                .ok_or_else(|| self.unsupported(format!("reset type {} (it offers {})", wanted.join(" or "), offered.join(", "))))?,
            // Nothing named: the usual one is tried.
            None => wanted.first().copied().ok_or_else(|| self.unsupported("this power change"))?,
        };
        tracing::debug!(bmc = self.client().bmc(), kind, "ComputerSystem.Reset");
        let written = self.client().post(&target, &json!({"ResetType": kind})).await?;
        self.client().settle(written, "power change").await
    }

    /// Changes the power and waits until the machine is in the state that the change ends in.
    ///
    /// Asking for what already is does nothing. `within` bounds the wait for each state (`power_wait` of the
    /// configuration when `None`). A soft power-off that the operating system ignores ends as a time-out.
    pub async fn change_power(&self, change: PowerChange, within: Option<Duration>) -> Result<(), RedfishError> {
        let within = within.unwrap_or(self.client().config().power_wait);
        match change {
            PowerChange::On => self.power_on(within).await,
            PowerChange::Off => self.power_off(&["ForceOff", "PushPowerButton"], within).await,
            PowerChange::SoftOff => self.power_off(&["GracefulShutdown", "PushPowerButton"], within).await,
            PowerChange::Reboot => {
                self.power_off(&["ForceOff"], within).await?;
                self.power_on_after_off(within).await
            }
            PowerChange::SoftReboot => {
                self.power_off(&["GracefulShutdown", "PushPowerButton"], within).await?;
                self.power_on_after_off(within).await
            }
        }
    }

    /// Restarts without going through "off" (nodes that must never lose power). Does not wait: the state does not change.
    pub async fn restart_without_off(&self) -> Result<(), RedfishError> {
        let system = self.system_now().await?;
        if self.flags(&system).await.no_force_restart {
            return Err(self.unsupported("a restart without powering off (known to hang or to cut power on this model)"));
        }
        self.reset(&system, &["ForceRestart", "GracefulRestart"]).await
    }

    /// Sends a non-maskable interrupt.
    pub async fn nmi(&self) -> Result<(), RedfishError> {
        let system = self.system_now().await?;
        self.reset(&system, &["Nmi"]).await
    }

    async fn power_on_after_off(&self, within: Duration) -> Result<(), RedfishError> {
        let system = self.system().await?;
        let quirk = Duration::from_secs(self.flags(&system).await.off_on_pause.into());
        sleep(self.client().config().reboot_pause.max(quirk)).await;
        self.power_on(within).await
    }

    async fn power_on(&self, within: Duration) -> Result<(), RedfishError> {
        let config = self.client().config();
        let mut tries = 1;
        loop {
            let system = self.system_now().await?;
            match RedfishPower::of(&system) {
                RedfishPower::On => return Ok(()),
                RedfishPower::PoweringOn => break,
                _ => {}
            }
            let Err(e) = self.reset(&system, &["On", "ForceOn", "PushPowerButton"]).await else { break };
            // Right after a power-off the BMC may still be at it (Dell 17G, HPE). A lost reply tells nothing, and a second
            // "on" does no harm.
            let pause = if refused(&e) { config.power_on_interval } else { config.poll };
            if !(refused(&e) || lost(&e)) || tries >= config.power_on_attempts {
                return self.accept_if(PowerState::On, e).await;
            }
            if self.power_now_is(PowerState::On).await? {
                return Ok(());
            }
            tries += 1;
            tracing::debug!(bmc = self.client().bmc(), "power on refused, trying again: {e}");
            sleep(pause).await;
        }
        self.wait_power(PowerState::On, within).await
    }

    async fn power_off(&self, how: &[&str], within: Duration) -> Result<(), RedfishError> {
        let system = self.system_now().await?;
        match RedfishPower::of(&system) {
            RedfishPower::Off => return Ok(()),
            RedfishPower::PoweringOff if how.contains(&"GracefulShutdown") => {}
            _ => {
                match self.reset(&system, how).await {
                    Ok(()) => {}
                    // It may have been carried out: the wait will tell.
                    Err(e) if lost(&e) => tracing::debug!(bmc = self.client().bmc(), "{e}"),
                    // Off already, or gone off by itself in between: Dell says 409 then, Lenovo 204.
                    Err(e) => return self.accept_if(PowerState::Off, e).await,
                }
            }
        }
        self.wait_power(PowerState::Off, within).await
    }

    async fn power_now_is(&self, wanted: PowerState) -> Result<bool, RedfishError> {
        Ok(RedfishPower::of(&self.system_now().await?).is(wanted))
    }

    async fn accept_if(&self, wanted: PowerState, error: RedfishError) -> Result<(), RedfishError> {
        if refused(&error) && self.power_now_is(wanted).await? { Ok(()) } else { Err(error) }
    }

    /// Waits until the power is `wanted`.
    pub async fn wait_power(&self, wanted: PowerState, within: Duration) -> Result<(), RedfishError> {
        let started = Instant::now();
        loop {
            match self.system_now().await {
                Ok(s) if RedfishPower::of(&s).is(wanted) => return Ok(()),
                Ok(_) => {}
                // Some BMCs do not answer while the machine changes state.
                Err(e @ (RedfishError::Unreachable { .. } | RedfishError::Timeout { .. } | RedfishError::Refused { .. })) => {
                    tracing::debug!(bmc = self.client().bmc(), "while waiting for {}: {e}", wanted.as_str());
                }
                Err(e) => return Err(e),
            }
            if started.elapsed() >= within {
                return Err(RedfishError::Timeout {
                    bmc: self.client().bmc().to_owned(),
                    waited_for: format!("the machine to be {}", wanted.as_str()),
                    after: started.elapsed(),
                });
            }
            sleep(self.client().config().poll).await;
        }
    }
}

/// Whether the BMC said no for a reason that may lie in the state of the machine.
fn refused(e: &RedfishError) -> bool {
    matches!(e.status(), Some(400 | 409))
}

/// Whether the answer got lost, so that nothing is known about the request.
fn lost(e: &RedfishError) -> bool {
    matches!(e, RedfishError::Unreachable { .. } | RedfishError::Timeout { .. })
}
