//! What is kept, sealed to another key of the node.

use std::io;

use edge_secrets_protocol::sealed::SealError;
use tracing::warn;

use super::{CacheError, Kept, SealedCache, file_name, read_value};
use crate::disk::{self, remove_file, replace};
use crate::identity::Resealer;

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resealed {
    /// Values that were sealed anew.
    pub(crate) values: usize,
    /// Values that no key opens, or that were damaged.
    pub(crate) lost: usize,
}

impl SealedCache {
    /// Seals every kept value to the key in use that is not yet, one after the other, each of them there
    /// under one key or the other at any moment. What no key opens, or is damaged, is named in the log and
    /// not kept any more: it is fetched again.
    ///
    /// A save that was begun before fails: what it has may be sealed to a former key.
    ///
    /// # Errors
    /// When a value cannot be read or written: then keys that are not in use any more are still needed.
    pub(crate) fn reseal(&self, resealer: &Resealer) -> Result<Resealed, CacheError> {
        let _disk = self.disk();
        self.state().sealing += 1;
        self.reseal_each(resealer)
            .map_err(|error| CacheError::new(&self.0.dir, &error))
    }

    fn reseal_each(&self, resealer: &Resealer) -> io::Result<Resealed> {
        let dir = &self.0.dir;
        let items: Vec<_> = self.state().values.iter().cloned().collect();
        let mut resealed = Resealed::default();
        for item in items {
            let (name, path) = (file_name(&item), dir.join(file_name(&item)));
            let outcome = match read_value(&path, &item) {
                Ok(sealed) => match resealer.reseal(&item, &sealed) {
                    Err(error @ (SealError::Random | SealError::Key)) => {
                        return Err(io::Error::other(error));
                    }
                    outcome => outcome.map_err(|error| error.to_string()),
                },
                Err(error) if is_lost(&error) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(sealed)) => {
                    replace(dir, &name, &Kept { item, sealed }.encode()?)?;
                    resealed.values += 1;
                }
                Err(error) => {
                    warn!(file = %path.display(), %error, "A kept value cannot be used; it is fetched again.");
                    remove_file(&path)?;
                    self.state().values.remove(&item);
                    resealed.lost += 1;
                }
            }
        }
        match dir.exists() {
            true => disk::sync(dir).map(|()| resealed),
            false => Ok(resealed),
        }
    }
}

/// Whether the file is not, or never was, what was written; anything else may pass.
fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData
    )
}
