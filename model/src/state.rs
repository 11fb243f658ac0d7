//! Provision and power states. The wire name is the single source; nothing compares strings elsewhere.

use serde::{Deserialize, Serialize};

/// How a state behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateClass {
    /// A resting place; no target.
    Stable,
    /// A conductor works on the node.
    Working,
    /// The node waits for its agent, a BMC task or a person.
    Waiting,
    /// The last flow failed.
    Failed,
    /// Held by a `hold` step until `unhold`.
    Held,
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $class:ident, $target:expr;)*) => {
        /// The 30 provision states that a node can be stored in (`states.md` section 1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ProvisionState { $($(#[$doc])* #[serde(rename = $wire)] $name,)* }

        impl ProvisionState {
            /// Every state.
            pub const ALL: &'static [ProvisionState] = &[$(ProvisionState::$name,)*];

            /// The exact string on the wire and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(ProvisionState::$name => $wire,)* } }

            /// The state with this wire name.
            #[must_use]
            pub fn parse(s: &str) -> Option<Self> { match s { $($wire => Some(ProvisionState::$name),)* _ => None } }

            /// How the state behaves.
            #[must_use]
            pub const fn class(self) -> StateClass { match self { $(ProvisionState::$name => StateClass::$class,)* } }

            /// Where a node in this state is heading unless its flow says otherwise.
            #[must_use]
            pub const fn default_target(self) -> Option<ProvisionState> { match self { $(ProvisionState::$name => $target,)* } }
        }
    };
}

use ProvisionState as P;

states! {
    /// Known, not managed; no power sync.
    Enroll = "enroll", Stable, None;
    /// BMC credentials are being checked.
    Verifying = "verifying", Working, Some(P::Manageable);
    /// Verified, not schedulable.
    Manageable = "manageable", Stable, None;
    /// Schedulable.
    Available = "available", Stable, None;
    /// A workload is deployed.
    Active = "active", Stable, None;
    /// Tear-down failed.
    Error = "error", Stable, None;
    /// The rescue ramdisk runs.
    Rescue = "rescue", Stable, None;
    /// Being deployed.
    Deploying = "deploying", Working, Some(P::Active);
    /// Deploying, waits for the agent.
    DeployWait = "wait call-back", Waiting, Some(P::Active);
    /// Deployment failed.
    DeployFailed = "deploy failed", Failed, Some(P::Active);
    /// Deployment held by a step.
    DeployHold = "deploy hold", Held, Some(P::Active);
    /// Being torn down.
    Deleting = "deleting", Working, Some(P::Available);
    /// Being cleaned.
    Cleaning = "cleaning", Working, Some(P::Available);
    /// Cleaning, waits for the agent.
    CleanWait = "clean wait", Waiting, Some(P::Available);
    /// Cleaning failed.
    CleanFailed = "clean failed", Failed, Some(P::Available);
    /// Cleaning held by a step.
    CleanHold = "clean hold", Held, Some(P::Available);
    /// Being inspected.
    Inspecting = "inspecting", Working, Some(P::Manageable);
    /// Inspection waits for the agent.
    InspectWait = "inspect wait", Waiting, Some(P::Manageable);
    /// Inspection failed.
    InspectFailed = "inspect failed", Failed, Some(P::Manageable);
    /// Being adopted.
    Adopting = "adopting", Working, Some(P::Active);
    /// Adoption failed.
    AdoptFailed = "adopt failed", Failed, Some(P::Active);
    /// Being put into rescue.
    Rescuing = "rescuing", Working, Some(P::Rescue);
    /// Rescue waits for the agent.
    RescueWait = "rescue wait", Waiting, Some(P::Rescue);
    /// Rescue failed.
    RescueFailed = "rescue failed", Failed, Some(P::Rescue);
    /// Being taken out of rescue.
    Unrescuing = "unrescuing", Working, Some(P::Active);
    /// Leaving rescue failed.
    UnrescueFailed = "unrescue failed", Failed, Some(P::Active);
    /// Being serviced.
    Servicing = "servicing", Working, Some(P::Active);
    /// Servicing waits for the agent.
    ServiceWait = "service wait", Waiting, Some(P::Active);
    /// Servicing failed.
    ServiceFailed = "service failed", Failed, Some(P::Active);
    /// Servicing held by a step.
    ServiceHold = "service hold", Held, Some(P::Active);
}

impl ProvisionState {
    /// Whether the node rests here.
    #[must_use]
    pub const fn is_stable(self) -> bool {
        matches!(self.class(), StateClass::Stable)
    }

    /// UNSTABLE of `states.md` section 1: a flow owns the node (holds are neither).
    #[must_use]
    pub const fn is_unstable(self) -> bool {
        matches!(self.class(), StateClass::Working | StateClass::Waiting)
    }

    /// Whether a PATCH is accepted although a target is set (UPDATE_ALLOWED).
    #[must_use]
    pub const fn update_allowed(self) -> bool {
        matches!(
            self,
            P::DeployFailed
                | P::Inspecting
                | P::InspectFailed
                | P::InspectWait
                | P::CleanFailed
                | P::Error
                | P::Verifying
                | P::AdoptFailed
                | P::RescueFailed
                | P::UnrescueFailed
                | P::ServiceHold
                | P::ServiceFailed
        )
    }

    /// Whether a node may be deleted here outside maintenance (`available` only by configuration).
    #[must_use]
    pub const fn delete_allowed(self) -> bool {
        matches!(self, P::Manageable | P::Enroll | P::AdoptFailed)
    }

    /// Whether a ramdisk may look the node up here.
    #[must_use]
    pub const fn lookup_allowed(self) -> bool {
        matches!(
            self,
            P::Deploying
                | P::DeployWait
                | P::Cleaning
                | P::CleanWait
                | P::Inspecting
                | P::InspectWait
                | P::Rescuing
                | P::RescueWait
                | P::ServiceWait
        )
    }

    /// LOOKUP_ALLOWED and the states in which a ramdisk stays up between flows.
    #[must_use]
    pub const fn fasttrack_lookup_allowed(self) -> bool {
        self.lookup_allowed() || matches!(self, P::Enroll | P::Manageable | P::Available | P::Servicing | P::ServiceHold)
    }

    /// Whether a heartbeat is accepted here (`agent.md` section 2).
    #[must_use]
    pub const fn heartbeat_allowed(self) -> bool {
        matches!(
            self,
            P::Deploying
                | P::DeployWait
                | P::DeployHold
                | P::Cleaning
                | P::CleanWait
                | P::CleanHold
                | P::Rescuing
                | P::RescueWait
                | P::Servicing
                | P::ServiceWait
                | P::ServiceHold
        )
    }

    /// Whether power sync leaves the node alone.
    #[must_use]
    pub const fn power_sync_excluded(self) -> bool {
        matches!(self, P::DeployWait | P::CleanWait | P::Enroll | P::AdoptFailed)
    }
}

impl std::fmt::Display for ProvisionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the BMC says of the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PowerState {
    /// On.
    #[serde(rename = "power on")]
    On,
    /// Off.
    #[serde(rename = "power off")]
    Off,
    /// The BMC could not tell.
    #[serde(rename = "error")]
    Error,
}

impl PowerState {
    /// The exact string on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "power on",
            Self::Off => "power off",
            Self::Error => "error",
        }
    }
    /// The state with this wire name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "power on" => Some(Self::On),
            "power off" => Some(Self::Off),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}

/// A power action (`target` of `PUT states/power`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PowerChange {
    /// Switch on.
    #[serde(rename = "power on")]
    On,
    /// Switch off hard.
    #[serde(rename = "power off")]
    Off,
    /// Off and on, hard.
    #[serde(rename = "rebooting")]
    Reboot,
    /// Ask the operating system to restart.
    #[serde(rename = "soft rebooting")]
    SoftReboot,
    /// Ask the operating system to power off.
    #[serde(rename = "soft power off")]
    SoftOff,
}

impl PowerChange {
    /// The exact string on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "power on",
            Self::Off => "power off",
            Self::Reboot => "rebooting",
            Self::SoftReboot => "soft rebooting",
            Self::SoftOff => "soft power off",
        }
    }
    /// The change with this wire name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        [Self::On, Self::Off, Self::Reboot, Self::SoftReboot, Self::SoftOff].into_iter().find(|c| c.as_str() == s)
    }
    /// The state that the change ends in.
    #[must_use]
    pub const fn ends_in(self) -> PowerState {
        match self {
            Self::Off | Self::SoftOff => PowerState::Off,
            Self::On | Self::Reboot | Self::SoftReboot => PowerState::On,
        }
    }
    /// Whether the ramdisk that may run is lost by it.
    #[must_use]
    pub const fn stops_the_agent(self) -> bool {
        !matches!(self, Self::On)
    }
}
