//! The workspace's own tool: `cargo xtask setup | demo | test | ramdisk | bench | check | lab`.
//!
//! It builds and starts programs as a person would and looks at what they do; no crate that is
//! shipped is linked into it. Start reading at [`demo`] for the main job, at [`suite`] for what CI
//! runs.

mod bench_lab;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, shows and tests this workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Machines with BMCs, kept running for manual work
    #[command(subcommand)]
    Lab(bench_lab::LabTask),
}

fn main() {
    let result = match Cli::parse().task {
        Task::Lab(task) => bench_lab::run(task),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
