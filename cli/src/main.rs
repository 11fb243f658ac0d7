//! `baremetal`: the operator's command line of a bare metal service.
//!
//! Start reading at [`args`] (what can be said) and [`commands`] (what is done then). It speaks to the service by its API
//! only, and never to machines.

mod args;
mod client;
mod commands;
mod config_drive;
mod connection;
mod display;
mod enroll;
mod error;
mod fields;
mod hints;
mod inventory;
mod pairs;
mod print;
mod record;
mod structured;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::commands::Session;
use crate::connection::{Settings, Surroundings};
use crate::error::CliError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("baremetal: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ CliError::Usage(_)) => {
            eprintln!("baremetal: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("baremetal: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let settings = Settings::resolve(&cli.connection, &Surroundings::of_process())?;
    let session = Session::new(settings)?;
    commands::run(&session, cli.command).await
}
