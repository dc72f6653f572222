//! The master key: which one it is, and its exchange for a new one.
//!
//! The exchange wraps the key of every version anew, in one transaction, and leaves the values as they
//! are. The new key is on the disk before that, beside the old one; the database says which of the
//! two it is under, so that a hub that was killed at any moment knows which to take.

use std::fs;
use std::io;
use std::path::Path;

use crate::app::{self, AppError, MASTER_KEY_FILE};
use crate::backup::{BackupError, LEFT_BY_BACKUPS, expect_owner};
use crate::catalog::sqlite::SqliteCatalog;
use crate::config::Config;
use crate::disk;
use crate::managers::envelope::MasterKey;

/// The master key of a data directory, after whatever an exchange had still to do is done.
///
/// # Errors
/// When there is none, or it is not the one that the database is under.
pub async fn settle(dir: &Path, catalog: &SqliteCatalog) -> Result<MasterKey, AppError> {
    let (path, next) = (dir.join(MASTER_KEY_FILE), dir.join(NEXT_FILE));
    let read = |path: &Path| app::key(path, |bytes| MasterKey::from_bytes(bytes).ok());
    let master = read(&path)?;
    let mark = master.mark();
    match catalog.master_key_mark().await? {
        // An exchange was broken off before it had happened.
        Some(found) if found == mark => {
            disk::remove(&next).map_err(|error| AppError::disk(&next, &error))?;
        }
        Some(found) => {
            let successor = next.exists().then(|| read(&next)).transpose()?;
            let Some(successor) = successor.filter(|successor| successor.mark() == found) else {
                return Err(AppError::OtherMasterKey(path));
            };
            replace(dir).map_err(|error| AppError::disk(&path, &error))?;
            return Ok(successor);
        }
        // A hub that knew no marks has been here.
        None => {
            let opens = |of: &_, wrapped: &[u8]| master.rewrap(&master, of, wrapped).is_some();
            if !catalog.mark_master_key(&mark, opens).await? {
                return Err(AppError::OtherMasterKey(path));
            }
        }
    }
    Ok(master)
}

/// Exchanges the master key of the hub of the configuration at `config`, which must not be serving.
/// Gives how many keys are wrapped anew.
///
/// # Errors
/// When a hub serves or a backup is made, or something cannot be read or written. Then the old key is
/// in force, or the new one: never neither.
pub async fn rotate_master_key(config: &Path) -> Result<u64, BackupError> {
    let dir = Config::load(config)?.data_dir;
    expect_owner(&dir)?;
    let _serving = app::serving(&dir)?;
    let _alone = app::alone(&dir)?;
    // What a backup left that was killed has every key under the old master key.
    for left in LEFT_BY_BACKUPS {
        disk::remove(&dir.join(left))?;
    }
    let catalog = app::database(&dir).await?;
    let rotated = async {
        let old = settle(&dir, &catalog).await?;
        let new = MasterKey::generate().map_err(io::Error::other)?;
        prepare(&dir, &new).map_err(|error| BackupError::file(&dir.join(NEXT_FILE), error))?;
        let count = catalog
            .rewrap(&new.mark(), |of, wrapped| old.rewrap(&new, of, wrapped))
            .await?;
        replace(&dir)?;
        Ok(count)
    }
    .await;
    catalog.close().await;
    rotated
}

/// Brings the new key to the disk, beside the old one.
fn prepare(dir: &Path, new: &MasterKey) -> io::Result<()> {
    disk::put(&dir.join(NEXT_FILE), new.expose())?;
    disk::sync(dir)
}

/// Puts the new key in the old one's place. The old one is overwritten first: from here on the database is
/// under the new one.
fn replace(dir: &Path) -> io::Result<()> {
    let path = dir.join(MASTER_KEY_FILE);
    disk::overwrite(&path)?;
    fs::rename(dir.join(NEXT_FILE), path)?;
    disk::sync(dir)
}

/// The key that takes over.
pub const NEXT_FILE: &str = "master.key.next";

#[cfg(test)]
mod tests;
