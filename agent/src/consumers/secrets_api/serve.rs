//! One consumer's socket: connections, their TLS, and their bounds. A connection serves one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::answer::{Answers, MAX_WAIT};
use super::pace::Pace;
use crate::places::{Bounds, Place, Places};

/// Serves until the room is closed; then who is being answered has a moment to take it.
pub(super) async fn serve(
    listener: UnixListener,
    tls: Arc<ServerConfig>,
    answers: Answers,
    places: Places,
    caller: u32,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    let mut pace = Pace::new(Instant::now());
    // Others stand in the socket's queue meanwhile.
    let mut resume = Instant::now();
    loop {
        let next = async {
            sleep_until(resume.into()).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = answers.room.closed() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let now = Instant::now();
                resume = now + pace.take(now);
                let place = places.take(caller);
                connections.spawn(converse(stream, acceptor.clone(), answers.clone(), place));
                // Who is there already comes before who comes next.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                let consumer = answers.room.consumer();
                warn!(%consumer, %error, "A secrets API cannot take a connection.");
                resume = Instant::now() + ACCEPT_RETRY;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    timeout(TAKE, all).await.ok();
}

async fn converse(stream: UnixStream, acceptor: TlsAcceptor, answers: Answers, place: Place) {
    let consumer = answers.room.consumer().clone();
    let place = Arc::new(place);
    let talk = async {
        let stream = match timeout(HEAD, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return debug!(%consumer, %error, "A connection to a secrets API failed.");
            }
            Err(_) => return debug!(%consumer, "A connection to a secrets API said nothing."),
        };
        let answered = Arc::new(Notify::new());
        let service = service_fn(|request| {
            let (answers, place, answered) = (answers.clone(), place.clone(), answered.clone());
            async move {
                let answer = answers.to(&request, &place).await;
                answered.notify_one();
                Ok::<_, Infallible>(answer)
            }
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let too_slow = async {
            timeout(HEAD + MAX_WAIT, answered.notified()).await.ok();
            sleep(TAKE).await;
        };
        tokio::select! {
            ended = conversation => if let Err(error) = ended {
                debug!(%consumer, %error, "A call of a secrets API was broken off.");
            },
            () = too_slow => debug!(%consumer, "A call of a secrets API took too long."),
        }
    };
    tokio::select! {
        () = talk => {}
        () = place.displaced() => {
            debug!(%consumer, "A connection to a secrets API made room for newer ones.");
        }
    }
}

/// How many connections there may be, of one consumer and of all.
pub(super) const BOUNDS: Bounds = Bounds {
    short_each: 8,
    short_all: 64,
    waits_each: 8,
    waits_all: 64,
    waits_sure: 1,
};
/// How long a handshake may take, and then the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long the peer may take to read its answer.
const TAKE: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const ACCEPT_RETRY: Duration = Duration::from_millis(500);
