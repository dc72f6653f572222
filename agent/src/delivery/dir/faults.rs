//! Stops or fails the calls of this thread, as a kill or a full file system would.

use std::cell::Cell;

use nix::errno::Errno;

thread_local! {
    static PLAN: Cell<Option<(u64, Errno, bool)>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Does the call after `steps` others and all later ones no more, as if the process were dead.
pub(crate) fn stop_after(steps: u64) {
    COUNT.set(0);
    PLAN.set(Some((steps, Errno::EIO, true)));
}

/// Fails one call, the one after `steps` others.
pub(crate) fn fail_once_after(steps: u64, errno: Errno) {
    COUNT.set(0);
    PLAN.set(Some((steps, errno, false)));
}

/// Lets calls through again, and says whether one was held back.
pub(crate) fn clear() -> bool {
    let hit = PLAN.get().is_some_and(|(at, ..)| COUNT.get() > at);
    PLAN.set(None);
    hit
}

/// How many calls there were since `stop_after`.
pub(crate) fn count() -> u64 {
    COUNT.get()
}

pub(super) fn before() -> nix::Result<()> {
    let Some((at, errno, dead)) = PLAN.get() else {
        return Ok(());
    };
    let now = COUNT.get();
    COUNT.set(now + 1);
    if now == at || (dead && now > at) {
        Err(errno)
    } else {
        Ok(())
    }
}
