//! Sealing values to one reader: HPKE base mode (RFC 9180) with the hybrid KEM X-Wing (X25519 and
//! ML-KEM-768, draft-connolly-cfrg-xwing-kem), HKDF-SHA256 and ChaCha20-Poly1305.
//!
//! The key exchange costs hundreds of microseconds and a value's encryption one or two: a
//! [`Sealer`] does the exchange once for any number of values. Each value has a key of its own, from
//! HPKE's secret export (RFC 9180 §5.3) over a random salt and the additional data, so that every
//! blob opens alone, in any order.
//!
//! TLS, HTTP and JSON see ciphertext only; the plaintext exists where [`Sealed::open_into`] puts it.
//! The additional data names the place the value is for, so that a blob replayed at another place
//! does not open. The KEM is still a draft: the suite's name travels with every blob.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use data_encoding::BASE64;
use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305 as HpkeAead};
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::limits::MAX_SECRET_BYTES;
use crate::name::{NodeId, OrgId, SecretName, SecretVersion, ServiceId, UserId};
use crate::secret::Secret;

/// What went wrong when sealing or opening. Says nothing of keys or content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A key is not one of this suite.
    #[error("the sealing key is malformed")]
    Key,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The blob is of another suite, too large, or not base64 of the right shape.
    #[error("the sealed value is malformed")]
    Malformed,
    /// The blob was sealed to another key or for another place, or was changed.
    #[error("the sealed value does not open here: another key, another place, or changed")]
    Rejected,
}

/// The place a value is sealed for: what the additional data binds.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A secret of a service on a node, in one version.
    Node {
        /// The node's organisation.
        org: &'a OrgId,
        /// The node.
        node: &'a NodeId,
        /// The service.
        service: &'a ServiceId,
        /// What the service calls the secret.
        name: &'a SecretName,
        /// The value's version.
        version: &'a SecretVersion,
    },
    /// A value that an operator sends to the hub.
    Set {
        /// The secret's organisation.
        org: &'a OrgId,
        /// Who sends.
        user: &'a UserId,
        /// The secret reference, canonical.
        reference: &'a str,
    },
    /// The key that a secrets manager is to make credentials with, which an operator sends to the hub.
    Engine {
        /// The sender's organisation.
        org: &'a OrgId,
        /// Who sends.
        user: &'a UserId,
        /// The manager, as references call it.
        manager: &'a str,
        /// What the engine's configuration is called there.
        name: &'a str,
    },
    /// A value that the hub shows to an operator.
    Reveal {
        /// The secret's organisation.
        org: &'a OrgId,
        /// Who reads.
        user: &'a UserId,
        /// The secret reference, canonical.
        reference: &'a str,
        /// The value's version.
        version: &'a SecretVersion,
    },
    /// The key of one backup of a hub.
    Backup {
        /// Which, as its header says.
        id: &'a str,
    },
}

impl Place<'_> {
    /// Every part behind its length, so that no two places share their bytes.
    fn aad(&self) -> Vec<u8> {
        let parts: &[&str] = match self {
            Self::Node {
                org,
                node,
                service,
                name,
                version,
            } => &[
                "node",
                org.as_str(),
                node.as_str(),
                service.org.as_str(),
                service.url.as_str(),
                name.as_str(),
                version.as_str(),
            ],
            Self::Set {
                org,
                user,
                reference,
            } => &["set", org.as_str(), user.as_str(), reference],
            Self::Engine {
                org,
                user,
                manager,
                name,
            } => &["engine", org.as_str(), user.as_str(), manager, name],
            Self::Reveal {
                org,
                user,
                reference,
                version,
            } => &[
                "reveal",
                org.as_str(),
                user.as_str(),
                reference,
                version.as_str(),
            ],
            Self::Backup { id } => &["backup", id],
        };
        let mut aad = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
        for part in parts {
            aad.extend_from_slice(&(part.len() as u32).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }
}

/// The key that opens what is sealed to it. Wiped when dropped; shown nowhere.
pub struct SealingKey {
    seed: Zeroizing<Box<[u8]>>,
    key: Box<<XWing as Kem>::PrivateKey>,
    /// The last exchange, by its encapsulated key: values mostly come several to one.
    last: Mutex<Option<(String, Receiver)>>,
}

type Receiver = AeadCtxR<HpkeAead, HkdfSha256, XWing>;

impl SealingKey {
    /// A new random key, from the system's generator.
    #[must_use]
    pub fn generate() -> Self {
        let (key, _) = XWing::gen_keypair();
        let mut seed = key.to_bytes();
        let boxed: Box<[u8]> = seed.as_slice().into();
        seed.as_mut_slice().zeroize();
        Self {
            seed: Zeroizing::new(boxed),
            key: Box::new(key),
            last: Mutex::new(None),
        }
    }

    /// Reads what [`expose`](Self::expose) gave.
    ///
    /// # Errors
    /// When the bytes are not a key of this suite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let key = <XWing as Kem>::PrivateKey::from_bytes(bytes).map_err(|_| SealError::Key)?;
        Ok(Self {
            seed: Zeroizing::new(bytes.into()),
            key: Box::new(key),
            last: Mutex::new(None),
        })
    }

    /// The key's bytes, for the one file that keeps them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(XWing::sk_to_pk(&self.key).to_bytes().as_slice().into())
    }

    /// The key of one value, from the exchange that `encapsulated` is of.
    fn value_key(&self, encapsulated: &str, context: &[u8]) -> Result<ValueKey, SealError> {
        // A poisoned lock holds a whole exchange, or none.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, receiver)) = &*last
            && known == encapsulated
        {
            return value_key(|key| receiver.export(context, key));
        }
        let malformed = SealError::Malformed;
        if encapsulated.len() > MAX_KEY_TEXT {
            return Err(malformed);
        }
        let bytes = BASE64
            .decode(encapsulated.as_bytes())
            .map_err(|_| malformed)?;
        let exchanged = <XWing as Kem>::EncappedKey::from_bytes(&bytes).map_err(|_| malformed)?;
        let receiver =
            hpke::setup_receiver::<_, _, XWing>(&OpModeR::Base, &self.key, &exchanged, INFO)
                .map_err(|_| SealError::Rejected)?;
        let key = value_key(|key| receiver.export(context, key));
        *last = Some((encapsulated.to_owned(), receiver));
        key
    }
}

/// The key that values are sealed to. On the wire: base64 of its bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(Arc<[u8]>);

impl PublicKey {
    /// The key's bytes, 1216 of them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    /// When the bytes are not a key of this suite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        <XWing as Kem>::PublicKey::from_bytes(bytes).map_err(|_| SealError::Key)?;
        Ok(Self(bytes.into()))
    }

    /// A key from bytes that were checked before they were stored. What is no key after all fails
    /// when something is sealed to it.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Does the key exchange for any number of values.
    ///
    /// # Errors
    /// When the key is unfit.
    pub fn sealer(&self) -> Result<Sealer, SealError> {
        let key = <XWing as Kem>::PublicKey::from_bytes(&self.0).map_err(|_| SealError::Key)?;
        let (encapsulated, context) = hpke::setup_sender::<_, _, XWing>(&OpModeS::Base, &key, INFO)
            .map_err(|_| SealError::Key)?;
        Ok(Sealer(Arc::new(Exchange {
            key: self.clone(),
            encapsulated: BASE64.encode(&encapsulated.to_bytes()),
            context,
        })))
    }

    /// Seals one value for `place`, as a [`Sealer`] of its own does.
    ///
    /// # Errors
    /// As [`Sealer::seal`], and when the key is unfit.
    pub fn seal(&self, place: &Place<'_>, value: &Secret) -> Result<Sealed, SealError> {
        self.sealer()?.seal(place, value)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SealError;

    fn try_from(text: String) -> Result<Self, SealError> {
        Self::from_bytes(&BASE64.decode(text.as_bytes()).map_err(|_| SealError::Key)?)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        BASE64.encode(&key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(..)")
    }
}

/// A key exchange with one reader, for any number of values. Clones share it.
#[derive(Clone)]
pub struct Sealer(Arc<Exchange>);

struct Exchange {
    key: PublicKey,
    encapsulated: String,
    context: AeadCtxS<HpkeAead, HkdfSha256, XWing>,
}

impl Sealer {
    /// Whom it seals to.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// Seals `value` for `place`. The plaintext is copied once, into a buffer that becomes the
    /// ciphertext.
    ///
    /// # Errors
    /// When the value is too large, or the system gives no random bytes.
    pub fn seal(&self, place: &Place<'_>, value: &Secret) -> Result<Sealed, SealError> {
        if value.len() > MAX_SECRET_BYTES {
            return Err(SealError::Malformed);
        }
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| SealError::Random)?;
        let aad = place.aad();
        let context = [&salt[..], &aad].concat();
        let cipher = value_key(|key| self.0.context.export(&context, key))?.cipher();
        let mut buffer = Zeroizing::new(value.expose().to_vec());
        let tag = cipher
            .encrypt_inout_detached(
                &Nonce::from(NONCE),
                &aad,
                InOutBuf::from(buffer.as_mut_slice()),
            )
            .map_err(|_| SealError::Malformed)?;
        Ok(Sealed {
            suite: SUITE.into(),
            key: self.0.encapsulated.clone(),
            salt: BASE64.encode(&salt),
            text: BASE64.encode(&buffer),
            tag: BASE64.encode(&tag),
        })
    }
}

/// The key of one value, used once and wiped.
struct ValueKey(Zeroizing<[u8; 32]>);

impl ValueKey {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(*self.0))
    }
}

fn value_key(
    export: impl FnOnce(&mut [u8]) -> Result<(), hpke::HpkeError>,
) -> Result<ValueKey, SealError> {
    let mut key = Zeroizing::new([0; 32]);
    export(&mut *key).map_err(|_| SealError::Key)?;
    Ok(ValueKey(key))
}

/// A sealed value as it travels and as it may be kept: ciphertext, safe to copy and to print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    suite: Box<str>,
    /// The encapsulated key, base64.
    key: String,
    /// What makes the value's key one of its own, base64.
    salt: String,
    /// The ciphertext, base64, as long as the plaintext.
    text: String,
    /// The authentication tag, base64.
    tag: String,
}

impl Sealed {
    /// How many bytes the value will have; what [`open_into`](Self::open_into) needs room for.
    ///
    /// # Errors
    /// When the ciphertext is not base64 or above [`MAX_SECRET_BYTES`].
    pub fn plain_len(&self) -> Result<usize, SealError> {
        let padding = self
            .text
            .bytes()
            .rev()
            .take_while(|byte| *byte == b'=')
            .count();
        let room = BASE64
            .decode_len(self.text.len())
            .map_err(|_| SealError::Malformed)?;
        let len = room.checked_sub(padding).ok_or(SealError::Malformed)?;
        if len > MAX_SECRET_BYTES {
            Err(SealError::Malformed)
        } else {
            Ok(len)
        }
    }

    /// Opens the value in place at the start of `room` and gives the part of it that is plaintext.
    /// No other copy of it is made. On error what `room` holds is wiped.
    ///
    /// # Errors
    /// When the blob is malformed, larger than `room`, or was not sealed to this key and place.
    pub fn open_into<'r>(
        &self,
        key: &SealingKey,
        place: &Place<'_>,
        room: &'r mut [u8],
    ) -> Result<&'r mut [u8], SealError> {
        match self.try_open(key, place, room) {
            Ok(len) => room.get_mut(..len).ok_or(SealError::Malformed),
            Err(error) => {
                room.zeroize();
                Err(error)
            }
        }
    }

    /// Opens the value into a [`Secret`] of its own.
    ///
    /// # Errors
    /// As [`open_into`](Self::open_into).
    pub fn open(&self, key: &SealingKey, place: &Place<'_>) -> Result<Secret, SealError> {
        let mut secret = Secret::zeroed(self.plain_len()?);
        self.try_open(key, place, secret.expose_mut())?;
        Ok(secret)
    }

    fn try_open(
        &self,
        key: &SealingKey,
        place: &Place<'_>,
        room: &mut [u8],
    ) -> Result<usize, SealError> {
        let malformed = SealError::Malformed;
        if *self.suite != *SUITE {
            return Err(malformed);
        }
        let salt = decode_exact::<SALT>(&self.salt)?;
        let tag = Tag::from(decode_exact::<TAG>(&self.tag)?);
        let aad = place.aad();
        let cipher = key
            .value_key(&self.key, &[&salt[..], &aad].concat())?
            .cipher();
        let len = self.plain_len()?;
        // The decoder wants room for whole blocks of three: decode the last, padded one apart.
        let whole = len / 3 * 3;
        let text = self.text.as_bytes();
        let (head, last) = text.split_at_checked(whole / 3 * 4).ok_or(malformed)?;
        let room = room.get_mut(..len).ok_or(malformed)?;
        let (start, end) = room.split_at_mut(whole);
        BASE64.decode_mut(head, start).map_err(|_| malformed)?;
        let tail = BASE64.decode(last).map_err(|_| malformed)?;
        if tail.len() != end.len() {
            return Err(malformed);
        }
        end.copy_from_slice(&tail);
        cipher
            .decrypt_inout_detached(&Nonce::from(NONCE), &aad, InOutBuf::from(room), &tag)
            .map_err(|_| SealError::Rejected)?;
        Ok(len)
    }
}

fn decode_exact<const N: usize>(text: &str) -> Result<[u8; N], SealError> {
    // Longer than any that is right, and still short.
    if text.len() > 4 * N {
        return Err(SealError::Malformed);
    }
    let bytes = BASE64.decode(text.as_bytes());
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SealError::Malformed)
}

const SUITE: &str = "xwing-hkdf-sha256-export-chacha20poly1305";
const INFO: &[u8] = b"edge-secrets v1";
const MAX_KEY_TEXT: usize = 2048;
const SALT: usize = 16;
const TAG: usize = 16;
/// Every key encrypts one value alone, so the nonce need not differ.
const NONCE: [u8; 12] = [0; 12];

#[cfg(test)]
mod tests;
