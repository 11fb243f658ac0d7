//! Changes: power, boot override, media, secure boot, indicator.

use serde_json::{Map, Value};

use super::answer::{Answer, Error, general, missing, not_in_list, not_writable};
use super::profile::{BootPlace, EtagHabit, ModeHabit, OffWhenOff, Partial, Profile};
use super::read::{RESETS, ROOT, mode_name, resource, slots};
use super::server::{Service, System, etag_of};
use crate::machine::{BootDevice, BootMode, BootOverride, Power, PowerAction};

/// What a change does when it is carried out, now or at the end of a task.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Power(String, PowerAction),
    Insert(String, String, String),
}

/// Carries out POST, PATCH and DELETE of `path` (below the root, split at slashes).
pub(super) fn change(service: &mut Service, method: &str, path: &[&str], body: Option<&Value>, if_match: Option<&str>) -> Answer {
    let profile = service.profile;
    let full = format!("{ROOT}/{}", path.join("/"));
    if method == "DELETE" {
        return match path {
            ["SessionService", "Sessions", id] => service.end_session(id),
            ["EventService", "Subscriptions", n] => match n.parse().ok().and_then(|n: usize| service.subscriptions.remove(&n)) {
                Some(_) => Answer::done(),
                None => Answer::not_found(&full),
            },
            _ => Answer::not_found(&full),
        };
    }
    let Some(body) = body.and_then(Value::as_object) else {
        return Error::new(400, "MalformedJSON", "The request body submitted was malformed JSON.").render(profile.info_is_object);
    };
    if method == "PATCH"
        && let Some(refused) = precondition(service, path, if_match)
    {
        return refused;
    }
    let result = match (method, path) {
        ("POST", ["Systems", s, "Actions", "ComputerSystem.Reset"]) => reset(service, s, body),
        ("PATCH", ["Systems", s, "Bios", "Settings"]) => match (service.systems.get_mut(*s), body.get("Attributes")) {
            (Some(s), Some(Value::Object(given))) => {
                s.bios_next.extend(given.clone());
                Ok(Answer::done())
            }
            _ => Err(missing("Attributes")),
        },
        ("POST", ["EventService", "Subscriptions"]) => subscribe(service, body),
        ("PATCH", ["Systems", s]) => patch_system(service, s, body),
        ("PATCH", ["Systems", s, "Settings"]) if matches!(profile.boot_place, BootPlace::Settings | BootPlace::SystemDespiteSettings) => {
            boot(service, s, BootPlace::Settings, body)
        }
        ("PATCH", ["Systems", s, "SD"]) if profile.boot_place == BootPlace::FutureState => boot(service, s, BootPlace::FutureState, body),
        ("PATCH", ["Systems", s, "SecureBoot"]) => match (service.systems.get_mut(*s), body.get("SecureBootEnable")) {
            (Some(s), Some(Value::Bool(on))) => {
                s.secure_boot = *on;
                Ok(Answer::done())
            }
            (Some(_), _) => Err(general()),
            (None, _) => return Answer::not_found(&full),
        },
        ("PATCH", ["Systems" | "Managers", s, "VirtualMedia", slot]) if profile.media_by_patch => media_by_patch(service, s, slot, body),
        ("POST", ["Systems" | "Managers", s, "VirtualMedia", slot, "Actions", action]) if !profile.media_by_patch => match *action {
            "VirtualMedia.InsertMedia" => return insert(service, s, slot, body),
            "VirtualMedia.EjectMedia" => eject(service, s, slot),
            _ => return Answer::not_found(&full),
        },
        _ => {
            return Error::new(405, "OperationNotAllowed", "The HTTP method is not allowed on this resource.")
                .render(profile.info_is_object);
        }
    };
    result.unwrap_or_else(|e| e.render(profile.info_is_object))
}

/// Refuses a PATCH because of its `If-Match`.
fn precondition(service: &mut Service, path: &[&str], if_match: Option<&str>) -> Option<Answer> {
    let refused =
        || Some(Error::new(412, "PreconditionFailed", "The ETag supplied did not match the current ETag of the resource.").list());
    let current = resource(service, path).body.map(|b| etag_of(&b));
    let strong = current.as_ref().map(|e| format!("\"{e}\""));
    let weak = strong.as_ref().map(|s| format!("W/{s}"));
    let is = |e: &Option<String>| if_match == e.as_deref();
    match (service.profile.etag, if_match) {
        (EtagHabit::Required, None) => {
            Some(Error::new(428, "PreconditionRequired", "A precondition header (If-Match) is required to change this resource.").list())
        }
        (EtagHabit::Ignored, _) | (_, None) => None,
        (EtagHabit::Refused | EtagHabit::Empty, Some(_)) => refused(),
        (EtagHabit::Strong | EtagHabit::Required, Some(e)) => {
            if e == "*" || is(&strong) {
                None
            } else {
                refused()
            }
        }
        (EtagHabit::Weak, Some(_)) => {
            if is(&weak) {
                None
            } else {
                refused()
            }
        }
        (EtagHabit::WeakWantsStrong, Some(_)) => {
            if is(&strong) {
                None
            } else {
                refused()
            }
        }
    }
}

fn reset(service: &mut Service, name: &str, body: &Map<String, Value>) -> Result<Answer, Error> {
    let profile = service.profile;
    let system = service.systems.get_mut(name).ok_or_else(general)?;
    let kind = body.get("ResetType").and_then(Value::as_str).ok_or_else(|| missing("ResetType"))?;
    if !RESETS.contains(&kind) {
        return Err(Error::new(
            400,
            "ActionParameterNotSupported",
            format!("The value {kind} for the parameter ResetType is not supported."),
        ));
    }
    let off = system.machine.power() == Power::Off;
    let conflict = |text: &str| Error::new(409, "ActionParameterValueConflict", text).arg("ResetType").arg(kind);
    let action = match kind {
        "On" => {
            if !off {
                return Err(conflict("The machine is on already."));
            }
            if system.on_conflicts > 0 {
                system.on_conflicts -= 1;
                return Err(conflict("The machine is still powering off."));
            }
            system.post_refusals = profile.post_refusals;
            PowerAction::On
        }
        "Nmi" => PowerAction::Diag,
        _ if off && profile.off_when_off == OffWhenOff::Conflict => return Err(conflict("The machine is off already.")),
        "ForceOff" | "GracefulShutdown" => {
            if !off {
                system.on_conflicts = profile.on_conflicts;
            }
            if kind == "ForceOff" { PowerAction::ForceOff } else { PowerAction::SoftOff }
        }
        _ => PowerAction::Reset,
    };
    Ok(service.carry_out(Effect::Power(name.to_owned(), action)))
}

fn patch_system(service: &mut Service, name: &str, body: &Map<String, Value>) -> Result<Answer, Error> {
    if body.contains_key("Boot") {
        return boot(service, name, BootPlace::System, body);
    }
    let system = service.systems.get_mut(name).ok_or_else(general)?;
    match body.get("IndicatorLED").and_then(Value::as_str) {
        Some(led @ ("Lit" | "Off" | "Blinking")) => {
            led.clone_into(&mut system.led);
            Ok(Answer::done())
        }
        _ => Err(Error::new(400, "PropertyUnknown", "The property is not in the list of valid properties for the resource.")),
    }
}

const TARGET: &str = "BootSourceOverrideTarget";
const ENABLED: &str = "BootSourceOverrideEnabled";
const MODE: &str = "BootSourceOverrideMode";

fn boot(service: &mut Service, name: &str, at: BootPlace, body: &Map<String, Value>) -> Result<Answer, Error> {
    let profile = service.profile;
    let system = service.systems.get_mut(name).ok_or_else(general)?;
    let boot = body.get("Boot").and_then(Value::as_object).ok_or_else(|| missing("Boot"))?;
    match (profile.boot_place, at) {
        (BootPlace::Settings, BootPlace::System) | (BootPlace::SystemDespiteSettings, BootPlace::Settings) => {
            return Err(not_writable(TARGET));
        }
        (BootPlace::FutureState, BootPlace::System) => {
            let uri = format!("{ROOT}/Systems/{name}/SD");
            return Err(
                Error::new(400, "OperationSupportedInFutureStateURI", format!("Use the future state resource {uri} instead.")).arg(&uri)
            );
        }
        _ => {}
    }
    if system.post_refusals > 0 {
        system.post_refusals -= 1;
        return Err(Error::new(400, "UnableToModifyDuringSystemPOST", "The value cannot be modified during system POST."));
    }
    let text = |key: &str| boot.get(key).and_then(Value::as_str);
    let (target, enabled, mode) = (text(TARGET), text(ENABLED), text(MODE));
    check(system, profile, target, enabled, mode)?;
    let device = match target {
        None => system.machine.boot_override().map(|o| o.device),
        Some("None") => None,
        Some(t) => Some(device(t, profile.cd_target).ok_or_else(|| not_in_list(TARGET, t))?),
    };
    let present = match system.machine.boot_override() {
        Some(o) if o.persistent => "Continuous",
        Some(_) => "Once",
        None if target.is_some() => "Once",
        None => "Disabled",
    };
    let fallback = if profile.partial == Partial::BecomesOnce { "Once" } else { present };
    let persistent = match enabled.unwrap_or(fallback) {
        "Disabled" => None,
        "Once" => Some(false),
        "Continuous" if profile.once_only => return Err(not_in_list(ENABLED, "Continuous")),
        "Continuous" => Some(true),
        other => return Err(not_in_list(ENABLED, other)),
    };
    match mode {
        None if profile.mode_flips && target.is_some() => system.machine.set_boot_mode(BootMode::Bios),
        None => {}
        Some("UEFI") => system.machine.set_boot_mode(BootMode::Uefi),
        Some("Legacy") => system.machine.set_boot_mode(BootMode::Bios),
        Some(other) => return Err(not_in_list(MODE, other)),
    }
    if target.is_some() || enabled.is_some() {
        let http_url = text("HttpBootUri").map(str::to_owned);
        system.machine.set_boot_override(device.zip(persistent).map(|(device, persistent)| BootOverride {
            device,
            persistent,
            mode: None,
            http_url,
        }));
    }
    Ok(Answer::done())
}

/// What this BMC dislikes about a boot object.
fn check(system: &System, p: Profile, target: Option<&str>, enabled: Option<&str>, mode: Option<&str>) -> Result<(), Error> {
    match (p.mode, mode) {
        (ModeHabit::ReadOnly, Some(_)) => return Err(not_writable(MODE)),
        (ModeHabit::Absent, Some(_)) => {
            return Err(Error::new(400, "PropertyUnknown", format!("The property {MODE} is unknown.")).about(MODE));
        }
        (ModeHabit::Required, None) if target.is_some() => return Err(missing(MODE)),
        _ => {}
    }
    if p.partial == Partial::Refused && (target.is_none() || enabled.is_none() || (mode.is_none() && p.mode == ModeHabit::Required)) {
        return Err(general());
    }
    if p.refuses_unchanged {
        let now = system.machine.boot_override();
        let now_enabled = now.as_ref().map_or("Disabled", |o| if o.persistent { "Continuous" } else { "Once" });
        if enabled == Some(now_enabled) || mode == Some(mode_name(system.machine.boot_mode())) {
            return Err(general());
        }
    }
    Ok(())
}

fn device(target: &str, cd: &str) -> Option<BootDevice> {
    Some(match target {
        "Pxe" => BootDevice::Pxe,
        "Hdd" => BootDevice::Disk,
        "Usb" => BootDevice::Usb,
        "BiosSetup" => BootDevice::BiosSetup,
        "UefiHttp" => BootDevice::UefiHttp,
        t if t == cd => BootDevice::Cdrom,
        _ => return None,
    })
}

fn insert(service: &mut Service, name: &str, slot: &str, body: &Map<String, Value>) -> Answer {
    let profile = service.profile;
    let known = slots(service).iter().any(|(s, _)| *s == slot);
    let Some(system) = service.systems.get_mut(name).filter(|_| known) else { return Answer::not_found(slot) };
    let refuse = |e: Error| e.render(profile.info_is_object);
    let Some(image) = body.get("Image").and_then(Value::as_str) else { return refuse(missing("Image")) };
    for extra in ["Inserted", "WriteProtected"] {
        if profile.media_bare && body.contains_key(extra) {
            return refuse(Error::new(400, "ActionParameterUnknown", format!("The parameter {extra} is unknown.")).about(extra));
        }
    }
    if profile.media_protocol && !body.contains_key("TransferProtocolType") {
        let text = "The action requires the parameter TransferProtocolType to be present.";
        return refuse(Error::new(400, "ActionParameterMissing", text).arg("TransferProtocolType"));
    }
    if profile.media_credentials && !(body.contains_key("UserName") && body.contains_key("Password")) {
        let text = Some("<html>UserName and Password must be given</html>".to_owned());
        return Answer { status: 400, text, ..Answer::default() };
    }
    if system.machine.media().contains_key(slot) {
        return refuse(Error::new(400, "ResourceInUse", "Media are inserted already."));
    }
    if system.media_settling > 0 {
        system.media_settling -= 1;
        return refuse(Error::new(500, "InternalError", "Virtual media are being detached."));
    }
    service.carry_out(Effect::Insert(name.to_owned(), slot.to_owned(), image.to_owned()))
}

fn subscribe(service: &mut Service, body: &Map<String, Value>) -> Result<Answer, Error> {
    if !body.get("Destination").is_some_and(Value::is_string) {
        return Err(missing("Destination"));
    }
    let number = service.subscriptions.keys().last().map_or(1, |n| n + 1);
    let path = format!("{ROOT}/EventService/Subscriptions/{number}");
    let mut made = Value::Object(body.clone());
    made["@odata.id"] = path.clone().into();
    made["Id"] = number.to_string().into();
    service.subscriptions.insert(number, made.clone());
    Ok(Answer { status: 201, body: Some(made), ..Answer::default() }.with("location", path))
}

fn eject(service: &mut Service, name: &str, slot: &str) -> Result<Answer, Error> {
    let profile = service.profile;
    let system = service.systems.get_mut(name).ok_or_else(general)?;
    let Some(image) = system.machine.media().get(slot).cloned() else {
        return if profile.media_stale { Err(Error::new(409, "NoMedia", "No virtual media are attached.")) } else { Ok(Answer::done()) };
    };
    system.machine.set_media(slot, None);
    system.media_settling = profile.media_settling;
    if profile.media_stale {
        system.stale_media.insert(slot.to_owned(), image);
    }
    Ok(Answer::done())
}

fn media_by_patch(service: &mut Service, name: &str, slot: &str, body: &Map<String, Value>) -> Result<Answer, Error> {
    let system = service.systems.get_mut(name).ok_or_else(general)?;
    match (body.get("Image"), body.get("Inserted")) {
        (Some(Value::String(image)), Some(Value::Bool(true))) => system.machine.set_media(slot, Some(image)),
        (Some(Value::String(_)), _) => return Err(missing("Inserted")),
        (Some(Value::Null), _) => system.machine.set_media(slot, None),
        _ => return Err(missing("Image")),
    }
    Ok(Answer::done())
}
