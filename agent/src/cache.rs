//! What the hub said and sent, kept for times without it: bindings, and values as they arrived, sealed
//! to this node's key. Never a value in clear.
//!
//! ```text
//! STATE/cache/                0700
//!     index                   what the node should have, by the newest bindings that are kept as a whole
//!     <SHA-256>.sealed        one version of one value; its name is made of service, secret and version
//! STATE/cache.set-aside/      a cache that could not be used, for people to look at; read by nobody
//! ```
//!
//! A save first removes the values that the node should not have any more, which needs no room: not even
//! on a full disk do they come back. It then writes new values, then the index (both synced), then removes
//! what the index names no more: for the rest, a kill leaves the old index with all its values or the new
//! one with all of its. What stands there and is not named is removed by the next [`SealedCache::open`].
//! Whoever was told that a save is done can rely on it: nothing that it left out comes back.
//!
//! The disk is written by one at a time, and whoever only asks what is kept never waits for that.

mod age;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod index;
mod reseal;

#[cfg(test)]
pub(crate) use index::{named, ready as ready_items, remember};

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::limits::{MAX_RESPONSE, MAX_SECRET_BYTES};
use edge_secrets_protocol::{Sealed, SecretName, ServiceId};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub(crate) use self::age::Age;
pub(crate) use self::index::Whose;
use self::index::{Index, ready};
pub(crate) use self::reseal::Resealed;
use crate::clock::{BootMark, Now};
use crate::disk::{self, damaged, read, remove_all, remove_file, replace};
use crate::ends::Desired;

/// The cache of one enrolment. Clones share it; one save or clearing goes on at a time. Blocks.
#[derive(Debug, Clone)]
pub(crate) struct SealedCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    boot: BootMark,
    /// Held while the disk is written, which may take long; taken before `state`, never after it.
    disk: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    whose: Whose,
    /// Grows when everything is to be forgotten: a save from before it must not bring anything back.
    life: u64,
    /// Grows when everything is sealed anew: a save from before it may have what nothing opens soon.
    sealing: u64,
    /// What the index on disk says, where there is one.
    kept: Option<Desired>,
    /// The values on disk.
    values: BTreeSet<FetchItem>,
    /// Whether something was removed that may come back after a power cut.
    unsynced: bool,
}

/// The cache cannot be written. Says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cache {} cannot be written: {reason}", dir.display())]
pub(crate) struct CacheError {
    dir: PathBuf,
    reason: String,
}

/// A save that may be carried out on another thread.
#[derive(Debug)]
pub(crate) struct Save {
    cache: SealedCache,
    life: u64,
    sealing: u64,
    desired: Desired,
    fresh: Vec<(FetchItem, Sealed)>,
    now: Now,
}

/// A value's file.
#[derive(Serialize, Deserialize)]
struct Kept {
    item: FetchItem,
    sealed: Sealed,
}

impl SealedCache {
    /// Takes over what is kept in the state directory, and gives what the node should have by it. What
    /// is of another enrolment, damaged or unreadable is named in the log and set aside; then nothing
    /// is kept.
    pub(crate) fn open(
        state_dir: &Path,
        whose: Whose,
        now: Now,
        boot: &BootMark,
    ) -> (Self, Option<Desired>) {
        let dir = state_dir.join(DIR);
        let (kept, values) = match take_over(&dir, &whose, now, boot) {
            Ok(Some((desired, values))) => (Some(desired), values),
            Ok(None) => (None, BTreeSet::new()),
            Err(reason) => {
                set_aside(&dir, &reason);
                (None, BTreeSet::new())
            }
        };
        let state = State {
            whose,
            life: 0,
            sealing: 0,
            kept: kept.clone(),
            values,
            unsynced: false,
        };
        let shared = Shared {
            dir,
            boot: boot.clone(),
            disk: Mutex::new(()),
            state: Mutex::new(state),
        };
        (Self(Arc::new(shared)), kept)
    }

    /// Moves what is kept in the state directory out of the way: nothing here can open it.
    pub(crate) fn give_up(state_dir: &Path, reason: &str) {
        let dir = state_dir.join(DIR);
        if dir.exists() {
            set_aside(&dir, reason);
        }
    }

    /// Removes whatever is kept in the state directory.
    ///
    /// # Errors
    /// When something is left.
    pub(crate) fn remove(state_dir: &Path) -> Result<(), CacheError> {
        for dir in [DIR, SET_ASIDE].map(|name| state_dir.join(name)) {
            remove_all(&dir).map_err(|error| CacheError::new(&dir, &error))?;
        }
        Ok(())
    }

    /// The value, where it is kept. One that is damaged is named in the log, and is not kept any more.
    pub(crate) fn find(&self, item: &FetchItem) -> Option<Sealed> {
        if !self.state().values.contains(item) {
            return None;
        }
        let path = self.0.dir.join(file_name(item));
        let kept = read_value(&path, item);
        kept.inspect_err(|error| {
            warn!(file = %path.display(), %error, "A kept value cannot be used; it is fetched again.");
            self.state().values.remove(item);
            clear_away(&path);
        })
        .ok()
    }

    /// The value cannot be opened: it is not kept any more, and its file is replaced when it comes again.
    pub(crate) fn disown(&self, item: &FetchItem) {
        if self.state().values.remove(item) {
            let path = self.0.dir.join(file_name(item));
            warn!(
                file = %path.display(),
                "A kept value cannot be used: no key here opens it, or it is damaged. It is fetched again."
            );
            clear_away(&path);
        }
    }

    /// The values that should be kept and are not, but for those that end: some of them are made anew
    /// when they are asked for again.
    pub(crate) fn lacks(&self, desired: &Desired) -> Vec<FetchItem> {
        let state = self.state();
        let bindings = desired.bindings().deployments.iter();
        let lasting = bindings.flat_map(|deployment| {
            let ends = desired.ends().get(&deployment.id);
            ready(deployment).filter(move |item| ends.is_none_or(|e| !e.contains_key(&item.name)))
        });
        let lacking: BTreeSet<_> = lasting
            .filter(|item| !state.values.contains(item))
            .collect();
        lacking.into_iter().collect()
    }

    /// Whether something is kept that should not be any more, by its name and not only by its version.
    pub(crate) fn exceeds(&self, desired: &Desired) -> bool {
        let state = self.state();
        let named = index::named(desired);
        let mut values = state.values.iter();
        values.any(|item| !named.contains(&(&item.service, &item.name)))
    }

    /// Whether the index says just that.
    pub(crate) fn is_current(&self, desired: &Desired) -> bool {
        self.state().kept.as_ref() == Some(desired)
    }

    /// How many values are kept.
    pub(crate) fn len(&self) -> usize {
        self.state().values.len()
    }

    /// A save of what the node should have, and of values that have arrived for it.
    pub(crate) fn save(&self, desired: Desired, fresh: Vec<(FetchItem, Sealed)>, now: Now) -> Save {
        let (life, sealing) = {
            let state = self.state();
            (state.life, state.sealing)
        };
        Save {
            life,
            sealing,
            cache: self.clone(),
            desired,
            fresh,
            now,
        }
    }

    /// Forgets everything, for good: also what a save that was begun before would have kept.
    ///
    /// # Errors
    /// When something is left on disk.
    pub(crate) fn clear(&self) -> Result<(), CacheError> {
        let _disk = self.disk();
        {
            let mut state = self.state();
            state.life += 1;
            state.kept = None;
            state.values.clear();
        }
        let aside = self.0.dir.with_file_name(SET_ASIDE);
        let removed = [&self.0.dir, &aside].map(|dir| remove_all(dir));
        let removed = removed.into_iter().find_map(Result::err);
        removed.map_or(Ok(()), |error| Err(CacheError::new(&self.0.dir, &error)))
    }

    /// As [`clear`](Self::clear), and from now on for another enrolment.
    ///
    /// # Errors
    /// When something is left on disk. It is of the former enrolment, and never read.
    pub(crate) fn clear_for(&self, whose: Whose) -> Result<(), CacheError> {
        self.state().whose = whose;
        self.clear()
    }

    /// Removes, for good, the values that have none of these names.
    fn remove_beyond(&self, named: &BTreeSet<(&ServiceId, &SecretName)>) -> io::Result<()> {
        self.remove_values(|item| !named.contains(&(&item.service, &item.name)))
    }

    /// Removes values for good.
    fn remove_values(&self, which: impl Fn(&FetchItem) -> bool) -> io::Result<()> {
        let values = self.state().values.clone();
        let going: Vec<_> = values.into_iter().filter(which).collect();
        for item in &going {
            self.state().unsynced = true;
            remove_file(&self.0.dir.join(file_name(item)))?;
            self.state().values.remove(item);
        }
        // Also of a try before, which failed here.
        if self.state().unsynced {
            match disk::sync(&self.0.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.state().unsynced = false,
            }
        }
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, ()> {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between two steps leaves what a kill would leave.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Save {
    /// Carries it out.
    ///
    /// # Errors
    /// When it could not be written whole; what was kept before is kept.
    pub(crate) fn run(self) -> Result<(), CacheError> {
        let cache = self.cache.clone();
        let _disk = cache.disk();
        let (life, sealing) = {
            let state = cache.state();
            (state.life, state.sealing)
        };
        if life != self.life {
            return Ok(());
        }
        if sealing != self.sealing {
            let overtaken = io::Error::other("its values were sealed to a new key meanwhile");
            return Err(CacheError::new(&cache.0.dir, &overtaken));
        }
        self.write()
            .map_err(|error| CacheError::new(&cache.0.dir, &error))
    }

    fn write(self) -> io::Result<()> {
        let dir = &self.cache.0.dir;
        let state = || self.cache.state();
        self.cache.remove_beyond(&index::named(&self.desired))?;
        // Nobody else writes meanwhile.
        let (whose, before, values) = {
            let state = state();
            (
                state.whose.clone(),
                state.kept.clone(),
                state.values.clone(),
            )
        };
        let mut at_hand = values.clone();
        at_hand.extend(self.fresh.iter().map(|(item, _)| item.clone()));
        let remembered = index::remember(&self.desired, before.as_ref(), &at_hand);
        // What has arrived of a service's next values stays too, until all of them have: otherwise each would
        // be fetched again and again. An index that is read does not name them yet.
        let both = [&remembered, &self.desired];
        let deployments = both.into_iter().flat_map(|of| &of.bindings().deployments);
        let wanted: BTreeSet<_> = deployments.flat_map(ready).collect();
        let changed = before.as_ref() != Some(&remembered);
        let mut fresh = self.fresh;
        // Also what is kept already: it was asked for because that cannot be opened.
        fresh.retain(|(item, _)| wanted.contains(item));
        if !changed && fresh.is_empty() && values.is_subset(&wanted) {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for (item, sealed) in fresh {
            let kept = Kept { item, sealed };
            replace(dir, &file_name(&kept.item), &kept.encode()?)?;
            state().values.insert(kept.item);
        }
        if changed {
            let index = Index::of(&whose, &remembered, self.now, &self.cache.0.boot);
            let bytes = index.encode()?;
            if bytes.len() > MAX_INDEX {
                return Err(io::Error::other("there is too much to remember"));
            }
            replace(dir, INDEX, &bytes)?;
        }
        disk::sync(dir)?;
        state().kept = Some(remembered);
        self.cache.remove_values(|item| !wanted.contains(item))
    }
}

impl Kept {
    fn encode(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }
}

impl CacheError {
    fn new(dir: &Path, error: &io::Error) -> Self {
        Self {
            dir: dir.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// What is kept there, when it is whole and of this enrolment; removes what no index names.
fn take_over(
    dir: &Path,
    whose: &Whose,
    now: Now,
    boot: &BootMark,
) -> Result<Option<(Desired, BTreeSet<FetchItem>)>, String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        found.insert(entry.file_name().to_string_lossy().into_owned());
    }
    let index = match read(&dir.join(INDEX), MAX_INDEX) {
        Ok(bytes) => Some(Index::decode(&bytes)?),
        // Cut off before the first index was there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("its index cannot be read: {error}")),
    };
    let desired = match index {
        Some(index) => Some(index.desired(whose, now, boot)?),
        None => None,
    };
    let wanted = desired.iter().flat_map(|d| &d.bindings().deployments);
    let mut values: BTreeSet<_> = wanted.flat_map(ready).collect();
    values.retain(|item| found.remove(&file_name(item)));
    found.remove(INDEX);
    for name in found {
        let path = dir.join(name);
        if let Err(error) = remove_file(&path) {
            warn!(file = %path.display(), %error, "What the cache does not name cannot be removed.");
        }
    }
    Ok(desired.map(|desired| (desired, values)))
}

/// Moves a cache that cannot be used out of the way.
fn set_aside(dir: &Path, reason: &str) {
    let aside = dir.with_file_name(SET_ASIDE);
    let moved = remove_all(&aside).and_then(|()| fs::rename(dir, &aside));
    match moved {
        Ok(()) => warn!(
            %reason, kept_as = %aside.display(),
            "The sealed cache is set aside; it is filled again from the hub."
        ),
        Err(error) => warn!(
            %reason, %error, dir = %dir.display(),
            "The sealed cache cannot be used, nor set aside."
        ),
    }
}

/// Makes room for another one. What cannot be removed is in the way of that, and is told then.
fn clear_away(path: &Path) {
    // Whatever it is.
    if remove_file(path).is_err() {
        remove_all(path).ok();
    }
}

fn read_value(path: &Path, item: &FetchItem) -> io::Result<Sealed> {
    let bytes = read(path, MAX_VALUE)?;
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    match kept.item == *item && kept.sealed.plain_len().is_ok() {
        true => Ok(kept.sealed),
        false => Err(damaged()),
    }
}

/// A name that says nothing, and that no foreign text can make into a path.
fn file_name(item: &FetchItem) -> String {
    let mut text = String::new();
    let service = &item.service;
    for part in [
        service.org.as_str(),
        service.url.as_str(),
        item.name.as_str(),
        item.version.as_str(),
    ] {
        // Writing into a String does not fail.
        write!(text, "{}:{part}", part.len()).ok();
    }
    let hash = digest(&SHA256, text.as_bytes());
    let mut name = String::with_capacity(64 + VALUE.len());
    for byte in hash.as_ref() {
        write!(name, "{byte:02x}").ok();
    }
    name + VALUE
}

const DIR: &str = "cache";
const SET_ASIDE: &str = "cache.set-aside";
const INDEX: &str = "index";
const VALUE: &str = ".sealed";
/// What the hub's largest answer can become here: differences grow it, and so do versions and ends that
/// are remembered. More is never written.
const MAX_INDEX: usize = 4 * MAX_RESPONSE;
/// A value in base64, its keys and its place.
const MAX_VALUE: usize = MAX_SECRET_BYTES / 3 * 4 + 16 * 1024;

#[cfg(test)]
mod tests;
