//! TLS 1.3 with HTTP/2 alone, and the server's certificate, which can be exchanged while serving.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, RootCertStore, ServerConfig};

use super::verifier::ClientVerifier;
use crate::pki::{Pki, PkiError};

/// The one place that names the cryptographic provider. It prefers X25519MLKEM768.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The server's certificate of the moment; one of each CA that is trusted.
pub struct ServerCertificate {
    current: ArcSwap<Issued>,
}

struct Issued {
    /// Of the CA that issues.
    first: Arc<CertifiedKey>,
    /// By the subjects of their CAs.
    all: Vec<(DistinguishedName, Arc<CertifiedKey>)>,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// A first certificate for these names.
    ///
    /// # Errors
    /// When it cannot be issued.
    pub fn issue(pki: &Pki, names: &[String]) -> Result<Self, PkiError> {
        Ok(Self {
            current: ArcSwap::from_pointee(issue(pki, names)?),
        })
    }

    /// Exchanges the certificate if less than a third of its life is left. Connections that are
    /// open stay as they are.
    ///
    /// # Errors
    /// When none can be issued; the old one stays.
    pub fn renew_if_due(
        &self,
        pki: &Pki,
        names: &[String],
        now: Timestamp,
    ) -> Result<bool, PkiError> {
        let left = self.current.load().not_after.duration_since(now);
        let third = LIFETIME / 3;
        if Duration::try_from(left).is_ok_and(|left| left > third) {
            return Ok(false);
        }
        self.current.store(Arc::new(issue(pki, names)?));
        Ok(true)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate(..)")
    }
}

impl ResolvesServerCert for ServerCertificate {
    /// A client that says whom it trusts, as one that was away while CAs were exchanged, gets the
    /// certificate that it can verify.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let issued = self.current.load();
        let trusted = hello.certificate_authorities().unwrap_or_default();
        let fits = |(subject, _): &&(DistinguishedName, _)| {
            trusted.iter().any(|name| name.as_ref() == subject.as_ref())
        };
        let found = issued.all.iter().find(fits).map(|(_, key)| key);
        Some(Arc::clone(found.unwrap_or(&issued.first)))
    }
}

/// The server's side of TLS.
///
/// # Errors
/// When the CA certificate is no trust anchor.
pub(super) fn server_config(
    pki: &Pki,
    renewal_grace: Duration,
    certificate: Arc<ServerCertificate>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let mut roots = RootCertStore::empty();
    for certificate in pki.ca_certificates() {
        roots.add(certificate.clone())?;
    }
    // Enrolment comes without a certificate; every other call refuses those who have none.
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let verifier = ClientVerifier::new(chain, pki.trust_domain().clone(), renewal_grace);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection shows its certificate: no resumption, and no tickets to keep.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn issue(pki: &Pki, names: &[String]) -> Result<Issued, PkiError> {
    let unfit = |error: &dyn fmt::Display| PkiError::Authority(error.to_string());
    let mut all = Vec::new();
    let mut not_after = Timestamp::MAX;
    for identity in pki.issue_server(names, LIFETIME)? {
        let key = provider().key_provider.load_private_key(identity.key);
        let key = CertifiedKey::new(identity.chain, key.map_err(|error| unfit(&error))?);
        all.push((identity.authority, Arc::new(key)));
        not_after = not_after.min(identity.not_after);
    }
    let first = all.first().map(|(_, key)| Arc::clone(key));
    Ok(Issued {
        first: first.ok_or_else(|| unfit(&"there is none"))?,
        all,
        not_after,
    })
}

/// The only protocol that is spoken.
pub(super) const ALPN: &[u8] = b"h2";

const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::TrustDomain;

    #[test]
    fn the_server_certificate_is_exchanged_when_a_third_of_its_life_is_left() {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        let names = ["localhost".to_owned()];
        let certificate = ServerCertificate::issue(&pki, &names).unwrap();
        let first = certificate.current.load_full();
        let now = clock::now();

        let early = now + Duration::from_secs(59 * 86_400);
        assert!(!certificate.renew_if_due(&pki, &names, early).unwrap());
        assert!(Arc::ptr_eq(&first, &certificate.current.load_full()));

        let due = now + Duration::from_secs(61 * 86_400);
        assert!(certificate.renew_if_due(&pki, &names, due).unwrap());
        assert!(!Arc::ptr_eq(&first, &certificate.current.load_full()));
    }
}
