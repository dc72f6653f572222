//! New key pairs, in the encodings that everything reads.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use data_encoding::BASE64;
use edge_secrets_hub::generator::KeyAlgorithm;
use zeroize::Zeroizing;

/// Both halves, PEM.
pub(super) struct Pair {
    /// PKCS#8, not encrypted.
    pub(super) private: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo.
    pub(super) public: Zeroizing<Vec<u8>>,
}

/// A new key pair; `None` when the system gives none.
pub(super) fn make(algorithm: KeyAlgorithm) -> Option<Pair> {
    pair(algorithm).ok()
}

fn pair(algorithm: KeyAlgorithm) -> Result<Pair, Unspecified> {
    // The library wipes its own buffers. Version 1 of PKCS#8, for older readers know no other.
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            let key = Ed25519KeyPair::generate()?;
            Ok(pems(
                key.to_pkcs8v1()?.as_ref(),
                &key.public_key().as_der()?,
            ))
        }
        KeyAlgorithm::EcdsaP256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
            Ok(pems(
                key.to_pkcs8v1()?.as_ref(),
                &key.public_key().as_der()?,
            ))
        }
        KeyAlgorithm::Rsa3072 => {
            let key = rsa::KeyPair::generate(KeySize::Rsa3072)?;
            let private: Pkcs8V1Der<'_> = key.as_der()?;
            Ok(pems(private.as_ref(), &key.public_key().as_der()?))
        }
    }
}

fn pems(private: &[u8], public: &PublicKeyX509Der<'_>) -> Pair {
    Pair {
        private: pem("PRIVATE KEY", private),
        public: pem("PUBLIC KEY", public.as_ref()),
    }
}

/// RFC 7468, into one buffer of its size: a growing one would leave copies behind.
fn pem(label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; BASE64.encode_len(der.len())]);
    BASE64.encode_mut(der, &mut text);
    let (begin, end) = (
        format!("-----BEGIN {label}-----\n"),
        format!("-----END {label}-----\n"),
    );
    let lines = text.len().div_ceil(LINE);
    let size = begin.len() + text.len() + lines + end.len();
    let mut pem = Zeroizing::new(Vec::with_capacity(size));
    pem.extend_from_slice(begin.as_bytes());
    for line in text.chunks(LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(end.as_bytes());
    pem
}

const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
        UnparsedPublicKey, VerificationAlgorithm,
    };
    use proptest::prelude::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

    use super::*;

    /// Signs with the one and verifies with the other, both read back from their PEM.
    fn signed(algorithm: KeyAlgorithm) {
        let pair = make(algorithm).unwrap();
        let private = PrivatePkcs8KeyDer::from_pem_slice(&pair.private).unwrap();
        let private = private.secret_pkcs8_der();
        let public = SubjectPublicKeyInfoDer::from_pem_slice(&pair.public).unwrap();
        let random = SystemRandom::new();
        let (signature, scheme): (_, &'static dyn VerificationAlgorithm) = match algorithm {
            KeyAlgorithm::Ed25519 => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private).unwrap();
                (key.sign(b"text").as_ref().to_vec(), &ED25519)
            }
            KeyAlgorithm::EcdsaP256 => {
                let scheme = &ECDSA_P256_SHA256_ASN1_SIGNING;
                let key = EcdsaKeyPair::from_pkcs8(scheme, private).unwrap();
                let signature = key.sign(&random, b"text").unwrap();
                (signature.as_ref().to_vec(), &ECDSA_P256_SHA256_ASN1)
            }
            KeyAlgorithm::Rsa3072 => {
                let key = rsa::KeyPair::from_pkcs8(private).unwrap();
                let mut signature = vec![0; key.public_modulus_len()];
                assert_eq!(signature.len() * 8, 3072);
                key.sign(&RSA_PSS_SHA256, &random, b"text", &mut signature)
                    .unwrap();
                (signature, &RSA_PSS_2048_8192_SHA256)
            }
        };
        let public = UnparsedPublicKey::new(scheme, public.as_ref());
        assert!(public.verify(b"text", &signature).is_ok(), "{algorithm}");
        assert!(public.verify(b"other", &signature).is_err(), "{algorithm}");
    }

    #[test]
    fn the_halves_of_every_pair_belong_together() {
        for algorithm in [
            KeyAlgorithm::Ed25519,
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::Rsa3072,
        ] {
            signed(algorithm);
        }
    }

    proptest! {
        #[test]
        fn a_pem_is_of_the_size_foreseen_and_reads_back(
            der in prop::collection::vec(any::<u8>(), 1..400)
        ) {
            let text = pem("PUBLIC KEY", &der);
            prop_assert_eq!(text.len(), text.capacity());
            let read = SubjectPublicKeyInfoDer::from_pem_slice(&text).unwrap();
            prop_assert_eq!(read.as_ref(), &der[..]);
        }
    }
}
