//! Which implementation each interface of a node gets: what its owner chose, if it may be, else the default.

use std::collections::BTreeMap;

use bessemer_model::{
    conductor::DriverOffer,
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::Interfaces,
};

use crate::request::Api;

/// The hardware type that takes every enabled implementation, whoever else it is meant for.
const MIXES_ANYTHING: &str = "fake-hardware";

/// What drivers offer to a node, read once per request.
pub(crate) struct Offer {
    driver: String,
    own: DriverOffer,
    /// Enabled implementations of all drivers.
    enabled: BTreeMap<String, Vec<String>>,
}

/// What `driver` offers in `group`.
///
/// # Errors
/// `DriverNotFoundInEntrypoint` when no hardware type of this name is enabled, `Invalid` when no conductor of the group serves it.
pub(crate) async fn offer(api: &Api, group: &str, driver: &str) -> Result<Offer, Fault> {
    let conductors = api.ring.serving(group, driver).await?;
    let Some(own) = conductors.offer(group, driver) else {
        let known = conductors.drivers().iter().any(|(n, ..)| *n == driver) || api.config.hardware.contains_key(driver);
        return Err(if known {
            Fault::new(FaultKind::Invalid, format!("No conductor in group \"{group}\" serves the driver \"{driver}\"."))
        } else {
            Fault::new(FaultKind::DriverNotFoundInEntrypoint, format!("Hardware type \"{driver}\" is not enabled."))
        });
    };
    let mut enabled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let offers = conductors.drivers();
    for o in offers.iter().map(|(.., o)| *o).chain(api.config.hardware.values()) {
        for (kind, names) in &o.enabled {
            enabled.entry(kind.clone()).or_default().extend(names.iter().cloned());
        }
    }
    Ok(Offer { driver: driver.to_owned(), own: own.clone(), enabled })
}

impl Offer {
    fn takes(&self, kind: InterfaceKind, name: &str) -> bool {
        let among = |m: &BTreeMap<String, Vec<String>>| m.get(kind.as_str()).is_some_and(|names| names.iter().any(|n| n == name));
        among(&self.own.enabled) || (self.driver == MIXES_ANYTHING && among(&self.enabled))
    }

    /// Completes and checks a choice.
    ///
    /// # Errors
    /// `InterfaceNotFoundInEntrypoint` for what the driver does not take, `NoValidDefaultForInterface`.
    pub fn complete(&self, chosen: &BTreeMap<InterfaceKind, String>) -> Result<Interfaces, Fault> {
        let mut out = Interfaces::default();
        for kind in InterfaceKind::ALL {
            let name = match chosen.get(kind) {
                Some(name) if self.takes(*kind, name) => name,
                Some(name) => {
                    let text = format!("{}_interface \"{name}\" is not enabled or not supported by \"{}\".", kind.as_str(), self.driver);
                    return Err(Fault::new(FaultKind::InterfaceNotFoundInEntrypoint, text));
                }
                None => self.own.default.get(kind.as_str()).ok_or_else(|| {
                    let text = format!("No enabled implementation can be the default {}_interface of \"{}\".", kind.as_str(), self.driver);
                    Fault::new(FaultKind::NoValidDefaultForInterface, text)
                })?,
            };
            out.set(*kind, name);
        }
        Ok(out)
    }
}
