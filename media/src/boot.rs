//! Bootable media for UEFI virtual media: a CD image with kernel and ramdisk on it, and an EFI system partition with shim
//! and GRUB inside, which El Torito names.
//!
//! Firmware starts the loader from the partition. GRUB sees the CD itself (not the partition), finds its configuration there
//! and loads kernel and ramdisk from it. Signed GRUBs look for their configuration in the folder that their distribution
//! built in, so the same file is put at all of them; Debian's first looks for the medium that has `/.disk/info`.

use std::io::Write;

use crate::error::MediaError;
use crate::fat::FatImage;
use crate::iso::IsoImage;
use crate::tree::{Content, Tree};

/// Folders in which signed GRUBs look for `grub.cfg`.
const GRUB_FOLDERS: [&str; 5] = ["EFI/BOOT", "EFI/debian", "EFI/ubuntu", "EFI/redhat", "boot/grub"];

/// File by which GRUB finds the medium.
const MARKER: &str = ".disk/info";

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
    /// Further files on the CD (a config drive's, for example).
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
pub fn boot_iso(media: BootMedia<'_>, out: &mut dyn Write) -> Result<u64, MediaError> {
    let mut esp = Tree::new();
    esp.add(&format!("EFI/BOOT/{}", media.loader_name), Borrowed(media.loader))?;
    if let Some((name, grub)) = media.grub {
        esp.add(&format!("EFI/BOOT/{name}"), Borrowed(grub))?;
    }
    let mut cd = media.files;
    cd.add(MARKER, format!("{}\n", media.label).into_bytes())?;
    cd.add("vmlinuz", Borrowed(media.kernel))?;
    let mut names = Vec::new();
    for (i, ramdisk) in media.ramdisks.iter().enumerate() {
        let name = format!("ramdisk{i}");
        cd.add(&name, Borrowed(*ramdisk))?;
        names.push(name);
    }
    let config = grub_config(media.command_line, &names)?.into_bytes();
    for folder in GRUB_FOLDERS {
        let path = format!("{folder}/grub.cfg");
        // In the partition too, for a GRUB that sees that one.
        esp.add(&path, config.clone())?;
        cd.add(&path, config.clone())?;
    }
    let esp = FatImage::new("ESP", &esp, 0)?;
    let iso = IsoImage::bootable(media.label, &cd, &esp)?;
    iso.write(out)?;
    Ok(Content::len(&iso))
}

/// The GRUB configuration: one entry, started at once, from the medium that has the marker.
fn grub_config(command_line: &str, ramdisks: &[String]) -> Result<String, MediaError> {
    if command_line.chars().any(char::is_control) {
        return Err(MediaError::Name { path: command_line.to_owned(), why: "a kernel command line has no control characters" });
    }
    // Single quotes keep GRUB from reading $, ;, { and & in the arguments; a quote itself cannot be in them.
    let quoted: Vec<String> = command_line.split_whitespace().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
    let initrd: Vec<String> = ramdisks.iter().map(|r| format!("/{r}")).collect();
    let mut text = format!(
        "set default=0\nset timeout=0\nsearch --no-floppy --file --set=root /{MARKER}\nmenuentry 'boot' {{\n  linux /vmlinuz {}\n",
        quoted.join(" ")
    );
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
