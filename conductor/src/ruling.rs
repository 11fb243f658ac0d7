//! Inspection rules brought to a node: which rules there are, what they are shown, and what is to be written afterwards. Writes nothing.

use bessemer_db::{Inventory, PortChange, PortFilter, PortPage};
use bessemer_model::{
    JsonMap,
    inspection_rule::MAIN,
    node::{Node, NodeSpec},
    port::Port,
};

use crate::{
    core::Core,
    rules::{self, Call, NodeDoc, Rule, Subject},
};

/// What is to be written.
pub(crate) struct Ruled {
    pub spec: NodeSpec,
    pub internal: JsonMap,
    pub traits_added: Vec<String>,
    pub traits_removed: Vec<String>,
    pub new_ports: Vec<Port>,
    pub ports: Vec<PortChange>,
    /// Without the ramdisk's logs, which rules see and nobody keeps.
    pub report: Inventory,
    /// To be made once the rest is written.
    pub calls: Vec<Call>,
    /// For the flow's log.
    pub notes: Vec<String>,
}

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The store did not answer.
    #[error("{0}")]
    Store(String),
    /// A rule failed, or the operator's file is wrong.
    #[error("{0}")]
    Rule(String),
}

/// Applies the rules of the API and of the operator's file to a report that the hooks have seen.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn rule(
    core: &Core,
    node: &Node,
    spec: &NodeSpec,
    internal: &JsonMap,
    new_ports: Vec<Port>,
    report: Inventory,
) -> Result<Ruled, Problem> {
    let store = |e: bessemer_db::DbError| Problem::Store(e.to_string());
    let mut rules: Vec<Rule> = core.store.rules_of_phase(MAIN).await.map_err(store)?.into_iter().map(Rule::from).collect();
    if let Some(path) = &core.config.built_in_rules {
        rules.extend(rules::load(path).await.map_err(Problem::Rule)?);
    }
    let filter = PortFilter { node: Some(node.id), ..PortFilter::default() };
    let stored = if rules.is_empty() { vec![] } else { core.store.port_list(&filter, &PortPage::all()).await.map_err(store)? };
    let fresh: Vec<Port> = new_ports.into_iter().filter(|n| !stored.iter().any(|p| p.address == n.address)).collect();
    let mut subject = Subject {
        node: NodeDoc::of(node, spec, internal),
        traits: node.traits.clone(),
        ports: stored.iter().cloned().chain(fresh).collect(),
        inventory: report.inventory,
        plugin_data: report.plugin_data,
        calls: vec![],
        notes: vec![],
    };
    rules::apply(rules, &mut subject, core.config.mask_secrets).map_err(|f| Problem::Rule(f.to_string()))?;
    let Subject { node: doc, traits, ports, inventory, mut plugin_data, calls, notes } = subject;
    let (spec, internal) = doc.into_parts(spec).map_err(Problem::Rule)?;
    if let Some(m) = plugin_data.as_object_mut() {
        m.remove("logs");
    }
    let (mut new_ports, mut changed) = (vec![], vec![]);
    for new in ports {
        match stored.iter().find(|p| p.id == new.id) {
            None => new_ports.push(new),
            Some(base) if *base != new => changed.push(PortChange { base: base.clone(), new }),
            Some(_) => {}
        }
    }
    let had = &node.traits;
    Ok(Ruled {
        spec,
        internal,
        traits_added: traits.iter().filter(|n| !had.contains(n)).cloned().collect(),
        traits_removed: had.iter().filter(|n| !traits.contains(n)).cloned().collect(),
        new_ports,
        ports: changed,
        report: Inventory { inventory, plugin_data },
        calls,
        notes,
    })
}
