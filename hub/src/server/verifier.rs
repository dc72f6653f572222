//! Which client certificates TLS lets in.

use std::sync::Arc;
use std::time::Duration;

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
/// above TLS.
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
        let certificate = self.parse(end_entity)?;
        let end = u64::try_from(certificate.not_after.as_second()).unwrap_or(0);
        let last = end.saturating_add(self.renewal_grace.as_secs());
        let node = matches!(certificate.principal, Principal::Node { .. });
        Ok((node && now.as_secs() <= last)
            .then(|| UnixTime::since_unix_epoch(Duration::from_secs(end))))
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

fn is_expired(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

fn refused(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
