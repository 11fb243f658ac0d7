//! Inspection: looks at the hardware and posts what it found.
//!
//! A collector that fails leaves its part out and its reason in `error`; the report is posted all the same.

use crate::agent::{Agent, VERSION};
use crate::http::{self, HttpError};
use crate::hw::{self, Root, dmi, lldp};
use crate::params::Settings;
use crate::steps::MANAGER;
use crate::{disk, disks, jitter, logs, net};
use bessemer_agent_types::inspection::{InspectionReply, InspectionReport};
use bessemer_agent_types::inventory::{Disk, Inventory};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Tries for each URL.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Collectors of this agent.
const COLLECTORS: &[&str] = &["default", "logs", "pci-devices", "usb-devices", "numa-topology", "dmi-decode", "lldp"];

/// Looks at everything that the settings ask for.
pub async fn collect(agent: &Arc<Agent>) -> InspectionReport {
    let settings = &agent.settings;
    let mut errors = Vec::new();
    let (known, unknown): (Vec<&String>, Vec<&String>) = settings.collectors.iter().partition(|name| COLLECTORS.contains(&name.as_str()));
    for name in unknown {
        // As with any agent that lacks a plug-in: not worth failing the inspection.
        tracing::warn!("this agent has no inspection collector {name}");
    }
    let wants = |name: &str| known.iter().any(|known| *known == name);

    // Listening takes long; all else is looked at meanwhile.
    let listening = (wants("lldp") || settings.collect_lldp).then(|| {
        let patience = settings.lldp_timeout;
        tokio::task::spawn_blocking(move || {
            let sys = Path::new("/sys");
            let plugged: Vec<net::Card> = net::cards(sys).into_iter().filter(|card| net::has_carrier(sys, &card.name)).collect();
            lldp::listen(&plugged, patience)
        })
    });
    let disks = disks::settled(settings).await;
    let mut report = InspectionReport::default();
    let looked = {
        let settings = settings.clone();
        let skip_bmc = agent.config().and_then(|c| c.agent_skip_bmc_detect).unwrap_or(false);
        let names: Vec<String> = known.iter().map(|name| (*name).clone()).collect();
        tokio::task::spawn_blocking(move || look(&settings, disks, skip_bmc, &names)).await
    };
    match looked {
        Ok(looked) => {
            if wants("default") {
                report.root_disk = looked.root_disk;
                report.boot_interface.clone_from(&looked.inventory.boot.pxe_interface);
                report.inventory = Some(looked.inventory);
                report.configuration = Some(json!({"collectors": known, "managers": [{"name": MANAGER, "version": VERSION}]}));
            }
            report.extra.extend(looked.extra);
            errors.extend(looked.errors);
        }
        Err(e) => errors.push(format!("hardware inventory: {e}")),
    }
    if let Some(listening) = listening {
        match listening.await {
            Ok(heard) => {
                if settings.collect_lldp {
                    for card in report.inventory.iter_mut().flat_map(|inventory| &mut inventory.interfaces) {
                        card.lldp = Some(heard.get(&card.name).cloned().unwrap_or_default());
                    }
                }
                if wants("lldp") {
                    report.extra.insert("lldp_raw".into(), json!(heard));
                }
            }
            Err(e) => errors.push(format!("lldp: {e}")),
        }
    }
    if !errors.is_empty() {
        report.error = Some(errors.join("; "));
    }
    report
}

struct Looked {
    inventory: Inventory,
    root_disk: Option<Disk>,
    extra: Vec<(String, Value)>,
    errors: Vec<String>,
}

fn look(settings: &Settings, disks: Vec<Disk>, skip_bmc: bool, collectors: &[String]) -> Looked {
    let root = Root::new(&settings.root);
    let mut extra = Vec::new();
    let mut errors = Vec::new();
    let root_disk = match disk::pick::pick_root(&disks, None, &[]) {
        Ok(disk) => Some(disk),
        Err(e) => {
            tracing::info!("no root disk without hints: {e}");
            None
        }
    };
    let inventory = hw::inventory(settings, disks, skip_bmc);
    for name in collectors {
        match name.as_str() {
            "pci-devices" => extra.push(("pci_devices".to_owned(), json!(hw::pci::devices(&root)))),
            "usb-devices" => extra.push(("usb_devices".to_owned(), json!(hw::usb::devices(&root)))),
            "dmi-decode" => extra.push(("dmi".to_owned(), dmi::Table::read(&root).report())),
            "numa-topology" => match hw::numa::topology(&root) {
                Some(topology) => extra.push(("numa_topology".to_owned(), topology)),
                None => tracing::info!("this machine has no NUMA information"),
            },
            "logs" => {
                let text = serde_json::to_vec_pretty(&inventory).unwrap_or_default();
                match logs::collect_base64(&root, &[("inventory.json", text)]) {
                    Ok(archive) => extra.push(("logs".to_owned(), json!(archive))),
                    Err(e) => errors.push(format!("logs: {e}")),
                }
            }
            _ => {}
        }
    }
    Looked { inventory, root_disk, extra, errors }
}

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The last failure of the last URL.
    #[error("the inspection report was not taken: {0}")]
    Http(#[from] HttpError),
    /// The report cannot be written as JSON.
    #[error("the inspection report cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Posts a report to the first URL that takes it; gives the node's id when the answer names it.
pub async fn post(settings: &Settings, report: &InspectionReport) -> Result<Option<String>, PostError> {
    let client = http::client(settings.insecure, settings.http_timeout)?;
    let body = serde_json::to_value(report)?;
    let derived: Vec<String> = settings.api_urls.iter().map(|url| format!("{url}/v1/continue_inspection")).collect();
    let urls = if settings.inspection_urls.is_empty() { &derived } else { &settings.inspection_urls };
    let mut failure = HttpError::NoUrl;
    for url in urls {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            match http::post(&client, url, &body).await {
                Ok((status, answer)) if status.is_success() => {
                    let reply: InspectionReply = serde_json::from_value(answer).unwrap_or_default();
                    return Ok(reply.node_uuid().map(str::to_owned));
                }
                Ok((status, answer)) => {
                    failure = HttpError::Status { url: url.clone(), status, body: answer.to_string().chars().take(300).collect() };
                    if !status.is_server_error() && status != StatusCode::CONFLICT {
                        break; // it will not like the same report better later
                    }
                }
                Err(e) => failure = e,
            }
            tracing::warn!("inspection report, attempt {attempt}: {failure}");
            if attempt < TRIES {
                tokio::time::sleep(pause.mul_f64(jitter::between(0.5, 1.0))).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
    Err(failure.into())
}
