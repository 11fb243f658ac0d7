//! Which memory, processors and cards belong together.

use super::Root;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The `numa_topology` part of an inspection report; none on a machine without NUMA information.
pub fn topology(root: &Root) -> Option<Value> {
    let mut ram = Vec::new();
    let mut cores: BTreeMap<(u32, u32, u32), Vec<u32>> = BTreeMap::new();
    for name in root.names("sys/devices/system/node") {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse::<u32>().ok()) else { continue };
        let base = format!("sys/devices/system/node/{name}");
        let size = root.text(&format!("{base}/meminfo")).and_then(|text| {
            let line = text.lines().find(|line| line.contains("MemTotal:"))?.to_owned();
            line.split_whitespace().rev().nth(1)?.parse::<u64>().ok()
        });
        ram.push(json!({"numa_node": node, "size_kb": size.unwrap_or(0)}));
        for entry in root.names(&base) {
            let Some(cpu) = entry.strip_prefix("cpu").and_then(|n| n.parse::<u32>().ok()) else { continue };
            let topology = |file: &str| root.text(&format!("{base}/{entry}/topology/{file}")).and_then(|t| t.parse::<u32>().ok());
            let core = topology("core_id").unwrap_or(cpu);
            cores.entry((node, topology("physical_package_id").unwrap_or(0), core)).or_default().push(cpu);
        }
    }
    if ram.is_empty() {
        return None;
    }
    let cpus: Vec<Value> = cores
        .into_iter()
        .map(|((node, _, core), mut siblings)| {
            siblings.sort_unstable();
            json!({"cpu": core, "numa_node": node, "thread_siblings": siblings})
        })
        .collect();
    let nics: Vec<Value> = root
        .names("sys/class/net")
        .into_iter()
        .filter_map(|name| {
            let node = root.text(&format!("sys/class/net/{name}/device/numa_node"))?.parse::<i32>().ok()?;
            Some(json!({"name": name, "numa_node": node}))
        })
        .collect();
    Some(json!({"ram": ram, "cpus": cpus, "nics": nics}))
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn threads_of_a_core_are_siblings() {
        let node = |file: &str| format!("sys/devices/system/node/node0/{file}");
        let files = [
            (node("meminfo"), "Node 0 MemTotal:  524288 kB\nNode 0 MemFree: 1 kB\n"),
            (node("cpu0/topology/core_id"), "0"),
            (node("cpu1/topology/core_id"), "0"),
            (node("cpulist"), "0-1"),
        ];
        let entries: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let (_dir, root) = tree(&entries);
        assert_eq!(
            topology(&root),
            Some(json!({"ram": [{"numa_node": 0, "size_kb": 524288}],
                        "cpus": [{"cpu": 0, "numa_node": 0, "thread_siblings": [0, 1]}], "nics": []}))
        );
    }

    #[test]
    fn a_machine_without_nodes_has_no_topology() {
        let (_dir, root) = tree(&[("proc/cpuinfo", "")]);
        assert_eq!(topology(&root), None);
    }
}
