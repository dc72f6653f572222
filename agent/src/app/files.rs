//! Files that may change while the agent runs. Directories are watched rather than files, so that
//! an editor's rename and a swapped symlink are seen; whatever happens in them is a reason to read
//! again and compare.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// The bell that rings when something may have changed, and what is watched.
pub(super) struct FileWatch {
    bell: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    settled_at: Option<Instant>,
}

impl FileWatch {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and must not be a reason to read them.
            let read = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(kind)
                if kind != AccessKind::Close(AccessMode::Write)));
            if !read {
                ring.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "Changed files will be read on SIGHUP only."))
            .ok();
        Self {
            bell,
            watcher,
            watched: BTreeSet::new(),
            settled_at: None,
        }
    }

    /// Watches the directories where these stand, and those they point to, and no others.
    pub(super) fn watch_beside(&mut self, files: &[&Path]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeSet::new();
        for file in files {
            let target = file.canonicalize().ok();
            let parents = [Some(*file), target.as_deref()].into_iter().flatten();
            wanted.extend(parents.filter_map(Path::parent).map(directory));
        }
        for gone in self.watched.difference(&wanted) {
            // It may be gone from the disk as well.
            watcher.unwatch(gone).ok();
        }
        for dir in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                warn!(dir = %dir.display(), %error, "Changes there are seen on SIGHUP only.");
            }
        }
        self.watched = wanted;
    }

    /// Waits for the bell and notes when to look, a little later: editors write in several steps.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn settle(&mut self, now: Instant) {
        self.settled_at.get_or_insert(now + SETTLE);
    }

    /// When to look.
    pub(super) fn settled_at(&self) -> Option<Instant> {
        self.settled_at
    }

    /// Whether it is time to look; tells it once.
    pub(super) fn take_settled(&mut self, now: Instant) -> bool {
        self.settled_at.take_if(|at| *at <= now).is_some()
    }
}

fn directory(parent: &Path) -> PathBuf {
    if parent.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parent.to_owned()
    }
}

const SETTLE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_rename_and_a_swapped_link_ring_the_bell() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.yaml");
        fs::create_dir(dir.path().join("..1")).unwrap();
        fs::write(dir.path().join("..1/agent.yaml"), "a").unwrap();
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/agent.yaml", &file).unwrap();
        let mut files = FileWatch::new();
        files.watch_beside(&[&file]);

        symlink("..1", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        files.rung().await;

        fs::write(dir.path().join("x"), "b").unwrap();
        fs::rename(dir.path().join("x"), &file).unwrap();
        files.rung().await;
    }

    #[test]
    fn several_steps_are_looked_at_once() {
        let mut files = FileWatch::new();
        let now = Instant::now();
        files.settle(now);
        files.settle(now + SETTLE / 2);
        assert!(!files.take_settled(now));
        assert!(files.take_settled(now + SETTLE));
        assert!(!files.take_settled(now + SETTLE));
    }
}
