//! Processors, from `/proc/cpuinfo` and sysfs.

use super::Root;
use bessemer_agent_types::inventory::Cpu;
use std::collections::BTreeSet;

/// The processors.
pub fn cpu(root: &Root) -> Cpu {
    let mut cpu = parse(&root.text("proc/cpuinfo").unwrap_or_default());
    if let Some(khz) = root.text("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").and_then(|text| text.parse::<f64>().ok()) {
        cpu.frequency = Some(format!("{:.4}", khz / 1000.0));
    }
    if cpu.socket_count == 0 {
        let packages = root.names("sys/devices/system/cpu").into_iter().filter_map(|name| {
            let numbered = name.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            numbered.then(|| root.text(&format!("sys/devices/system/cpu/{name}/topology/physical_package_id"))).flatten()
        });
        cpu.socket_count = u32::try_from(packages.collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX).max(1);
    }
    cpu.architecture = nix::sys::utsname::uname().map(|name| name.machine().to_string_lossy().into_owned()).unwrap_or_default();
    cpu
}

fn parse(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    let mut sockets = BTreeSet::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key.trim() {
            "processor" => cpu.count += 1,
            "model name" | "Model" => {
                cpu.model_name.get_or_insert_with(|| value.to_owned());
            }
            "cpu MHz" => {
                cpu.frequency.get_or_insert_with(|| value.to_owned());
            }
            "physical id" => {
                sockets.insert(value.to_owned());
            }
            "flags" | "Features" if cpu.flags.is_empty() => cpu.flags = value.split_whitespace().map(str::to_owned).collect(),
            _ => {}
        }
    }
    cpu.socket_count = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
    cpu
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn processors_and_sockets_are_counted() {
        let one = |n: u32, socket: u32| {
            format!(
                "processor\t: {n}\nmodel name\t: QEMU Virtual CPU version 2.5+\ncpu MHz\t\t: 2494.140\nphysical id\t: {socket}\nflags\t\t: fpu de pse\n\n"
            )
        };
        let cpu = parse(&[one(0, 0), one(1, 0), one(2, 1), one(3, 1)].concat());
        assert_eq!((cpu.count, cpu.socket_count), (4, 2));
        assert_eq!(cpu.model_name.as_deref(), Some("QEMU Virtual CPU version 2.5+"));
        assert_eq!(cpu.frequency.as_deref(), Some("2494.140"));
        assert_eq!(cpu.flags, ["fpu", "de", "pse"]);
    }

    #[test]
    fn an_arm_machine_has_sockets_from_sysfs() {
        let (_dir, root) = tree(&[
            ("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nprocessor\t: 1\n"),
            ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "36\n"),
            ("sys/devices/system/cpu/cpu1/topology/physical_package_id", "36\n"),
            ("sys/devices/system/cpu/cpufreq/x", ""),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2600000\n"),
        ]);
        let cpu = cpu(&root);
        assert_eq!((cpu.count, cpu.socket_count), (2, 1));
        assert_eq!(cpu.frequency.as_deref(), Some("2600.0000"));
        assert_eq!(cpu.flags, ["fp", "asimd"]);
    }
}
