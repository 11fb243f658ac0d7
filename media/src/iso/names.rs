//! Names of files in the plain tree (ISO 9660 level 2: 31 upper case characters) and in Joliet.

use std::collections::HashSet;

use crate::tree::{Entry, Tree};

/// Longest name in the plain tree, the version `;1` of a file aside.
const MAX_PLAIN: usize = 28;

/// One entry of a directory with its names.
pub(super) struct Named<'t, 'a> {
    pub(super) name: &'t str,
    pub(super) entry: &'t Entry<'a>,
    pub(super) iso: Vec<u8>,
    pub(super) joliet: Vec<u8>,
}

/// Gives each entry of a directory names that are unique in it.
pub(super) fn assign<'t, 'a>(tree: &'t Tree<'a>) -> Vec<Named<'t, 'a>> {
    let mut taken = HashSet::new();
    tree.entries()
        .map(|(name, entry)| {
            let file = matches!(entry, Entry::File(_));
            let joliet = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
            Named { name, entry, iso: plain(name, file, &mut taken), joliet }
        })
        .collect()
}

fn plain(name: &str, file: bool, taken: &mut HashSet<Vec<u8>>) -> Vec<u8> {
    let d_chars = |s: &str| -> String {
        s.chars().map(|c| c.to_ascii_uppercase()).map(|c| if c.is_ascii_uppercase() || c.is_ascii_digit() { c } else { '_' }).collect()
    };
    let (stem, ext) = match name.rsplit_once('.') {
        Some((s, e)) if file && !s.is_empty() => (d_chars(s), d_chars(e)),
        _ => (d_chars(name), String::new()),
    };
    let ext: String = ext.chars().take(8).collect();
    let mut number = 0u32;
    loop {
        let tail = if number == 0 { String::new() } else { format!("_{number}") };
        let room = MAX_PLAIN.saturating_sub(ext.len() + tail.len());
        let stem: String = stem.chars().take(room).collect();
        // A file name always has a dot and a version (ECMA-119 clause 7.5.1).
        let full = if file { format!("{stem}{tail}.{ext};1") } else { format!("{stem}{tail}") };
        if taken.insert(full.clone().into_bytes()) {
            return full.into_bytes();
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_upper_case_unique_and_have_a_version() {
        let mut taken = HashSet::new();
        let mut name = |n, file| String::from_utf8(plain(n, file, &mut taken)).unwrap();
        assert_eq!(name("meta_data.json", true), "META_DATA.JSON;1");
        assert_eq!(name("meta-data.json", true), "META_DATA_1.JSON;1");
        assert_eq!(name("user_data", true), "USER_DATA.;1");
        assert_eq!(name("2012-08-10", false), "2012_08_10");
        assert_eq!(name(&"x".repeat(60), false).len(), MAX_PLAIN);
    }
}
