//! What a simulated machine is made of, for inspection.

/// One processor.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    /// `Model`.
    pub model: String,
    /// `InstructionSet`, for example `x86-64`.
    pub instruction_set: String,
    /// `TotalCores`.
    pub cores: u64,
    /// `TotalThreads`.
    pub threads: u64,
}

/// One network card.
#[derive(Debug, Clone, PartialEq)]
pub struct Nic {
    /// `Id`.
    pub id: String,
    /// `MACAddress` as written by the BMC, possibly empty.
    pub mac: String,
    /// `Status.State` is Enabled, else Disabled.
    pub enabled: bool,
}

/// One disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    /// `Name`.
    pub name: String,
    /// `Model`.
    pub model: String,
    /// `SerialNumber`.
    pub serial: String,
    /// `CapacityBytes`.
    pub bytes: u64,
    /// `MediaType` is HDD, else SSD.
    pub rotational: bool,
    /// `Protocol`, for example `NVMe`.
    pub protocol: String,
}

/// A machine's parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// `SerialNumber`.
    pub serial: String,
    /// `BiosVersion`.
    pub bios: String,
    /// `MemorySummary.TotalSystemMemoryGiB`.
    pub memory_gib: f64,
    /// Processors.
    pub processors: Vec<Processor>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Disks.
    pub disks: Vec<Disk>,
}

impl Default for Hardware {
    fn default() -> Self {
        let cpu = Processor { model: "Example 9000".into(), instruction_set: "x86-64".into(), cores: 8, threads: 16 };
        let nic = |id: &str, mac: &str, enabled| Nic { id: id.into(), mac: mac.into(), enabled };
        Self {
            serial: "SN0001".into(),
            bios: "1.2.3".into(),
            memory_gib: 64.0,
            processors: vec![cpu.clone(), cpu],
            nics: vec![nic("1", "52:54:00:AA:00:01", true), nic("2", "52:54:00:AA:00:02", false), nic("3", "", true)],
            disks: vec![
                Disk {
                    name: "Disk 0".into(),
                    model: "Big".into(),
                    serial: "D0".into(),
                    bytes: 4_000_787_030_016,
                    rotational: true,
                    protocol: "SATA".into(),
                },
                Disk {
                    name: "Disk 1".into(),
                    model: "Fast".into(),
                    serial: "D1".into(),
                    bytes: 500_107_862_016,
                    rotational: false,
                    protocol: "NVMe".into(),
                },
            ],
        }
    }
}
