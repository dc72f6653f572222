//! Waiting for events. Nothing here sleeps for a guess.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Bounds every wait, only so that a test that cannot pass fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often is looked without an event.
const AGAIN: Duration = Duration::from_millis(500);

/// Waits until `done`, looking again whenever something changes at `path` or on the way to it, and now and then.
/// `path` need not exist yet.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn until(path: &Path, what: &str, mut done: impl FnMut() -> bool) {
    if !within(path, DEADLINE, &mut done) {
        panic!("waited {DEADLINE:?} at {} for: {what}", path.display());
    }
}

/// Like [`until`], and says after `limit` that it did not happen. For what must not happen, or may.
pub fn within(path: &Path, limit: Duration, done: &mut dyn FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        // Watches first, then the look: nothing falls between.
        let inotify = watch(path);
        if done() {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Not all that is waited for changes something there, or last of all.
        let timeout = PollTimeout::try_from(left.min(AGAIN)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until `path` is readable and gives its bytes.
#[must_use]
pub fn file(path: &Path) -> Vec<u8> {
    let mut bytes = None;
    until(
        path.parent().unwrap_or(path),
        "the file is readable",
        || {
            bytes = fs::read(path).ok();
            bytes.is_some()
        },
    );
    bytes.unwrap_or_default()
}

/// Waits until something is at `path`.
pub fn there(path: &Path) {
    until(path.parent().unwrap_or(path), "the file is there", || {
        path.exists()
    });
}

/// Waits until `path` holds exactly `wanted`.
pub fn content(path: &Path, wanted: &[u8]) {
    until(
        path.parent().unwrap_or(path),
        "the file holds the wanted value",
        || fs::read(path).is_ok_and(|bytes| bytes == wanted),
    );
}

/// Waits until nothing is at `path`.
pub fn gone(path: &Path) {
    until(
        path.parent().unwrap_or(path),
        "the file is gone",
        || matches!(fs::symlink_metadata(path), Err(e) if e.kind() == std::io::ErrorKind::NotFound),
    );
}

/// Waits until nothing is in the directory, which stays.
pub fn empty(dir: &Path) {
    until(dir, "nothing is left", || {
        fs::read_dir(dir).is_ok_and(|entries| entries.count() == 0)
    });
}

/// The last lines of a log, without what libraries say at trace level.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let library = |line: &&str| {
        [
            " h2::",
            " hyper",
            " rustls",
            "FramedRead",
            " mio:",
            "sqlx::",
        ]
        .iter()
        .any(|name| line.contains(name))
    };
    let lines: Vec<&str> = text.lines().filter(|line| !library(line)).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// An inotify instance on `path` and every directory above it, as far as they exist.
fn watch(path: &Path) -> Inotify {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("inotify");
    let mask = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE_SELF;
    // The deepest two tell of everything: what comes below them, and when they go themselves.
    let mut watched = 0;
    for dir in path.ancestors() {
        if watched < 2 && inotify.add_watch(dir, mask).is_ok() {
            watched += 1;
        }
    }
    assert!(watched > 0, "nothing to watch at {}", path.display());
    inotify
}
