//! `bessemer`: the daemon. The only place that builds everything together.

mod access;
mod catalogue;
mod options;
mod peers;
mod serve;
mod tls;

use std::{io::IsTerminal, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use options::Options;

/// Bare-metal provisioning: API, conductor and boot services in one process.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(Serve),
    /// Print every option with its default and meaning.
    Options,
}

#[derive(Args)]
struct Serve {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For development: no authentication, SQLite in the state folder, fake hardware, no automated cleaning, no power sync.
    #[arg(long)]
    dev: bool,
    /// Address and port of the API.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Folder of the database, the seal key and the cache.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Sets one option; may be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Options => {
            print!("{}", options::reference());
            Ok(())
        }
        Command::Serve(args) => serve_command(args),
    }
}

fn serve_command(args: Serve) -> Result<()> {
    let file = args
        .config
        .as_ref()
        .map(|p| std::fs::read_to_string(p).with_context(|| format!("configuration file {}", p.display())))
        .transpose()?;
    let mut set = args.set;
    if let Some(l) = args.listen {
        set.push(format!("api.host_ip={}", l.ip()));
        set.push(format!("api.port={}", l.port()));
    }
    if let Some(d) = args.state_dir {
        set.push(format!("conductor.state_dir={}", d.display()));
    }
    let mut options = Options::read(file.as_deref(), std::env::vars(), &set)?;
    if args.dev {
        catalogue::development(&mut options);
    }
    start_logging(&options)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?.block_on(serve::serve(options))
}

fn start_logging(options: &Options) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(options.text("DEFAULT", "log_level")).context("[DEFAULT] log_level")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    if options.text("DEFAULT", "log_format") == "json" {
        log.json().init()
    } else {
        log.init()
    }
    Ok(())
}
