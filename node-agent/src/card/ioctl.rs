//! The ioctl calls for block devices that no library wraps, and the only unsafe code of the agent's card.
//!
//! Numbers and structures are those of the kernel's `linux/fs.h` and `linux/blkpg.h`, the same on all
//! architectures.
#![expect(unsafe_code, reason = "ioctl takes whatever its number says; each call states why it is right")]

use rustix::fd::AsFd;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, ioctl};
use std::ffi::{c_int, c_longlong, c_void};
use std::io;

const BLKROGET: Opcode = 0x125e;
const BLKFLSBUF: Opcode = 0x1261;
const BLKPG: Opcode = 0x1269;
const BLKDISCARD: Opcode = 0x1277;

/// What BLKPG does to the kernel's view of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum PartitionChange {
    Add = 1,
    Delete = 2,
}

#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    operation: c_int,
    flags: c_int,
    data_length: c_int,
    data: *mut c_void,
}

/// Whether the block device refuses writes.
pub(super) fn is_read_only(device: impl AsFd) -> io::Result<bool> {
    // SAFETY: BLKROGET writes an int.
    let flag = unsafe { ioctl(device, Getter::<BLKROGET, c_int>::new()) }?;
    Ok(flag != 0)
}

/// Writes the block device's cached pages back and forgets them.
pub(super) fn forget_pages(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    Ok(unsafe { ioctl(device, NoArg::<BLKFLSBUF>::new()) }?)
}

/// Tells the block device that these bytes need not be kept.
pub(super) fn discard(device: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD reads two u64, start and length.
    Ok(unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([offset, bytes])) }?)
}

/// Tells the kernel about one partition: its number, and for an addition first byte and length.
pub(super) fn change_partition(
    device: impl AsFd,
    change: PartitionChange,
    number: u8,
    start: u64,
    bytes: u64,
) -> io::Result<()> {
    let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(too_far)?,
        length: bytes.try_into().map_err(too_far)?,
        number: number.into(),
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation: change as c_int,
        flags: 0,
        data_length: size_of::<BlkpgPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: BLKPG reads a `blkpg_ioctl_arg` whose data points at a `blkpg_partition`; both have the
    // kernel's layout and live until the call returns.
    Ok(unsafe { ioctl(device, Setter::<BLKPG, BlkpgArgument>::new(argument)) }?)
}
