//! What the kernel knows of the head's calendar: whether something keeps it right. Reads no clock itself; whether
//! the calendar is believed is decided in `runner/calendar.rs`.
#![expect(unsafe_code, reason = "no library wraps adjtimex; the one call states why it is right")]

use std::io;
use std::mem::MaybeUninit;

/// What the kernel says of the calendar clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronised {
    /// A time server disciplines it, with an error of at most so many microseconds.
    Within(u64),
    /// Nothing does, or what did has not been heard for hours.
    No,
}

/// Whether something keeps the calendar clock right, as far as the kernel says.
pub fn is_synchronised() -> bool {
    synchronised().is_ok_and(|found| found != Synchronised::No)
}

/// Asks the kernel whether its clock is disciplined, by whatever program does that (chrony, systemd-timesyncd,
/// ntpd): all of them tell the kernel, see adjtimex(2).
///
/// # Errors
/// When a sandbox forbids the question.
pub fn synchronised() -> io::Result<Synchronised> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all-zero is a valid `timex`, and with `modes` 0 the call only writes into it.
    let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    if state == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, and the kernel filled it.
    let timex = unsafe { timex.assume_init() };
    let is_free = state == libc::TIME_ERROR || timex.status & libc::STA_UNSYNC != 0;
    Ok(if is_free { Synchronised::No } else { Synchronised::Within(timex.maxerror.unsigned_abs()) })
}
