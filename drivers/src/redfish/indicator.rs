//! Lamps (DSP0268 `LocationIndicatorActive`, formerly `IndicatorLED`) of the system, its chassis and its drives.

use serde_json::json;

use super::error::RedfishError;
use super::resource::{self, Resource};
use super::system::RedfishSystem;
use crate::iface::{Indicator, IndicatorState};

/// Most drives whose lamps are told.
const MAX_DRIVES: usize = 128;

/// A lamp and the resource that it belongs to.
struct Lamp {
    component: &'static str,
    name: String,
    resource: Resource,
}

/// How a resource tells of its lamp.
fn state(r: &Resource) -> Option<IndicatorState> {
    if let Some(led) = r.text(&["IndicatorLED"]) {
        return Some(match led {
            "Off" => IndicatorState::Off,
            "Lit" => IndicatorState::On,
            "Blinking" => IndicatorState::Blinking,
            _ => IndicatorState::Unknown,
        });
    }
    // This one only tells whether somebody is being shown the way, which most machines do by blinking.
    let active = resource::boolean(&r.body, &["LocationIndicatorActive"])?;
    Some(if active { IndicatorState::Blinking } else { IndicatorState::Off })
}

fn by_location(r: &Resource) -> bool {
    r.text(&["IndicatorLED"]).is_none()
}

impl RedfishSystem {
    async fn lamps(&self, component: Option<&str>) -> Result<Vec<Lamp>, RedfishError> {
        let wanted = |c: &str| component.is_none_or(|w| w == c);
        let system = self.system_now().await?;
        let mut out = Vec::new();
        if wanted("chassis") {
            for path in system.links(&["Links", "Chassis"]) {
                let Some(chassis) = self.client().find(&path).await? else { continue };
                out.push(Lamp { component: "chassis", name: name(&chassis, "UUID"), resource: chassis });
            }
        }
        if wanted("system") {
            out.push(Lamp { component: "system", name: name(&system, "UUID"), resource: system.clone() });
        }
        if wanted("disk") {
            out.extend(self.drive_lamps(&system).await?);
        }
        out.retain(|l| state(&l.resource).is_some());
        Ok(out)
    }

    async fn drive_lamps(&self, system: &Resource) -> Result<Vec<Lamp>, RedfishError> {
        let mut out = Vec::new();
        let Some(storage) = system.link(&["Storage"]) else { return Ok(out) };
        let controllers = self.client().find(storage).await?.map(|c| c.links(&[])).unwrap_or_default();
        for path in controllers {
            let Some(controller) = self.client().find(&path).await? else { continue };
            for drive in controller.links(&["Drives"]) {
                let Some(drive) = self.client().find(&drive).await? else { continue };
                let name = format!("{}:{}", name(&controller, "Id"), name(&drive, "Id"));
                out.push(Lamp { component: "disk", name, resource: drive });
                if out.len() >= MAX_DRIVES {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    async fn lamp(&self, component: &str, name: &str) -> Result<Lamp, RedfishError> {
        if !matches!(component, "system" | "chassis" | "disk") {
            return Err(unknown(component, name));
        }
        let found = self.lamps(Some(component)).await?;
        found.into_iter().find(|l| l.name == name).ok_or_else(|| unknown(component, name))
    }

    /// Every lamp of the machine, or of one component.
    pub async fn indicators(&self, component: Option<&str>) -> Result<Vec<Indicator>, RedfishError> {
        use IndicatorState::{Blinking, Off, On};
        let lamps = self.lamps(component).await?;
        let told = |l: Lamp| Indicator {
            component: l.component,
            name: l.name,
            readonly: false,
            states: if by_location(&l.resource) { vec![Blinking, Off] } else { vec![Blinking, Off, On] },
        };
        Ok(lamps.into_iter().map(told).collect())
    }

    /// State of one lamp.
    pub async fn indicator(&self, component: &str, name: &str) -> Result<IndicatorState, RedfishError> {
        let lamp = self.lamp(component, name).await?;
        Ok(state(&lamp.resource).unwrap_or(IndicatorState::Unknown))
    }

    /// Sets one lamp, by whichever property the resource has.
    pub async fn set_indicator(&self, component: &str, name: &str, to: IndicatorState) -> Result<(), RedfishError> {
        let lamp = self.lamp(component, name).await?;
        let body = match to {
            IndicatorState::Unknown => return Err(RedfishError::Endpoint("an indicator cannot be set to \"unknown\"".to_owned())),
            _ if by_location(&lamp.resource) => json!({ "LocationIndicatorActive": to != IndicatorState::Off }),
            IndicatorState::Off => json!({ "IndicatorLED": "Off" }),
            IndicatorState::On => json!({ "IndicatorLED": "Lit" }),
            IndicatorState::Blinking => json!({ "IndicatorLED": "Blinking" }),
        };
        let written = self.client().patch(&lamp.resource.path, lamp.resource.etag.as_deref(), &body).await?;
        self.client().settle(written, "setting an indicator").await
    }
}

fn name(r: &Resource, key: &str) -> String {
    let own = r.text(&[key]).or_else(|| r.text(&["Id"]));
    own.unwrap_or_else(|| r.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()).to_owned()
}

fn unknown(component: &str, name: &str) -> RedfishError {
    let cut = |s: &str| s.chars().take(128).collect::<String>();
    RedfishError::Endpoint(format!("Unknown indicator {} for component {}", cut(name), cut(component)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(body: serde_json::Value) -> Resource {
        Resource { path: "/redfish/v1/Chassis/7".to_owned(), etag: None, body }
    }

    #[test]
    fn both_properties_of_lamps_are_understood() {
        assert_eq!(state(&resource(json!({"IndicatorLED": "Lit", "LocationIndicatorActive": false}))), Some(IndicatorState::On));
        assert_eq!(state(&resource(json!({"LocationIndicatorActive": true}))), Some(IndicatorState::Blinking));
        assert_eq!(state(&resource(json!({"IndicatorLED": "Glowing"}))), Some(IndicatorState::Unknown));
        assert_eq!(state(&resource(json!({"IndicatorLED": null}))), None);
    }

    #[test]
    fn a_resource_without_a_name_is_named_by_its_path() {
        assert_eq!(name(&resource(json!({"UUID": "u", "Id": "1"})), "UUID"), "u");
        assert_eq!(name(&resource(json!({"Id": "1"})), "UUID"), "1");
        assert_eq!(name(&resource(json!({})), "UUID"), "7");
    }
}
