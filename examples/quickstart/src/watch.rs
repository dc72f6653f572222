//! Seeing a file come, change and go the moment it happens: by inotify, without polling.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::Failure;

/// When something was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// For durations in this process.
    pub(crate) at: Instant,
    /// For comparing with the hub's clock.
    pub(crate) clock: SystemTime,
}

/// Watches for something in the background, from before it can happen.
pub(crate) struct Watch(JoinHandle<Result<Seen, String>>);

impl Watch {
    /// Looks whenever something changes at `path`, or on the way to it.
    pub(crate) fn start(path: PathBuf, done: impl Fn(&Path) -> bool + Send + 'static) -> Self {
        Self(thread::spawn(move || until(&path, &done)))
    }

    /// When it happened.
    pub(crate) fn seen(self) -> Result<Seen, Failure> {
        match self.0.join() {
            Ok(seen) => Ok(seen?),
            Err(_) => Err("the watch failed".into()),
        }
    }
}

fn until(path: &Path, done: &dyn Fn(&Path) -> bool) -> Result<Seen, String> {
    let end = Instant::now() + LIMIT;
    loop {
        // The watches first, then the look: nothing falls between.
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map_err(|e| e.to_string())?;
        let present = path.ancestors().skip(1).filter(|dir| dir.is_dir());
        for dir in present.take(2) {
            inotify
                .add_watch(dir, AddWatchFlags::IN_ALL_EVENTS & !READS)
                .ok();
        }
        if done(path) {
            return Ok(Seen {
                at: Instant::now(),
                clock: SystemTime::now(),
            });
        }
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut fds, timeout), Ok(0)) {
            return Err(format!(
                "nothing happened at {} for {LIMIT:?}",
                path.display()
            ));
        }
    }
}

/// A quickstart that does not get there fails.
const LIMIT: Duration = Duration::from_secs(60);
/// Reading is no change: looking would wake the look.
const READS: AddWatchFlags = AddWatchFlags::IN_ACCESS
    .union(AddWatchFlags::IN_OPEN)
    .union(AddWatchFlags::IN_CLOSE_NOWRITE);
