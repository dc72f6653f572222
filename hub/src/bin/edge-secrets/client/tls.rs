//! TLS 1.3 with the context's certificate, and what its faults mean.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

use crate::context::{Context, HubUrl};
use crate::error::Error;

/// The only application protocol spoken (RFC 7301).
pub(super) const HTTP2: &[u8] = b"h2";

/// The TLS configuration of a context.
///
/// # Errors
/// When one of its files cannot be read or does not hold what it should.
pub(super) fn config(context: &Context) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&context.ca)? {
        roots
            .add(root)
            .map_err(|error| unfit(&context.ca, format!("a CA certificate is unfit: {error}")))?;
    }
    let chain = certificates(&context.certificate)?;
    let pem = Zeroizing::new(read(&context.key)?);
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unfit(&context.key, "holds no private key in PEM form"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusted = roots.subjects();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unfit(&context.ca, format!("a CA certificate is unfit: {error}")))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Failed(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Saying { verifier, trusted }))
        .with_client_auth_cert(chain, key)
        .map_err(|error| {
            let reason = format!("the key does not go with the certificate: {error}");
            unfit(&context.key, reason)
        })?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = &self.verifier;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verifier = &self.verifier;
        verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
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

/// What a TLS fault means for who asked.
pub(super) fn explain(hub: &HubUrl, fault: &rustls::Error) -> Error {
    let hub = hub.as_str().to_owned();
    match fault {
        rustls::Error::InvalidCertificate(error) => Error::Untrusted {
            hub,
            reason: certificate_fault(error),
        },
        rustls::Error::AlertReceived(alert) if is_about_our_certificate(*alert) => Error::Refused {
            hub,
            reason: format!("{alert:?}"),
        },
        other => Error::Unavailable {
            hub,
            reason: other.to_string(),
        },
    }
}

/// The TLS fault inside an I/O error.
pub(super) fn fault_in(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Passes everything through and remembers the first TLS fault.
pub(super) struct Recorder<S> {
    stream: S,
    fault: Arc<OnceLock<rustls::Error>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Recorder<S> {
    /// Records into `fault`.
    pub(super) fn new(stream: S, fault: Arc<OnceLock<rustls::Error>>) -> Self {
        Self { stream, fault }
    }

    fn record<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = result
            && let Some(fault) = fault_in(error)
        {
            self.fault.get_or_init(|| fault.clone());
        }
    }

    /// A hub that refuses our certificate sends an alert and closes: where the write fails first,
    /// the alert may still lie there unread.
    fn written<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        task: &mut TaskContext<'_>,
    ) -> Poll<io::Result<T>> {
        if matches!(result, Poll::Ready(Err(_))) {
            let mut room = [0; 256];
            let mut room = ReadBuf::new(&mut room);
            let read = Pin::new(&mut self.stream).poll_read(task, &mut room);
            self.record(&read);
        }
        self.record(&result);
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Recorder<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(task, room);
        self.record(&result);
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Recorder<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.written(result, task)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(task);
        self.written(result, task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unfit(file, "holds no certificate in PEM form")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| unfit(file, format!("cannot be read: {error}")))
}

fn unfit(file: &Path, reason: impl Into<String>) -> Error {
    Error::Context {
        file: file.to_owned(),
        line: None,
        reason: reason.into(),
        hint: Some("the context names this file; see --context"),
    }
}

fn certificate_fault(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not from the CA of the context".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired (or the clock of this machine is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet (is the clock of this machine right?)".to_owned()
        }
        other => other.to_string(),
    }
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What is left of a connection that the hub refused: an alert to read, and no way to write.
    struct Refused;

    impl AsyncRead for Refused {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(AlertDescription::CertificateUnknown);
            Poll::Ready(Err(io::Error::other(alert)))
        }
    }

    impl AsyncWrite for Refused {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_refusal_is_found_behind_a_failed_write() {
        let fault = Arc::default();
        let mut stream = Recorder::new(Refused, Arc::clone(&fault));
        assert!(stream.write_all(b"x").await.is_err());
        let hub = HubUrl::try_from("https://hub".to_owned()).unwrap();
        let error = explain(&hub, fault.get().unwrap());
        assert_eq!(error.exit_code(), 77, "{error}");
    }
}
