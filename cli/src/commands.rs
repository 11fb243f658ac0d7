//! What commands do.

mod deploy;
mod driver;
mod node;
mod node_change;
mod node_detail;
mod port;
pub mod provision;

pub use node_change::new_node as node_body;

use std::io::Write as _;
use std::sync::Arc;

use crate::args::Command;
use crate::args::output::Output;
use crate::client::Client;
use crate::connection::Settings;
use crate::display::Display;
use crate::error::CliError;
use crate::print;
use crate::record::Record;

/// What every command needs.
pub struct Session {
    /// The service.
    pub client: Arc<Client>,
    /// Where progress is shown.
    pub display: Display,
}

impl Session {
    /// Makes it; nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, CliError> {
        let display = Display::new(settings.quiet);
        Ok(Self { client: Arc::new(Client::new(settings)?), display })
    }

    /// Prints one thing.
    pub fn show(&self, record: &Record, output: &Output) -> Result<(), CliError> {
        self.print(&print::one(record, output)?)
    }

    /// Prints a list.
    pub fn list(&self, columns: &[&str], rows: &[Record], output: &Output) -> Result<(), CliError> {
        self.print(&print::list(columns, rows, output)?)
    }

    /// Prints text as it is.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Says something on standard error, unless silence was asked for.
    pub fn note(&self, text: &str) {
        if !self.client.settings().quiet {
            eprintln!("{text}");
        }
    }
}

/// Does what was asked.
pub async fn run(session: &Session, command: Command) -> Result<(), CliError> {
    match command {
        Command::Node(command) => node::run(session, *command).await,
        Command::Port(command) => port::run(session, command).await,
        Command::Driver(command) => driver::run(session, command).await,
        Command::Conductor(command) => driver::run_conductor(session, command).await,
    }
}

/// The columns of a list: those asked for, all, or the usual ones; and what to ask the service for.
fn columns<'a>(fields: &'a [String], long: bool, all: &[&'a str], usual: &[&'a str]) -> Vec<&'a str> {
    match (fields.is_empty(), long) {
        (false, _) => fields.iter().map(String::as_str).collect(),
        (true, true) => all.to_vec(),
        (true, false) => usual.to_vec(),
    }
}
