//! One HTTP/2 connection over mutual TLS.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{self, Recorder};
use crate::context::HubUrl;
use crate::error::Error;

/// An open connection.
pub(super) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
    /// What TLS had to say last; HTTP keeps no more of it than its text.
    fault: Arc<OnceLock<rustls::Error>>,
}

impl Connection {
    /// Connects, within a bound.
    ///
    /// # Errors
    /// When nothing answers there, or what answers is not the hub.
    pub(super) async fn open(hub: &HubUrl, connector: &TlsConnector) -> Result<Self, Error> {
        timeout(CONNECT_TIMEOUT, Self::connect(hub, connector))
            .await
            .unwrap_or_else(|_| {
                Err(unavailable(
                    hub,
                    format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
                ))
            })
    }

    async fn connect(hub: &HubUrl, connector: &TlsConnector) -> Result<Self, Error> {
        let stream = TcpStream::connect((hub.host(), hub.port()))
            .await
            .map_err(|error| unavailable(hub, error))?;
        // A request is one small write: it must not wait for the acknowledgement of another.
        stream
            .set_nodelay(true)
            .map_err(|error| unavailable(hub, error))?;
        let stream = connector
            .connect(hub.server_name(), stream)
            .await
            .map_err(|error| match tls::fault_in(&error) {
                Some(fault) => tls::explain(hub, fault),
                None => unavailable(hub, error),
            })?;
        if stream.get_ref().1.alpn_protocol() != Some(tls::HTTP2) {
            return Err(Error::Untrusted {
                hub: hub.as_str().to_owned(),
                reason: "what answers there does not speak HTTP/2 and is no hub".to_owned(),
            });
        }
        let fault = Arc::default();
        let stream = TokioIo::new(Recorder::new(stream, Arc::clone(&fault)));
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream)
            .await
            .map_err(|error| unavailable(hub, error))?;
        Ok(Self {
            requests,
            driver: tokio::spawn(connection),
            fault,
        })
    }

    /// Whether requests can be sent, as far as it is known.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.requests.ready().await?;
        self.requests.send_request(request).await
    }

    /// Why a request failed: the connection knows better than the request.
    pub(super) async fn explain(self, hub: &HubUrl, error: &hyper::Error) -> Error {
        let ended = timeout(CLOSE_TIMEOUT, self.driver).await;
        if let Some(fault) = self.fault.get() {
            return tls::explain(hub, fault);
        }
        match ended {
            Ok(Ok(Err(cause))) => unavailable(hub, chain(&cause)),
            _ => unavailable(hub, chain(error)),
        }
    }

    /// Says good-bye, and waits a little until it is said.
    pub(super) async fn close(self) {
        drop(self.requests);
        timeout(CLOSE_TIMEOUT, self.driver).await.ok();
    }
}

fn unavailable(hub: &HubUrl, reason: impl ToString) -> Error {
    Error::Unavailable {
        hub: hub.as_str().to_owned(),
        reason: reason.to_string(),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Finds a connection that is dead without having said so, as the agent does.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
