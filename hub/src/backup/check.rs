//! Whether a backup could be restored, as far as that can be told without restoring it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::BackupError;
use super::archive::Shelf;
use super::lock::Unlock;
use super::restore::{expect_all, read};
use crate::app::{AppError, DATABASE_FILE, MASTER_KEY_FILE};
use crate::catalog::sqlite::SqliteCatalog;
use crate::keys;
use crate::managers::envelope::MasterKey;

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// When it was made.
    pub made_at: Timestamp,
    /// Its files, and how many bytes each has.
    pub files: Vec<(String, u64)>,
}

/// Reads a backup to its end and looks into its database: whether it is sound, of no newer hub, and under
/// the master key that comes with it. The database lies in a directory of its own among the temporary files
/// meanwhile, values in it under the master key, which does not leave the memory.
///
/// # Errors
/// When it does not open, is not whole, or could not be restored.
pub async fn check(from: &Path, unlock: Unlock) -> Result<Whole, BackupError> {
    let mut look = Look::prepare()?;
    let from = from.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let (made_at, list) = read(&from, &unlock, &mut look)?;
        expect_all(&list)?;
        Ok::<_, BackupError>((look, made_at, list))
    });
    let (look, made_at, list) = looked.await.map_err(io::Error::other)??;
    let database = look.path(DATABASE_FILE);
    SqliteCatalog::check(&database).await?;
    let mark = SqliteCatalog::look_into(&database).await?;
    let fits = |key: &Zeroizing<Vec<u8>>| {
        MasterKey::from_bytes(key)
            .is_ok_and(|key| mark.as_ref().is_none_or(|mark| key.mark() == *mark))
    };
    // While it is exchanged there are two of them.
    if !look.keys.iter().any(fits) {
        return Err(AppError::OtherMasterKey(PathBuf::from(MASTER_KEY_FILE)).into());
    }
    let files = list.files.into_iter();
    Ok(Whole {
        made_at,
        files: files.map(|file| (file.name, file.bytes)).collect(),
    })
}

/// Keeps what is looked at, until it is dropped.
struct Look {
    dir: PathBuf,
    keys: Vec<Zeroizing<Vec<u8>>>,
}

impl Look {
    fn prepare() -> Result<Self, BackupError> {
        let own = getrandom::u64().map_err(io::Error::other)?;
        let dir = std::env::temp_dir().join(format!("edge-secrets-hub-check-{own:016x}"));
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| BackupError::file(&dir, error))?;
        Ok(Self {
            dir,
            keys: Vec::new(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Shelf for Look {
    fn take(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, BackupError> {
        match name {
            DATABASE_FILE => {
                let path = self.path(name);
                let written = OpenOptions::new()
                    .create_new(true)
                    .write(true)
                    .mode(0o600)
                    .open(&path)
                    .and_then(|mut file| io::copy(from, &mut file));
                written.map_err(|error| BackupError::file(&path, error))
            }
            MASTER_KEY_FILE | keys::NEXT_FILE => {
                // The final capacity at once: a growing vector would leave copies behind.
                let mut key = Zeroizing::new(Vec::with_capacity(MAX_KEY + 1));
                let mut most = from.take(MAX_KEY as u64);
                most.read_to_end(&mut key)?;
                let len = key.len() as u64;
                self.keys.push(key);
                // What is longer is no key, and is counted all the same.
                Ok(len + io::copy(from, &mut io::sink())?)
            }
            _ => Ok(io::copy(from, &mut io::sink())?),
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

const MAX_KEY: usize = 1024;
