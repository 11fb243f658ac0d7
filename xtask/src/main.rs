//! The workspace's own tool: `cargo xtask setup | demo | test | ramdisk | bench | check | lab`.
//!
//! It builds and starts programs as a person would and looks at what they do; no crate that is
//! shipped is linked into it. Start reading at [`demo`] for the main job, at [`suite`] for what CI
//! runs.

mod arrows;
mod bench_api;
mod bench_lab;
mod conformance;
mod demo;
mod discovery;
mod measure;
mod ramdisk;
mod suite;
mod tempest;

use std::path::PathBuf;

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
    /// Run the checks and tests that every change must pass (below 20 minutes from cold)
    Test {
        /// Also every peer and every QEMU path
        #[arg(long)]
        all: bool,
    },
    /// Take two bare machines through their whole life, with everything checked from the host
    Demo(demo::DemoArgs),
    /// Format, lints, dependency arrows, licences
    Check,
    /// Measure what docs/benchmarks.md tells, beside goals and peers
    Bench {
        /// Only these figures
        #[arg(value_enum)]
        figures: Vec<measure::Figure>,
    },
    /// Hold the recorded conversations with the reference implementation of the API with our server
    Conformance {
        /// A running server with no resources, `http://HOST:PORT`, used for all of them [default: a fresh `serve --dev` for each]
        #[arg(long)]
        url: Option<String>,
        /// Only these recordings
        only: Vec<String>,
    },
    /// Run the acceptance suite of Ironic's API with our daemon and a real Keystone (all from PyPI, on the first run)
    Tempest {
        /// Only tests that match this regular expression [default: all of the API]
        filter: Option<String>,
    },
    /// A part of `bench` that runs in a lab
    #[command(hide = true)]
    BenchInLab { part: String },
    /// Build kernel and ramdisk from Debian's packages and our agent
    Ramdisk {
        /// For virtual machines only (small); without it, all drivers that real servers need
        #[arg(long)]
        minimal: bool,
        /// Folder for `vmlinuz`, `ramdisk.img`, `manifest.json` [default: target/ramdisk/<set>]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Compression of the ramdisk
        #[arg(long, value_enum, default_value = "zstd")]
        compression: ramdisk::Compression,
        /// PEM file of authorities that the agent trusts for HTTPS
        #[arg(long)]
        ca: Option<PathBuf>,
    },
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

fn build_ramdisk(options: &ramdisk::Options) -> Result<()> {
    let files = ramdisk::build(options)?;
    for file in [&files.manifest.kernel, &files.manifest.ramdisk] {
        println!("{:>12} bytes  {}", file.size, options.out.join(&file.file).display());
    }
    Ok(())
}

fn image(spec: ImageSpec) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&TestImage::build(&spec)?)?);
    Ok(())
}

fn main() {
    let result = match Cli::parse().task {
        Task::Setup => bessemer_lab::setup::all(),
        Task::Test { all } => suite::test(all),
        Task::Demo(args) => demo::run(&args),
        Task::Check => suite::check(),
        Task::Ramdisk { minimal, out, compression, ca } => {
            let set = if minimal { ramdisk::Set::Minimal } else { ramdisk::Set::Full };
            let usual = ramdisk::Options::new(set);
            build_ramdisk(&ramdisk::Options { out: out.unwrap_or(usual.out), compression, ca, ..usual })
        }
        Task::Bench { figures } => measure::run_figures(&figures),
        Task::Conformance { url, only } => conformance::run(url.as_deref(), &only),
        Task::Tempest { filter } => tempest::run(filter.as_deref()),
        Task::BenchInLab { part } => measure::part_in_lab(&part),
        Task::Lab(task) => bench_lab::run(task),
        Task::Image { id, pad_mib, secure_boot } => image(ImageSpec { id, pad_mib, secure_boot }),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
