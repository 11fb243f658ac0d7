//! Booting the ramdisk from virtual media: a bootable ISO image made for one boot of one node.

use bessemer_db::BootPlanRow;
use bessemer_drivers::iface::{BootDevice, BootMode, VirtualMedia};

use crate::{exec, runner::StepError, task::Task};

/// Makes the image, serves it under the plan's nonce and inserts it.
pub(crate) async fn insert_ramdisk(t: &mut Task, media: &dyn VirtualMedia, plan: &BootPlanRow, mode: BootMode) -> Result<(), StepError> {
    if mode == BootMode::Bios {
        return Err(StepError::fatal(
            "virtual media boots UEFI machines only; use boot interface ipxe or set boot_mode:uefi in the node's capabilities",
        ));
    }
    let Some(base) = t.core.config.boot_url.clone() else {
        return Err(StepError::fatal(
            "virtual media needs the boot services' HTTP server: set [pxe] http_port and the interface to serve on",
        ));
    };
    let url = format!("{}/boot/{}/boot.iso", base.trim_end_matches('/'), plan.nonce);
    media.insert(&exec::cx(t), BootDevice::Cdrom, &url).await?;
    Ok(())
}
