//! The hub's own credentials for a manager: files, or credentials of its systemd unit.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use edge_secrets_protocol::Secret;
use serde::Deserialize;

/// Where a credential is: a file's path, relative to the configuration, or `credential:NAME` for one
/// that systemd gives the hub's unit (`LoadCredential=`, `LoadCredentialEncrypted=`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CredentialFile(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Systemd(String),
}

impl CredentialFile {
    /// The same with a relative path made relative to `base`.
    #[must_use]
    pub fn based_on(self, base: &Path) -> Self {
        match self.0 {
            Place::File(path) => Self(Place::File(base.join(path))),
            Place::Systemd(name) => Self(Place::Systemd(name)),
        }
    }

    /// Where the file is now.
    ///
    /// # Errors
    /// When systemd gave this process no credentials.
    pub fn path(&self) -> Result<PathBuf, String> {
        match &self.0 {
            Place::File(path) => Ok(path.clone()),
            Place::Systemd(name) => std::env::var_os("CREDENTIALS_DIRECTORY")
                .map(|dir| Path::new(&dir).join(name))
                .ok_or_else(|| {
                    format!("{self}: systemd gives this process no credentials: is it in its unit?")
                }),
        }
    }

    /// Whether it is no file directly in `dir`.
    #[must_use]
    pub fn is_outside(&self, dir: &Path) -> bool {
        match &self.0 {
            Place::File(path) => path.parent() != Some(dir),
            Place::Systemd(_) => true,
        }
    }

    /// Looks whether everybody can read it, where it is there by now: one that comes later is looked at
    /// when it is read.
    ///
    /// # Errors
    /// When everybody can.
    pub fn expect_private(&self) -> Result<(), String> {
        let path = self.path().ok().filter(|path| path.exists());
        path.map_or(Ok(()), |path| {
            expect_private(&path).map_err(|why| format!("{}: {why}", path.display()))
        })
    }

    /// Reads it, without a line end at its end: at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// When it cannot be read, everybody can read it, or it is empty or too large.
    pub fn read(&self) -> Result<Secret, String> {
        let path = self.path()?;
        let unfit = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let file = File::open(&path).map_err(|error| unfit(&error))?;
        expect_private(&path).map_err(|why| unfit(&why))?;
        // The final capacity at once: a growing vector would leave copies behind.
        let mut bytes = Vec::with_capacity(MAX_BYTES + 1);
        let limit = MAX_BYTES as u64 + 1;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| unfit(&error))?;
        let size = bytes.len();
        while bytes
            .last()
            .is_some_and(|last| matches!(last, b'\n' | b'\r'))
        {
            bytes.pop();
        }
        let secret = Secret::new(bytes);
        if size > MAX_BYTES {
            return Err(unfit(&"is too large for a credential"));
        }
        if secret.is_empty() {
            return Err(unfit(&"is empty"));
        }
        Ok(secret)
    }
}

impl fmt::Display for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Systemd(name) => write!(f, "{SYSTEMD}{name}"),
        }
    }
}

impl TryFrom<String> for CredentialFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path of a credential's file is empty".into());
        }
        let Some(name) = text.strip_prefix(SYSTEMD) else {
            return Ok(Self(Place::File(text.into())));
        };
        // systemd.exec(5): a credential's name is a file's.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(format!("{text:?} names no systemd credential"));
        }
        Ok(Self(Place::Systemd(name.into())))
    }
}

/// Says why a file's key is no secret: everybody on this machine can read or change it.
///
/// # Errors
/// With that reason, or when the file cannot be looked at.
pub fn expect_private(path: &Path) -> Result<(), String> {
    let mode = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .permissions()
        .mode();
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(format!(
        "everybody can reach this key (mode {:o}): take it for known, or `chmod 600` it if nobody \
         else was here",
        mode & 0o777
    ))
}

/// Largest credential, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
const SYSTEMD: &str = "credential:";

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn at(path: &Path) -> CredentialFile {
        path.display().to_string().try_into().unwrap()
    }

    #[test]
    fn a_file_is_read_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret-id");
        fs::write(&path, "abc\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(at(&path).read().unwrap().expose(), b"abc");
        let relative: CredentialFile = "secret-id".to_owned().try_into().unwrap();
        let based = relative.based_on(dir.path());
        assert_eq!(based.read().unwrap().expose(), b"abc");
    }

    #[test]
    fn what_is_no_credential_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(at(&path).read().is_err());
        for (content, mode, why) in [
            ("", 0o600, "empty"),
            ("\n", 0o600, "empty"),
            ("abc", 0o644, "everybody"),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = at(&path).read().err().unwrap();
            assert!(error.contains(why), "{error}");
        }
        fs::write(&path, "x".repeat(MAX_BYTES + 1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(at(&path).read().is_err());
    }

    #[test]
    fn names_of_systemd_credentials_are_names() {
        for text in ["", "credential:", "credential:../x", "credential:a/b"] {
            assert!(CredentialFile::try_from(text.to_owned()).is_err(), "{text}");
        }
        let named: CredentialFile = "credential:vault-secret-id".to_owned().try_into().unwrap();
        assert_eq!(named.clone().based_on(Path::new("/etc")), named);
        assert_eq!(named.to_string(), "credential:vault-secret-id");
    }
}
