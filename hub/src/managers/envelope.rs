//! Envelope encryption: every version of a secret under a key of its own, and that key under the
//! master key, both with AES-256-GCM.
//!
//! Both layers bind the organisation, the reference and the version: what was moved to another row
//! does not open. A sealed text is `1` (format version), the nonce, the ciphertext, the tag. Nonces
//! are random; the master key serves 2^32 of them (NIST SP 800-38D §8.3), a version's key one.

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, RandomizedNonceKey, UnboundKey,
};
use aws_lc_rs::hmac;
use edge_secrets_protocol::limits::MAX_SECRET_BYTES;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use zeroize::Zeroizing;

use crate::catalog::sqlite::Wrapped;
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// The key over all keys. Wiped when dropped; it lives outside the database.
pub struct MasterKey(Key);

/// A master key that is not one. Says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is {KEY_LEN} bytes")]
pub struct MasterKeyError;

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(random_key()?))
    }

    /// Reads what [`expose`](Self::expose) gave.
    ///
    /// # Errors
    /// When the bytes are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MasterKeyError> {
        if bytes.len() != KEY_LEN {
            return Err(MasterKeyError);
        }
        let mut key = empty_key();
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    /// Which key it is, for a place where it may be seen: one-way, and of no use for anything else.
    #[must_use]
    pub fn mark(&self) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        hmac::sign(&key, MARK).as_ref().to_vec()
    }

    /// Wraps the key of a version or session, which is wrapped under this key, under `new`. Gives
    /// nothing where it does not open.
    #[must_use]
    pub fn rewrap(&self, new: &Self, of: &Wrapped, wrapped: &[u8]) -> Option<Vec<u8>> {
        let aad = match of {
            Wrapped::Version(org, reference, version) => Slot {
                org,
                reference,
                version,
            }
            .aad(KEY_LAYER),
            Wrapped::Session(manager) => {
                let [key, _] = session_aad(manager);
                key
            }
        };
        let key = unwrap_key(self, &aad, wrapped).ok()?;
        seal(&new.0, &aad, key.as_slice()).ok()
    }

    /// The key's bytes, for the one file that keeps them.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// The version of a secret that a value is encrypted for.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) org: &'a OrgId,
    pub(super) reference: &'a SecretRef,
    pub(super) version: &'a SecretVersion,
}

/// A value as it may be kept.
pub(super) struct Envelope {
    pub(super) wrapped_key: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

/// Encryption or decryption failed. Says nothing of why: the reasons are all one to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnvelopeError;

/// Encrypts `payload` for `slot` under a fresh key.
pub(super) fn close(
    master: &MasterKey,
    slot: Slot<'_>,
    payload: &Secret,
) -> Result<Envelope, EnvelopeError> {
    wrap(
        master,
        &slot.aad(KEY_LAYER),
        &slot.aad(VALUE_LAYER),
        payload,
    )
}

/// Encrypts what a manager's backend keeps.
pub(super) fn close_session(
    master: &MasterKey,
    manager: &ManagerName,
    session: &Secret,
) -> Result<Envelope, EnvelopeError> {
    let [key, value] = session_aad(manager);
    wrap(master, &key, &value, session)
}

/// Decrypts what [`close_session`] encrypted for this manager, and nothing else.
pub(super) fn open_session(
    master: &MasterKey,
    manager: &ManagerName,
    kept: &Envelope,
) -> Result<Secret, EnvelopeError> {
    let [key, value] = session_aad(manager);
    unwrap(master, &key, &value, &kept.wrapped_key, &kept.ciphertext)
}

fn session_aad(manager: &ManagerName) -> [Vec<u8>; 2] {
    [SESSION_KEY_LAYER, SESSION_LAYER].map(|layer| lengths_and_parts(&[layer, manager.as_str()]))
}

fn wrap(
    master: &MasterKey,
    key_aad: &[u8],
    value_aad: &[u8],
    payload: &Secret,
) -> Result<Envelope, EnvelopeError> {
    let key = random_key().map_err(|_| EnvelopeError)?;
    Ok(Envelope {
        wrapped_key: seal(&master.0, key_aad, key.as_slice())?,
        ciphertext: seal(&key, value_aad, payload.expose())?,
    })
}

/// Decrypts what [`close`] encrypted under this master key for this slot, and nothing else.
pub(super) fn open(
    master: &MasterKey,
    slot: Slot<'_>,
    wrapped_key: &[u8],
    ciphertext: &[u8],
) -> Result<Secret, EnvelopeError> {
    unwrap(
        master,
        &slot.aad(KEY_LAYER),
        &slot.aad(VALUE_LAYER),
        wrapped_key,
        ciphertext,
    )
}

fn unwrap(
    master: &MasterKey,
    key_aad: &[u8],
    value_aad: &[u8],
    wrapped_key: &[u8],
    ciphertext: &[u8],
) -> Result<Secret, EnvelopeError> {
    let key = unwrap_key(master, key_aad, wrapped_key)?;
    let (nonce, text, tag) = parts(ciphertext)?;
    if text.len() > MAX_SECRET_BYTES {
        return Err(EnvelopeError);
    }
    let mut payload = Secret::zeroed(text.len());
    unseal(&key, value_aad, nonce, text, tag, payload.expose_mut())?;
    Ok(payload)
}

fn unwrap_key(master: &MasterKey, aad: &[u8], wrapped: &[u8]) -> Result<Key, EnvelopeError> {
    let (nonce, text, tag) = parts(wrapped)?;
    if text.len() != KEY_LEN {
        return Err(EnvelopeError);
    }
    let mut key = empty_key();
    unseal(&master.0, aad, nonce, text, tag, key.as_mut_slice())?;
    Ok(key)
}

impl Slot<'_> {
    /// Every part behind its length, so that no two slots share their bytes.
    fn aad(&self, layer: &str) -> Vec<u8> {
        let reference = self.reference.to_string();
        lengths_and_parts(&[layer, self.org.as_str(), &reference, self.version.as_str()])
    }
}

fn lengths_and_parts(parts: &[&str]) -> Vec<u8> {
    let mut aad = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

/// Behind a pointer, so that a move leaves no copy behind.
type Key = Box<Zeroizing<[u8; KEY_LEN]>>;

fn empty_key() -> Key {
    Box::new(Zeroizing::new([0; KEY_LEN]))
}

fn random_key() -> Result<Key, getrandom::Error> {
    let mut key = empty_key();
    getrandom::fill(key.as_mut_slice())?;
    Ok(key)
}

fn seal(key: &Key, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| EnvelopeError)?;
    // The final capacity at once, and wiped until it is ciphertext.
    let mut sealed = Zeroizing::new(Vec::with_capacity(HEADER + plain.len() + TAG));
    sealed.resize(HEADER, FORMAT);
    sealed.extend_from_slice(plain);
    let (header, text) = sealed.split_at_mut(HEADER);
    let (nonce, tag) = key
        .seal_in_place_separate_tag(Aad::from(aad), text)
        .map_err(|_| EnvelopeError)?;
    let (_, room) = header.split_at_mut(1);
    room.copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    Ok(std::mem::take(&mut *sealed))
}

fn unseal(
    key: &Key,
    aad: &[u8],
    nonce: &[u8],
    text: &[u8],
    tag: &[u8],
    plain: &mut [u8],
) -> Result<(), EnvelopeError> {
    let refused = |_| EnvelopeError;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(refused)?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(refused)?;
    key.open_separate_gather(nonce, Aad::from(aad), text, tag, plain)
        .map_err(refused)
}

/// Nonce, ciphertext and tag.
type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The parts of a sealed text.
fn parts(sealed: &[u8]) -> Result<Parts<'_>, EnvelopeError> {
    let (format, rest) = sealed.split_first().ok_or(EnvelopeError)?;
    if *format != FORMAT {
        return Err(EnvelopeError);
    }
    let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or(EnvelopeError)?;
    let len = rest.len().checked_sub(TAG).ok_or(EnvelopeError)?;
    let (text, tag) = rest.split_at_checked(len).ok_or(EnvelopeError)?;
    Ok((nonce, text, tag))
}

const KEY_LEN: usize = 32;
const TAG: usize = 16;
const HEADER: usize = 1 + NONCE_LEN;
const FORMAT: u8 = 1;
const KEY_LAYER: &str = "edge-secrets v1 key";
const VALUE_LAYER: &str = "edge-secrets v1 value";
const SESSION_KEY_LAYER: &str = "edge-secrets v1 session key";
const SESSION_LAYER: &str = "edge-secrets v1 session";
const MARK: &[u8] = b"edge-secrets v1 master key mark";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Place {
        org: OrgId,
        reference: SecretRef,
        version: SecretVersion,
    }

    impl Place {
        fn new(org: &str, reference: &str, version: &str) -> Self {
            Self {
                org: org.parse().unwrap(),
                reference: reference.parse().unwrap(),
                version: version.parse().unwrap(),
            }
        }

        fn slot(&self) -> Slot<'_> {
            Slot {
                org: &self.org,
                reference: &self.reference,
                version: &self.version,
            }
        }
    }

    fn opens(master: &MasterKey, place: &Place, key: &[u8], text: &[u8]) -> bool {
        open(master, place.slot(), key, text).is_ok()
    }

    #[test]
    fn a_version_opens_in_its_own_slot_alone() {
        let master = MasterKey::generate().unwrap();
        let here = Place::new("o", "db", "1");
        let sealed = close(&master, here.slot(), &Secret::new(b"hunter2".to_vec())).unwrap();
        let (key, text) = (&sealed.wrapped_key, &sealed.ciphertext);
        let opened = open(&master, here.slot(), key, text).unwrap();
        assert_eq!(opened.expose(), b"hunter2");
        for elsewhere in [
            Place::new("p", "db", "1"),
            Place::new("o", "db2", "1"),
            Place::new("o", "user/u/db", "1"),
            Place::new("o", "db", "2"),
        ] {
            assert!(!opens(&master, &elsewhere, key, text));
        }
        assert!(!opens(&MasterKey::generate().unwrap(), &here, key, text));
        let again = MasterKey::from_bytes(master.expose()).unwrap();
        assert!(opens(&again, &here, key, text));
    }

    #[test]
    fn the_layers_do_not_mix() {
        let master = MasterKey::generate().unwrap();
        let here = Place::new("o", "db", "1");
        let one = close(&master, here.slot(), &Secret::new(vec![1; 32])).unwrap();
        let two = close(&master, here.slot(), &Secret::new(vec![2; 32])).unwrap();
        assert!(!opens(&master, &here, &one.wrapped_key, &two.ciphertext));
        assert!(!opens(&master, &here, &one.ciphertext, &one.wrapped_key));
        assert!(!opens(&master, &here, &one.wrapped_key, &one.wrapped_key));
    }

    #[test]
    fn equal_values_do_not_look_equal() {
        let master = MasterKey::generate().unwrap();
        let here = Place::new("o", "db", "1");
        let seal = || close(&master, here.slot(), &Secret::new(vec![7; 64])).unwrap();
        let (one, two) = (seal(), seal());
        assert_ne!(one.ciphertext, two.ciphertext);
        assert_ne!(one.wrapped_key, two.wrapped_key);
    }

    #[test]
    fn a_master_key_of_another_length_is_refused() {
        for len in [0, 31, 33] {
            assert_eq!(
                MasterKey::from_bytes(&vec![1; len]).err(),
                Some(MasterKeyError)
            );
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_and_any_changed_byte_is_noticed(
            value in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let master = MasterKey::from_bytes(&[3; 32]).unwrap();
            let here = Place::new("o", "db", "1");
            let sealed = close(&master, here.slot(), &Secret::new(value.clone())).unwrap();
            let opened =
                open(&master, here.slot(), &sealed.wrapped_key, &sealed.ciphertext).unwrap();
            prop_assert_eq!(opened.expose(), &value[..]);

            let mut text = sealed.ciphertext.clone();
            let byte = at.index(text.len());
            text[byte] ^= flip;
            prop_assert!(!opens(&master, &here, &sealed.wrapped_key, &text));
            let mut key = sealed.wrapped_key.clone();
            let byte = at.index(key.len());
            key[byte] ^= flip;
            prop_assert!(!opens(&master, &here, &key, &sealed.ciphertext));
        }

        #[test]
        fn foreign_bytes_never_panic(
            key in prop::collection::vec(any::<u8>(), 0..80),
            text in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let master = MasterKey::from_bytes(&[3; 32]).unwrap();
            prop_assert!(!opens(&master, &Place::new("o", "db", "1"), &key, &text));
        }
    }
}
