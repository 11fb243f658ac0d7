//! Memory: what the kernel may use, and what is plugged in.

use super::{Root, dmi};
use bessemer_agent_types::inventory::Memory;

/// Memory of the machine.
pub fn memory(root: &Root, table: &dmi::Table) -> Memory {
    let total = root.text("proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    Memory { total: total.unwrap_or(0).saturating_mul(1024), physical_mb: table.memory_mib() }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn usable_memory_is_in_bytes() {
        let (_dir, root) = tree(&[("proc/meminfo", "MemTotal:         219932 kB\nMemFree: 1 kB\n")]);
        assert_eq!(memory(&root, &dmi::Table::default()).total, 219_932 * 1024);
        assert_eq!(memory(&root, &dmi::Table::default()).physical_mb, None);
    }
}
