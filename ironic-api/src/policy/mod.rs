//! Who may do what (`security.md` sections 2 to 4).
//!
//! [`table`] has every policy with its default rule, [`check`] the language of the rules, [`file`] what an operator changes,
//! [`access`] which policy each route needs, and [`enforce`] asks before the handler runs. Policies hold under Keystone only; under
//! the other strategies every caller may do everything, except to see secrets.

mod access;
mod check;
mod enforce;
mod file;
#[cfg(test)]
mod matrix;
mod table;

pub use check::CheckError;
pub use file::PolicyFileError;

pub(crate) use enforce::{Narrow, enforce, handled, linked_node, provision_children, visible_node};
pub(crate) use file::STEP_PREFIX;
pub(crate) use table::Policy;

use std::{path::Path, sync::Arc};

use bessemer_model::{
    fault::{Fault, FaultKind},
    node::Node,
};

use crate::auth::Caller;
use check::Facts;
use file::{Rules, Source};
use table::Scope;

/// The policies in force.
#[derive(Debug, Clone)]
pub struct Policies {
    source: Arc<Source>,
    /// The project whose service users count as system users.
    service_project: Option<String>,
    /// Whether administrators of a project may create and delete nodes of their own.
    own_nodes: bool,
}

impl Default for Policies {
    /// The default rules.
    fn default() -> Self {
        Self { source: Arc::new(Source::defaults()), service_project: None, own_nodes: true }
    }
}

impl Policies {
    /// The default rules, changed by a file.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn from_file(file: &Path) -> Result<Self, PolicyFileError> {
        Ok(Self { source: Arc::new(Source::open(file)?), ..Self::default() })
    }

    /// Lets service users of this project act as system users (`rbac_service_role_elevated_access`, `rbac_service_project_name`).
    #[must_use]
    pub fn with_service_project(mut self, name: Option<String>) -> Self {
        self.service_project = name;
        self
    }

    /// Whether administrators of a project may create and delete nodes of their own (`project_admin_can_manage_own_nodes`).
    #[must_use]
    pub const fn with_own_nodes(mut self, allowed: bool) -> Self {
        self.own_nodes = allowed;
        self
    }

    /// What a caller may do, by the rules in force now.
    pub(crate) fn of(&self, caller: Caller, enforced: bool) -> Rights {
        Rights {
            caller,
            enforced,
            rules: self.source.rules(),
            service_project: self.service_project.clone().map(Into::into),
            own_nodes: self.own_nodes,
        }
    }
}

/// What an action is about. Facts that are absent match nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    pub node_owner: Option<&'a str>,
    pub node_lessee: Option<&'a str>,
    pub allocation_owner: Option<&'a str>,
    pub runbook_owner: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// A node, or something that belongs to it.
    pub fn node(n: &'a Node) -> Self {
        Self { node_owner: n.spec.owner.as_deref(), node_lessee: n.spec.lessee.as_deref(), ..Self::default() }
    }
    /// An allocation.
    pub fn allocation(owner: Option<&'a str>) -> Self {
        Self { allocation_owner: owner, ..Self::default() }
    }
    /// A runbook.
    pub fn runbook(owner: Option<&'a str>) -> Self {
        Self { runbook_owner: owner, ..Self::default() }
    }
}

/// What the caller of one request may do.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub caller: Caller,
    enforced: bool,
    rules: Arc<Rules>,
    service_project: Option<Arc<str>>,
    own_nodes: bool,
}

impl Rights {
    /// Whether policies are asked at all.
    pub const fn enforced(&self) -> bool {
        self.enforced
    }

    /// Whether administrators of projects may have nodes of their own.
    pub const fn own_nodes(&self) -> bool {
        self.own_nodes
    }

    /// Whether the caller may, for this target.
    pub fn may(&self, policy: Policy, target: Target<'_>) -> bool {
        !self.enforced || self.asked(policy, target)
    }

    /// The rule's own answer, whatever the strategy: some secrets are hidden from everybody.
    pub fn asked(&self, policy: Policy, target: Target<'_>) -> bool {
        let c = &self.caller;
        let system = c.system_scope.is_some();
        let in_scope = match policy.scope() {
            Scope::SystemOnly => system,
            Scope::Unasked => true,
            Scope::Any => system || c.project_id.is_some() || c.domain_id.is_none(),
        };
        in_scope && self.rules.holds(policy, &Known { rights: self, target })
    }

    /// Whether the caller may have this step run (`interface.step`): yes unless the policy file has a rule for it that says no.
    pub fn may_run_step(&self, step: &str, target: Target<'_>) -> bool {
        !self.enforced || self.rules.holds_if_defined(&format!("{}{step}", file::STEP_PREFIX), &Known { rights: self, target })
    }

    /// Refuses callers who may not.
    ///
    /// # Errors
    /// `Forbidden`, naming the policy.
    pub fn need(&self, policy: Policy, target: Target<'_>) -> Result<(), Fault> {
        if self.may(policy, target) { Ok(()) } else { Err(forbidden(policy.name())) }
    }
}

/// A refusal that names what was missing.
pub(crate) fn forbidden(policy: &str) -> Fault {
    Fault::new(FaultKind::Forbidden, format!("Access was denied: the policy {policy} does not allow it."))
}

/// Parts of a node that a caller who sees the node does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub driver_info: bool,
    pub driver_internal_info: bool,
    pub last_error: bool,
    pub reservation: bool,
    /// Passwords and their like in `driver_info` and `driver_internal_info`.
    pub passwords: bool,
    /// Secrets of `instance_info`.
    pub instance_secrets: bool,
}

impl Rights {
    /// Whether the caller sees passwords; nobody does by default.
    pub fn sees_passwords(&self) -> bool {
        self.asked(Policy::ShowPassword, Target::default())
    }

    /// What of this node is hidden from the caller.
    pub fn hidden(&self, node: &Node) -> Hidden {
        let target = Target::node(node);
        let all = self.may(Policy::NodeGetFilterThreshold, target);
        let hides = |p| !all && !self.may(p, target);
        Hidden {
            passwords: !self.sees_passwords(),
            instance_secrets: !self.asked(Policy::ShowInstanceSecrets, Target::default()),
            driver_info: hides(Policy::NodeGetDriverInfo),
            driver_internal_info: hides(Policy::NodeGetDriverInternalInfo),
            last_error: hides(Policy::NodeGetLastError),
            reservation: hides(Policy::NodeGetReservation),
        }
    }
}

struct Known<'a> {
    rights: &'a Rights,
    target: Target<'a>,
}

fn truth(v: bool) -> String {
    if v { "True" } else { "False" }.to_owned()
}

impl Facts for Known<'_> {
    fn caller(&self, name: &str) -> Vec<String> {
        let c = &self.rights.caller;
        let one = match name {
            "roles" => return c.roles.clone(),
            "service_roles" => return c.service_roles.clone(),
            "user_id" | "user" => c.user_id.clone(),
            "user_name" | "username" => c.user_name.clone(),
            "user_domain_id" => c.user_domain_id.clone(),
            "project_id" | "tenant" | "tenant_id" => c.project_id.clone(),
            "project_name" => c.project_name.clone(),
            "project_domain_id" => c.project_domain_id.clone(),
            "domain_id" => c.domain_id.clone(),
            "system_scope" => c.system_scope.clone(),
            "is_admin_project" => Some(truth(c.is_admin_project)),
            "is_public_api" => Some(truth(c.public)),
            "is_admin" => Some(truth(false)),
            _ => None,
        };
        one.into_iter().collect()
    }

    fn target(&self, name: &str) -> Option<String> {
        let t = &self.target;
        match name {
            "node.owner" => t.node_owner.map(str::to_owned),
            "node.lessee" => t.node_lessee.map(str::to_owned),
            "allocation.owner" => t.allocation_owner.map(str::to_owned),
            "runbook.owner" => t.runbook_owner.map(str::to_owned),
            "config.service_project_name" => self.rights.service_project.as_deref().map(str::to_owned),
            "roles" | "service_roles" => None,
            other => self.caller(other).pop(),
        }
    }

    fn has_role(&self, role: &str) -> bool {
        self.rights.caller.roles.iter().any(|r| r.eq_ignore_ascii_case(role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_parse_and_all_policies_of_the_contract_are_there() {
        assert!(Rules::new(&[]).is_ok());
        assert_eq!(Policy::ALL.iter().filter(|p| p.name().starts_with("baremetal:")).count(), 122);
    }

    fn reader() -> Caller {
        Caller { project_id: Some("p1".into()), roles: vec!["reader".into()], ..Caller::default() }
    }

    #[test]
    fn a_changed_policy_file_takes_effect_and_a_spoilt_one_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("policy.yaml");
        let may = |p: &Policies| p.of(reader(), true).may(Policy::ConductorGet, Target::default());
        std::fs::write(&file, "# nothing yet\n").expect("write");
        let p = Policies::from_file(&file).expect("a policy file");
        assert!(!may(&p));
        std::fs::write(&file, "\"baremetal:conductor:get\": \"role:reader\"\n").expect("write");
        p.source.expire();
        assert!(may(&p));
        for spoilt in ["nonsense", "\"baremetal:conductor:get\": \"rule:gone\""] {
            std::fs::write(&file, spoilt).expect("write");
            p.source.expire();
            assert!(may(&p), "{spoilt}");
        }
        std::fs::remove_file(&file).expect("remove");
        p.source.expire();
        assert!(may(&p));
        std::fs::write(&file, "{}").expect("write");
        p.source.expire();
        assert!(!may(&p));
        assert!(Policies::from_file(&dir.path().join("none")).is_err());
    }

    #[test]
    fn steps_are_free_until_a_rule_says_otherwise() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("policy.json");
        std::fs::write(&file, r#"{"baremetal:step:execute:bios.apply": "role:admin"}"#).expect("write");
        let rights = Policies::from_file(&file).expect("a policy file").of(reader(), true);
        assert!(!rights.may_run_step("bios.apply", Target::default()));
        assert!(rights.may_run_step("bios.reset", Target::default()));
    }

    #[test]
    fn without_policies_everything_is_allowed_but_secrets() {
        let rights = Policies::default().of(Caller::default(), false);
        for p in Policy::ALL {
            assert!(rights.may(*p, Target::default()), "{}", p.name());
        }
        assert!(!rights.asked(Policy::ShowPassword, Target::default()));
        assert!(!rights.asked(Policy::ShowInstanceSecrets, Target::default()));
    }

    #[test]
    fn an_elevated_service_project_counts_as_system_where_projects_may_pass() {
        let nova = Caller { project_id: Some("s".into()), project_name: Some("service".into()), roles: vec!["service".into()], ..reader() };
        let plain = Policies::default().of(nova.clone(), true);
        let raised = Policies::default().with_service_project(Some("service".into())).of(nova, true);
        assert!(!plain.may(Policy::NodeListAll, Target::default()));
        assert!(raised.may(Policy::NodeListAll, Target::default()));
        assert!(!raised.may(Policy::ChassisGet, Target::default()));
    }

    #[test]
    fn a_node_without_owner_belongs_to_nobody() {
        let unscoped = Caller { roles: vec!["admin".into(), "reader".into()], ..Caller::default() };
        let domain = Caller { domain_id: Some("d".into()), ..unscoped.clone() };
        for caller in [unscoped, domain] {
            assert!(!Policies::default().of(caller, true).may(Policy::NodeGet, Target::default()));
        }
    }
}
