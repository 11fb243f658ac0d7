//! NVMe Format with secure erase (NVM Express base specification 2.0, section 5.14), as far as the controller offers it.
//!
//! Building and reading of commands is pure; sending needs a device. Keeps the namespace's block format and its
//! protection settings.

use std::fs::File;
use std::io;

use crate::ioctl::{self, NvmeAdminCommand};

const IDENTIFY: u8 = 0x06;
const FORMAT: u8 = 0x80;
const PAGE: usize = 4096;
/// A large disk may take long to overwrite itself.
const TIMEOUT_MS: u32 = 4 * 3600 * 1000;

/// What a controller and its namespace say about erasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// The Format command exists (OACS bit 1).
    pub format: bool,
    /// Cryptographic erase exists (FNA bit 2).
    pub crypto: bool,
    /// Current format and protection, as command dword 10 wants them.
    settings: u32,
}

impl Abilities {
    /// From the Identify data of controller and namespace.
    pub fn parse(controller: &[u8; PAGE], namespace: &[u8; PAGE]) -> Self {
        let format_index = u32::from(namespace[26]);
        let protection = u32::from(namespace[29]);
        // LBAF low bits, metadata setting, protection kind and place, LBAF high bits.
        let settings = (format_index & 0xf)
            | (format_index >> 4 & 1) << 4
            | (protection & 7) << 5
            | (protection >> 3 & 1) << 8
            | (format_index >> 5 & 3) << 12;
        Self { format: controller[256] & 2 != 0, crypto: controller[524] & 4 != 0, settings }
    }

    /// The Format command: cryptographic erase when the controller has it, else user-data erase.
    pub fn format_command(self, namespace: u32) -> NvmeAdminCommand {
        let erase: u32 = if self.crypto { 2 } else { 1 };
        NvmeAdminCommand { opcode: FORMAT, nsid: namespace, cdw10: self.settings | erase << 9, timeout_ms: TIMEOUT_MS }
    }
}

fn identify(file: &File, namespace: u32, structure: u32) -> io::Result<Box<[u8; PAGE]>> {
    let mut page = Box::new([0; PAGE]);
    let command = NvmeAdminCommand { opcode: IDENTIFY, nsid: namespace, cdw10: structure, ..NvmeAdminCommand::default() };
    ioctl::nvme_admin(file, command, Some(page.as_mut_slice()))?;
    Ok(page)
}

/// Asks a device what it can do.
///
/// # Errors
/// When it is no NVMe device or does not answer.
pub fn abilities(file: &File) -> io::Result<(u32, Abilities)> {
    let namespace = ioctl::nvme_namespace(file)?;
    let controller = identify(file, 0, 1)?;
    let data = identify(file, namespace, 0)?;
    Ok((namespace, Abilities::parse(&controller, &data)))
}

/// Formats the namespace with secure erase. Blocks until the device is done.
///
/// # Errors
/// When the device refuses or fails.
pub fn format(file: &File, namespace: u32, abilities: Abilities) -> io::Result<()> {
    ioctl::nvme_admin(file, abilities.format_command(namespace), None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_command_keeps_the_block_format_and_asks_for_the_best_erase() {
        let (mut controller, mut namespace) = ([0; PAGE], [0; PAGE]);
        controller[256] = 0x17;
        namespace[26] = 1;
        let plain = Abilities::parse(&controller, &namespace);
        assert!(plain.format && !plain.crypto);
        let command = plain.format_command(3);
        // The same bytes as `nvme format /dev/nvme0n1 -s 1` with LBA format 1.
        assert_eq!((command.opcode, command.nsid, command.cdw10), (0x80, 3, 0x201));
        controller[524] = 4;
        namespace[26] = 0x32;
        namespace[29] = 0x09;
        let crypto = Abilities::parse(&controller, &namespace).format_command(1);
        assert_eq!(crypto.cdw10, 0x2 | 1 << 4 | 1 << 5 | 1 << 8 | 2 << 9 | 1 << 12);
    }

    #[test]
    fn a_controller_without_format_is_left_alone() {
        assert!(!Abilities::parse(&[0; PAGE], &[0; PAGE]).format);
    }
}
