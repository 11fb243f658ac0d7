//! The ComputerSystem a node means, its chassis and its BMC, and which quirks apply.

use std::sync::Arc;

use super::client::RedfishClient;
use super::error::RedfishError;
use super::quirks::{Flags, Identity};
use super::resource::Resource;

/// Collection of systems (DSP0266 clause 6.2).
const SYSTEMS: &str = "/redfish/v1/Systems";

/// One system behind one BMC. Made by [`super::RedfishPool::client`]; its operations are in `power`, `boot`, `media`,
/// `inspect` and their like.
#[derive(Debug, Clone)]
pub struct RedfishSystem {
    client: Arc<RedfishClient>,
    path: Option<String>,
}

impl RedfishSystem {
    pub(super) fn new(client: Arc<RedfishClient>, path: Option<String>) -> Self {
        Self { client, path }
    }

    /// The client of its BMC, for requests that have no method of their own.
    #[must_use]
    pub fn client(&self) -> &RedfishClient {
        &self.client
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> RedfishError {
        RedfishError::Unsupported { bmc: self.client.bmc().to_owned(), what: what.into() }
    }

    /// Path of the system: the configured one, else that of the only system of the BMC.
    pub async fn path(&self) -> Result<String, RedfishError> {
        if let Some(p) = &self.path {
            return Ok(p.clone());
        }
        let found = self.client.only_system.get_or_try_init(|| async {
            let all = self.client.get(SYSTEMS).await?.links(&[]);
            match all.as_slice() {
                [one] => Ok(one.clone()),
                [] => Err(RedfishError::NotFound { bmc: self.client.bmc().to_owned(), path: SYSTEMS.to_owned() }),
                many => Err(RedfishError::Endpoint(format!(
                    "BMC {} has {} systems: set driver_info/redfish_system_id to one of {}",
                    self.client.bmc(),
                    many.len(),
                    many.iter().take(4).map(|s| super::error::cut(s)).collect::<Vec<_>>().join(", ")
                ))),
            }
        });
        found.await.cloned()
    }

    /// The ComputerSystem as it is now.
    pub async fn system(&self) -> Result<Resource, RedfishError> {
        self.client.get(&self.path().await?).await
    }

    /// The same with a request of its own: to see what a change did.
    pub(super) async fn system_now(&self) -> Result<Resource, RedfishError> {
        self.client.get_fresh(&self.path().await?).await
    }

    /// The BMCs of the system. `Links.ManagedBy`, where absent (Huawei) all Managers of the service.
    pub async fn managers(&self, system: &Resource) -> Result<Vec<String>, RedfishError> {
        let named = system.links(&["Links", "ManagedBy"]);
        if !named.is_empty() {
            return Ok(named);
        }
        let others = system.links(&["Links", "Managers"]);
        if !others.is_empty() {
            return Ok(others);
        }
        Ok(self.client.find("/redfish/v1/Managers").await?.map(|c| c.links(&[])).unwrap_or_default())
    }

    /// Who made it. Reads the BMC's firmware version only where a quirk depends on it.
    pub async fn identity(&self, system: &Resource) -> Result<Identity, RedfishError> {
        let vendor = match system.text(&["Manufacturer"]) {
            Some(v) => v.to_owned(),
            None => {
                let root = self.client.get(super::client::ROOT).await;
                root.ok().and_then(|r| r.text(&["Vendor"]).map(str::to_owned)).unwrap_or_default()
            }
        };
        let model = system.text(&["Model"]).unwrap_or_default().to_owned();
        let mut identity = Identity { vendor, model, firmware: None };
        if identity.firmware_matters() {
            for manager in self.managers(system).await? {
                if let Some(m) = self.client.find(&manager).await? {
                    identity.firmware = m.text(&["FirmwareVersion"]).map(str::to_owned);
                    break;
                }
            }
        }
        Ok(identity)
    }

    /// Quirks that apply. Never fails: a BMC that cannot be identified is treated as ordinary.
    pub(super) async fn flags(&self, system: &Resource) -> Flags {
        match self.identity(system).await {
            Ok(i) => i.flags(),
            Err(e) => {
                tracing::debug!(bmc = self.client.bmc(), "BMC not identified: {e}");
                Flags::default()
            }
        }
    }
}
