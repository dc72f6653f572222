//! Whether the file that should hold the catalog does, before it is taken into use: what SQLite would
//! pass over in silence, or meet in the middle of a day.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::SqliteCatalog;
use super::copy::connect;
use super::rows::Columns;
use crate::catalog::CatalogError;

impl SqliteCatalog {
    /// As [`open`](Self::open), of a catalog that is there and whole. Reads the whole file, and writes
    /// nothing before it is known to be sound.
    ///
    /// # Errors
    /// `Storage` when it is damaged or none; else as [`open`](Self::open).
    pub async fn open_sound(path: &Path) -> Result<Self, CatalogError> {
        look(path)?;
        let mut conn = connect(path, true).await?;
        let rows = sqlx::query("PRAGMA quick_check(1)")
            .fetch_all(&mut conn)
            .await?;
        let tables = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_optional(&mut conn)
            .await?;
        sqlx::Connection::close(conn).await?;
        let sound = match rows.as_slice() {
            [row] => row.text("quick_check")? == "ok",
            _ => false,
        };
        match (sound, tables) {
            (false, _) => Err(damaged("the database is damaged")),
            (true, None) => Err(damaged("it has none of a hub's tables")),
            (true, Some(_)) => Self::open(path).await,
        }
    }
}

/// What SQLite takes for a new database, or for a log with nothing in it.
pub(super) fn look(path: &Path) -> Result<(), CatalogError> {
    let unread =
        |error: io::Error| CatalogError::of_file(&error, format!("it cannot be read: {error}"));
    let file = fs::metadata(path).map_err(unread)?;
    if !file.is_file() || file.len() == 0 {
        let reason = if file.is_file() {
            "it is empty"
        } else {
            "it is no file"
        };
        return Err(damaged(reason));
    }
    let log = log_of(path);
    let mut begins = Vec::new();
    match File::open(&log) {
        Ok(file) => file
            .take(MAGIC.len() as u64)
            .read_to_end(&mut begins)
            .map_err(unread)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unread(error)),
    };
    // A kill leaves a part of the beginning, a power cut perhaps zeros where it was not synced yet: then
    // nothing was answered out of it.
    let known = MAGIC.starts_with(&begins)
        || MAGIC_BIG.starts_with(&begins)
        || begins.iter().all(|byte| *byte == 0);
    match known {
        true => Ok(()),
        false => Err(damaged(&format!(
            "its write-ahead log {} is damaged, and has the last changes",
            log.display()
        ))),
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn damaged(reason: &str) -> CatalogError {
    CatalogError::Storage(reason.to_owned())
}

/// How a write-ahead log begins, by the order of bytes in its checksums.
const MAGIC: &[u8] = &0x377f_0682_u32.to_be_bytes();
const MAGIC_BIG: &[u8] = &0x377f_0683_u32.to_be_bytes();
