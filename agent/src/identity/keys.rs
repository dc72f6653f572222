//! The node's own key, and the request to certify it.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::Zeroizing;

/// No key could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system could not make a new key: {0}")]
pub struct KeyError(String);

/// A new ECDSA P-256 key (PKCS#8, PEM) and a request over it (PKCS#10, PEM).
pub(super) struct NewKey {
    pub(super) key: Zeroizing<String>,
    pub(super) request: String,
}

impl NewKey {
    pub(super) fn generate() -> Result<Self, KeyError> {
        let fail = |error: rcgen::Error| KeyError(error.to_string());
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        // The hub takes nothing but the key from the request: the token or the old certificate
        // says who asks.
        let request = CertificateParams::default()
            .serialize_request(&pair)
            .map_err(fail)?;
        Ok(Self {
            request: request.pem().map_err(fail)?,
            key: Zeroizing::new(pair.serialize_pem()),
        })
    }
}
