//! Power, boot, maintenance, validation, history, inventory, traits and the other parts of a node.

use serde_json::{Value, json};

use crate::args::node::One;
use crate::args::node_parts::{
    BiosCommand, BiosSettingCommand, ChildrenCommand, ConsoleCommand, FirmwareCommand, HistoryCommand, InjectCommand, InventoryCommand,
    MaintenanceCommand, PassthruCommand, PowerArgs, PowerCommand, Reboot, RemoveTraits, Traits, VifCommand,
};
use crate::client::Request;
use crate::error::CliError;
use crate::print::python;
use crate::record::Record;
use crate::{fields, pairs};

use super::{Session, columns, driver};

/// `node power …`.
pub async fn power(session: &Session, command: PowerCommand) -> Result<(), CliError> {
    let (args, target) = match command {
        PowerCommand::On(args) => (args, "power on"),
        PowerCommand::Off(args) if args.soft => (args.power, "soft power off"),
        PowerCommand::Off(args) => (args.power, "power off"),
    };
    set_power(session, &args, target).await
}

/// `node reboot`.
pub async fn reboot(session: &Session, args: Reboot) -> Result<(), CliError> {
    set_power(session, &args.power, if args.soft { "soft rebooting" } else { "rebooting" }).await
}

async fn set_power(session: &Session, args: &PowerArgs, target: &str) -> Result<(), CliError> {
    let mut body = json!({"target": target});
    if let Some(timeout) = args.power_timeout {
        body["timeout"] = timeout.into();
    }
    for node in &args.nodes.nodes {
        session.client.put(&["nodes", node, "states", "power"], &body).await?;
    }
    Ok(())
}

/// `node boot mode set` and `node secure boot …`.
pub async fn state(session: &Session, nodes: &[String], name: &str, target: Value) -> Result<(), CliError> {
    let body = json!({"target": target});
    for node in nodes {
        session.client.put(&["nodes", node, "states", name], &body).await?;
    }
    Ok(())
}

/// `node boot device set`.
pub async fn set_boot_device(session: &Session, nodes: &[String], device: &str, persistent: bool) -> Result<(), CliError> {
    let body = json!({"boot_device": device, "persistent": persistent});
    for node in nodes {
        session.client.put(&["nodes", node, "management", "boot_device"], &body).await?;
    }
    Ok(())
}

/// `node boot device show`.
pub async fn boot_device(session: &Session, one: One, supported: bool) -> Result<(), CliError> {
    let mut path = vec!["nodes", one.node.as_str(), "management", "boot_device"];
    if supported {
        path.push("supported");
    }
    let record = session.client.get(Request::to(&path)).await?;
    session.show(&joined(record).sorted(), &one.output)
}

/// Lists as text with commas.
pub fn joined(mut record: Record) -> Record {
    for (_, value) in &mut record.0 {
        if let Value::Array(items) = value {
            *value = items.iter().map(python).collect::<Vec<_>>().join(", ").into();
        }
    }
    record
}

/// `node maintenance …`.
pub async fn maintenance(session: &Session, command: MaintenanceCommand) -> Result<(), CliError> {
    match command {
        MaintenanceCommand::Set { nodes, reason } => {
            let body = json!({"reason": reason});
            for node in &nodes.nodes {
                session.client.put(&["nodes", node, "maintenance"], &body).await?;
            }
        }
        MaintenanceCommand::Unset(nodes) => {
            for node in &nodes.nodes {
                session.client.delete(&["nodes", node, "maintenance"]).await?;
            }
        }
    }
    Ok(())
}

/// `node validate`.
pub async fn validate(session: &Session, one: One) -> Result<(), CliError> {
    let answer = session.client.get(Request::to(&["nodes", &one.node, "validate"])).await?.sorted();
    let row = |(name, value): (String, Value)| {
        let of = |part: &str| value.get(part).cloned().unwrap_or_else(|| "".into());
        Record(vec![("Interface".into(), name.into()), ("Result".into(), of("result")), ("Reason".into(), of("reason"))])
    };
    let rows: Vec<Record> = answer.0.into_iter().map(row).collect();
    session.list(&["Interface", "Result", "Reason"], &rows, &one.output)
}

/// `node history …`.
pub async fn history(session: &Session, command: HistoryCommand) -> Result<(), CliError> {
    match command {
        HistoryCommand::List { long, one } => {
            let mut request = Request::to(&["nodes", &one.node, "history"]);
            if long {
                request = request.query("detail", "True");
            }
            let rows = session.client.list(request, "history", None).await?;
            session.list(&columns(&[], long, fields::HISTORY_LONG, fields::HISTORY), &rows, &one.output)
        }
        HistoryCommand::Get { node, event, output } => {
            let event = session.client.get(Request::to(&["nodes", &node, "history", &event])).await?;
            session.show(&event.without(&["links"]), &output)
        }
    }
}

/// `node inventory save`.
pub async fn inventory(session: &Session, command: InventoryCommand) -> Result<(), CliError> {
    let InventoryCommand::Save { node, file } = command;
    let inventory = session.client.get(Request::to(&["nodes", &node, "inventory"])).await?;
    let output = crate::args::output::Output { format: crate::args::output::Format::Json, ..Default::default() };
    let text = crate::print::one(&inventory, &output)?;
    match file {
        Some(path) => std::fs::write(&path, text).map_err(|e| CliError::File { path, what: e.to_string() }),
        None => session.print(&text),
    }
}

/// `node trait list`.
pub async fn traits(session: &Session, one: One) -> Result<(), CliError> {
    let answer = session.client.get(Request::to(&["nodes", &one.node, "traits"])).await?;
    session.list(&["traits"], &column(&answer, "traits"), &one.output)
}

fn column(answer: &Record, name: &str) -> Vec<Record> {
    let items = answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().map(|item| Record(vec![(name.into(), item)])).collect()
}

/// `node trait add`.
pub async fn add_traits(session: &Session, args: Traits) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for name in &args.traits {
        match session.client.put_empty(&["nodes", &args.node, "traits", name]).await {
            Ok(()) => session.print(&format!("Added trait {name}\n"))?,
            Err(error) => failures.push(error),
        }
    }
    CliError::gather(failures)
}

/// `node trait remove`.
pub async fn remove_traits(session: &Session, args: RemoveTraits) -> Result<(), CliError> {
    if args.all {
        return session.client.delete(&["nodes", &args.node, "traits"]).await;
    }
    let mut failures = Vec::new();
    for name in &args.traits {
        match session.client.delete(&["nodes", &args.node, "traits", name]).await {
            Ok(()) => session.print(&format!("Removed trait {name}\n"))?,
            Err(error) => failures.push(error),
        }
    }
    CliError::gather(failures)
}

/// `node console …`.
pub async fn console(session: &Session, command: ConsoleCommand) -> Result<(), CliError> {
    let (nodes, enabled) = match command {
        ConsoleCommand::Show(one) => {
            let console = session.client.get(Request::to(&["nodes", &one.node, "states", "console"])).await?;
            return session.show(&console.sorted(), &one.output);
        }
        ConsoleCommand::Enable(nodes) => (nodes, true),
        ConsoleCommand::Disable(nodes) => (nodes, false),
    };
    for node in &nodes.nodes {
        session.client.put(&["nodes", node, "states", "console"], &json!({"enabled": enabled})).await?;
    }
    Ok(())
}

/// `node vif …`.
pub async fn vif(session: &Session, command: VifCommand) -> Result<(), CliError> {
    match command {
        VifCommand::List(one) => {
            let rows = session.client.list(Request::to(&["nodes", &one.node, "vifs"]), "vifs", None).await?;
            session.list(&["id"], &rows, &one.output)
        }
        VifCommand::Attach { node, vif_id, port_uuid, portgroup_uuid, vif_info } => {
            let mut body = pairs::object(&vif_info)?;
            if body.insert("id".into(), vif_id.into()).is_some() {
                return Err(CliError::Usage("--vif-info cannot hold `id`: it is the VIF itself".into()));
            }
            for (name, value) in [("port_uuid", port_uuid), ("portgroup_uuid", portgroup_uuid)] {
                if let Some(value) = value {
                    body.insert(name.into(), value.into());
                }
            }
            session.client.post(&["nodes", &node, "vifs"], &body.into()).await.map(drop)
        }
        VifCommand::Detach { node, vif_id } => session.client.delete(&["nodes", &node, "vifs", &vif_id]).await,
    }
}

/// `node bios …`.
pub async fn bios(session: &Session, command: BiosCommand) -> Result<(), CliError> {
    match command {
        BiosCommand::Setting(BiosSettingCommand::List { long, fields: named, one }) => {
            let named = fields::named(&named);
            let mut request = Request::to(&["nodes", &one.node, "bios"]).fields(&named);
            if long {
                request = request.query("detail", "True");
            }
            let rows = session.client.list(request, "bios", None).await?;
            session.list(&columns(&named, long, fields::BIOS_LONG, fields::BIOS), &rows, &one.output)
        }
        BiosCommand::Setting(BiosSettingCommand::Show { node, setting_name, output }) => {
            let answer = session.client.get(Request::to(&["nodes", &node, "bios", &setting_name])).await?;
            let setting = answer.get(&setting_name).cloned().unwrap_or_default();
            let setting: Record = serde_json::from_value(setting)
                .map_err(|e| CliError::NotTheApi { url: session.client.settings().endpoint.to_string(), why: e.to_string() })?;
            session.show(&setting.without(&["links"]), &output)
        }
    }
}

/// `node firmware list`.
pub async fn firmware(session: &Session, command: FirmwareCommand) -> Result<(), CliError> {
    let FirmwareCommand::List(one) = command;
    let rows = session.client.list(Request::to(&["nodes", &one.node, "firmware"]), "firmware", None).await?;
    session.list(fields::FIRMWARE, &rows, &one.output)
}

/// `node children list`.
pub async fn children(session: &Session, command: ChildrenCommand) -> Result<(), CliError> {
    let ChildrenCommand::List(one) = command;
    let answer = session.client.get(Request::to(&["nodes", &one.node, "children"])).await?;
    session.list(&["children"], &column(&answer, "children"), &one.output)
}

/// `node passthru …`.
pub async fn passthru(session: &Session, command: PassthruCommand) -> Result<(), CliError> {
    match command {
        PassthruCommand::List(one) => {
            let methods = session.client.get(Request::to(&["nodes", &one.node, "vendor_passthru", "methods"])).await?;
            session.list(fields::PASSTHRU, &driver::methods(methods), &one.output)
        }
        PassthruCommand::Call { node, call } => driver::call(session, "nodes", &node, call).await,
    }
}

/// `node inject nmi`.
pub async fn inject(session: &Session, command: InjectCommand) -> Result<(), CliError> {
    let InjectCommand::Nmi(nodes) = command;
    for node in &nodes.nodes {
        session.client.put(&["nodes", node, "management", "inject_nmi"], &json!({})).await?;
    }
    Ok(())
}
