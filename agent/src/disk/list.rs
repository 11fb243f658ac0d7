//! The machine's disks as sysfs describes them, in the inventory's terms (`agent.md` section 8).
//!
//! Needs no udev and no program: serial numbers and world-wide names come from the vital product data that the
//! kernel has read, or from the driver. Never opens a device, so that listing cannot disturb one.

use std::fs;
use std::path::{Path, PathBuf};

use bessemer_agent_types::inventory::Disk;

/// What a listing shows.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Loop devices count as disks, for tests.
    pub loops: bool,
    /// Only these devices (`/dev/…`), whatever else is there.
    pub only: Option<Vec<String>>,
}

/// Lists the disks below `root` (`/` on a real machine), ordered by name.
pub fn block_devices(root: &Path, options: &ListOptions) -> Vec<Disk> {
    let sys = root.join("sys/block");
    let mut names: Vec<String> = match fs::read_dir(&sys) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(_) => Vec::new(),
    };
    names.sort_by_key(|name| natural(name));
    names
        .iter()
        .filter(|name| {
            let device = device_name(name);
            options.only.as_ref().is_none_or(|only| only.contains(&device))
        })
        .filter_map(|name| describe(root, &sys.join(name), name, options))
        .collect()
}

/// Text and number parts, so that `sdb` comes before `sdaa` and `nvme2n1` before `nvme10n1`.
fn natural(name: &str) -> (String, usize, Vec<u64>, String) {
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let class = if letters.starts_with("sd") || letters.starts_with("vd") || letters.starts_with("hd") {
        letters.chars().take(2).collect()
    } else {
        letters.clone()
    };
    let numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    (class, letters.len(), numbers, name.to_owned())
}

fn device_name(kernel: &str) -> String {
    format!("/dev/{}", kernel.replace('!', "/"))
}

fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    clean(&bytes)
}

/// Device-supplied text: printable, without padding; `None` when nothing is left.
fn clean(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// Devices that are never disks to install on.
fn is_other_kind(name: &str, dir: &Path, options: &ListOptions) -> bool {
    const NEVER: [&str; 6] = ["ram", "zram", "fd", "sr", "mtdblock", "nbd"];
    const CD_ROM: u64 = 5;
    if name.starts_with("loop") {
        return !options.loops;
    }
    if let Some(rest) = name.strip_prefix("mmcblk")
        && rest.contains(|c: char| c.is_ascii_alphabetic())
    {
        // Boot and replay-protected areas of an eMMC.
        return true;
    }
    if name.starts_with("dm-") {
        return !text(&dir.join("dm/uuid")).is_some_and(|uuid| uuid.starts_with("mpath-"));
    }
    NEVER.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit())))
        || number(&dir.join("device/type")) == Some(CD_ROM)
}

/// Whether a multipath device stands on top.
fn is_path_of_multipath(root: &Path, dir: &Path) -> bool {
    fs::read_dir(dir.join("holders")).is_ok_and(|holders| {
        holders.flatten().any(|holder| {
            let uuid = root.join("sys/block").join(holder.file_name()).join("dm/uuid");
            text(&uuid).is_some_and(|uuid| uuid.starts_with("mpath-"))
        })
    })
}

fn describe(root: &Path, dir: &Path, name: &str, options: &ListOptions) -> Option<Disk> {
    if is_other_kind(name, dir, options) || number(&dir.join("hidden")) == Some(1) || is_path_of_multipath(root, dir) {
        return None;
    }
    let size = number(&dir.join("size"))?.checked_mul(512)?;
    if size == 0 {
        return None;
    }
    let real = fs::canonicalize(dir.join("device")).unwrap_or_else(|_| dir.join("device"));
    let topology = real.to_string_lossy().into_owned();
    let transport = transport(name, &topology);
    let wwn = world_wide_name(dir);
    let sectors = |file: &str| number(&dir.join("queue").join(file)).and_then(|n| u32::try_from(n).ok());
    Some(Disk {
        name: device_name(name),
        model: text(&dir.join("device/model")).or_else(|| text(&dir.join("device/name"))),
        size,
        rotational: number(&dir.join("queue/rotational")) == Some(1),
        wwn: wwn.plain,
        serial: serial(dir, &real, transport),
        vendor: text(&dir.join("device/vendor")),
        wwn_with_extension: wwn.whole,
        wwn_vendor_extension: wwn.extension,
        hctl: real.file_name().and_then(|name| name.to_str()).filter(|name| is_hctl(name)).map(str::to_owned),
        by_path: by_path(root, name, dir, &topology),
        logical_sectors: sectors("logical_block_size"),
        physical_sectors: sectors("physical_block_size"),
        tran: transport.map(str::to_owned),
    })
}

fn is_hctl(name: &str) -> bool {
    let parts: Vec<&str> = name.split(':').collect();
    parts.len() == 4 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Transport from the device's place in the device tree, with the words that `lsblk` uses.
fn transport(name: &str, topology: &str) -> Option<&'static str> {
    let has = |part: &str| {
        topology.split('/').any(|piece| piece.strip_prefix(part).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    if name.starts_with("nvme") {
        Some("nvme")
    } else if name.starts_with("mmcblk") {
        Some("mmc")
    } else if has("usb") {
        Some("usb")
    } else if has("rport-") {
        Some("fc")
    } else if has("session") {
        Some("iscsi")
    } else if has("end_device-") {
        Some("sas")
    } else if has("ata") {
        Some("sata")
    } else if name.starts_with("vd") || has("virtio") {
        Some("virtio")
    } else {
        None
    }
}

/// Serial number: SCSI vital product data page 0x80, NVMe, virtio-blk or MMC attribute, USB parent.
fn serial(dir: &Path, real: &Path, transport: Option<&str>) -> Option<String> {
    if let Ok(page) = fs::read(dir.join("device/vpd_pg80"))
        && let Some(serial) = page_80(&page)
    {
        return Some(serial);
    }
    if let Some(serial) = text(&dir.join("device/serial")).or_else(|| text(&dir.join("serial"))) {
        return Some(serial);
    }
    if transport == Some("usb") {
        return real.ancestors().take(8).find_map(|parent| text(&parent.join("serial")));
    }
    None
}

/// Payload of a vital product data page: a four-byte header with the length in its last two bytes (SPC-4 7.8).
fn page_body(page: &[u8], code: u8) -> Option<&[u8]> {
    let header = page.first_chunk::<4>()?;
    if header[1] != code {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    page.get(4..4 + len.min(page.len() - 4))
}

fn page_80(page: &[u8]) -> Option<String> {
    clean(page_body(page, 0x80)?)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct WorldWideName {
    plain: Option<String>,
    extension: Option<String>,
    whole: Option<String>,
}

fn world_wide_name(dir: &Path) -> WorldWideName {
    if let Ok(page) = fs::read(dir.join("device/vpd_pg83"))
        && let Some(found) = page_83(&page)
    {
        return found;
    }
    let wwid = text(&dir.join("wwid")).or_else(|| text(&dir.join("device/wwid")));
    let plain = wwid.and_then(|wwid| match wwid.strip_prefix("naa.") {
        Some(digits) => Some(format!("0x{digits}")),
        None if wwid.starts_with("eui.") || wwid.starts_with("uuid.") || wwid.starts_with("nvme.") => Some(wwid),
        None => None,
    });
    WorldWideName { whole: plain.clone(), plain, extension: None }
}

/// The NAA designator of the logical unit (SPC-4 7.8.6): eight bytes, or sixteen of which the last eight are the
/// vendor's extension.
fn page_83(page: &[u8]) -> Option<WorldWideName> {
    const NAA: u8 = 3;
    let mut rest = page_body(page, 0x83)?;
    while let Some(header) = rest.first_chunk::<4>() {
        let len = usize::from(header[3]);
        let value = rest.get(4..4 + len)?;
        let (association, kind) = (header[1] >> 4 & 3, header[1] & 15);
        if association == 0 && kind == NAA && (len == 8 || len == 16) {
            let plain = format!("0x{}", hex::encode(value.get(..8)?));
            let extension = value.get(8..).filter(|more| !more.is_empty()).map(|more| format!("0x{}", hex::encode(more)));
            return Some(WorldWideName { plain: Some(plain), extension, whole: Some(format!("0x{}", hex::encode(value))) });
        }
        rest = rest.get(4 + len..)?;
    }
    None
}

/// `/dev/disk/by-path` name: the link when something made it, else built from the device tree as udev does.
fn by_path(root: &Path, name: &str, dir: &Path, topology: &str) -> Option<String> {
    let links = root.join("dev/disk/by-path");
    if let Ok(entries) = fs::read_dir(&links) {
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|link| fs::read_link(link).is_ok_and(|to| to.file_name().is_some_and(|file| file == name)))
            .collect();
        found.sort();
        if let Some(link) = found.first().and_then(|link| link.file_name()) {
            return Some(format!("/dev/disk/by-path/{}", link.to_string_lossy()));
        }
    }
    built_path(name, dir, topology).map(|tail| format!("/dev/disk/by-path/{tail}"))
}

fn built_path(name: &str, dir: &Path, topology: &str) -> Option<String> {
    let parts: Vec<&str> = topology.split('/').collect();
    // Innermost PCI function.
    let (at, pci) = parts.iter().enumerate().rev().find(|(_, part)| is_pci_function(part))?;
    let below = parts.get(at + 1..)?;
    let prefix = format!("pci-{pci}");
    if name.starts_with("nvme") {
        let namespace = number(&dir.join("nsid")).unwrap_or(1);
        return Some(format!("{prefix}-nvme-{namespace}"));
    }
    let hctl = parts.last().copied().filter(|last| is_hctl(last));
    let Some(hctl) = hctl else { return Some(prefix) };
    let lun = hctl.rsplit(':').next()?;
    if let Some(ata) = below.iter().find(|part| part.strip_prefix("ata").is_some_and(|n| n.parse::<u32>().is_ok())) {
        let base = topology.split_once(&format!("/{ata}/")).map(|(base, _)| format!("{base}/{ata}/ata_port/{ata}/port_no"))?;
        let port = number(Path::new(&base)).map_or_else(|| ata.trim_start_matches("ata").to_owned(), |port| port.to_string());
        return Some(format!("{prefix}-ata-{port}"));
    }
    if let Some(interface) = below.iter().rev().find(|part| part.contains(':') && part.contains('-') && !part.contains("target")) {
        // `1-2:1.0` is bus 1, port 2, configuration 1, interface 0; udev writes the bus as 0.
        let (_, port) = interface.split_once('-')?;
        return Some(format!("{prefix}-usb-0:{port}-scsi-0:0:0:{lun}"));
    }
    let mut numbers = hctl.split(':').skip(1);
    let (channel, target) = (numbers.next()?, numbers.next()?);
    Some(format!("{prefix}-scsi-0:{channel}:{target}:{lun}"))
}

/// `0000:00:1f.2`.
fn is_pci_function(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() == 12
        && part.char_indices().all(|(n, c)| match n {
            4 | 7 => c == ':',
            10 => c == '.',
            _ => c.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs tree: files by path and content, and the place of each device.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn put(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fn disk(&self, name: &str, sectors: u64, place: &str) {
            self.put(&format!("sys/block/{name}/size"), format!("{sectors}\n"));
            self.put(&format!("sys/block/{name}/queue/rotational"), "0\n");
            self.put(&format!("sys/block/{name}/queue/logical_block_size"), "512\n");
            if !place.is_empty() {
                let device = self.0.path().join("sys/devices").join(place);
                fs::create_dir_all(&device).unwrap();
                symlink(&device, self.0.path().join(format!("sys/block/{name}/device"))).unwrap();
            }
        }
        fn list(&self) -> Vec<Disk> {
            block_devices(self.0.path(), &ListOptions::default())
        }
    }

    #[test]
    fn only_disks_are_listed() {
        let sys = Sys::new();
        for name in ["ram0", "zram0", "fd0", "sr0", "loop0", "dm-0", "nbd3", "mmcblk0boot0", "sdz", "sdh"] {
            sys.disk(name, 8, "");
        }
        sys.put("sys/block/sdz/size", "0\n");
        sys.put("sys/block/sdh/hidden", "1\n");
        sys.disk("sdb", 16, "");
        sys.disk("mmcblk0", 16, "");
        let names: Vec<String> = sys.list().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["/dev/mmcblk0", "/dev/sdb"]);
        let options = ListOptions { loops: true, only: Some(vec!["/dev/loop0".into()]) };
        assert_eq!(block_devices(sys.0.path(), &options).len(), 1);
    }

    #[test]
    fn disks_are_ordered_as_people_count() {
        let sys = Sys::new();
        for name in ["sdaa", "sdb", "nvme10n1", "nvme2n1", "sda"] {
            sys.disk(name, 8, "");
        }
        let names: Vec<String> = sys.list().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["/dev/nvme2n1", "/dev/nvme10n1", "/dev/sda", "/dev/sdb", "/dev/sdaa"]);
    }

    #[test]
    fn a_virtio_disk_is_described_in_full() {
        let sys = Sys::new();
        sys.disk("vda", 20_971_520, "pci0000:00/0000:00:04.0/virtio1");
        sys.put("sys/block/vda/serial", "ROOT-1\n");
        sys.put("sys/block/vda/device/vendor", "0x1af4\n");
        let disk = sys.list().remove(0);
        assert_eq!(disk.size, 10 << 30);
        assert_eq!(disk.serial.as_deref(), Some("ROOT-1"));
        assert_eq!(disk.vendor.as_deref(), Some("0x1af4"));
        assert_eq!(disk.tran.as_deref(), Some("virtio"));
        assert_eq!(disk.by_path.as_deref(), Some("/dev/disk/by-path/pci-0000:00:04.0"));
        assert_eq!((disk.logical_sectors, disk.hctl), (Some(512), None));
    }

    #[test]
    fn a_sata_disk_has_serial_and_wwn_from_vital_product_data() {
        let sys = Sys::new();
        let place = "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0";
        sys.disk("sda", 100, place);
        sys.put("sys/devices/pci0000:00/0000:00:1f.2/ata3/ata_port/ata3/port_no", "3\n");
        sys.put("sys/block/sda/device/model", "QEMU HARDDISK   \n");
        sys.put("sys/block/sda/device/vendor", "ATA     \n");
        sys.put("sys/block/sda/device/vpd_pg80", b"\0\x80\0\x14            QM00001 ".as_slice());
        let mut page = vec![0, 0x83, 0, 36];
        page.extend([2, 0, 0, 20]);
        page.extend(b"             QM00001");
        page.extend([1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7]);
        sys.put("sys/block/sda/device/vpd_pg83", page);
        let disk = sys.list().remove(0);
        assert_eq!(disk.serial.as_deref(), Some("QM00001"));
        assert_eq!(disk.wwn.as_deref(), Some("0x5001020304050607"));
        assert_eq!(disk.wwn_with_extension, disk.wwn);
        assert_eq!(disk.wwn_vendor_extension, None);
        assert_eq!(disk.hctl.as_deref(), Some("2:0:0:0"));
        assert_eq!(disk.model.as_deref(), Some("QEMU HARDDISK"));
        assert_eq!(disk.tran.as_deref(), Some("sata"));
        assert_eq!(disk.by_path.as_deref(), Some("/dev/disk/by-path/pci-0000:00:1f.2-ata-3"));
    }

    #[test]
    fn a_long_wwn_is_split_into_name_and_extension() {
        let mut page = vec![0, 0x83, 0, 20, 1, 3, 0, 16];
        page.extend([0x60; 8]);
        page.extend([0x11; 8]);
        let found = page_83(&page).unwrap();
        assert_eq!(found.plain.as_deref(), Some("0x6060606060606060"));
        assert_eq!(found.extension.as_deref(), Some("0x1111111111111111"));
        assert_eq!(found.whole.as_deref(), Some("0x60606060606060601111111111111111"));
    }

    #[test]
    fn an_nvme_disk_has_serial_and_identifier() {
        let sys = Sys::new();
        sys.disk("nvme0n1", 100, "pci0000:00/0000:01:00.0/nvme/nvme0");
        sys.put("sys/block/nvme0n1/device/serial", "S3X9\n");
        sys.put("sys/block/nvme0n1/device/model", "Fast Disk\n");
        sys.put("sys/block/nvme0n1/wwid", "eui.0025385b71b00001\n");
        sys.put("sys/block/nvme0n1/nsid", "1\n");
        let disk = sys.list().remove(0);
        assert_eq!(disk.serial.as_deref(), Some("S3X9"));
        assert_eq!(disk.wwn.as_deref(), Some("eui.0025385b71b00001"));
        assert_eq!(disk.by_path.as_deref(), Some("/dev/disk/by-path/pci-0000:01:00.0-nvme-1"));
    }

    #[test]
    fn a_usb_disk_has_the_serial_of_its_parent() {
        let sys = Sys::new();
        let usb = "pci0000:00/0000:00:14.0/usb1/1-2";
        sys.disk("sdc", 100, &format!("{usb}/1-2:1.0/host6/target6:0:0/6:0:0:0"));
        sys.put(&format!("sys/devices/{usb}/serial"), "STICK7\n");
        let disk = sys.list().remove(0);
        assert_eq!(disk.serial.as_deref(), Some("STICK7"));
        assert_eq!(disk.tran.as_deref(), Some("usb"));
        assert_eq!(disk.by_path.as_deref(), Some("/dev/disk/by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0"));
    }

    #[test]
    fn paths_of_a_multipath_device_are_hidden_behind_it() {
        let sys = Sys::new();
        sys.disk("sda", 100, "");
        sys.disk("dm-3", 100, "");
        sys.put("sys/block/dm-3/dm/uuid", "mpath-3600\n");
        sys.put("sys/block/sda/holders/dm-3", "");
        let names: Vec<String> = sys.list().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["/dev/dm-3"]);
    }

    proptest::proptest! {
        #[test]
        fn hostile_vital_product_data_does_no_harm(page: Vec<u8>) {
            let _ = page_80(&page);
            let _ = page_83(&page);
            let mut framed = vec![0, 0x83, 0xff, 0xff];
            framed.extend(&page);
            let _ = page_83(&framed);
        }
    }
}
