//! Values on tmpfs: one directory per consumer, generations behind one link, and their wiping.
//!
//! ```text
//! <runtime dir>/
//!   lock                                                    held by the one agent that may write
//!   enrolment                                               whom values are delivered for
//!   services/<org>/<service url>/<consumer>/                what services read
//!     ..data -> ..g42.k3f9rq                                swapped by one rename
//!     ..g42.k3f9rq/myCloudServiceCred                       mode 0400, the agent's user
//!     ..g42.k3f9rq/db/password                              the format `fields`
//!     ..g42.k3f9rq/..api/myCloudServiceCred                 all fields, for the agent to answer from
//!     myCloudServiceCred -> ..data/myCloudServiceCred
//!   manifests/<org>/<service url>/<consumer>/..g42.k3f9rq   what is in it; names, versions, ends
//!   manifests/<org>/<service url>/<consumer>/..ended        what was in it and has ended, until a successor
//!   trash/<consumer's mark>.<random>                        superseded files, until they are wiped
//!   ess/, ess-own/                                          consumers' own secrets APIs (`door.rs`)
//! ```
//!
//! # The order of steps, and why a kill between any two leaves the old or the new (invariants 1, 9)
//!
//! 1. Make `..g42.k3f9rq`, for the agent alone. Nothing points to it.
//! 2. Link the files that stay as they are into it, write the others. A file has its mode before its
//!    generation can be reached. A kill leaves a directory that nothing points to: swept at start.
//! 3. Write the manifest. Before the swap, so that there is never a live generation of which nobody
//!    knows what it holds; a manifest without its live generation is swept.
//! 4. Swap `..data` by making a link under another name and renaming it. This is the moment: before
//!    it everybody reads the old generation, after it the new one, and never none.
//! 5. Make the visible names of new secrets, now that there is something behind them; remove those of
//!    vanished ones. A kill before that is repaired at start and at every `verify`.
//! 6. The old generation stays a moment for who is resolving a name just then, goes to the trash, and
//!    is overwritten once nobody reads it or its grace is over (`wipe.rs`). Its manifest goes with it.
//!
//! Undeploying first removes `..data`: from then on nothing is referenced, so that a kill leaves only
//! what the sweep wipes. The consumer's directory stays, so that a mount of it stays good. What has
//! ended is undeployed in the same way, after a note that it was there: it tells the next start whom to
//! tell, and why a deployment shows nothing.
//!
//! # Modes
//!
//! Directories are 0755 and files 0400, of the agent's user, unless a profile says otherwise: root in
//! a container reads them, other users of the node do not. A consumer whose units take credentials
//! alone has a directory of 0700. The umask does not matter.

mod dir;
mod door;
mod generation;
mod manifest;
mod mount;
mod owner;
mod read;
mod render;
mod sweep;
mod template;
mod wipe;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use edge_secrets_protocol::{ConsumerName, ServiceId};
use tracing::warn;

pub(crate) use self::dir::FsError;
#[cfg(test)]
pub(crate) use self::dir::faults;
use self::dir::{Dir, Kind};
pub(crate) use self::door::{Door, SOCKET as DOOR_SOCKET};
pub(crate) use self::generation::{Commit, Draft, Header};
#[cfg(test)]
pub(crate) use self::manifest::{FileMark, ManifestFile};
pub(crate) use self::manifest::{Manifest, ManifestSecret, Origin};
use self::mount::RuntimeDir;
pub use self::mount::prepare;
pub(crate) use self::owner::{Ownership, resolve};
pub(crate) use self::read::open_delivered;
pub(crate) use self::render::{RenderError, bound, render, secret_object};
pub(crate) use self::template::{MAX_RENDERED, check, render_template};
use self::wipe::{Wiper, wipe_tree};
use crate::clock::{BootMark, boot_id};
use crate::consumers::names::FileName;
use crate::reconcile::{RuntimeError, RuntimeOptions};

/// One consumer of one service: whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId {
    pub(crate) service: ServiceId,
    pub(crate) consumer: ConsumerName,
}

impl ConsumerId {
    /// The three directories that lead to it; none is ever `.` or `..`.
    pub(crate) fn components(&self) -> [String; 3] {
        [
            self.service.org.as_str().to_owned(),
            self.service.url.dir_name(),
            self.consumer.as_str().to_owned(),
        ]
    }
}

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.consumer)
    }
}

/// The runtime directory with all that stands in it.
#[derive(Debug)]
pub(crate) struct Delivery {
    runtime: RuntimeDir,
    services: Dir,
    manifests: Dir,
    wiper: Wiper,
    /// What tells this boot from others, where that is known.
    boot: Option<String>,
}

/// What a former life left.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// What every consumer can read.
    pub(crate) live: BTreeMap<ConsumerId, Manifest>,
    /// What was wiped because it had ended, and has got no successor yet.
    pub(crate) ended: BTreeMap<ConsumerId, Manifest>,
}

impl Delivery {
    /// Takes the runtime directory over, sweeps it, and says what is there.
    pub(crate) fn open(options: &RuntimeOptions) -> Result<(Self, Former), RuntimeError> {
        let runtime = RuntimeDir::open(options)?;
        let failed = |error: FsError| RuntimeError(error.to_string());
        let root = &runtime.dir;
        root.require_memory().map_err(failed)?;
        let services = root.ensure_dir("services", OPEN_DIR).map_err(failed)?;
        let manifests = root.ensure_dir("manifests", OWN_DIR).map_err(failed)?;
        let trash = root.ensure_dir("trash", OWN_DIR).map_err(failed)?;
        let wiper = Wiper::open(trash, options.grace).map_err(failed)?;
        let mut delivery = Self {
            runtime,
            services,
            manifests,
            wiper,
            boot: boot_id(),
        };
        let former = delivery.sweep().map_err(failed)?;
        Ok((delivery, former))
    }

    /// How the runtime directory is kept out of swap, for people.
    pub(crate) fn protection(&self) -> &str {
        &self.runtime.protection
    }

    /// What tells this boot's notes from those of others.
    pub(crate) fn boot_mark(&self) -> &BootMark {
        &self.runtime.boot
    }

    /// What [`set_mark`](Self::set_mark) noted.
    pub(crate) fn mark(&self) -> Option<Vec<u8>> {
        self.runtime.dir.read_small(MARK).ok()
    }

    /// Notes, as long as the runtime directory lives, whom values are delivered for.
    pub(crate) fn set_mark(&self, mark: &[u8]) -> Result<(), FsError> {
        let dir = &self.runtime.dir;
        let fresh = format!("{MARK}.new");
        dir.unlink(&fresh)?;
        dir.write_new(&fresh, mark, 0o600, Ownership::default())?;
        dir.rename(&fresh, dir, MARK)
    }

    /// The directory that the consumer mounts or reads.
    pub(crate) fn directory(&self, consumer: &ConsumerId) -> PathBuf {
        let mut path = self.services.path().to_owned();
        path.extend(consumer.components());
        path
    }

    /// Makes the directory of a consumer that has nothing to read yet: what mounts it can start.
    pub(crate) fn reserve(&self, consumer: &ConsumerId, private: bool) -> Result<(), FsError> {
        let home = ensure_place(&self.services, consumer, OPEN_DIR)?;
        if private {
            home.set_mode(OWN_DIR)?;
        }
        Ok(())
    }

    /// Puts `draft` in the place of what was live.
    pub(crate) fn commit(&mut self, draft: Draft) -> Commit {
        draft.commit(&mut self.wiper)
    }

    /// Wipes a draft that will not be used.
    pub(crate) fn discard(&mut self, draft: Draft) {
        draft.discard(&mut self.wiper);
    }

    /// Writes what is known of a live generation anew; what services read stays as it is.
    pub(crate) fn rewrite_manifest(
        &self,
        consumer: &ConsumerId,
        manifest: &Manifest,
    ) -> Result<(), FsError> {
        self.write_manifest(consumer, manifest, &manifest.generation)
    }

    /// Compares what lies there with what was written, mends links, and names the files that are
    /// missing or not the ones that were written.
    pub(crate) fn verify(
        &self,
        consumer: &ConsumerId,
        manifest: &Manifest,
    ) -> Result<BTreeSet<FileName>, FsError> {
        let home = match place(&self.services, consumer) {
            Err(error) if error.is_missing() => {
                return Ok(manifest.files.keys().cloned().collect());
            }
            result => result?,
        };
        let damaged = generation::damaged(&home, manifest)?;
        if damaged.len() < manifest.files.len() {
            generation::mend_links(&home, manifest)?;
        }
        Ok(damaged)
    }

    /// As [`undeploy`](Self::undeploy), for what has ended: it stays noted that it was there, so that
    /// whoever should hear of its end does so after a kill too.
    pub(crate) fn end(&mut self, consumer: &ConsumerId, ended: &Manifest) -> Vec<FsError> {
        // Before anything is wiped; while there is a live generation, the note says nothing.
        let mut noted = self.note_end(consumer, ended);
        let mut errors = self.wipe_values(consumer);
        if noted.is_err() {
            // There may be room now.
            noted = self.note_end(consumer, ended);
        }
        if let Err(error) = noted {
            warn!(%consumer, %error, "It cannot be noted that values have ended.");
        }
        let others = place(&self.manifests, consumer).and_then(|dir| {
            let entries = dir.list()?.into_iter().map(|(name, _)| name);
            let mut others = entries.filter(|name| name != ENDED);
            others.try_for_each(|name| dir.unlink(&name))
        });
        errors.extend(others.err().filter(|error| !error.is_missing()));
        errors
    }

    /// Notes anew what has ended.
    pub(crate) fn note_end(&self, consumer: &ConsumerId, ended: &Manifest) -> Result<(), FsError> {
        self.write_manifest(consumer, ended, ENDED)
    }

    /// What had ended has a successor, or needs none.
    pub(crate) fn forget_end(&self, consumer: &ConsumerId) -> Result<(), FsError> {
        match place(&self.manifests, consumer) {
            Ok(dir) => dir.unlink(ENDED),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Wipes all that the consumer could read, whoever reads it. Tries everything and gives every
    /// error; the directory itself stays.
    pub(crate) fn undeploy(&mut self, consumer: &ConsumerId) -> Vec<FsError> {
        let mut errors = self.wipe_values(consumer);
        errors.extend(self.drop_manifests(consumer));
        errors
    }

    /// The runtime directory itself.
    fn root(&self) -> &Dir {
        &self.runtime.dir
    }

    /// Removes all that is noted of a consumer.
    fn drop_manifests(&self, consumer: &ConsumerId) -> Vec<FsError> {
        let [org, service, name] = consumer.components();
        let service = self
            .manifests
            .open_dir(org)
            .and_then(|dir| dir.open_dir(service));
        match service {
            Ok(service) => wipe_tree(&service, OsStr::new(&name)),
            Err(error) if error.is_missing() => Vec::new(),
            Err(error) => vec![error],
        }
    }

    fn wipe_values(&mut self, consumer: &ConsumerId) -> Vec<FsError> {
        let mut errors = Vec::new();
        match place(&self.services, consumer) {
            Ok(home) => {
                errors.extend(home.unlink(DATA).err());
                match home.list() {
                    Ok(entries) => errors.extend(wipe_entries(&home, entries)),
                    Err(error) => errors.push(error),
                }
            }
            Err(error) if error.is_missing() => {}
            Err(error) => errors.push(error),
        }
        errors.extend(self.wiper.hurry(consumer));
        errors
    }

    fn write_manifest(
        &self,
        consumer: &ConsumerId,
        manifest: &Manifest,
        name: &str,
    ) -> Result<(), FsError> {
        let dir = ensure_place(&self.manifests, consumer, OWN_DIR)?;
        dir.require_memory()?;
        let temporary = random_name("..new.");
        let written = dir
            .write_new(&temporary, &manifest.encode(), 0o600, Ownership::default())
            .and_then(|_| dir.rename(&temporary, &dir, name));
        if written.is_err() {
            dir.unlink(&temporary).ok();
        }
        written
    }

    /// Wipes what is superseded and read by nobody, or for too long; says when to look again.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        self.wiper.tick(now, &self.services, &self.manifests)
    }

    /// Makes room at once; says whether there was anything to wipe.
    pub(crate) fn reclaim(&mut self) -> bool {
        self.wiper.reclaim(&self.services, &self.manifests)
    }

    /// Wipes everything that lies here, known or not.
    pub(crate) fn wipe_everything(&mut self) -> Vec<FsError> {
        let mut errors = Vec::new();
        for consumer in self.consumers(&mut errors) {
            errors.extend(self.undeploy(&consumer));
        }
        errors.extend(self.wiper.wipe_everything());
        errors.extend(self.close_doors());
        match self.manifests.list() {
            Ok(entries) => errors.extend(wipe_entries(&self.manifests, entries)),
            Err(error) => errors.push(error),
        }
        errors
    }
}

fn wipe_entries(dir: &Dir, entries: Vec<(OsString, Kind)>) -> Vec<FsError> {
    let mut errors = Vec::new();
    for (name, kind) in entries {
        if kind == Kind::Directory {
            errors.extend(wipe_tree(dir, &name));
        } else {
            errors.extend(wipe::wipe_now(dir, &name).err());
        }
    }
    errors
}

/// Opens a consumer's directory below `root`.
fn place(root: &Dir, consumer: &ConsumerId) -> Result<Dir, FsError> {
    let [org, service, consumer] = consumer.components();
    root.open_dir(org)?.open_dir(service)?.open_dir(consumer)
}

/// Opens a consumer's directory below `root`, making what is not there.
fn ensure_place(root: &Dir, consumer: &ConsumerId, mode: u32) -> Result<Dir, FsError> {
    let [org, service, consumer] = consumer.components();
    root.ensure_dir(org, mode)?
        .ensure_dir(service, mode)?
        .ensure_dir(consumer, mode)
}

/// `prefix` and six letters that nobody can foresee.
fn random_name(prefix: &str) -> String {
    let mut bytes = [0; 6];
    // A name is no secret: where the system gives no random bytes, its being taken is an error that
    // the next attempt mends.
    getrandom::fill(&mut bytes).ok();
    let letters =
        bytes.map(|byte| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[usize::from(byte & 31)]));
    prefix.chars().chain(letters).collect()
}

const MARK: &str = "enrolment";
const DATA: &str = "..data";
/// The manifest of what was wiped because it had ended, until there is a successor.
const ENDED: &str = "..ended";
const GENERATION: &str = "..g";
const OPEN_DIR: u32 = 0o755;
const OWN_DIR: u32 = 0o700;
/// The mode of a value's file where no profile says otherwise.
pub(crate) const VALUE_FILE: u32 = 0o400;
