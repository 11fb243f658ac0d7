//! A conductor for tests of the API: it moves nodes through the transition table without any driver, and registers the hardware
//! types that the model knows.
#![allow(dead_code, reason = "each user of this module takes what it needs")]

mod devices;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use bessemer_db::{Inventory, NodeFilter, OpenOptions, SealKey, Store, WorkBegin};
use bessemer_model::{
    Json, JsonMap,
    clock::{Clock, SystemClock},
    conductor::DriverOffer,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::{HARDWARE_TYPES, InterfaceKind, default_implementation},
    node::{Node, NodeChange},
    secret::Secret,
    state::{PowerChange, PowerState, ProvisionState as P},
    transition::{Event, next, target_after},
};
use bessemer_rpc::{BootDevice, ConductorApi, Heartbeat, LookupAnswer, LookupQuery, ProvisionRequest, RequestCx, Validation, Verb};

/// Name of the conductor.
pub const HOST: &str = "fake-conductor";

/// Enabled implementations, besides those that only the named hardware types have.
fn enabled(kind: InterfaceKind) -> &'static [&'static str] {
    match kind {
        InterfaceKind::Bios => &["fake", "no-bios", "redfish"],
        InterfaceKind::Boot => &["fake", "ipxe", "pxe", "redfish-virtual-media"],
        InterfaceKind::Console => &["fake", "no-console"],
        InterfaceKind::Deploy => &["fake", "direct", "ramdisk"],
        InterfaceKind::Firmware => &["fake", "no-firmware", "redfish"],
        InterfaceKind::Inspect => &["fake", "no-inspect", "agent", "redfish"],
        InterfaceKind::Management => &["fake", "ipmitool", "noop", "redfish"],
        InterfaceKind::Network => &["noop"],
        InterfaceKind::Power => &["fake", "agent", "ipmitool", "redfish"],
        InterfaceKind::Raid => &["fake", "agent", "no-raid", "redfish"],
        InterfaceKind::Rescue => &["fake", "agent", "no-rescue"],
        InterfaceKind::Storage => &["fake", "noop"],
        InterfaceKind::Vendor => &["fake", "ipmitool", "no-vendor", "redfish"],
    }
}

/// What every known hardware type offers with these.
pub fn catalogue() -> BTreeMap<String, DriverOffer> {
    let offer = |hw: &'static bessemer_model::interface::HardwareType| {
        let mut o = DriverOffer::default();
        for kind in InterfaceKind::ALL {
            let all: Vec<String> = enabled(*kind).iter().map(|s| (*s).to_owned()).collect();
            let mine = hw.supported(*kind).iter().filter(|s| all.iter().any(|a| a == *s)).map(|s| (*s).to_owned()).collect();
            o.enabled.insert(kind.as_str().to_owned(), mine);
            let configured = (*kind == InterfaceKind::Storage).then_some("noop");
            if let Some(d) = default_implementation(hw, *kind, &all, configured) {
                o.default.insert(kind.as_str().to_owned(), d.to_owned());
            }
        }
        o
    };
    HARDWARE_TYPES.iter().map(|hw| (hw.name.to_owned(), offer(hw))).collect()
}

/// Opens a new store in `dir` and registers the conductor in it.
pub async fn store(dir: &Path) -> Store {
    let url = format!("sqlite://{}", dir.join("api.sqlite").display());
    let store = Store::open(&url, OpenOptions::new(SealKey::random())).await.expect("the store opens");
    store.migrate().await.expect("the store migrates");
    let lease = Duration::from_secs(3600);
    store.conductor_take(HOST, "", catalogue(), None, SystemClock.now(), lease).await.expect("the conductor registers");
    store
}

/// The conductor.
pub struct FakeConductor {
    store: Store,
    /// How long a node stays in a working state.
    work: Duration,
    tokens: Mutex<HashMap<NodeId, String>>,
}

impl FakeConductor {
    /// A conductor whose flows take `work`.
    pub fn new(store: Store, work: Duration) -> Self {
        Self { store, work, tokens: Mutex::default() }
    }

    async fn go(&self, node: &Node, on: Event, asked: Option<P>) -> Result<P, Fault> {
        let from = node.status.provision_state;
        let to = next(from, on).map_err(|e| Fault::new(FaultKind::InvalidStateRequested, e.to_string()))?.to;
        let change = NodeChange {
            provision_state: Some(to),
            target_provision_state: Some(target_after(on, to, node.status.target_provision_state, asked)),
            provision_updated_at: Some(Some(SystemClock.now())),
            last_error: Some(None),
            ..NodeChange::default()
        };
        self.store.work_begin(WorkBegin::new(node.id, Some(from), change)).await?;
        Ok(to)
    }

    fn finish_later(&self, id: NodeId, how: Vec<Event>) {
        let me = Self::new(self.store.clone(), self.work);
        tokio::spawn(async move {
            tokio::time::sleep(me.work).await;
            for on in how {
                let Ok(node) = me.store.node_get(id).await else { return };
                let asked = node.status.target_provision_state;
                let _ = me.go(&node, on, asked).await;
            }
        });
    }
}

#[async_trait]
impl ConductorApi for FakeConductor {
    async fn provision(&self, _: &RequestCx, id: NodeId, request: ProvisionRequest) -> Result<(), Fault> {
        let node = self.store.node_get(id).await?;
        if node.spec.protected && matches!(request.verb, Verb::Deleted | Verb::Rebuild) {
            return Err(Fault::new(FaultKind::NodeProtected, "protected"));
        }
        if node.spec.retired && request.verb == Verb::Provide {
            return Err(Fault::new(FaultKind::NodeIsRetired, "retired"));
        }
        let manual = request.verb == Verb::Clean;
        let to = self.go(&node, request.verb.event(), manual.then_some(P::Manageable)).await?;
        let how = match to {
            P::Deleting => vec![Event::Clean, Event::Done],
            P::Cleaning if manual => vec![Event::Manage],
            P::Servicing if request.steps.iter().flatten().any(|s| s.step == "trigger_servicewait") => vec![Event::Wait],
            s if s.is_stable() => vec![],
            _ => vec![Event::Done],
        };
        self.finish_later(id, how);
        Ok(())
    }

    async fn set_power(&self, _: &RequestCx, id: NodeId, change: PowerChange, _: Option<Duration>) -> Result<(), Fault> {
        let node = self.store.node_get(id).await?;
        if node.keeps_power() && change.ends_in() == PowerState::Off {
            return Err(Fault::new(FaultKind::PowerStateFailure, "disabled"));
        }
        let change = NodeChange { power_state: Some(Some(change.ends_in())), ..NodeChange::default() };
        Ok(self.store.work_begin(WorkBegin::new(id, None, change)).await?)
    }

    async fn validate(&self, id: NodeId) -> Result<BTreeMap<InterfaceKind, Validation>, Fault> {
        let node = self.store.node_get(id).await?;
        assert_ne!(node.spec.name.as_deref(), Some("panics"), "the test wants a panic");
        let fine = Validation { result: Some(true), reason: None };
        Ok(InterfaceKind::ALL.iter().map(|k| (*k, fine.clone())).collect())
    }

    async fn boot_device(&self, _: NodeId) -> Result<BootDevice, Fault> {
        Ok(BootDevice { device: Some("pxe".to_owned()), persistent: Some(false) })
    }
    async fn set_boot_device(&self, _: NodeId, device: &str, _: bool) -> Result<(), Fault> {
        if device == "pxe" { Ok(()) } else { Err(Fault::invalid("unsupported boot device")) }
    }
    async fn supported_boot_devices(&self, _: NodeId) -> Result<Vec<String>, Fault> {
        Ok(vec!["pxe".to_owned()])
    }
    async fn set_boot_mode(&self, _: NodeId, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    async fn set_secure_boot(&self, _: NodeId, _: bool) -> Result<(), Fault> {
        Ok(())
    }
    async fn inject_nmi(&self, _: NodeId) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::UnsupportedDriverExtension, "no NMI"))
    }

    async fn lookup(&self, query: LookupQuery) -> Result<LookupAnswer, Fault> {
        let id = match query.node {
            Some(id) => Some(id),
            None => self.store.node_by_macs(&query.addresses).await?.first().copied(),
        };
        let gone = || Fault::new(FaultKind::NodeNotFound, "no such node");
        let node = self.store.node_get(id.ok_or_else(gone)?).await?;
        if !node.status.provision_state.lookup_allowed() {
            return Err(gone());
        }
        let token = if query.mint_token {
            let fresh = Secret::new(format!("token-{}", node.id));
            self.store.agent_token_mint(node.id, &fresh).await?.then_some(fresh)
        } else {
            None
        };
        let mut config = JsonMap::new();
        config.insert("heartbeat_timeout".into(), 300.into());
        Ok(LookupAnswer { node, config, token })
    }

    async fn heartbeat(&self, id: NodeId, heartbeat: Heartbeat) -> Result<(), Fault> {
        let known = self.store.agent_token_get(id).await?;
        if known.is_none() || known != heartbeat.agent_token {
            return Err(Fault::invalid("wrong token"));
        }
        Ok(())
    }

    async fn continue_inspection(&self, node: Option<NodeId>, data: Json) -> Result<Node, Fault> {
        let gone = || Fault::new(FaultKind::NotFound, "no such node");
        let node = self.store.node_get(node.ok_or_else(gone)?).await?;
        if node.status.provision_state == P::Enroll {
            return Err(gone());
        }
        // Inspection is over sooner here than its data comes.
        let inventory = Inventory { inventory: data["inventory"].clone(), plugin_data: Json::Object(JsonMap::new()) };
        self.store.inventory_put(node.id, inventory).await?;
        Ok(node)
    }

    async fn driver_properties(&self, driver: &str) -> Result<BTreeMap<String, String>, Fault> {
        if !HARDWARE_TYPES.iter().any(|h| h.name == driver) {
            return Err(Fault::new(FaultKind::DriverNotFound, "no such driver"));
        }
        Ok(BTreeMap::from([("B1".to_owned(), "a property of the fake".to_owned())]))
    }

    fn allocations_wait(&self) {
        let me = Self::new(self.store.clone(), self.work);
        tokio::spawn(async move {
            tokio::time::sleep(me.work).await;
            let now = SystemClock.now();
            for id in me.store.allocations_due(now, 10).await.unwrap_or_default() {
                let Ok(Some((claim, _))) = me.store.allocation_take(id, 1, HOST, now).await else { continue };
                let mut found = false;
                for n in me.store.node_refs(&NodeFilter::default()).await.unwrap_or_default() {
                    found = found || me.store.allocation_reserve(&claim, n.id).await.unwrap_or_default();
                }
                if !found {
                    let _ = me.store.allocation_fail(&claim, "no node fits it").await;
                }
            }
        });
    }

    fn node_changed(&self, _: NodeId) {}
}
