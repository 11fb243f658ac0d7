//! The workspace's own tool: `cargo xtask setup | demo | test | ramdisk | bench | check | lab`.
//!
//! It builds and starts programs as a person would and looks at what they do; no crate that is
//! shipped is linked into it. Start reading at [`demo`] for the main job, at [`suite`] for what CI
//! runs.

mod bench_lab;

use anyhow::Result;
use bessemer_lab::image::{ImageSpec, TestImage};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, shows and tests this workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the other tasks need (Debian packages, Rust target, Python environments)
    Setup,
    /// Machines with BMCs, kept running for manual work
    #[command(subcommand)]
    Lab(bench_lab::LabTask),
    /// Build the operating system image that tests deploy and print where it is
    Image {
        /// Identity that its banner tells
        #[arg(long, default_value = "demo")]
        id: String,
        /// Incompressible data to add, in MiB
        #[arg(long, default_value_t = 0)]
        pad_mib: u64,
        /// Start by Debian's signed shim and GRUB
        #[arg(long)]
        secure_boot: bool,
    },
}

fn image(spec: ImageSpec) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&TestImage::build(&spec)?)?);
    Ok(())
}

fn main() {
    let result = match Cli::parse().task {
        Task::Setup => bessemer_lab::setup::all(),
        Task::Lab(task) => bench_lab::run(task),
        Task::Image { id, pad_mib, secure_boot } => image(ImageSpec { id, pad_mib, secure_boot }),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
