//! `port …`.

use serde_json::{Map, Value};

use crate::args::other::{PortCommand, PortCreate, PortList, PortSet, PortShow, PortUnset};
use crate::args::output::Format;
use crate::client::Request;
use crate::error::CliError;
use crate::pairs::{self, Patch};
use crate::record::Record;
use crate::{fields, print};

use super::{Session, columns};

/// Does it.
pub async fn run(session: &Session, command: PortCommand) -> Result<(), CliError> {
    match command {
        PortCommand::Create(args) => create(session, *args).await,
        PortCommand::List(args) => list(session, args).await,
        PortCommand::Show(args) => show(session, args).await,
        PortCommand::Set(args) => set(session, *args).await,
        PortCommand::Unset(args) => unset(session, args).await,
        PortCommand::Delete { ports } => {
            let mut failures = Vec::new();
            for port in &ports {
                match session.client.delete(&["ports", port]).await {
                    Ok(()) => session.print(&format!("Deleted port {port}\n"))?,
                    Err(error) => failures.push(error),
                }
            }
            CliError::gather(failures)
        }
    }
}

fn new_port(args: &PortCreate, node_uuid: &str) -> Result<Value, CliError> {
    let mut body = Map::new();
    body.insert("address".into(), args.address.clone().into());
    body.insert("node_uuid".into(), node_uuid.into());
    let texts = [
        ("uuid", &args.uuid),
        ("portgroup_uuid", &args.portgroup_uuid),
        ("physical_network", &args.physical_network),
        ("name", &args.name),
        ("description", &args.description),
        ("vendor", &args.vendor),
        ("category", &args.category),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            body.insert(name.into(), value.clone().into());
        }
    }
    if let Some(text) = &args.pxe_enabled {
        let value = match text.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "on" | "y" | "yes" => true,
            "0" | "f" | "false" | "off" | "n" | "no" => false,
            _ => return Err(CliError::Usage(format!("--pxe-enabled: `{text}` is neither true nor false"))),
        };
        body.insert("pxe_enabled".into(), value.into());
    }
    if args.is_smartnic {
        body.insert("is_smartnic".into(), true.into());
    }
    for (name, members) in [("extra", &args.extra), ("local_link_connection", &args.local_link_connection)] {
        if !members.is_empty() {
            body.insert(name.into(), pairs::object(members)?.into());
        }
    }
    Ok(body.into())
}

async fn create(session: &Session, args: PortCreate) -> Result<(), CliError> {
    // The service takes a UUID only, in versions that this program also speaks.
    let node = if looks_like_uuid(&args.node_uuid) {
        args.node_uuid.clone()
    } else {
        let node = session.client.get(Request::to(&["nodes", &args.node_uuid]).query("fields", "uuid")).await?;
        node.text("uuid").map_or_else(|| args.node_uuid.clone(), str::to_owned)
    };
    let port = session.client.post(&["ports"], &new_port(&args, &node)?).await?;
    let shown = fields::PORT_LONG.iter().map(|&name| (name.to_owned(), port.get(name).cloned().unwrap_or_else(|| "".into())));
    session.show(&Record(shown.collect()), &args.output)
}

/// Whether text has the form of a UUID.
pub fn looks_like_uuid(text: &str) -> bool {
    text.len() == 36 && text.char_indices().all(|(at, c)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() })
}

async fn list(session: &Session, args: PortList) -> Result<(), CliError> {
    let named = fields::named(&args.fields);
    let mut request = Request::to(&["ports"]).fields(&named);
    if args.long {
        request = request.query("detail", "True");
    }
    let filters = [("address", &args.address), ("node", &args.node), ("portgroup", &args.portgroup), ("marker", &args.marker)];
    for (name, value) in filters {
        if let Some(value) = value {
            request = request.query(name, value);
        }
    }
    let mut rows = session.client.list(request, "ports", args.limit).await?;
    print::sort(&mut rows, args.sort.as_deref())?;
    if matches!(args.output.format, Format::Table | Format::Value | Format::Csv) {
        for row in &mut rows {
            if let Some(Value::Object(members)) = row.get("extra").cloned() {
                row.set("extra", print::pairs(&members, "").into());
            }
        }
    }
    session.list(&columns(&named, args.long, fields::PORT_LONG, fields::PORT), &rows, &args.output)
}

async fn show(session: &Session, args: PortShow) -> Result<(), CliError> {
    let named = fields::named(&args.fields);
    let port = if args.address {
        let request = Request::to(&["ports"]).query("address", &args.port);
        let request = if named.is_empty() { request.query("detail", "True") } else { request.fields(&named) };
        let found = session.client.list(request, "ports", None).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| CliError::Failed(format!("no port has address {}; `baremetal port list` shows all", args.port)))?
    } else {
        session.client.get(Request::to(&["ports", &args.port]).fields(&named)).await?
    };
    session.show(&port.without(&["links"]).sorted(), &args.output)
}

async fn set(session: &Session, args: PortSet) -> Result<(), CliError> {
    let mut patch = Patch::default();
    let texts = [
        ("node_uuid", &args.node_uuid),
        ("address", &args.address),
        ("portgroup_uuid", &args.portgroup_uuid),
        ("physical_network", &args.physical_network),
        ("name", &args.name),
        ("description", &args.description),
        ("vendor", &args.vendor),
        ("category", &args.category),
    ];
    for (field, value) in texts {
        patch.set_some(field, value.as_ref());
    }
    patch.set_members("extra", pairs::object(&args.extra)?);
    patch.set_members("local_link_connection", pairs::object(&args.local_link_connection)?);
    if args.pxe_enabled || args.pxe_disabled {
        patch.set("pxe_enabled", args.pxe_enabled);
    }
    if args.is_smartnic {
        patch.set("is_smartnic", true);
    }
    change(session, &args.port, patch, "set").await
}

async fn unset(session: &Session, args: PortUnset) -> Result<(), CliError> {
    let mut patch = Patch::default();
    patch.remove_members("extra", &args.extra);
    patch.remove_members("local_link_connection", &args.local_link_connection);
    let fields = [
        ("portgroup_uuid", args.portgroup),
        ("physical_network", args.physical_network),
        ("name", args.name),
        ("description", args.description),
        ("vendor", args.vendor),
        ("category", args.category),
    ];
    for (field, _) in fields.iter().filter(|(_, wanted)| *wanted) {
        patch.remove(field);
    }
    if args.is_smartnic {
        patch.set("is_smartnic", false);
    }
    change(session, &args.port, patch, "unset").await
}

async fn change(session: &Session, port: &str, patch: Patch, verb: &str) -> Result<(), CliError> {
    if patch.is_empty() {
        session.note(&format!("Nothing to {verb} was given; `baremetal port {verb} --help` tells what there is."));
        return Ok(());
    }
    session.client.patch(Request::to(&["ports", port]).body(&patch.body())).await
}
