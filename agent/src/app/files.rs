//! Files that may change while the agent runs. Directories are watched rather than files, so that
//! an editor's rename and a swapped symlink are seen; whatever happens in them is a reason to read
//! again and compare.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// The bell that rings when something may have changed, and what is watched.
pub(super) struct FileWatch {
    bell: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// Directories by their real paths, and which ones those were: one that was removed and made
    /// again, or another one behind a link, is another one.
    watched: BTreeMap<PathBuf, Identity>,
    settled_at: Option<Instant>,
}

/// What tells a directory from another one that took its place.
type Identity = (u64, u64, Option<SystemTime>);

impl FileWatch {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and must not be a reason to read them. An error, or
            // events that were lost, may hide a change.
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
            watched: BTreeMap::new(),
            settled_at: None,
        }
    }

    /// Watches where `files` stand and what they point to, the same for `trees`, and what is directly
    /// in those of `trees` that are directories. None of them need be there yet: then the nearest
    /// directory above is watched.
    ///
    /// To be called before what is watched is read, each time the bell has rung: what changes between
    /// the two rings again. Rings by itself when it watches something that it did not watch before,
    /// where a change may have gone unseen.
    pub(super) fn watch(&mut self, files: &[&Path], trees: &[&Path]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeMap::new();
        for path in files.iter().chain(trees) {
            for place in places(path) {
                wanted.extend(place.parent().and_then(|parent| nearest(directory(parent))));
            }
        }
        let inside = trees.iter().filter(|path| path.is_dir());
        wanted.extend(inside.filter_map(|path| nearest(path)));
        for gone in self.watched.keys().filter(|dir| !wanted.contains_key(*dir)) {
            // It may be gone from the disk as well.
            watcher.unwatch(gone).ok();
        }
        let mut missed = false;
        for (dir, identity) in &wanted {
            let known = self.watched.get(dir) == Some(identity);
            // Those that are watched as well: with a directory its watch is gone, and the one that
            // has its path now may not be told from it. It changes nothing where nothing is to do.
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => missed |= !known,
                // It was there just now: what removed it rings.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
                Err(error) if !known => {
                    warn!(dir = %dir.display(), %error, "Changes there are seen on SIGHUP only.");
                }
                Err(_) => {}
            }
        }
        self.watched = wanted;
        if missed {
            self.bell.notify_one();
        }
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

/// The path, and every one that it leads to by links.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_owned()];
    let mut at = path.to_owned();
    // Linux gives up after as many (path_resolution(7)).
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&at) else {
            break;
        };
        at = at.parent().unwrap_or_else(|| Path::new("")).join(target);
        places.push(at.clone());
    }
    places.extend(path.canonicalize());
    places
}

/// The directory by its real path, or the nearest one above that is there.
fn nearest(dir: &Path) -> Option<(PathBuf, Identity)> {
    dir.ancestors().find_map(|dir| {
        let dir = directory(dir).canonicalize().ok()?;
        let metadata = dir.metadata().ok().filter(fs::Metadata::is_dir)?;
        let identity = (metadata.dev(), metadata.ino(), metadata.created().ok());
        Some((dir, identity))
    })
}

fn directory(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    }
}

const SETTLE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use futures_util::FutureExt;

    use super::*;

    /// As the agent does: watches, takes what has rung so far for read, and waits for what comes.
    struct Watched {
        files: FileWatch,
        file: PathBuf,
        tree: PathBuf,
    }

    impl Watched {
        fn new(file: PathBuf, tree: PathBuf) -> Self {
            let files = FileWatch::new();
            let mut watched = Self { files, file, tree };
            watched.again();
            watched
        }

        fn again(&mut self) {
            self.files.watch(&[&self.file], &[&self.tree]);
        }

        /// Rings that were there before `change` do not count.
        async fn rings_for(&mut self, change: impl FnOnce(&Path)) {
            self.settle();
            change(&self.tree);
            self.files.rung().await;
        }

        /// Until all that has happened has rung, and been followed. Two calls: the watcher's thread
        /// may answer one before it handles the events that it has found with it, and not the next.
        fn settle(&mut self) {
            loop {
                self.again();
                self.again();
                if self.files.rung().now_or_never().is_none() {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_rename_and_a_swapped_link_ring_the_bell() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.yaml");
        fs::create_dir(dir.path().join("..1")).unwrap();
        fs::write(dir.path().join("..1/agent.yaml"), "a").unwrap();
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/agent.yaml", &file).unwrap();
        let mut files = FileWatch::new();
        files.watch(&[&file], &[]);
        files.rung().await;

        symlink("..1", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        files.rung().await;

        fs::write(dir.path().join("x"), "b").unwrap();
        fs::rename(dir.path().join("x"), &file).unwrap();
        files.rung().await;
    }

    #[tokio::test]
    async fn what_happens_in_a_directory_rings_however_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("services.d");
        fs::create_dir(&tree).unwrap();
        let mut watched = Watched::new(dir.path().join("agent.yaml"), tree);
        let write = |tree: &Path| fs::write(tree.join("a.yaml"), "a").unwrap();
        watched.rings_for(write).await;
        watched
            .rings_for(|tree| fs::rename(tree.join("a.yaml"), tree.join("b")).unwrap())
            .await;
        watched
            .rings_for(|tree| fs::rename(tree.join("b"), tree.join("a.yaml")).unwrap())
            .await;
        watched
            .rings_for(|tree| fs::remove_file(tree.join("a.yaml")).unwrap())
            .await;
    }

    #[tokio::test]
    async fn a_directory_may_come_later_go_and_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("not/yet/services.d");
        let mut watched = Watched::new(dir.path().join("agent.yaml"), tree);
        for _ in 0..3 {
            let parent = |tree: &Path| tree.parent().unwrap().to_owned();
            watched
                .rings_for(|tree| fs::create_dir_all(parent(tree)).unwrap())
                .await;
            watched
                .rings_for(|tree| fs::create_dir(tree).unwrap())
                .await;
            watched
                .rings_for(|tree| fs::write(tree.join("a.yaml"), "a").unwrap())
                .await;
            watched
                .rings_for(|tree| fs::write(tree.join("a.yaml"), "b").unwrap())
                .await;
            // Quicker than it is followed.
            watched
                .rings_for(|tree| {
                    fs::remove_dir_all(tree).unwrap();
                    fs::create_dir(tree).unwrap();
                })
                .await;
            watched
                .rings_for(|tree| fs::write(tree.join("b.yaml"), "a").unwrap())
                .await;
            watched
                .rings_for(|tree| fs::remove_dir_all(parent(tree)).unwrap())
                .await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_a_link_is_followed_where_it_points() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::create_dir_all(dir.path().join("away").join(name)).unwrap();
        }
        symlink("away/one", dir.path().join("..data")).unwrap();
        let tree = dir.path().join("services.d");
        symlink("..data", &tree).unwrap();
        let mut watched = Watched::new(dir.path().join("agent.yaml"), tree);
        watched
            .rings_for(|tree| fs::write(tree.join("a.yaml"), "a").unwrap())
            .await;
        let swap = |tree: &Path| {
            let fresh = tree.with_file_name("..new");
            symlink("away/two", &fresh).unwrap();
            fs::rename(&fresh, tree.with_file_name("..data")).unwrap();
        };
        watched.rings_for(swap).await;
        watched
            .rings_for(|tree| fs::write(tree.join("a.yaml"), "b").unwrap())
            .await;
        assert_eq!(fs::read(dir.path().join("away/two/a.yaml")).unwrap(), b"b");
    }

    #[tokio::test]
    async fn what_is_watched_for_the_first_time_rings_and_then_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("services.d");
        fs::create_dir(&tree).unwrap();
        let mut files = FileWatch::new();
        files.watch(&[], &[&tree]);
        assert!(files.rung().now_or_never().is_some());
        // Reading is no change.
        fs::read_dir(&tree).unwrap();
        files.watch(&[], &[&tree]);
        assert_eq!(files.watched.len(), 2);
        assert!(files.rung().now_or_never().is_none());
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
