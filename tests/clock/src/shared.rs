//! What the test's file says now.

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

use libc::{c_char, c_int, clockid_t, timespec};

/// The file as it is mapped.
#[repr(C)]
struct Page {
    wall: AtomicI64,
    boot: AtomicI64,
    count: AtomicU64,
}

/// How far a clock is moved, in nanoseconds.
pub(super) fn offset(clock: clockid_t) -> i64 {
    let which: fn(&Page) -> &AtomicI64 = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => |page| &page.wall,
        libc::CLOCK_BOOTTIME => |page| &page.boot,
        _ => return 0,
    };
    let Some(page) = page() else {
        return 0;
    };
    loop {
        let before = page.count.load(Ordering::SeqCst);
        let offset = which(page).load(Ordering::SeqCst);
        if before % 2 == 0 && before == page.count.load(Ordering::SeqCst) {
            return offset;
        }
        std::hint::spin_loop();
    }
}

/// `at`, so many nanoseconds later; never before the clock's own beginning.
pub(super) fn moved(at: timespec, by: i64) -> timespec {
    let nanos = (nanos(at) + i128::from(by)).max(0);
    timespec {
        tv_sec: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % SECOND).unwrap_or(0),
    }
}

pub(super) fn nanos(at: timespec) -> i128 {
    i128::from(at.tv_sec) * SECOND + i128::from(at.tv_nsec)
}

/// The path of the test's file.
pub(super) fn path() -> Option<*const c_char> {
    // SAFETY: the name ends with a zero; nobody here changes the environment.
    let path = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    (!path.is_null()).then_some(path.cast_const())
}

/// Takes no lock: it may be asked from a signal handler, or before `main`.
fn page() -> Option<&'static Page> {
    static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());
    let mut found = PAGE.load(Ordering::Acquire);
    if found.is_null() {
        // Two threads may both map it: the pages are the same one.
        found = map(path()?)?;
        PAGE.store(found, Ordering::Release);
    }
    // SAFETY: it was mapped as a whole, is never unmapped, and any bytes are valid integers.
    unsafe { found.as_ref() }
}

fn map(path: *const c_char) -> Option<*mut Page> {
    // SAFETY: the path ends with a zero.
    let fd: c_int = unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the kernel chooses an unused address.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<Page>(),
            libc::PROT_READ,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    // SAFETY: it was opened above; the mapping outlives it.
    unsafe { libc::close(fd) };
    (page != libc::MAP_FAILED).then_some(page.cast())
}

const SECOND: i128 = 1_000_000_000;
const VARIABLE: &std::ffi::CStr = c"EDGE_SECRETS_TEST_CLOCK";
