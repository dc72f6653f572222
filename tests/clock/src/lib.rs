//! A clock of a test's own under a real program: loaded before libc (`LD_PRELOAD`), it answers for it when
//! the program asks what time it is, and follows a file that the test may change at any time
//! (`EDGE_SECRETS_TEST_CLOCK`). Built for tests alone; no product depends on it.
//!
//! - `CLOCK_REALTIME` and `CLOCK_BOOTTIME` are the machine's, moved by what the file says. `CLOCK_MONOTONIC`
//!   is untouched: a step of `CLOCK_BOOTTIME` is what a program sees of a suspend.
//! - Timers on `CLOCK_BOOTTIME` (timerfd) follow it, as the kernel's do when the machine wakes: they are
//!   armed anew at each step. This is our word for what the kernel does, not the kernel.
//! - A timer on `CLOCK_REALTIME` would not follow. Nothing here has one, and who makes one is ended, so
//!   that no test believes what is not so.
//!
//! The file, in the machine's byte order: nanoseconds to add to `CLOCK_REALTIME` (i64), to `CLOCK_BOOTTIME`
//! (i64), and a count (u64) that is odd while the two are being written.
#![allow(
    unsafe_code,
    reason = "it stands in for functions of libc, whose arguments are raw pointers"
)]

mod shared;
mod timers;

use std::ptr;

use libc::{c_int, c_void, clockid_t, itimerspec, time_t, timespec, timeval, timezone};

/// `clock_gettime(2)`.
///
/// # Safety
/// As there: `now` points to a `timespec` or nowhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, now: *mut timespec) -> c_int {
    // SAFETY: the caller's own arguments.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, now) };
    // SAFETY: the kernel has just written there, or it is null.
    if let (0, Some(now)) = (done, unsafe { now.as_mut() }) {
        *now = shared::moved(*now, shared::offset(clock));
    }
    if done == 0 { 0 } else { -1 }
}

/// `gettimeofday(2)`.
///
/// # Safety
/// As there: `now` points to a `timeval` or nowhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(now: *mut timeval, _: *mut timezone) -> c_int {
    let at = wall();
    // SAFETY: the caller's own pointer.
    if let Some(now) = unsafe { now.as_mut() } {
        now.tv_sec = at.tv_sec;
        now.tv_usec = at.tv_nsec / 1_000;
    }
    0
}

/// `time(2)`.
///
/// # Safety
/// As there: `now` points to a `time_t` or nowhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(now: *mut time_t) -> time_t {
    let at = wall().tv_sec;
    // SAFETY: the caller's own pointer.
    if let Some(now) = unsafe { now.as_mut() } {
        *now = at;
    }
    at
}

fn wall() -> timespec {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it points to a `timespec`.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now
}

/// `timerfd_create(2)`.
///
/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timerfd_create(clock: clockid_t, flags: c_int) -> c_int {
    if clock == libc::CLOCK_REALTIME {
        eprintln!("a timer on CLOCK_REALTIME would not follow the test's clock");
        std::process::abort();
    }
    // SAFETY: integers alone.
    let fd = unsafe { libc::syscall(libc::SYS_timerfd_create, clock, flags) };
    let fd = c_int::try_from(fd).unwrap_or(-1);
    if fd >= 0 {
        timers::created(fd, clock);
    }
    fd
}

/// `timerfd_settime(2)`.
///
/// # Safety
/// As there: `new` points to an `itimerspec`, `old` to one or nowhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timerfd_settime(
    fd: c_int,
    flags: c_int,
    new: *const itimerspec,
    old: *mut itimerspec,
) -> c_int {
    // SAFETY: the caller's own pointer.
    let Some(wanted) = (unsafe { new.as_ref() }) else {
        return set(fd, flags, ptr::null(), old);
    };
    timers::arm(fd, flags, *wanted, |at| set(fd, flags, &raw const *at, old))
}

/// The kernel's own.
fn set(fd: c_int, flags: c_int, new: *const itimerspec, old: *mut itimerspec) -> c_int {
    let (new, old) = (new.cast::<c_void>(), old.cast::<c_void>());
    // SAFETY: both point to what the kernel expects there, or nowhere, which it refuses or allows.
    let done = unsafe { libc::syscall(libc::SYS_timerfd_settime, fd, flags, new, old) };
    if done == 0 { 0 } else { -1 }
}
