//! Keys and certificates on disk, as sets: `identity-<n>/` with `node.key`, `node.crt`, `ca.crt`,
//! `sealing.key` and `enrolment`, and one symlink `identity` that names the set in use. A set is written
//! and synced as a whole before the link is swapped, so a crash leaves the old or the new set.
//!
//! `sealing.next` in a set is the sealing key of the set after it: it is there before the hub is told.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use edge_secrets_protocol::{PublicKey, SealingKey};
use zeroize::Zeroizing;

use super::{Custody, ready};
use crate::disk;

mod keys;

pub(super) use self::keys::StoredKey;
use self::keys::place;

/// The number of a set: a later one is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetNumber(u64);

impl SetNumber {
    /// The first set of a store.
    pub const FIRST: Self = Self(1);
}

/// What a new set is made of. No `Debug`: two of them are private keys.
pub struct Material {
    /// The node's key, PKCS#8 PEM.
    pub key: Zeroizing<String>,
    /// The node's certificate and what it needs up to the authority, PEM.
    pub certificate: String,
    /// The authorities to trust, PEM.
    pub trust_bundle: String,
    /// What opens sealed values.
    pub sealing_key: SealingKey,
    /// The public half of the sealing key that the node enrolled with; renewals keep it.
    pub enrolment: PublicKey,
}

/// What a set holds.
pub(super) struct Stored {
    pub(super) key: Zeroizing<String>,
    pub(super) certificate: String,
    pub(super) trust_bundle: String,
    pub(super) sealing: StoredKey,
    pub(super) enrolment: PublicKey,
}

/// The state directory, and how sealing keys are kept in it.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    custody: Custody,
}

/// The state directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    /// Whether what was to be read is not there, or is not what was written.
    fn is_lost(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory
        )
    }

    /// The file that is lost, and how.
    pub(super) fn lost(&self) -> Option<(PathBuf, String)> {
        let reason = match self.source.kind() {
            io::ErrorKind::InvalidData => "it is damaged".to_owned(),
            _ => self.source.to_string(),
        };
        self.is_lost().then(|| (self.path.clone(), reason))
    }
}

impl Store {
    /// The store in `state_dir`, which need not exist yet. Sealing keys are plain files.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.to_owned(),
            custody: Custody::default(),
        }
    }

    /// The same with sealing keys that are kept so.
    #[must_use]
    pub fn with_custody(self, custody: Custody) -> Self {
        Self { custody, ..self }
    }

    /// How sealing keys are kept from now on.
    #[must_use]
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which set is in use; cheap.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn current(&self) -> Result<Option<SetNumber>, StoreError> {
        let link = self.dir.join(LINK);
        match fs::read_link(&link) {
            Ok(target) => {
                target.to_str().and_then(set_of).map(Some).ok_or_else(|| {
                    failed("unexpected link", &link, io::ErrorKind::InvalidData.into())
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read", &link, error)),
        }
    }

    /// Reads the set in use; `None` when there is none.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub(super) fn load(&self) -> Result<Option<(SetNumber, Stored)>, StoreError> {
        let Some(set) = self.current()? else {
            return Ok(None);
        };
        let sealing = self.sealing_key(set, SEALING_KEY).or_else(|error| {
            // The certificate's key is what the node is known by: with it comes another one.
            let (path, reason) = error.lost().ok_or(error)?;
            Ok(StoredKey {
                key: None,
                custody: self.custody.wanted(),
                lost: Some(format!("{}: {reason}", path.display())),
            })
        })?;
        Ok(Some((set, self.load_set(set, sealing)?)))
    }

    fn load_set(&self, set: SetNumber, sealing: StoredKey) -> Result<Stored, StoreError> {
        let dir = self.set_dir(set);
        let text = |name: &str| -> Result<Zeroizing<String>, StoreError> {
            let path = dir.join(name);
            let bytes = read(&path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| failed("not text:", &path, io::ErrorKind::InvalidData.into()))?;
            Ok(Zeroizing::new(text.to_owned()))
        };
        let enrolment = dir.join(ENROLMENT);
        let read_enrolment = || {
            let bytes = read(&enrolment)?;
            PublicKey::from_bytes(&bytes).map_err(|_| malformed(&enrolment))
        };
        let enrolment = match (read_enrolment(), &sealing.key) {
            (Ok(enrolment), _) => enrolment,
            // Of a time before sealing keys changed, or lost: what was kept then counts as another's, and
            // is fetched anew.
            (Err(error), Some(key)) if error.is_lost() => key.public(),
            (Err(error), _) => return Err(error),
        };
        Ok(Stored {
            key: text(NODE_KEY)?,
            certificate: text(NODE_CERT)?.to_string(),
            trust_bundle: text(CA_CERT)?.to_string(),
            sealing,
            enrolment,
        })
    }

    /// Writes a new set and swaps it in. Older sets stay until [`retire`](Self::retire).
    ///
    /// # Errors
    /// When something cannot be written; then the set in use is the one from before.
    pub fn install(&self, material: &Material) -> Result<SetNumber, StoreError> {
        let _lock = self.lock()?;
        let last = self.sets()?.into_iter().max();
        let set = last.map_or(SetNumber::FIRST, |set| SetNumber(set.0.saturating_add(1)));
        let dir = self.set_dir(set);
        let write = || {
            DirBuilder::new().mode(0o700).create(&dir)?;
            write_new(&dir.join(NODE_KEY), material.key.as_bytes(), 0o600)?;
            let sealing_key = material.sealing_key.expose();
            let sealing_key = self.custody.encode(&place(set, SEALING_KEY), sealing_key)?;
            write_new(&dir.join(SEALING_KEY), &sealing_key, 0o600)?;
            write_new(&dir.join(ENROLMENT), &material.enrolment.to_bytes(), 0o644)?;
            write_new(&dir.join(NODE_CERT), material.certificate.as_bytes(), 0o644)?;
            write_new(&dir.join(CA_CERT), material.trust_bundle.as_bytes(), 0o644)?;
            File::open(&dir)?.sync_all()?;
            // The directory's own entry, before a link names it.
            File::open(&self.dir)?.sync_all()
        };
        let installed = write()
            .map_err(|error| failed("cannot write", &dir, error))
            .and_then(|()| self.point_at(set));
        if let Err(error) = installed {
            // On a full disk every attempt would leave another one. Never the set in use: the
            // swap's last step, syncing it, may be what failed.
            if !matches!(self.current(), Ok(Some(current)) if current == set) {
                wipe_set(&dir).ok();
            }
            return Err(error);
        }
        Ok(set)
    }

    /// Goes back to the newest whole set before `from`, when there is one and `from` is in use.
    ///
    /// # Errors
    /// When the link cannot be swapped.
    pub fn roll_back(&self, from: SetNumber) -> Result<Option<SetNumber>, StoreError> {
        let _lock = self.lock()?;
        if self.current()? != Some(from) {
            return Ok(None);
        }
        let mut former = self.sets()?;
        former.retain(|set| *set < from);
        former.sort_unstable_by(|a, b| b.cmp(a));
        // A kill while one was written has left a part of it.
        let whole = |set: &SetNumber| {
            let sealing = self.sealing_key(*set, SEALING_KEY);
            let stored = sealing
                .and_then(|sealing| self.load_set(*set, sealing))
                .ok();
            stored.is_some_and(|s| ready(&s.key, &s.certificate, &s.trust_bundle).is_ok())
        };
        let Some(former) = former.into_iter().find(whole) else {
            return Ok(None);
        };
        self.point_at(former)?;
        Ok(Some(former))
    }

    /// Wipes and removes every set but the one in use.
    ///
    /// # Errors
    /// When one cannot be removed; the others are, all the same.
    pub fn retire(&self) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let current = self.current()?;
        let mut first_error = None;
        for set in self.sets()? {
            if Some(set) != current {
                let dir = self.set_dir(set);
                if let Err(error) = wipe_set(&dir) {
                    first_error.get_or_insert_with(|| failed("cannot remove", &dir, error));
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn point_at(&self, set: SetNumber) -> Result<(), StoreError> {
        let (link, fresh) = (self.dir.join(LINK), self.dir.join(FRESH_LINK));
        let swap = || {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(set_name(set), &fresh)?;
            fs::rename(&fresh, &link)?;
            File::open(&self.dir)?.sync_all()
        };
        swap().map_err(|error| failed("cannot swap", &link, error))
    }

    /// Keeps an enrolment and a renewal from writing at once. Makes the state directory.
    fn lock(&self) -> Result<File, StoreError> {
        let open = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)?;
            if self.dir.metadata()?.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?;
            }
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(self.dir.join(LOCK))?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|error| failed("cannot use the state directory", &self.dir, error))
    }

    fn sets(&self) -> Result<Vec<SetNumber>, StoreError> {
        let list = || -> io::Result<Vec<SetNumber>> {
            let mut sets = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                sets.extend(entry?.file_name().to_str().and_then(set_of));
            }
            Ok(sets)
        };
        list().map_err(|error| failed("cannot list", &self.dir, error))
    }

    pub(super) fn set_dir(&self, set: SetNumber) -> PathBuf {
        self.dir.join(set_name(set))
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError {
        what,
        path: path.to_owned(),
        source,
    }
}

fn set_name(set: SetNumber) -> String {
    format!("{SET_PREFIX}{}", set.0)
}

fn set_of(name: &str) -> Option<SetNumber> {
    name.strip_prefix(SET_PREFIX)?.parse().ok().map(SetNumber)
}

fn malformed(path: &Path) -> StoreError {
    failed("malformed:", path, io::ErrorKind::InvalidData.into())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    disk::read(path, MAX_FILE).map_err(|error| failed("cannot read", path, error))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Overwrites the keys of a set before it goes.
fn wipe_set(dir: &Path) -> io::Result<()> {
    for name in [NODE_KEY, SEALING_KEY, SEALING_NEXT, SEALING_FRESH] {
        disk::overwrite(&dir.join(name))?;
    }
    fs::remove_dir_all(dir)
}

const LINK: &str = "identity";
const FRESH_LINK: &str = "identity.new";
const SET_PREFIX: &str = "identity-";
const LOCK: &str = "identity.lock";
const NODE_KEY: &str = "node.key";
const NODE_CERT: &str = "node.crt";
const CA_CERT: &str = "ca.crt";
const SEALING_KEY: &str = "sealing.key";
const SEALING_NEXT: &str = "sealing.next";
/// What a kill leaves of one that was being written.
const SEALING_FRESH: &str = "sealing.next.new";
const ENROLMENT: &str = "enrolment";
const MAX_FILE: usize = 64 * 1024;
