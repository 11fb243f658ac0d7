//! `cargo xtask demo`: the main job on two bare machines at once, checked from the host.
//!
//! Outside of the lab it prepares (set-up, builds, images); inside it starts the daemon and the
//! machines and lets each live its whole life. Everything ends with the lab.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bessemer_lab::api::Api;
use bessemer_lab::cli::Baremetal;
use bessemer_lab::daemon::{Daemon, Settings};
use bessemer_lab::foreign::Foreign;
use bessemer_lab::image::{Form, ImageSpec, TestImage};
use bessemer_lab::imageserver::{Behaviour, ImageServer};
use bessemer_lab::life::{Driver, Life, Order};
use bessemer_lab::machines::{Firmware, MachineSpec};
use bessemer_lab::netns::ADDRESS;
use bessemer_lab::operator::Operator;
use bessemer_lab::postgres::Postgres;
use bessemer_lab::{Bench, Lab, enter, setup, tool};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::measure::program;
use crate::{discovery, ramdisk};

/// What the demo is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Whole-disk image to deploy instead of the built-in test image
    #[arg(long, requires = "expect")]
    image: Option<PathBuf>,
    /// Text on the serial console that tells that this image runs
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    expect: Option<String>,
    /// Who gives the orders
    #[arg(long, value_enum, default_value = "ours")]
    by: By,
    /// Run only the machine of this name (`bios` or `uefi`)
    #[arg(long)]
    only: Option<String>,
    /// Boot the UEFI machine's ramdisk from virtual media instead of the network
    #[arg(long)]
    virtual_media: bool,
    /// Keep the daemon's data in a private PostgreSQL instead of SQLite
    #[arg(long)]
    postgres: bool,
    /// Instead of lives: switch machines on that nobody enrolled, and see them become nodes
    #[arg(long)]
    discover: bool,
    /// Leave addresses to a foreign DHCP server on the same network; the daemon only tells boot files
    #[arg(long)]
    foreign_dhcp: bool,
    /// Boot the full ramdisk with its modules and firmware files for real servers
    #[arg(long)]
    full: bool,
    /// Let cleaning overwrite whole disks (minutes) instead of what tells their content
    #[arg(long)]
    overwrite: bool,
    /// Build nothing: take the programs and the ramdisk as they are
    #[arg(long)]
    reuse: bool,
    /// Build the ramdisk and the image, but not the daemon and the command line
    #[arg(long, hide = true)]
    reuse_programs: bool,
    /// Keep disks and logs after the end
    #[arg(long)]
    keep: bool,
}

/// By which program orders are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Our `baremetal` command
    Ours,
    /// The `baremetal` command of python-ironicclient
    IronicClient,
    /// Requests to the API
    Api,
}

/// Runs the demo in a process of its own, as a lab needs.
pub(crate) fn as_child(args: &[&str]) -> Result<()> {
    let status = Command::new(tool::own_program()?).arg("demo").args(args).status()?;
    if !status.success() {
        bail!("the demo ended with {status}");
    }
    Ok(())
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    if enter::outside() && !args.reuse {
        prepare(args)?;
    }
    enter::run("demo", args.keep, |lab| inside(lab, args))
}

/// All that needs the internet or a compiler.
fn prepare(args: &DemoArgs) -> Result<()> {
    let start = Instant::now();
    setup::all()?;
    if !args.reuse_programs {
        println!("building the daemon and the command line …");
        let status = Command::new("cargo")
            .args(["build", "--quiet", "--locked", "-p", "bessemer", "-p", "bessemer-cli"])
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "the daemon does not build");
    }
    println!("building the ramdisk …");
    ramdisk::build(&ramdisk::Options::new(set(args)))?;
    if args.image.is_none() {
        TestImage::build(&image_spec())?;
    }
    println!("ready after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn set(args: &DemoArgs) -> ramdisk::Set {
    if args.full { ramdisk::Set::Full } else { ramdisk::Set::Minimal }
}

fn image_spec() -> ImageSpec {
    ImageSpec::small("demo")
}

fn inside(lab: &Lab, args: &DemoArgs) -> Result<()> {
    let begin = Instant::now();
    let files = ramdisk::Options::new(set(args)).out;
    let (kernel, initrd) = (files.join("vmlinuz"), files.join("ramdisk.img"));
    let server = ImageServer::start(&format!("{ADDRESS}:8099"), &lab.log("images.jsonl")?)?;
    let specs: Vec<MachineSpec> = [("bios", Firmware::Bios), ("uefi", Firmware::Uefi)]
        .into_iter()
        .zip(0..)
        .filter(|((name, _), _)| args.only.as_deref().is_none_or(|only| only == *name))
        .map(|((name, firmware), index)| MachineSpec::usual(name, index, firmware))
        .collect();
    ensure!(!specs.is_empty(), "there is no machine of that name: bios, uefi");
    let postgres = args.postgres.then(Postgres::start).transpose()?;
    let settings = Settings {
        kernel: kernel.clone(),
        ramdisk: initrd.clone(),
        database: postgres.as_ref().map(Postgres::url),
        overwrite_disks: args.overwrite,
        more: more_settings(args),
    };
    let mut foreign = args.foreign_dhcp.then(|| Foreign::start(lab)).transpose()?;
    let config = settings.write(lab)?;
    let (daemon, bench) = std::thread::scope(|scope| {
        let bench = scope.spawn(|| Bench::start(lab, &specs));
        let daemon = Daemon::start(lab, &program("debug", "bessemer"), &config);
        (daemon, bench.join())
    });
    let daemon = daemon?;
    let bench = bench.ok().context("starting the machines panicked")??;
    println!("the daemon and {} machines are ready after {:.1} s", specs.len(), begin.elapsed().as_secs_f64());

    let api = Api::new(&daemon.url());
    if args.discover {
        discovery::check(&bench, &api)?;
        println!("DEMO OK");
        return Ok(());
    }
    let operator = match args.by {
        By::Ours => Operator::Cli(Baremetal::ours(&program("debug", "baremetal"), &daemon.url()), api),
        By::IronicClient => Operator::Cli(Baremetal::ironic_client(&daemon.url()), api),
        By::Api => Operator::Api(api),
    };
    let orders = bench.machines.iter().map(|machine| order(args, &server, machine.spec.firmware)).collect::<Result<Vec<_>>>()?;
    let lives: Vec<(Life, Result<()>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = bench
            .machines
            .iter()
            .zip(&orders)
            .map(|(machine, order)| {
                let driver = if machine.spec.firmware == Firmware::Bios { Driver::Ipmi } else { Driver::Redfish };
                let mut life = Life::new(&bench, machine, &operator, driver);
                if args.overwrite {
                    life.limit *= 5;
                }
                if args.virtual_media && machine.spec.firmware == Firmware::Uefi {
                    life.boot_interface = "redfish-virtual-media".to_owned();
                }
                scope.spawn(move || {
                    let result = life.whole(order);
                    if let Err(error) = &result {
                        life.say(&format!("FAILED: {error:#}"));
                    }
                    (life, result)
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    report(&lives, &[("kernel", &kernel), ("ramdisk", &initrd)])?;
    if lives.len() != specs.len() || lives.iter().any(|(_, result)| result.is_err()) {
        bail!("a life failed; the daemon's log ends:\n{}", tool::log_tail(daemon.log(), 30));
    }
    if let Some(foreign) = &mut foreign {
        for ((life, _), spec) in lives.iter().zip(&specs) {
            foreign.check(daemon.log(), &spec.mac, &life.inventory)?;
            life.say("host check: addresses by the foreign DHCP server, boot files by the daemon");
        }
    }
    println!("DEMO OK");
    Ok(())
}

/// Lines at the end of the daemon's configuration, whose last section is `pxe`.
fn more_settings(args: &DemoArgs) -> String {
    let mut lines = String::new();
    if args.foreign_dhcp {
        lines += "dhcp_mode = \"proxy\"\n";
    }
    if args.discover {
        lines += "[auto_discovery]\nenabled = true\n";
    }
    lines
}

/// What a machine is given: the test image in raw form over UEFI, as qcow2 over BIOS, or the
/// caller's image.
fn order(args: &DemoArgs, server: &ImageServer, firmware: Firmware) -> Result<Order> {
    let (form, format, raw, expect, ours) = match (&args.image, &args.expect) {
        (Some(image), Some(expect)) => (Form::of(&image.canonicalize()?)?, format_of(image)?, None, expect.clone(), false),
        _ => {
            let image = TestImage::build(&image_spec())?;
            let expect = image.banner();
            let (form, format) = if firmware == Firmware::Bios { (image.qcow2, "qcow2") } else { (image.raw.clone(), "raw") };
            (form, format.to_owned(), Some(image.raw.path), expect, true)
        }
    };
    let url = server.serve(&format!("/image.{format}"), &form.path, Behaviour::default());
    Ok(Order { instance_info: instance_info(&url, &form, &format), raw, expect, shows_config_drive: ours })
}

fn instance_info(url: &str, form: &Form, format: &str) -> Value {
    json!({
        "image_source": url,
        "image_os_hash_algo": "sha256",
        "image_os_hash_value": form.sha256,
        "image_disk_format": format,
        "image_type": "whole-disk-image",
    })
}

/// The format that qemu-img sees in a file.
fn format_of(image: &Path) -> Result<String> {
    let mut info = tool::command("qemu-img");
    let text = tool::run(info.args(["info", "--output=json"]).arg(image), Duration::from_secs(30))?;
    let about: Value = serde_json::from_str(&text)?;
    about["format"].as_str().map(str::to_owned).context("qemu-img names no format")
}

fn report(lives: &[(Life, Result<()>)], files: &[(&str, &Path)]) -> Result<()> {
    println!();
    for (life, result) in lives {
        let phases: Vec<String> = life.phases.iter().map(|(name, seconds)| format!("{name} {seconds:.1}")).collect();
        let total: f64 = life.phases.iter().map(|(_, seconds)| seconds).sum();
        let end = if result.is_ok() { "retired" } else { "FAILED" };
        println!("{:<6} {end}: seconds: {}; together {total:.1}", life.node, phases.join(", "));
        println!("{:<6} guest memory {} MiB", life.node, life.memory_mib());
    }
    for (name, file) in files {
        println!("{name} {} bytes", std::fs::metadata(file)?.len());
    }
    Ok(())
}
