//! The columns of `nodes`: their order, and the two directions between a row and a [`Node`].

use bessemer_model::{
    JsonMap,
    flow::{Flow, FlowKind},
    ids::NodeId,
    node::{Interfaces, Node, NodeChange, NodeFault, NodeSpec, NodeStatus},
    state::{PowerState, ProvisionState},
};

use crate::{
    engine::{
        Arg, Build, Cols, Row,
        row::{from_json, map_text, to_json},
        sql::args,
    },
    error::Result,
    flow_row::flow_from,
};

macro_rules! spec_columns {
    () => {
        "name, driver, interfaces, driver_info, properties, extra, instance_info, instance_uuid, instance_name, chassis_uuid, \
         resource_class, conductor_group, automated_clean, protected, protected_reason, owner, lessee, description, retired, \
         retired_reason, network_data, shard, parent_node, disable_power_off, maintenance, maintenance_reason, fault, target_raid_config"
    };
}
macro_rules! status_columns {
    () => {
        "provision_state, target_provision_state, provision_updated_at, power_state, target_power_state, last_error, \
         driver_internal_info, inspection_started_at, inspection_finished_at, boot_mode, secure_boot, health, raid_config, console_enabled"
    };
}
/// What is read of a node, but for its traits and (in lists) the request of its flow. The alias of `nodes` is `n`; no other table in
/// the statement has columns of these names unqualified.
macro_rules! node_select {
    ($request:literal, $rest:literal) => {
        concat!(
            "SELECT n.seq, n.id, n.revision, n.created_at, n.updated_at, n.name, n.driver, n.interfaces, n.driver_info, n.properties, \
             n.extra, n.instance_info, n.instance_uuid, n.instance_name, n.chassis_uuid, n.resource_class, n.conductor_group, \
             n.automated_clean, n.protected, n.protected_reason, n.owner, n.lessee, n.description, n.retired, n.retired_reason, \
             n.network_data, n.shard, n.parent_node, n.disable_power_off, n.maintenance, n.maintenance_reason, n.fault, \
             n.target_raid_config, n.provision_state, n.target_provision_state, n.provision_updated_at, n.power_state, \
             n.target_power_state, n.last_error, n.driver_internal_info, n.inspection_started_at, n.inspection_finished_at, n.boot_mode, \
             n.secure_boot, n.health, n.raid_config, n.console_enabled, \
             (SELECT al.id FROM allocations al WHERE al.node = n.id), n.task_host, n.conductor_affinity, a.doc, \
             EXISTS (SELECT 1 FROM node_secrets s WHERE s.node = n.id AND s.kind = 'agent_token'), \
             f.id, f.kind, f.aborting, f.wake_at, f.created_at, f.doc, ",
            $request,
            " FROM nodes n LEFT JOIN node_agents a ON a.node = n.id \
             LEFT JOIN flows f ON f.node = n.id AND f.lane = 'provision' ",
            $rest
        )
    };
}
pub(crate) use {node_select, spec_columns, status_columns};

/// Arguments for [`spec_columns`], in their order. `driver_info` is what shall be stored, without secrets.
pub(crate) fn spec_args(s: &NodeSpec, driver_info: &JsonMap) -> Result<Vec<Arg>> {
    Ok(args![
        &s.name,
        s.driver.as_str(),
        to_json("interfaces", &s.interfaces)?,
        map_text(driver_info),
        map_text(&s.properties),
        map_text(&s.extra),
        map_text(&s.instance_info),
        s.instance_uuid,
        &s.instance_name,
        s.chassis_uuid,
        &s.resource_class,
        s.conductor_group.as_str(),
        s.automated_clean,
        s.protected,
        &s.protected_reason,
        &s.owner,
        &s.lessee,
        &s.description,
        s.retired,
        &s.retired_reason,
        map_text(&s.network_data),
        &s.shard,
        s.parent_node,
        s.disable_power_off,
        s.maintenance,
        &s.maintenance_reason,
        s.fault.map(NodeFault::as_str),
        map_text(&s.target_raid_config),
    ])
}

/// Arguments for [`status_columns`], in their order.
pub(crate) fn status_args(s: &NodeStatus) -> Vec<Arg> {
    args![
        s.provision_state.as_str(),
        s.target_provision_state.map(ProvisionState::as_str),
        s.provision_updated_at,
        s.power_state.map(PowerState::as_str),
        s.target_power_state.map(PowerState::as_str),
        &s.last_error,
        map_text(&s.driver_internal_info),
        s.inspection_started_at,
        s.inspection_finished_at,
        &s.boot_mode,
        s.secure_boot,
        &s.health,
        map_text(&s.raid_config),
        s.console_enabled,
    ]
}

/// Appends `, column = $n` for every column that the change sets.
pub(crate) fn push_change(b: &mut Build, c: &NodeChange) {
    // Taken apart so that a new field cannot be forgotten here.
    let NodeChange {
        provision_state,
        target_provision_state,
        provision_updated_at,
        power_state,
        target_power_state,
        last_error,
        driver_internal_info,
        inspection_started_at,
        inspection_finished_at,
        boot_mode,
        secure_boot,
        health,
        raid_config,
        console_enabled,
    } = c;
    if let Some(v) = provision_state {
        b.push(", provision_state = ").bind(v.as_str());
    }
    if let Some(v) = target_provision_state {
        b.push(", target_provision_state = ").bind(v.map(ProvisionState::as_str));
    }
    if let Some(v) = provision_updated_at {
        b.push(", provision_updated_at = ").bind(*v);
    }
    if let Some(v) = power_state {
        b.push(", power_state = ").bind(v.map(PowerState::as_str));
    }
    if let Some(v) = target_power_state {
        b.push(", target_power_state = ").bind(v.map(PowerState::as_str));
    }
    if let Some(v) = last_error {
        b.push(", last_error = ").bind(v);
    }
    if let Some(v) = driver_internal_info {
        b.push(", driver_internal_info = ").bind(map_text(v));
    }
    if let Some(v) = inspection_started_at {
        b.push(", inspection_started_at = ").bind(*v);
    }
    if let Some(v) = inspection_finished_at {
        b.push(", inspection_finished_at = ").bind(*v);
    }
    if let Some(v) = boot_mode {
        b.push(", boot_mode = ").bind(v);
    }
    if let Some(v) = secure_boot {
        b.push(", secure_boot = ").bind(*v);
    }
    if let Some(v) = health {
        b.push(", health = ").bind(v);
    }
    if let Some(v) = raid_config {
        b.push(", raid_config = ").bind(map_text(v));
    }
    if let Some(v) = console_enabled {
        b.push(", console_enabled = ").bind(*v);
    }
}

fn spec_from(c: &mut Cols<'_>) -> Result<NodeSpec> {
    Ok(NodeSpec {
        name: c.opt_text()?,
        driver: c.text()?,
        interfaces: match c.str()? {
            "{}" => Interfaces::default(),
            s => from_json("interfaces", s)?,
        },
        driver_info: c.map("driver_info")?,
        properties: c.map("properties")?,
        extra: c.map("extra")?,
        instance_info: c.map("instance_info")?,
        instance_uuid: c.opt_parsed("instance_uuid")?,
        instance_name: c.opt_text()?,
        chassis_uuid: c.opt_parsed("chassis_uuid")?,
        resource_class: c.opt_text()?,
        conductor_group: c.text()?,
        automated_clean: c.opt_bool()?,
        protected: c.bool()?,
        protected_reason: c.opt_text()?,
        owner: c.opt_text()?,
        lessee: c.opt_text()?,
        description: c.opt_text()?,
        retired: c.bool()?,
        retired_reason: c.opt_text()?,
        network_data: c.map("network_data")?,
        shard: c.opt_text()?,
        parent_node: c.opt_parsed("parent_node")?,
        disable_power_off: c.opt_bool()?,
        maintenance: c.bool()?,
        maintenance_reason: c.opt_text()?,
        fault: c.opt_named("fault", NodeFault::parse)?,
        target_raid_config: c.map("target_raid_config")?,
    })
}

fn status_from(c: &mut Cols<'_>) -> Result<NodeStatus> {
    Ok(NodeStatus {
        provision_state: c.named("provision_state", ProvisionState::parse)?,
        target_provision_state: c.opt_named("target_provision_state", ProvisionState::parse)?,
        provision_updated_at: c.opt_time()?,
        power_state: c.opt_named("power_state", PowerState::parse)?,
        target_power_state: c.opt_named("target_power_state", PowerState::parse)?,
        last_error: c.opt_text()?,
        driver_internal_info: c.map("driver_internal_info")?,
        inspection_started_at: c.opt_time()?,
        inspection_finished_at: c.opt_time()?,
        boot_mode: c.opt_text()?,
        secure_boot: c.opt_bool()?,
        health: c.opt_text()?,
        raid_config: c.map("raid_config")?,
        console_enabled: c.bool()?,
    })
}

fn joined_flow(c: &mut Cols<'_>, node: NodeId) -> Result<Option<Flow>> {
    let Some(id) = c.opt_parsed("flow id")? else {
        return Ok(None);
    };
    let kind = c.named("flow kind", FlowKind::parse)?;
    let (aborting, wake_at, created_at) = (c.bool()?, c.opt_time()?, c.time()?);
    let doc = c.str()?;
    let request = c.opt_str()?;
    flow_from(id, node, kind, aborting, wake_at, created_at, doc, request).map(Some)
}

/// Reads what [`node_select`] gives.
pub(crate) fn node_from(row: &Row) -> Result<Node> {
    let c = &mut row.cols();
    let (seq, id, revision, created_at, updated_at) = (c.int()?, c.parsed("node id")?, c.int()?, c.time()?, c.opt_time()?);
    Ok(Node {
        id,
        seq,
        revision,
        created_at,
        updated_at,
        spec: spec_from(c)?,
        status: status_from(c)?,
        traits: Vec::new(),
        allocation: c.opt_parsed("allocation id")?,
        reservation: c.opt_text()?,
        conductor_affinity: c.opt_text()?,
        agent: c.opt_str()?.map(|s| from_json("agent", s)).transpose()?,
        has_agent_token: c.bool()?,
        flow: joined_flow(c, id)?,
    })
}
