//! Firmware (DSP0268 UpdateService, action SimpleUpdate): which versions run, and flashing others.
//!
//! A BMC that flashes itself goes away and forgets its tasks: while it is not heard of, it is only waited for.

use async_trait::async_trait;
use bessemer_model::{
    Json,
    firmware::FirmwareComponent,
    node::Node,
    step::{Replay, Step},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::ROOT;
use super::error::RedfishError;
use super::iface::{PROPERTIES, RedfishInterfaces, within};
use super::resource::{self, Resource};
use super::system::RedfishSystem;
use super::task::TaskProgress;
use crate::iface::{DriverCx, DriverError, Firmware, Power, Property, Restart, Result, StepDecl, StepOutcome, Steps};

const STEPS: &[StepDecl] = &[StepDecl { args: &[("settings", true)], replay: Replay::Never, ..StepDecl::on_request("update") }];

/// Most network cards that are told.
const MAX_CARDS: usize = 64;
/// Looks in vain, one after the other, before an update counts as failed.
const MAX_MISSES: u32 = 60;
/// Longest pause that an update may ask for, in seconds.
const MAX_PAUSE: u64 = 3600;

/// The interface `redfish` of firmware.
#[derive(Clone, Debug)]
pub struct RedfishFirmware(pub RedfishInterfaces);

/// One update that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Update {
    component: String,
    url: String,
    pause: u64,
}

impl Update {
    /// The new version runs only after the machine was restarted.
    fn needs_restart(&self) -> bool {
        self.component != "bmc"
    }
}

/// `settings` of the step: `[{"component", "url", "wait"}]`.
fn updates(step: &Step) -> Result<Vec<Update>> {
    let bad = |what: &str| DriverError::Invalid(format!("settings of step firmware.update: {what}"));
    let list = step.args.get("settings").and_then(Json::as_array).filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| bad("give a list of {\"component\", \"url\"}"))?;
    let one = |s: &Json| {
        let component = s.get("component").and_then(Json::as_str).unwrap_or_default();
        if !(matches!(component, "bios" | "bmc") || component.strip_prefix("nic:").is_some_and(|n| !n.is_empty())) {
            return Err(bad("\"component\" must be bios, bmc or nic:<identifier>"));
        }
        let url = s.get("url").and_then(Json::as_str).unwrap_or_default();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(bad("\"url\" must begin with http:// or https://; other sources are not built"));
        }
        let pause = match s.get("wait") {
            None | Some(Json::Null) => 0,
            Some(w) => w
                .as_u64()
                .or_else(|| w.as_str().and_then(|w| w.trim().parse().ok()))
                .filter(|w| *w <= MAX_PAUSE)
                .ok_or_else(|| bad("\"wait\" must be a number of seconds, at most 3600"))?,
        };
        Ok(Update { component: component.to_owned(), url: url.to_owned(), pause })
    };
    list.iter().map(one).collect()
}

/// What the step remembers between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Which of the updates.
    at: usize,
    /// Its task; `None` when the BMC made none.
    task: Option<String>,
    /// All updates are done; only the machine is waited for.
    flashed: bool,
    /// Looks in vain, one after the other.
    misses: u32,
}

impl RedfishSystem {
    /// What runs now: BIOS, BMC, network cards.
    pub async fn firmware(&self) -> Result<Vec<FirmwareComponent>, RedfishError> {
        let system = self.system().await?;
        let mut out = Vec::new();
        if let Some(version) = system.text(&["BiosVersion"]) {
            out.push(FirmwareComponent { component: "bios".into(), version: version.into(), ..FirmwareComponent::default() });
        }
        for path in self.managers(&system).await? {
            let Some(bmc) = self.client().find(&path).await? else { continue };
            if let Some(version) = bmc.text(&["FirmwareVersion"]) {
                out.push(part("bmc".into(), version, &bmc));
                break;
            }
        }
        for chassis in system.links(&["Links", "Chassis"]) {
            let Some(chassis) = self.client().find(&chassis).await? else { continue };
            let Some(cards) = chassis.link(&["NetworkAdapters"]) else { continue };
            let Some(cards) = self.client().find(cards).await? else { continue };
            for card in cards.links(&[]).into_iter().take(MAX_CARDS) {
                let Some(card) = self.client().find(&card).await? else { continue };
                let controllers = card.at(&["Controllers"]).and_then(Json::as_array);
                let version = controllers.and_then(|c| c.iter().find_map(|c| resource::text(c, &["FirmwarePackageVersion"])));
                if let (Some(id), Some(version)) = (card.text(&["Id"]), version) {
                    out.push(part(format!("nic:{id}"), version, &card));
                }
            }
        }
        Ok(out)
    }

    /// Starts an update. Gives the path of its task, if the BMC makes one.
    async fn flash(&self, url: &str) -> Result<Option<String>, RedfishError> {
        let root = self.client().get(ROOT).await?;
        let service = root.link(&["UpdateService"]).ok_or_else(|| self.unsupported("firmware updates"))?;
        let service = self.client().get_fresh(service).await?;
        let target = service.text(&["Actions", "#UpdateService.SimpleUpdate", "target"]);
        let target = target.ok_or_else(|| self.unsupported("firmware updates by SimpleUpdate"))?;
        let plain = json!({ "ImageURI": url });
        let written = match self.client().post(target, &plain).await {
            // Some want to be told what the address says already.
            Err(e) if e.mentions("TransferProtocol") => {
                let protocol = url.split("://").next().unwrap_or("http").to_ascii_uppercase();
                self.client().post(target, &json!({ "ImageURI": url, "TransferProtocol": protocol })).await?
            }
            other => other?,
        };
        Ok(written.task)
    }
}

fn part(component: String, version: &str, r: &Resource) -> FirmwareComponent {
    let text = |key: &str| r.text(&[key]).map(str::to_owned);
    FirmwareComponent {
        component,
        version: version.to_owned(),
        vendor: text("Manufacturer"),
        model: text("Model"),
        serial_number: text("SerialNumber"),
    }
}

impl RedfishFirmware {
    fn wait(&self, note: &Note, pause: u64) -> Result<StepOutcome> {
        let poll = self.0.pool().config().firmware_look.max(std::time::Duration::from_secs(pause));
        let note = serde_json::to_value(note).map_err(|e| DriverError::Invalid(e.to_string()))?;
        Ok(StepOutcome::Wait { poll: Some(poll), note })
    }

    async fn begin(&self, cx: &DriverCx<'_>, update: &Update, at: usize) -> Result<StepOutcome> {
        let system = self.0.system(cx.node)?;
        let task = within(cx.deadline, "starting a firmware update", system.flash(&update.url)).await?;
        self.wait(&Note { at, task, ..Note::default() }, update.pause)
    }
}

#[async_trait]
impl Steps for RedfishFirmware {
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
        let updates = updates(step)?;
        let first = updates.first().ok_or_else(|| DriverError::Missing("settings of step firmware.update are empty".into()))?;
        self.begin(cx, first, 0).await
    }

    async fn resume(&self, cx: &DriverCx<'_>, step: &Step, note: &Json) -> Result<StepOutcome> {
        let updates = updates(step)?;
        let mut note: Note = serde_json::from_value(note.clone()).unwrap_or_default();
        let system = self.0.system(cx.node)?;
        if note.flashed {
            return match within(cx.deadline, "reading firmware versions", system.firmware()).await {
                Ok(found) => Ok(StepOutcome::Firmware(found)),
                Err(e) => self.missed(note, e),
            };
        }
        let progress = match &note.task {
            Some(task) => {
                within(cx.deadline, "looking at a firmware update", async {
                    match system.client().task(task).await {
                        // A BMC that was flashed has forgotten what it did before.
                        Err(e) if e.is_not_found() => Ok(TaskProgress::Gone),
                        other => other,
                    }
                })
                .await
            }
            None => Ok(TaskProgress::Done),
        };
        match progress {
            Ok(TaskProgress::Running(_)) => {
                note.misses = 0;
                self.wait(&note, 0)
            }
            Ok(TaskProgress::Done | TaskProgress::Gone) => match updates.get(note.at + 1) {
                Some(next) => self.begin(cx, next, note.at + 1).await,
                None => {
                    let note = Note { at: note.at + 1, flashed: true, ..Note::default() };
                    if updates.iter().any(Update::needs_restart) {
                        let poll = self.0.pool().config().firmware_look;
                        return Ok(StepOutcome::Restart(Restart { poll, note: json!(note) }));
                    }
                    self.wait(&note, 0)
                }
            },
            Err(e) => self.missed(note, e),
        }
    }
}

impl RedfishFirmware {
    /// Nothing could be learned this time.
    fn missed(&self, mut note: Note, e: DriverError) -> Result<StepOutcome> {
        note.misses += 1;
        if note.misses > MAX_MISSES || !e.is_transient() {
            return Err(e);
        }
        self.wait(&note, 0)
    }
}

#[async_trait]
impl Firmware for RedfishFirmware {
    async fn components(&self, cx: &DriverCx<'_>) -> Result<Vec<FirmwareComponent>> {
        let system = self.0.system(cx.node)?;
        within(cx.deadline, "reading firmware versions", system.firmware()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(settings: Json) -> Step {
        let mut s = Step::internal("update", Replay::Idempotent);
        s.args.insert("settings".into(), settings);
        s
    }

    #[test]
    fn updates_name_a_known_component_and_a_source_that_a_bmc_can_fetch() {
        let good = updates(&step(json!([{"component": "nic:1", "url": "http://h/x", "wait": "30"}]))).expect("good");
        assert_eq!(good, [Update { component: "nic:1".into(), url: "http://h/x".into(), pause: 30 }]);
        for bad in [
            json!([]),
            json!([{"component": "disk", "url": "http://h/x"}]),
            json!([{"component": "nic:", "url": "http://h/x"}]),
            json!([{"component": "bios", "url": "file:///x"}]),
            json!([{"component": "bios"}]),
            json!([{"component": "bios", "url": "http://h/x", "wait": -1}]),
        ] {
            assert!(matches!(updates(&step(bad.clone())), Err(DriverError::Invalid(_))), "{bad}");
        }
    }
}
