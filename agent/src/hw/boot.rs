//! How the machine was booted.

use super::Root;
use bessemer_agent_types::inventory::Boot;

/// Firmware mode, and the interface that the boot loader named.
pub fn boot(root: &Root, boot_mac: Option<&str>) -> Boot {
    let uefi = root.path("sys/firmware/efi").is_dir();
    Boot { current_boot_mode: Some(if uefi { "uefi" } else { "bios" }.into()), pxe_interface: boot_mac.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn efi_variables_mean_uefi() {
        let (_dir, root) = tree(&[("sys/firmware/efi/fw_platform_size", "64")]);
        assert_eq!(boot(&root, None).current_boot_mode.as_deref(), Some("uefi"));
        let (_dir, root) = tree(&[("sys/firmware/memmap/0/type", "")]);
        assert_eq!(boot(&root, Some("52:54:00:aa:00:01")).current_boot_mode.as_deref(), Some("bios"));
    }
}
