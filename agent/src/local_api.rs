//! What people and programs on this node may ask: HTTP/1.1 over a Unix socket that its group may
//! use. Names, versions and states; never a value, and nothing that changes anything.

mod client;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::problem::CONTENT_TYPE as PROBLEM_TYPE;
use edge_secrets_protocol::{Code, Problem};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

pub use client::{ClientError, status, wait};

use crate::status::{AgentStatus, ServiceStatus};

/// The socket, bound, with nobody served yet. Removed when dropped.
pub struct LocalApi {
    listener: UnixListener,
    path: PathBuf,
    status: watch::Receiver<Arc<AgentStatus>>,
}

/// The body of `POST /v1/wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// `ORG/URL`, or the url alone.
    pub service: String,
    /// How long to wait at most; above 10 minutes it is 10 minutes.
    pub timeout_ms: u64,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// Whether the service is deployed here and each of its deployments is applied.
    pub applied: bool,
    /// Its deployments.
    pub services: Vec<ServiceStatus>,
}

impl LocalApi {
    /// Binds the socket, in the place of one that a former life left. The caller holds the runtime
    /// directory, so that no other agent lives.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn bind(path: &Path, status: watch::Receiver<Arc<AgentStatus>>) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            status,
        })
    }

    /// Serves for ever.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let status = self.status.clone();
                    tokio::spawn(async move {
                        converse(stream, status).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "The local socket cannot take a connection.");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

impl AgentStatus {
    /// A service's deployments, by `ORG/URL` or the url alone.
    pub fn of_service<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ServiceStatus> {
        self.services.iter().filter(move |status| {
            status.service.url.as_str() == name || status.service.to_string() == name
        })
    }
}

async fn converse(stream: UnixStream, status: watch::Receiver<Arc<AgentStatus>>) {
    // Who may connect is what the socket's mode says; the kernel names the peer for the log.
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    debug!(uid, "Local request.");
    let service = service_fn(move |request| {
        let status = status.clone();
        async move { Ok::<_, Infallible>(answer(request, status).await) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(MAX_WAIT + HEADER_TIMEOUT, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "Local request broken off."),
        Err(_) => debug!("Local request took too long."),
    }
}

async fn answer(
    request: Request<Incoming>,
    status: watch::Receiver<Arc<AgentStatus>>,
) -> Response<Full<Bytes>> {
    match (request.uri().path(), request.method()) {
        (STATUS, &Method::GET) => json(StatusCode::OK, JSON, &*status.borrow().clone()),
        (WAIT, &Method::POST) => match read(request).await {
            Ok(request) => json(StatusCode::OK, JSON, &applied(&request, status).await),
            Err(problem) => refuse(&problem),
        },
        (STATUS | WAIT, _) => refuse(&Problem::new(
            Code::MethodNotAllowed,
            "GET /v1/status or POST /v1/wait",
        )),
        _ => refuse(&Problem::new(
            Code::NotFound,
            "there is /v1/status and /v1/wait",
        )),
    }
}

async fn read(request: Request<Incoming>) -> Result<WaitRequest, Problem> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = within(HEADER_TIMEOUT, body)
        .await
        .and_then(Result::ok)
        .ok_or_else(|| Problem::new(Code::TooLarge, "the body is too large or too slow"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Problem::new(Code::BadRequest, error.to_string()))
}

async fn applied(
    request: &WaitRequest,
    mut status: watch::Receiver<Arc<AgentStatus>>,
) -> WaitAnswer {
    let limit = Duration::from_millis(request.timeout_ms).min(MAX_WAIT);
    let look = |status: &AgentStatus| {
        let services: Vec<_> = status.of_service(&request.service).cloned().collect();
        let applied = !services.is_empty() && services.iter().all(ServiceStatus::is_applied);
        WaitAnswer { applied, services }
    };
    // Whatever came of waiting, the answer is how things stand now.
    let _answered = within(limit, status.wait_for(|status| look(status).applied))
        .await
        .is_some();
    let now = status.borrow().clone();
    look(&now)
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

fn refuse(problem: &Problem) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, PROBLEM_TYPE, problem)
}

fn json(
    status: StatusCode,
    media_type: &'static str,
    body: &impl Serialize,
) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

const STATUS: &str = "/v1/status";
const WAIT: &str = "/v1/wait";
const JSON: &str = "application/json";
const MAX_CONNECTIONS: usize = 16;
const MAX_BODY: usize = 4096;
const MAX_HEADERS: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(600);
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
