//! Connections to a manager: TCP, and TLS around it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;
use zeroize::Zeroizing;

use super::{BaseUrl, HttpConfig};
use crate::credential::expect_private;

/// Connects to the one address it is for.
#[derive(Clone)]
pub(super) struct Connector {
    base: BaseUrl,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, String> {
        let tls = match config.base.is_tls() {
            true => {
                let name = ServerName::try_from(config.base.host().to_owned())
                    .map_err(|_| format!("{} has no usable host name", config.base))?;
                let client = TlsConnector::from(Arc::new(client_config(config)?));
                Some((client, name))
            }
            false => None,
        };
        Ok(Self {
            base: config.base.clone(),
            tls,
        })
    }

    async fn connect(self) -> io::Result<TokioIo<Stream>> {
        let address = (self.base.host(), self.base.port());
        let open = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            Ok(TokioIo::new(match self.tls {
                Some((tls, name)) => Stream::Tls(Box::new(tls.connect(name, tcp).await?)),
                None => Stream::Plain(tcp),
            }))
        };
        timeout(CONNECT_TIMEOUT, open).await.unwrap_or_else(|_| {
            Err(io::Error::other(format!(
                "nothing answered within {} s",
                CONNECT_TIMEOUT.as_secs()
            )))
        })
    }
}

/// What a failure to connect says at its root: for the errors above it say only that it failed.
pub(super) fn explain(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

fn client_config(config: &HttpConfig) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                let unfit = |error| format!("{}: a certificate is unfit: {error}", path.display());
                roots.add(certificate).map_err(unfit)?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                return Err(
                    "this system has no CA certificates: install ca-certificates, or set ca_file"
                        .into(),
                );
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    match &config.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let pem = Zeroizing::new(
                std::fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?,
            );
            expect_private(key).map_err(|why| format!("{}: {why}", key.display()))?;
            let der = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| format!("{}: holds no private key in PEM form", key.display()))?;
            builder.with_client_auth_cert(chain, der).map_err(|error| {
                format!(
                    "{}: does not go with its certificate: {error}",
                    key.display()
                )
            })
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!(
            "{}: holds no certificate in PEM form",
            path.display()
        )),
    }
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
