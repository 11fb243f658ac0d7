use clap::{ArgAction, CommandFactory as _};

use super::*;

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

/// What a command takes, told as `peer.txt` tells it.
fn takes(command: &clap::Command, word: &str) -> Result<(), String> {
    if let Some(name) = word.strip_prefix("--") {
        let (name, required) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
        let (name, kind) = name.split_once('=').map_or((name, None), |(name, kind)| (name, Some(kind)));
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name)).ok_or("no such option")?;
        if arg.is_required_set() != required {
            return Err(format!("required is {}", arg.is_required_set()));
        }
        let flag = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse);
        let values = arg.get_num_args();
        let (least, most) = values.map_or((1, 1), |values| (values.min_values(), values.max_values()));
        let good = match kind {
            None => flag,
            Some("") => !flag && (least, most) == (1, 1),
            Some("?") => !flag && (least, most) == (0, 1),
            _ => !flag && least == 1 && most > 1,
        };
        return if good { Ok(()) } else { Err(format!("it takes {least} to {most} values")) };
    }
    let name = word.trim_start_matches('<').trim_end_matches(['>', '+', '*']);
    let several = word.ends_with(['+', '*']);
    let arg = command.get_positionals().find(|arg| {
        let id = arg.get_id().as_str();
        id == name || (name == "event" && id == "event")
    });
    let arg = arg.ok_or("no such argument")?;
    let takes_several = matches!(arg.get_action(), ArgAction::Append);
    if takes_several != several {
        return Err(format!("several is {takes_several}"));
    }
    if arg.is_required_set() == word.ends_with('*') {
        return Err("required differs".to_owned());
    }
    Ok(())
}

#[test]
fn every_command_takes_what_the_python_client_s_takes() {
    let mut root = Cli::command();
    root.build();
    let mut wrong = Vec::new();
    for line in include_str!("peer.txt").lines().filter(|line| !line.starts_with('#')) {
        let (path, words) = line.split_once(':').expect("a command");
        let command = path.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
        let Some(command) = command else {
            wrong.push(format!("{path}: no such command"));
            continue;
        };
        let order = |word: &&str| word.starts_with('<');
        let positions: Vec<&str> = words.split_whitespace().filter(order).collect();
        if positions.len() != command.get_positionals().count() {
            wrong.push(format!("{path}: has {} positional arguments", command.get_positionals().count()));
        }
        for word in words.split_whitespace() {
            if let Err(what) = takes(command, word) {
                wrong.push(format!("{path} {word}: {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_nodes_come_before_the_device() {
    let cli = Cli::try_parse_from(["baremetal", "node", "boot", "device", "set", "a", "b", "pxe", "--persistent"]).expect("parsed");
    let Command::Node(command) = cli.command else { panic!("a node command") };
    let node::NodeCommand::Boot(node_parts::BootCommand::Device(node_parts::BootDeviceCommand::Set { nodes, device, persistent })) =
        *command
    else {
        panic!("boot device set")
    };
    assert_eq!((nodes.join(" "), device.as_str(), persistent), ("a b".to_owned(), "pxe", true));
}

#[test]
fn options_may_be_shortened_and_connection_options_stand_anywhere() {
    let cli =
        Cli::try_parse_from(["baremetal", "node", "list", "--prov", "active", "--os-endpoint", "http://x", "-f", "json"]).expect("parsed");
    assert_eq!(cli.connection.os_endpoint.as_deref(), Some("http://x"));
}
