//! Who can open a backup: whoever knows its passphrase, or has the key that it was made for. The
//! header says which, and everything in it goes into the key of what follows.

use std::io::{self, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf;
use data_encoding::HEXLOWER;
use edge_secrets_protocol::Secret;
use edge_secrets_protocol::sealed::{Place, PublicKey, Sealed, SealingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::BackupError;
use super::cipher::StreamKey;

/// For whom a backup is made.
pub enum Lock {
    /// For whoever knows these words: at least [`MIN_PASSPHRASE`] bytes.
    Passphrase(Secret),
    /// For the owner of the key's other half, who need not be here.
    Recipient(PublicKey),
}

/// What opens a backup.
pub enum Unlock {
    /// The words that it was made with.
    Passphrase(Secret),
    /// The key that it was made for.
    Key(SealingKey),
}

/// What stands in clear before the encrypted part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Lower-case hexadecimal, random.
    id: String,
    pub(super) made_at: Timestamp,
    for_whom: ForWhom,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ForWhom {
    /// Argon2id (RFC 9106); the memory is in KiB.
    Passphrase {
        salt: String,
        memory: u32,
        passes: u32,
        lanes: u32,
    },
    Recipient {
        key: Sealed,
    },
}

impl Lock {
    /// A header for a new backup, written to `out`, and the key for what follows it.
    pub(super) fn begin(
        &self,
        made_at: Timestamp,
        out: &mut impl Write,
    ) -> Result<StreamKey, BackupError> {
        let id = HEXLOWER.encode(&random::<16>()?);
        let (for_whom, key) = match self {
            Self::Passphrase(words) => {
                if words.len() < MIN_PASSPHRASE {
                    return Err(BackupError::Weak);
                }
                let salt = HEXLOWER.encode(&random::<16>()?);
                let key = stretch(words, &salt, MEMORY, PASSES, LANES)?;
                let (memory, passes, lanes) = (MEMORY, PASSES, LANES);
                let for_whom = ForWhom::Passphrase {
                    salt,
                    memory,
                    passes,
                    lanes,
                };
                (for_whom, key)
            }
            Self::Recipient(recipient) => {
                let key = Zeroizing::new(random::<32>()?);
                let place = Place::Backup { id: &id };
                let sealed = recipient.seal(&place, &Secret::new(key.to_vec()));
                let key_of = sealed.map_err(|_| BackupError::Key("it is malformed".into()))?;
                (ForWhom::Recipient { key: key_of }, key)
            }
        };
        let header = Header {
            id,
            made_at,
            for_whom,
        };
        let text = serde_json::to_vec(&header).map_err(io::Error::from)?;
        let len = u32::try_from(text.len()).map_err(io::Error::other)?;
        out.write_all(MAGIC)?;
        out.write_all(&len.to_be_bytes())?;
        out.write_all(&text)?;
        derive(&key, &text)
    }
}

impl Unlock {
    /// Reads the header and gives it with the key for what follows.
    pub(super) fn begin(&self, from: &mut impl Read) -> Result<(Header, StreamKey), BackupError> {
        let mut magic = [0; MAGIC.len()];
        let mut len = [0; 4];
        from.read_exact(&mut magic)
            .and_then(|()| from.read_exact(&mut len))
            .map_err(unlike)?;
        let len = u32::from_be_bytes(len);
        if magic != *MAGIC || len > MAX_HEADER {
            return Err(BackupError::NotOne);
        }
        let mut text = vec![0; len as usize];
        from.read_exact(&mut text).map_err(unlike)?;
        let header: Header = serde_json::from_slice(&text).map_err(|_| BackupError::NotOne)?;
        let key = match (&header.for_whom, self) {
            (
                ForWhom::Passphrase {
                    salt,
                    memory,
                    passes,
                    lanes,
                },
                Self::Passphrase(words),
            ) => stretch(words, salt, *memory, *passes, *lanes)?,
            (ForWhom::Recipient { key }, Self::Key(own)) => {
                let place = Place::Backup { id: &header.id };
                let opened = key.open(own, &place);
                let opened = opened.map_err(|_| BackupError::NotFor)?;
                let bytes = opened.expose().try_into();
                Zeroizing::new(bytes.map_err(|_| BackupError::NotOne)?)
            }
            (ForWhom::Passphrase { .. }, Self::Key(_)) => {
                return Err(BackupError::OtherLock("a passphrase", "--passphrase-file"));
            }
            (ForWhom::Recipient { .. }, Self::Passphrase(_)) => {
                return Err(BackupError::OtherLock("a key", "--key"));
            }
        };
        Ok((header, derive(&key, &text)?))
    }
}

fn unlike(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::NotOne,
        _ => error.into(),
    }
}

/// A header from outside may not ask for more than a machine has.
fn stretch(
    words: &Secret,
    salt: &str,
    memory: u32,
    passes: u32,
    lanes: u32,
) -> Result<StreamKey, BackupError> {
    if memory > MAX_MEMORY || passes > MAX_PASSES || lanes > MAX_LANES || salt.len() > 128 {
        return Err(BackupError::NotOne);
    }
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| BackupError::NotOne)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(words.expose(), salt.as_bytes(), key.as_mut_slice())
        .map_err(|_| BackupError::NotOne)?;
    Ok(key)
}

/// The stream's own key: of this header and no other.
fn derive(key: &StreamKey, header: &[u8]) -> Result<StreamKey, BackupError> {
    let failed = |_| io::Error::other("no key can be derived");
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, digest(&SHA256, header).as_ref());
    let prk = salt.extract(key.as_slice());
    let okm = prk
        .expand(&[b"edge-secrets backup v1"], hkdf::HKDF_SHA256)
        .map_err(failed)?;
    let mut derived = Zeroizing::new([0; 32]);
    okm.fill(derived.as_mut_slice()).map_err(failed)?;
    Ok(derived)
}

fn random<const N: usize>() -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Fewest bytes of a passphrase. It holds the keys to everything, for ever.
pub const MIN_PASSPHRASE: usize = 12;
const MAGIC: &[u8; 22] = b"edge-secrets backup 1\n";
const MAX_HEADER: u32 = 16 * 1024;
/// RFC 9106 §4, second recommended option.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_PASSES: u32 = 8;
const MAX_LANES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn made(lock: &Lock) -> (Vec<u8>, StreamKey) {
        let mut out = Vec::new();
        let key = lock.begin(Timestamp::UNIX_EPOCH, &mut out).unwrap();
        (out, key)
    }

    #[test]
    fn the_passphrase_opens_and_another_gives_another_key() {
        let (text, key) = made(&Lock::Passphrase(words("correct horse battery")));
        let (_, again) = Unlock::Passphrase(words("correct horse battery"))
            .begin(&mut &text[..])
            .unwrap();
        assert_eq!(key, again);
        let (_, other) = Unlock::Passphrase(words("correct horse batterY"))
            .begin(&mut &text[..])
            .unwrap();
        assert_ne!(key, other);
        let error = Unlock::Key(SealingKey::generate())
            .begin(&mut &text[..])
            .unwrap_err();
        assert!(error.to_string().contains("--passphrase-file"), "{error}");
        let weak = Lock::Passphrase(words("short")).begin(Timestamp::UNIX_EPOCH, &mut Vec::new());
        assert!(matches!(weak, Err(BackupError::Weak)));
    }

    #[test]
    fn the_recipient_opens_and_nobody_else() {
        let own = SealingKey::generate();
        let (text, key) = made(&Lock::Recipient(own.public()));
        let (_, again) = Unlock::Key(own).begin(&mut &text[..]).unwrap();
        assert_eq!(key, again);
        let other = Unlock::Key(SealingKey::generate()).begin(&mut &text[..]);
        assert!(matches!(other, Err(BackupError::NotFor)));
        let error = Unlock::Passphrase(words("correct horse battery"))
            .begin(&mut &text[..])
            .unwrap_err();
        assert!(error.to_string().contains("--key"), "{error}");
    }

    #[test]
    fn a_changed_header_is_refused_or_gives_another_key() {
        let own = SealingKey::from_bytes(SealingKey::generate().expose()).unwrap();
        let (text, key) = made(&Lock::Recipient(own.public()));
        let unlock = Unlock::Key(own);
        for at in (0..text.len()).step_by(7) {
            let mut changed = text.clone();
            changed[at] ^= 1;
            if let Ok((_, other)) = unlock.begin(&mut &changed[..]) {
                assert_ne!(key, other, "byte {at}");
            }
        }
        for cut in [0, 5, 22, 26, text.len() - 1] {
            let refused = unlock.begin(&mut &text[..cut]);
            assert!(matches!(refused, Err(BackupError::NotOne)), "{cut}");
        }
    }

    #[test]
    fn a_header_does_not_ask_for_more_than_there_is() {
        for (memory, passes, lanes) in [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 1, 1000)] {
            let asked = stretch(
                &words("correct horse battery"),
                "00112233",
                memory,
                passes,
                lanes,
            );
            assert!(matches!(asked, Err(BackupError::NotOne)));
        }
    }
}
