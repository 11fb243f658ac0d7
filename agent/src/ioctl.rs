//! The system calls that have no safe wrapper: block-device, NVMe, SCSI and inode-flag ioctls.
//!
//! Every `unsafe` block of the agent's disk code stands here, each behind a safe function that takes an open
//! file. Nothing here decides anything: no function erases more than the range it was given.

#![allow(unsafe_code, reason = "the one module that speaks to the kernel below the safe wrappers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod raw {
    //! Generated call stubs; numbers from `linux/fs.h`, `linux/nvme_ioctl.h` and `scsi/sg.h`.
    #![allow(missing_docs, reason = "macro output")]
    use nix::libc::{c_int, c_long};
    use nix::{ioctl_none, ioctl_read, ioctl_read_bad, ioctl_readwrite, ioctl_readwrite_bad, ioctl_write_ptr};
    use nix::{ioctl_write_ptr_bad, request_code_none};

    ioctl_read!(blkgetsize64, 0x12, 114, u64);
    ioctl_none!(blkrrpart, 0x12, 95);
    ioctl_read_bad!(blkroget, request_code_none!(0x12, 94), c_int);
    ioctl_read_bad!(blksszget, request_code_none!(0x12, 104), c_int);
    ioctl_write_ptr_bad!(blkdiscard, request_code_none!(0x12, 119), [u64; 2]);
    ioctl_write_ptr_bad!(blksecdiscard, request_code_none!(0x12, 125), [u64; 2]);
    ioctl_write_ptr_bad!(blkzeroout, request_code_none!(0x12, 127), [u64; 2]);
    ioctl_read!(fs_getflags, b'f', 1, c_long);
    ioctl_write_ptr!(fs_setflags, b'f', 2, c_long);
    ioctl_none!(nvme_id, b'N', 0x40);
    ioctl_readwrite!(nvme_admin, b'N', 0x41, super::NvmePassthru);
    ioctl_readwrite_bad!(sg_io, 0x2285, super::SgIoHeader);
}

/// What differs between the NVMe admin commands that are sent from here; all else is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvmeAdminCommand {
    /// Admin opcode.
    pub opcode: u8,
    /// Namespace, `0xffffffff` for all.
    pub nsid: u32,
    /// Command dword 10.
    pub cdw10: u32,
    /// Milliseconds, 0 for the driver's default.
    pub timeout_ms: u32,
}

/// `struct nvme_passthru_cmd` of `linux/nvme_ioctl.h` (72 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NvmePassthru {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// `struct sg_io_hdr` of `scsi/sg.h`.
#[repr(C)]
#[derive(Debug)]
pub struct SgIoHeader {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

/// Direction and buffer of a SCSI pass-through transfer.
#[derive(Debug)]
pub enum SgData<'a> {
    /// No data phase.
    None,
    /// The device fills the buffer.
    In(&'a mut [u8]),
    /// The device reads the buffer.
    Out(&'a mut [u8]),
}

/// How a SCSI pass-through command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgOutcome {
    /// SCSI status byte; 0 is GOOD, 2 is CHECK CONDITION.
    pub status: u8,
    /// Host adapter status; 0 is fine.
    pub host_status: u16,
    /// Driver status; 8 only says that sense data is present.
    pub driver_status: u16,
    /// Sense data written by the device.
    pub sense: Vec<u8>,
}

fn os<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}

/// Size of a block device in bytes (`BLKGETSIZE64`).
///
/// # Errors
/// Fails with `ENOTTY` when the file is no block device.
pub fn device_size(file: &File) -> io::Result<u64> {
    let mut size = 0_u64;
    // SAFETY: the descriptor is open for the call and the kernel writes eight bytes to a live u64.
    os(unsafe { raw::blkgetsize64(file.as_raw_fd(), &raw mut size) })?;
    Ok(size)
}

/// Logical sector size in bytes (`BLKSSZGET`).
///
/// # Errors
/// Fails with `ENOTTY` when the file is no block device.
pub fn logical_sector_size(file: &File) -> io::Result<u32> {
    let mut size = 0;
    // SAFETY: the descriptor is open for the call and the kernel writes one int to a live c_int.
    os(unsafe { raw::blksszget(file.as_raw_fd(), &raw mut size) })?;
    u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether the kernel holds the device read-only (`BLKROGET`).
///
/// # Errors
/// Fails with `ENOTTY` when the file is no block device.
pub fn is_read_only(file: &File) -> io::Result<bool> {
    let mut flag = 0;
    // SAFETY: the descriptor is open for the call and the kernel writes one int to a live c_int.
    os(unsafe { raw::blkroget(file.as_raw_fd(), &raw mut flag) })?;
    Ok(flag != 0)
}

/// Makes the kernel read the partition table again (`BLKRRPART`).
///
/// # Errors
/// `EBUSY` when a partition is in use, `EINVAL` when the device cannot have partitions.
pub fn reread_partitions(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; the ioctl takes no argument.
    os(unsafe { raw::blkrrpart(file.as_raw_fd()) }).map(drop)
}

/// Discards a byte range (`BLKDISCARD`). What a later read returns is up to the device.
///
/// # Errors
/// `EOPNOTSUPP` when the device cannot discard, `EINVAL` when the range is not sector aligned.
pub fn discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: the descriptor is open for the call and the kernel only reads two live u64.
    os(unsafe { raw::blkdiscard(file.as_raw_fd(), &raw const range) }).map(drop)
}

/// Discards a byte range and all copies of it (`BLKSECDISCARD`).
///
/// # Errors
/// `EOPNOTSUPP` when the device has no secure discard.
pub fn secure_discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: the descriptor is open for the call and the kernel only reads two live u64.
    os(unsafe { raw::blksecdiscard(file.as_raw_fd(), &raw const range) }).map(drop)
}

/// Makes a byte range read as zeros (`BLKZEROOUT`); the kernel writes zeros where the device cannot do it itself.
///
/// # Errors
/// `EINVAL` when the range is not sector aligned, or the device's own write error.
pub fn zero_out(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: the descriptor is open for the call and the kernel only reads two live u64.
    os(unsafe { raw::blkzeroout(file.as_raw_fd(), &raw const range) }).map(drop)
}

/// Inode flags (`FS_IOC_GETFLAGS`).
///
/// # Errors
/// `ENOTTY` when the file system has none.
pub fn inode_flags(file: &File) -> io::Result<i64> {
    let mut flags = 0;
    // SAFETY: the descriptor is open for the call and the kernel writes at most one long to a live c_long.
    os(unsafe { raw::fs_getflags(file.as_raw_fd(), &raw mut flags) })?;
    Ok(flags)
}

/// Sets inode flags (`FS_IOC_SETFLAGS`).
///
/// # Errors
/// `EPERM` without the capability, `ENOTTY` when the file system has none.
pub fn set_inode_flags(file: &File, flags: i64) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call and the kernel only reads one live c_long.
    os(unsafe { raw::fs_setflags(file.as_raw_fd(), &raw const flags) }).map(drop)
}

/// Namespace id of an NVMe namespace device (`NVME_IOCTL_ID`).
///
/// # Errors
/// `ENOTTY` when the file is no NVMe device.
pub fn nvme_namespace(file: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open for the call; the ioctl takes no argument.
    let id = os(unsafe { raw::nvme_id(file.as_raw_fd()) })?;
    u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Sends an NVMe admin command; `data` is the buffer of its data phase. Returns completion dword 0.
///
/// # Errors
/// The errno, or an NVMe status (as `Other`) when the controller refused the command.
pub fn nvme_admin(file: &File, request: NvmeAdminCommand, data: Option<&mut [u8]>) -> io::Result<u32> {
    let mut command = NvmePassthru {
        opcode: request.opcode,
        nsid: request.nsid,
        cdw10: request.cdw10,
        timeout_ms: request.timeout_ms,
        ..NvmePassthru::default()
    };
    if let Some(buffer) = data {
        command.data_len = u32::try_from(buffer.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        command.addr = buffer.as_mut_ptr() as u64;
    }
    // SAFETY: the descriptor is open for the call; `addr` and `data_len` describe a buffer that is borrowed
    // mutably for the whole call (or are zero), and the command itself lives on this stack frame.
    let status = os(unsafe { raw::nvme_admin(file.as_raw_fd(), &raw mut command) })?;
    if status == 0 {
        Ok(command.result)
    } else {
        Err(io::Error::other(format!("NVMe status {status:#06x} for admin opcode {:#04x}", request.opcode)))
    }
}

/// Sends a SCSI command (`SG_IO`). A SCSI error is no `Err`: read [`SgOutcome`].
///
/// # Errors
/// `ENOTTY` when the device takes no SCSI commands, `EINVAL` when the command is longer than 16 bytes.
pub fn scsi_command(file: &File, command: &[u8], data: SgData<'_>, timeout_ms: u32) -> io::Result<SgOutcome> {
    const NO_DATA: i32 = -1;
    const TO_DEVICE: i32 = -2;
    const FROM_DEVICE: i32 = -3;
    let mut sense = [0_u8; 64];
    let cmd_len = u8::try_from(command.len()).ok().filter(|len| *len <= 16);
    let Some(cmd_len) = cmd_len else { return Err(io::Error::from(io::ErrorKind::InvalidInput)) };
    let (direction, pointer, len) = match data {
        SgData::None => (NO_DATA, std::ptr::null_mut(), 0),
        SgData::In(buffer) => (FROM_DEVICE, buffer.as_mut_ptr(), buffer.len()),
        SgData::Out(buffer) => (TO_DEVICE, buffer.as_mut_ptr(), buffer.len()),
    };
    let mut header = SgIoHeader {
        interface_id: i32::from(b'S'),
        dxfer_direction: direction,
        cmd_len,
        mx_sb_len: 64,
        iovec_count: 0,
        dxfer_len: u32::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        dxferp: pointer,
        cmdp: command.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: timeout_ms,
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the descriptor is open for the call; `cmdp`, `dxferp` and `sbp` point to buffers of exactly the
    // lengths given beside them, all of which are borrowed until after the call.
    os(unsafe { raw::sg_io(file.as_raw_fd(), &raw mut header) })?;
    let written = usize::from(header.sb_len_wr).min(sense.len());
    Ok(SgOutcome {
        status: header.status,
        host_status: header.host_status,
        driver_status: header.driver_status,
        sense: sense.iter().take(written).copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_that_the_kernel_expects() {
        assert_eq!(size_of::<NvmePassthru>(), 72);
        assert_eq!(size_of::<SgIoHeader>(), 88);
    }
}
