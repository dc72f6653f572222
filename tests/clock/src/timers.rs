//! Timers on `CLOCK_BOOTTIME`, armed anew at each step of it.

use std::ptr;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use libc::{c_int, clockid_t, itimerspec, timespec};

use super::{set, shared};

/// Descriptors of timers, and when they are to ring by the program's own clock. One that was closed and is
/// something else now is refused by the kernel when it is armed.
static TIMERS: Mutex<Vec<(c_int, Option<timespec>)>> = Mutex::new(Vec::new());

/// A timer is there.
pub(super) fn created(fd: c_int, clock: clockid_t) {
    let mut timers = timers();
    timers.retain(|(known, _)| *known != fd);
    if clock == libc::CLOCK_BOOTTIME {
        timers.push((fd, None));
        drop(timers);
        follow();
    }
}

/// Arms it by `set`, at the machine's time where `wanted` is the program's.
pub(super) fn arm(
    fd: c_int,
    flags: c_int,
    mut wanted: itimerspec,
    set: impl FnOnce(&itimerspec) -> c_int,
) -> c_int {
    let mut timers = timers();
    let Some((_, at)) = timers.iter_mut().find(|(known, _)| *known == fd) else {
        return set(&wanted);
    };
    let armed = shared::nanos(wanted.it_value) > 0;
    let absolute = flags & libc::TFD_TIMER_ABSTIME != 0;
    *at = (armed && absolute).then_some(wanted.it_value);
    assert!(
        !armed || absolute,
        "a relative timer on CLOCK_BOOTTIME is not followed"
    );
    if armed {
        wanted.it_value = at_the_machine(wanted.it_value);
    }
    set(&wanted)
}

fn timers() -> MutexGuard<'static, Vec<(c_int, Option<timespec>)>> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is past rings at once; zero would mean never.
fn at_the_machine(at: timespec) -> timespec {
    let moved = shared::moved(at, -shared::offset(libc::CLOCK_BOOTTIME));
    match (moved.tv_sec, moved.tv_nsec) {
        (0, 0) => timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
        _ => moved,
    }
}

/// Watches the test's file, once, on a thread that takes none of the program's signals.
fn follow() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(path) = shared::path() else {
            return;
        };
        // SAFETY: the path ends with a zero, and nobody here changes the environment.
        let watch = unsafe {
            let watch = libc::inotify_init1(libc::IN_CLOEXEC);
            libc::inotify_add_watch(watch, path, libc::IN_MODIFY);
            watch
        };
        with_all_signals_blocked(|| {
            thread::spawn(move || {
                while changed(watch) {
                    arm_anew();
                }
            });
        });
        // What changed before it was watched.
        arm_anew();
    });
}

/// Waits until the file has changed. Says no when it cannot be watched any more.
fn changed(watch: c_int) -> bool {
    let mut events = [0_u8; 4096];
    // SAFETY: the buffer is as long as it is said to be.
    unsafe { libc::read(watch, events.as_mut_ptr().cast(), events.len()) > 0 }
}

fn arm_anew() {
    let zero = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    for (fd, at) in timers().iter() {
        if let Some(at) = at {
            let at = itimerspec {
                it_interval: zero,
                it_value: at_the_machine(*at),
            };
            set(*fd, libc::TFD_TIMER_ABSTIME, &raw const at, ptr::null_mut());
        }
    }
}

fn with_all_signals_blocked(work: impl FnOnce()) {
    // SAFETY: both sets are initialised before they are read.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
    }
}
