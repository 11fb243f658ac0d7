//! UEFI boot variables through efivarfs (UEFI 2.10 sections 3.1 and 8.2): reading, writing and deleting load options.
//!
//! Touches only `Boot####` and `BootOrder`. A machine without efivarfs has no boot variables and no error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::ioctl;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, boot-time and run-time access.
const ATTRIBUTES: u32 = 7;
const ACTIVE: u32 = 1;
/// `FS_IMMUTABLE_FL`: the kernel sets it on every variable against accidental deletion.
const IMMUTABLE: i64 = 0x10;
/// Largest variable that is read.
const MAX_VARIABLE: u64 = 64 << 10;

/// A `Boot####` variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOption {
    /// The four digits.
    pub number: u16,
    /// Label.
    pub label: String,
    /// Device path as text, `HD(…)/File(…)`.
    pub path: String,
    /// Whole content without the variable's attributes.
    pub data: Vec<u8>,
}

/// A partition as firmware names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardDrive {
    /// Partition number.
    pub number: u32,
    /// First sector.
    pub first: u64,
    /// Sectors.
    pub count: u64,
    /// How the disk is known.
    pub signature: Signature,
}

/// Signature of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Unique GUID of a GPT partition.
    Guid(Uuid),
    /// Signature of an MBR disk.
    Mbr(u32),
}

/// Content of a load option for a loader on a partition; `file` with backslashes.
pub fn load_option(label: &str, drive: &HardDrive, file: &str) -> Vec<u8> {
    let mut path = vec![4, 1, 42, 0];
    path.extend(drive.number.to_le_bytes());
    path.extend(drive.first.to_le_bytes());
    path.extend(drive.count.to_le_bytes());
    match drive.signature {
        Signature::Guid(id) => {
            path.extend(id.to_bytes_le());
            path.extend([2, 2]);
        }
        Signature::Mbr(signature) => {
            path.extend(signature.to_le_bytes());
            path.extend([0; 12]);
            path.extend([1, 1]);
        }
    }
    let name = wide(file);
    let len = u16::try_from(4 + name.len()).unwrap_or(u16::MAX);
    path.extend([4, 4]);
    path.extend(len.to_le_bytes());
    path.extend(name);
    path.extend([0x7f, 0xff, 4, 0]);
    let mut data = ACTIVE.to_le_bytes().to_vec();
    data.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    data.extend(wide(label));
    data.extend(path);
    data
}

/// UCS-2 with its terminator.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain(std::iter::once(0)).flat_map(u16::to_le_bytes).collect()
}

fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes)
}

impl LoadOption {
    /// Reads a load option; `None` when it is cut short.
    pub fn parse(number: u16, data: &[u8]) -> Option<Self> {
        let path_len = usize::from(u16::from_le_bytes(data.get(4..6)?.try_into().ok()?));
        let rest = data.get(6..)?;
        let label: Vec<u16> = units(rest).take_while(|unit| *unit != 0).collect();
        let path = rest.get(2 * (label.len() + 1)..)?;
        let path = path.get(..path_len).unwrap_or(path);
        Some(Self { number, label: String::from_utf16_lossy(&label), path: path_text(path), data: data.to_vec() })
    }
}

/// A device path as people read it; nodes that are not named here are shown by type.
fn path_text(mut path: &[u8]) -> String {
    let mut parts = Vec::new();
    while let Some(header) = path.first_chunk::<4>() {
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let Some(body) = path.get(4..len) else { break };
        let u32_at = |at: usize| body.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let u64_at = |at: usize| body.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        match (header[0], header[1]) {
            (0x7f, 0xff) => break,
            (4, 1) => {
                let id = match body.get(37).copied() {
                    Some(2) => {
                        let guid = body.get(20..36).and_then(|b| b.try_into().ok()).map_or(Uuid::nil(), Uuid::from_bytes_le);
                        format!("GPT,{guid}")
                    }
                    _ => format!("MBR,0x{:08x}", u32_at(20)),
                };
                parts.push(format!("HD({},{id},{:#x},{:#x})", u32_at(0), u64_at(4), u64_at(12)));
            }
            (4, 4) => {
                let name: Vec<u16> = units(body).take_while(|unit| *unit != 0).collect();
                parts.push(format!("File({})", String::from_utf16_lossy(&name)));
            }
            (4, 6 | 7) => parts.push("FvFile".into()),
            (2, 1) => parts.push(format!("PciRoot({:#x})", u32_at(4))),
            (1, 1) => parts.push(format!("Pci({:#x},{:#x})", body.get(1).copied().unwrap_or(0), body.first().copied().unwrap_or(0))),
            (3, 11) => parts.push(format!("MAC({})", hex::encode(body.get(..6).unwrap_or_default()))),
            (3, 12) => parts.push("IPv4".into()),
            (3, 13) => parts.push("IPv6".into()),
            (3, 24) => parts.push("Uri".into()),
            (kind, sub) => parts.push(format!("Path({kind},{sub})")),
        }
        path = path.get(len.max(4)..).unwrap_or_default();
    }
    parts.join("/")
}

/// The firmware's variables.
#[derive(Clone, Debug)]
pub struct EfiVars {
    dir: PathBuf,
}

impl EfiVars {
    /// The variables of the machine whose file systems are below `root`; `None` when it was not started by UEFI
    /// or the kernel does not offer them.
    pub fn open(root: &Path) -> Option<Self> {
        let dir = root.join("sys/firmware/efi/efivars");
        let filled = || fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
        if !filled() && root == Path::new("/") && dir.is_dir() {
            let mounted = nix::mount::mount(Some("efivarfs"), &dir, Some("efivarfs"), nix::mount::MsFlags::empty(), None::<&str>);
            if let Err(error) = mounted {
                tracing::debug!("efivarfs cannot be mounted: {error}");
            }
        }
        filled().then_some(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-{GLOBAL}"))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_VARIABLE).read_to_end(&mut bytes)?;
        // The first four bytes are the variable's attributes.
        Ok(bytes.get(4..).map(<[u8]>::to_vec))
    }

    /// Lets a variable be changed.
    fn unlock(&self, name: &str) -> io::Result<()> {
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match ioctl::inode_flags(&file) {
            Ok(flags) if flags & IMMUTABLE != 0 => ioctl::set_inode_flags(&file, flags & !IMMUTABLE),
            // Not every kernel has the flag.
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.unlock(name)?;
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(data);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(self.path(name))?;
        // A variable is set by one write.
        let written = file.write(&bytes)?;
        if written != bytes.len() {
            return Err(io::Error::other("the firmware took the variable only in part"));
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.unlock(name)?;
        fs::remove_file(self.path(name))
    }

    /// All load options, by number.
    ///
    /// # Errors
    /// When the variables cannot be read.
    pub fn options(&self) -> io::Result<Vec<LoadOption>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(digits) = name.strip_prefix("Boot").and_then(|rest| rest.strip_suffix(&format!("-{GLOBAL}"))) else { continue };
            let Some(number) = u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4) else { continue };
            if let Some(option) = self.read(&format!("Boot{digits}"))?.and_then(|data| LoadOption::parse(number, &data)) {
                found.push(option);
            }
        }
        found.sort_by_key(|option| option.number);
        Ok(found)
    }

    /// The boot order.
    ///
    /// # Errors
    /// When the variable cannot be read.
    pub fn order(&self) -> io::Result<Vec<u16>> {
        Ok(self.read("BootOrder")?.map(|data| units(&data).collect()).unwrap_or_default())
    }

    fn set_order(&self, order: &[u16]) -> io::Result<()> {
        if self.order()? == order {
            return Ok(());
        }
        let data: Vec<u8> = order.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.write("BootOrder", &data)
    }

    /// Makes `data` (a load option with `label`) the first in the boot order and deletes others of that label.
    /// An option that is there already is used again. Returns its number.
    ///
    /// # Errors
    /// When the firmware refuses a variable, mostly for want of space.
    pub fn put_first(&self, label: &str, data: &[u8]) -> io::Result<u16> {
        let options = self.options()?;
        let same = options.iter().find(|option| option.data == data).map(|option| option.number);
        let mut order = self.order()?;
        for option in options.iter().filter(|option| option.label == label && Some(option.number) != same) {
            self.delete(&format!("Boot{:04X}", option.number))?;
            order.retain(|number| *number != option.number);
        }
        let number = match same {
            Some(number) => number,
            None => {
                let taken: Vec<u16> = self.options()?.iter().map(|option| option.number).chain(order.iter().copied()).collect();
                let free = (0..=u16::MAX).find(|number| !taken.contains(number));
                let free = free.ok_or_else(|| io::Error::other("all boot entries are used"))?;
                self.write(&format!("Boot{free:04X}"), data)?;
                free
            }
        };
        order.retain(|other| *other != number);
        order.insert(0, number);
        self.set_order(&order)?;
        Ok(number)
    }

    /// Deletes load options and takes them out of the boot order.
    ///
    /// # Errors
    /// When the firmware refuses.
    pub fn remove(&self, doomed: &[u16]) -> io::Result<()> {
        for number in doomed {
            self.delete(&format!("Boot{number:04X}"))?;
        }
        let mut order = self.order()?;
        order.retain(|number| !doomed.contains(number));
        self.set_order(&order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive() -> HardDrive {
        let id = Uuid::parse_str("11223344-5566-7788-99aa-bbccddeeff00").unwrap();
        HardDrive { number: 1, first: 2048, count: 204_800, signature: Signature::Guid(id) }
    }

    #[test]
    fn a_load_option_has_the_bytes_that_firmware_expects() {
        let data = load_option("os", &drive(), "\\EFI\\x.efi");
        assert_eq!(&data[..6], &[1, 0, 0, 0, 42 + 4 + 22 + 4, 0]);
        assert_eq!(&data[6..12], b"o\0s\0\0\0");
        assert_eq!(&data[12..16], &[4, 1, 42, 0]);
        assert_eq!(&data[36..40], &[0x44, 0x33, 0x22, 0x11], "a GUID is stored little-endian");
        assert_eq!(&data[data.len() - 4..], &[0x7f, 0xff, 4, 0]);
        let option = LoadOption::parse(3, &data).unwrap();
        assert_eq!(option.label, "os");
        assert_eq!(option.path, "HD(1,GPT,11223344-5566-7788-99aa-bbccddeeff00,0x800,0x32000)/File(\\EFI\\x.efi)");
        let mbr = HardDrive { signature: Signature::Mbr(0xdead_beef), ..drive() };
        let option = LoadOption::parse(3, &load_option("os", &mbr, "\\x")).unwrap();
        assert!(option.path.starts_with("HD(1,MBR,0xdeadbeef,"), "{}", option.path);
    }

    #[test]
    fn a_new_entry_is_first_and_replaces_those_of_its_label() {
        let dir = tempfile::tempdir().unwrap();
        assert!(EfiVars::open(dir.path()).is_none(), "a machine without efivarfs");
        let vars_dir = dir.path().join("sys/firmware/efi/efivars");
        fs::create_dir_all(&vars_dir).unwrap();
        fs::write(vars_dir.join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"), [6, 0, 0, 0, 0]).unwrap();
        let vars = EfiVars::open(dir.path()).unwrap();
        let pxe = vars.put_first("PXE", &load_option("PXE", &drive(), "\\pxe")).unwrap();
        let old = vars.put_first("os", &load_option("os", &drive(), "\\old")).unwrap();
        assert_eq!(vars.order().unwrap(), [old, pxe]);
        let new = load_option("os", &drive(), "\\new");
        let number = vars.put_first("os", &new).unwrap();
        assert_eq!(vars.order().unwrap(), [number, pxe]);
        assert_eq!(vars.options().unwrap().len(), 2);
        assert_eq!(vars.put_first("os", &new).unwrap(), number, "the same entry is kept");
        vars.remove(&[number]).unwrap();
        assert_eq!(vars.order().unwrap(), [pxe]);
        assert_eq!(vars.options().unwrap().len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn hostile_load_options_do_no_harm(data: Vec<u8>) {
            let _ = LoadOption::parse(1, &data);
        }
    }
}
