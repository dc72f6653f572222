//! A hub for tests: real sockets, TLS and HTTP/2, answers that the test sets, and a record of what
//! it was asked that the test awaits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::binding::{
    Bindings, BoundSecret, Consumer, ConsumerSecret, Deployment, FetchItem, FetchRequest,
    FetchResponse, FetchResult, Format, SecretState,
};
use edge_secrets_protocol::enroll::{EnrollRequest, Identity, RenewRequest};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::watch::WatchEvent;
use edge_secrets_protocol::{
    Code, Fields, Generation, NodeId, OrgId, Problem, PublicKey, SealingKey, Token, routes,
};
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::tls;
use crate::config::HubUrl;
use crate::identity::Material;

/// What the hub was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Enroll(NodeFacts),
    Facts(NodeFacts),
    Fetch(Vec<FetchItem>),
    Pull(Option<Generation>),
    Renew,
    Report(StatusReport),
    Watch(Option<Generation>),
}

/// What the hub answers; set it before the agent asks.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) bindings: Bindings,
    /// Answered as it is to a pull with `since`.
    pub(crate) difference: Option<Bindings>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) sealing_key: Option<PublicKey>,
    /// A problem instead of an answer, by path.
    pub(crate) refuse: BTreeMap<&'static str, Problem>,
    /// A problem instead of a value, by secret name.
    pub(crate) item_problems: BTreeMap<String, Problem>,
    /// The most items one fetch answers.
    pub(crate) batch: Option<usize>,
    pub(crate) token: Option<String>,
    /// The life of certificates that are issued from now on, in seconds since 1970.
    pub(crate) validity: Option<(u64, u64)>,
    /// The one certificate that is known, by its end in seconds since 1970: others are of nobody.
    pub(crate) knows: Option<i64>,
    /// The path that gets no answer.
    pub(crate) hang: Option<&'static str>,
    /// How long every answer takes.
    pub(crate) slow: Duration,
    /// The node that renewed certificates are of, instead of the one that asks.
    pub(crate) renew_as: Option<NodeId>,
    /// Bytes instead of bindings.
    pub(crate) raw: Option<Bytes>,
}

struct Shared {
    answers: Mutex<Answers>,
    seen: mpsc::UnboundedSender<Seen>,
    events: broadcast::Sender<WatchEvent>,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A hub on a port of its own. Stops when dropped.
pub(crate) struct FakeHub {
    shared: Arc<Shared>,
    seen: mpsc::UnboundedReceiver<Seen>,
    address: std::net::SocketAddr,
    tls: Arc<ServerConfig>,
    task: JoinHandle<()>,
}

impl FakeHub {
    pub(crate) async fn start() -> Self {
        Self::start_as("127.0.0.1", (2000, 2999)).await
    }

    /// A hub whose certificate has another name or other years.
    pub(crate) async fn start_as(name: &str, years: (i32, i32)) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone(), authority.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (seen_sender, seen) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            seen: seen_sender,
            events: broadcast::channel(64).0,
            authority,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(config);
        let task = tokio::spawn(accept(listener, tls.clone(), shared.clone()));
        Self {
            shared,
            seen,
            address,
            tls,
            task,
        }
    }

    pub(crate) fn url(&self) -> HubUrl {
        format!("https://{}", self.address).parse().unwrap()
    }

    pub(crate) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.shared.answers.lock().unwrap()
    }

    pub(crate) fn push(&self, event: WatchEvent) {
        self.shared.events.send(event).ok();
    }

    /// Waits until the hub was asked what `pick` picks, passing over everything before.
    pub(crate) async fn asked<T>(&mut self, mut pick: impl FnMut(Seen) -> Option<T>) -> T {
        loop {
            let seen = self.seen.recv().await.expect("the hub lives");
            if let Some(picked) = pick(seen) {
                return picked;
            }
        }
    }

    /// What the hub was asked and nobody has awaited yet.
    pub(crate) fn asked_so_far(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// Drops every connection and stops listening.
    pub(crate) async fn stop(&mut self) {
        if !self.task.is_finished() {
            self.task.abort();
            (&mut self.task).await.ok();
        }
    }

    /// Listens again where it did.
    pub(crate) async fn restart(&mut self) {
        // For a moment the port may be somebody else's: of a connection of another test, of a child that is
        // just being started.
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse && tries < 12_000 => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                bound => break bound.unwrap(),
            }
        };
        self.task = tokio::spawn(accept(listener, self.tls.clone(), self.shared.clone()));
    }

    /// A node's identity as enrolment would give it; values are sealed to it from now on.
    pub(crate) fn issue(&self, org: &str, node: &str) -> Material {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let sealing_key = SealingKey::generate();
        self.answers().sealing_key = Some(sealing_key.public());
        let identity = self.shared.certify(
            &csr.pem().unwrap(),
            &org.parse().unwrap(),
            &node.parse().unwrap(),
        );
        Material {
            key: Zeroizing::new(key.serialize_pem()),
            certificate: identity.certificate,
            trust_bundle: identity.trust_bundle,
            enrolment: sealing_key.public(),
            sealing_key,
        }
    }

    /// A token that the hub takes, for the CA it has.
    pub(crate) fn token(&self, org: &str, node: &str) -> Token {
        let print = crate::identity::fingerprint(self.shared.authority.der()).unwrap();
        let token = Token::generate(org.parse().unwrap(), node.parse().unwrap(), print).unwrap();
        self.answers().token = Some(token.expose().to_string());
        token
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bindings with one deployment `id` of `myorg/URL` whose secrets have these versions.
pub(crate) fn deployment(id: &str, url: &str, secrets: &[(&str, &str)]) -> Deployment {
    let name = |name: &str| name.parse().unwrap();
    Deployment {
        id: id.parse().unwrap(),
        service: format!("myorg/{url}").parse().unwrap(),
        service_version: "1.0.0".into(),
        policy: "uplink".parse().unwrap(),
        secrets: secrets
            .iter()
            .map(|(secret, version)| BoundSecret {
                name: name(secret),
                state: SecretState::Ready {
                    version: version.parse().unwrap(),
                },
                expires_at: None,
                expires_in_ms: None,
            })
            .collect(),
        consumers: vec![Consumer {
            name: "main".parse().unwrap(),
            secrets: secrets
                .iter()
                .map(|(secret, _)| ConsumerSecret {
                    name: name(secret),
                    format: Format::ValueOnly,
                    mode: None,
                })
                .collect(),
        }],
    }
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (tls, shared) = (TlsAcceptor::from(tls.clone()), shared.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else {
                return;
            };
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|c| c.first())
                .cloned();
            let who = leaf.and_then(|leaf| crate::identity::certificate::inspect(&leaf).ok());
            let end = who
                .as_ref()
                .map(|facts| facts.validity.not_after.as_second());
            let who = who.map(|facts| (facts.org, facts.node));
            let service = service_fn(move |request| {
                let (shared, who) = (shared.clone(), who.clone());
                async move {
                    let knows = shared.answers.lock().unwrap().knows;
                    if knows.is_some() && knows != end {
                        let unknown = Problem::new(Code::NotEnrolled, "it is not known");
                        return Ok(refusal(&unknown));
                    }
                    Ok::<_, Infallible>(shared.answer(who, request).await)
                }
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

type Body = BoxBody<Bytes, Infallible>;

impl Shared {
    async fn answer(
        &self,
        who: Option<(OrgId, NodeId)>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        let generation = |text: &str| text.parse().ok().map(Generation);
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        let since = head
            .uri
            .query()
            .and_then(|q| generation(q.strip_prefix("since=")?));
        let last = header("last-event-id").and_then(generation);
        let tag = header("if-none-match").and_then(Generation::from_etag);
        let seen = match path.as_str() {
            routes::ENROLL => Seen::Enroll(
                serde_json::from_slice::<EnrollRequest>(&body)
                    .unwrap()
                    .facts,
            ),
            routes::NODE => Seen::Facts(serde_json::from_slice(&body).unwrap()),
            routes::SECRETS => {
                Seen::Fetch(serde_json::from_slice::<FetchRequest>(&body).unwrap().items)
            }
            routes::BINDINGS => Seen::Pull(since),
            routes::RENEW => Seen::Renew,
            routes::STATUS => Seen::Report(serde_json::from_slice(&body).unwrap()),
            _ => Seen::Watch(last),
        };
        let answer = self.compose(who, &path, since, tag, &body);
        self.seen.send(seen).ok();
        let (hang, slow) = {
            let answers = self.answers.lock().unwrap();
            (answers.hang, answers.slow)
        };
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        if hang == Some(path.as_str()) {
            std::future::pending::<()>().await;
        }
        answer
    }

    fn compose(
        &self,
        who: Option<(OrgId, NodeId)>,
        path: &str,
        since: Option<Generation>,
        tag: Option<Generation>,
        body: &[u8],
    ) -> Response<Body> {
        let answers = self.answers.lock().unwrap();
        if let Some(problem) = answers.refuse.get(path) {
            return refusal(problem);
        }
        if let (Some(raw), true) = (&answers.raw, path == routes::BINDINGS) {
            return Response::new(Full::new(raw.clone()).boxed());
        }
        let Some((org, node)) = who else {
            drop(answers);
            return self.enrol(path, body);
        };
        match path {
            routes::BINDINGS if tag == Some(answers.bindings.generation) => {
                let mut response = json(&());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            routes::BINDINGS => match &answers.difference {
                Some(difference) if difference.since == since => json(difference),
                _ => json(&answers.bindings),
            },
            routes::SECRETS => json(&fetch(&answers, &org, &node, body)),
            routes::WATCH => self.watch(),
            routes::RENEW => {
                let node = answers.renew_as.clone().unwrap_or(node);
                drop(answers);
                let request: RenewRequest = serde_json::from_slice(body).unwrap();
                if let Some(key) = request.sealing_key {
                    self.answers.lock().unwrap().sealing_key = Some(key);
                }
                json(&self.certify(&request.csr, &org, &node))
            }
            _ => json(&()),
        }
    }

    fn enrol(&self, path: &str, body: &[u8]) -> Response<Body> {
        let denied = || refusal(&Problem::new(Code::Denied, "the token is not good"));
        let Ok(request) = serde_json::from_slice::<EnrollRequest>(body) else {
            return denied();
        };
        if path != routes::ENROLL
            || self.answers.lock().unwrap().token.take().as_ref() != Some(&request.token)
        {
            return denied();
        }
        let token: Token = request.token.parse().unwrap();
        self.answers.lock().unwrap().sealing_key = Some(request.sealing_key);
        json(&self.certify(&request.csr, &token.org, &token.node))
    }

    fn certify(&self, csr: &str, org: &OrgId, node: &NodeId) -> Identity {
        let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let name = format!("spiffe://test/org/{org}/node/{node}");
        csr.params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        csr.params.not_after = date_time_ymd(2999, 1, 1);
        if let Some((from, until)) = self.answers.lock().unwrap().validity {
            let epoch = date_time_ymd(1970, 1, 1);
            csr.params.not_before = epoch + Duration::from_secs(from);
            csr.params.not_after = epoch + Duration::from_secs(until);
        }
        let certificate = csr.signed_by(&self.authority).unwrap();
        Identity {
            org: org.clone(),
            node: node.clone(),
            certificate: certificate.pem(),
            trust_bundle: self.authority.pem(),
        }
    }

    fn watch(&self) -> Response<Body> {
        let events = self.events.subscribe();
        let frames = stream::unfold(events, |mut events| async {
            let event = events.recv().await.ok()?;
            let frame = Frame::data(Bytes::from(event.encode()));
            Some((Ok::<_, Infallible>(frame), events))
        });
        Response::new(BodyExt::boxed(StreamBody::new(Box::pin(frames))))
    }
}

fn fetch(answers: &Answers, org: &OrgId, node: &NodeId, body: &[u8]) -> FetchResponse {
    let request: FetchRequest = serde_json::from_slice(body).unwrap();
    let most = answers.batch.unwrap_or(usize::MAX);
    let one = |(at, item): (usize, &FetchItem)| {
        if at >= most {
            return FetchResult::Problem(Problem::new(Code::BatchFull, "ask again"));
        }
        if let Some(problem) = answers.item_problems.get(item.name.as_str()) {
            return FetchResult::Problem(problem.clone());
        }
        let Some(value) = answers.values.get(item.name.as_str()) else {
            return FetchResult::Problem(Problem::new(Code::Denied, "not bound here"));
        };
        let field = "value".parse().unwrap();
        let payload = Fields::encode(&[(field, value.as_bytes())]).unwrap();
        let place = Place::Node {
            org,
            node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        let key = answers.sealing_key.as_ref().unwrap();
        FetchResult::Sealed(key.seal(&place, &payload).unwrap())
    };
    FetchResponse {
        items: request.items.iter().enumerate().map(one).collect(),
    }
}

fn refusal(problem: &Problem) -> Response<Body> {
    let mut response = json(problem);
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap();
    response
}

fn json(body: &impl serde::Serialize) -> Response<Body> {
    Response::new(Full::new(serde_json::to_vec(body).unwrap().into()).boxed())
}

/// Seconds since 1970, now.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
