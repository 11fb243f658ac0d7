//! Which modules go into which ramdisk.

use super::Set;
use super::modinfo::{Module, chain};
use std::collections::{BTreeMap, BTreeSet};

/// What every ramdisk has: buses and disks of virtual machines, and what reads virtual media.
const MINIMAL: &[&str] = &[
    // paravirtual devices
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "vmxnet3",
    "vmw_pvscsi",
    // network cards that emulators and small servers have
    "e1000",
    "e1000e",
    "igb",
    // disks
    "nvme",
    "ahci",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    // USB virtual media
    "xhci_pci",
    "ehci_pci",
    "uhci_hcd",
    "usb_storage",
    // file systems of virtual media and configuration drives
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "nls_iso8859_1",
    "loop",
    // firmware and BMC
    "efivarfs",
    "efi_pstore",
    "ipmi_si",
    "ipmi_devintf",
    // algorithms that the kernel asks for by name
    "crc32c_generic",
    "crct10dif_generic",
    "crc64_rocksoft_generic",
];

/// Folders (below `kernel/`) that a server's ramdisk has whole.
const FULL: &[&str] = &[
    "drivers/ata/",
    "drivers/block/",
    "drivers/char/hw_random/",
    "drivers/char/ipmi/",
    "drivers/hv/",
    "drivers/message/fusion/",
    "drivers/mmc/",
    "drivers/net/ethernet/",
    "drivers/net/hyperv/",
    "drivers/net/vmxnet3/",
    "drivers/nvme/host/",
    "drivers/scsi/",
    "drivers/usb/core/",
    "drivers/usb/host/",
    "drivers/usb/storage/",
    "drivers/infiniband/core/",
    "drivers/infiniband/hw/mlx4/",
    "drivers/infiniband/hw/mlx5/",
    "drivers/infiniband/ulp/ipoib/",
    "drivers/md/",
    "drivers/firmware/",
    "drivers/edac/",
    "fs/ext4/",
    "fs/xfs/",
];

/// Single modules that a server's ramdisk has besides.
const FULL_SINGLE: &[&str] = &[
    "8021q",
    "bonding",
    "cdc_ether",
    "cdc_ncm",
    "r8152",
    "rndis_host",
    "usbnet",
    "usbhid",
    "hid_generic",
    "mlx5_ib",
    "mlx4_ib",
    "xen_netfront",
    "xen_blkfront",
];

/// Folders whose modules no server needs, within those above.
const NEVER: &[&str] = &[
    "drivers/scsi/pcmcia/",
    "drivers/net/ethernet/8390/",
    "drivers/net/ethernet/xircom/",
    "drivers/block/aoe/",
    "drivers/block/drbd/",
    "drivers/block/zram/",
    "drivers/block/paride/",
    "drivers/md/bcache/",
    "drivers/scsi/scsi_debug.ko",
    "drivers/block/nbd.ko",
    "drivers/block/floppy.ko",
    "drivers/block/pktcdvd.ko",
    "drivers/block/rbd.ko",
    "drivers/block/null_blk/",
    "drivers/block/rnbd/",
    "drivers/block/ublk_drv.ko",
    "drivers/char/ipmi/ipmi_watchdog.ko",
    "drivers/char/ipmi/ipmi_poweroff.ko",
    "drivers/edac/",
    "drivers/nvme/host/nvme-fcloop.ko",
];

/// Names of the modules for `set`, with all that they need. Unknown names are left out: kernels differ.
pub fn choose(set: Set, modules: &BTreeMap<String, Module>) -> BTreeSet<String> {
    let mut wanted: Vec<&str> = MINIMAL.to_vec();
    if set == Set::Full {
        wanted.extend(FULL_SINGLE);
        for (name, module) in modules {
            let path = module.file.strip_prefix("kernel/").unwrap_or(&module.file);
            if FULL.iter().any(|dir| path.starts_with(dir)) && !NEVER.iter().any(|dir| path.starts_with(dir)) {
                wanted.push(name);
            }
        }
    }
    let mut chosen = BTreeSet::new();
    let mut queue: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    while let Some(name) = queue.pop() {
        for name in chain(modules, &name) {
            if let Some(module) = modules.get(&name).filter(|_| chosen.insert(name.clone())) {
                queue.extend(module.after.iter().cloned());
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(file: &str) -> Module {
        Module { file: file.to_owned(), ..Module::default() }
    }

    #[test]
    fn the_full_set_holds_the_minimal_one() {
        let modules: BTreeMap<String, Module> = [
            ("virtio_net".to_owned(), module("kernel/drivers/net/virtio_net.ko")),
            ("bnx2x".to_owned(), module("kernel/drivers/net/ethernet/broadcom/bnx2x/bnx2x.ko")),
            ("floppy".to_owned(), module("kernel/drivers/block/floppy.ko")),
        ]
        .into();
        let minimal = choose(Set::Minimal, &modules);
        let full = choose(Set::Full, &modules);
        assert_eq!(minimal.iter().collect::<Vec<_>>(), ["virtio_net"]);
        assert_eq!(full.iter().collect::<Vec<_>>(), ["bnx2x", "virtio_net"]);
    }
}
