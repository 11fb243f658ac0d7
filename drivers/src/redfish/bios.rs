//! BIOS settings (DSP0268 Bios, AttributeRegistry): read with what the registry tells of each, changed through the settings resource
//! that the next start takes over.

use std::collections::HashMap;

use async_trait::async_trait;
use bessemer_model::{
    Json, JsonMap,
    firmware::{BiosSetting, value_text},
    node::Node,
    step::Step,
};
use serde_json::json;

use super::error::RedfishError;
use super::iface::{PROPERTIES, RedfishInterfaces, within};
use super::resource::{self, Resource};
use super::system::RedfishSystem;
use crate::iface::{Bios, DriverCx, DriverError, Power, Property, Restart, Result, StepDecl, StepOutcome, Steps};

/// Most settings that are told.
const MAX_SETTINGS: usize = 4096;
/// Looks at a machine that was restarted before its settings count as not taken over.
const MAX_LOOKS: u64 = 60;

const STEPS: &[StepDecl] =
    &[StepDecl { args: &[("settings", true)], ..StepDecl::on_request("apply_configuration") }, StepDecl::on_request("factory_reset")];

/// The interface `redfish` of BIOS settings.
#[derive(Clone, Debug)]
pub struct RedfishBios(pub RedfishInterfaces);

/// What the registry tells of the attributes, by name.
type Registry = HashMap<String, Json>;

impl RedfishSystem {
    async fn bios(&self) -> Result<Resource, RedfishError> {
        let system = self.system().await?;
        let path = system.link(&["Bios"]).ok_or_else(|| self.unsupported("BIOS settings"))?;
        self.client().get_fresh(path).await
    }

    /// The registry of the attributes; empty where the BMC shows none that can be read.
    async fn bios_registry(&self, bios: &Resource) -> Result<Registry, RedfishError> {
        let Some(name) = bios.text(&["AttributeRegistry"]) else { return Ok(Registry::new()) };
        let Some(all) = self.client().find("/redfish/v1/Registries").await? else { return Ok(Registry::new()) };
        let members = all.links(&[]);
        // Most name the member after the registry: that one first, the others only if it is none.
        let named =
            |m: &&String| m.trim_end_matches('/').rsplit('/').next().is_some_and(|last| name.starts_with(last) || last.starts_with(name));
        let order = members.iter().filter(named).chain(members.iter().filter(|m| !named(m)));
        for member in order.take(32) {
            let Some(file) = self.client().find(member).await? else { continue };
            if file.text(&["Registry"]) != Some(name) && file.text(&["Id"]) != Some(name) {
                continue;
            }
            let locations = file.at(&["Location"]).and_then(Json::as_array).cloned().unwrap_or_default();
            let english = |l: &&Json| resource::text(l, &["Language"]).is_some_and(|l| l.to_ascii_lowercase().starts_with("en"));
            let Some(place) = locations.iter().find(english).or_else(|| locations.first()) else { continue };
            let Some(uri) = resource::text(place, &["Uri"]) else { continue };
            let Some(registry) = self.client().find(uri).await? else { continue };
            let entries = registry.at(&["RegistryEntries", "Attributes"]).and_then(Json::as_array).cloned().unwrap_or_default();
            return Ok(entries.into_iter().filter_map(|e| Some((resource::text(&e, &["AttributeName"])?.to_owned(), e))).collect());
        }
        Ok(Registry::new())
    }

    /// Every setting.
    pub async fn bios_settings(&self) -> Result<Vec<BiosSetting>, RedfishError> {
        let bios = self.bios().await?;
        let registry = match self.bios_registry(&bios).await {
            Ok(r) => r,
            // The values are worth having without it.
            Err(e) if e.status().is_some() => {
                tracing::debug!(bmc = self.client().bmc(), "registry of BIOS settings left out: {e}");
                Registry::new()
            }
            Err(e) => return Err(e),
        };
        let attributes = bios.at(&["Attributes"]).and_then(Json::as_object);
        let told = attributes.into_iter().flatten().filter(|(_, v)| !v.is_object() && !v.is_array());
        Ok(told.take(MAX_SETTINGS).map(|(name, value)| setting(name, value, registry.get(name))).collect())
    }

    /// Puts values in place for the next start. Gives those that can be looked for afterwards (no password can); `None` when all are in
    /// force already.
    async fn stage_bios(&self, wanted: &JsonMap) -> Result<Option<JsonMap>, RedfishError> {
        let bios = self.bios().await?;
        let registry = self.bios_registry(&bios).await.unwrap_or_default();
        let now = bios.at(&["Attributes"]).and_then(Json::as_object).cloned().unwrap_or_default();
        let mut changed = JsonMap::new();
        for (name, value) in wanted {
            let Some(old) = now.get(name) else {
                return Err(RedfishError::Endpoint(format!("The machine has no BIOS setting \"{name}\"")));
            };
            let value = typed(value, old, registry.get(name));
            if *old != value {
                changed.insert(name.clone(), value);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let place = bios.link(&["@Redfish.Settings", "SettingsObject"]).unwrap_or(&bios.path).to_owned();
        let place = self.client().get_fresh(&place).await?;
        let mut body = json!({ "Attributes": changed });
        let times = resource::texts(&bios.body, &["@Redfish.Settings", "SupportedApplyTimes"]);
        if times.iter().any(|t| t == "OnReset") {
            body["@Redfish.SettingsApplyTime"] = json!({ "ApplyTime": "OnReset" });
        }
        let written = self.client().patch(&place.path, place.etag.as_deref(), &body).await?;
        // A task that waits for the restart is not waited for: the restart comes next.
        tracing::debug!(bmc = self.client().bmc(), status = written.status, "BIOS settings staged");
        changed.retain(|name, _| registry.get(name).and_then(|e| resource::text(e, &["Type"])) != Some("Password"));
        Ok(Some(changed))
    }

    /// Of these values, those that are not in force; and what the machine says about the last change.
    async fn bios_missing(&self, wanted: &JsonMap) -> Result<(Vec<String>, String), RedfishError> {
        let bios = self.bios().await?;
        let same = |name: &str, v: &Json| bios.at(&["Attributes", name]).is_some_and(|now| now == v || value_text(now) == value_text(v));
        let missing = wanted.iter().filter(|(n, v)| !same(n, v)).map(|(n, _)| n.clone()).collect();
        let said = bios.at(&["@Redfish.Settings"]).map(|s| resource::messages(s, "").to_string()).unwrap_or_default();
        Ok((missing, said))
    }

    async fn reset_bios(&self) -> Result<(), RedfishError> {
        let bios = self.bios().await?;
        let target = bios.text(&["Actions", "#Bios.ResetBios", "target"]).ok_or_else(|| self.unsupported("resetting the BIOS settings"))?;
        self.client().post(target, &json!({})).await.map(drop)
    }
}

fn setting(name: &str, value: &Json, entry: Option<&Json>) -> BiosSetting {
    let mut s = BiosSetting::plain(name, value);
    let Some(e) = entry else { return s };
    let int = |key: &str| e.get(key).and_then(Json::as_i64);
    let flag = |key: &str| resource::boolean(e, &[key]);
    s.attribute_type = resource::text(e, &["Type"]).map(str::to_owned);
    let values = e.get("Value").and_then(Json::as_array).into_iter().flatten();
    s.allowable_values = values.filter_map(|v| v.get("ValueName").filter(|n| !n.is_null()).cloned()).collect();
    s.lower_bound = int("LowerBound");
    s.upper_bound = int("UpperBound");
    s.min_length = int("MinLength");
    s.max_length = int("MaxLength");
    s.read_only = flag("ReadOnly");
    s.reset_required = flag("ResetRequired");
    s.unique = flag("IsSystemUniqueProperty");
    // A password is never told, whatever the BMC does.
    if s.attribute_type.as_deref() == Some("Password") {
        s.value = None;
    }
    s
}

/// The value in the type that the machine has for it.
fn typed(value: &Json, now: &Json, entry: Option<&Json>) -> Json {
    let Some(text) = value_text(value) else { return Json::Null };
    let kind = entry.and_then(|e| resource::text(e, &["Type"])).unwrap_or(match now {
        Json::Number(_) => "Integer",
        Json::Bool(_) => "Boolean",
        _ => "String",
    });
    match kind {
        "Integer" => text.trim().parse::<i64>().map_or_else(|_| value.clone(), Json::from),
        "Boolean" => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => value.clone(),
        },
        _ => Json::String(text),
    }
}

/// `settings` of the step: `[{"name", "value"}]`.
fn wanted(step: &Step) -> Result<JsonMap> {
    let bad = || DriverError::Invalid("settings of step bios.apply_configuration must be a list of {\"name\", \"value\"}".into());
    let list = step.args.get("settings").and_then(Json::as_array).filter(|l| !l.is_empty()).ok_or_else(bad)?;
    list.iter()
        .map(|s| {
            let value = s.get("value").filter(|v| !v.is_object() && !v.is_array()).ok_or_else(bad)?;
            Ok((s.get("name").and_then(Json::as_str).ok_or_else(bad)?.to_owned(), value.clone()))
        })
        .collect()
}

#[async_trait]
impl Steps for RedfishBios {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        Power::validate(&self.0, node)
    }

    fn steps(&self) -> &'static [StepDecl] {
        STEPS
    }

    async fn run(&self, cx: &DriverCx<'_>, step: &Step) -> Result<StepOutcome> {
        let system = self.0.system(cx.node)?;
        let restart = |note: Json| StepOutcome::Restart(Restart { poll: system.client().config().settings_look, note });
        match step.name.as_str() {
            "apply_configuration" => {
                let wanted = wanted(step)?;
                match within(cx.deadline, "changing BIOS settings", system.stage_bios(&wanted)).await? {
                    None => Ok(StepOutcome::BiosSettings(within(cx.deadline, "reading BIOS settings", system.bios_settings()).await?)),
                    Some(changed) => Ok(restart(json!({ "wanted": changed, "looks": 0 }))),
                }
            }
            "factory_reset" => {
                within(cx.deadline, "resetting the BIOS settings", system.reset_bios()).await?;
                Ok(restart(json!({ "wanted": {}, "looks": 0 })))
            }
            other => Err(DriverError::Unsupported(format!("the redfish BIOS interface has no step '{other}'"))),
        }
    }

    /// The machine was restarted: waits until it shows the values.
    async fn resume(&self, cx: &DriverCx<'_>, _step: &Step, note: &Json) -> Result<StepOutcome> {
        let system = self.0.system(cx.node)?;
        let wanted = note.get("wanted").and_then(Json::as_object).cloned().unwrap_or_default();
        let looks = note.get("looks").and_then(Json::as_u64).unwrap_or(0) + 1;
        let (missing, said) = within(cx.deadline, "reading BIOS settings", system.bios_missing(&wanted)).await?;
        if missing.is_empty() && (looks > 1 || !wanted.is_empty()) {
            return Ok(StepOutcome::BiosSettings(within(cx.deadline, "reading BIOS settings", system.bios_settings()).await?));
        }
        if looks > MAX_LOOKS {
            let text = format!("BIOS settings not taken over by the restart: {}; the machine says: {said}", missing.join(", "));
            return Err(DriverError::Refused(text));
        }
        let note = json!({ "wanted": wanted, "looks": looks });
        Ok(StepOutcome::Wait { poll: Some(system.client().config().settings_look), note })
    }
}

#[async_trait]
impl Bios for RedfishBios {
    async fn settings(&self, cx: &DriverCx<'_>) -> Result<Vec<BiosSetting>> {
        let system = self.0.system(cx.node)?;
        within(cx.deadline, "reading BIOS settings", system.bios_settings()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sent_in_the_type_that_the_machine_has() {
        let entry = |t: &str| json!({ "Type": t });
        assert_eq!(typed(&json!("5"), &json!(1), None), json!(5));
        assert_eq!(typed(&json!("True"), &json!("x"), Some(&entry("Boolean"))), json!(true));
        assert_eq!(typed(&json!(5), &json!("4"), None), json!("5"));
        assert_eq!(typed(&json!("on"), &json!(1), Some(&entry("Integer"))), json!("on"), "nonsense is for the BMC to refuse");
    }

    #[test]
    fn a_setting_takes_its_limits_from_the_registry_and_a_password_is_not_told() {
        let e = json!({"Type": "Enumeration", "Value": [{"ValueName": "On"}, {"ValueName": "Off"}], "ReadOnly": false, "LowerBound": null});
        let s = setting("virt", &json!("On"), Some(&e));
        assert_eq!(s.allowable_values, [json!("On"), json!("Off")]);
        assert_eq!((s.read_only, s.lower_bound, s.value.as_deref()), (Some(false), None, Some("On")));
        assert_eq!(setting("admin", &json!("hash"), Some(&json!({"Type": "Password"}))).value, None);
    }
}
