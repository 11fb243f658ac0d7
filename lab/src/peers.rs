//! Where the Python peers live: virtual environments under the user's cache folder, made by
//! [`crate::setup`].

use std::path::PathBuf;

/// Folder for everything that is slow to make and the same for every checkout:
/// `$XDG_CACHE_HOME/bessemer`, or `~/.cache/bessemer`.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("bessemer")
}

/// The virtual environment of that name.
#[must_use]
pub fn environment(name: &str) -> PathBuf {
    cache().join("peers").join(name)
}

/// A program of the BMC emulators.
#[must_use]
pub fn bmc_program(name: &str) -> PathBuf {
    environment("bmc").join("bin").join(name)
}

/// The unmodified `baremetal` command of python-ironicclient.
#[must_use]
pub fn ironic_client() -> PathBuf {
    environment("ironicclient").join("bin/baremetal")
}
