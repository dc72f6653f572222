//! `edge-secrets-hub backup` and `restore`: everything that a hub is, in one encrypted file.
//!
//! A backup is taken while the hub serves. It has the database as it was at one moment and every key
//! that belongs to it: whoever opens it has everything. It is therefore never written in clear, not even
//! for a moment: the copy of the database that it is made from holds values under the master key alone.
//!
//! The format: a line, a header in clear (when, for whom), and a tar archive in pieces of AES-256-GCM
//! under a key that the header gives to those it is for.

mod archive;
mod check;
mod cipher;
pub mod command;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod lock;
mod restore;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::app::{AppError, DATABASE_FILE, LOCK_FILE, MAINTENANCE_FILE, alone};
use crate::catalog::CatalogError;
use crate::catalog::sqlite::SqliteCatalog;
use crate::clock;
use crate::config::{Config, ConfigError};
use crate::disk;
use crate::init::CONFIG_FILE;
use crate::pki::{Pki, PkiError};
use crate::place::PlaceError;
use archive::Taken;
use cipher::Sealing;

pub use check::{Whole, check};
pub use lock::{Lock, MIN_PASSPHRASE, Unlock};
pub use restore::{Brought, restore};

/// Why there is no backup, or nothing restored. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The backup itself cannot be read or written.
    #[error("the backup: {0}")]
    Stream(#[from] io::Error),
    /// There is a file already.
    #[error("{} is there already; a backup overwrites nothing: name another file", .0.display())]
    Exists(PathBuf),
    /// It would lie in what is backed up.
    #[error("a backup does not belong into {}, which it is made of: name another directory", .0.display())]
    Within(PathBuf),
    /// The passphrase is too short.
    #[error(
        "the passphrase is shorter than {MIN_PASSPHRASE} bytes, and would guard every key of the hub: \
         take a long one, such as `edge-secrets-hub backup-key` makes unnecessary"
    )]
    Weak,
    /// A key is not one.
    #[error("the key: {0}")]
    Key(String),
    /// It is no backup, or one of a newer hub.
    #[error("this is no backup that this hub can read (or its beginning is damaged)")]
    NotOne,
    /// It was made for another key.
    #[error("the backup was made for another key")]
    NotFor,
    /// It is opened by something else.
    #[error("the backup is opened by {0}: give it with `{1}`")]
    OtherLock(&'static str, &'static str),
    /// Its files are not those that it lists.
    #[error("the backup is not whole: it lacks files, or has others than it lists")]
    Incomplete,
    /// Something is missing without which no hub runs.
    #[error("the backup has no {0}: it was not made by `edge-secrets-hub backup`")]
    Lacks(&'static str),
    /// Somebody who does not own the directory would leave files there that its owner cannot use.
    #[error("{} belongs to the user with the id {owner}: run this as that user", dir.display())]
    NotOwner {
        /// The data directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The directory cannot be filled.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory is used otherwise, or its keys do not fit.
    #[error(transparent)]
    App(#[from] AppError),
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl BackupError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }

    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Exists(_)
                | Self::Within(_)
                | Self::Weak
                | Self::Key(_)
                | Self::NotFor
                | Self::OtherLock(..)
                | Self::NotOwner { .. }
                | Self::Config(_)
                | Self::Place(PlaceError::NotEmpty { .. } | PlaceError::CutOff(_))
        )
    }
}

/// Where a backup goes.
pub enum Target {
    /// A new file, mode 0600: there when it is whole, and not before.
    File(PathBuf),
    /// Standard output, for a pipe. Whether it arrived whole is for its reader to find out.
    Stdout,
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The files, and how many bytes each has.
    pub files: Vec<(String, u64)>,
    /// What lies in the data directory and is not in it, as it is no file of it.
    pub left_out: Vec<String>,
    /// Files elsewhere that the configuration names: managers' credentials.
    pub elsewhere: Vec<String>,
    /// SHA-256 of the CA's certificate: whose hub it is.
    pub ca: [u8; 32],
}

/// Backs up the hub of the configuration at `config`. It may be serving.
///
/// # Errors
/// When something cannot be read or written, or another backup is under way.
pub async fn create(config: &Path, target: Target, lock: Lock) -> Result<Made, BackupError> {
    let configuration = Config::load(config)?;
    let dir = configuration.data_dir.clone();
    expect_owner(&dir)?;
    if let Target::File(path) = &target
        && path.exists()
    {
        return Err(BackupError::Exists(path.clone()));
    }
    if let Target::File(path) = &target {
        // The next one would have this one in it.
        if let (Ok(parent), Ok(dir)) = (parent(path).canonicalize(), dir.canonicalize())
            && parent == dir
        {
            return Err(BackupError::Within(dir));
        }
    }
    let _alone = alone(&dir)?;
    let ca = Pki::load(&dir, configuration.trust_domain.clone())?.ca_fingerprint();
    let made_at = clock::now();
    let copy = Scratch(dir.join(COPY_FILE));
    SqliteCatalog::copy(&dir.join(DATABASE_FILE), &copy.0).await?;
    let config = config.to_owned();
    // Those beside the database are taken with it.
    let elsewhere = configuration.managers.credentials_outside(&dir);
    let written = tokio::task::spawn_blocking(move || {
        let found = archive::contents(&dir, &NOT_TAKEN)?;
        let mut taken = vec![
            Taken::open(DATABASE_FILE, &copy.0)?,
            Taken::open(CONFIG_FILE, &config)?,
        ];
        for (name, path) in found.files {
            taken.push(Taken::open(&name, &path)?);
        }
        let list = match target {
            Target::Stdout => write(taken, &lock, made_at, io::stdout().lock())?,
            Target::File(path) => to_file(&path, |file| write(taken, &lock, made_at, file))?,
        };
        Ok::<_, BackupError>((list, found.left))
    });
    let (list, left_out) = written.await.map_err(io::Error::other)??;
    let files = list.files.into_iter();
    Ok(Made {
        ca,
        files: files.map(|file| (file.name, file.bytes)).collect(),
        left_out,
        elsewhere,
    })
}

fn write(
    files: Vec<Taken>,
    lock: &Lock,
    made_at: jiff::Timestamp,
    mut out: impl Write,
) -> Result<archive::List, BackupError> {
    let key = lock.begin(made_at, &mut out)?;
    let (list, sealing) = archive::pack(files, Sealing::new(out, &key)?)?;
    sealing.finish()?.flush()?;
    Ok(list)
}

/// Writes beside it first, so that a file of this name is whole.
fn to_file<T>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let failed = |error| BackupError::file(path, error);
    sweep_parts(path);
    let mut name = path.as_os_str().to_owned();
    // Its own, so that two at once do not take each other's for finished.
    let own = getrandom::u64().map_err(io::Error::other)?;
    name.push(format!(".{own:016x}{PART}"));
    let part = Scratch(name.into());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part.0)
        .map_err(failed)?;
    // For as long as somebody writes it. A file system without locks has no parts swept.
    file.try_lock().ok();
    let done = write(&file)?;
    file.sync_all().map_err(failed)?;
    put_at(&part.0, path, |part, path| fs::hard_link(part, path))?;
    disk::sync(parent(path)).map_err(failed)?;
    Ok(done)
}

/// Gives the finished file its name, unless there is one of that name. `link` gives it another name, as
/// [`fs::hard_link`] does.
fn put_at(
    part: &Path,
    path: &Path,
    link: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<(), BackupError> {
    let taken = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(path.into()),
        _ => BackupError::file(path, error),
    };
    // Unlike a rename it does not replace what has come meanwhile.
    match link(part, path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(taken(error)),
        // Some file systems have no links, and say so in different ways: the name is taken first, by an empty
        // file, and then that is replaced.
        Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(taken)?;
    fs::rename(part, path).map_err(|error| {
        fs::remove_file(path).ok();
        BackupError::file(path, error)
    })
}

/// Removes what backups to this file have left that were killed: parts that nobody holds.
fn sweep_parts(path: &Path) {
    let Some(name) = path.file_name() else {
        return;
    };
    let name = format!("{}.", name.to_string_lossy());
    let of_one = |found: &str| {
        let own = found.strip_prefix(&name)?.strip_suffix(PART)?;
        let hexadecimal = own.len() == 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then_some(())
    };
    for entry in fs::read_dir(parent(path)).into_iter().flatten().flatten() {
        let is_part = of_one(&entry.file_name().to_string_lossy()).is_some();
        // No link is followed, and nothing else than a file opened.
        if !is_part || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// The directory that a file is in.
fn parent(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or_else(|| Path::new("."))
}

/// A file that goes again, whatever becomes of the rest.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Whoever opens the database leaves files beside it; its owner must be able to use them.
pub(crate) fn expect_owner(dir: &Path) -> Result<(), BackupError> {
    let found = fs::metadata(dir).map_err(|error| BackupError::file(dir, error))?;
    if found.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(BackupError::NotOwner {
        dir: dir.into(),
        owner: found.uid(),
    })
}

const PART: &str = ".part";
const COPY_FILE: &str = "backup.db";
/// What a backup makes in the data directory, and removes unless it is killed.
pub(crate) const LEFT_BY_BACKUPS: [&str; 2] = [COPY_FILE, "backup.db-journal"];
/// The database comes from its copy, the configuration from where it is; the rest is no content.
const NOT_TAKEN: [&str; 8] = [
    DATABASE_FILE,
    "hub.db-wal",
    "hub.db-shm",
    "backup.db-journal",
    COPY_FILE,
    CONFIG_FILE,
    LOCK_FILE,
    MAINTENANCE_FILE,
];

#[cfg(test)]
pub(crate) mod tests;
