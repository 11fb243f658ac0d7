//! Boot programs (iPXE binaries, GRUB, shim) from the operator's folders, by name. Read only; no name leaves the folders.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

/// Files up to this size are kept in memory, shared by all who load them at once.
const CACHED_MAX: u64 = 4 << 20;
/// Sum of the files kept in memory; when it would be exceeded the cache starts anew.
const CACHE_TOTAL: usize = 32 << 20;
/// Longest name that is looked up.
const NAME_MAX: usize = 255;

/// Why there is no such program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The name is not one of a file inside the folders.
    #[error("the name is not allowed (empty, too long, '..', '\\' or control characters)")]
    Name,
    /// No folder has it.
    #[error("no boot program of this name")]
    Absent,
    /// It is there but cannot be read.
    #[error("the boot program cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// An opened program.
#[derive(Debug)]
pub enum Program {
    /// Small: the bytes.
    Bytes {
        /// The content.
        bytes: Bytes,
        /// When the file was changed.
        modified: SystemTime,
    },
    /// Large: the open file.
    File {
        /// The file.
        file: File,
        /// Its length.
        len: u64,
        /// When it was changed.
        modified: SystemTime,
    },
}

/// The folders, searched in order.
#[derive(Debug)]
pub struct Programs {
    roots: Vec<PathBuf>,
    cache: Mutex<HashMap<PathBuf, Cached>>,
}

#[derive(Debug, Clone)]
struct Cached {
    bytes: Bytes,
    modified: SystemTime,
}

impl Programs {
    /// Serves these folders.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, cache: Mutex::default() }
    }

    /// Opens a program. Blocking file I/O: small, but call it where blocking is allowed.
    pub fn open(&self, name: &str) -> Result<Program, ProgramError> {
        let relative = relative_path(name)?;
        for root in &self.roots {
            let path = root.join(&relative);
            match open_regular(&path) {
                Ok(Some((file, meta))) => return self.program(path, file, &meta),
                Ok(None) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ProgramError::Absent)
    }

    fn program(&self, path: PathBuf, mut file: File, meta: &std::fs::Metadata) -> Result<Program, ProgramError> {
        let (len, modified) = (meta.len(), meta.modified()?);
        if len > CACHED_MAX {
            return Ok(Program::File { file, len, modified });
        }
        let fresh = |cached: &Cached| cached.modified == modified && cached.bytes.len() as u64 == len;
        let known = self.lock().get(&path).filter(|cached| fresh(cached)).cloned();
        let bytes = match known {
            Some(cached) => cached.bytes,
            None => {
                let mut content = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
                (&mut file).take(CACHED_MAX).read_to_end(&mut content)?;
                let bytes = Bytes::from(content);
                let mut cache = self.lock();
                let total: usize = cache.values().map(|cached| cached.bytes.len()).sum();
                if total + bytes.len() > CACHE_TOTAL {
                    cache.clear();
                }
                cache.insert(path, Cached { bytes: bytes.clone(), modified });
                bytes
            }
        };
        Ok(Program::Bytes { bytes, modified })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Cached>> {
        // The map is whole after any panic: one insertion or removal at a time.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file if it is a regular one. Links are followed: who can write in the folders is the operator.
fn open_regular(path: &Path) -> io::Result<Option<(File, std::fs::Metadata)>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok(Some((file, meta)))
}

/// The name as a path below a root. A leading slash means the root: firmware asks for absolute names.
fn relative_path(name: &str) -> Result<PathBuf, ProgramError> {
    if name.len() > NAME_MAX || name.contains('\\') || name.chars().any(char::is_control) {
        return Err(ProgramError::Name);
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(ProgramError::Name),
            part => path.push(part),
        }
    }
    if path.as_os_str().is_empty() {
        return Err(ProgramError::Name);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a.efi"), "yes").unwrap();
        let programs = Programs::new(vec![root]);
        for name in ["a.efi", "/a.efi", "//./a.efi"] {
            assert!(matches!(programs.open(name), Ok(Program::Bytes { .. })), "{name}");
        }
        for name in ["../secret", "x/../../secret", "..\\secret", "", "/", ".", "a\n", "a\0", &"a".repeat(256)] {
            assert!(matches!(programs.open(name), Err(ProgramError::Name)), "{name:?}");
        }
        let absolute = dir.path().join("secret");
        assert!(matches!(programs.open(absolute.to_str().unwrap()), Err(ProgramError::Absent)));
    }

    #[test]
    fn a_changed_program_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::new(vec![dir.path().to_owned()]);
        for text in ["one", "three"] {
            std::fs::write(dir.path().join("p"), text).unwrap();
            let Program::Bytes { bytes, .. } = programs.open("p").unwrap() else { panic!("small files are cached") };
            assert_eq!(bytes, text);
        }
    }

    #[test]
    fn folders_are_searched_in_order_and_directories_are_not_files() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(one.path().join("p")).unwrap();
        std::fs::write(two.path().join("p"), "2").unwrap();
        let programs = Programs::new(vec![one.path().to_owned(), two.path().to_owned()]);
        assert!(matches!(programs.open("p"), Ok(Program::Bytes { .. })));
    }
}
