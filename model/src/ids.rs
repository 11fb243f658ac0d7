//! Typed identifiers: a node's id can never be passed where a port's is wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self { Self(Uuid::new_v4()) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> { s.parse().map(Self) }
        }
        impl From<Uuid> for $name {
            fn from(u: Uuid) -> Self { Self(u) }
        }
    )*};
}

ids! {
    /// A node (`uuid` on the wire).
    NodeId;
    /// A port.
    PortId;
    /// A port group.
    PortgroupId;
    /// A chassis.
    ChassisId;
    /// A persisted flow.
    FlowId;
    /// A history entry.
    HistoryId;
    /// A volume connector or a volume target.
    VolumeId;
    /// An allocation.
    AllocationId;
    /// A deploy template.
    DeployTemplateId;
    /// A runbook.
    RunbookId;
    /// An inspection rule.
    RuleId;
}
