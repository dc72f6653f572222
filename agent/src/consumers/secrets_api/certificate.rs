//! One consumer's TLS: a key and a certificate that vouches for itself, which `cert.pem` shows.
//!
//! It holds for ever by the clock, since it dies with the tmpfs that its key lies on: nothing is to be
//! renewed, and a wrong wall clock cuts nobody off.

use std::sync::Arc;

use data_encoding::BASE64;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use zeroize::Zeroizing;

use crate::hub::tls::provider;

/// The key, PKCS#8 in DER, and the certificate in DER.
pub(super) struct Identity {
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) certificate: Vec<u8>,
}

impl Identity {
    /// A new one, for `localhost`.
    ///
    /// # Errors
    /// When the system can make no key.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(["localhost".to_owned()])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            key: Zeroizing::new(key.serialize_der()),
        })
    }

    /// What clients trust.
    pub(super) fn pem(&self) -> String {
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in self.certificate.chunks(PEM_LINE) {
            pem.push_str(&BASE64.encode(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// TLS 1.3 with it, and HTTP/1.1 inside. Nothing is kept of a connection that has ended.
    ///
    /// # Errors
    /// When key and certificate do not fit one another.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_vec());
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

/// The bytes of a line of 64 characters (RFC 7468 §2).
const PEM_LINE: usize = 48;

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn what_is_kept_makes_the_same_server_again() {
        let made = Identity::new().unwrap();
        let kept = Identity {
            key: made.key.clone(),
            certificate: made.certificate.clone(),
        };
        kept.server().unwrap();
        let shown = CertificateDer::from_pem_slice(made.pem().as_bytes()).unwrap();
        assert_eq!(shown.as_ref(), &made.certificate[..]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (one, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        for (key, certificate) in [
            (one.key.to_vec(), other.certificate.clone()),
            (vec![1, 2, 3], one.certificate.clone()),
            (one.key.to_vec(), vec![1, 2, 3]),
        ] {
            let key = Zeroizing::new(key);
            assert!(Identity { key, certificate }.server().is_err());
        }
    }
}
