//! Directory records (ECMA-119 clause 9.1) with their Rock Ridge fields.

use super::{BLOCK, IsoImage};

/// Where something is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) block: u64,
    pub(crate) bytes: u64,
}

/// Which of the two trees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Iso,
    Joliet,
}

/// 1980-01-01 00:00:00 UTC, as years since 1900, month, day, hour, minute, second, quarter hours.
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
const DIR_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;
/// Identifier, descriptor and source of RRIP 1.10, as an ER field wants them.
const RR_ID: &[u8] = b"RRIP_1991A";
const RR_TEXT: &[u8] = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
const RR_SOURCE: &[u8] = b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.";

pub(crate) fn both32(v: u64) -> [u8; 8] {
    let v = v as u32; // checked when the image was laid out
    let mut out = [0; 8];
    let (l, m) = out.split_at_mut(4);
    l.copy_from_slice(&v.to_le_bytes());
    m.copy_from_slice(&v.to_be_bytes());
    out
}

pub(crate) fn both16(v: u16) -> [u8; 4] {
    let (l, m) = (v.to_le_bytes(), v.to_be_bytes());
    [l[0], l[1], m[0], m[1]]
}

/// One record. `name` is `[0]` for the directory itself and `[1]` for its parent.
pub(crate) fn record(at: Place, dir: bool, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let base = 33 + name.len() + usize::from(name.len().is_multiple_of(2));
    let len = (base + system_use.len()).next_multiple_of(2);
    let mut r = Vec::with_capacity(len);
    r.push(len as u8); // names of 64 characters keep it below 255
    r.push(0);
    r.extend_from_slice(&both32(at.block));
    r.extend_from_slice(&both32(at.bytes));
    r.extend_from_slice(&DATE);
    r.push(if dir { 2 } else { 0 });
    r.extend_from_slice(&[0, 0]);
    r.extend_from_slice(&both16(1));
    r.push(name.len() as u8);
    r.extend_from_slice(name);
    r.resize(base, 0);
    r.extend_from_slice(system_use);
    r.resize(len, 0);
    r
}

fn px(mode: u32, links: u64) -> Vec<u8> {
    let mut f = b"PX\x24\x01".to_vec();
    f.extend_from_slice(&both32(mode.into()));
    f.extend_from_slice(&both32(links));
    f.extend_from_slice(&both32(0));
    f.extend_from_slice(&both32(0));
    f
}

fn nm(name: &str) -> Vec<u8> {
    let mut f = b"NM".to_vec();
    f.extend_from_slice(&[(5 + name.len()) as u8, 1, 0]); // at most 128 bytes of name
    f.extend_from_slice(name.as_bytes());
    f
}

/// `SP` says that the system use fields are in use, `CE` where the long `ER` field is.
fn root_fields(susp_block: u64) -> Vec<u8> {
    let mut f = b"SP\x07\x01\xbe\xef\x00".to_vec();
    f.extend_from_slice(b"CE\x1c\x01");
    f.extend_from_slice(&both32(susp_block));
    f.extend_from_slice(&both32(0));
    f.extend_from_slice(&both32(rock_ridge_signature().len() as u64));
    f
}

/// The `ER` field: these are Rock Ridge fields.
pub(crate) fn rock_ridge_signature() -> Vec<u8> {
    let mut f = b"ER".to_vec();
    let len = 8 + RR_ID.len() + RR_TEXT.len() + RR_SOURCE.len();
    f.extend_from_slice(&[len as u8, 1, RR_ID.len() as u8, RR_TEXT.len() as u8, RR_SOURCE.len() as u8, 1]);
    f.extend_from_slice(RR_ID);
    f.extend_from_slice(RR_TEXT);
    f.extend_from_slice(RR_SOURCE);
    f
}

/// All records of a directory, in the order of their names.
fn records(image: &IsoImage<'_>, index: usize, kind: Kind) -> Vec<Vec<u8>> {
    let Some(dir) = image.dirs.get(index) else { return Vec::new() };
    let rock = kind == Kind::Iso;
    let at = |i: usize| {
        image.dirs.get(i).map_or(Place::default(), |d| match kind {
            Kind::Iso => d.iso_at,
            Kind::Joliet => d.joliet_at,
        })
    };
    let links = |i: usize| 2 + image.dirs.get(i).map_or(0, |d| d.subdirs.len() as u64);
    let fields = |i: usize, name: Option<&str>| {
        let mut f = Vec::new();
        if rock {
            f = px(DIR_MODE, links(i));
            if let Some(name) = name {
                f.extend(nm(name));
            }
        }
        f
    };
    let mut own = fields(index, None);
    if rock && index == 0 {
        let mut first = root_fields(image.susp_block());
        first.extend(own);
        own = first;
    }
    let mut out = vec![record(at(index), true, &[0], &own), record(at(dir.parent), true, &[1], &fields(dir.parent, None))];
    let mut named: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for i in &dir.subdirs {
        let Some(d) = image.dirs.get(*i) else { continue };
        let name = if rock { &d.iso } else { &d.joliet };
        named.push((name, record(at(*i), true, name, &fields(*i, Some(&d.name)))));
    }
    for f in dir.files.iter().filter_map(|i| image.files.get(*i)) {
        let name = if rock { &f.iso } else { &f.joliet };
        let mut fields = Vec::new();
        if rock {
            fields = px(FILE_MODE, 1);
            fields.extend(nm(&f.name));
        }
        named.push((name, record(f.at, false, name, &fields)));
    }
    named.sort_by(|a, b| a.0.cmp(b.0));
    out.extend(named.into_iter().map(|(_, r)| r));
    out
}

/// A directory. No record crosses a block.
pub(crate) fn directory(image: &IsoImage<'_>, index: usize, kind: Kind) -> Vec<u8> {
    let block = BLOCK as usize;
    let mut out = Vec::new();
    for r in records(image, index, kind) {
        if out.len() % block + r.len() > block {
            out.resize(out.len().next_multiple_of(block), 0);
        }
        out.extend_from_slice(&r);
    }
    out
}

/// Its length; does not depend on where things are.
pub(crate) fn directory_bytes(image: &IsoImage<'_>, index: usize, kind: Kind) -> u64 {
    directory(image, index, kind).len() as u64
}
