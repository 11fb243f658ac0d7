//! Volume descriptors, path tables and the boot catalog.

use super::record::{Kind, both16, both32, record};
use super::{BLOCK, IsoImage};

/// 1980-01-01 00:00:00.00 UTC.
const DATE: &[u8; 17] = b"1980010100000000\0";
const NO_DATE: &[u8; 17] = b"0000000000000000\0";
const NAME: &str = "BESSEMER";

/// Bytes of a path table with these directory names.
pub(crate) fn path_table_bytes(names: impl Iterator<Item = usize>) -> u64 {
    names.map(|n| (8 + n.next_multiple_of(2)) as u64).sum()
}

/// A path table (ECMA-119 clause 9.4), little or big endian.
pub(crate) fn path_table(image: &IsoImage<'_>, kind: Kind, big: bool) -> Vec<u8> {
    // Joliet's order of siblings may differ from the plain one; parents are numbered by their place in the table.
    let order = order(image, kind);
    let mut number = vec![0u16; image.dirs.len()];
    for (i, d) in order.iter().enumerate() {
        if let Some(n) = number.get_mut(*d) {
            *n = i as u16 + 1; // at most 65535 directories, checked when laid out
        }
    }
    let mut out = Vec::new();
    for d in order.iter().filter_map(|i| image.dirs.get(*i)) {
        let (name, at) = match kind {
            Kind::Iso => (&d.iso, d.iso_at),
            Kind::Joliet => (&d.joliet, d.joliet_at),
        };
        let block = at.block as u32; // checked when laid out
        let parent = number.get(d.parent).copied().unwrap_or(1);
        out.extend_from_slice(&[name.len() as u8, 0]);
        out.extend_from_slice(&if big { block.to_be_bytes() } else { block.to_le_bytes() });
        out.extend_from_slice(&if big { parent.to_be_bytes() } else { parent.to_le_bytes() });
        out.extend_from_slice(name);
        out.resize(out.len().next_multiple_of(2), 0);
    }
    out
}

/// Directories by level, then parent, then name.
fn order(image: &IsoImage<'_>, kind: Kind) -> Vec<usize> {
    let mut out = vec![0];
    let mut level = vec![0];
    while !level.is_empty() {
        let mut below = Vec::new();
        for d in level.iter().filter_map(|i: &usize| image.dirs.get(*i)) {
            let mut subdirs = d.subdirs.clone();
            subdirs.sort_by_key(|i| {
                image.dirs.get(*i).map(|d| match kind {
                    Kind::Iso => &d.iso,
                    Kind::Joliet => &d.joliet,
                })
            });
            below.extend(subdirs);
        }
        out.extend_from_slice(&below);
        level = below;
    }
    out
}

/// The primary or the Joliet descriptor (ECMA-119 clauses 8.4, 8.5).
pub(crate) fn descriptor(image: &IsoImage<'_>, kind: Kind) -> Vec<u8> {
    let joliet = kind == Kind::Joliet;
    let mut d = Vec::with_capacity(BLOCK as usize);
    let text = |d: &mut Vec<u8>, s: &str, len: usize| {
        let end = d.len() + len;
        if joliet {
            d.extend(s.encode_utf16().flat_map(u16::to_be_bytes).take(len / 2 * 2));
            while d.len() + 1 < end {
                d.extend_from_slice(&[0, b' ']);
            }
            d.resize(end, 0);
        } else {
            d.extend(s.bytes().take(len));
            d.resize(end, b' ');
        }
    };
    let t = image.tables;
    let (bytes, l, m) = if joliet { (t.joliet_bytes, t.joliet_l, t.joliet_m) } else { (t.iso_bytes, t.iso_l, t.iso_m) };
    d.extend_from_slice(&[if joliet { 2 } else { 1 }]);
    d.extend_from_slice(b"CD001\x01\0");
    text(&mut d, "LINUX", 32);
    text(&mut d, &image.label, 32);
    d.extend_from_slice(&[0; 8]);
    d.extend_from_slice(&both32(image.blocks));
    let mut escape = [0; 32];
    if joliet {
        // UCS-2 level 3.
        escape.iter_mut().zip(b"%/E").for_each(|(e, c)| *e = *c);
    }
    d.extend_from_slice(&escape);
    d.extend_from_slice(&both16(1));
    d.extend_from_slice(&both16(1));
    d.extend_from_slice(&both16(BLOCK as u16));
    d.extend_from_slice(&both32(bytes));
    d.extend_from_slice(&(l as u32).to_le_bytes());
    d.extend_from_slice(&[0; 4]);
    d.extend_from_slice(&(m as u32).to_be_bytes());
    d.extend_from_slice(&[0; 4]);
    let root = image.dirs.first().map(|r| if joliet { r.joliet_at } else { r.iso_at }).unwrap_or_default();
    d.extend_from_slice(&record(root, true, &[0], &[]));
    text(&mut d, "", 128);
    text(&mut d, NAME, 128);
    text(&mut d, "", 128);
    text(&mut d, NAME, 128);
    text(&mut d, "", 37);
    text(&mut d, "", 37);
    text(&mut d, "", 37);
    d.extend_from_slice(DATE);
    d.extend_from_slice(DATE);
    d.extend_from_slice(NO_DATE);
    d.extend_from_slice(DATE);
    d.push(1);
    d
}

/// The end of the descriptors (clause 8.3).
pub(crate) fn terminator() -> Vec<u8> {
    b"\xffCD001\x01".to_vec()
}

/// The boot record of El Torito (specification 1.0, figure 7).
pub(crate) fn boot_record(catalog: u64) -> Vec<u8> {
    let mut d = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    d.resize(0x47, 0);
    d.extend_from_slice(&(catalog as u32).to_le_bytes());
    d
}

/// The boot catalog: one entry for UEFI, no emulation.
pub(crate) fn boot_catalog(block: u64, bytes: u64) -> Vec<u8> {
    let mut v = vec![1, 0xef, 0, 0]; // validation entry, platform UEFI
    v.extend_from_slice(NAME.as_bytes());
    v.resize(28, 0);
    v.extend_from_slice(&[0, 0, 0x55, 0xaa]);
    let sum = v.chunks_exact(2).fold(0u16, |s, w| s.wrapping_add(u16::from_le_bytes([w[0], w[1]])));
    let check = 0u16.wrapping_sub(sum).to_le_bytes();
    v.splice(28..30, check);
    // The length is in sectors of 512 bytes. Where it does not fit, 0 means "to the end of the medium"
    // (UEFI specification, clause 13.3.2.1), which is why the boot image comes last.
    let sectors = u16::try_from(bytes.div_ceil(512)).unwrap_or(0);
    v.extend_from_slice(&[0x88, 0, 0, 0, 0, 0]);
    v.extend_from_slice(&sectors.to_le_bytes());
    v.extend_from_slice(&(block as u32).to_le_bytes());
    v.resize(64, 0);
    v
}
