//! Compiles only if piseduce-protocol and all it stands on do without std: this program has a panic
//! handler of its own, and a second one from std would be an error. `cargo check` is the test.
#![no_std]
#![no_main]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::seal::{SiteKey, Window, open, seal};

struct NoMemory;

// SAFETY: null means "out of memory", which every caller of an allocator must handle.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Uses the crate so that nothing of it is left out.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    let keys = SiteKey([0; 32]).boot_token(Serial(1), BootNumber(1)).keys();
    let sealed = seal(&keys.message, "topic", BootNumber(1), 1, &Serial(1)).unwrap_or_default();
    let opened = open::<Serial>(&keys.message, "topic", BootNumber(1), &mut Window::default(), &sealed);
    i32::from(opened.is_err())
}
