//! The resources as they are read.

use serde_json::{Value, json};

use super::answer::Answer;
use super::profile::{BootPlace, MediaPlace, ModeHabit, SessionHabit};
use super::server::{Service, System};
use crate::machine::{BootDevice, BootMode, Machine, Power};

pub(super) const ROOT: &str = "/redfish/v1";

pub(super) fn id(path: impl std::fmt::Display) -> Value {
    json!({"@odata.id": format!("{ROOT}{path}")})
}

fn collection(path: &str, members: impl Iterator<Item = String>) -> Answer {
    let members: Vec<Value> = members.map(|m| id(format!("{path}/{m}"))).collect();
    Answer::ok(json!({
        "@odata.id": format!("{ROOT}{path}"),
        "Name": "Collection",
        "Members@odata.count": members.len(),
        "Members": members,
    }))
}

/// Answers a GET of `path` (below the root, split at slashes).
pub(super) fn resource(service: &mut Service, path: &[&str]) -> Answer {
    let full = format!("{ROOT}/{}", path.join("/"));
    let profile = service.profile;
    match path {
        [] => root(service),
        ["SessionService"] if profile.sessions != SessionHabit::Absent => Answer::ok(json!({
            "@odata.id": full, "Id": "SessionService", "Name": "Session Service", "ServiceEnabled": true,
            "Sessions": id("/SessionService/Sessions"),
        })),
        ["SessionService", "Sessions"] if profile.sessions != SessionHabit::Absent => {
            collection("/SessionService/Sessions", service.sessions.iter().map(|s| s.id.to_string()))
        }
        ["Systems"] => collection("/Systems", service.systems.keys().cloned()),
        ["Managers"] => collection("/Managers", service.systems.keys().cloned()),
        ["Chassis"] => collection("/Chassis", service.systems.keys().cloned()),
        ["Registries"] => collection("/Registries", std::iter::once("Attributes".to_owned())),
        ["Registries", "Attributes"] => Answer::ok(json!({
            "@odata.id": full, "Id": "Attributes", "Registry": "Attributes.v1",
            "Location": [{"Language": "en", "Uri": format!("{ROOT}/Registries/Attributes.json")}],
        })),
        ["Registries", "Attributes.json"] => Answer::ok(json!({
            "Id": "Attributes.v1",
            "RegistryEntries": {"Attributes": [
                {"AttributeName": "Virtualization", "Type": "Enumeration", "ReadOnly": false, "ResetRequired": true,
                 "Value": [{"ValueName": "Enabled"}, {"ValueName": "Disabled"}]},
                {"AttributeName": "Cores", "Type": "Integer", "LowerBound": 1, "UpperBound": 64},
            ]},
        })),
        ["EventService"] => Answer::ok(json!({
            "@odata.id": full, "Id": "EventService", "Name": "Event Service", "ServiceEnabled": true,
            "Subscriptions": id("/EventService/Subscriptions"),
        })),
        ["EventService", "Subscriptions"] => {
            collection("/EventService/Subscriptions", service.subscriptions.keys().map(ToString::to_string))
        }
        ["EventService", "Subscriptions", n] => {
            let found = n.parse().ok().and_then(|n: usize| service.subscriptions.get(&n));
            found.map_or_else(|| Answer::not_found(&full), |s| Answer::ok(s.clone()))
        }
        ["TaskService", "TaskMonitors", task] => service.poll_task(task),
        [kind @ ("Systems" | "Managers" | "Chassis"), system, rest @ ..] => {
            let Some(s) = service.systems.get(*system) else { return Answer::not_found(&full) };
            let found = match *kind {
                "Systems" => system_part(service, system, s, rest),
                "Managers" => manager_part(service, system, s, rest),
                _ => chassis_part(system, s, rest),
            };
            found.unwrap_or_else(|| Answer::not_found(&full))
        }
        _ => Answer::not_found(&full),
    }
}

fn root(service: &Service) -> Answer {
    let mut root = json!({
        "@odata.id": format!("{ROOT}/"), "Id": "RootService", "Name": "Root Service", "RedfishVersion": "1.6.0",
        "Vendor": service.profile.manufacturer,
        "Systems": id("/Systems"), "Managers": id("/Managers"), "Chassis": id("/Chassis"),
        "EventService": id("/EventService"),
    });
    if service.profile.sessions != SessionHabit::Absent {
        root["Links"] = json!({"Sessions": id("/SessionService/Sessions")});
        if service.profile.sessions != SessionHabit::OnlyLinked {
            root["SessionService"] = id("/SessionService");
        }
    }
    Answer::ok(root)
}

/// Wire name of a boot target.
pub(super) fn target_name(device: BootDevice, cd: &str) -> &str {
    match device {
        BootDevice::Pxe => "Pxe",
        BootDevice::Disk | BootDevice::SafeDisk => "Hdd",
        BootDevice::Cdrom => cd,
        BootDevice::BiosSetup => "BiosSetup",
        BootDevice::Usb => "Usb",
        BootDevice::UefiHttp => "UefiHttp",
        BootDevice::Floppy => "Floppy",
    }
}

/// The boot object.
fn boot(service: &Service, machine: &Machine) -> Value {
    let p = service.profile;
    let (target, enabled) = match machine.boot_override() {
        Some(o) => (target_name(o.device, p.cd_target).to_owned(), if o.persistent { "Continuous" } else { "Once" }),
        None => ("None".to_owned(), "Disabled"),
    };
    let mut boot = json!({
        "BootSourceOverrideTarget": target,
        "BootSourceOverrideEnabled": enabled,
        "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd", p.cd_target, "Usb", "BiosSetup", "UefiHttp"],
    });
    if p.mode != ModeHabit::Absent {
        boot["BootSourceOverrideMode"] = mode_name(machine.boot_mode()).into();
    }
    boot
}

pub(super) fn mode_name(mode: BootMode) -> &'static str {
    match mode {
        BootMode::Uefi => "UEFI",
        BootMode::Bios => "Legacy",
    }
}

pub(super) const RESETS: [&str; 6] = ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi"];

/// The system resource.
pub(super) fn system(service: &Service, name: &str, s: &System) -> Value {
    let p = service.profile;
    let path = format!("/Systems/{name}");
    let mut reset = json!({"target": format!("{ROOT}{path}/Actions/ComputerSystem.Reset")});
    if p.action_info {
        reset["@Redfish.ActionInfo"] = format!("{ROOT}{path}/ResetActionInfo").into();
    } else {
        reset["ResetType@Redfish.AllowableValues"] = json!(RESETS);
    }
    let mut out = json!({
        "@odata.id": format!("{ROOT}{path}"), "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem",
        "Id": name, "Name": s.machine.name(), "UUID": s.uuid,
        "Manufacturer": p.manufacturer, "Model": p.model, "SerialNumber": s.hardware.serial, "BiosVersion": s.hardware.bios,
        "PowerState": match s.machine.power() { Power::On => "On", Power::Off => "Off" },
        "Status": {"State": "Enabled", "Health": "OK"},
        "IndicatorLED": s.led,
        "Boot": boot(service, &s.machine),
        "MemorySummary": {"TotalSystemMemoryGiB": s.hardware.memory_gib},
        "ProcessorSummary": {"Count": s.hardware.processors.len()},
        "Processors": id(format!("{path}/Processors")),
        "EthernetInterfaces": id(format!("{path}/EthernetInterfaces")),
        "Storage": id(format!("{path}/Storage")),
        "SecureBoot": id(format!("{path}/SecureBoot")),
        "Bios": id(format!("{path}/Bios")),
        "Links": {"Chassis": [id(format!("/Chassis/{name}"))]},
        "Actions": {"#ComputerSystem.Reset": reset},
    });
    if !p.no_managed_by {
        out["Links"]["ManagedBy"] = json!([id(format!("/Managers/{name}"))]);
    }
    if p.media_place == MediaPlace::System {
        out["VirtualMedia"] = id(format!("{path}/VirtualMedia"));
    }
    if matches!(p.boot_place, BootPlace::Settings | BootPlace::SystemDespiteSettings) {
        out["@Redfish.Settings"] = json!({"SettingsObject": id(format!("{path}/Settings"))});
    }
    out
}

fn system_part(service: &Service, name: &str, s: &System, rest: &[&str]) -> Option<Answer> {
    let p = service.profile;
    let path = format!("/Systems/{name}");
    let own = |part: &str| format!("{ROOT}{path}/{part}");
    Some(match rest {
        [] => Answer::ok(system(service, name, s)),
        ["Settings"] if matches!(p.boot_place, BootPlace::Settings | BootPlace::SystemDespiteSettings) => {
            Answer::ok(json!({"@odata.id": own("Settings"), "Id": "Settings", "Name": "Settings", "Boot": boot(service, &s.machine)}))
        }
        ["SD"] if p.boot_place == BootPlace::FutureState => {
            Answer::ok(json!({"@odata.id": own("SD"), "Id": "SD", "Name": "Future state", "Boot": boot(service, &s.machine)}))
        }
        ["ResetActionInfo"] if p.action_info => Answer::ok(json!({
            "@odata.id": own("ResetActionInfo"), "Id": "ResetActionInfo", "Name": "Reset",
            "Parameters": [{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": RESETS}],
        })),
        ["SecureBoot"] => Answer::ok(json!({
            "@odata.id": own("SecureBoot"), "Id": "SecureBoot", "Name": "Secure Boot", "SecureBootEnable": s.secure_boot,
            "SecureBootCurrentBoot": if s.secure_boot { "Enabled" } else { "Disabled" },
        })),
        ["Bios"] => Answer::ok(json!({
            "@odata.id": own("Bios"), "Id": "Bios", "Name": "BIOS", "AttributeRegistry": "Attributes.v1", "Attributes": s.bios,
            "@Redfish.Settings": {"SettingsObject": id(format!("{path}/Bios/Settings")), "SupportedApplyTimes": ["OnReset"]},
        })),
        ["Bios", "Settings"] => Answer::ok(json!({"@odata.id": own("Bios/Settings"), "Id": "Settings", "Attributes": s.bios_next})),
        ["VirtualMedia", rest @ ..] if p.media_place == MediaPlace::System => return media(service, &path, s, rest),
        ["Processors"] => collection(&format!("{path}/Processors"), (0..s.hardware.processors.len()).map(|n| n.to_string())),
        ["Processors", n] => {
            let c = s.hardware.processors.get(n.parse::<usize>().ok()?)?;
            Answer::ok(json!({
                "@odata.id": own(&format!("Processors/{n}")), "Id": n, "ProcessorType": "CPU", "Model": c.model,
                "InstructionSet": c.instruction_set, "ProcessorArchitecture": "x86", "TotalCores": c.cores, "TotalThreads": c.threads,
                "MaxSpeedMHz": 3200, "Status": {"State": "Enabled"},
            }))
        }
        ["EthernetInterfaces"] => collection(&format!("{path}/EthernetInterfaces"), s.hardware.nics.iter().map(|n| n.id.clone())),
        ["EthernetInterfaces", n] => {
            let nic = s.hardware.nics.iter().find(|nic| nic.id == **n)?;
            Answer::ok(json!({
                "@odata.id": own(&format!("EthernetInterfaces/{n}")), "Id": n, "Name": format!("NIC {n}"), "MACAddress": nic.mac,
                "SpeedMbps": 10000, "LinkStatus": "LinkUp", "Status": {"State": if nic.enabled { "Enabled" } else { "Disabled" }},
            }))
        }
        ["Storage"] => collection(&format!("{path}/Storage"), std::iter::once("1".to_owned())),
        ["Storage", "1"] => {
            let drives: Vec<Value> = (0..s.hardware.disks.len()).map(|n| id(format!("{path}/Storage/1/Drives/{n}"))).collect();
            Answer::ok(json!({"@odata.id": own("Storage/1"), "Id": "1", "Name": "Controller", "Drives": drives}))
        }
        ["Storage", "1", "Drives", n] => {
            let d = s.hardware.disks.get(n.parse::<usize>().ok()?)?;
            Answer::ok(json!({
                "@odata.id": own(&format!("Storage/1/Drives/{n}")), "Id": n, "Name": d.name, "Model": d.model, "SerialNumber": d.serial,
                "CapacityBytes": d.bytes, "MediaType": if d.rotational { "HDD" } else { "SSD" }, "Protocol": d.protocol,
                "Identifiers": [{"DurableNameFormat": "NAA", "DurableName": format!("naa.500{}", d.serial)}],
                "Status": {"Health": "OK"},
            }))
        }
        _ => return None,
    })
}

fn manager_part(service: &Service, name: &str, s: &System, rest: &[&str]) -> Option<Answer> {
    let p = service.profile;
    let path = format!("/Managers/{name}");
    Some(match rest {
        [] => {
            let mut m = json!({
                "@odata.id": format!("{ROOT}{path}"), "Id": name, "Name": "BMC", "FirmwareVersion": p.firmware,
                "Links": {"ManagerForServers": [id(format!("/Systems/{name}"))]},
            });
            if p.media_place == MediaPlace::Manager {
                m["VirtualMedia"] = id(format!("{path}/VirtualMedia"));
            }
            Answer::ok(m)
        }
        ["VirtualMedia", rest @ ..] if p.media_place == MediaPlace::Manager => return media(service, &path, s, rest),
        _ => return None,
    })
}

/// Slots of virtual media: name, media types.
pub(super) fn slots(service: &Service) -> [(&'static str, &'static [&'static str]); 2] {
    [("Removable", &["USBStick"]), ("Cd", service.profile.cd_types)]
}

fn media(service: &Service, parent: &str, s: &System, rest: &[&str]) -> Option<Answer> {
    let p = service.profile;
    match rest {
        [] => Some(collection(&format!("{parent}/VirtualMedia"), slots(service).iter().map(|(n, _)| (*n).to_owned()))),
        [slot] => {
            let (name, types) = slots(service).into_iter().find(|(n, _)| n == slot)?;
            let path = format!("{ROOT}{parent}/VirtualMedia/{name}");
            let now = s.machine.media().get(name).cloned();
            let shown = now.or_else(|| s.stale_media.get(name).cloned());
            let mut out = json!({
                "@odata.id": path, "Id": name, "Name": name, "MediaTypes": types, "Image": shown, "Inserted": shown.is_some(),
                "WriteProtected": true, "ConnectedVia": if shown.is_some() { "URI" } else { "NotConnected" },
            });
            if !p.media_by_patch {
                out["Actions"] = json!({
                    "#VirtualMedia.InsertMedia": {"target": format!("{path}/Actions/VirtualMedia.InsertMedia")},
                    "#VirtualMedia.EjectMedia": {"target": format!("{path}/Actions/VirtualMedia.EjectMedia")},
                });
            }
            Some(Answer::ok(out))
        }
        _ => None,
    }
}

fn chassis_part(name: &str, s: &System, rest: &[&str]) -> Option<Answer> {
    let path = format!("/Chassis/{name}");
    Some(match rest {
        [] => Answer::ok(json!({
            "@odata.id": format!("{ROOT}{path}"), "Id": name, "Name": s.machine.name(), "Thermal": id(format!("{path}/Thermal")),
            "Power": id(format!("{path}/Power")),
        })),
        ["Thermal"] => Answer::ok(json!({
            "@odata.id": format!("{ROOT}{path}/Thermal"), "Id": "Thermal",
            "Fans": [{"MemberId": "Fan1", "Reading": 4200, "ReadingUnits": "RPM", "Status": {"State": "Enabled", "Health": "OK"}}],
            "Temperatures": [{"MemberId": "Inlet", "ReadingCelsius": 21.5, "SensorNumber": 4, "Status": {"State": "Enabled", "Health": "OK"}}],
        })),
        ["Power"] => Answer::ok(json!({
            "@odata.id": format!("{ROOT}{path}/Power"), "Id": "Power",
            "PowerSupplies": [{"MemberId": "0", "PowerCapacityWatts": 800, "LineInputVoltage": 230, "SerialNumber": "P0",
                               "Status": {"State": "Enabled", "Health": "OK"}}],
        })),
        _ => return None,
    })
}
