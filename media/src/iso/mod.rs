//! ISO 9660 images with Rock Ridge (what Linux reads) and Joliet (what Windows reads), optionally bootable by UEFI.
//!
//! ECMA-119 for the base, SUSP 1.10 and RRIP 1.10 for the long names, El Torito 1.0 with the UEFI specification's platform
//! number for booting. Directories come first, file contents after them, the boot image last (a length of zero in the boot
//! catalog then means "to the end", which images above 32 MiB need since its field has 16 bits).

mod names;
mod record;
mod volume;

use std::io::{self, Write};

use crate::error::MediaError;
use crate::tree::{Content, Entry, Tree, write_content, zeros};
use record::{Kind, Place};

/// Bytes of a logical block.
pub(crate) const BLOCK: u64 = 2048;
const SYSTEM_AREA: u64 = 16;

/// One directory, in the order in which path tables list them (level by level).
pub(crate) struct Dir {
    pub(crate) parent: usize,
    /// Name in the plain tree, and in Joliet (UCS-2, big endian).
    pub(crate) iso: Vec<u8>,
    pub(crate) joliet: Vec<u8>,
    pub(crate) name: String,
    pub(crate) subdirs: Vec<usize>,
    pub(crate) files: Vec<usize>,
    pub(crate) iso_at: Place,
    pub(crate) joliet_at: Place,
}

/// One file.
pub(crate) struct File<'a> {
    pub(crate) path: String,
    pub(crate) iso: Vec<u8>,
    pub(crate) joliet: Vec<u8>,
    pub(crate) name: String,
    pub(crate) content: &'a dyn Content,
    pub(crate) at: Place,
}

/// An ISO image, laid out and ready to be written.
pub struct IsoImage<'a> {
    pub(crate) label: String,
    pub(crate) dirs: Vec<Dir>,
    pub(crate) files: Vec<File<'a>>,
    boot: Option<&'a dyn Content>,
    boot_at: u64,
    pub(crate) blocks: u64,
    pub(crate) tables: Tables,
    susp_at: u64,
}

/// Where the path tables are.
#[derive(Default, Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) iso_bytes: u64,
    pub(crate) joliet_bytes: u64,
    pub(crate) iso_l: u64,
    pub(crate) iso_m: u64,
    pub(crate) joliet_l: u64,
    pub(crate) joliet_m: u64,
}

impl std::fmt::Debug for IsoImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IsoImage").field("label", &self.label).field("bytes", &Content::len(self)).finish_non_exhaustive()
    }
}

impl<'a> IsoImage<'a> {
    /// Lays out `tree` under the volume label `label` (at most 16 characters, so that Joliet holds it whole).
    pub fn new(label: &str, tree: &'a Tree<'a>) -> Result<Self, MediaError> {
        Self::build(label, tree, None)
    }

    /// The same with a UEFI boot entry: `esp` is a FAT image that firmware mounts and starts `EFI/BOOT/BOOT*.EFI` from.
    pub fn bootable(label: &str, tree: &'a Tree<'a>, esp: &'a dyn Content) -> Result<Self, MediaError> {
        Self::build(label, tree, Some(esp))
    }

    fn build(label: &str, tree: &'a Tree<'a>, boot: Option<&'a dyn Content>) -> Result<Self, MediaError> {
        if label.is_empty() || label.len() > 16 || !label.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(MediaError::Name { path: label.to_owned(), why: "a volume label has 1 to 16 printable characters" });
        }
        let mut image = Self {
            label: label.to_owned(),
            dirs: vec![],
            files: vec![],
            boot,
            boot_at: 0,
            blocks: 0,
            tables: Tables::default(),
            susp_at: 0,
        };
        image.collect(tree)?;
        image.place()?;
        Ok(image)
    }

    /// Walks the tree level by level, as path tables want it.
    fn collect(&mut self, tree: &'a Tree<'a>) -> Result<(), MediaError> {
        let dir = |parent, name: &str, iso, joliet| Dir {
            parent,
            iso,
            joliet,
            name: name.to_owned(),
            subdirs: vec![],
            files: vec![],
            iso_at: Place::default(),
            joliet_at: Place::default(),
        };
        self.dirs.push(dir(0, "", vec![0], vec![0]));
        let mut level = vec![(0usize, tree, String::new())];
        while !level.is_empty() {
            // Siblings in the order of their plain names: that is the order of the path table.
            let mut below = Vec::new();
            for (index, tree, path) in level {
                let mut children = names::assign(tree);
                children.sort_by(|a, b| a.iso.cmp(&b.iso));
                for c in children {
                    let path = if path.is_empty() { c.name.to_owned() } else { format!("{path}/{}", c.name) };
                    match c.entry {
                        Entry::Dir(t) => {
                            let new = self.dirs.len();
                            self.dirs.push(dir(index, c.name, c.iso, c.joliet));
                            if let Some(d) = self.dirs.get_mut(index) {
                                d.subdirs.push(new);
                            }
                            below.push((new, t, path));
                        }
                        Entry::File(content) => {
                            let limit = u64::from(u32::MAX);
                            if content.len() > limit {
                                return Err(MediaError::TooLarge { what: format!("'{path}'"), limit, unit: "bytes" });
                            }
                            let new = self.files.len();
                            self.files.push(File {
                                path,
                                iso: c.iso,
                                joliet: c.joliet,
                                name: c.name.to_owned(),
                                content: content.as_ref(),
                                at: Place::default(),
                            });
                            if let Some(d) = self.dirs.get_mut(index) {
                                d.files.push(new);
                            }
                        }
                    }
                }
            }
            level = below;
        }
        let limit = u64::from(u16::MAX);
        if self.dirs.len() as u64 > limit {
            return Err(MediaError::TooLarge { what: "the number of directories".to_owned(), limit, unit: "directories" });
        }
        Ok(())
    }

    /// Gives everything its blocks.
    fn place(&mut self) -> Result<(), MediaError> {
        // Primary, Joliet and terminating descriptor; with booting a boot record and the boot catalog.
        let mut next = SYSTEM_AREA + if self.boot.is_some() { 5 } else { 3 };
        let mut take = |bytes: u64| {
            let at = next;
            next += bytes.div_ceil(BLOCK);
            at
        };
        let t = &mut self.tables;
        t.iso_bytes = volume::path_table_bytes(self.dirs.iter().map(|d| d.iso.len()));
        t.joliet_bytes = volume::path_table_bytes(self.dirs.iter().map(|d| d.joliet.len()));
        t.iso_l = take(t.iso_bytes);
        t.iso_m = take(t.iso_bytes);
        t.joliet_l = take(t.joliet_bytes);
        t.joliet_m = take(t.joliet_bytes);
        for kind in [Kind::Iso, Kind::Joliet] {
            for i in 0..self.dirs.len() {
                let bytes = record::directory_bytes(self, i, kind);
                let at = take(bytes);
                let Some(d) = self.dirs.get_mut(i) else { continue };
                let place = Place { block: at, bytes: bytes.next_multiple_of(BLOCK) };
                match kind {
                    Kind::Iso => d.iso_at = place,
                    Kind::Joliet => d.joliet_at = place,
                }
            }
        }
        self.susp_at = take(BLOCK);
        for f in &mut self.files {
            let bytes = f.content.len();
            f.at = Place { block: take(bytes), bytes };
        }
        if let Some(boot) = self.boot {
            self.boot_at = take(boot.len());
        }
        self.blocks = next;
        let limit = u64::from(u32::MAX);
        if self.blocks > limit {
            return Err(MediaError::TooLarge { what: "an ISO image".to_owned(), limit, unit: "blocks of 2048 bytes" });
        }
        Ok(())
    }

    /// Block of the directory area where the Rock Ridge signature of the root continues.
    pub(crate) fn susp_block(&self) -> u64 {
        self.susp_at
    }

    /// Writes the image.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), MediaError> {
        zeros(out, SYSTEM_AREA * BLOCK)?;
        block(out, &volume::descriptor(self, Kind::Iso))?;
        if self.boot.is_some() {
            block(out, &volume::boot_record(SYSTEM_AREA + 4))?;
        }
        block(out, &volume::descriptor(self, Kind::Joliet))?;
        block(out, &volume::terminator())?;
        if let Some(boot) = self.boot {
            block(out, &volume::boot_catalog(self.boot_at, boot.len()))?;
        }
        for kind in [Kind::Iso, Kind::Joliet] {
            for big in [false, true] {
                block(out, &volume::path_table(self, kind, big))?;
            }
        }
        for kind in [Kind::Iso, Kind::Joliet] {
            for i in 0..self.dirs.len() {
                block(out, &record::directory(self, i, kind))?;
            }
        }
        block(out, &record::rock_ridge_signature())?;
        for f in &self.files {
            write_content(&f.path, f.content, out)?;
            pad(out, f.content.len())?;
        }
        if let Some(boot) = self.boot {
            write_content("boot image", boot, out)?;
            pad(out, boot.len())?;
        }
        Ok(())
    }

    /// The image in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MediaError> {
        let mut out = Vec::with_capacity(usize::try_from(Content::len(self)).unwrap_or(0));
        self.write(&mut out)?;
        Ok(out)
    }
}

impl Content for IsoImage<'_> {
    fn len(&self) -> u64 {
        self.blocks * BLOCK
    }
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write(out).map_err(|e| match e {
            MediaError::Io(e) => e,
            other => io::Error::other(other),
        })
    }
}

fn block(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn pad(out: &mut dyn Write, written: u64) -> io::Result<()> {
    zeros(out, written.next_multiple_of(BLOCK) - written)
}
