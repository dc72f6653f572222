//! The server around a stand-in: TLS on an ephemeral port of loopback, faults, the log of calls.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::message::pairs;
use super::{App, Clock, Fault, Faults, Log, Request, Response};

/// A certificate authority of a test's own.
pub struct Pki {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Of the same name as what it issues, it would pass for that.
        params
            .distinguished_name
            .push(DnType::CommonName, "stand-in authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate and its key, both PEM, for these DNS names and addresses.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// A stand-in that is being served. It ends when this is dropped.
pub struct Server<A: App> {
    address: SocketAddr,
    pki: Pki,
    app: Arc<Mutex<A>>,
    /// Its clock.
    pub clock: Clock,
    /// What goes wrong.
    pub faults: Faults,
    /// What was asked.
    pub log: Log,
    task: JoinHandle<()>,
}

impl<A: App> Server<A> {
    /// Serves `app` on an ephemeral port of 127.0.0.1. Needs a tokio runtime.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(app: A) -> Self {
        Self::start_at(app, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// The same at this address.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn start_at(app: A, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let address = listener.local_addr().expect("its address");
        let pki = Pki::new();
        let tls = TlsAcceptor::from(Arc::new(tls(&pki)));
        let app = Arc::new(Mutex::new(app));
        let (clock, faults, log) = (Clock::default(), Faults::default(), Log::default());
        let shared = Shared {
            app: Arc::clone(&app),
            clock: clock.clone(),
            faults: faults.clone(),
            log: log.clone(),
        };
        let task = tokio::spawn(accept(listener, tls, shared));
        Self {
            address,
            pki,
            app,
            clock,
            faults,
            log,
            task,
        }
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its certificate authority: clients' certificates come from the same.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Looks at the stand-in, or changes it behind everybody's back.
    pub fn with<T>(&self, look: impl FnOnce(&mut A) -> T) -> T {
        look(&mut self.app.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<A: App> Drop for Server<A> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared<A> {
    app: Arc<Mutex<A>>,
    clock: Clock,
    faults: Faults,
    log: Log,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Self {
        Self {
            app: Arc::clone(&self.app),
            clock: self.clock.clone(),
            faults: self.faults.clone(),
            log: self.log.clone(),
        }
    }
}

fn tls(pki: &Pki) -> ServerConfig {
    let (certificate, key) = pki.issue(&["127.0.0.1", "localhost"]);
    let der = |pem: &str| -> Vec<u8> {
        use rustls::pki_types::pem::PemObject;
        CertificateDer::from_pem_slice(pem.as_bytes())
            .expect("a certificate")
            .to_vec()
    };
    let key = KeyPair::from_pem(&key).expect("a key").serialize_der();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(der(pki.certificate())))
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from(der(&certificate))],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key)),
        )
        .expect("a certificate and its key")
}

async fn accept<A: App>(listener: TcpListener, tls: TlsAcceptor, shared: Shared<A>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(serve(stream, tls, shared));
    }
}

async fn serve<A: App>(stream: TcpStream, tls: TlsAcceptor, shared: Shared<A>) {
    stream.set_nodelay(true).ok();
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|certificate| certificate.to_vec());
    let service = service_fn(move |request| {
        let (shared, certificate) = (shared.clone(), certificate.clone());
        async move { answer(request, certificate, shared).await.ok_or(Broken) }
    });
    // A fault that breaks the connection ends it with an error: that is what it is for.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

/// Breaks the connection.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is broken on purpose")
    }
}

impl std::error::Error for Broken {}

type Body = BoxBody<Bytes, Broken>;

async fn answer<A: App>(
    request: http::Request<Incoming>,
    certificate: Option<Vec<u8>>,
    shared: Shared<A>,
) -> Option<http::Response<Body>> {
    let (head, body) = request.into_parts();
    let request = Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        body: body.collect().await.ok()?.to_bytes().to_vec(),
        certificate,
    };
    shared.log.push(&request);
    let fault = shared.faults.of(&request);
    match &fault {
        Some(Fault::Drop) => return None,
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let done = || {
        let mut app = shared.app.lock().unwrap_or_else(PoisonError::into_inner);
        app.answer(&request, shared.clock.now())
    };
    let response = match fault {
        Some(Fault::LoseAnswer) => {
            done();
            return None;
        }
        Some(Fault::Html) => Response::text(200, "text/html", "<html><body>Log in</body></html>"),
        Some(Fault::Answer(response)) => response,
        Some(Fault::WrongTypes) => {
            let response = done();
            let value: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
            Response::json(response.status.as_u16(), &twisted(&value))
        }
        Some(Fault::Truncated) => return Some(truncated(&done())),
        Some(Fault::Huge) => return Some(huge()),
        _ => done(),
    };
    Some(whole(response))
}

fn whole(response: Response) -> http::Response<Body> {
    let body = Full::from(response.body).map_err(never).boxed();
    let mut answer = http::Response::new(body);
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    answer
}

fn never(error: Infallible) -> Broken {
    match error {}
}

/// Half of the body, and then the connection breaks.
fn truncated(response: &Response) -> http::Response<Body> {
    let half = response
        .body
        .get(..response.body.len() / 2)
        .unwrap_or_default();
    let frames = vec![Ok(Frame::data(Bytes::copy_from_slice(half))), Err(Broken)];
    streamed(response.status.as_u16(), frames)
}

fn huge() -> http::Response<Body> {
    let chunk = Bytes::from(vec![b' '; 1024 * 1024]);
    let frames = (0..64).map(|_| Ok(Frame::data(chunk.clone()))).collect();
    streamed(200, frames)
}

fn streamed(status: u16, frames: Vec<Result<Frame<Bytes>, Broken>>) -> http::Response<Body> {
    let body = StreamBody::new(futures(frames)).boxed();
    let mut answer = http::Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    answer
}

fn futures<T: Send + Sync + 'static>(
    items: Vec<T>,
) -> impl futures_util::Stream<Item = T> + Send + Sync {
    futures_util::stream::iter(items)
}

/// Every text a number, every number a text, every object a list.
fn twisted(value: &Value) -> Value {
    match value {
        Value::Null => Value::Bool(true),
        Value::Bool(_) | Value::Number(_) => Value::String("seven".into()),
        Value::String(_) => Value::from(7),
        Value::Array(items) => items.first().map_or_else(|| Value::from(7), twisted),
        Value::Object(members) => Value::Array(members.values().map(twisted).collect()),
    }
}

/// How long a slow answer may take before a test's own patience ends.
pub const SLOW: Duration = Duration::from_millis(300);
