//! Lists of nodes: filters, sorting, pages (`api.md` sections 1.6 and 3.2). A page costs two statements however long it is.

use std::collections::HashMap;

use bessemer_model::{ids::NodeId, interface::InterfaceKind as K, node::Node, state::ProvisionState};

use crate::{
    engine::{Build, Sql},
    error::{Entity, Result},
    node_row::{node_from, node_select},
    page::{Holds, Key, Listing, contains},
    store::Store,
    types::{Children, NodeFilter, NodePage, NodeRef, NodeSort},
};

const NODES: Listing = Listing { what: Entity::Node, from_id: " FROM nodes n WHERE n.id = ", seq: "n.seq" };

macro_rules! interface_key {
    ($name:literal) => {
        Key(Some((
            Sql {
                sqlite: concat!("json_extract(n.interfaces, '$.", $name, "')"),
                postgres: concat!("(CAST(n.interfaces AS json) ->> '", $name, "') COLLATE \"C\""),
            },
            Holds::Text,
        )))
    };
}

const fn key(sort: NodeSort) -> Key {
    use NodeSort as S;
    match sort {
        S::Created => Key::CREATED,
        S::Uuid => Key::text("n.id"),
        S::Name => Key::text("n.name"),
        S::Driver => Key::text("n.driver"),
        S::InstanceUuid => Key::text("n.instance_uuid"),
        S::InstanceName => Key::text("n.instance_name"),
        S::ChassisUuid => Key::text("n.chassis_uuid"),
        S::ResourceClass => Key::text("n.resource_class"),
        S::ConductorGroup => Key::text("n.conductor_group"),
        S::AutomatedClean => Key::bool("n.automated_clean"),
        S::Protected => Key::bool("n.protected"),
        S::ProtectedReason => Key::text("n.protected_reason"),
        S::Owner => Key::text("n.owner"),
        S::Lessee => Key::text("n.lessee"),
        S::Description => Key::text("n.description"),
        S::Retired => Key::bool("n.retired"),
        S::RetiredReason => Key::text("n.retired_reason"),
        S::Shard => Key::text("n.shard"),
        S::ParentNode => Key::text("n.parent_node"),
        S::DisablePowerOff => Key::bool("n.disable_power_off"),
        S::Maintenance => Key::bool("n.maintenance"),
        S::MaintenanceReason => Key::text("n.maintenance_reason"),
        S::Fault => Key::text("n.fault"),
        S::ProvisionState => Key::text("n.provision_state"),
        S::TargetProvisionState => Key::text("n.target_provision_state"),
        S::ProvisionUpdatedAt => Key::int("n.provision_updated_at"),
        S::PowerState => Key::text("n.power_state"),
        S::TargetPowerState => Key::text("n.target_power_state"),
        S::LastError => Key::text("n.last_error"),
        S::InspectionStartedAt => Key::int("n.inspection_started_at"),
        S::InspectionFinishedAt => Key::int("n.inspection_finished_at"),
        S::BootMode => Key::text("n.boot_mode"),
        S::SecureBoot => Key::bool("n.secure_boot"),
        S::Health => Key::text("n.health"),
        S::ConsoleEnabled => Key::bool("n.console_enabled"),
        S::Reservation => Key::text("n.task_host"),
        S::ConductorAffinity => Key::text("n.conductor_affinity"),
        S::CreatedAt => Key::int("n.created_at"),
        S::UpdatedAt => Key::int("n.updated_at"),
        S::Interface(K::Bios) => interface_key!("bios"),
        S::Interface(K::Boot) => interface_key!("boot"),
        S::Interface(K::Console) => interface_key!("console"),
        S::Interface(K::Deploy) => interface_key!("deploy"),
        S::Interface(K::Firmware) => interface_key!("firmware"),
        S::Interface(K::Inspect) => interface_key!("inspect"),
        S::Interface(K::Management) => interface_key!("management"),
        S::Interface(K::Network) => interface_key!("network"),
        S::Interface(K::Power) => interface_key!("power"),
        S::Interface(K::Raid) => interface_key!("raid"),
        S::Interface(K::Rescue) => interface_key!("rescue"),
        S::Interface(K::Storage) => interface_key!("storage"),
        S::Interface(K::Vendor) => interface_key!("vendor"),
    }
}

/// Appends ` WHERE …` for a filter.
fn push_filter(b: &mut Build, f: &NodeFilter) {
    // Taken apart so that a new condition cannot be forgotten here.
    let NodeFilter {
        instance_uuid,
        instance_name,
        chassis_uuid,
        associated,
        maintenance,
        provision_states,
        driver,
        resource_class,
        fault,
        conductor_group,
        owner,
        lessee,
        project,
        description_contains,
        retired,
        shards,
        sharded,
        reserved,
        children,
        ids,
    } = f;
    b.push("WHERE 1 = 1");
    let texts = [
        (" AND n.instance_uuid = ", instance_uuid.map(|u| u.to_string())),
        (" AND n.instance_name = ", instance_name.clone()),
        (" AND n.chassis_uuid = ", chassis_uuid.map(|u| u.to_string())),
        (" AND n.driver = ", driver.clone()),
        (" AND n.resource_class = ", resource_class.clone()),
        (" AND n.fault = ", fault.map(|f| f.as_str().to_owned())),
        (" AND n.conductor_group = ", conductor_group.clone()),
        (" AND n.owner = ", owner.clone()),
        (" AND n.lessee = ", lessee.clone()),
    ];
    for (words, value) in texts {
        if let Some(v) = value {
            b.push(words).bind(v);
        }
    }
    for (words, value) in [(" AND n.maintenance = ", maintenance), (" AND n.retired = ", retired)] {
        if let Some(v) = value {
            b.push(words).bind(*v);
        }
    }
    for (column, there) in [(" AND n.instance_uuid", associated), (" AND n.shard", sharded), (" AND n.task_host", reserved)] {
        if let Some(t) = there {
            b.push(column).push(if *t { " IS NOT NULL" } else { " IS NULL" });
        }
    }
    if !provision_states.is_empty() {
        b.push(" AND n.provision_state").in_set(provision_states.iter().map(|s| ProvisionState::as_str(*s)));
    }
    if let Some(p) = project {
        b.push(" AND (n.owner = ").bind(p).push(" OR n.lessee = ").bind(p).push(")");
    }
    if let Some(d) = description_contains {
        b.push(" AND lower(n.description) LIKE ").bind(contains(d)).push(" ESCAPE '!'");
    }
    if !shards.is_empty() {
        b.push(" AND n.shard").in_set(shards);
    }
    match children {
        Children::All => {}
        Children::TopOnly => {
            b.push(" AND n.parent_node IS NULL");
        }
        Children::Of(parent) => {
            b.push(" AND n.parent_node = ").bind(*parent);
        }
    }
    if let Some(ids) = ids {
        b.push(" AND n.id").in_set(ids);
    }
}

impl Store {
    /// A page of nodes, secrets masked. The `request` of a node's flow is left out.
    ///
    /// # Errors
    /// [`crate::DbError::NotFound`] for an unknown marker.
    pub async fn node_list(&self, filter: &NodeFilter, page: &NodePage) -> Result<Vec<Node>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read_many(move |c| {
            Box::pin(async move {
                let mut b = Build::new(c.engine(), node_select!("NULL", ""));
                push_filter(&mut b, &filter);
                let rows = NODES.rows(c, b, key(page.sort), &page).await?;
                let mut nodes = rows.iter().map(node_from).collect::<Result<Vec<Node>>>()?;
                if nodes.is_empty() {
                    return Ok(nodes);
                }
                let mut b = Build::new(c.engine(), "SELECT node, trait FROM node_traits WHERE node");
                b.in_set(nodes.iter().map(|n| n.id)).push(" ORDER BY node, trait");
                let mut traits: HashMap<NodeId, Vec<String>> = HashMap::new();
                for row in c.rows_built(b).await? {
                    let cols = &mut row.cols();
                    traits.entry(cols.parsed("node id")?).or_default().push(cols.text()?);
                }
                for n in &mut nodes {
                    n.traits = traits.remove(&n.id).unwrap_or_default();
                }
                Ok(nodes)
            })
        })
        .await
    }

    /// What the hash ring needs to know of the nodes that match, in order of creation.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn node_refs(&self, filter: &NodeFilter) -> Result<Vec<NodeRef>> {
        let mut b = self.build("SELECT n.id, n.driver, n.conductor_group FROM nodes n ");
        push_filter(&mut b, filter);
        b.push(" ORDER BY n.seq");
        let rows = self.read_many(move |c| Box::pin(c.rows_built(b))).await?;
        rows.iter()
            .map(|r| {
                let c = &mut r.cols();
                Ok(NodeRef { id: c.parsed("node id")?, driver: c.text()?, conductor_group: c.text()? })
            })
            .collect()
    }

    /// How many nodes match.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn node_count(&self, filter: &NodeFilter) -> Result<i64> {
        let mut b = self.build("SELECT count(*) FROM nodes n ");
        push_filter(&mut b, filter);
        let row = self.read_many(move |c| Box::pin(c.row_built(b))).await?;
        row.map_or(Ok(0), |r| r.cols().int())
    }
}
