//! From a backup to a data directory that can be served.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::cipher::Opening;
use super::lock::Unlock;
use super::{BackupError, archive, expect_owner};
use crate::app::{DATABASE_FILE, MASTER_KEY_FILE, SEALING_KEY_FILE};
use crate::catalog::sqlite::{Restored, SqliteCatalog};
use crate::clock;
use crate::config::Config;
use crate::init::CONFIG_FILE;
use crate::keys;
use crate::pki::{CA_CERTIFICATE_FILE, CA_KEY_FILE, Pki};
use crate::place::Place;

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// When the backup was made.
    pub made_at: Timestamp,
    /// What is in it.
    pub restored: Restored,
    /// SHA-256 of the CA's certificate: whose hub it is.
    pub ca: [u8; 32],
    /// Where the configuration says that the data is, if that is not here.
    pub other_data_dir: Option<PathBuf>,
    /// Managers' credentials that the configuration names and that were not in it.
    pub elsewhere: Vec<String>,
}

/// Makes `dir`, which must be absent or empty, the data directory that the backup was made of, or
/// leaves it as it was.
///
/// # Errors
/// When the backup does not open, is not whole, or is not of a hub that this one can go on with.
pub async fn restore(from: &Path, dir: &Path, unlock: Unlock) -> Result<Brought, BackupError> {
    if dir.exists() {
        // What somebody else restores there its owner could not read.
        expect_owner(dir)?;
    }
    let place = Place::prepare(dir)?;
    let from = from.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || {
        let (made_at, list) = read(&from, &unlock, &mut &place)?;
        Ok::<_, BackupError>((place, made_at, list))
    });
    let (mut place, made_at, list) = unpacked.await.map_err(io::Error::other)??;
    expect_all(&list)?;
    let at_work = place.path(DATABASE_FILE);
    SqliteCatalog::check(&at_work).await?;
    let config = Config::load(&place.path(CONFIG_FILE))?;
    let workshop = at_work.parent().unwrap_or(dir);
    let ca = Pki::load(workshop, config.trust_domain.clone())?.ca_fingerprint();
    let catalog = SqliteCatalog::open(&at_work).await?;
    let taken_up = async {
        keys::settle(workshop, &catalog).await?;
        Ok::<_, BackupError>(catalog.take_up(made_at, clock::now()).await?)
    }
    .await;
    catalog.close().await;
    let restored = taken_up?;
    place.finish(CONFIG_FILE)?;
    let config = Config::load(&dir.join(CONFIG_FILE))?;
    let same = |path: &Path| path.canonicalize().ok();
    Ok(Brought {
        elsewhere: config.managers.credentials_outside(&config.data_dir),
        made_at,
        ca,
        restored,
        other_data_dir: (same(&config.data_dir) != same(dir)).then_some(config.data_dir),
    })
}

pub(super) fn expect_all(list: &archive::List) -> Result<(), BackupError> {
    for needed in NEEDED {
        if !list.files.iter().any(|file| file.name == needed) {
            return Err(BackupError::Lacks(needed));
        }
    }
    Ok(())
}

/// Reads a backup to its end.
pub(super) fn read(
    from: &Path,
    unlock: &Unlock,
    shelf: &mut dyn archive::Shelf,
) -> Result<(Timestamp, archive::List), BackupError> {
    let mut from: Box<dyn Read> = if from.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(from).map_err(|error| BackupError::file(from, error))?;
        Box::new(BufReader::new(file))
    };
    let (header, key) = unlock.begin(&mut from)?;
    let list = archive::unpack(Opening::new(from, &key)?, shelf)?;
    Ok((header.made_at, list))
}

const NEEDED: [&str; 6] = [
    DATABASE_FILE,
    CONFIG_FILE,
    MASTER_KEY_FILE,
    SEALING_KEY_FILE,
    CA_CERTIFICATE_FILE,
    CA_KEY_FILE,
];
