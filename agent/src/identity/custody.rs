//! How sealing keys are kept on disk: as they are, in files that only the agent's user reads, or
//! encrypted under a key that the service manager gives the agent as a credential. That credential is
//! encrypted on disk itself, to the machine's TPM or to a key of the host, and read by the service
//! manager alone: so neither the state directory nor a backup of it opens what is kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::config::SealingKeyCustody;
use crate::disk;

/// How a store writes sealing keys, and what it opens them with.
#[derive(Clone, Default)]
pub struct Custody {
    wanted: SealingKeyCustody,
    key: Option<Arc<WrappingKey>>,
}

/// A key that cannot be used as the configuration wants. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// There is no credential.
    #[error(
        "identity.sealing_key is `credential`, and this process was given no credential \
         {CREDENTIAL}: make one with `systemd-creds encrypt --name={CREDENTIAL}` and name it in a \
         drop-in of the agent's unit (LoadCredentialEncrypted={CREDENTIAL}:FILE), or set \
         identity.sealing_key to `file`"
    )]
    Absent,
    /// It cannot be read, or is no key.
    #[error("the credential {} cannot be used: {reason}", path.display())]
    Unusable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What the credential holds. Wiped when dropped; shown nowhere.
struct WrappingKey(Zeroizing<Vec<u8>>);

impl Custody {
    /// As the configuration says, with the credential that the service manager gave, which is needed
    /// where keys are to be encrypted, and opens what was encrypted where they are not any more.
    ///
    /// # Errors
    /// When there should be one and is none, or it is of less than 32 bytes or more than 4096.
    pub fn of(wanted: SealingKeyCustody, credentials: Option<&Path>) -> Result<Self, CustodyError> {
        let key = credentials.map(WrappingKey::read).transpose()?.flatten();
        if wanted == SealingKeyCustody::Credential && key.is_none() {
            return Err(CustodyError::Absent);
        }
        let key = key.map(Arc::new);
        Ok(Self { wanted, key })
    }

    /// The directory in which the service manager gives credentials to this process.
    #[must_use]
    pub fn credentials() -> Option<PathBuf> {
        std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
    }

    /// How it writes them.
    #[must_use]
    pub fn wanted(&self) -> SealingKeyCustody {
        self.wanted
    }

    /// A key's file.
    pub(super) fn encode(&self, place: &str, key: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        match &self.key {
            Some(wrapping) if self.wanted == SealingKeyCustody::Credential => {
                wrapping.encrypt(place, key)
            }
            _ => Ok(Zeroizing::new(key.to_vec())),
        }
    }

    /// The key in a file; `None` when it is encrypted and nothing here opens it.
    pub(super) fn decode(&self, place: &str, file: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match file.strip_prefix(MAGIC) {
            Some(encrypted) => self.key.as_ref()?.decrypt(place, encrypted),
            None => Some(Zeroizing::new(file.to_vec())),
        }
    }

    /// How the key in a file is kept.
    pub(super) fn kind_of(&self, file: &[u8]) -> SealingKeyCustody {
        if file.starts_with(MAGIC) {
            SealingKeyCustody::Credential
        } else {
            SealingKeyCustody::File
        }
    }
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl WrappingKey {
    fn read(dir: &Path) -> Result<Option<Self>, CustodyError> {
        let path = dir.join(CREDENTIAL);
        let bytes = match disk::read(&path, MOST) {
            Ok(bytes) if bytes.len() >= LEAST => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(_) => {
                let reason = format!("it has less than {LEAST} bytes; let the system make them");
                return Err(CustodyError::Unusable { path, reason });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let reason = format!("it has more than {MOST} bytes");
                return Err(CustodyError::Unusable { path, reason });
            }
            Err(error) => {
                let reason = error.to_string();
                return Err(CustodyError::Unusable { path, reason });
            }
        };
        Ok(Some(Self(bytes)))
    }

    /// A key of one file, by its salt.
    fn of_file(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
        let secret = salt.extract(&self.0);
        let key = secret.expand(&[INFO], &aead::CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }

    fn encrypt(&self, place: &str, key: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let failed = || io::Error::other("the system could not encrypt it");
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| failed())?;
        // Room for all of it at once, so that nothing is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(key.len() + aead::MAX_TAG_LEN));
        text.extend_from_slice(key);
        self.of_file(&salt)
            .and_then(|key| {
                key.seal_in_place_append_tag(nonce(), Aad::from(place), &mut *text)
                    .ok()
            })
            .ok_or_else(failed)?;
        Ok(Zeroizing::new([MAGIC, &salt, &text].concat()))
    }

    fn decrypt(&self, place: &str, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, text) = encrypted.split_at_checked(SALT)?;
        let mut text = Zeroizing::new(text.to_vec());
        let key = self.of_file(salt)?;
        let len = key
            .open_in_place(nonce(), Aad::from(place), &mut text)
            .ok()?
            .len();
        text.truncate(len);
        Some(text)
    }
}

/// Every file has a key of its own, which encrypts once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// What the credential is called.
const CREDENTIAL: &str = "edge-secrets-key";
const MAGIC: &[u8] = b"edge-secrets encrypted key 1\n";
const INFO: &[u8] = b"edge-secrets sealing key 1";
const SALT: usize = 32;
/// Bytes of the credential.
const LEAST: usize = 32;
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    pub(crate) fn given(bytes: &[u8]) -> (tempfile::TempDir, Result<Custody, CustodyError>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CREDENTIAL), bytes).unwrap();
        let custody = Custody::of(SealingKeyCustody::Credential, Some(dir.path()));
        (dir, custody)
    }

    #[test]
    fn an_encrypted_key_opens_with_its_credential_at_its_place_alone() {
        let (dir, custody) = given(&[7; 32]);
        let custody = custody.unwrap();
        let file = custody.encode("identity-1/sealing.key", &[9; 32]).unwrap();
        assert!(
            custody.kind_of(&file) == custody.wanted()
                && !file.windows(8).any(|part| part == [9; 8])
        );
        let again = custody.encode("identity-1/sealing.key", &[9; 32]).unwrap();
        assert!(file != again, "a key of its own each time");
        let opened = custody.decode("identity-1/sealing.key", &file).unwrap();
        assert_eq!(*opened, [9; 32]);
        assert!(custody.decode("identity-2/sealing.key", &file).is_none());
        let (_, other) = given(&[8; 32]);
        let other = other.unwrap();
        assert!(other.decode("identity-1/sealing.key", &file).is_none());
        for at in 0..file.len() {
            let mut changed = file.to_vec();
            changed[at] ^= 1;
            let opened = custody.decode("identity-1/sealing.key", &changed);
            // Without its first line it is no encrypted key, and as a plain one too long.
            assert!(opened.is_none_or(|key| key.len() != 32), "at {at}");
            let cut = custody.decode("identity-1/sealing.key", &file[..at]);
            assert!(
                cut.is_none_or(|key| key.len() != 32 || at == 32),
                "cut at {at}"
            );
        }

        // Switched off, the credential still opens; without it nothing does.
        let file_again = Custody::of(SealingKeyCustody::File, Some(dir.path())).unwrap();
        assert!(file_again.decode("identity-1/sealing.key", &file).is_some());
        assert!(file_again.kind_of(&file) != file_again.wanted());
        assert!(file_again.kind_of(&[9; 32]) == file_again.wanted());
        assert!(
            Custody::default()
                .decode("identity-1/sealing.key", &file)
                .is_none()
        );
        assert_eq!(*file_again.encode("x", &[9; 32]).unwrap(), [9; 32]);
    }

    #[test]
    fn a_credential_that_is_none_is_refused_with_the_reason() {
        let error = |custody: Result<Custody, CustodyError>| custody.err().unwrap().to_string();
        assert!(error(given(&[7; 31]).1).contains("less than 32"));
        assert!(error(given(&[7; 4097]).1).contains("more than 4096"));
        let absent = Custody::of(SealingKeyCustody::Credential, None);
        assert!(error(absent).contains("LoadCredentialEncrypted=edge-secrets-key"));
        let empty = tempfile::tempdir().unwrap();
        let absent = Custody::of(SealingKeyCustody::Credential, Some(empty.path()));
        assert!(matches!(absent, Err(CustodyError::Absent)));
        let plain = Custody::of(SealingKeyCustody::File, Some(empty.path()));
        assert!(plain.is_ok());
    }
}
