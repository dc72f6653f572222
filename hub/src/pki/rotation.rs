//! How far the exchange of the certificate authority for another one has come. One file beside the CA's
//! own says it, and has the new CA until that has taken the place of the old one: so each step is one
//! file replaced, and a kill at any moment leaves the step before or the step after it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CA_CERTIFICATE_FILE, CA_KEY_FILE, PkiError, authority};
use crate::config::TrustDomain;
use crate::disk;
use crate::managers::credential;

/// What is done with the two CAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The old one issues, both are trusted, and every renewal tells nodes of both.
    Announced,
    /// The new one issues, both are trusted.
    Switched,
    /// The new one is taking the place of the old one.
    Finishing,
}

/// An exchange that is under way. No `Debug`: it has a private key.
pub struct Rotation {
    stage: Stage,
    since: Timestamp,
    certificate: String,
    key: Zeroizing<String>,
    before: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    stage: Stage,
    since: Timestamp,
    certificate: String,
    key: String,
    before: BTreeSet<String>,
}

#[derive(Serialize)]
struct Keeping<'a> {
    stage: Stage,
    since: Timestamp,
    certificate: &'a str,
    key: &'a str,
    before: &'a BTreeSet<String>,
}

impl Rotation {
    /// A new CA, announced at `now`. `before` are the serial numbers of all certificates that there are.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn begin(
        trust_domain: &TrustDomain,
        now: Timestamp,
        before: BTreeSet<String>,
    ) -> Result<Self, PkiError> {
        let (certificate, key) = authority::create(trust_domain)?;
        Ok(Self {
            stage: Stage::Announced,
            since: now,
            certificate,
            key,
            before,
        })
    }

    /// The same in another stage, begun at `now` with these certificates.
    #[must_use]
    pub fn at(self, stage: Stage, now: Timestamp, before: BTreeSet<String>) -> Self {
        Self {
            stage,
            since: now,
            before,
            ..self
        }
    }

    /// The stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When it began.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether the certificate of this serial number was there when the stage began.
    #[must_use]
    pub fn is_from_before(&self, serial: &str) -> bool {
        self.before.contains(serial)
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// What the data directory says; `None` where no exchange is under way.
    ///
    /// # Errors
    /// When the file cannot be read, is malformed, or can be read by everybody.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, PkiError> {
        let path = data_dir.join(ROTATION_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unfit(path, &error)),
        };
        credential::expect_private(&path).map_err(|reason| PkiError::File {
            path: path.clone(),
            reason,
        })?;
        // What the parser would quote may be of the key.
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|_| unfit(path, &io::Error::other("it is malformed")))?;
        Ok(Some(Self {
            stage: kept.stage,
            since: kept.since,
            certificate: kept.certificate,
            key: Zeroizing::new(kept.key),
            before: kept.before,
        }))
    }

    /// Makes it what the data directory says, durably and at once.
    ///
    /// # Errors
    /// When it cannot be written: then what was said before still is.
    pub fn save(&self, data_dir: &Path) -> Result<(), PkiError> {
        let path = data_dir.join(ROTATION_FILE);
        let keeping = Keeping {
            stage: self.stage,
            since: self.since,
            certificate: &self.certificate,
            key: &self.key,
            before: &self.before,
        };
        let written = serde_json::to_vec(&keeping)
            .map_err(io::Error::other)
            .and_then(|bytes| disk::replace(data_dir, ROTATION_FILE, &Zeroizing::new(bytes)));
        written.map_err(|error| unfit(path, &error))
    }
}

/// Removes what a step that was killed has left, does what a finished exchange has still to do, and gives the
/// one that is under way.
///
/// # Errors
/// When a file cannot be read or written.
pub fn settle(data_dir: &Path) -> Result<Option<Rotation>, PkiError> {
    for name in [ROTATION_FILE, CA_KEY_FILE, CA_CERTIFICATE_FILE] {
        let swept = disk::sweep(data_dir, name);
        swept.map_err(|error| unfit(data_dir.join(format!("{name}.new")), &error))?;
    }
    let Some(rotation) = Rotation::load(data_dir)? else {
        return Ok(None);
    };
    if rotation.stage != Stage::Finishing {
        return Ok(Some(rotation));
    }
    let done = disk::overwrite(&data_dir.join(CA_KEY_FILE))
        .and_then(|()| disk::replace(data_dir, CA_KEY_FILE, rotation.key.as_bytes()))
        .and_then(|()| {
            disk::replace(
                data_dir,
                CA_CERTIFICATE_FILE,
                rotation.certificate.as_bytes(),
            )
        })
        // Last: it has the new CA until both files are there. What it has is in use: nothing to overwrite.
        .and_then(|()| fs::remove_file(data_dir.join(ROTATION_FILE)))
        .and_then(|()| disk::sync(data_dir));
    done.map_err(|error| unfit(data_dir.join(ROTATION_FILE), &error))?;
    Ok(None)
}

fn unfit(path: PathBuf, error: &io::Error) -> PkiError {
    let reason = error.to_string();
    PkiError::File { path, reason }
}

/// How far the exchange has come, with the new CA and its key.
pub const ROTATION_FILE: &str = "ca.rotation";

#[cfg(test)]
mod tests;
