//! The allocator of the program: memory that cannot be had ends the program with an error in words and a
//! documented status. (Rust aborts with SIGABRT then, and its hook for that is not stable.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// A stack that is enough for every command, and the least that is (64 KiB are too few, measured).
const STACK: rlim_t = 1 << 20;
const LEAST_STACK: rlim_t = 128 << 10;

/// The status of a child process that has run out of memory, which the parent reports.
pub const CHILD_STATUS: i32 = 112;

/// The exit status of this process then.
static STATUS: AtomicI32 = AtomicI32::new(1);

/// Sets the exit status of this process where it runs out of memory; with [`CHILD_STATUS`] it prints nothing.
pub fn set_status(status: i32) {
    STATUS.store(status, Ordering::Relaxed);
}

/// Raises a limit of the stack (`ulimit -s`) that is too low: the kernel compares the stack with the present limit
/// whenever it grows (`acct_stack_growth`, mm/vma.c).
///
/// # Errors
/// The limit in bytes, if it is too low and cannot be raised.
pub fn ensure_stack() -> Result<(), u64> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_STACK) else { return Ok(()) };
    if soft >= STACK {
        return Ok(());
    }
    // Beyond the hard limit with CAP_SYS_RESOURCE only.
    if setrlimit(Resource::RLIMIT_STACK, STACK, hard.max(STACK)).is_ok() {
        return Ok(());
    }
    let is_raised = setrlimit(Resource::RLIMIT_STACK, hard, hard).is_ok();
    let limit = if is_raised { hard } else { soft };
    if limit < LEAST_STACK { Err(limit) } else { Ok(()) }
}

/// The C library's allocator, which never answers that memory is exhausted.
pub struct Allocator;

// SAFETY: the system's allocator, whose every block is passed on as it is.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller guarantees.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller guarantees.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller guarantees.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller guarantees.
        checked(unsafe { System.realloc(block, layout, size) })
    }
}

fn checked(block: *mut u8) -> *mut u8 {
    if block.is_null() { exit() } else { block }
}

/// Ends the process. No destructor runs: guardians put back the terminal and thaw
/// frozen cgroups, and files that were not renamed into place yet disappear.
#[cold]
fn exit() -> ! {
    const MESSAGE: &[u8] = b"cinspect: cannot go on: out of memory\n";
    let status = STATUS.load(Ordering::Relaxed);
    // SAFETY: a constant, and calls that allocate nothing. (Without a reader of stderr the message is lost.)
    unsafe {
        if status != CHILD_STATUS {
            libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        }
        libc::_exit(status)
    }
}
