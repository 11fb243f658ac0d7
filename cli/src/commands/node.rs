//! `node …`: dispatch, and what is asked about nodes.

use crate::args::node::{List, NodeCommand, Show};
use crate::args::node_parts::{
    AddCommand, BootCommand, BootDeviceCommand, BootModeCommand, RemoveCommand, SecureBootCommand, SecureCommand, TraitCommand,
};
use crate::client::Request;
use crate::error::CliError;
use crate::fields;
use crate::print;

use super::{Session, columns, deploy, node_change, node_detail, provision};

/// Does it.
pub async fn run(session: &Session, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::Enroll(args) => crate::enroll::run(session, args).await,
        NodeCommand::Create(args) => node_change::create(session, args).await,
        NodeCommand::List(args) => list(session, args).await,
        NodeCommand::Show(args) => show(session, args).await,
        NodeCommand::Set(args) => node_change::set(session, *args).await,
        NodeCommand::Unset(args) => node_change::unset(session, *args).await,
        NodeCommand::Delete(nodes) => node_change::delete(session, &nodes.nodes).await,
        NodeCommand::Manage(verb) => provision::verb(session, &provision::MANAGE, verb).await,
        NodeCommand::Provide(verb) => provision::verb(session, &provision::PROVIDE, verb).await,
        NodeCommand::Inspect(verb) => provision::verb(session, &provision::INSPECT, verb).await,
        NodeCommand::Undeploy(verb) => provision::verb(session, &provision::UNDEPLOY, verb).await,
        NodeCommand::Adopt(verb) => provision::verb(session, &provision::ADOPT, verb).await,
        NodeCommand::Unrescue(verb) => provision::verb(session, &provision::UNRESCUE, verb).await,
        NodeCommand::Abort(nodes) => provision::plain(session, "abort", &nodes.nodes).await,
        NodeCommand::Unhold(nodes) => provision::plain(session, "unhold", &nodes.nodes).await,
        NodeCommand::Clean(args) => provision::clean(session, args).await,
        NodeCommand::Service(args) => provision::service(session, args).await,
        NodeCommand::Rescue(args) => provision::rescue(session, args).await,
        NodeCommand::Deploy(args) => deploy::deploy(session, *args).await,
        NodeCommand::Rebuild(args) => deploy::rebuild(session, args).await,
        NodeCommand::Retire(args) => node_change::retire(session, args).await,
        NodeCommand::Power(command) => node_detail::power(session, command).await,
        NodeCommand::Reboot(args) => node_detail::reboot(session, args).await,
        NodeCommand::Boot(BootCommand::Device(BootDeviceCommand::Set { nodes, device, persistent })) => {
            node_detail::set_boot_device(session, &nodes, &device, persistent).await
        }
        NodeCommand::Boot(BootCommand::Device(BootDeviceCommand::Show { supported, one })) => {
            node_detail::boot_device(session, one, supported).await
        }
        NodeCommand::Boot(BootCommand::Mode(BootModeCommand::Set { nodes, boot_mode })) => {
            node_detail::state(session, &nodes, "boot_mode", boot_mode.into()).await
        }
        NodeCommand::Secure(SecureCommand::Boot(SecureBootCommand::On(nodes))) => {
            node_detail::state(session, &nodes.nodes, "secure_boot", true.into()).await
        }
        NodeCommand::Secure(SecureCommand::Boot(SecureBootCommand::Off(nodes))) => {
            node_detail::state(session, &nodes.nodes, "secure_boot", false.into()).await
        }
        NodeCommand::Maintenance(command) => node_detail::maintenance(session, command).await,
        NodeCommand::Validate(one) => node_detail::validate(session, one).await,
        NodeCommand::History(command) => node_detail::history(session, command).await,
        NodeCommand::Inventory(command) => node_detail::inventory(session, command).await,
        NodeCommand::Trait(TraitCommand::List(one)) => node_detail::traits(session, one).await,
        NodeCommand::Trait(TraitCommand::Add(traits)) | NodeCommand::Add(AddCommand::Trait(traits)) => {
            node_detail::add_traits(session, traits).await
        }
        NodeCommand::Trait(TraitCommand::Remove(traits)) | NodeCommand::Remove(RemoveCommand::Trait(traits)) => {
            node_detail::remove_traits(session, traits).await
        }
        NodeCommand::Console(command) => node_detail::console(session, command).await,
        NodeCommand::Vif(command) => node_detail::vif(session, command).await,
        NodeCommand::Bios(command) => node_detail::bios(session, command).await,
        NodeCommand::Firmware(command) => node_detail::firmware(session, command).await,
        NodeCommand::Children(command) => node_detail::children(session, command).await,
        NodeCommand::Passthru(command) => node_detail::passthru(session, command).await,
        NodeCommand::Inject(command) => node_detail::inject(session, command).await,
    }
}

/// The request of `node list`, without page limits.
fn list_request<'a>(args: &'a List, fields: &[String]) -> Request<'a> {
    let mut request = Request::to(&["nodes"]).fields(fields);
    if args.long {
        request = request.query("detail", "True");
    }
    let flags = [
        ("maintenance", args.maintenance, args.no_maintenance),
        ("retired", args.retired, args.no_retired),
        ("associated", args.associated, args.unassociated),
        ("sharded", args.sharded, args.unsharded),
        ("include_children", args.include_children, false),
    ];
    for (name, yes, no) in flags {
        if yes || no {
            request = request.query(name, if yes { "True" } else { "False" });
        }
    }
    let texts = [
        ("marker", &args.marker),
        ("fault", &args.fault),
        ("conductor_group", &args.conductor_group),
        ("provision_state", &args.provision_state),
        ("driver", &args.driver),
        ("resource_class", &args.resource_class),
        ("chassis_uuid", &args.chassis),
        ("conductor", &args.conductor),
        ("owner", &args.owner),
        ("lessee", &args.lessee),
        ("description_contains", &args.description_contains),
        ("parent_node", &args.parent_node),
        ("instance_name", &args.instance_name),
    ];
    for (name, value) in texts {
        // An empty conductor group is a group; any other empty filter is none.
        if let Some(value) = value.as_ref().filter(|value| name == "conductor_group" || !value.is_empty()) {
            request = request.query(name, value);
        }
    }
    if !args.shards.is_empty() {
        request = request.query("shard", args.shards.join(","));
    }
    request
}

async fn list(session: &Session, args: List) -> Result<(), CliError> {
    let named = fields::named(&args.fields);
    let mut rows = session.client.list(list_request(&args, &named), "nodes", args.limit).await?;
    print::sort(&mut rows, args.sort.as_deref())?;
    session.list(&columns(&named, args.long, fields::NODE_LONG, fields::NODE), &rows, &args.output)
}

async fn show(session: &Session, args: Show) -> Result<(), CliError> {
    let named = fields::named(&args.fields);
    let mut node = if args.instance {
        let request = Request::to(&["nodes"]).query("instance_uuid", &args.node);
        let request = if named.is_empty() { request.query("detail", "True") } else { request.fields(&named) };
        let found = session.client.list(request, "nodes", None).await?;
        found.into_iter().next().ok_or_else(|| CliError::Failed(format!("no node carries instance {}", args.node)))?
    } else {
        session.client.get(Request::to(&["nodes", &args.node]).fields(&named)).await?
    };
    node = node.without(fields::NODE_LINKS);
    if named.is_empty() && node.get("chassis_uuid").is_none() {
        node.set("chassis_uuid", "".into());
    }
    session.show(&node, &args.output)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn query(line: &str) -> Vec<(String, String)> {
        let cli = Cli::try_parse_from(["baremetal", "node", "list"].into_iter().chain(line.split_whitespace())).expect("parsed");
        let Command::Node(command) = cli.command else { panic!("a node command") };
        let NodeCommand::List(args) = *command else { panic!("a list") };
        let named = fields::named(&args.fields);
        list_request(&args, &named).query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn list_filters_become_the_service_s_own() {
        assert_eq!(query(""), pairs(&[]));
        assert_eq!(query("--no-maintenance --retired"), pairs(&[("maintenance", "False"), ("retired", "True")]));
        assert_eq!(query("--unassociated --driver ipmi"), pairs(&[("associated", "False"), ("driver", "ipmi")]));
        assert_eq!(query("--fields uuid name --fields name"), pairs(&[("fields", "uuid,name")]));
        assert_eq!(query("--long --shards a b"), pairs(&[("detail", "True"), ("shard", "a,b")]));
        assert_eq!(query("--chassis X --conductor-group="), pairs(&[("conductor_group", ""), ("chassis_uuid", "X")]));
    }
}
