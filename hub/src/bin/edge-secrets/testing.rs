//! A hub for tests: real TLS and HTTP/2 on an ephemeral port, answers from a closure.

use std::fs::Permissions;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use edge_secrets_protocol::{Code, Problem};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Serialize;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::cli::Cli;
use crate::commands;
use crate::error::Error;
use crate::output::TestUi;

/// One request as the hub saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) media_type: String,
    pub(crate) if_match: String,
    pub(crate) body: Bytes,
}

impl Asked {
    /// `GET /v1/hub`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What the hub answers.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    body: Bytes,
}

impl Answer {
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::raw(200, serde_json::to_vec(value).unwrap())
    }

    pub(crate) fn problem(code: Code, detail: &str) -> Self {
        let problem = Problem::new(code, detail);
        Self::raw(problem.status, serde_json::to_vec(&problem).unwrap())
    }

    pub(crate) fn raw(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            body: body.into(),
        }
    }
}

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Who trusts whom.
pub(crate) struct Pki<'a> {
    /// Issues the hub's certificate.
    pub(crate) hub: &'a Ca,
    /// What the hub's certificate is for.
    pub(crate) name: &'a str,
    /// Issues the operator's certificate.
    pub(crate) operator: &'a Ca,
    /// What the hub wants operators' certificates to be from.
    pub(crate) hub_trusts: &'a Ca,
    /// What the context wants the hub's certificate to be from.
    pub(crate) context_trusts: &'a Ca,
    /// What the hub speaks.
    pub(crate) alpn: &'a [u8],
}

impl<'a> Pki<'a> {
    /// As it should be.
    pub(crate) fn good(ca: &'a Ca) -> Self {
        Self {
            hub: ca,
            name: "127.0.0.1",
            operator: ca,
            hub_trusts: ca,
            context_trusts: ca,
            alpn: b"h2",
        }
    }
}

/// A hub, and a context for it: `alice` of `myorg`. Gone when dropped.
pub(crate) struct FakeHub {
    pub(crate) dir: TempDir,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: AbortHandle,
}

impl FakeHub {
    /// A hub that answers as `answer` says.
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Asked) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        Self::with(&Pki::good(&Ca::new()), answer).await
    }

    pub(crate) async fn with<F, A>(pki: &Pki<'_>, answer: F) -> Self
    where
        F: Fn(Asked) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor(pki);
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (log, tasks) = (Arc::clone(&seen), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serve(stream, acceptor.clone(), Arc::clone(&log), answer.clone());
                tasks.lock().unwrap().spawn(serving);
            }
        });
        let hub = Self {
            dir: tempfile::tempdir().unwrap(),
            address,
            seen,
            connections,
            accepting: accepting.abort_handle(),
        };
        let (certificate, key) = pki.operator.issue("alice");
        hub.file("alice.crt", &certificate);
        hub.file("alice.key", &key);
        hub.file("ca.crt", &pki.context_trusts.pem);
        hub.file(
            "context.yaml",
            &format!(
                "hub: https://{address}\norg: myorg\nuser: alice\ncertificate: alice.crt\n\
                 key: alice.key\nca: ca.crt\n"
            ),
        );
        hub
    }

    /// Runs a command line against this hub.
    pub(crate) async fn run(&self, line: &str, input: &[u8]) -> Ran {
        self.run_as(line, |cli| {
            let test = TestUi::new(cli.output, input);
            if cli.yes { test.yes() } else { test }
        })
        .await
    }

    /// The same with streams of the caller's.
    pub(crate) async fn run_as(&self, line: &str, ui: impl FnOnce(&Cli) -> TestUi) -> Ran {
        let line = line.replace("DIR", self.dir.path().to_str().unwrap());
        let words = ["edge-secrets"].into_iter().chain(line.split(' '));
        let mut cli = Cli::try_parse_from(words).unwrap();
        cli.context = Some(self.dir.path().join("context.yaml"));
        let mut test = ui(&cli);
        let done = commands::run(cli, &mut test.ui).await;
        if let Err(error) = &done {
            test.ui.fail(error);
        }
        Ran { done, test }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests so far, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Asked::line).collect()
    }

    /// Cuts every connection.
    pub(crate) fn cut(connections: &Mutex<JoinSet<()>>) {
        connections.lock().unwrap().abort_all();
    }

    /// For [`cut`](Self::cut), from within an answer.
    pub(crate) fn connections(&self) -> Arc<Mutex<JoinSet<()>>> {
        Arc::clone(&self.connections)
    }

    /// Lets nobody in any more.
    pub(crate) fn stop(&self) {
        self.accepting.abort();
        Self::cut(&self.connections);
    }

    /// Writes a file beside the context.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A command line that has run.
pub(crate) struct Ran {
    pub(crate) done: Result<(), Error>,
    pub(crate) test: TestUi,
}

impl Ran {
    pub(crate) fn code(&self) -> u8 {
        self.done.as_ref().map_or_else(Error::exit_code, |()| 0)
    }

    /// Standard output of a command that was to go well.
    pub(crate) fn out(&self) -> String {
        assert!(self.done.is_ok(), "{}", self.test.err());
        self.test.out()
    }

    pub(crate) fn err(&self) -> String {
        self.test.err()
    }
}

async fn serve<F, A>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<Asked>>>,
    answer: F,
) where
    F: Fn(Asked) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, answer) = (Arc::clone(&seen), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let text = |name| {
                let value = head.headers.get(name);
                value.map_or("", |value| value.to_str().unwrap()).to_owned()
            };
            let asked = Asked {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                media_type: text(http::header::CONTENT_TYPE),
                if_match: text(http::header::IF_MATCH),
                body: body.collect().await?.to_bytes(),
            };
            seen.lock().unwrap().push(asked.clone());
            let answer = answer(asked).await;
            let mut response = Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status.try_into().unwrap();
            Ok::<_, hyper::Error>(response)
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

fn acceptor(pki: &Pki<'_>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(pki.hub_trusts.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let (certificate, key) = pki.hub.issue(pki.name);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![pki.alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
