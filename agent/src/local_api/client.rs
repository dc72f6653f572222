//! The other end of the local socket, for the command line.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::Problem;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{MAX_WAIT, METRICS, REFRESH, SERVICES, STATUS, WAIT, WaitAnswer, WaitRequest};
use crate::app::AbortOnDrop;
use crate::status::{AgentStatus, ServiceStatus};

/// Why the agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not run.
    #[error("the agent does not run (nobody answers at {0}): start edge-secrets-agent.service")]
    NotRunning(String),
    /// This user may not ask.
    #[error("{0} may be used by root and the socket's group only: use sudo, or join the group")]
    Denied(String),
    /// It refuses.
    #[error("the agent refuses: {0}")]
    Refused(Problem),
    /// It broke off, or said something else than was asked for.
    #[error("the agent's answer is not understood: {0}")]
    Answer(String),
}

/// Asks how things stand.
///
/// # Errors
/// When the agent does not answer.
pub async fn status(socket: &Path) -> Result<AgentStatus, ClientError> {
    ask(socket, Method::GET, STATUS, Bytes::new()).await
}

/// Asks how the services stand.
///
/// # Errors
/// When the agent does not answer.
pub async fn services(socket: &Path) -> Result<Vec<ServiceStatus>, ClientError> {
    ask(socket, Method::GET, SERVICES, Bytes::new()).await
}

/// Asks the agent to look again at its files and its hub. It has heard, not done, when this ends.
///
/// # Errors
/// When the agent does not answer.
pub async fn refresh(socket: &Path) -> Result<(), ClientError> {
    call(socket, Method::POST, REFRESH, Bytes::new()).await?;
    Ok(())
}

/// The metrics as text.
///
/// # Errors
/// When the agent does not answer.
pub async fn metrics(socket: &Path) -> Result<String, ClientError> {
    let body = call(socket, Method::GET, METRICS, Bytes::new()).await?;
    String::from_utf8(body.into()).map_err(|_| ClientError::Answer("it is no text".into()))
}

/// Waits until a service is applied, at most so long; says how things stand then.
///
/// # Errors
/// When the agent does not answer.
pub async fn wait(
    socket: &Path,
    service: &str,
    limit: Duration,
) -> Result<WaitAnswer, ClientError> {
    let request = WaitRequest {
        service: service.to_owned(),
        timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    };
    let body = serde_json::to_vec(&request).map_err(|e| ClientError::Answer(e.to_string()))?;
    ask(socket, Method::POST, WAIT, body.into()).await
}

async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<T, ClientError> {
    let body = call(socket, method, path, body).await?;
    serde_json::from_slice(&body).map_err(|_| ClientError::Answer("it is of another kind".into()))
}

/// The body of an answer that is no refusal.
async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, ClientError> {
    let shown = socket.display().to_string();
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied(shown),
            _ => ClientError::NotRunning(shown),
        })?;
    let broken = |error: hyper::Error| ClientError::Answer(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let _driver = AbortOnDrop::new(tokio::spawn(async {
        // What goes wrong here shows at the call.
        connection.await.ok();
    }));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|error| ClientError::Answer(error.to_string()))?;
    let call = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| ClientError::Answer(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let (status, body) = timeout(MAX_WAIT + SLACK, call)
        .await
        .unwrap_or_else(|_| Err(ClientError::Answer("it takes too long".into())))?;
    if status.is_success() {
        return Ok(body);
    }
    Err(match serde_json::from_slice(&body) {
        Ok(problem) => ClientError::Refused(problem),
        Err(_) => ClientError::Answer(format!("HTTP status {status}")),
    })
}

const MAX_ANSWER: usize = 16 * 1024 * 1024;
const SLACK: Duration = Duration::from_secs(5);
