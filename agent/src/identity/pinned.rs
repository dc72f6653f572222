//! Trust for the one connection that has no trust bundle yet: the server must present a chain up to
//! a root whose SHA-256 the token names.

use std::fmt;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, hash::HashAlgorithm};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};

/// Takes the root with the fingerprint from what the server presents, then verifies the leaf under
/// it as usual: path, name, time, purpose.
pub(super) struct PinnedVerifier {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
    mismatch: Arc<Mutex<bool>>,
}

impl PinnedVerifier {
    pub(super) fn new(fingerprint: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self {
            fingerprint,
            provider,
            mismatch: Arc::default(),
        }
    }

    /// Tells, after a handshake, whether it failed for want of the root that the token names.
    pub(super) fn mismatch(&self) -> Arc<Mutex<bool>> {
        self.mismatch.clone()
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .find(|der| sha256(&self.provider, der) == Some(self.fingerprint));
        let Some(root) = root else {
            if let Ok(mut mismatch) = self.mismatch.lock() {
                *mismatch = true;
            }
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for PinnedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedVerifier")
    }
}

/// SHA-256 by the TLS provider, which is linked already.
pub(super) fn sha256(provider: &CryptoProvider, data: &[u8]) -> Option<[u8; 32]> {
    let hash = provider
        .cipher_suites
        .iter()
        .find_map(|suite| match suite {
            SupportedCipherSuite::Tls13(suite) => Some(suite.common.hash_provider)
                .filter(|hash| hash.algorithm() == HashAlgorithm::SHA256),
            #[allow(
                unreachable_patterns,
                reason = "TLS 1.2 is there when another crate asks for it"
            )]
            _ => None,
        })?;
    hash.hash(data).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;
    use crate::hub::tls::provider;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["hub.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    fn verify(
        pinned: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<(), Error> {
        let provider = provider();
        let print = sha256(&provider, pinned).unwrap();
        let verifier = PinnedVerifier::new(print, provider);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let (leaf, rest) = chain.split_first().unwrap();
        verifier
            .verify_server_cert(leaf, rest, &name, &[], UnixTime::now())
            .map(|_| ())
    }

    #[test]
    fn the_named_root_makes_its_leaf_good() {
        let ca = authority();
        let chain = [leaf(&ca, 2999), ca.der().clone()];
        assert_eq!(verify(ca.der(), &chain, "hub.test"), Ok(()));
    }

    #[test]
    fn nothing_else_is_good() {
        let (ca, other) = (authority(), authority());
        let good = leaf(&ca, 2999);
        // Another root; the root named but not presented; a foreign leaf beside the named root;
        // another name; an expired leaf.
        let foreign = leaf(&other, 2999);
        let expired = leaf(&ca, 2001);
        for (chain, name) in [
            (vec![foreign.clone(), other.der().clone()], "hub.test"),
            (vec![good.clone()], "hub.test"),
            (vec![foreign, ca.der().clone()], "hub.test"),
            (vec![good, ca.der().clone()], "other.test"),
            (vec![expired, ca.der().clone()], "hub.test"),
        ] {
            assert!(verify(ca.der(), &chain, name).is_err());
        }
    }

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-4 test vector for "abc".
        let wanted = [0xba, 0x78, 0x16, 0xbf];
        assert_eq!(sha256(&provider(), b"abc").unwrap()[..4], wanted);
    }
}
