//! Gets the kernel and firmware packages from Debian's archive, by apt, without installing them.
//!
//! Packages are kept in `${XDG_CACHE_HOME:-$HOME/.cache}/bessemer`, unpacked beside them.

use super::run;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages with firmware for storage and network cards of servers.
const FIRMWARE: &[&str] = &[
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-cavium",
    "firmware-misc-nonfree",
    "firmware-myricom",
    "firmware-netronome",
    "firmware-netxen",
    "firmware-qlogic",
    "firmware-realtek",
];

/// The archive from which this machine itself gets Debian: the first one that its own apt sources name with component `main`.
fn archive() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<PathBuf> = parts.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let found = texts.iter().find_map(|text| archive_in(text));
    found.context("no Debian archive with component 'main' in the apt sources: firmware files cannot be fetched")
}

/// The archive in one file of apt sources, in the one-line or the deb822 form.
fn archive_in(text: &str) -> Option<String> {
    for line in text.lines().map(str::trim) {
        let mut words =
            line.strip_prefix("deb ").unwrap_or_default().split_whitespace().filter(|w| !w.starts_with('[') && !w.ends_with(']'));
        if let Some(uri) = words.next().filter(|u| u.starts_with("http"))
            && words.any(|w| w == "main")
        {
            return Some(uri.to_owned());
        }
    }
    for stanza in text.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        if field("Components:").is_some_and(|c| c.split_whitespace().any(|w| w == "main"))
            && let Some(uri) = field("URIs:").and_then(|u| u.split_whitespace().next())
            && !uri.contains("security")
        {
            return Some(uri.to_owned());
        }
    }
    None
}

/// An unpacked kernel package.
pub struct Kernel {
    /// Release as `uname -r` says.
    pub release: String,
    /// Package file name without its end.
    pub package: String,
    /// Kernel file.
    pub vmlinuz: PathBuf,
    /// Folder with `kernel/`.
    pub modules: PathBuf,
}

fn cache(name: &str) -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let dir = base.join("bessemer").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Debian's generic kernel, downloaded when it is not in the cache.
pub fn kernel() -> Result<Kernel> {
    let dir = cache("kernel")?;
    let deb = match wanted_kernel(&dir) {
        Ok(deb) => deb,
        // Without the network a kernel of last week serves as well.
        Err(e) => match newest(&dir, "linux-image-")? {
            Some(deb) => {
                eprintln!("warning: {e:#}; using {}", deb.display());
                deb
            }
            None => return Err(e),
        },
    };
    let package = deb.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let tree = unpack(&deb)?;
    let release = package.trim_start_matches("linux-image-").split('_').next().unwrap_or_default().to_owned();
    let modules = [tree.join("lib/modules").join(&release), tree.join("usr/lib/modules").join(&release)];
    let modules = modules.into_iter().find(|dir| dir.is_dir()).with_context(|| format!("{package} holds no modules"))?;
    let vmlinuz = tree.join("boot").join(format!("vmlinuz-{release}"));
    ensure!(vmlinuz.is_file(), "{package} holds no kernel");
    Ok(Kernel { release, package, vmlinuz, modules })
}

/// The package file that apt would install now.
fn wanted_kernel(dir: &Path) -> Result<PathBuf> {
    let mut name = image_package()?;
    if name.is_none() {
        // A fresh machine has no package lists.
        run(Command::new("apt-get").args(["-q", "update"]))?;
        name = image_package()?;
    }
    let name = name.context("apt knows no linux-image-amd64: is this Debian with its main archive?")?;
    let start = format!("{name}_");
    if let Some(deb) = newest(dir, &start)? {
        return Ok(deb);
    }
    run(Command::new("apt-get").args(["-q", "download", &name]).current_dir(dir))?;
    newest(dir, &start)?.with_context(|| format!("apt downloaded no {name}"))
}

/// The package that `linux-image-amd64` stands for.
fn image_package() -> Result<Option<String>> {
    let output =
        Command::new("apt-cache").args(["depends", "linux-image-amd64"]).output().context("apt-cache is missing: this needs Debian")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned))
}

/// The last package file by name that begins with `start`.
fn newest(dir: &Path, start: &str) -> Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with(start) && file.ends_with(".deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.pop())
}

/// Unpacks a package beside its file, once.
fn unpack(deb: &Path) -> Result<PathBuf> {
    let tree = deb.with_extension("tree");
    if !tree.is_dir() {
        let partial = deb.with_extension(format!("partial-{}", std::process::id()));
        drop(fs::remove_dir_all(&partial));
        run(Command::new("dpkg").arg("-x").arg(deb).arg(&partial))?;
        if let Err(e) = fs::rename(&partial, &tree) {
            drop(fs::remove_dir_all(&partial));
            // Another build may have been faster.
            ensure!(tree.is_dir(), "cannot make {}: {e}", tree.display());
        }
    }
    Ok(tree)
}

/// Folder with the unpacked firmware packages. The machine's own package lists are left alone.
pub fn firmware() -> Result<PathBuf> {
    let dir = cache("firmware")?;
    let missing: Vec<&str> = FIRMWARE.iter().copied().filter(|name| !matches!(newest(&dir, &format!("{name}_")), Ok(Some(_)))).collect();
    if !missing.is_empty() {
        download_firmware(&dir, &missing)?;
    }
    for name in FIRMWARE {
        if let Some(deb) = newest(&dir, &format!("{name}_"))? {
            unpack(&deb)?;
        }
    }
    Ok(dir)
}

fn download_firmware(dir: &Path, names: &[&str]) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"').to_owned());
    let codename = codename.context("/etc/os-release names no Debian release")?;
    let apt = dir.join("apt");
    for sub in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(sub))?;
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(keyring).exists() {
        bail!("{keyring} is missing: apt-get install debian-archive-keyring");
    }
    let sources = apt.join("sources.list");
    let uri = archive()?;
    fs::write(&sources, format!("deb [signed-by={keyring}] {uri} {codename} non-free-firmware\n"))?;
    let settings = [
        format!("Dir::Etc::SourceList={}", sources.display()),
        "Dir::Etc::SourceParts=-".to_owned(),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
    ];
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.arg("-q").current_dir(dir);
        for setting in &settings {
            command.arg("-o").arg(setting);
        }
        command
    };
    // Without Error-Mode apt is content with an archive that it could not reach.
    let updated = apt_get().args(["-o", "APT::Update::Error-Mode=any", "update"]).output().context("cannot start apt-get")?;
    ensure!(
        updated.status.success(),
        "{uri} {codename} non-free-firmware cannot be read: {}",
        String::from_utf8_lossy(&updated.stderr)
            .lines()
            .rfind(|line| line.starts_with("E:") || line.starts_with("W:"))
            .unwrap_or("apt-get update failed")
    );
    for name in names {
        // A package may have another name in another release; the manifest tells what is missing.
        let got = apt_get().args(["download", name]).output().context("cannot start apt-get")?;
        if !got.status.success() {
            eprintln!("warning: no package {name} in {codename} non-free-firmware");
        }
    }
    Ok(())
}

/// Files for a name as modules give it, which may hold a `*`. Gives names below `lib/firmware`, sorted.
pub fn firmware_files(dir: &Path, name: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for package in FIRMWARE {
        let Ok(Some(deb)) = newest(dir, &format!("{package}_")) else { continue };
        let tree = deb.with_extension("tree");
        for base in [tree.join("lib/firmware"), tree.join("usr/lib/firmware")] {
            let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
            if let Some((head, tail)) = last.split_once('*') {
                for entry in fs::read_dir(base.join(folder)).into_iter().flatten().flatten() {
                    let file = entry.file_name().to_string_lossy().into_owned();
                    if file.starts_with(head) && file.ends_with(tail) && entry.path().is_file() {
                        found.push((format!("{folder}/{file}").trim_start_matches('/').to_owned(), entry.path()));
                    }
                }
            } else if base.join(name).is_file() {
                found.push((name.to_owned(), base.join(name)));
            }
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_in_both_forms_of_apt_sources() {
        let line = "# comment\ndeb [signed-by=/x arch=amd64] http://mirror.example/debian bookworm main contrib\n";
        assert_eq!(archive_in(line).as_deref(), Some("http://mirror.example/debian"));
        let stanza = "Types: deb\n# note\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\nTypes: deb\n";
        assert_eq!(archive_in(stanza).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(archive_in("deb https://other.example/apt stable stable\n"), None);
    }
}
