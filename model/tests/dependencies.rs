//! Every crate that the workspace uses directly stands in `docs/dependencies.md`, with the version of `Cargo.toml`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Name and version of each crate from outside in the workspace's table.
fn table() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = text.split_once("[workspace.dependencies]").unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once(" = ")?;
            let outside = !name.starts_with('#') && !value.contains("path = ");
            outside.then(|| (name.to_owned(), value.split('"').nth(1).unwrap().to_owned()))
        })
        .collect()
}

/// Names that the manifests of the members use.
fn used() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root()).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let lines = text.lines().filter(|line| line.contains("workspace = true"));
        names.extend(lines.filter_map(|line| line.split_once(['.', ' '])).map(|(name, _)| name.to_owned()));
    }
    names
}

/// Name and version of each row of the document's tables.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| cells.len() == 7 && cells[1] != "Crate" && !cells[1].starts_with('-'))
        .map(|cells| (cells[1].to_owned(), cells[2].to_owned()))
        .collect()
}

#[test]
fn every_direct_dependency_is_explained_with_its_version() {
    let (used, documented) = (used(), documented());
    let wanted: BTreeMap<String, String> = table().into_iter().filter(|(name, _)| used.contains(name)).collect();
    assert!(wanted.len() > 30, "the table of Cargo.toml was not read");
    let missing: Vec<_> = wanted.iter().filter(|(name, version)| documented.get(*name) != Some(version)).collect();
    let stale: Vec<_> = documented.iter().filter(|(name, version)| wanted.get(*name) != Some(version)).collect();
    assert!(missing.is_empty(), "docs/dependencies.md lacks a line for (or has another version of) {missing:?}");
    assert!(stale.is_empty(), "docs/dependencies.md explains what nothing uses: {stale:?}");
}
