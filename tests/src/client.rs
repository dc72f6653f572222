//! A client that says whatever a test wants over HTTP/2 and mutual TLS, with any certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::wait::DEADLINE;

/// A certificate chain and its key, PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The chain, the own certificate first.
    pub chain: String,
    /// The key.
    pub key: String,
}

/// One connection.
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    // How the connection ended: a TLS alert comes after the handshake, to whoever reads.
    ended: Option<JoinHandle<Result<(), hyper::Error>>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects. Without `ca` any server will do.
    ///
    /// # Errors
    /// What the handshake says. A server's refusal of the client's certificate comes later, with the
    /// first answer, as TLS 1.3 has it.
    pub fn connect(port: u16, ca: Option<&str>, who: Option<&Credentials>) -> Result<Self, String> {
        // A thread of its own, so that pings are answered while the test does something else.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self::connect_on(runtime.expect("a runtime"), port, ca, who)
    }

    /// The same on a runtime of the caller's.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_on(
        runtime: Runtime,
        port: u16,
        ca: Option<&str>,
        who: Option<&Credentials>,
    ) -> Result<Self, String> {
        let tls = tls(ca, who)?;
        let connected = runtime.block_on(async {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let stream = TcpStream::connect(address)
                .await
                .map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let name = ServerName::try_from("127.0.0.1").expect("an address");
            let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream);
            let stream = TokioIo::new(stream.await.map_err(|e| e.to_string())?);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(|e| e.to_string())?;
            Ok::<_, String>((sender, tokio::spawn(connection)))
        })?;
        let (sender, ended) = connected;
        Ok(Self {
            runtime,
            sender,
            ended: Some(ended),
        })
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let uri = format!("https://127.0.0.1{path}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|e| e.to_string())?;
        let sender = &mut self.sender;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(chain)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(chain)?.to_bytes();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_vec(),
            })
        };
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(DEADLINE, exchange)
                .await
                .map_err(|_| "no answer".to_owned())?
        });
        let error = match (answer, self.sender.is_closed()) {
            (Err(error), true) => error,
            (answer, _) => return answer,
        };
        let ended = self.ended.take().map(|ended| self.runtime.block_on(ended));
        match ended {
            Some(Ok(Err(why))) => Err(format!("{error}; the connection: {}", chain(why))),
            _ => Err(error),
        }
    }

    /// `GET`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.send(Method::GET, path, &[], Bytes::new())
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<Answer, String> {
        let body = serde_json::to_vec(body).expect("JSON");
        self.send(method, path, &[("content-type", "application/json")], body)
    }
}

impl Answer {
    /// The body as JSON, of a success.
    ///
    /// # Panics
    /// When it is neither.
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The problem document's code.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn code(&self) -> String {
        let kind = self
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{self}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(problem["status"], self.status, "{self}");
        problem["code"].as_str().expect("a code").to_owned()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// TLS 1.3, HTTP/2, as told.
///
/// # Errors
/// When the PEM texts are none.
pub fn tls(ca: Option<&str>, who: Option<&Credentials>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?;
    let builder = match ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                roots
                    .add(certificate.map_err(|e| e.to_string())?)
                    .map_err(|e| e.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider))),
    };
    let mut config = match who {
        Some(who) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(who.chain.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(who.key.as_bytes());
            builder
                .with_client_auth_cert(
                    chain.map_err(|e| e.to_string())?,
                    key.map_err(|e| e.to_string())?,
                )
                .map_err(|e| e.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn chain(error: hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// For what a stranger does before they know the CA.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
