//! Booting the ramdisk from virtual media: a bootable ISO image made for one boot of one node, served under its plan's nonce.

use std::{fs::File, io::BufWriter, path::PathBuf};

use bessemer_drivers::iface::{BootDevice, BootMode, VirtualMedia};
use bessemer_media::{
    BootMedia, boot_iso,
    tree::{Streamed, Tree},
};
use bessemer_pxe::plan::{BootPlan, FileRef};

use crate::{core::Core, exec, runner::StepError, task::Task};

/// Name of the image below `/boot/<nonce>/`. BMCs insist on the ending.
pub(crate) const IMAGE: &str = "boot.iso";

fn content(path: PathBuf) -> Result<Streamed<impl Fn() -> std::io::Result<File>>, String> {
    let len = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
    Ok(Streamed { len, open: move || File::open(&path) })
}

/// Makes the image and adds it to the plan. The file is named after the nonce, so that a repeated step makes the same one again.
pub(crate) async fn add_image(core: &Core, plan: &mut BootPlan, mode: BootMode) -> Result<(), StepError> {
    if mode == BootMode::Bios {
        return Err(StepError::fatal(
            "virtual media boots UEFI machines only: use boot interface ipxe, or set boot_mode:uefi in the node's capabilities",
        ));
    }
    let (Some(FileRef::Path(kernel)), [FileRef::Path(ramdisk)]) = (plan.kernel.clone(), plan.layers.as_slice()) else {
        return Err(StepError::fatal("virtual media needs a kernel and a ramdisk as files"));
    };
    let ramdisk = ramdisk.clone();
    let dir = core.cache("vmedia");
    let path = dir.join(format!("{}.iso", plan.nonce.reveal()));
    let (shim, grub) = (core.config.shim_path.clone(), core.config.grub_path.clone());
    let command_line = plan.params.join(" ");
    let target = path.clone();
    let made = tokio::task::spawn_blocking(move || -> Result<(), String> {
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let (shim, grub, kernel, ramdisk) = (content(shim)?, content(grub)?, content(kernel)?, content(ramdisk)?);
        let media = BootMedia {
            loader: &shim,
            loader_name: "BOOTX64.EFI",
            grub: Some(("grubx64.efi", &grub)),
            kernel: &kernel,
            ramdisks: vec![&ramdisk],
            command_line: &command_line,
            files: Tree::new(),
            label: "VMEDIA_BOOT_ISO",
        };
        let part = target.with_extension("part");
        let mut out = BufWriter::new(File::create(&part).map_err(|e| format!("{}: {e}", part.display()))?);
        boot_iso(media, &mut out).map_err(|e| e.to_string())?;
        out.into_inner().map_err(|e| e.to_string())?.sync_all().map_err(|e| e.to_string())?;
        std::fs::rename(&part, &target).map_err(|e| e.to_string())
    })
    .await;
    match made {
        Ok(Ok(())) => {}
        Ok(Err(e)) => return Err(StepError::fatal(format!("the boot image for virtual media cannot be made: {e}"))),
        Err(e) => return Err(StepError::fatal(format!("the boot image for virtual media cannot be made: {e}"))),
    }
    plan.files.insert(IMAGE.to_owned(), FileRef::Path(path));
    Ok(())
}

/// Inserts the plan's image.
pub(crate) async fn insert(t: &Task, media: &dyn VirtualMedia, nonce: &str) -> Result<(), StepError> {
    let Some(base) = t.core.config.boot_url.clone() else {
        return Err(StepError::fatal("virtual media needs the boot services' HTTP server: set [pxe] interface"));
    };
    let url = format!("{}/boot/{nonce}/{IMAGE}", base.trim_end_matches('/'));
    media.insert(&exec::cx(t), BootDevice::Cdrom, &url).await?;
    Ok(())
}

/// Removes the image of a plan that is void.
pub(crate) async fn discard(core: &Core, nonce: &str) {
    if nonce.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let _ = tokio::fs::remove_file(core.cache("vmedia").join(format!("{nonce}.iso"))).await;
    }
}
