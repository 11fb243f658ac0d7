//! Verbs that move a node from state to state.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::node::{Clean, Rescue, Service, Verb};
use crate::client::{Client, Request};
use crate::error::CliError;
use crate::{hints, pairs, structured, wait};

use super::Session;

/// How long the verification of a BMC may take where nothing else was said.
pub const VERIFY_LIMIT: Duration = Duration::from_secs(600);

/// A verb: its name in the API and the state that it leads to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name in the API.
    pub name: &'static str,
    /// State that it leads to.
    pub leads_to: &'static str,
}

/// `manage`.
pub const MANAGE: Target = Target { name: "manage", leads_to: "manageable" };
/// `provide`.
pub const PROVIDE: Target = Target { name: "provide", leads_to: "available" };
/// `inspect`.
pub const INSPECT: Target = Target { name: "inspect", leads_to: "manageable" };
/// `undeploy`; the API's older name for it is known to every version.
pub const UNDEPLOY: Target = Target { name: "deleted", leads_to: "available" };
/// `adopt`.
pub const ADOPT: Target = Target { name: "adopt", leads_to: "active" };
/// `unrescue`.
pub const UNRESCUE: Target = Target { name: "unrescue", leads_to: "active" };
/// `clean`.
pub const CLEAN: Target = Target { name: "clean", leads_to: "manageable" };
/// `service`.
pub const SERVICE: Target = Target { name: "service", leads_to: "active" };
/// `rescue`.
pub const RESCUE: Target = Target { name: "rescue", leads_to: "rescue" };
/// `deploy`.
pub const DEPLOY: Target = Target { name: "active", leads_to: "active" };
/// `rebuild`.
pub const REBUILD: Target = Target { name: "rebuild", leads_to: "active" };

/// Tells a node to do something. A refusal tells what the node's state allows instead.
pub async fn send(client: &Client, node: &str, body: &Value) -> Result<(), CliError> {
    match client.put(&["nodes", node, "states", "provision"], body).await {
        Err(CliError::Api(mut error)) if error.status == 400 || (error.status == 409 && !error.is_locked()) => {
            if let Ok(seen) = client.get(Request::to(&["nodes", node])).await {
                let state = seen.text("provision_state").unwrap_or_default();
                // In maintenance, it is not the state that stands in the way.
                error.hint = Some(if seen.is("maintenance") {
                    format!("It is in maintenance; `baremetal node maintenance unset {node}` ends that.")
                } else if seen.is("retired") && body["target"] == "provide" {
                    format!("`baremetal node retire {node} --undo` takes the mark away.")
                } else {
                    hints::instead(node, state)
                });
            }
            Err(CliError::Api(error))
        }
        result => result,
    }
}

/// A verb without a wait.
pub async fn plain(session: &Session, name: &str, nodes: &[String]) -> Result<(), CliError> {
    let body = json!({"target": name});
    for node in nodes {
        send(&session.client, node, &body).await?;
    }
    Ok(())
}

/// A verb without arguments.
pub async fn verb(session: &Session, target: &Target, verb: Verb) -> Result<(), CliError> {
    act(session, target, &json!({"target": target.name}), &verb).await
}

/// Sends to all nodes, one after the other, then waits for all of them at the same time.
pub async fn act(session: &Session, target: &Target, body: &Value, verb: &Verb) -> Result<(), CliError> {
    for node in &verb.nodes.nodes {
        send(&session.client, node, body).await?;
    }
    wait_for_all(session, target, verb).await
}

/// Waits for all nodes at the same time, if a wait was asked for.
pub async fn wait_for_all(session: &Session, target: &Target, verb: &Verb) -> Result<(), CliError> {
    let Some(seconds) = verb.wait.wait else { return Ok(()) };
    let limit = (seconds > 0).then(|| Duration::from_secs(seconds));
    let mut waits = JoinSet::new();
    for node in &verb.nodes.nodes {
        let (client, node, wanted) = (Arc::clone(&session.client), node.clone(), target.leads_to);
        let line = session.display.line(&node);
        line.say(&format!("waiting for `{wanted}`"));
        waits.spawn(async move {
            let result = wait::for_state(&client, &node, wanted, limit, &line).await;
            match &result {
                Ok(node) => line.finish(node.text("provision_state").unwrap_or(wanted)),
                Err(_) => line.finish("failed"),
            }
            result
        });
    }
    let mut failures = Vec::new();
    while let Some(done) = waits.join_next().await {
        match done {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => failures.push(error),
            Err(error) => failures.push(CliError::Failed(format!("a wait ended abnormally: {error}"))),
        }
    }
    session.display.end();
    CliError::gather(failures)
}

/// `node clean`.
pub async fn clean(session: &Session, args: Clean) -> Result<(), CliError> {
    let body = steps_body(&CLEAN, "clean_steps", args.clean_steps.as_deref(), args.runbook.as_deref(), args.disable_ramdisk)?;
    act(session, &CLEAN, &body, &args.verb).await
}

/// `node service`.
pub async fn service(session: &Session, args: Service) -> Result<(), CliError> {
    let body = steps_body(&SERVICE, "service_steps", args.service_steps.as_deref(), args.runbook.as_deref(), args.disable_ramdisk)?;
    act(session, &SERVICE, &body, &args.verb).await
}

fn steps_body(target: &Target, name: &str, steps: Option<&str>, runbook: Option<&str>, disable_ramdisk: bool) -> Result<Value, CliError> {
    let mut body = json!({"target": target.name});
    if let Some(steps) = steps {
        body[name] = self::steps(steps, name)?;
    }
    if let Some(runbook) = runbook {
        body["runbook"] = runbook.into();
    }
    if disable_ramdisk {
        body["disable_ramdisk"] = true.into();
    }
    Ok(body)
}

/// A list of steps given as an argument.
pub fn steps(given: &str, name: &str) -> Result<Value, CliError> {
    let option = format!("--{}", name.replace('_', "-"));
    match structured::argument(given, &option)? {
        steps @ Value::Array(_) => Ok(steps),
        _ => Err(CliError::Usage(format!(
            "{option}: steps are a list, as in '[{{\"interface\": \"deploy\", \"step\": \"erase_devices\"}}]'"
        ))),
    }
}

/// `node rescue`.
pub async fn rescue(session: &Session, args: Rescue) -> Result<(), CliError> {
    let password = pairs::secret(&args.rescue_password)?;
    if password.trim().is_empty() {
        return Err(CliError::Usage("--rescue-password: it is empty".into()));
    }
    act(session, &RESCUE, &json!({"target": "rescue", "rescue_password": password}), &args.verb).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_list() {
        let body =
            steps_body(&CLEAN, "clean_steps", Some(r#"[{"interface": "deploy", "step": "erase_devices"}]"#), None, true).expect("a body");
        assert_eq!(
            body,
            json!({"target": "clean", "clean_steps": [{"interface": "deploy", "step": "erase_devices"}], "disable_ramdisk": true})
        );
        assert!(steps(r#"{"interface": "deploy"}"#, "clean_steps").expect_err("no list").to_string().contains("--clean-steps"));
    }
}
