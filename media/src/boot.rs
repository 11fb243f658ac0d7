//! Bootable media for UEFI virtual media: an EFI system partition with shim, GRUB, kernel and ramdisk on a CD image.
//!
//! GRUB is started from the FAT image that El Torito names and finds its configuration there, under the folder that the
//! distribution built into it, so the same file is put at all of them.

use std::io::Write;

use crate::error::MediaError;
use crate::fat::FatImage;
use crate::iso::IsoImage;
use crate::tree::{Content, Tree};

/// Folders in which signed GRUBs look for `grub.cfg`.
const GRUB_FOLDERS: [&str; 5] = ["EFI/BOOT", "EFI/debian", "EFI/ubuntu", "EFI/redhat", "boot/grub"];

/// What goes onto a boot medium.
pub struct BootMedia<'a> {
    /// Program that firmware starts (`BOOTX64.EFI`): shim, or any EFI program.
    pub loader: &'a dyn Content,
    /// Name of it, by architecture: `BOOTX64.EFI`, `BOOTAA64.EFI`.
    pub loader_name: &'a str,
    /// GRUB with the name that shim looks for (`grubx64.efi`), when the loader is shim.
    pub grub: Option<(&'a str, &'a dyn Content)>,
    /// Kernel.
    pub kernel: &'a dyn Content,
    /// Ramdisk layers, loaded one after the other.
    pub ramdisks: Vec<&'a dyn Content>,
    /// Kernel command line.
    pub command_line: &'a str,
    /// Further files on the CD itself (a config drive's, for example), visible to the started system.
    pub files: Tree<'a>,
    /// Volume label of the CD.
    pub label: &'a str,
}

/// Borrowed contents in a tree of their own lifetime.
struct Borrowed<'a>(&'a dyn Content);

impl Content for Borrowed<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn write_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}

/// Writes a bootable CD image; gives its length in bytes.
pub fn boot_iso(media: &BootMedia<'_>, out: &mut dyn Write) -> Result<u64, MediaError> {
    let mut tree = Tree::new();
    tree.add(&format!("EFI/BOOT/{}", media.loader_name), Borrowed(media.loader))?;
    if let Some((name, grub)) = media.grub {
        tree.add(&format!("EFI/BOOT/{name}"), Borrowed(grub))?;
    }
    tree.add("vmlinuz", Borrowed(media.kernel))?;
    let mut names = Vec::new();
    for (i, ramdisk) in media.ramdisks.iter().enumerate() {
        let name = format!("ramdisk{i}");
        tree.add(&name, Borrowed(*ramdisk))?;
        names.push(name);
    }
    let config = grub_config(media.command_line, &names)?.into_bytes();
    for folder in GRUB_FOLDERS {
        tree.add(&format!("{folder}/grub.cfg"), config.clone())?;
    }
    let esp = FatImage::new("ESP", &tree, 0)?;
    let iso = IsoImage::bootable(media.label, &media.files, &esp)?;
    iso.write(out)?;
    Ok(Content::len(&iso))
}

/// The GRUB configuration: one entry, started at once. `$root` is the medium that GRUB itself came from.
fn grub_config(command_line: &str, ramdisks: &[String]) -> Result<String, MediaError> {
    if command_line.chars().any(char::is_control) {
        return Err(MediaError::Name { path: command_line.to_owned(), why: "a kernel command line has no control characters" });
    }
    // Single quotes keep GRUB from reading $, ;, { and & in the arguments; a quote itself cannot be in them.
    let quoted: Vec<String> = command_line.split_whitespace().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
    let initrd: Vec<String> = ramdisks.iter().map(|r| format!("/{r}")).collect();
    let mut text = format!("set default=0\nset timeout=0\nmenuentry 'boot' {{\n  linux /vmlinuz {}\n", quoted.join(" "));
    if !initrd.is_empty() {
        text.push_str(&format!("  initrd {}\n", initrd.join(" ")));
    }
    text.push_str("}\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_cannot_leave_the_kernel_line() {
        assert!(grub_config("a=b\nreboot", &[]).is_err());
        let text = grub_config("a=$x;reboot b='q'", &["ramdisk0".into(), "ramdisk1".into()]).unwrap();
        assert!(text.contains(r"linux /vmlinuz 'a=$x;reboot' 'b='\''q'\'''"));
        assert!(text.contains("initrd /ramdisk0 /ramdisk1"));
    }
}
