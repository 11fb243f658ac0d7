//! Reads what kernel modules say about themselves (the `.modinfo` section of their ELF files), and writes the
//! tables that `depmod` would.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Path below the folder of modules.
    pub file: String,
    /// Modules it links to.
    pub depends: Vec<String>,
    /// Modules it would like to find loaded.
    pub soft: Vec<String>,
    /// Modules that are wanted once it is loaded.
    pub after: Vec<String>,
    /// Device aliases.
    pub aliases: Vec<String>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
}

/// All modules below `dir` by name (with underscores).
pub fn scan(dir: &Path) -> Result<BTreeMap<String, Module>> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![dir.join("kernel")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "ko") {
                let bytes = fs::read(&path)?;
                let mut module = parse(&bytes).with_context(|| format!("{} is no module", path.display()))?;
                module.file = path.strip_prefix(dir)?.to_string_lossy().into_owned();
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                modules.insert(normal(&stem), module);
            } else if path.extension().is_some_and(|ext| ext == "xz" || ext == "zst" || ext == "gz") {
                bail!("{}: compressed modules are not handled, unpack them first", path.display());
            }
        }
    }
    Ok(modules)
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn parse(elf: &[u8]) -> Result<Module> {
    let section = section(elf, b".modinfo").context("no .modinfo section")?;
    let mut module = Module::default();
    for text in section.split(|b| *b == 0).filter_map(|text| std::str::from_utf8(text).ok()) {
        let Some((key, value)) = text.split_once('=') else { continue };
        match key {
            "depends" => module.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(normal)),
            "softdep" => {
                // "pre: a b post: c": the first are loaded before the module, the others after it.
                let mut after = false;
                for word in value.split_whitespace() {
                    match word {
                        "pre:" => after = false,
                        "post:" => after = true,
                        name if after => module.after.push(normal(name)),
                        name => module.soft.push(normal(name)),
                    }
                }
            }
            "alias" => module.aliases.push(value.to_owned()),
            "firmware" => module.firmware.push(value.to_owned()),
            _ => {}
        }
    }
    Ok(module)
}

/// Content of a section of a little-endian 64-bit ELF file.
fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, width: usize| {
        let bytes = elf.get(at..at.checked_add(width)?)?;
        usize::try_from(bytes.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b))).ok()
    };
    let (table, size, count, names) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let names_at = number(header(names)? + 0x18, 8)?;
    (0..count).find_map(|index| {
        let at = header(index)?;
        let name = elf.get(names_at.checked_add(number(at, 4)?)?..)?.split(|b| *b == 0).next()?;
        let (start, length) = (number(at + 0x18, 8)?, number(at + 0x20, 8)?);
        (name == wanted).then(|| elf.get(start..start.checked_add(length)?)).flatten()
    })
}

/// A module with all that it needs, directly or not; what it needs comes after it.
pub fn chain(modules: &BTreeMap<String, Module>, name: &str) -> Vec<String> {
    fn visit(modules: &BTreeMap<String, Module>, name: &str, done: &mut Vec<String>) {
        let Some(module) = modules.get(name) else { return };
        if done.iter().any(|d| d == name) {
            return;
        }
        // Entered before its own needs are looked at, or two modules that wish for each other never end.
        let place = done.len();
        done.push(name.to_owned());
        for needed in module.depends.iter().chain(&module.soft) {
            visit(modules, needed, done);
        }
        // After the visit: what it needs stands before it, so that the reversed order loads needs first.
        let own = done.remove(place);
        done.push(own);
    }
    let mut order = Vec::new();
    visit(modules, name, &mut order);
    order.reverse();
    order
}

/// `modules.dep` for the chosen modules.
pub fn dep_table(modules: &BTreeMap<String, Module>, chosen: &BTreeSet<String>) -> String {
    let file = |name: &String| modules.get(name).map(|m| m.file.as_str()).unwrap_or_default();
    let mut text = String::new();
    for name in chosen {
        let needs: Vec<&str> = chain(modules, name).iter().skip(1).filter(|n| chosen.contains(*n)).map(file).collect();
        text.push_str(&format!("{}: {}\n", file(name), needs.join(" ")));
    }
    text
}

/// `modules.alias` for the chosen modules.
pub fn alias_table(modules: &BTreeMap<String, Module>, chosen: &BTreeSet<String>) -> String {
    let mut text = String::new();
    for name in chosen {
        for alias in modules.get(name).map(|m| m.aliases.as_slice()).unwrap_or_default() {
            text.push_str(&format!("alias {alias} {name}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &[&str]) -> Module {
        Module { depends: depends.iter().map(|d| (*d).to_owned()).collect(), ..Module::default() }
    }

    #[test]
    fn needs_load_before_what_needs_them() {
        let modules: BTreeMap<String, Module> = [
            ("net".to_owned(), module(&["failover", "virtio"])),
            ("failover".to_owned(), module(&["core"])),
            ("virtio".to_owned(), module(&["core"])),
            ("core".to_owned(), module(&[])),
        ]
        .into();
        let mut order = chain(&modules, "net");
        order.reverse();
        let at = |name: &str| order.iter().position(|n| n == name).unwrap();
        assert!(at("core") < at("failover") && at("core") < at("virtio") && at("failover") < at("net") && at("virtio") < at("net"));
        assert_eq!(order.last().unwrap(), "net");
    }

    #[test]
    fn modules_that_wish_for_each_other_do_not_loop() {
        let modules: BTreeMap<String, Module> = [("a".to_owned(), module(&["b"])), ("b".to_owned(), module(&["a"]))].into();
        assert_eq!(chain(&modules, "a").len(), 2);
    }

    #[test]
    fn a_broken_module_file_is_an_error() {
        assert!(parse(b"\x7fELF\x02\x01").is_err());
        assert!(parse(b"MZ").is_err());
        assert!(parse(&[&b"\x7fELF\x02\x01"[..], &[0xff; 80]].concat()).is_err());
    }
}
