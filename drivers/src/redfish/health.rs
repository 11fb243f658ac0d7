//! Small things beside the main work: secure boot, health, indicator, sensors.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::error::RedfishError;
use super::resource::{self, Resource, float, text};
use super::system::RedfishSystem;

/// Indicator LED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Led {
    /// Steady.
    On,
    /// Dark.
    Off,
    /// Blinking.
    Blinking,
}

impl RedfishSystem {
    async fn secure_boot_resource(&self) -> Result<Resource, RedfishError> {
        let system = self.system().await?;
        let link = system.link(&["SecureBoot"]).ok_or_else(|| self.unsupported("secure boot"))?;
        self.client().get_fresh(link).await
    }

    /// Whether secure boot is (or will be, at the next start) on; `None` when the BMC does not say.
    pub async fn secure_boot(&self) -> Result<Option<bool>, RedfishError> {
        Ok(resource::boolean(&self.secure_boot_resource().await?.body, &["SecureBootEnable"]))
    }

    /// Sets secure boot and waits until the BMC shows it, at most `within`. `false`: it shows it only after a restart.
    pub async fn set_secure_boot(&self, on: bool, within: Duration) -> Result<bool, RedfishError> {
        let now = self.secure_boot_resource().await?;
        if resource::boolean(&now.body, &["SecureBootEnable"]) == Some(on) {
            return Ok(true);
        }
        let body = json!({"SecureBootEnable": on});
        let written = self.client().patch(&now.path, now.etag.as_deref(), &body).await?;
        self.client().settle(written, "secure boot change").await?;
        let until = Instant::now() + within;
        loop {
            if self.secure_boot().await? == Some(on) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(self.client().config().poll).await;
        }
    }

    /// `OK`, `Warning` or `Critical`.
    pub async fn health(&self) -> Result<Option<String>, RedfishError> {
        let system = self.system().await?;
        let known = |s: &&str| matches!(*s, "OK" | "Warning" | "Critical");
        Ok(system.text(&["Status", "Health"]).filter(known).map(str::to_owned))
    }

    /// Indicator of the system: `LocationIndicatorActive` where there is one, else the older `IndicatorLED`.
    pub async fn led(&self) -> Result<Option<Led>, RedfishError> {
        let system = self.system().await?;
        Ok(match (resource::boolean(&system.body, &["LocationIndicatorActive"]), system.text(&["IndicatorLED"])) {
            (_, Some("Lit")) => Some(Led::On),
            (_, Some("Off")) => Some(Led::Off),
            (_, Some("Blinking")) => Some(Led::Blinking),
            (Some(active), _) => Some(if active { Led::Blinking } else { Led::Off }),
            _ => None,
        })
    }

    /// Sets the indicator.
    pub async fn set_led(&self, led: Led) -> Result<(), RedfishError> {
        let system = self.system_now().await?;
        let body = if system.at(&["IndicatorLED"]).is_some() {
            let name = match led {
                Led::On => "Lit",
                Led::Off => "Off",
                Led::Blinking => "Blinking",
            };
            json!({"IndicatorLED": name})
        } else if system.at(&["LocationIndicatorActive"]).is_some() {
            json!({"LocationIndicatorActive": led != Led::Off})
        } else {
            return Err(self.unsupported("an indicator of the system"));
        };
        let written = self.client().patch(&system.path, system.etag.as_deref(), &body).await?;
        self.client().settle(written, "indicator change").await
    }

    /// Fans, temperatures, power supplies and drives: type → `id@chassis` → fields, as sensor notifications carry them.
    pub async fn sensors(&self) -> Result<Value, RedfishError> {
        let system = self.system().await?;
        let (mut fans, mut temperatures, mut powers, mut drives) = (Map::new(), Map::new(), Map::new(), Map::new());
        for path in system.links(&["Links", "Chassis"]) {
            let Some(chassis) = self.lenient(&path).await? else { continue };
            let place = chassis.text(&["Id"]).unwrap_or("chassis").to_owned();
            if let Some(link) = chassis.link(&["Thermal"])
                && let Some(thermal) = self.lenient(link).await?
            {
                for f in list(&thermal.body, "Fans") {
                    fans.insert(key(f, &place), fan(f));
                }
                for t in list(&thermal.body, "Temperatures") {
                    temperatures.insert(key(t, &place), temperature(t));
                }
            }
            if let Some(link) = chassis.link(&["Power"])
                && let Some(power) = self.lenient(link).await?
            {
                let unit = power.text(&["Id"]).unwrap_or("Power");
                for p in list(&power.body, "PowerSupplies") {
                    powers.insert(format!("{}:{unit}@{place}", id(p)), supply(p));
                }
            }
        }
        if let Some(link) = system.link(&["Storage"])
            && let Some(storage) = self.lenient(link).await?
        {
            for controller in storage.links(&[]) {
                let Some(c) = self.lenient(&controller).await? else { continue };
                for link in c.links(&["Drives"]) {
                    let Some(d) = self.lenient(&link).await? else { continue };
                    let of = |r: &Resource, key: &str| r.text(&[key]).unwrap_or("?").to_owned();
                    let id = format!("{}:{}@{}", of(&d, "Name"), of(&c, "Id"), of(&system, "Id"));
                    drives.insert(id, with_status(&d.body, &[("name", "Name"), ("model", "Model"), ("capacity_bytes", "CapacityBytes")]));
                }
            }
        }
        let mut about = Map::new();
        for (key, from) in [("Manufacturer", "Manufacturer"), ("Model", "Model"), ("UUID", "UUID")] {
            if let Some(v) = system.text(&[from]) {
                about.insert(key.to_owned(), v.into());
            }
        }
        Ok(json!({"Fan": fans, "Temperature": temperatures, "Power": powers, "Drive": drives, "Extra": about}))
    }
}

fn list<'a>(body: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    body.get(key).and_then(Value::as_array).into_iter().flatten().take(resource::MAX_MEMBERS)
}

fn id(sensor: &Value) -> &str {
    text(sensor, &["MemberId"]).or_else(|| text(sensor, &["Name"])).or_else(|| text(sensor, &["FanName"])).unwrap_or("?")
}

fn key(sensor: &Value, chassis: &str) -> String {
    format!("{}@{chassis}", id(sensor))
}

/// The named properties as they are, with state and health.
fn with_status(v: &Value, names: &[(&str, &str)]) -> Value {
    let mut m = Map::new();
    for (to, from) in names {
        m.insert((*to).to_owned(), v.get(*from).cloned().unwrap_or(Value::Null));
    }
    let (state, health) = (text(v, &["Status", "State"]), text(v, &["Status", "Health"]));
    // HPE tells the health of a drive without a state.
    m.insert("state".to_owned(), state.or(health.map(|_| "Enabled")).into());
    m.insert("health".to_owned(), health.into());
    Value::Object(m)
}

fn fan(v: &Value) -> Value {
    let mut f = with_status(
        v,
        &[
            ("identity", "MemberId"),
            ("max_reading_range", "MaxReadingRange"),
            ("min_reading_range", "MinReadingRange"),
            ("reading", "Reading"),
            ("reading_units", "ReadingUnits"),
            ("serial_number", "SerialNumber"),
            ("physical_context", "PhysicalContext"),
        ],
    );
    if let (None, Some(old)) = (float(v, &["Reading"]), float(v, &["ReadingRPM"])) {
        f["reading"] = old.into();
    }
    f
}

fn temperature(v: &Value) -> Value {
    with_status(
        v,
        &[
            ("identity", "MemberId"),
            ("max_reading_range_temp", "MaxReadingRangeTemp"),
            ("min_reading_range_temp", "MinReadingRangeTemp"),
            ("reading_celsius", "ReadingCelsius"),
            ("physical_context", "PhysicalContext"),
            ("sensor_number", "SensorNumber"),
        ],
    )
}

fn supply(v: &Value) -> Value {
    with_status(
        v,
        &[
            ("power_capacity_watts", "PowerCapacityWatts"),
            ("line_input_voltage", "LineInputVoltage"),
            ("last_power_output_watts", "LastPowerOutputWatts"),
            ("serial_number", "SerialNumber"),
        ],
    )
}
