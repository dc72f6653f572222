//! One connection: TLS, then HTTP/2 until it ends, its certificate does, or the hub stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service;
use tracing::{debug, info, warn};

use super::crowd::Place;
use super::steady::Readers;
use super::{Acquaintance, Stop, tls, verifier};
use crate::api::exchange::Exchange;
use crate::api::peer::{Connected, Peer};
use crate::clock;
use crate::config::TrustDomain;
use crate::pki::identity::{ClientCertificate, Principal};

/// What all connections share.
pub(super) struct Settings {
    pub(super) tls: TlsAcceptor,
    pub(super) router: Router,
    pub(super) acquaintance: Arc<dyn Acquaintance>,
    pub(super) trust_domain: TrustDomain,
    pub(super) renewal_grace: Duration,
    pub(super) handshake_timeout: Duration,
    pub(super) max_streams: u32,
    /// For how long a piece of an answer may lie unread.
    pub(super) reader_timeout: Duration,
    /// How long requests under way may still take when the connection is over.
    pub(super) drain: Duration,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    settings: &Settings,
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    stop: &Stop,
) {
    // Without it, small answers wait for the peer's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%address, %error, "A connection ended at once.");
        return;
    }
    // Both are large and live one after the other, the second for very long: on the heap neither
    // takes room while the other runs.
    let Some(stream) = Box::pin(shake_hands(settings, stream, address)).await else {
        return;
    };
    let client = client(settings, &stream);
    let known = match &client {
        Ok(Some(certificate)) => settings.acquaintance.knows(certificate).await,
        _ => false,
    };
    // Whoever is known does not count from here on.
    let _place = Some(place).filter(|_| !known);
    match client {
        Ok(client) => {
            let client = Client {
                certificate: client,
                known,
            };
            Box::pin(speak(settings, stream, address, client, stop)).await;
        }
        Err(reason) => warn!(%address, reason, "TLS connection refused."),
    }
}

/// Who is at the other end.
struct Client {
    certificate: Option<ClientCertificate>,
    /// Whether the certificate counts. One that was revoked, or that another has replaced, is let in to hear so.
    known: bool,
}

async fn shake_hands(
    settings: &Settings,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let handshake = settings.tls.accept(stream).into_fallible();
    match timeout(settings.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, stream))) => {
            // The peer's own fault is news; a peer that merely went away is not.
            match error.get_ref().and_then(|error| error.downcast_ref()) {
                Some(fault) => {
                    let reason = verifier::reason(fault);
                    warn!(%address, reason, "TLS connection refused.");
                }
                None => debug!(%address, %error, "A connection ended in its TLS handshake."),
            }
            part(stream).await;
            None
        }
        Err(_) => {
            warn!(%address, reason = "the handshake did not end in time", "TLS connection refused.");
            None
        }
    }
}

/// Closes so that the peer can read why. Closing at once would send a reset for what it has sent
/// meanwhile, and the reset overtakes the alert.
async fn part(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await.ok();
        let mut scrap = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut scrap).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(1), drain).await.ok();
}

/// The client's certificate, which the verifier has let in; `None` for who came without.
fn client(
    settings: &Settings,
    stream: &TlsStream<TcpStream>,
) -> Result<Option<ClientCertificate>, &'static str> {
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(tls::ALPN) {
        return Err("the peer does not offer HTTP/2 (ALPN h2)");
    }
    let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) else {
        return Ok(None);
    };
    ClientCertificate::parse(certificate, &settings.trust_domain)
        .map(Some)
        .map_err(|_| "the certificate names no identity of this hub")
}

async fn speak(
    settings: &Settings,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    client: Client,
    stop: &Stop,
) {
    let life = life(&client, settings.renewal_grace, clock::now());
    let Client {
        certificate: client,
        known,
    } = client;
    let exchange = Exchange::default();
    let readers = Readers::default();
    let streams = match known {
        true => settings.max_streams,
        false => settings.max_streams.min(ANONYMOUS_STREAMS),
    };
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(exchange.clone());
        request.extensions_mut().insert(Connected {
            peer: peer(client.as_ref(), clock::now()),
            address,
        });
        answer(settings.router.clone(), request, readers.clone())
    });
    let mut connection = Box::pin(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(streams)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service),
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.graceful.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = readers.stalled(settings.reader_timeout) => {
            info!(%address, "A reader stopped reading; its connection is cut.");
            return;
        }
        () = sleep(life) => {
            debug!(%address, "A connection ends with its certificate.");
            connection.as_mut().graceful_shutdown();
            // A watch never ends by itself, and a peer can ignore that no new request is wanted.
            let Ok(ended) = timeout(settings.drain, connection).await else {
                debug!(%address, "Requests did not end with their connection's certificate; cut.");
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        debug!(%address, %error, "A connection broke.");
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    readers: Readers,
) -> Result<Response<Body>, Infallible> {
    let mut service = Pin::new(&mut router);
    poll_fn(|context| Service::<Request<Incoming>>::poll_ready(&mut *service, context)).await?;
    let answer = service.call(request).await?;
    Ok(answer.map(|body| readers.watch(body)))
}

/// For how long a connection may be used. No connection outlives its certificate; one without a
/// certificate that counts is for one enrolment, or to hear that it does not count.
fn life(client: &Client, grace: Duration, now: Timestamp) -> Duration {
    let most = if client.known { LONGEST } else { ANONYMOUS };
    let Some(client) = &client.certificate else {
        return ANONYMOUS;
    };
    let grace = match client.principal {
        Principal::Node { .. } => grace,
        Principal::User { .. } => Duration::ZERO,
    };
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    let left = client.not_after.duration_since(now).saturating_add(grace);
    Duration::try_from(left).unwrap_or(Duration::ZERO).min(most)
}

fn peer(client: Option<&ClientCertificate>, now: Timestamp) -> Peer {
    let Some(ClientCertificate {
        principal,
        serial,
        not_after,
    }) = client
    else {
        return Peer::Anonymous;
    };
    match principal.clone() {
        Principal::Node { org, node } => Peer::Node {
            org,
            node,
            serial: serial.clone(),
            expired: *not_after < now,
        },
        Principal::User { org, user } => Peer::User {
            org,
            user,
            serial: serial.clone(),
        },
    }
}

/// The runtime's timers end after about two years.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const ANONYMOUS: Duration = Duration::from_secs(60);
/// One enrolment, and another one for good measure: who is unknown gets no room for many bodies.
const ANONYMOUS_STREAMS: u32 = 2;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_HEADERS: u32 = 16 * 1024;
/// The protocol's default. Nodes send little, and each connection may cost this much.
const WINDOW: u32 = 64 * 1024 - 1;
const SEND_BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(principal: Principal, left: i64) -> (ClientCertificate, Timestamp) {
        let now = clock::now();
        let not_after = now + SignedDuration::from_secs(left);
        let serial = "4a".into();
        let certificate = ClientCertificate {
            principal,
            serial,
            not_after,
        };
        (certificate, now)
    }

    fn node() -> Principal {
        Principal::Node {
            org: "o".parse().unwrap(),
            node: "n".parse().unwrap(),
        }
    }

    fn user() -> Principal {
        Principal::User {
            org: "o".parse().unwrap(),
            user: "u".parse().unwrap(),
        }
    }

    #[test]
    fn no_connection_outlives_its_certificate() {
        let grace = Duration::from_secs(100);
        for (principal, left, expected) in [
            (node(), 50, 150),
            (node(), -50, 50),
            (node(), -150, 0),
            (user(), 50, 50),
            (user(), -50, 0),
        ] {
            let (certificate, now) = certificate(principal, left);
            for known in [true, false] {
                let most = if known { LONGEST } else { ANONYMOUS };
                let client = Client {
                    certificate: Some(certificate.clone()),
                    known,
                };
                let life = life(&client, grace, now);
                let expected = Duration::from_secs(expected).min(most);
                assert_eq!(life, expected, "{certificate:?} {known}");
            }
        }
        let nobody = Client {
            certificate: None,
            known: false,
        };
        assert_eq!(life(&nobody, grace, clock::now()), ANONYMOUS);
    }

    #[test]
    fn a_certificate_can_expire_while_its_connection_is_open() {
        let (certificate, now) = certificate(node(), 1);
        let expired = |at| match peer(Some(&certificate), at) {
            Peer::Node { expired, .. } => expired,
            other => panic!("{other:?}"),
        };
        assert!(!expired(now));
        assert!(expired(now + SignedDuration::from_secs(2)));
    }
}
