//! What the server does differently from one microversion to another, beside fields, queries, verbs and routes.

use super::{
    Version,
    table::{MAX, MIN},
};

macro_rules! behaviours {
    ($($(#[$doc:meta])* $name:ident $since:literal..=$until:expr;)*) => {
        /// A difference between microversions that handlers ask for by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behaviour { $($(#[$doc])* $name,)* }

        impl Behaviour {
            /// Every behaviour.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            const fn range(self) -> (u16, u16) { match self { $(Self::$name => ($since, $until),)* } }
        }
    };
}

behaviours! {
    /// Nodes can be addressed by name.
    NodeNames 5..=MAX;
    /// `?fields=` is understood.
    FieldsSelector 8..=MAX;
    /// Node names may hold all unreserved characters of RFC 3986; before, they had to be host names.
    LooseNames 10..=MAX;
    /// A new node starts in `available` instead of `enroll`.
    CreateAvailable 1..=10;
    /// `chassis_uuid` may be set back to null.
    UnsetChassis 25..=MAX;
    /// `timeout` of power actions.
    PowerTimeout 27..=MAX;
    /// A driver shown by name has all its details.
    DriverDetails 30..=MAX;
    /// Ramdisks can look themselves up.
    Lookup 22..=MAX;
    /// A config drive may be given with `rebuild`.
    RebuildConfigdrive 35..=MAX;
    /// `agent_version` in heartbeats.
    HeartbeatVersion 36..=MAX;
    /// A node that is being inspected is not patched.
    InspectingIsLocked 39..=MAX;
    /// `abort` in `inspect wait`.
    AbortInspection 41..=MAX;
    /// `?detail=` is understood.
    DetailQuery 43..=MAX;
    /// `?reset_interfaces=` is understood.
    ResetInterfaces 45..=MAX;
    /// A config drive may be given as an object.
    JsonConfigdrive 56..=MAX;
    /// An allocation may be made for a node that is in use already.
    AllocationBackfill 58..=MAX;
    /// A config drive object may hold `vendor_data`.
    VendorData 59..=MAX;
    /// Lookup mints an agent token; heartbeats carry it.
    AgentToken 62..=MAX;
    /// `network_type` in `local_link_connection`.
    LinkNetworkType 64..=MAX;
    /// A VIF may be attached to a port or a port group that is named.
    VifPort 67..=MAX;
    /// `agent_verify_ca` in heartbeats.
    HeartbeatVerifyCa 68..=MAX;
    /// `deploy_steps` with `active` and `rebuild`.
    DeploySteps 69..=MAX;
    /// `disable_ramdisk` with `clean`.
    CleanWithoutRamdisk 70..=MAX;
    /// `detail` and `fields` of BIOS settings.
    BiosQuery 74..=MAX;
    /// `agent_status` and its message in heartbeats.
    HeartbeatStatus 72..=MAX;
    /// `continue_inspection` answers like lookup.
    InspectionLookup 84..=MAX;
    /// Ports can be addressed by name.
    PortNames 88..=MAX;
    /// Keys of OVN VTEP switches in `local_link_connection`.
    LinkVtep 90..=104;
    /// A trailing `.json` of a path is cut off.
    JsonSuffix 1..=90;
    /// `runbook` with `clean` and `service`.
    Runbooks 92..=MAX;
    /// A port may be created with `node_ident`.
    PortNodeIdent 94..=MAX;
    /// The physical network of a port in a port group is that of the group.
    GroupNetwork 102..=MAX;
    /// `disable_ramdisk` with `service`.
    ServiceWithoutRamdisk 108..=MAX;
    /// Runbooks have free names and are matched by their own traits; before, their name is the trait.
    RunbookTraits 112..=MAX;
    /// `abort` in `wait call-back` fails the deployment instead of tearing it down.
    AbortFailsDeploy 110..=MAX;
}

impl Version {
    /// Whether this version behaves so.
    #[must_use]
    pub const fn has(self, behaviour: Behaviour) -> bool {
        let (since, until) = behaviour.range();
        self.within(since, until)
    }
}

const _: () = assert!(MIN == 1);
