//! Which client certificates TLS lets in.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::config::TrustDomain;
use crate::pki::identity::{ClientCertificate, IdentityError, Principal};

/// Takes certificates of the hub's CA that speak for a node or a user. A node's may have expired
/// within the grace, for a node that was away can renew itself; which calls it may make is decided
/// above TLS. And it may not have begun: this hub gave it, when its clock was ahead or before it was set
/// back, and whether it is still the node's is told by its serial number, not by a clock.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
    renewal_grace: Duration,
}

impl ClientVerifier {
    pub(super) fn new(
        chain: Arc<dyn ClientCertVerifier>,
        trust_domain: TrustDomain,
        renewal_grace: Duration,
    ) -> Self {
        Self {
            chain,
            trust_domain,
            renewal_grace,
        }
    }

    fn parse(&self, end_entity: &CertificateDer<'_>) -> Result<ClientCertificate, Error> {
        ClientCertificate::parse(end_entity, &self.trust_domain).map_err(refused)
    }

    /// The last second of the certificate's life, if it is a node's and `now` is within the grace.
    fn within_grace(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Error> {
        let end = self.of_a_node(end_entity)?;
        let last = |end: &UnixTime| end.as_secs().saturating_add(self.renewal_grace.as_secs());
        Ok(end.filter(|end| now.as_secs() <= last(end)))
    }

    /// The last second of the certificate's life, if it is a node's.
    fn of_a_node(&self, end_entity: &CertificateDer<'_>) -> Result<Option<UnixTime>, Error> {
        let certificate = self.parse(end_entity)?;
        let end = u64::try_from(certificate.not_after.as_second()).unwrap_or(0);
        let node = matches!(certificate.principal, Principal::Node { .. });
        Ok(node.then(|| UnixTime::since_unix_epoch(Duration::from_secs(end))))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.chain.verify_client_cert(end_entity, intermediates, at);
        match verify(now) {
            Ok(verified) => {
                self.parse(end_entity)?;
                Ok(verified)
            }
            Err(error) if is_expired(&error) => match self.within_grace(end_entity, now)? {
                Some(alive) => verify(alive),
                None => Err(error),
            },
            Err(error) if is_early(&error) => match self.of_a_node(end_entity)? {
                Some(end) => verify(end),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Why TLS refused a connection, in words for the log.
pub(super) fn reason(error: &Error) -> String {
    let Error::InvalidCertificate(fault) = error else {
        return error.to_string();
    };
    let at = |time: &UnixTime| {
        let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    };
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is not signed by this hub's CA".into()
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired at {}", at(not_after))
        }
        CertificateError::NotValidYetContext { not_before, time } => format!(
            "the certificate is valid from {} only, and it is {} here: one of the clocks is wrong",
            at(not_before),
            at(time),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            IdentityError::Usage.to_string()
        }
        CertificateError::Other(OtherError(reason)) => reason.to_string(),
        _ => error.to_string(),
    }
}

fn is_expired(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

fn is_early(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
        )
    )
}

fn refused(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::{NodeId, OrgId, UserId};
    use rcgen::{CertificateParams, KeyPair};
    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::pki::{Issued, Pki};
    use crate::server::tls::provider;

    const LIFETIME: Duration = Duration::from_secs(1000);
    const GRACE: Duration = Duration::from_secs(500);

    fn verifier(pki: &Pki) -> ClientVerifier {
        let mut roots = RootCertStore::empty();
        for certificate in pki.ca_certificates() {
            roots.add(certificate.clone()).unwrap();
        }
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
        ClientVerifier::new(chain, pki.trust_domain().clone(), GRACE)
    }

    /// Whether the certificate is let in so many seconds after its end.
    fn verify(pki: &Pki, issued: &Issued, after_end: i64) -> Result<(), Error> {
        let der = CertificateDer::from_pem_slice(issued.certificate_pem_chain.as_bytes()).unwrap();
        let at = u64::try_from(issued.not_after.as_second() + after_end).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier(pki).verify_client_cert(&der, &[], now).map(|_| ())
    }

    fn csr() -> String {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        csr.pem().unwrap()
    }

    #[test]
    fn a_node_has_the_grace_to_renew_and_not_a_second_more() {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        let (org, node): (OrgId, NodeId) = ("o".parse().unwrap(), "n".parse().unwrap());
        let issued = pki.issue_node(&csr(), &org, &node, LIFETIME).unwrap();
        for inside in [-10, 0, 1, 500] {
            assert_eq!(verify(&pki, &issued, inside), Ok(()), "{inside}");
        }
        let refused = reason(&verify(&pki, &issued, 501).unwrap_err());
        assert_eq!(
            refused,
            format!("the certificate expired at {}", issued.not_after)
        );
    }

    #[test]
    fn what_this_hub_gave_a_node_may_not_have_begun() {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        let (foreign, _) = Pki::create(TrustDomain::default()).unwrap();
        let (org, node): (OrgId, NodeId) = ("o".parse().unwrap(), "n".parse().unwrap());
        let user: UserId = "u".parse().unwrap();
        let issued = pki.issue_node(&csr(), &org, &node, LIFETIME).unwrap();
        for early in [-1400, -86_400, -1_000_000_000] {
            assert_eq!(verify(&pki, &issued, early), Ok(()), "{early}");
            let other = foreign.issue_node(&csr(), &org, &node, LIFETIME).unwrap();
            verify(&pki, &other, early).unwrap_err();
        }
        // People see what is wrong, and are given another one by an administrator.
        let issued = pki.issue_user(&csr(), &org, &user, LIFETIME).unwrap();
        let early = reason(&verify(&pki, &issued, -1400).unwrap_err());
        assert!(early.contains("clocks"), "{early}");
    }

    #[test]
    fn a_user_has_no_grace() {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        let (org, user): (OrgId, UserId) = ("o".parse().unwrap(), "u".parse().unwrap());
        let issued = pki.issue_user(&csr(), &org, &user, LIFETIME).unwrap();
        assert_eq!(verify(&pki, &issued, 0), Ok(()));
        assert!(is_expired(&verify(&pki, &issued, 1).unwrap_err()));
    }

    #[test]
    fn an_expired_certificate_of_another_ca_has_no_grace() {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        let (foreign, _) = Pki::create(TrustDomain::default()).unwrap();
        let (org, node): (OrgId, NodeId) = ("o".parse().unwrap(), "n".parse().unwrap());
        let issued = foreign.issue_node(&csr(), &org, &node, LIFETIME).unwrap();
        for at in [-10, 1] {
            let refused = verify(&pki, &issued, at).unwrap_err();
            assert!(!is_expired(&refused), "{refused}");
        }
    }
}
