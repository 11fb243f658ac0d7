//! The `--KIND-interface` options, one per kind of interface, made from one table.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// A kind of interface and its options.
#[derive(Debug)]
pub struct Kind {
    /// Name of the field of a node.
    pub field: &'static str,
    set: &'static str,
    reset: &'static str,
    help: &'static str,
    reset_help: &'static str,
}

macro_rules! kinds {
    ($($kind:literal),*) => { &[$(Kind {
        field: concat!($kind, "_interface"),
        set: concat!($kind, "-interface"),
        reset: concat!("reset-", $kind, "-interface"),
        help: concat!("Implementation of the ", $kind, " interface"),
        reset_help: concat!("Go back to the hardware type's own ", $kind, " interface"),
    }),*] };
}

/// All of them.
pub const KINDS: &[Kind] = kinds!(
    "bios",
    "boot",
    "console",
    "deploy",
    "firmware",
    "inspect",
    "management",
    "network",
    "power",
    "raid",
    "rescue",
    "storage",
    "vendor"
);

/// Interfaces named on the command line: field and implementation.
#[derive(Debug, Clone, Default)]
pub struct Interfaces(pub Vec<(&'static str, String)>);

/// Interfaces that are set (`Some`) or given back to the hardware type's choice (`None`).
#[derive(Debug, Clone, Default)]
pub struct InterfaceChanges(pub Vec<(&'static str, Option<String>)>);

fn setter(kind: &Kind) -> Arg {
    Arg::new(kind.set).long(kind.set).value_name("NAME").help(kind.help).help_heading("Interfaces")
}

impl Args for Interfaces {
    fn augment_args(cmd: Command) -> Command {
        cmd.args(KINDS.iter().map(setter))
    }
    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl FromArgMatches for Interfaces {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = KINDS.iter().filter_map(|k| matches.get_one::<String>(k.set).map(|v| (k.field, v.clone())));
        Ok(Self(named.collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for InterfaceChanges {
    fn augment_args(cmd: Command) -> Command {
        KINDS.iter().fold(cmd, |cmd, kind| {
            let reset = Arg::new(kind.reset)
                .long(kind.reset)
                .action(ArgAction::SetTrue)
                .conflicts_with(kind.set)
                .help(kind.reset_help)
                .help_heading("Interfaces");
            cmd.arg(setter(kind)).arg(reset)
        })
    }
    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl FromArgMatches for InterfaceChanges {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let changes = KINDS.iter().filter_map(|kind| {
            if let Some(name) = matches.get_one::<String>(kind.set) {
                return Some((kind.field, Some(name.clone())));
            }
            matches.get_flag(kind.reset).then_some((kind.field, None))
        });
        Ok(Self(changes.collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
