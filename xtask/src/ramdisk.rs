//! Builds the ramdisk: Debian's kernel, its modules, and the agent as `/init`, in one archive.
//!
//! Two builds of the same sources give the same bytes. Nothing is taken from the machine that builds, except
//! what its package archive offers: the kernel package is downloaded (once) and never installed. Modules
//! keep their signatures, so that a kernel locked down by Secure Boot loads them.

mod cpio;
mod debian;
mod modinfo;
mod select;

use anyhow::{Context, Result, bail, ensure};
use cpio::Archive;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which machines the ramdisk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// Virtual machines.
    Minimal,
    /// Real servers: all storage and network drivers, with their firmware files.
    Full,
}

/// How the archive is compressed. The kernel must be able to undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Fast to unpack on a slow machine.
    Zstd,
    /// Smallest.
    Xz,
}

/// What to build and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which machines.
    pub set: Set,
    /// Folder for `vmlinuz`, `ramdisk.img` and `manifest.json`.
    pub out: PathBuf,
    /// Compression of the archive.
    pub compression: Compression,
    /// PEM file of authorities that the agent trusts for HTTPS.
    pub ca: Option<PathBuf>,
}

impl Options {
    /// The default for a set: in `target/ramdisk/<set>`.
    pub fn new(set: Set) -> Self {
        let name = if set == Set::Minimal { "minimal" } else { "full" };
        Self { set, out: workspace().join("target/ramdisk").join(name), compression: Compression::Zstd, ca: None }
    }
}

/// A file that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Name within the output folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Digest in hexadecimal.
    pub sha256: String,
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which machines.
    pub set: Set,
    /// Release of the kernel, as `uname -r` says.
    pub kernel_release: String,
    /// Package that the kernel is from.
    pub kernel_package: String,
    /// Compression of the ramdisk.
    pub compression: Compression,
    /// The kernel.
    pub kernel: Built,
    /// The ramdisk.
    pub ramdisk: Built,
    /// The agent inside, uncompressed.
    pub agent: Built,
    /// The archive before compression.
    pub archive_size: u64,
    /// Driver modules inside.
    pub modules: usize,
    /// Firmware files inside.
    pub firmware: usize,
    /// Firmware files that modules name and that no reachable package has.
    pub firmware_missing: Vec<String>,
}

/// What [`build`] made.
#[derive(Clone, Debug)]
pub struct RamdiskFiles {
    /// `vmlinuz`.
    pub kernel: PathBuf,
    /// `ramdisk.img`.
    pub ramdisk: PathBuf,
    /// `manifest.json`.
    pub manifest_file: PathBuf,
    /// Its content.
    pub manifest: Manifest,
}

/// Folder of the workspace.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Builds kernel, ramdisk and manifest.
pub fn build(options: &Options) -> Result<RamdiskFiles> {
    let agent = build_agent()?;
    let kernel = debian::kernel()?;
    let modules = modinfo::scan(&kernel.modules)?;
    let chosen = select::choose(options.set, &modules);
    ensure!(!chosen.is_empty(), "the kernel package {} has none of the wanted modules", kernel.package);

    let mut archive = Archive::default();
    for dir in ["dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "lib", "usr"] {
        archive.dir(dir);
    }
    archive.node("dev/console", 0o600, 5, 1);
    archive.node("dev/null", 0o666, 1, 3);
    archive.file("init", 0o755, agent.clone());
    // The kernel asks here for file systems and algorithms.
    archive.link("sbin/modprobe", "/init");
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n".to_vec());
    if let Some(ca) = &options.ca {
        let text = fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        archive.file("etc/ssl/certs/ca-certificates.crt", 0o644, text);
    }
    let base = format!("lib/modules/{}", kernel.release);
    for name in &chosen {
        let module = modules.get(name).context("chosen modules are scanned ones")?;
        archive.file(&format!("{base}/{}", module.file), 0o644, fs::read(kernel.modules.join(&module.file))?);
    }
    archive.file(&format!("{base}/modules.dep"), 0o644, modinfo::dep_table(&modules, &chosen).into_bytes());
    archive.file(&format!("{base}/modules.alias"), 0o644, modinfo::alias_table(&modules, &chosen).into_bytes());

    let (firmware, missing) = if options.set == Set::Full { add_firmware(&mut archive, &modules, &chosen)? } else { (0, Vec::new()) };

    let bytes = archive.finish();
    let compressed = compress(&bytes, options.compression)?;
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let vmlinuz = fs::read(&kernel.vmlinuz)?;
    let manifest = Manifest {
        set: options.set,
        kernel_release: kernel.release.clone(),
        kernel_package: kernel.package.clone(),
        compression: options.compression,
        kernel: built("vmlinuz", &vmlinuz),
        ramdisk: built("ramdisk.img", &compressed),
        agent: built("init", &agent),
        archive_size: u64::try_from(bytes.len())?,
        modules: chosen.len(),
        firmware,
        firmware_missing: missing,
    };
    let files = RamdiskFiles {
        kernel: options.out.join("vmlinuz"),
        ramdisk: options.out.join("ramdisk.img"),
        manifest_file: options.out.join("manifest.json"),
        manifest,
    };
    replace(&files.kernel, &vmlinuz)?;
    replace(&files.ramdisk, &compressed)?;
    replace(&files.manifest_file, format!("{}\n", serde_json::to_string_pretty(&files.manifest)?).as_bytes())?;
    Ok(files)
}

/// Writes a file whole or not at all: a daemon may be serving it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).with_context(|| format!("cannot write {}", path.display()))
}

fn built(file: &str, bytes: &[u8]) -> Built {
    Built { file: file.to_owned(), size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
}

/// Builds the agent as a static program and gives its bytes.
fn build_agent() -> Result<Vec<u8>> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let root = workspace();
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    if let Ok(list) = installed
        && !String::from_utf8_lossy(&list.stdout).lines().any(|line| line == TARGET)
    {
        run(Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    ensure!(
        Command::new("musl-gcc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok(),
        "musl-gcc is missing: apt-get install musl-tools"
    );
    // Paths of the building machine stay out of the program, and a program without relocations starts faster.
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = format!("-C relocation-model=static --remap-path-prefix={home}=/cargo --remap-path-prefix={}=/src", root.display());
    run(Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())).current_dir(&root).env("RUSTFLAGS", flags).args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "bessemer-agent",
        "--bin",
        "bessemer-agent",
        "--profile",
        "ramdisk",
        "--target",
        TARGET,
    ]))?;
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), PathBuf::from);
    let path = target.join(TARGET).join("ramdisk/bessemer-agent");
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Adds the firmware files that the chosen modules name. Says how many, and which were not to be had.
fn add_firmware(
    archive: &mut Archive,
    modules: &BTreeMap<String, modinfo::Module>,
    chosen: &BTreeSet<String>,
) -> Result<(usize, Vec<String>)> {
    let wanted: BTreeSet<&str> =
        chosen.iter().filter_map(|name| modules.get(name)).flat_map(|m| m.firmware.iter().map(String::as_str)).collect();
    let dir = match debian::firmware() {
        Ok(dir) => dir,
        Err(e) => {
            eprintln!("warning: no firmware files: {e:#}");
            return Ok((0, wanted.into_iter().map(str::to_owned).collect()));
        }
    };
    let mut missing = Vec::new();
    let mut count = 0;
    for name in wanted {
        // Names come from the kernel package; one that leads out of the folder is none of ours.
        if name.split('/').any(|part| part == "..") {
            continue;
        }
        let found = debian::firmware_files(&dir, name);
        if found.is_empty() {
            missing.push(name.to_owned());
        }
        for (name, path) in found {
            archive.file(&format!("lib/firmware/{name}"), 0o644, fs::read(path)?);
            count += 1;
        }
    }
    Ok((count, missing))
}

fn compress(bytes: &[u8], compression: Compression) -> Result<Vec<u8>> {
    // One thread: the number of threads changes the bytes. The kernel wants CRC32 in xz, and at most 8 MiB of
    // zstd window (its limit is 128 MiB, but the window is memory of the machine that boots).
    let mut command = match compression {
        Compression::Zstd => {
            let mut c = Command::new("zstd");
            c.args(["-19", "-T1", "--no-progress", "-q", "-c", "-"]);
            c
        }
        Compression::Xz => {
            let mut c = Command::new("xz");
            c.args(["--check=crc32", "-9e", "--threads=1", "-c", "-"]);
            c
        }
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut input = child.stdin.take().context("standard input is piped")?;
    let output = std::thread::scope(|scope| {
        // Written beside the reading, or both would wait for ever.
        let writer = scope.spawn(move || input.write_all(bytes));
        let output = child.wait_with_output();
        match writer.join() {
            Ok(written) => written.map_err(anyhow::Error::from).and(output.map_err(Into::into)),
            Err(_) => bail!("the compressor's input thread died"),
        }
    })?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(output.stdout)
}
