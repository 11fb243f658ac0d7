//! Debian's kernels: the packages, unpacked under the cache folder (never installed).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peers;
use crate::tool::{command, run};

const LIMIT: Duration = Duration::from_secs(300);

/// Which of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// For virtual machines: virtio and NVMe only, starts about three times faster.
    Cloud,
    /// For any machine; nearly everything is a module.
    Generic,
}

impl Flavour {
    fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release, as `uname -r` tells it.
    pub release: String,
    /// Folder that holds `boot/` and `lib/modules/`, dependencies computed.
    pub root: PathBuf,
}

impl Kernel {
    /// The newest kernel of that flavour that the package lists name; downloaded and unpacked
    /// when the cache lacks it. Needs the package registry then (`apt-get update` done).
    pub fn fetch(flavour: Flavour) -> Result<Self> {
        let cache = peers::cache().join("kernel");
        std::fs::create_dir_all(&cache)?;
        let (package, version) = concrete(flavour)?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let root = cache.join(format!("{package}_{}", version.replace(':', "%3a")));
        let kernel = Self { release, root };
        if !kernel.root.join("ready").exists() {
            kernel.unpack(&package, &cache).with_context(|| format!("getting the kernel {package}"))?;
        }
        Ok(kernel)
    }

    fn unpack(&self, package: &str, cache: &Path) -> Result<()> {
        let work = tempfile::tempdir_in(cache)?;
        // The package manager's own user must be able to write there, or it warns.
        run(command("apt-get").args(["-q", "download", package]).current_dir(work.path()), LIMIT)?;
        let deb = std::fs::read_dir(work.path())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
            .context("apt-get download left no package")?;
        let tree = work.path().join("tree");
        run(command("dpkg-deb").arg("-x").arg(&deb).arg(&tree), LIMIT)?;
        run(command("depmod").arg("-b").arg(&tree).arg(&self.release), LIMIT)?;
        std::fs::write(tree.join("ready"), "")?;
        match std::fs::rename(&tree, &self.root) {
            // Another process was faster: its tree is as good.
            Err(_) if self.root.join("ready").exists() => Ok(()),
            other => other.context("cannot move the unpacked kernel into place"),
        }
    }

    /// The kernel itself (signed by Debian).
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Its folder of modules.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The files of these modules with all they depend on, in load order, relative to
    /// [`Kernel::root`]. Modules that this kernel lacks or has built in contribute nothing.
    pub fn module_files(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut ask = command("modprobe");
            ask.arg("-d").arg(&self.root).args(["-S", &self.release, "--show-depends", name]);
            for line in run(&mut ask, LIMIT).unwrap_or_default().lines() {
                let path = line.strip_prefix("insmod ").and_then(|rest| rest.split_whitespace().next());
                if let Some(path) = path.and_then(|path| Path::new(path).strip_prefix(&self.root).ok())
                    && !files.iter().any(|known| known == path)
                {
                    files.push(path.to_path_buf());
                }
            }
        }
        files
    }
}

/// Name and version of the package behind the flavour's meta package.
fn concrete(flavour: Flavour) -> Result<(String, String)> {
    let meta = flavour.package();
    let show = |package: &str| run(command("apt-cache").args(["show", "--no-all-versions", package]), LIMIT);
    let field = |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let about = show(meta).context("the package lists are empty: run `apt-get update`")?;
    let package = field(&about, "Depends:")
        .and_then(|depends| {
            let first = depends.split([',', '|']).map(str::trim).find(|d| d.starts_with("linux-image-"))?;
            first.split_whitespace().next().map(str::to_owned)
        })
        .with_context(|| format!("{meta} depends on no kernel"))?;
    let version = field(&show(&package)?, "Version:").with_context(|| format!("{package} has no version"))?;
    Ok((package, version))
}
