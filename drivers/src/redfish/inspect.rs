//! Out-of-band inspection: what the BMC knows of processors, memory, disks and network cards, as an inventory.
//!
//! Parts that a BMC does not have or cannot show just now are left out; only the system itself must be readable.

use serde_json::{Map, Value, json};

use super::error::RedfishError;
use super::resource::{self, Resource, number, text};
use super::system::RedfishSystem;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RedfishInventory {
    /// `interfaces`, `cpu`, `disks`, `memory`, `system_vendor`, `boot`, `bmc_address` (`agent.md` section 8).
    pub inventory: Value,
    /// MAC addresses of enabled network cards, lower case, in order.
    pub macs: Vec<String>,
    /// Memory in MiB.
    pub memory_mb: Option<u64>,
    /// Logical processors.
    pub cpus: Option<u64>,
    /// `x86_64`, `aarch64`…
    pub cpu_arch: Option<String>,
    /// Size of the smallest disk of at least 4 GiB, in GiB, less one.
    pub local_gb: Option<u64>,
    /// Manufacturer.
    pub vendor: Option<String>,
}

impl RedfishSystem {
    /// Reads everything worth knowing.
    pub async fn inspect(&self) -> Result<RedfishInventory, RedfishError> {
        let system = self.system_now().await?;
        let interfaces = self.interfaces(&system).await?;
        let disks = self.disks(&system).await?;
        let cpu = self.processors(&system).await?;
        let memory_mb = self.memory_mb(&system).await?;
        let macs = interfaces.iter().filter(|i| i.enabled).filter_map(|i| text(&i.shown, &["mac_address"])).map(str::to_owned).collect();
        let local_gb =
            disks.iter().filter_map(|d| number(d, &["size"])).filter(|s| *s >= 4 * GIB).min().map(|s| (s / GIB).saturating_sub(1));
        let vendor = system.text(&["Manufacturer"]).map(str::to_owned);
        let boot = system.text(&["Boot", "BootSourceOverrideMode"]).map(|m| if m == "Legacy" { "bios" } else { "uefi" });
        let host = url::Url::parse(self.client().bmc()).ok().and_then(|u| u.host().map(|h| h.to_owned()));
        let (v4, v6) = match host {
            Some(url::Host::Ipv4(a)) => (Some(a.to_string()), None),
            Some(url::Host::Ipv6(a)) => (None, Some(a.to_string())),
            _ => (None, None),
        };
        let inventory = json!({
            "interfaces": interfaces.iter().map(|i| i.shown.clone()).collect::<Vec<_>>(),
            "cpu": cpu,
            "disks": disks,
            "memory": {"physical_mb": memory_mb, "total": memory_mb.map(|m| m * MIB)},
            "bmc_address": v4,
            "bmc_v6address": v6,
            "system_vendor": {
                "product_name": system.text(&["Model"]),
                "serial_number": system.text(&["SerialNumber"]),
                "manufacturer": vendor,
                "firmware": {"vendor": "", "version": system.text(&["BiosVersion"]).unwrap_or_default(), "build_date": ""},
            },
            "boot": {"current_boot_mode": boot, "pxe_interface": null},
            "hostname": system.text(&["HostName"]),
        });
        Ok(RedfishInventory {
            macs,
            memory_mb,
            cpus: number(&cpu, &["count"]),
            cpu_arch: text(&cpu, &["architecture"]).map(str::to_owned),
            local_gb,
            vendor,
            inventory,
        })
    }

    /// Resources behind a link, its members when it is a collection. What cannot be read is left out.
    async fn gather(&self, link: Option<&str>) -> Result<Vec<Resource>, RedfishError> {
        let Some(link) = link else { return Ok(Vec::new()) };
        let Some(collection) = self.lenient(link).await? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for member in collection.links(&[]) {
            if let Some(r) = self.lenient(&member).await? {
                all.push(r);
            }
        }
        Ok(all)
    }

    /// A resource, if the BMC shows it; any refusal counts as "no".
    pub(super) async fn lenient(&self, path: &str) -> Result<Option<Resource>, RedfishError> {
        match self.client().get(path).await {
            Ok(r) => Ok(Some(r)),
            Err(e) if e.status().is_some() || matches!(e, RedfishError::Malformed { .. }) => {
                tracing::debug!(bmc = self.client().bmc(), path, "left out of the inspection: {e}");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    async fn interfaces(&self, system: &Resource) -> Result<Vec<Nic>, RedfishError> {
        let mut nics = Vec::new();
        for (i, r) in self.gather(system.link(&["EthernetInterfaces"])).await?.iter().enumerate() {
            // "" and all zeros stand for "not known yet" with some.
            let mac = ["MACAddress", "PermanentMACAddress"].iter().find_map(|k| r.text(&[k]).and_then(normal_mac));
            let Some(mac) = mac else { continue };
            if nics.iter().any(|n: &Nic| text(&n.shown, &["mac_address"]) == Some(&mac)) {
                continue;
            }
            let name = r.text(&["Id"]).or_else(|| r.text(&["Name"])).map_or_else(|| format!("nic{i}"), str::to_owned);
            let link_up = r.text(&["LinkStatus"]).map(|s| s == "LinkUp");
            let state = r.text(&["Status", "State"]);
            let enabled = state.is_none_or(|s| s == "Enabled" || s == "StandbyOffline")
                && resource::boolean(&r.body, &["InterfaceEnabled"]) != Some(false);
            let address = |key: &str| {
                let list = r.at(&[key]).and_then(Value::as_array);
                list.into_iter().flatten().find_map(|a| text(a, &["Address"])).filter(|a| *a != "0.0.0.0" && *a != "::").map(str::to_owned)
            };
            nics.push(Nic {
                enabled,
                shown: json!({
                    "name": name,
                    "mac_address": mac,
                    "ipv4_address": address("IPv4Addresses"),
                    "ipv6_address": address("IPv6Addresses"),
                    "has_carrier": link_up,
                    "lldp": null,
                    "vendor": null,
                    "product": null,
                    "client_id": null,
                    "biosdevname": null,
                    "speed_mbps": number(&r.body, &["SpeedMbps"]).filter(|s| *s > 0),
                    "pci_address": null,
                    "driver": null,
                }),
            });
        }
        Ok(nics)
    }

    async fn processors(&self, system: &Resource) -> Result<Value, RedfishError> {
        let all = self.gather(system.link(&["Processors"])).await?;
        let cpus: Vec<&Resource> = all
            .iter()
            .filter(|p| p.text(&["Status", "State"]) != Some("Absent"))
            .filter(|p| p.text(&["ProcessorType"]).is_none_or(|t| t == "CPU"))
            .collect();
        let sum = |key: &str| {
            let total: u64 = cpus.iter().filter_map(|p| number(&p.body, &[key])).sum();
            (total > 0).then_some(total)
        };
        let summary = |key: &str| number(&system.body, &["ProcessorSummary", key]).filter(|n| *n > 0);
        let first = |key: &str| cpus.iter().find_map(|p| p.text(&[key]));
        let count = sum("TotalThreads")
            .or_else(|| summary("LogicalProcessorCount"))
            .or_else(|| sum("TotalCores"))
            .or_else(|| summary("CoreCount"))
            .or_else(|| summary("Count"));
        let sockets = summary("Count").or((!cpus.is_empty()).then_some(cpus.len() as u64));
        let mhz = cpus.iter().find_map(|p| number(&p.body, &["MaxSpeedMHz"])).filter(|m| *m > 0);
        Ok(json!({
            "model_name": first("Model").or_else(|| system.text(&["ProcessorSummary", "Model"])),
            "frequency": mhz.map(|m| m.to_string()),
            "count": count,
            "architecture": cpus.iter().find_map(|p| architecture(p)),
            "flags": [],
            "socket_count": sockets,
        }))
    }

    async fn memory_mb(&self, system: &Resource) -> Result<Option<u64>, RedfishError> {
        if let Some(gib) = resource::float(&system.body, &["MemorySummary", "TotalSystemMemoryGiB"]).filter(|g| *g > 0.0) {
            return Ok(resource::to_u64(gib * 1024.0));
        }
        let modules = self.gather(system.link(&["Memory"])).await?;
        let total: u64 = modules
            .iter()
            .filter(|m| m.text(&["Status", "State"]) != Some("Absent"))
            .filter_map(|m| number(&m.body, &["CapacityMiB"]))
            .sum();
        Ok((total > 0).then_some(total))
    }

    async fn disks(&self, system: &Resource) -> Result<Vec<Value>, RedfishError> {
        let mut disks: Vec<Value> = Vec::new();
        for controller in self.gather(system.link(&["Storage"])).await? {
            for link in controller.links(&["Drives"]) {
                let Some(d) = self.lenient(&link).await? else { continue };
                if d.text(&["Status", "State"]) == Some("Absent") {
                    continue;
                }
                let Some(size) = number(&d.body, &["CapacityBytes"]).filter(|s| *s > 0) else { continue };
                disks.push(drive(&d, size));
            }
        }
        if disks.is_empty() {
            for controller in self.gather(system.link(&["SimpleStorage"])).await? {
                let devices = controller.at(&["Devices"]).and_then(Value::as_array);
                for d in devices.into_iter().flatten() {
                    let Some(size) = number(d, &["CapacityBytes"]).filter(|s| *s > 0) else { continue };
                    disks.push(simple_device(d, size));
                }
            }
        }
        Ok(disks)
    }
}

struct Nic {
    enabled: bool,
    shown: Value,
}

fn normal_mac(mac: &str) -> Option<String> {
    let hex: String = mac.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let other = mac.chars().any(|c| !c.is_ascii_hexdigit() && !":-.".contains(c));
    if hex.len() != 12 || other || hex == "000000000000" || hex == "ffffffffffff" {
        return None;
    }
    let bytes: Vec<&str> = (0..6).filter_map(|i| hex.get(2 * i..2 * i + 2)).collect();
    Some(bytes.join(":"))
}

fn architecture(cpu: &Resource) -> Option<String> {
    let set = cpu.text(&["InstructionSet"]);
    let named = match set.or_else(|| cpu.text(&["ProcessorArchitecture"]))? {
        "x86-64" => "x86_64",
        "x86" if set.is_none() => "x86_64", // ProcessorArchitecture has one name for both
        "x86" => "i686",
        "ARM-A64" | "ARM" => "aarch64",
        "ARM-A32" => "arm",
        "PowerISA" | "Power" => "ppc64le",
        "IA-64" => "ia64",
        "MIPS64" => "mips64",
        "RISC-V" | "RV64" => "riscv64",
        _ => return None,
    };
    Some(named.to_owned())
}

fn empty_disk(size: u64) -> Map<String, Value> {
    let mut m = Map::new();
    for key in
        ["name", "model", "rotational", "wwn", "serial", "vendor", "wwn_with_extension", "wwn_vendor_extension", "hctl", "by_path", "tran"]
    {
        m.insert(key.to_owned(), Value::Null);
    }
    m.insert("size".to_owned(), size.into());
    m
}

fn drive(d: &Resource, size: u64) -> Value {
    let mut m = empty_disk(size);
    let mut put = |key: &str, v: Option<Value>| {
        if let Some(v) = v {
            m.insert(key.to_owned(), v);
        }
    };
    let t = |key: &str| d.text(&[key]).map(Value::from);
    put("name", t("Name").or_else(|| t("Id")));
    put("model", t("Model"));
    put("serial", t("SerialNumber"));
    put("vendor", t("Manufacturer"));
    put("rotational", d.text(&["MediaType"]).map(|m| Value::from(m == "HDD")));
    put("tran", d.text(&["Protocol"]).map(|p| p.to_ascii_lowercase().into()));
    let identifiers = d.at(&["Identifiers"]).and_then(Value::as_array);
    let wwn = identifiers.into_iter().flatten().find(|i| matches!(text(i, &["DurableNameFormat"]), Some("NAA" | "EUI" | "UUID")));
    put("wwn", wwn.and_then(|i| text(i, &["DurableName"])).map(Value::from));
    Value::Object(m)
}

fn simple_device(d: &Value, size: u64) -> Value {
    let mut m = empty_disk(size);
    for (key, from) in [("name", "Name"), ("model", "Model"), ("vendor", "Manufacturer")] {
        if let Some(v) = text(d, &[from]) {
            m.insert(key.to_owned(), v.into());
        }
    }
    Value::Object(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_of_every_notation_become_one() {
        for m in ["AA-BB-CC-00-11-22", "aa:bb:cc:00:11:22", "AABB.CC00.1122", "aabbcc001122"] {
            assert_eq!(normal_mac(m).as_deref(), Some("aa:bb:cc:00:11:22"), "{m}");
        }
        for m in ["", "00:00:00:00:00:00", "N/A", "aa:bb", "zz:bb:cc:00:11:22", "aa:bb:cc:00:11:22:33:44"] {
            assert_eq!(normal_mac(m), None, "{m}");
        }
    }
}
