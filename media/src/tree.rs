//! The files that go into an image, sorted by name, with contents that are asked for only while the image is written.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::error::MediaError;

/// Longest name of a file or directory, in characters (what Joliet holds).
pub const MAX_NAME: usize = 64;
/// Deepest directory (ISO 9660 clause 6.8.2.1 allows eight levels, the root included).
pub const MAX_DEPTH: usize = 7;

/// Bytes of one file, of a length that is known beforehand.
pub trait Content {
    /// Number of bytes that [`Content::write_to`] writes.
    fn len(&self) -> u64;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes them all. May be called several times, with the same result.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Content for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self)
    }
}

impl Content for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self)
    }
}

/// Bytes that come from a reader which is opened when they are needed (a kernel or ramdisk that should not be held in
/// memory).
pub struct Streamed<F> {
    /// Number of bytes.
    pub len: u64,
    /// Opens it from its beginning.
    pub open: F,
}

impl<R: io::Read, F: Fn() -> io::Result<R>> Content for Streamed<F> {
    fn len(&self) -> u64 {
        self.len
    }
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut reader = (self.open)()?;
        // One byte more than announced is enough to notice that it grew.
        io::copy(&mut io::Read::take(&mut reader, self.len.saturating_add(1)), out).map(drop)
    }
}

/// A file or a directory.
pub(crate) enum Entry<'a> {
    File(Box<dyn Content + 'a>),
    Dir(Tree<'a>),
}

/// A directory with everything below it.
#[derive(Default)]
pub struct Tree<'a> {
    entries: BTreeMap<String, Entry<'a>>,
}

impl std::fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl<'a> Tree<'a> {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, with the directories on the way to it. `path` has slashes between names and none in front.
    ///
    /// A second file at the same path, also one that differs in letter case only, is an error: FAT and many readers of
    /// ISO 9660 do not tell them apart.
    pub fn add(&mut self, path: &str, content: impl Content + 'a) -> Result<(), MediaError> {
        let bad = |why| MediaError::Name { path: path.to_owned(), why };
        let names: Vec<&str> = path.split('/').collect();
        let (file, dirs) = names.split_last().ok_or_else(|| bad("it is empty"))?;
        if dirs.len() > MAX_DEPTH {
            return Err(bad("it is too deep"));
        }
        let mut here = self;
        for dir in dirs {
            check(dir).map_err(bad)?;
            let entry = here.entries.entry(here.spelling(dir)).or_insert_with(|| Entry::Dir(Tree::new()));
            here = match entry {
                Entry::Dir(t) => t,
                Entry::File(_) => return Err(bad("a file is in the place of one of its directories")),
            };
        }
        check(file).map_err(bad)?;
        if here.entries.contains_key(&here.spelling(file)) {
            return Err(bad("it is there already"));
        }
        here.entries.insert((*file).to_owned(), Entry::File(Box::new(content)));
        Ok(())
    }

    /// The way an entry of this name is already spelt here, letter case aside.
    fn spelling(&self, name: &str) -> String {
        let same = self.entries.keys().find(|k| k.to_lowercase() == name.to_lowercase());
        same.cloned().unwrap_or_else(|| name.to_owned())
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry<'a>)> {
        self.entries.iter().map(|(n, e)| (n.as_str(), e))
    }
}

/// Whether a name is fit for FAT, Joliet and Rock Ridge alike.
fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name == "." || name == ".." {
        return Err("a name is empty, '.' or '..'");
    }
    if name.encode_utf16().count() > MAX_NAME || name.len() > 2 * MAX_NAME {
        return Err("a name is longer than 64 characters");
    }
    if name.chars().any(|c| c.is_control() || "\\:*?\"<>|;".contains(c)) {
        return Err("a name has a character that the medium cannot hold");
    }
    if name.ends_with(['.', ' ']) {
        return Err("a name ends with a dot or a space");
    }
    Ok(())
}

/// Writes a content and checks its length.
pub(crate) fn write_content(path: &str, content: &dyn Content, out: &mut dyn Write) -> Result<(), MediaError> {
    let mut counted = Counted { out, bytes: 0 };
    content.write_to(&mut counted)?;
    let (given, announced) = (counted.bytes, content.len());
    if given == announced { Ok(()) } else { Err(MediaError::Length { path: path.to_owned(), given, announced }) }
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes `n` zero bytes.
pub(crate) fn zeros(out: &mut dyn Write, n: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), n), out).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_medium_cannot_hold_are_refused() {
        for path in ["", "/a", "a//b", "../x", "a/..", "x:y", "a\u{1}", "dot.", &"n".repeat(65), "1/2/3/4/5/6/7/8/9"] {
            assert!(Tree::new().add(path, Vec::new()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn two_files_that_differ_in_letter_case_only_are_refused() {
        let mut t = Tree::new();
        t.add("EFI/BOOT/a", Vec::new()).unwrap();
        assert!(t.add("efi/boot/A", Vec::new()).is_err());
        t.add("efi/boot/b", Vec::new()).unwrap();
        assert_eq!(t.entries().count(), 1);
    }

    #[test]
    fn a_content_of_another_length_than_announced_is_noticed() {
        for (len, real) in [(5, 4usize), (5, 6)] {
            let c = Streamed { len, open: || Ok(io::Cursor::new(vec![7u8; real])) };
            assert!(matches!(write_content("x", &c, &mut Vec::new()), Err(MediaError::Length { .. })));
        }
    }
}
