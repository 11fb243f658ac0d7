//! The operating system that tests deploy: a small whole-disk image, bootable by BIOS and UEFI,
//! that tells on the serial console what it is and what it finds.
//!
//! On `ttyS0`, in this order:
//! ```text
//! TEST-IMAGE id=<id> firmware=<bios|uefi> kernel=<release> uptime=<s>
//! CONFIG-DRIVE found device=<device> type=<file system>    (or: CONFIG-DRIVE none)
//! FILE <path> <bytes>            for each file of the config drive, followed by its text,
//! | <line>                       each line behind "| "
//! DISK <name> <sectors> <partitions…>
//! TEST-IMAGE READY id=<id> uptime=<s>
//! ```
//! Layout: GPT with a BIOS boot partition (GRUB core), an EFI system partition (GRUB, kernel,
//! initial ramdisk) and an ext4 partition labelled `test-root`. Built once for each content and
//! kept in the cache folder.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cpio::Cpio;
use crate::kernel::{Flavour, Kernel};
use crate::peers;
use crate::tool::{command, find, run};

const LIMIT: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;
const ESP_MIB: u64 = 40;
const INIT: &str = include_str!("image-init.sh");

/// What image to build.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// Identity that the banner tells.
    pub id: String,
    /// Extra data in the root partition that no compression shrinks, in MiB.
    pub pad_mib: u64,
    /// Start by Debian's signed shim and GRUB (UEFI Secure Boot).
    pub secure_boot: bool,
}

impl ImageSpec {
    /// The small image (51 MiB) with that identity.
    #[must_use]
    pub fn small(id: &str) -> Self {
        Self { id: id.to_owned(), pad_mib: 0, secure_boot: false }
    }
}

/// A built image in all its forms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestImage {
    /// Identity that the banner tells.
    pub id: String,
    /// The bytes of the disk.
    pub raw: Form,
    /// Compressed qcow2.
    pub qcow2: Form,
    /// Raw, compressed by gzip.
    pub gzip: Form,
    /// Raw, compressed by zstd.
    pub zstd: Form,
}

/// One file of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Form {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Form {
    /// Reads a file once for its checksum.
    pub fn of(path: &Path) -> Result<Self> {
        let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            hash.update(&buffer[..got]);
            bytes += got as u64;
        }
        Ok(Self { path: path.to_path_buf(), sha256: hex::encode(hash.finalize()), bytes })
    }
}

impl TestImage {
    /// The image of that specification, built (about 10 s) when the cache lacks it.
    pub fn build(spec: &ImageSpec) -> Result<Self> {
        let kernel = Kernel::fetch(if spec.secure_boot { Flavour::Generic } else { Flavour::Cloud })?;
        let mut key = Sha256::new();
        for part in [spec.id.as_str(), &kernel.release, INIT, include_str!("image.rs")] {
            key.update(part);
            key.update([0]);
        }
        key.update(format!("{} {}", spec.pad_mib, spec.secure_boot));
        let key = hex::encode(&key.finalize()[..8]);
        let folder = peers::cache().join("images").join(key);
        let about = folder.join("image.json");
        if let Ok(text) = std::fs::read(&about) {
            return serde_json::from_slice(&text).with_context(|| format!("reading {}", about.display()));
        }
        let parent = peers::cache().join("images");
        std::fs::create_dir_all(&parent)?;
        let work = tempfile::tempdir_in(&parent)?;
        let disk = work.path().join("disk.raw");
        assemble(spec, &kernel, work.path(), &disk).context("building the test image")?;
        let image = Self::forms(spec, work.path(), &disk, &folder)?;
        std::fs::write(work.path().join("image.json"), serde_json::to_vec_pretty(&image)?)?;
        match std::fs::rename(work.path(), &folder) {
            Err(_) if about.exists() => {}
            other => {
                other?;
                let _ = work.keep();
            }
        }
        Ok(image)
    }

    fn forms(spec: &ImageSpec, work: &Path, disk: &Path, folder: &Path) -> Result<Self> {
        let name = |extension: &str| work.join(format!("disk.{extension}"));
        let mut convert = command("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "qcow2", "-c"]).arg(disk).arg(name("qcow2"));
        run(&mut convert, LIMIT)?;
        run(command("gzip").args(["-k", "-n", "-6"]).arg(disk), LIMIT)?;
        run(command("zstd").args(["-q", "-k", "-6"]).arg(disk), LIMIT)?;
        for entry in std::fs::read_dir(work)?.flatten() {
            let path = entry.path();
            if !entry.file_name().to_string_lossy().starts_with("disk.") {
                let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            }
        }
        let form = |extension: &str| -> Result<Form> {
            let mut form = Form::of(&name(extension))?;
            form.path = folder.join(format!("disk.{extension}"));
            Ok(form)
        };
        Ok(Self { id: spec.id.clone(), raw: form("raw")?, qcow2: form("qcow2")?, gzip: form("raw.gz")?, zstd: form("raw.zst")? })
    }

    /// The line that tells that the image runs.
    #[must_use]
    pub fn banner(&self) -> String {
        format!("TEST-IMAGE id={} ", self.id)
    }

    /// The last line it prints.
    #[must_use]
    pub fn ready(&self) -> String {
        format!("TEST-IMAGE READY id={} ", self.id)
    }
}

fn assemble(spec: &ImageSpec, kernel: &Kernel, work: &Path, disk: &Path) -> Result<()> {
    let initrd = work.join("initrd");
    std::fs::write(work.join("initrd.cpio"), initial_ramdisk(spec, kernel)?)?;
    run(command("gzip").args(["-9", "-n"]).arg(work.join("initrd.cpio")), LIMIT)?;
    std::fs::rename(work.join("initrd.cpio.gz"), &initrd)?;
    let core = grub(spec, work)?;
    let esp = work.join("esp.img");
    system_partition(spec, kernel, work, &initrd, &esp)?;
    let root = work.join("root.img");
    root_partition(spec, work, &root)?;

    let root_mib = std::fs::metadata(&root)?.len() / MIB;
    let mut file = std::fs::File::options().create_new(true).read(true).write(true).open(disk)?;
    file.set_len((2 + ESP_MIB + root_mib + 1) * MIB)?;
    let mut table = command("sgdisk");
    table.args(["-o", "-a", "2048", "-n", "1:2048:+1M", "-t", "1:ef02", "-c", "1:bios-grub"]);
    table.args(["-n", &format!("2:4096:+{ESP_MIB}M"), "-t", "2:ef00", "-c", "2:esp"]);
    table.args(["-n", &format!("3:0:+{root_mib}M"), "-t", "3:8300", "-c", "3:test-root"]);
    run(table.arg(disk), LIMIT)?;
    place(&mut file, 2 * MIB, &esp)?;
    place(&mut file, (2 + ESP_MIB) * MIB, &root)?;
    bios_loader(&mut file, core)?;
    file.sync_all()?;
    Ok(())
}

/// Copies a file into the disk; blocks of zeros stay holes.
fn place(disk: &mut std::fs::File, at: u64, from: &Path) -> Result<()> {
    let mut from = std::fs::File::open(from)?;
    let mut block = vec![0; 64 << 10];
    let mut offset = at;
    loop {
        let got = from.read(&mut block)?;
        if got == 0 {
            return Ok(());
        }
        if block[..got].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(offset))?;
            disk.write_all(&block[..got])?;
        }
        offset += got as u64;
    }
}

/// Kernel modules that the image loads when its kernel has them.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "nvme",
    "ahci",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "crc32c_generic",
    "ext4",
    "efivarfs",
];

const APPLETS: &[&str] = &[
    "sh", "mount", "umount", "insmod", "cat", "ls", "find", "sort", "head", "sleep", "mkdir", "cut", "tr", "wc", "grep", "sed", "dd",
    "poweroff", "reboot", "uname", "setsid", "cttyhack",
];

fn initial_ramdisk(spec: &ImageSpec, kernel: &Kernel) -> Result<Vec<u8>> {
    let busybox = find("busybox").context("busybox is not installed")?;
    let mut cpio = Cpio::default();
    for folder in ["dev", "proc", "sys", "run", "mnt", "tmp"] {
        cpio.folder(folder);
    }
    cpio.copy("bin/busybox", 0o755, &busybox)?;
    for applet in APPLETS {
        cpio.link(&format!("bin/{applet}"), "busybox");
    }
    let mut list = String::new();
    for file in kernel.module_files(MODULES) {
        let name = file.display().to_string();
        cpio.copy(&name, 0o644, &kernel.root.join(&file))?;
        list.push_str(&format!("/{name}\n"));
    }
    cpio.file("etc/modules", 0o644, list.as_bytes());
    cpio.file("etc/image-id", 0o644, format!("{}\n", spec.id).as_bytes());
    cpio.file("init", 0o755, INIT.as_bytes());
    Ok(cpio.finish())
}

/// Builds GRUB for both kinds of firmware; returns the BIOS core.
fn grub(spec: &ImageSpec, work: &Path) -> Result<Vec<u8>> {
    std::fs::write(
        work.join("grub.cfg"),
        format!(
            "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n\
             set timeout=0\nset default=0\nmenuentry \"test image {}\" {{\n    \
             linux /test/vmlinuz console=tty0 console=ttyS0,115200n8 quiet loglevel=3\n    \
             initrd /test/initrd\n}}\n",
            spec.id
        ),
    )?;
    let early = work.join("early.cfg");
    std::fs::write(&early, "search --no-floppy --set=root --file /test/grub.cfg\nset prefix=($root)/test\nconfigfile /test/grub.cfg\n")?;
    let modules = "normal linux configfile search search_fs_file part_gpt part_msdos fat ext2 echo serial terminal test ls";
    for (format, output, extra) in [("x86_64-efi", "bootx64.efi", None), ("i386-pc", "core.img", Some("biosdisk"))] {
        let mut make = command("grub-mkimage");
        make.args(["-O", format, "-p", "/test", "-o"]).arg(work.join(output)).arg("-c").arg(&early);
        run(make.args(modules.split(' ')).args(extra), LIMIT)?;
    }
    Ok(std::fs::read(work.join("core.img"))?)
}

fn system_partition(spec: &ImageSpec, kernel: &Kernel, work: &Path, initrd: &Path, esp: &Path) -> Result<()> {
    std::fs::File::create(esp)?.set_len(ESP_MIB * MIB)?;
    run(command("mkfs.vfat").args(["-n", "TEST-ESP", "-i", "7e57e591"]).arg(esp), LIMIT)?;
    let mtools =
        |program: &str, args: &[&std::ffi::OsStr]| run(command(program).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(esp).args(args), LIMIT);
    let folders: &[&str] =
        if spec.secure_boot { &["::/EFI", "::/EFI/BOOT", "::/EFI/debian", "::/test"] } else { &["::/EFI", "::/EFI/BOOT", "::/test"] };
    for folder in folders {
        mtools("mmd", &[folder.as_ref()])?;
    }
    let put = |from: &Path, to: &str| mtools("mcopy", &[from.as_os_str(), to.as_ref()]);
    if spec.secure_boot {
        put(Path::new("/usr/lib/shim/shimx64.efi.signed"), "::/EFI/BOOT/BOOTX64.EFI")?;
        put(Path::new("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"), "::/EFI/BOOT/grubx64.efi")?;
        put(&work.join("grub.cfg"), "::/EFI/debian/grub.cfg")?;
    } else {
        put(&work.join("bootx64.efi"), "::/EFI/BOOT/BOOTX64.EFI")?;
    }
    put(&kernel.image(), "::/test/vmlinuz")?;
    put(initrd, "::/test/initrd")?;
    put(&work.join("grub.cfg"), "::/test/grub.cfg")?;
    Ok(())
}

fn root_partition(spec: &ImageSpec, work: &Path, root: &Path) -> Result<()> {
    let tree = work.join("root");
    std::fs::create_dir_all(tree.join("etc"))?;
    std::fs::write(tree.join("etc/os-release"), format!("ID=test\nVARIANT_ID=\"{}\"\n", spec.id))?;
    if spec.pad_mib > 0 {
        let mut random = std::fs::File::open("/dev/urandom")?.take(spec.pad_mib * MIB);
        std::io::copy(&mut random, &mut std::fs::File::create(tree.join("pad"))?)?;
    }
    std::fs::File::create(root)?.set_len((8 + spec.pad_mib + spec.pad_mib / 8) * MIB)?;
    let mut make = command("mkfs.ext4");
    make.args(["-q", "-F", "-L", "test-root", "-E", "root_owner=0:0", "-d"]).arg(tree).arg(root);
    run(&mut make, LIMIT).map(drop)
}

/// Installs GRUB for BIOS without a running GRUB: the boot sector holds the first sector of the
/// core (at 0x5c), the core's first sector the list of its other sectors (at 0x1f4).
fn bios_loader(disk: &mut std::fs::File, mut core: Vec<u8>) -> Result<()> {
    const CORE_AT: u64 = 2048;
    let sectors = core.len().div_ceil(512) as u64;
    ensure!(sectors <= 2048 && core.len() > 512, "GRUB's core does not fit its partition");
    let mut list = Vec::new();
    list.extend((CORE_AT + 1).to_le_bytes());
    list.extend(u16::try_from(sectors - 1)?.to_le_bytes());
    list.extend(0x820u16.to_le_bytes());
    core.get_mut(0x1f4..0x200).context("GRUB's core is too short")?.copy_from_slice(&list);
    disk.seek(SeekFrom::Start(CORE_AT * 512))?;
    disk.write_all(&core)?;
    let mut boot = std::fs::read("/usr/lib/grub/i386-pc/boot.img").context("grub-pc-bin is not installed")?;
    ensure!(boot.len() >= 440, "GRUB's boot sector is too short");
    boot.truncate(440);
    boot[0x5c..0x64].copy_from_slice(&CORE_AT.to_le_bytes());
    // Two no-operations let it pass over the probe for floppy disks.
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    disk.seek(SeekFrom::Start(0))?;
    disk.write_all(&boot)?;
    Ok(())
}
