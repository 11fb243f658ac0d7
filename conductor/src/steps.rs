//! Which steps a flow has, in which order. Pure functions over what drivers and the agent offer.

use std::collections::HashSet;

use bessemer_drivers::{iface::StepDecl, registry::Registry};
use bessemer_model::{
    Json, JsonMap,
    deploy_template::DeployTemplate,
    interface::InterfaceKind,
    node::Node,
    step::{RESERVED_STEPS, Replay, RunsOn, Step, StepSource},
};
use bessemer_rpc::UserStep;

/// For what steps are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Cleaning.
    Clean,
    /// Deployment.
    Deploy,
    /// Servicing.
    Service,
}

/// A step somebody offers, before a flow takes it up.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The step, with the priority that it has for the purpose.
    pub step: Step,
    /// Arguments: name, required. `None` = not told, anything goes.
    pub args: Option<Vec<(String, bool)>>,
}

/// Kinds whose implementations can offer steps.
const STEP_KINDS: &[InterfaceKind] = &[InterfaceKind::Bios, InterfaceKind::Raid, InterfaceKind::Firmware, InterfaceKind::Vendor];

fn offer(kind: InterfaceKind, d: &StepDecl, priority: u32) -> Offer {
    Offer {
        step: Step {
            interface: kind,
            name: d.name.to_owned(),
            priority,
            args: JsonMap::new(),
            abortable: d.abortable,
            requires_ramdisk: d.requires_ramdisk,
            replay: d.replay,
            runs_on: RunsOn::Conductor,
            source: StepSource::Driver,
            children: None,
        },
        args: Some(d.args.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect()),
    }
}

/// What the node's drivers offer for `purpose`, priority 0 included.
#[must_use]
pub fn driver_offers(registry: &Registry, node: &Node, purpose: Purpose) -> Vec<Offer> {
    let mut out = Vec::new();
    let mut take = |kind: InterfaceKind, decls: &[StepDecl]| {
        for d in decls {
            let p = match purpose {
                Purpose::Clean => d.clean_priority,
                Purpose::Deploy => d.deploy_priority,
                Purpose::Service => d.service.then_some(0),
            };
            if let Some(p) = p {
                out.push(offer(kind, d, p));
            }
        }
    };
    for kind in STEP_KINDS {
        if let Some(s) = registry.steps(node, *kind) {
            take(*kind, s.steps());
        }
    }
    if let Ok(p) = registry.power(node) {
        take(InterfaceKind::Power, p.steps());
    }
    if let Ok(m) = registry.management(node) {
        take(InterfaceKind::Management, m.steps());
    }
    if purpose == Purpose::Deploy {
        out.extend(deploy_interface_steps(node.spec.interfaces.get(InterfaceKind::Deploy)));
    }
    out
}

/// The steps of a deploy interface itself (`drivers.md` section 3.1).
#[must_use]
pub fn deploy_interface_steps(interface: &str) -> Vec<Offer> {
    let s = |name: &str, priority, replay, runs_on| Offer {
        step: Step {
            interface: InterfaceKind::Deploy,
            name: name.to_owned(),
            priority,
            args: JsonMap::new(),
            abortable: false,
            requires_ramdisk: name != "deploy",
            replay,
            runs_on,
            source: StepSource::Driver,
            children: None,
        },
        args: None,
    };
    let core = s("deploy", 100, Replay::Idempotent, RunsOn::Conductor);
    match interface {
        "direct" | "custom-agent" => {
            let mut v = vec![core];
            if interface == "direct" {
                // Re-imaging a disk is never "run it again": the agent is asked first.
                v.push(s("write_image", 80, Replay::Probe, RunsOn::Agent));
            }
            v.extend([
                s("prepare_instance_boot", 60, Replay::Idempotent, RunsOn::Conductor),
                s("tear_down_agent", 40, Replay::Idempotent, RunsOn::Conductor),
                s("switch_to_tenant_network", 30, Replay::Idempotent, RunsOn::Conductor),
                s("boot_instance", 20, Replay::Idempotent, RunsOn::Conductor),
            ]);
            v
        }
        _ => vec![core],
    }
}

/// What the agent's answer to `get_*_steps` offers. Entries that are not understood are left out.
#[must_use]
pub fn agent_offers(answer: &Json, purpose: Purpose) -> Vec<Offer> {
    let key = match purpose {
        Purpose::Clean => "clean_steps",
        Purpose::Deploy => "deploy_steps",
        Purpose::Service => "service_steps",
    };
    let Some(managers) = answer.get(key).and_then(Json::as_object) else { return Vec::new() };
    let mut out: Vec<Offer> = Vec::new();
    for steps in managers.values().filter_map(Json::as_array) {
        for s in steps {
            let (Some(name), Some(kind)) = (s.get("step").and_then(Json::as_str), s.get("interface").and_then(Json::as_str)) else {
                continue;
            };
            let Some(interface) = InterfaceKind::parse(kind) else { continue };
            if out.iter().any(|o| o.step.name == name && o.step.interface == interface) {
                continue;
            }
            let priority = s.get("priority").and_then(Json::as_u64).and_then(|p| u32::try_from(p).ok()).unwrap_or(0);
            let args = s.get("argsinfo").and_then(Json::as_object).map(|a| {
                a.iter().map(|(n, i)| (n.clone(), i.get("required").and_then(Json::as_bool).unwrap_or(false))).collect::<Vec<_>>()
            });
            out.push(Offer {
                step: Step {
                    interface,
                    name: name.to_owned(),
                    priority,
                    args: JsonMap::new(),
                    abortable: s.get("abortable").and_then(Json::as_bool).unwrap_or(false),
                    requires_ramdisk: true,
                    replay: Replay::Probe,
                    runs_on: RunsOn::Agent,
                    source: StepSource::Driver,
                    children: None,
                },
                args,
            });
        }
    }
    out
}

/// Higher priority first, then the interface's rank; stable.
pub fn sort_by_priority(steps: &mut [Step]) {
    steps.sort_by_key(|s| std::cmp::Reverse((s.priority, s.interface.step_rank())));
}

/// Why the user's steps cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StepProblem(pub String);

/// A step as the user names it, run by the conductor and without a ramdisk.
fn by_user(u: &UserStep) -> Step {
    Step {
        interface: u.interface,
        name: u.step.clone(),
        priority: u.priority.unwrap_or(0),
        args: u.args.clone(),
        abortable: false,
        requires_ramdisk: false,
        replay: Replay::Idempotent,
        runs_on: RunsOn::Conductor,
        source: StepSource::User,
        children: None,
    }
}

/// Whether one of the user's steps needs the ramdisk, or may be one that only the ramdisk has.
#[must_use]
pub fn want_ramdisk(user: &[UserStep], offers: &[Offer]) -> bool {
    let does_without = |u: &UserStep| {
        u.children.is_some()
            || RESERVED_STEPS.contains(&u.step.as_str())
            || offers.iter().any(|o| o.step.interface == u.interface && o.step.name == u.step && !o.step.requires_ramdisk)
    };
    !user.iter().all(does_without)
}

/// Turns the user's steps into steps of a flow, in the user's order.
///
/// `agent_known` tells whether the agent's offers are in `offers`; without them an unknown step is taken to be the agent's and checked later.
///
/// # Errors
/// [`StepProblem`] naming the step and the argument.
pub fn resolve(user: &[UserStep], offers: &[Offer], agent_known: bool, ramdisk: bool) -> Result<Vec<Step>, StepProblem> {
    let mut out = Vec::with_capacity(user.len());
    for u in user {
        let label = u.label();
        // What the children offer is looked at when their turn comes.
        if let Some(children) = &u.children {
            out.push(Step { children: Some(children.clone()), abortable: true, ..by_user(u) });
            continue;
        }
        if RESERVED_STEPS.contains(&u.step.as_str()) {
            out.push(Step { abortable: matches!(u.step.as_str(), "hold" | "wait"), ..by_user(u) });
            continue;
        }
        let Some(o) = offers.iter().find(|o| o.step.interface == u.interface && o.step.name == u.step) else {
            if agent_known || !ramdisk {
                return Err(StepProblem(format!(
                    "step {label} is not offered by the node's drivers{}",
                    if agent_known { " or its agent" } else { "" }
                )));
            }
            out.push(Step { requires_ramdisk: true, replay: Replay::Probe, runs_on: RunsOn::Agent, ..by_user(u) });
            continue;
        };
        if o.step.requires_ramdisk && !ramdisk {
            return Err(StepProblem(format!("step {label} requires the ramdisk, which disable_ramdisk turned off")));
        }
        if let Some(known) = &o.args {
            let names: HashSet<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
            let unexpected: Vec<&str> = u.args.keys().map(String::as_str).filter(|k| !names.contains(k)).collect();
            if !unexpected.is_empty() {
                return Err(StepProblem(format!("step {label} has unexpected arguments: {}", unexpected.join(", "))));
            }
            let missing: Vec<&str> = known.iter().filter(|(n, req)| *req && !u.args.contains_key(n)).map(|(n, _)| n.as_str()).collect();
            if !missing.is_empty() {
                return Err(StepProblem(format!("step {label} misses required arguments: {}", missing.join(", "))));
            }
        }
        let mut s = o.step.clone();
        s.args = u.args.clone();
        if let Some(p) = u.priority {
            s.priority = p;
        }
        s.source = StepSource::User;
        out.push(s);
    }
    Ok(out)
}

/// The user's deploy steps, then those of the templates that the user does not override, without the ones ruled out.
///
/// # Errors
/// [`StepProblem`] when templates name a step twice.
pub fn with_templates(mut user: Vec<UserStep>, templates: &[DeployTemplate], ruled_out: &[String]) -> Result<Vec<UserStep>, StepProblem> {
    let mut seen = HashSet::new();
    let own: HashSet<(InterfaceKind, String)> = user.iter().map(|u| (u.interface, u.step.clone())).collect();
    for (t, s) in templates.iter().flat_map(|t| t.steps.iter().map(move |s| (t, s))) {
        let label = format!("{}.{}", s.interface.as_str(), s.step);
        if !seen.insert((s.interface, s.step.clone())) {
            let names: Vec<&str> = templates.iter().map(|t| t.name.as_str()).collect();
            return Err(StepProblem(format!("the deploy templates {} name the step {label} more than once", names.join(", "))));
        }
        if s.interface == InterfaceKind::Deploy && s.step == "deploy" && s.priority > 0 {
            return Err(StepProblem(format!("deploy template {}: core step {label} can only be disabled (priority 0)", t.name)));
        }
        if !own.contains(&(s.interface, s.step.clone())) && !ruled_out.contains(&label) {
            let step = UserStep { args: s.args.clone(), priority: Some(s.priority), ..UserStep::new(s.interface, s.step.clone()) };
            user.push(step);
        }
    }
    Ok(user)
}

/// The steps of a deployment: what drivers (and the agent) run by themselves, overridden by the user's; priority 0 disables.
///
/// # Errors
/// [`StepProblem`]; a core step may only be disabled.
pub fn deployment(offers: &[Offer], user: &[UserStep], agent_known: bool) -> Result<Vec<Step>, StepProblem> {
    if let Some(u) = user.iter().find(|u| u.interface == InterfaceKind::Deploy && u.step == "deploy" && u.priority != Some(0)) {
        return Err(StepProblem(format!("core step deploy.{} can only be disabled (priority 0)", u.step)));
    }
    let wanted: Vec<UserStep> = user.iter().filter(|u| u.priority != Some(0)).cloned().collect();
    let overridden: HashSet<(InterfaceKind, &str)> = user.iter().map(|u| (u.interface, u.step.as_str())).collect();
    let mut steps: Vec<Step> = offers
        .iter()
        .filter(|o| o.step.priority > 0 && !overridden.contains(&(o.step.interface, o.step.name.as_str())))
        .map(|o| o.step.clone())
        .collect();
    steps.extend(resolve(&wanted, offers, agent_known, true)?);
    sort_by_priority(&mut steps);
    if steps.is_empty() {
        return Err(StepProblem("the deployment has no steps left; do not disable all of them".into()));
    }
    Ok(steps)
}

/// The steps of automated cleaning.
#[must_use]
pub fn automated_cleaning(offers: &[Offer]) -> Vec<Step> {
    let mut steps: Vec<Step> = offers.iter().filter(|o| o.step.priority > 0).map(|o| o.step.clone()).collect();
    sort_by_priority(&mut steps);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(interface: InterfaceKind, step: &str, priority: Option<u32>) -> UserStep {
        UserStep { priority, ..UserStep::new(interface, step) }
    }

    #[test]
    fn deploy_steps_run_by_descending_priority_and_users_may_override_them() {
        let offers = deploy_interface_steps("direct");
        let names = |v: Vec<Step>| v.into_iter().map(|s| s.name).collect::<Vec<_>>();
        let plain = names(deployment(&offers, &[], false).expect("steps"));
        assert_eq!(
            plain,
            ["deploy", "write_image", "prepare_instance_boot", "tear_down_agent", "switch_to_tenant_network", "boot_instance"]
        );
        let without = names(deployment(&offers, &[user(InterfaceKind::Deploy, "write_image", Some(0))], false).expect("steps"));
        assert!(!without.contains(&"write_image".to_owned()));
        assert!(deployment(&offers, &[user(InterfaceKind::Deploy, "deploy", Some(10))], false).is_err());
    }

    #[test]
    fn templates_override_drivers_and_the_user_overrides_templates() {
        use bessemer_model::{deploy_template::TemplateStep, ids::DeployTemplateId};
        let template = |name: &str, step: &str, priority| DeployTemplate {
            name: name.into(),
            steps: vec![TemplateStep { interface: InterfaceKind::Deploy, step: step.into(), args: JsonMap::new(), priority }],
            ..DeployTemplate::blank(DeployTemplateId::random())
        };
        let offers = deploy_interface_steps("direct");
        let planned = |user: Vec<UserStep>, templates: &[DeployTemplate]| {
            let all = with_templates(user, templates, &["deploy.ruled_out".into()])?;
            Ok::<_, StepProblem>(deployment(&offers, &all, false)?.into_iter().map(|s| (s.name, s.priority)).collect::<Vec<_>>())
        };
        let first = template("CUSTOM_A", "boot_instance", 70);
        let with = planned(vec![], std::slice::from_ref(&first)).expect("steps");
        assert_eq!(with[2], ("boot_instance".to_owned(), 70));
        let user = || vec![user(InterfaceKind::Deploy, "boot_instance", Some(0))];
        assert!(planned(user(), std::slice::from_ref(&first)).expect("steps").iter().all(|(n, _)| n != "boot_instance"));
        let off = planned(vec![], &[template("CUSTOM_A", "write_image", 0)]).expect("steps");
        assert!(off.iter().all(|(n, _)| n != "write_image"));
        assert!(planned(vec![], &[first.clone(), template("CUSTOM_B", "boot_instance", 1)]).is_err());
        assert!(planned(vec![], &[template("CUSTOM_A", "deploy", 5)]).is_err());
        let ruled_out = planned(vec![], &[template("CUSTOM_A", "ruled_out", 5)]).expect("steps");
        assert!(ruled_out.iter().all(|(n, _)| n != "ruled_out"));
    }

    #[test]
    fn an_unknown_step_is_refused_once_the_agent_has_spoken() {
        let u = [user(InterfaceKind::Raid, "nope", None)];
        assert!(resolve(&u, &[], false, true).is_ok());
        assert!(resolve(&u, &[], true, true).is_err());
        assert!(resolve(&u, &[], false, false).is_err());
    }

    #[test]
    fn the_ramdisk_is_wanted_for_its_own_and_for_unknown_steps_only() {
        let offers = deploy_interface_steps("direct");
        let wants = |steps: &[UserStep]| want_ramdisk(steps, &offers);
        let step = |name| user(InterfaceKind::Deploy, name, None);
        let for_children = UserStep { children: Some(vec![]), ..step("write_image") };
        assert!(!wants(&[step("deploy"), step("wait"), for_children.clone()]), "the conductor's own, a reserved one, the children's");
        assert!(wants(&[step("deploy"), step("write_image")]), "the ramdisk's");
        assert!(wants(&[for_children, step("nobody_knows")]), "one that the agent may offer");
    }

    #[test]
    fn writing_an_image_is_probed_never_just_repeated() {
        let s = deploy_interface_steps("direct").into_iter().find(|o| o.step.name == "write_image").expect("offered");
        assert_eq!(s.step.replay, Replay::Probe);
    }
}
