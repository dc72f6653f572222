//! Taking values away: overwritten with zeros in place, then removed.
//!
//! Unlinking alone frees a page with its content, and a rename over a file leaves the old one to
//! whoever has it open (measured on tmpfs). So every file is overwritten through a descriptor first.
//! A superseded file may still be read by a service: it is moved to the trash, where nobody can open
//! it any more, and overwritten when nobody has it open or mapped (a write lease tells), or when its
//! grace is over. Undeployed files wait for nobody.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat};
use tracing::warn;

use super::dir::{Dir, FsError, Kind, errno, kind, step};
use super::{ConsumerId, place, random_name};
use crate::sys::write_lease;

/// What is on its way out, and when to look at it again.
#[derive(Debug)]
pub(crate) struct Wiper {
    trash: Dir,
    grace: Duration,
    /// In place still: a reader may be between two steps of resolving a name.
    leaving: Vec<Leaving>,
    trashed: Vec<Trashed>,
}

#[derive(Debug)]
struct Leaving {
    consumer: ConsumerId,
    generation: String,
    since: Option<Instant>,
    failed: bool,
}

#[derive(Debug)]
struct Trashed {
    /// Begins with the consumer's mark, so that a later life knows whose it was.
    name: OsString,
    since: Option<Instant>,
    failed: bool,
}

/// Whether a file in use is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    Honour,
    Ignore,
}

/// What came of wiping one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wiped {
    Done,
    InUse,
}

impl Wiper {
    /// Takes over what a former life left in the trash.
    pub(crate) fn open(trash: Dir, grace: Duration) -> Result<Self, FsError> {
        let trashed = trash.list()?.into_iter().map(|(name, _)| Trashed {
            name,
            since: None,
            failed: false,
        });
        Ok(Self {
            trashed: trashed.collect(),
            leaving: Vec::new(),
            trash,
            grace,
        })
    }

    /// A generation that has just been superseded, to go with its manifest. It stays in place for a moment: a reader may have
    /// read `..data` and not yet opened the file behind it, and must not find it gone.
    pub(crate) fn superseded(&mut self, consumer: &ConsumerId, generation: &str) {
        self.leaving.push(Leaving {
            consumer: consumer.clone(),
            generation: generation.to_owned(),
            since: None,
            failed: false,
        });
    }

    /// Whether there is nothing left to wipe.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.trashed.is_empty()
    }

    /// Moves a directory's files to the trash, now, and removes it. What stands under a second name
    /// is in use by another generation and only loses this name.
    pub(crate) fn discard(
        &mut self,
        consumer: &ConsumerId,
        parent: &Dir,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let dir = parent.open_dir(name)?;
        for (file, found) in dir.list()? {
            match found {
                Kind::File if dir.stat(&file)?.st_nlink == 1 => {
                    let trashed = OsString::from(random_name(&mark(consumer)));
                    dir.rename(&file, &self.trash, &trashed)?;
                    self.trashed.push(Trashed {
                        name: trashed,
                        since: None,
                        failed: false,
                    });
                }
                Kind::Directory => self.discard(consumer, &dir, &file)?,
                _ => dir.unlink(&file)?,
            }
        }
        parent.rmdir(name)
    }

    /// Wipes a generation that nobody could reach, at once.
    pub(crate) fn discard_unused(
        &mut self,
        consumer: &ConsumerId,
        parent: &Dir,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let gone = self.discard(consumer, parent, name);
        self.empty_trash(|_| Readers::Honour);
        gone
    }

    /// Wipes what can be wiped now, and says when to look again.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        services: &Dir,
        manifests: &Dir,
    ) -> Option<Instant> {
        let linger = LINGER.min(self.grace);
        self.leave(services, manifests, |leaving| {
            now >= *leaving.since.get_or_insert(now) + linger
        });
        let grace = self.grace;
        self.empty_trash(|trashed| {
            let over = now >= *trashed.since.get_or_insert(now) + grace;
            if over {
                Readers::Ignore
            } else {
                Readers::Honour
            }
        });
        let leaving = self.leaving.iter().map(|leaving| {
            let due = leaving.since.unwrap_or(now) + linger;
            due.max(if leaving.failed { now + RETRY } else { now })
        });
        let trashed = self.trashed.iter().map(|trashed| {
            let over = trashed.since.unwrap_or(now) + grace;
            if trashed.failed {
                now + RETRY
            } else {
                over.min(now + RETRY)
            }
        });
        leaving.chain(trashed).min()
    }

    /// Wipes whatever nobody reads, without the moment's wait: the room is needed. Says whether
    /// there was anything.
    pub(crate) fn reclaim(&mut self, services: &Dir, manifests: &Dir) -> bool {
        let before = self.leaving.len() + self.trashed.len();
        self.leave(services, manifests, |_| true);
        self.empty_trash(|_| Readers::Honour);
        before > 0
    }

    /// Wipes what was left for readers of `consumer`: its values are to be gone now. The generations of it that are in place are the caller's.
    pub(crate) fn hurry(&mut self, consumer: &ConsumerId) -> Vec<FsError> {
        self.leaving.retain(|leaving| leaving.consumer != *consumer);
        let mark = mark(consumer);
        self.wipe_trash(|trashed| trashed.name.as_encoded_bytes().starts_with(mark.as_bytes()))
    }

    /// Wipes all that is in the trash, whoever reads.
    pub(crate) fn wipe_everything(&mut self) -> Vec<FsError> {
        self.leaving.clear();
        self.wipe_trash(|_| true)
    }

    fn leave(
        &mut self,
        services: &Dir,
        manifests: &Dir,
        mut due: impl FnMut(&mut Leaving) -> bool,
    ) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            if !due(&mut leaving) {
                self.leaving.push(leaving);
                continue;
            }
            let consumer = &leaving.consumer;
            let name = OsStr::new(&leaving.generation);
            let gone = present(place(services, consumer))
                .and_then(|dir| dir.map_or(Ok(()), |dir| self.discard(consumer, &dir, name)));
            let gone = present(gone)
                .and_then(|_| present(place(manifests, consumer)))
                .and_then(|dir| dir.map_or(Ok(()), |dir| dir.unlink(name)));
            if let Err(error) = gone {
                if !leaving.failed {
                    warn!(%consumer, %error, "A superseded generation cannot be wiped yet.");
                }
                leaving.failed = true;
                self.leaving.push(leaving);
            }
        }
    }

    fn empty_trash(&mut self, mut readers: impl FnMut(&mut Trashed) -> Readers) {
        let trash = &self.trash;
        self.trashed.retain_mut(|trashed| {
            let readers = readers(trashed);
            match wipe_entry(trash, &trashed.name, readers) {
                Ok(Wiped::Done) => false,
                Ok(Wiped::InUse) => true,
                Err(error) => {
                    if !trashed.failed {
                        warn!(%error, "A superseded value cannot be wiped yet.");
                    }
                    trashed.failed = true;
                    true
                }
            }
        });
    }

    fn wipe_trash(&mut self, wanted: impl Fn(&Trashed) -> bool) -> Vec<FsError> {
        let mut errors = Vec::new();
        let trash = &self.trash;
        self.trashed.retain(|trashed| {
            if !wanted(trashed) {
                return true;
            }
            match wipe_entry(trash, &trashed.name, Readers::Ignore) {
                Ok(_) => false,
                Err(error) => {
                    errors.push(error);
                    true
                }
            }
        });
        errors
    }
}

/// Wipes every file under `name` in `parent`, whoever reads and whatever its links, and removes the
/// directory. Goes on past errors and gives them all.
pub(crate) fn wipe_tree(parent: &Dir, name: &OsStr) -> Vec<FsError> {
    let mut errors = Vec::new();
    let mut note = |result: Result<(), FsError>| match result {
        Err(error) if !error.is_missing() => errors.push(error),
        _ => {}
    };
    match parent.open_dir(name).and_then(|dir| Ok((dir.list()?, dir))) {
        Ok((entries, dir)) => {
            for (entry, found) in entries {
                if found == Kind::Directory {
                    for error in wipe_tree(&dir, &entry) {
                        note(Err(error));
                    }
                } else {
                    note(wipe_now(&dir, &entry));
                }
            }
            note(parent.rmdir(name));
        }
        Err(error) => note(Err(error)),
    }
    errors
}

/// `None` for what is not there.
fn present<T>(result: Result<T, FsError>) -> Result<Option<T>, FsError> {
    match result {
        Err(error) if error.is_missing() => Ok(None),
        result => result.map(Some),
    }
}

/// Wipes one file, whoever reads it and whatever its links; removes a link as it is.
pub(crate) fn wipe_now(dir: &Dir, name: &OsStr) -> Result<(), FsError> {
    wipe_entry(dir, name, Readers::Ignore).map(drop)
}

/// Overwrites and removes one file; removes what is no file as it is.
fn wipe_entry(dir: &Dir, name: &OsStr, readers: Readers) -> Result<Wiped, FsError> {
    match dir.kind(name) {
        Ok(Kind::File) => {}
        Ok(Kind::Directory) => {
            return match wipe_tree(dir, name).into_iter().next() {
                Some(error) => Err(error),
                None => Ok(Wiped::Done),
            };
        }
        Ok(_) => return dir.unlink(name).map(|()| Wiped::Done),
        Err(error) if error.is_missing() => return Ok(Wiped::Done),
        Err(error) => return Err(error),
    }
    let file = match dir.open_file(name, OFlag::O_RDWR) {
        Err(error) if error.errno() == Errno::EACCES => {
            // Files are readable alone; an ordinary owner must open them for writing first.
            let file = dir.open_file(name, OFlag::O_RDONLY)?;
            step(|| fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR))
                .map_err(|errno| dir.error("wipe", name, errno))?;
            drop(file);
            dir.open_file(name, OFlag::O_RDWR)?
        }
        result => result?,
    };
    if readers == Readers::Honour && write_lease(file.as_fd()).is_err() {
        return Ok(Wiped::InUse);
    }
    let failed = |errno| dir.error("wipe", name, errno);
    let stat = fstat(&file).map_err(failed)?;
    debug_assert_eq!(kind(&stat), Kind::File);
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        let zeros = ZEROS.get(..count).unwrap_or(&ZEROS);
        let written = step(|| file.write_at(zeros, at).map_err(|error| errno(&error)));
        at += match written {
            Ok(0) => return Err(failed(Errno::EIO)),
            Ok(count) => count as u64,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(failed(errno)),
        };
    }
    dir.unlink(name).map(|()| Wiped::Done)
}

/// What a consumer's files in the trash begin with. Two consumers sharing one (FNV-1a, 64 bits) would
/// only have their superseded values wiped together.
fn mark(consumer: &ConsumerId) -> String {
    let text = consumer.to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}.")
}

/// How long a superseded generation stays where it was, so that who resolves a name at the moment of
/// the swap, or has opened `..data` as a directory, still finds every file.
const LINGER: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(2);
static ZEROS: [u8; 4096] = [0; 4096];
