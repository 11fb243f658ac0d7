//! Boot source override and boot mode, in whichever form this BMC accepts (DSP0268, ComputerSystem `Boot`).

use std::time::Duration;

use bessemer_model::state::PowerState;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::error::RedfishError;
use super::quirks::Flags;
use super::resource::{self, Resource};
use super::system::RedfishSystem;

/// Firmware flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareMode {
    /// UEFI.
    Uefi,
    /// Legacy BIOS.
    Legacy,
}

impl FirmwareMode {
    fn wire(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Legacy => "Legacy",
        }
    }
    fn parse(s: &str) -> Option<Self> {
        match s {
            "UEFI" => Some(Self::Uefi),
            "Legacy" => Some(Self::Legacy),
            _ => None,
        }
    }
}

/// What to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootTarget {
    /// No override: the firmware's own order.
    Nothing,
    /// Network, by PXE.
    Pxe,
    /// Disk.
    Disk,
    /// CD, virtual ones too.
    Cd,
    /// USB storage.
    Usb,
    /// Firmware setup.
    BiosSetup,
    /// UEFI HTTP boot.
    UefiHttp,
}

impl BootTarget {
    /// Wire names, best first.
    fn names(self, flags: Flags) -> &'static [&'static str] {
        match self {
            Self::Nothing => &["None"],
            Self::Pxe => &["Pxe"],
            Self::Disk => &["Hdd"],
            Self::Cd if flags.usb_cd => &["UsbCd", "Cd"],
            Self::Cd => &["Cd", "UsbCd"],
            Self::Usb => &["Usb"],
            Self::BiosSetup => &["BiosSetup"],
            Self::UefiHttp => &["UefiHttp"],
        }
    }

    fn parse(s: &str) -> Option<Self> {
        Some(match s {
            "None" => Self::Nothing,
            "Pxe" => Self::Pxe,
            "Hdd" => Self::Disk,
            "Cd" | "UsbCd" => Self::Cd,
            "Usb" => Self::Usb,
            "BiosSetup" => Self::BiosSetup,
            "UefiHttp" => Self::UefiHttp,
            _ => return None,
        })
    }
}

/// A boot override to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRequest {
    /// What to start from.
    pub target: BootTarget,
    /// For every start, else for the next one.
    pub persistent: bool,
    /// Firmware flavour to ask for with it.
    pub mode: Option<FirmwareMode>,
    /// For [`BootTarget::UefiHttp`].
    pub http_uri: Option<String>,
}

impl BootRequest {
    /// Next start from `target`.
    #[must_use]
    pub fn once(target: BootTarget) -> Self {
        Self { target, persistent: false, mode: None, http_uri: None }
    }
    /// Every start from `target`.
    #[must_use]
    pub fn always(target: BootTarget) -> Self {
        Self { persistent: true, ..Self::once(target) }
    }
}

/// The boot override as the BMC tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootState {
    /// Target, if it is one we know and the override is enabled.
    pub target: Option<BootTarget>,
    /// `None`: not told. `Some(false)`: next start only.
    pub persistent: Option<bool>,
    /// Firmware flavour.
    pub mode: Option<FirmwareMode>,
}

/// What came of a [`BootRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOutcome {
    /// The BMC took it for every start. False when it takes one-time overrides only: set it again before each start.
    pub persistent: bool,
    /// The BMC tells the target back. False: it accepted, yet (still) tells something else.
    pub confirmed: bool,
}

/// How the `Boot` object is written; each refusal changes one of these at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    place: Place,
    full: bool,
    mode: SendMode,
    once: bool,
    name: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    System,
    Settings,
    FutureState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendMode {
    /// When asked for, or with a full object.
    AsAsked,
    Always,
    Never,
}

impl RedfishSystem {
    /// The boot override now.
    pub async fn boot(&self) -> Result<BootState, RedfishError> {
        Ok(boot_state(&self.system().await?.body))
    }

    /// Boot targets that the BMC names, in the system and in its settings resource.
    pub async fn boot_targets(&self) -> Result<Vec<BootTarget>, RedfishError> {
        let system = self.system().await?;
        let settings = self.boot_settings(&system).await?;
        let mut all: Vec<BootTarget> = Vec::new();
        for name in allowed_targets(&system, settings.as_ref()) {
            if let Some(t) = BootTarget::parse(&name).filter(|t| !all.contains(t)) {
                all.push(t);
            }
        }
        Ok(all)
    }

    /// Sets the boot override and looks whether it is there.
    pub async fn set_boot(&self, request: &BootRequest) -> Result<BootOutcome, RedfishError> {
        let system = self.system_now().await?;
        let flags = self.flags(&system).await;
        let uefi = request.mode.or(boot_state(&system.body).mode) != Some(FirmwareMode::Legacy);
        if flags.no_disk_override_in_uefi && request.target == BootTarget::Disk && request.persistent && uefi {
            tracing::info!(bmc = self.client().bmc(), "boot device left to the firmware's own order (quirk of this machine)");
            return Ok(BootOutcome { persistent: true, confirmed: false });
        }
        let settings = self.boot_settings(&system).await?;
        let allowed = allowed_targets(&system, settings.as_ref());
        let mut names: Vec<&str> = request.target.names(flags).to_vec();
        if !allowed.is_empty() {
            let offered: Vec<&str> = names.iter().filter(|n| allowed.iter().any(|a| a == **n)).copied().collect();
            if offered.is_empty() && request.target != BootTarget::Nothing {
                return Err(self.unsupported(format!("boot from {} (it offers {})", names.join(" or "), allowed.join(", "))));
            }
            if !offered.is_empty() {
                names = offered;
            }
        }
        let form = Form {
            place: place(flags, settings.as_ref()),
            full: flags.full_boot,
            mode: if flags.omit_boot_mode { SendMode::Never } else { SendMode::AsAsked },
            once: flags.once_only,
            name: 0,
        };
        let used = self.write_boot(request, &system, settings.as_ref(), &names, form).await?;
        let persistent = request.persistent && !used.once;
        let confirmed = self.confirm_boot(request.target, used.place).await?;
        self.keep_boot_mode(request, &system).await?;
        if !confirmed {
            tracing::warn!(bmc = self.client().bmc(), target = ?request.target, "the BMC accepted the boot device, yet does not show it");
        }
        Ok(BootOutcome { persistent, confirmed })
    }

    /// Writes the boot object in one form after the other until the BMC accepts one. Gives the form it accepted.
    async fn write_boot(
        &self,
        request: &BootRequest,
        system: &Resource,
        settings: Option<&Resource>,
        names: &[&str],
        first: Form,
    ) -> Result<Form, RedfishError> {
        let config = self.client().config();
        let mut form = first;
        let mut tried = vec![form];
        let (mut post_tries, mut post_pause) = (1, config.post_boot_delay);
        let mut future_state = format!("{}/SD", system.path.trim_end_matches('/'));
        loop {
            let body = json!({"Boot": boot_object(request, system, names, form)});
            let (path, etag) = match (form.place, settings) {
                (Place::Settings, Some(s)) => (s.path.clone(), s.etag.clone()),
                (Place::FutureState, _) => {
                    let etag = self.client().get_fresh(&future_state).await.ok().and_then(|r| r.etag);
                    (future_state.clone(), etag)
                }
                _ => (system.path.clone(), system.etag.clone()),
            };
            let error = match self.client().patch(&path, etag.as_deref(), &body).await {
                Ok(written) => {
                    self.client().settle(written, "boot device change").await?;
                    return Ok(form);
                }
                Err(e) => e,
            };
            if in_post(&error) {
                if post_tries >= config.post_boot_attempts {
                    return Err(error);
                }
                tracing::debug!(bmc = self.client().bmc(), "machine is in its power-on self test: {error}");
                post_tries += 1;
                sleep(post_pause).await;
                post_pause = post_pause.saturating_mul(2);
                continue;
            }
            if let Some(uri) = future_uri(&error) {
                future_state = uri;
            }
            let Some(next) = next_form(&error, form, &tried, names.len(), settings.is_some()) else {
                return Err(error);
            };
            tracing::debug!(bmc = self.client().bmc(), ?next, "boot device refused, trying another form: {error}");
            form = next;
            tried.push(form);
        }
    }

    /// The settings resource of the system (`@Redfish.Settings`), if it carries a boot override.
    async fn boot_settings(&self, system: &Resource) -> Result<Option<Resource>, RedfishError> {
        let Some(uri) = system.link(&["@Redfish.Settings", "SettingsObject"]) else { return Ok(None) };
        let settings = self.client().find(uri).await?;
        Ok(settings
            .filter(|s| s.at(&["Boot", "BootSourceOverrideTarget"]).is_some() || s.at(&["Boot", "BootSourceOverrideEnabled"]).is_some()))
    }

    /// Puts the boot mode right where changing the device has changed it too.
    async fn keep_boot_mode(&self, request: &BootRequest, before: &Resource) -> Result<(), RedfishError> {
        let Some(wanted) = request.mode.or(boot_state(&before.body).mode) else { return Ok(()) };
        let now = boot_state(&self.system_now().await?.body).mode;
        if now.is_none_or(|n| n == wanted) || now == boot_state(&before.body).mode {
            return Ok(());
        }
        tracing::info!(bmc = self.client().bmc(), ?wanted, "setting the boot device changed the boot mode; setting it back");
        // Boxed: this function is part of setting a boot device, which setting the mode may come to.
        Box::pin(self.set_boot_mode(wanted, self.client().config().poll)).await.map(drop)
    }

    async fn confirm_boot(&self, target: BootTarget, place: Place) -> Result<bool, RedfishError> {
        for turn in 0..3 {
            if turn > 0 {
                sleep(self.client().config().poll).await;
            }
            let system = self.system_now().await?;
            let mut seen = vec![boot_state(&system.body)];
            if place == Place::Settings {
                if let Some(s) = self.boot_settings(&system).await? {
                    seen.push(boot_state(&s.body));
                }
            } else if place == Place::FutureState {
                // Shown there, and in the system only after the next start.
                return Ok(true);
            }
            let wanted = Some(target).filter(|t| *t != BootTarget::Nothing);
            if seen.iter().any(|s| s.target == wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Firmware flavour that the BMC tells; `None` when it does not.
    pub async fn boot_mode(&self) -> Result<Option<FirmwareMode>, RedfishError> {
        Ok(self.boot().await?.mode)
    }

    /// Changes the firmware flavour and waits until the BMC shows it, at most `within`. Some machines take it over only
    /// with a restart: those are left to the caller when the wait is over (`false`).
    pub async fn set_boot_mode(&self, mode: FirmwareMode, within: Duration) -> Result<bool, RedfishError> {
        let system = self.system_now().await?;
        if boot_state(&system.body).mode == Some(mode) {
            return Ok(true);
        }
        let allowed = resource::texts(&system.body, &["Boot", "BootSourceOverrideMode@Redfish.AllowableValues"]);
        if !allowed.is_empty() && !allowed.iter().any(|a| a == mode.wire()) {
            return Err(self.unsupported(format!("boot mode {} (it offers {})", mode.wire(), allowed.join(", "))));
        }
        let now = boot_state(&system.body);
        if now.mode.is_none() {
            return Err(self.unsupported("the boot mode (it shows none)"));
        }
        let settings = self.boot_settings(&system).await?;
        let flags = self.flags(&system).await;
        // The present override goes along where the mode alone is refused.
        let target = now.target.unwrap_or(BootTarget::Nothing);
        let request = BootRequest { target, persistent: now.persistent == Some(true), mode: Some(mode), http_uri: None };
        let form =
            Form { place: place(flags, settings.as_ref()), full: flags.full_boot, mode: SendMode::Always, once: flags.once_only, name: 0 };
        self.write_boot(&request, &system, settings.as_ref(), target.names(flags), form).await?;
        let until = tokio::time::Instant::now() + within;
        loop {
            if boot_state(&self.system_now().await?.body).mode == Some(mode) {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            sleep(self.client().config().poll).await;
        }
    }

    /// Whether the machine is off: settings of some machines may only be changed then.
    pub async fn is_off(&self) -> Result<bool, RedfishError> {
        Ok(self.power().await?.settled() == PowerState::Off)
    }
}

/// Where a change goes first.
fn place(flags: Flags, settings: Option<&Resource>) -> Place {
    match settings {
        _ if flags.boot_at_future_state => Place::FutureState,
        Some(_) => Place::Settings,
        None => Place::System,
    }
}

fn boot_state(body: &Value) -> BootState {
    let text = |key: &str| resource::text(body, &["Boot", key]);
    let enabled = text("BootSourceOverrideEnabled");
    BootState {
        target: text("BootSourceOverrideTarget").filter(|t| enabled != Some("Disabled") && *t != "None").and_then(BootTarget::parse),
        persistent: match enabled {
            Some("Continuous") => Some(true),
            Some("Once") => Some(false),
            _ => None,
        },
        mode: text("BootSourceOverrideMode").and_then(FirmwareMode::parse),
    }
}

fn allowed_targets(system: &Resource, settings: Option<&Resource>) -> Vec<String> {
    let path = ["Boot", "BootSourceOverrideTarget@Redfish.AllowableValues"];
    let mut all = resource::texts(&system.body, &path);
    if let Some(s) = settings {
        for v in resource::texts(&s.body, &path) {
            if !all.contains(&v) {
                all.push(v);
            }
        }
    }
    all
}

fn boot_object(request: &BootRequest, system: &Resource, names: &[&str], form: Form) -> Map<String, Value> {
    let mut boot = Map::new();
    let current = |key: &str| system.text(&["Boot", key]);
    let off = request.target == BootTarget::Nothing;
    let enabled = match (off, request.persistent && !form.once) {
        (true, _) => "Disabled",
        (false, true) => "Continuous",
        (false, false) => "Once",
    };
    // HPE refuses an enabled override with target None, so the target is left alone when switching off.
    if !off || form.full {
        let name = if off { "None" } else { names.get(form.name).copied().unwrap_or("Pxe") };
        boot.insert("BootSourceOverrideTarget".to_owned(), name.into());
    }
    if form.full || current("BootSourceOverrideEnabled") != Some(enabled) {
        boot.insert("BootSourceOverrideEnabled".to_owned(), enabled.into());
    }
    let now = current("BootSourceOverrideMode");
    let wanted = request.mode.map(FirmwareMode::wire);
    let mode = match form.mode {
        SendMode::Never => None,
        SendMode::Always => wanted.or(now).or(Some("UEFI")),
        SendMode::AsAsked if form.full => wanted.or(now),
        SendMode::AsAsked => wanted.filter(|w| now.is_some() && now != Some(*w)),
    };
    if let Some(mode) = mode {
        boot.insert("BootSourceOverrideMode".to_owned(), mode.into());
    }
    if let Some(uri) = &request.http_uri {
        boot.insert("HttpBootUri".to_owned(), uri.as_str().into());
    }
    boot
}

/// The machine is in its power-on self test (HPE), or the BMC is not ready right after a power change.
fn in_post(e: &RedfishError) -> bool {
    matches!(e.status(), Some(400 | 403 | 409 | 500 | 503))
        && ["UnableToModifyDuringSystemPOST", "system POST", "iLOInUse", "NotReady", "not ready"].iter().any(|m| e.mentions(m))
}

/// The resource that the BMC names when it takes changes only there.
fn future_uri(e: &RedfishError) -> Option<String> {
    if !e.mentions("FutureState") {
        return None;
    }
    let args = e.message()?.entries.iter().flat_map(|m| &m.args);
    args.filter(|a| a.starts_with("/redfish/")).map(|a| a.trim_end_matches('/').to_owned()).next()
}

/// What to try after a refusal: the form that the message asks for, else the other known forms in turn.
fn next_form(e: &RedfishError, form: Form, tried: &[Form], names: usize, has_settings: bool) -> Option<Form> {
    if !matches!(e.status(), Some(400 | 403 | 404 | 405 | 409 | 422 | 500 | 501)) {
        return None;
    }
    let about_mode = e.mentions("BootSourceOverrideMode");
    let mut ideas: Vec<Form> = Vec::new();
    if e.mentions("FutureState") {
        ideas.push(Form { place: Place::FutureState, ..form });
    }
    if form.place != Place::System && (e.mentions("PropertyNotWritable") || matches!(e.status(), Some(404 | 405 | 501))) {
        ideas.push(Form { place: Place::System, ..form });
    }
    if about_mode && (e.mentions("required") || e.mentions("PropertyMissing")) {
        ideas.push(Form { mode: SendMode::Always, ..form });
    } else if about_mode {
        ideas.push(Form { mode: SendMode::Never, ..form });
    }
    if !form.once
        && (e.mentions("Continuous")
            || (e.mentions("BootSourceOverrideEnabled") && !e.mentions("required") && !e.mentions("PropertyMissing")))
    {
        ideas.push(Form { once: true, ..form });
    }
    if e.mentions("BootSourceOverrideTarget") && form.name + 1 < names {
        ideas.push(Form { name: form.name + 1, ..form });
    }
    // A refusal without a reason that we understand.
    ideas.push(Form { full: !form.full, ..form });
    ideas.push(Form { full: true, mode: SendMode::Always, ..form });
    ideas.push(Form { full: true, mode: SendMode::Never, ..form });
    if form.name + 1 < names {
        ideas.push(Form { name: form.name + 1, ..form });
    }
    if has_settings && form.place != Place::System {
        ideas.push(Form { place: Place::System, ..form });
    }
    ideas.push(Form { once: true, ..form });
    // Where the mode is what is to be changed, leaving it out is no way.
    let must = tried.first().is_some_and(|f| f.mode == SendMode::Always);
    ideas.into_iter().filter(|i| !must || i.mode == SendMode::Always).find(|i| !tried.contains(i)).filter(|_| tried.len() < 10)
}
