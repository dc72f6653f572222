//! The last good version of each file, remembered over restarts and reboots in a directory of the
//! agent's own. A profile holds no secret.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::{Checked, Sources};

/// A file's text, and what its templates were made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    pub(super) text: String,
    pub(super) sources: Sources,
}

impl Version {
    fn is_of(&self, checked: &Checked) -> bool {
        self.text == checked.text && self.sources == checked.sources
    }
}

/// The directory, and what is known to be in it.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    versions: BTreeMap<OsString, Option<Version>>,
}

impl Kept {
    /// Reads what was remembered. What cannot be read is as if it had never been there, and goes with
    /// the next [`keep`](Self::keep).
    pub(super) fn open(dir: &Path) -> Self {
        let mut versions = BTreeMap::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let version = read(&entry.path())
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            versions.insert(entry.file_name(), version);
        }
        Self {
            dir: dir.to_owned(),
            versions,
        }
    }

    /// What was remembered of each file.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&OsString, &Version)> {
        self.versions
            .iter()
            .filter_map(|(name, version)| Some((name, version.as_ref()?)))
    }

    /// Remembers these and nothing else. Writes what has changed alone.
    ///
    /// # Errors
    /// The first; everything is tried all the same, and again with the next call.
    pub(super) fn keep<'g>(
        &mut self,
        good: impl Iterator<Item = (&'g OsString, &'g Checked)>,
    ) -> io::Result<()> {
        let mut stale: Vec<OsString> = self.versions.keys().cloned().collect();
        let (mut first_error, mut written) = (Ok(()), false);
        for (name, checked) in good {
            stale.retain(|other| other != name);
            let known = self.versions.get(name).and_then(Option::as_ref);
            if known.is_some_and(|version| version.is_of(checked)) {
                continue;
            }
            let version = Version {
                text: checked.text.clone(),
                sources: checked.sources.clone(),
            };
            match self.write(name, &version) {
                Ok(()) => {
                    self.versions.insert(name.clone(), Some(version));
                    written = true;
                }
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        for name in stale {
            match fs::remove_file(self.dir.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    first_error = first_error.and(Err(error));
                }
                _ => {
                    self.versions.remove(&name);
                    written = true;
                }
            }
        }
        if written {
            let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
            first_error = first_error.and(synced);
        }
        first_error
    }

    fn write(&self, name: &OsStr, version: &Version) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let bytes = serde_json::to_vec(version)?;
        let fresh = self.dir.join(FRESH);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, self.dir.join(name))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name == FRESH.as_bytes() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    file.take(MAX_KEPT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// No profile's name starts with a dot.
const FRESH: &str = ".fresh";
/// More than any file with its templates' sources becomes, even where everything is escaped.
const MAX_KEPT: u64 = 16 * 1024 * 1024;
