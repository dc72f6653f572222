//! Real TLS over loopback; behind it a router that says who it sees.

use std::future::pending;
use std::io;

use axum::Extension;
use axum::body::Body;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::api::peer::{Connected, Peer};
use crate::config::TrustDomain;
use crate::pki::Issued;
use crate::pki::identity::Principal;

const HOUR: Duration = Duration::from_secs(3600);

/// A server on an ephemeral port.
struct Running {
    pki: Arc<Pki>,
    address: SocketAddr,
    stop: Stop,
    served: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(settings: &str) -> Self {
        let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
        Self::with(pki, settings, Router::new()).await
    }

    async fn with(pki: Pki, settings: &str, router: Router) -> Self {
        let text = format!("listen: 127.0.0.1:0\n{settings}");
        let config = Config::parse(&text, std::path::Path::new("hub.yaml")).unwrap();
        let router = router.route("/who", get(who));
        let certificate = ServerCertificate::issue(&pki, &config.server_names).unwrap();
        let certificate = Arc::new(certificate);
        let server = Server::bind(&config, &pki, certificate, router, Arc::new(Everybody))
            .await
            .unwrap();
        let (address, stop) = (server.address().unwrap(), Stop::default());
        Self {
            pki: Arc::new(pki),
            address,
            served: tokio::spawn(server.run(stop.clone())),
            stop,
        }
    }

    async fn connect(&self, identity: Option<&Identity>) -> io::Result<TlsStream<TcpStream>> {
        connect(&self.pki, self.address, identity, &[b"h2"]).await
    }

    /// What the server makes of this identity.
    async fn who(&self, identity: Option<&Identity>) -> io::Result<String> {
        let mut client = speak(self.connect(identity).await?).await?;
        text(ask(&mut client, "/who").await?).await
    }
}

/// Knows whoever has a certificate, but for one node.
struct Everybody;

#[async_trait]
impl Acquaintance for Everybody {
    async fn knows(&self, certificate: &ClientCertificate) -> bool {
        let revoked = Principal::Node {
            org: "myorg".parse().unwrap(),
            node: REVOKED.parse().unwrap(),
        };
        certificate.principal != revoked
    }
}

const REVOKED: &str = "revoked";

async fn who(Extension(connected): Extension<Connected>) -> String {
    match connected.peer {
        Peer::Anonymous => "anonymous".into(),
        Peer::Node { node, expired, .. } => format!("node {node} expired={expired}"),
        Peer::User { user, .. } => format!("user {user}"),
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// An identity over a new key.
fn identity(issue: impl FnOnce(&str) -> Issued) -> Identity {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let issued = issue(&csr.pem().unwrap());
    Identity {
        chain: CertificateDer::pem_slice_iter(issued.certificate_pem_chain.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

fn node(pki: &Pki) -> Identity {
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    identity(|csr| pki.issue_node(csr, &org, &node, HOUR).unwrap())
}

fn user(pki: &Pki) -> Identity {
    let (org, user) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
    identity(|csr| pki.issue_user(csr, &org, &user, HOUR).unwrap())
}

async fn connect(
    trusted: &Pki,
    address: SocketAddr,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted.ca_certificates() {
        roots.add(certificate.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

async fn speak(stream: TlsStream<TcpStream>) -> io::Result<SendRequest<Empty<bytes::Bytes>>> {
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

async fn ask(
    client: &mut SendRequest<Empty<bytes::Bytes>>,
    path: &str,
) -> io::Result<Response<hyper::body::Incoming>> {
    client.ready().await.map_err(io::Error::other)?;
    let request = Request::get(format!("https://localhost{path}"))
        .body(Empty::new())
        .unwrap();
    client.send_request(request).await.map_err(io::Error::other)
}

async fn text(response: Response<hyper::body::Incoming>) -> io::Result<String> {
    assert_eq!(response.status(), StatusCode::OK);
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?;
    Ok(String::from_utf8(body.to_bytes().into()).unwrap())
}

/// The rest of what the server sends on a connection that it refuses.
async fn refusal(mut stream: TlsStream<TcpStream>) -> io::Error {
    stream.read_to_end(&mut Vec::new()).await.unwrap_err()
}

/// Log lines of this test's thread, one message each.
struct Lines(
    mpsc::UnboundedReceiver<String>,
    #[allow(dead_code)] DefaultGuard,
);

impl Lines {
    fn listen() -> Self {
        struct Sender(mpsc::UnboundedSender<String>);
        impl io::Write for &Sender {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.send(String::from_utf8_lossy(line).into_owned()).ok();
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, lines) = mpsc::unbounded_channel();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(Arc::new(Sender(sender)))
            .finish();
        Self(lines, tracing::subscriber::set_default(subscriber))
    }

    async fn next(&mut self) -> String {
        self.0.recv().await.unwrap()
    }
}

#[tokio::test]
async fn the_peer_is_who_the_certificate_says() {
    let server = Running::start("").await;
    let (node, user) = (node(&server.pki), user(&server.pki));
    let seen = server.who(Some(&node)).await.unwrap();
    assert_eq!(seen, "node edge-01 expired=false");
    assert_eq!(server.who(Some(&user)).await.unwrap(), "user alice");
    assert_eq!(server.who(None).await.unwrap(), "anonymous");
}

#[tokio::test]
async fn the_key_exchange_is_hybrid() {
    let server = Running::start("").await;
    let stream = server.connect(None).await.unwrap();
    let (_, session) = stream.get_ref();
    let group = session.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn a_chain_ends_in_the_ca_that_a_token_names() {
    let server = Running::start("").await;
    let stream = server.connect(None).await.unwrap();
    let (_, session) = stream.get_ref();
    let last = session.peer_certificates().unwrap().last().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, last);
    assert_eq!(digest.as_ref(), server.pki.ca_fingerprint());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_with_the_reason_in_the_log() {
    let server = Running::start("").await;
    let mut lines = Lines::listen();
    let (foreign, _) = Pki::create(TrustDomain::default()).unwrap();
    let stream = server.connect(Some(&node(&foreign))).await.unwrap();
    let from = stream.get_ref().0.local_addr().unwrap();
    let error = refusal(stream).await.to_string();
    assert!(error.contains("alert"), "{error}");
    let line = lines.next().await;
    assert!(line.contains("not signed by this hub's CA"), "{line}");
    assert!(line.contains(&from.to_string()), "{line}");
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused_with_the_reason_in_the_log() {
    let (pki, key) = Pki::create(TrustDomain::default()).unwrap();
    let other = "other.internal".parse().unwrap();
    let other = Pki::from_pem(pki.trust_bundle_pem(), &key, other).unwrap();
    let foreign = node(&other);
    let server = Running::with(pki, "", Router::new()).await;
    let mut lines = Lines::listen();
    refusal(server.connect(Some(&foreign)).await.unwrap()).await;
    let line = lines.next().await;
    assert!(
        line.contains("not one of this hub's trust domain"),
        "{line}"
    );
}

#[tokio::test]
async fn a_server_certificate_is_refused_as_a_client_certificate() {
    let server = Running::start("").await;
    let mut lines = Lines::listen();
    let own = server
        .pki
        .issue_server(&["localhost".into()], HOUR)
        .unwrap()
        .remove(0);
    let own = Identity {
        chain: own.chain,
        key: own.key,
    };
    refusal(server.connect(Some(&own)).await.unwrap()).await;
    let line = lines.next().await;
    assert!(line.contains("not one for clients"), "{line}");
}

#[tokio::test]
async fn only_http2_is_spoken() {
    let server = Running::start("").await;
    let mut lines = Lines::listen();
    let refused = connect(&server.pki, server.address, None, &[b"http/1.1"]).await;
    assert!(refused.unwrap_err().to_string().contains("alert"));
    assert!(lines.next().await.contains("refused"));

    let mut silent = connect(&server.pki, server.address, None, &[])
        .await
        .unwrap();
    silent.read_to_end(&mut Vec::new()).await.ok();
    let line = lines.next().await;
    assert!(line.contains("ALPN h2"), "{line}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go_of() {
    let server = Running::start("limits: {handshake_timeout: 20ms}").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused_and_the_next_one_is_served() {
    use tokio::io::AsyncWriteExt;
    let server = Running::start("").await;
    let mut lines = Lines::listen();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.ok();
    assert!(lines.next().await.contains("refused"));
    assert_eq!(server.who(None).await.unwrap(), "anonymous");
}

#[tokio::test]
async fn a_connection_more_than_the_limit_waits_for_one_to_end() {
    let server = Running::start("limits: {max_connections: 1}").await;
    let mut first = speak(server.connect(None).await.unwrap()).await.unwrap();
    ask(&mut first, "/who").await.unwrap();
    let mut second = std::pin::pin!(server.who(None));
    // The first is served for as long as it is there; the second makes no way.
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = &mut second => panic!("the second connection was served beside the first"),
            answer = ask(&mut first, "/who") => assert_eq!(answer.unwrap().status(), StatusCode::OK),
        }
    }
    drop(first);
    assert_eq!(second.await.unwrap(), "anonymous");
}

#[tokio::test]
async fn stopping_lets_a_request_under_way_end_and_accepts_no_other() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (go, gate) = tokio::sync::watch::channel(false);
    let slow = get(move || {
        let (arrived, mut gate) = (arrived.clone(), gate.clone());
        async move {
            arrived.send(()).unwrap();
            gate.wait_for(|open| *open).await.unwrap();
            "done"
        }
    });
    let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
    let server = Running::with(pki, "", Router::new().route("/slow", slow)).await;
    let mut client = speak(server.connect(None).await.unwrap()).await.unwrap();
    let answer = tokio::spawn(async move { text(ask(&mut client, "/slow").await?).await });
    arrivals.recv().await.unwrap();

    server.stop.graceful.cancel();
    // The listener is gone once a connection is refused.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.served.is_finished());
    go.send(true).unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), "done");
    server.served.await.unwrap();
}

#[tokio::test]
async fn stopping_at_once_waits_for_nobody() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let stuck = get(move || {
        arrived.send(()).unwrap();
        pending::<Body>()
    });
    let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
    let server = Running::with(pki, "", Router::new().route("/stuck", stuck)).await;
    let mut client = speak(server.connect(None).await.unwrap()).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut client, "/stuck").await.map(|_| ()) });
    arrivals.recv().await.unwrap();
    server.stop.graceful.cancel();
    server.stop.immediate.cancel();
    server.served.await.unwrap();
    assert!(answer.await.unwrap().is_err());
}

#[tokio::test]
async fn no_request_outlives_the_certificate_of_its_connection() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let endless = get(move || {
        arrived.send(()).unwrap();
        pending::<Body>()
    });
    let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
    let router = Router::new().route("/endless", endless);
    let server = Running::with(pki, "limits: {shutdown_timeout: 0s}", router).await;
    let (org, user) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
    let brief = Duration::from_secs(12);
    let identity = identity(|csr| server.pki.issue_user(csr, &org, &user, brief).unwrap());
    let mut client = speak(server.connect(Some(&identity)).await.unwrap())
        .await
        .unwrap();
    let mut answer = tokio::spawn(async move { ask(&mut client, "/endless").await.map(|_| ()) });
    tokio::select! {
        _ = arrivals.recv() => {}
        ended = &mut answer => panic!("it ends before it arrives: {ended:?}"),
    }
    assert!(answer.await.unwrap().is_err());
}

#[tokio::test]
async fn who_is_unknown_has_few_requests_at_once() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let waiting = get({
        let gate = Arc::clone(&gate);
        move || async move {
            arrived.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            "done"
        }
    });
    let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
    let router = Router::new().route("/waiting", waiting);
    let server = Running::with(pki, "", router).await;
    let mut client = speak(server.connect(None).await.unwrap()).await.unwrap();
    // By its end the client has the server's settings.
    text(ask(&mut client, "/who").await.unwrap()).await.unwrap();
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { text(ask(&mut client, "/waiting").await?).await })
        })
        .collect();
    // Two are there, and one more comes for each that is let go.
    let mut under_way = 0;
    for _ in 0..20 {
        while arrivals.try_recv().is_ok() {
            under_way += 1;
        }
        if under_way == 0 {
            arrivals.recv().await.unwrap();
            under_way += 1;
        }
        assert!(under_way <= 2, "{under_way} requests at once");
        gate.add_permits(1);
        under_way -= 1;
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap(), "done");
    }
}

/// More than a reader takes by itself: its window for all of a connection is 5 MiB.
async fn very_long() -> Body {
    Body::from(vec![7; LONG])
}
const LONG: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn who_stops_reading_an_answer_is_cut_off_and_nobody_else() {
    let (pki, _) = Pki::create(TrustDomain::default()).unwrap();
    let router = Router::new().route("/big", get(very_long)).route(
        "/watch",
        get(|| async {
            Body::from_stream(futures_util::stream::pending::<io::Result<bytes::Bytes>>())
        }),
    );
    let server = Running::with(pki, "limits: {reader_timeout: 8s}", router).await;
    let node = node(&server.pki);
    // One that waits for news reads nothing and is well.
    let mut patient = speak(server.connect(Some(&node)).await.unwrap())
        .await
        .unwrap();
    let watch = ask(&mut patient, "/watch").await.unwrap();

    let stream = server.connect(Some(&node)).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let unread = ask(&mut client, "/big").await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    // Nothing but the server ends it: the answer is held, and nothing of it is read.
    connection.await.unwrap().ok();
    drop(unread);

    let read = ask(&mut patient, "/big").await.unwrap();
    let whole = read.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole.len(), LONG);
    drop(watch);
}

#[tokio::test]
async fn an_address_has_so_many_unknown_connections_and_the_known_do_not_count() {
    let server = Running::start("limits: {max_unknown_per_address: 2}").await;
    let node = node(&server.pki);
    let mut known = Vec::new();
    for _ in 0..3 {
        let mut client = speak(server.connect(Some(&node)).await.unwrap())
            .await
            .unwrap();
        ask(&mut client, "/who").await.unwrap();
        known.push(client);
    }
    let silent = TcpStream::connect(server.address).await.unwrap();
    let anonymous = speak(server.connect(None).await.unwrap()).await.unwrap();
    assert!(server.connect(None).await.is_err(), "a third one");
    assert!(
        server.connect(Some(&node)).await.is_err(),
        "it is unknown yet"
    );
    drop(silent);
    drop(anonymous);
    // As soon as the server has seen them go.
    while server.who(None).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        server.who(Some(&node)).await.unwrap(),
        "node edge-01 expired=false"
    );
    for client in &mut known {
        ask(client, "/who").await.unwrap();
    }
}

/// It is let in to hear why, and is as welcome as nobody.
#[tokio::test]
async fn connections_of_certificates_that_count_no_more_count_as_unknown() {
    let server = Running::start("limits: {max_unknown_per_address: 2}").await;
    let (org, name) = ("myorg".parse().unwrap(), REVOKED.parse().unwrap());
    let revoked = identity(|csr| server.pki.issue_node(csr, &org, &name, HOUR).unwrap());
    let node = node(&server.pki);
    let mut open = Vec::new();
    for _ in 0..2 {
        let client = server.connect(Some(&revoked)).await.unwrap();
        let mut client = speak(client).await.unwrap();
        let answer = ask(&mut client, "/who").await.unwrap();
        let said = text(answer).await.unwrap();
        assert_eq!(said, "node revoked expired=false");
        open.push(client);
    }
    assert!(server.connect(Some(&revoked)).await.is_err(), "a third one");
    open.pop();
    // As soon as the server has seen it go.
    while server.who(Some(&node)).await.is_err() {
        tokio::task::yield_now().await;
    }
    ask(&mut open[0], "/who").await.unwrap();
}
