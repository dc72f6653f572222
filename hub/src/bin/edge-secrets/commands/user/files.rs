//! The four files of a new context: made before they are needed, and gone again if they are not.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Empty files that nobody else had. Dropped before they are written, they are removed.
pub(super) struct NewFiles {
    context: NewFile,
    /// Holds the certificate chain.
    pub(super) certificate: NewFile,
    /// Holds the private key; nobody but its owner can read it.
    pub(super) key: NewFile,
    /// Holds the CA certificates to trust.
    pub(super) ca: NewFile,
}

impl NewFiles {
    /// Makes `context` and, beside it under the same name, `.crt`, `.key` and `.ca.crt`.
    ///
    /// # Errors
    /// When one of them exists already, or cannot be made. Then none is left.
    pub(super) fn reserve(context: &Path) -> Result<Self, Error> {
        if context.file_name().is_none() {
            return Err(Error::Usage("--out names no file".to_owned()));
        }
        let yaml = ["yaml", "yml"].map(OsStr::new);
        let stem = match context.extension() {
            Some(extension) if yaml.contains(&extension) => context.with_extension(""),
            _ => context.to_owned(),
        };
        let beside = |suffix: &str| {
            let mut path = stem.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        Ok(Self {
            context: NewFile::create(context.to_owned(), PUBLIC)?,
            certificate: NewFile::create(beside(".crt"), PUBLIC)?,
            key: NewFile::create(beside(".key"), PRIVATE)?,
            ca: NewFile::create(beside(".ca.crt"), PUBLIC)?,
        })
    }

    /// Fills and keeps them.
    ///
    /// # Errors
    /// When one cannot be written. Then none is left.
    pub(super) fn write(
        mut self,
        context: &str,
        certificate: &str,
        key: &str,
        ca: &str,
    ) -> Result<(), Error> {
        self.key.fill(key)?;
        self.certificate.fill(certificate)?;
        self.ca.fill(ca)?;
        self.context.fill(context)?;
        for file in [
            &mut self.key,
            &mut self.certificate,
            &mut self.ca,
            &mut self.context,
        ] {
            file.keep = true;
        }
        Ok(())
    }
}

/// One of them.
pub(super) struct NewFile {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl NewFile {
    /// Its name within its directory.
    pub(super) fn name(&self) -> PathBuf {
        self.path.file_name().map(PathBuf::from).unwrap_or_default()
    }

    fn create(path: PathBuf, mode: u32) -> Result<Self, Error> {
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        match created {
            Ok(file) => Ok(Self {
                path,
                file,
                keep: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Usage(format!(
                    "{} exists already, and nothing is overwritten: choose another --out",
                    path.display()
                )))
            }
            Err(source) => Err(Error::Write {
                what: path.display().to_string(),
                source,
            }),
        }
    }

    fn fill(&mut self, text: &str) -> Result<(), Error> {
        let filled = self.file.write_all(text.as_bytes());
        filled
            .and_then(|()| self.file.sync_all())
            .map_err(|source| Error::Write {
                what: self.path.display().to_string(),
                source,
            })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep {
            // It may hold a private key that belongs to no user. There is nobody to tell.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_key_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("alice.yaml");
        let files = NewFiles::reserve(&out).unwrap();
        assert_eq!(files.ca.name(), Path::new("alice.ca.crt"));
        files.write("context", "cert", "key", "ca").unwrap();
        let all = ["alice.ca.crt", "alice.crt", "alice.key", "alice.yaml"];
        assert_eq!(names(dir.path()), all);
        let key = dir.path().join("alice.key");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "key");
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_done_stays() {
        for taken in ["alice.yaml", "alice.crt", "alice.key", "alice.ca.crt"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(taken), "mine").unwrap();
            let error = NewFiles::reserve(&dir.path().join("alice.yaml"))
                .err()
                .unwrap();
            assert_eq!(error.exit_code(), 64);
            assert!(error.to_string().contains(taken), "{error}");
            assert_eq!(names(dir.path()), [taken]);
            assert_eq!(std::fs::read(dir.path().join(taken)).unwrap(), b"mine");
        }
        let dir = tempfile::tempdir().unwrap();
        drop(NewFiles::reserve(&dir.path().join("alice.yaml")).unwrap());
        assert!(names(dir.path()).is_empty());
        assert_eq!(
            NewFiles::reserve(Path::new("/")).err().unwrap().exit_code(),
            64
        );
    }

    #[test]
    fn only_the_ending_of_yaml_is_left_out_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for (out, key) in [("a.b", "a.b.key"), ("c.yml", "c.key"), ("d", "d.key")] {
            let files = NewFiles::reserve(&dir.path().join(out)).unwrap();
            assert_eq!(files.key.name(), Path::new(key));
        }
    }
}
