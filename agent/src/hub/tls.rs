//! TLS 1.3 only, to one hub under its own roots: one, or two while it exchanges them.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

/// The one place that names the cryptography. Hybrid post-quantum key exchange is preferred.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whether it is a private key at all.
#[must_use]
pub fn is_key(key: &PrivateKeyDer<'_>) -> bool {
    let provider = provider();
    let read = provider.key_provider.load_private_key(key.clone_key());
    read.is_ok()
}

/// How to connect as an enrolled node.
///
/// # Errors
/// When the key does not fit the certificate or an authority does not parse.
pub fn with_identity(
    authorities: &[CertificateDer<'static>],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let trusted = roots.subjects();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let config =
        builder(Arc::new(Saying { verifier, trusted }))?.with_client_auth_cert(chain, key)?;
    Ok(finish(config))
}

/// Verifies as usual, and says in the handshake whom it trusts: while a hub exchanges its CA, it shows the
/// certificate that can be verified here.
#[derive(Debug)]
struct Saying {
    verifier: Arc<WebPkiServerVerifier>,
    trusted: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Saying {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = &self.verifier;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = &self.verifier;
        verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = &self.verifier;
        verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.trusted)
    }
}

/// How to connect without an identity, with trust decided by `verifier`.
///
/// # Errors
/// When the provider lacks TLS 1.3.
pub fn with_verifier(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, Error> {
    Ok(finish(builder(verifier)?.with_no_client_auth()))
}

type WantsClientCert = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(verifier: Arc<dyn ServerCertVerifier>) -> Result<WantsClientCert, Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing of one connection is kept for another.
    config.resumption = Resumption::disabled();
    config
}

/// The protocol that both sides must agree on.
pub const ALPN: &[u8] = b"h2";
