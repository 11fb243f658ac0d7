//! [`ConductorApi`] where a database has several daemons: calls about a node go to the conductor that owns it, everything else stays here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bessemer_conductor::{Core, api::LocalConductor};
use bessemer_model::{
    Json,
    conductor::Conductor,
    fault::{Fault, FaultKind},
    hashring::HashRing,
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    state::PowerChange,
};
use bessemer_rpc::{
    BootDevice, ConductorApi, Heartbeat, LookupAnswer, LookupQuery, ProvisionRequest, RequestCx, Validation,
    call::{Call, Outcome, Subject},
    devices::{DeviceApi, Indicator, VendorAnswer, VendorCall, VendorMethod, VifRequest},
    signed::{Key, Message, PATH, SIGNATURE, answer_is_genuine},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::MAX_BODY;

/// The owner of a node, and who is asked when nobody listens there.
const TRIES: usize = 2;

/// See the module documentation.
pub(super) struct Routed {
    core: Arc<Core>,
    local: Arc<LocalConductor>,
    key: Key,
    http: reqwest::Client,
}

/// Why a conductor gave no answer.
enum NoAnswer {
    /// The call did not reach it, so that another one may do it.
    Unreached(String),
    /// It may have done it, or refused it. The text is for the log.
    Unknown(String),
}

impl Routed {
    pub(super) const fn new(core: Arc<Core>, local: Arc<LocalConductor>, key: Key, http: reqwest::Client) -> Self {
        Self { core, local, key, http }
    }

    /// Who does a call, the first choice first; nobody when it is to be done here.
    async fn doers(&self, subject: Subject<'_>) -> Result<Vec<Conductor>, Fault> {
        let core = &self.core;
        let serves: Box<dyn Fn(&Conductor) -> bool + Send> = match subject {
            Subject::Driver(driver) if core.config.drivers.contains_key(driver) => return Ok(vec![]),
            Subject::Driver(driver) => {
                let driver = driver.to_owned();
                Box::new(move |c| c.drivers.contains_key(&driver))
            }
            Subject::Node(id) => {
                let spec = core.store.node_get(id).await?.spec;
                Box::new(move |c| c.conductor_group == spec.conductor_group && c.drivers.contains_key(&spec.driver))
            }
        };
        let mut serving = core.store.conductor_list_alive(core.now()).await?;
        serving.retain(|c| serves(c));
        let Subject::Node(id) = subject else { return Ok(serving) };
        let hosts: Vec<&str> = serving.iter().map(|c| c.hostname.as_str()).collect();
        let ring = HashRing::new(&hosts, core.config.hash_partition_exponent);
        let ordered = ring.hosts(&id.to_string()).filter_map(|h| serving.iter().find(|c| c.hostname == h)).cloned();
        Ok(ordered.collect())
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Fault> {
        let doers = self.doers(call.subject()).await?;
        let Some(owner) = doers.first() else { return self.here(call).await };
        let whose = match call.subject() {
            Subject::Node(id) => format!("The conductor {} of node {id}", owner.hostname),
            Subject::Driver(driver) => format!("The conductor {} for driver {driver}", owner.hostname),
        };
        for c in doers.iter().take(TRIES) {
            if c.hostname == self.core.config.host {
                return self.here(call).await;
            }
            let Some(address) = &c.address else {
                tracing::warn!(conductor = c.hostname, call = call.name(), "it has no [rpc] address; the call is done here instead");
                return self.here(call).await;
            };
            match self.post(c, address, &call).await {
                Ok(outcome) => return outcome.into_answer(),
                Err(NoAnswer::Unreached(error)) => {
                    tracing::warn!(conductor = c.hostname, address, call = call.name(), error, "the conductor cannot be reached");
                }
                Err(NoAnswer::Unknown(error)) => {
                    tracing::warn!(conductor = c.hostname, address, call = call.name(), error, "the conductor gave no answer");
                    let text = format!("{whose} was asked and gave no answer; look at the node before you try again.");
                    return Err(Fault::new(FaultKind::TemporaryFailure, text));
                }
            }
        }
        Err(Fault::new(FaultKind::TemporaryFailure, format!("{whose} cannot be reached, nor can another one; try again later.")))
    }

    /// In this process, by way of the same messages.
    async fn here<T: DeserializeOwned>(&self, call: Call) -> Result<T, Fault> {
        Outcome::from(call.run(&*self.local).await).into_answer()
    }

    async fn post(&self, to: &Conductor, address: &str, call: &Call) -> Result<Outcome, NoAnswer> {
        let nonce = Uuid::new_v4();
        let message = Message {
            from: self.core.config.host.clone(),
            to: to.hostname.clone(),
            epoch: to.epoch,
            at: self.core.now(),
            nonce,
            call: call.clone(),
        };
        let unknown = |e: String| NoAnswer::Unknown(e);
        let (body, signature) = message.sealed(&self.key).map_err(|e| NoAnswer::Unreached(e.to_string()))?;
        let request = self.http.post(format!("{address}{PATH}")).header("content-type", "application/json").header(SIGNATURE, signature);
        let mut answer = request.body(body).send().await.map_err(|e| {
            let text = causes(&e);
            if e.is_connect() || e.is_builder() { NoAnswer::Unreached(text) } else { NoAnswer::Unknown(text) }
        })?;
        let status = answer.status();
        let signature = answer.headers().get(SIGNATURE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| unknown(causes(&e)))? {
            if text.len() + part.len() > MAX_BODY {
                return Err(unknown("its answer is too large".into()));
            }
            text.extend_from_slice(&part);
        }
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&text).chars().take(300).collect();
            return Err(unknown(format!("status {}: {said}", status.as_u16())));
        }
        if !answer_is_genuine(&self.key, nonce, &text, &signature) {
            return Err(unknown("its answer is not signed with [rpc] shared_key".into()));
        }
        serde_json::from_slice(&text).map_err(|_| unknown("its answer is not understood: are the daemons of the same release?".into()))
    }
}

/// An error and what caused it, in one line.
fn causes(e: &reqwest::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}

#[async_trait]
impl ConductorApi for Routed {
    async fn provision(&self, cx: &RequestCx, node: NodeId, request: ProvisionRequest) -> Result<(), Fault> {
        self.local.provision(cx, node, request).await
    }
    async fn set_power(&self, cx: &RequestCx, node: NodeId, change: PowerChange, timeout: Option<Duration>) -> Result<(), Fault> {
        self.local.set_power(cx, node, change, timeout).await
    }
    async fn validate(&self, node: NodeId) -> Result<BTreeMap<InterfaceKind, Validation>, Fault> {
        self.ask(Call::Validate { node }).await
    }
    async fn boot_device(&self, node: NodeId) -> Result<BootDevice, Fault> {
        self.ask(Call::BootDevice { node }).await
    }
    async fn set_boot_device(&self, node: NodeId, device: &str, persistent: bool) -> Result<(), Fault> {
        self.ask(Call::SetBootDevice { node, device: device.to_owned(), persistent }).await
    }
    async fn supported_boot_devices(&self, node: NodeId) -> Result<Vec<String>, Fault> {
        self.ask(Call::SupportedBootDevices { node }).await
    }
    async fn set_boot_mode(&self, node: NodeId, mode: &str) -> Result<(), Fault> {
        self.ask(Call::SetBootMode { node, mode: mode.to_owned() }).await
    }
    async fn set_secure_boot(&self, node: NodeId, on: bool) -> Result<(), Fault> {
        self.ask(Call::SetSecureBoot { node, on }).await
    }
    async fn inject_nmi(&self, node: NodeId) -> Result<(), Fault> {
        self.ask(Call::InjectNmi { node }).await
    }
    async fn lookup(&self, query: LookupQuery) -> Result<LookupAnswer, Fault> {
        self.local.lookup(query).await
    }
    async fn heartbeat(&self, node: NodeId, heartbeat: Heartbeat) -> Result<(), Fault> {
        self.local.heartbeat(node, heartbeat).await
    }
    async fn continue_inspection(&self, node: Option<NodeId>, data: Json) -> Result<Node, Fault> {
        self.local.continue_inspection(node, data).await
    }
    async fn driver_properties(&self, driver: &str) -> Result<BTreeMap<String, String>, Fault> {
        self.ask(Call::DriverProperties { driver: driver.to_owned() }).await
    }
    fn allocations_wait(&self) {
        self.local.allocations_wait();
    }
    fn node_changed(&self, node: NodeId) {
        self.local.node_changed(node);
    }
}

#[async_trait]
impl DeviceApi for Routed {
    async fn vifs(&self, node: NodeId) -> Result<Vec<String>, Fault> {
        self.local.vifs(node).await
    }
    async fn attach_vif(&self, node: NodeId, vif: &VifRequest) -> Result<(), Fault> {
        self.local.attach_vif(node, vif).await
    }
    async fn detach_vif(&self, node: NodeId, vif: &str) -> Result<(), Fault> {
        self.local.detach_vif(node, vif).await
    }
    async fn console(&self, node: NodeId) -> Result<Json, Fault> {
        self.ask(Call::Console { node }).await
    }
    async fn set_console(&self, cx: &RequestCx, node: NodeId, enabled: Option<bool>) -> Result<(), Fault> {
        self.ask(Call::SetConsole { node, cx: cx.clone(), enabled }).await
    }
    async fn indicators(&self, node: NodeId) -> Result<Vec<Indicator>, Fault> {
        self.ask(Call::Indicators { node }).await
    }
    async fn indicator(&self, node: NodeId, component: &str, name: &str) -> Result<String, Fault> {
        self.ask(Call::Indicator { node, component: component.to_owned(), name: name.to_owned() }).await
    }
    async fn set_indicator(&self, node: NodeId, component: &str, name: &str, state: &str) -> Result<(), Fault> {
        let (component, name, state) = (component.to_owned(), name.to_owned(), state.to_owned());
        self.ask(Call::SetIndicator { node, component, name, state }).await
    }
    async fn vendor_methods(&self, node: NodeId) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        self.ask(Call::VendorMethods { node }).await
    }
    async fn vendor_call(&self, cx: &RequestCx, node: NodeId, call: VendorCall) -> Result<VendorAnswer, Fault> {
        self.ask(Call::VendorCall { node, cx: cx.clone(), vendor: call }).await
    }
    async fn driver_vendor_methods(&self, driver: &str) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        self.ask(Call::DriverVendorMethods { driver: driver.to_owned() }).await
    }
    async fn driver_vendor_call(&self, driver: &str, call: VendorCall) -> Result<VendorAnswer, Fault> {
        self.ask(Call::DriverVendorCall { driver: driver.to_owned(), vendor: call }).await
    }
    async fn media(&self, node: NodeId) -> Result<Vec<Json>, Fault> {
        self.ask(Call::Media { node }).await
    }
    async fn insert_media(&self, cx: &RequestCx, node: NodeId, device: &str, url: &str, through_server: bool) -> Result<(), Fault> {
        let (device, url) = (device.to_owned(), url.to_owned());
        self.ask(Call::InsertMedia { node, cx: cx.clone(), device, url, through_server }).await
    }
    async fn eject_media(&self, cx: &RequestCx, node: NodeId, devices: Option<Vec<String>>) -> Result<(), Fault> {
        self.ask(Call::EjectMedia { node, cx: cx.clone(), devices }).await
    }
}
