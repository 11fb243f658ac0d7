//! Steps that this agent offers for cleaning, deployment and service, and how each runs.
//!
//! Only steps that are built are listed. A step may be run again after a crash of the conductor: those that
//! erase give the same result again, and the image is never written twice for one step id.

use crate::agent::{Agent, VERSION};
use crate::command::VERSION_MISMATCH;
use crate::commands::{Arguments, argument, error, failure};
use crate::disk::efi;
use crate::disk::erase::Extent;
use crate::progress::Progress;
use crate::{erase, standby};
use bessemer_agent_types::command::CommandError;
use bessemer_agent_types::step::AgentStep;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Name under which this agent's steps are listed.
pub const MANAGER: &str = "bessemer_agent";

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Cleaning.
    Clean,
    /// Deployment.
    Deploy,
    /// Service of a node in use.
    Service,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Deploy => "deploy",
            Self::Service => "service",
        }
    }
}

/// A step with its priorities; none where it is not offered.
struct Offer {
    name: &'static str,
    clean: Option<i64>,
    deploy: Option<i64>,
    service: Option<i64>,
    /// Arguments: name, whether required, meaning.
    arguments: &'static [(&'static str, bool, &'static str)],
}

const OFFERS: &[Offer] = &[
    Offer { name: "erase_devices_metadata", clean: Some(99), deploy: Some(0), service: None, arguments: &[] },
    Offer { name: "erase_devices", clean: Some(10), deploy: None, service: None, arguments: &[] },
    Offer { name: "erase_devices_express", clean: Some(0), deploy: None, service: None, arguments: &[] },
    Offer {
        name: "clean_uefi_nvram",
        clean: Some(0),
        deploy: Some(0),
        service: None,
        arguments: &[("match_patterns", false, "regular expressions of device paths; entries that match one are removed")],
    },
    Offer { name: "erase_pstore", clean: Some(0), deploy: None, service: None, arguments: &[] },
    Offer {
        name: "write_image",
        clean: None,
        deploy: Some(0),
        service: Some(0),
        arguments: &[
            ("image_info", true, "where the image is, its checksum and format"),
            ("configdrive", false, "config drive: a URL, or base64 of gzip of a file system"),
        ],
    },
];

impl Offer {
    fn priority(&self, stage: Stage) -> Option<i64> {
        match stage {
            Stage::Clean => self.clean,
            Stage::Deploy => self.deploy,
            Stage::Service => self.service,
        }
    }

    fn step(&self, stage: Stage) -> Option<AgentStep> {
        let argsinfo: Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, required, text)| ((*name).to_owned(), json!({"required": required, "description": text})))
            .collect();
        Some(AgentStep {
            step: self.name.to_owned(),
            interface: "deploy".to_owned(),
            priority: self.priority(stage)?,
            reboot_requested: false,
            abortable: stage == Stage::Clean,
            argsinfo: (!argsinfo.is_empty()).then_some(Value::Object(argsinfo)),
            args: None,
        })
    }
}

fn versions() -> Value {
    json!({MANAGER: VERSION})
}

/// `get_*_steps`.
pub fn list(agent: &Agent, stage: Stage, arguments: &Arguments) -> Value {
    remember_node(agent, arguments);
    let steps: Vec<AgentStep> = OFFERS.iter().filter_map(|offer| offer.step(stage)).collect();
    json!({format!("{}_steps", stage.word()): {MANAGER: steps}, "hardware_manager_version": versions()})
}

fn remember_node(agent: &Agent, arguments: &Arguments) {
    if let Some(node) = arguments.get("node").filter(|node| node.is_object()) {
        agent.set_node(node.clone());
    }
}

/// `execute_*_step`.
pub async fn execute(agent: &Arc<Agent>, stage: Stage, mut arguments: Arguments, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    remember_node(agent, &arguments);
    let word = stage.word();
    let planned = arguments.get(&format!("{word}_version"));
    if let Some(planned) = planned.and_then(Value::as_object).filter(|map| !map.is_empty())
        && Some(planned) != versions().as_object()
    {
        return Err(error(
            VERSION_MISMATCH,
            500,
            &format!("the steps were planned for {} but this agent is {}: get the steps again", Value::Object(planned.clone()), versions()),
        ));
    }
    let node = agent.node();
    let mut step: Value = arguments.remove("step").unwrap_or(Value::Null);
    let name: String = argument(step.as_object().unwrap_or(&Map::new()), "step")?;
    let step_arguments = match step.get_mut("args").map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    if OFFERS.iter().find(|offer| offer.name == name).and_then(|offer| offer.priority(stage)).is_none() {
        return Err(error("StepNotFound", 404, &format!("this agent has no {word} step {name:?}: get the steps again")));
    }
    tracing::info!("{word} step {name}");
    progress.start_phase(&name, None);
    let result = match name.as_str() {
        "erase_devices_metadata" => erase::erase(agent, &node, Extent::Metadata, progress).await?,
        "erase_devices" => erase::erase(agent, &node, Extent::All, progress).await?,
        "erase_devices_express" => erase::erase(agent, &node, Extent::Express, progress).await?,
        "clean_uefi_nvram" => clean_nvram(agent, &step_arguments).await?,
        "erase_pstore" => erase::pstore(&agent.settings.root)?,
        "write_image" => Value::String(standby::write(agent, &node, &step_arguments, progress).await?),
        _ => return Err(error("StepNotFound", 500, &format!("step {name:?} is offered but has no code"))),
    };
    // The arguments may hold a config drive and credentials: the answer names the step without them.
    if let Some(map) = step.as_object_mut() {
        map.remove("args");
    }
    Ok(json!({format!("{word}_result"): result, format!("{word}_step"): step}))
}

/// `clean_uefi_nvram`.
async fn clean_nvram(agent: &Agent, arguments: &Arguments) -> Result<Value, CommandError> {
    let patterns: Option<Vec<String>> = argument(arguments, "match_patterns")?;
    let patterns = patterns.unwrap_or_default(); // none: the customary ones
    let root = agent.settings.root.clone();
    let removed = tokio::task::spawn_blocking(move || efi::clean_nvram(&root, &patterns)).await;
    let removed = removed.map_err(|e| failure(&e.to_string()))?.map_err(|e| error("CleaningError", 500, &e.to_string()))?;
    Ok(json!(if removed.is_empty() { "no boot entry matches".to_owned() } else { format!("removed {}", removed.join(", ")) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Params, Settings};

    fn agent() -> Arc<Agent> {
        Agent::new(Settings::from_params(&Params::parse("")))
    }

    fn arguments(value: Value) -> Arguments {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn cleaning_offers_metadata_before_full_erase() {
        let listed = list(&agent(), Stage::Clean, &arguments(json!({"node": {"uuid": "u"}, "ports": []})));
        let steps = listed["clean_steps"][MANAGER].as_array().unwrap();
        let priority = |name: &str| steps.iter().find(|s| s["step"] == name).unwrap()["priority"].as_i64().unwrap();
        assert_eq!(priority("erase_devices_metadata"), 99);
        assert_eq!(priority("erase_devices"), 10);
        assert!(steps.iter().all(|s| s["interface"] == "deploy" && s["abortable"] == true));
        assert_eq!(listed["hardware_manager_version"], json!({MANAGER: VERSION}));
    }

    #[tokio::test]
    async fn steps_planned_for_another_agent_are_a_version_mismatch() {
        let wire = json!({"step": {"step": "erase_pstore"}, "clean_version": {"generic_hardware_manager": "1.2"}});
        let outcome = execute(&agent(), Stage::Clean, arguments(wire), &Arc::default()).await;
        assert_eq!(outcome.unwrap_err().kind, VERSION_MISMATCH);
    }

    #[tokio::test]
    async fn a_step_of_another_stage_is_not_run() {
        let outcome = execute(&agent(), Stage::Clean, arguments(json!({"step": {"step": "write_image"}})), &Arc::default()).await;
        let e = outcome.unwrap_err();
        assert_eq!((e.kind.as_str(), e.code), ("StepNotFound", 404));
    }
}
