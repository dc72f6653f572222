//! One request and its answer: HTTP/1.1 over the engine's Unix socket, bounded in size and time.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Engine, EngineError};
use crate::app::AbortOnDrop;

/// An answer as a whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// A connection for one request. It ends when this is dropped.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Empty<Bytes>>,
    pub(super) driver: AbortOnDrop,
}

impl Engine {
    /// Asks, and takes the whole answer.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Answer, EngineError> {
        let socket = self.socket()?;
        let call = async {
            let Connection {
                mut sender,
                driver: _driver,
            } = connect(socket).await?;
            let response = sender
                .send_request(request(method, path)?)
                .await
                .map_err(|error| EngineError::broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| EngineError::Answer(error.to_string()))?;
            let body = body.to_bytes();
            Ok(Answer { status, body })
        };
        let after = self.pace.answer;
        timeout(after, call).await.unwrap_or_else(|_| {
            let socket = socket.to_owned();
            Err(EngineError::TooSlow { socket, after })
        })
    }

    /// Connects for a request whose answer has no end.
    pub(super) async fn connect(&self) -> Result<Connection, EngineError> {
        let socket = self.socket()?;
        let after = self.pace.answer;
        timeout(after, connect(socket)).await.unwrap_or_else(|_| {
            let socket = socket.to_owned();
            Err(EngineError::TooSlow { socket, after })
        })
    }

    fn socket(&self) -> Result<&Path, EngineError> {
        let there = self.sockets.iter().find(|socket| socket.exists());
        there
            .map(AsRef::as_ref)
            .ok_or_else(|| EngineError::NotThere(self.sockets.to_vec()))
    }
}

impl Answer {
    /// The engine's no, in its own words.
    pub(super) fn refusal(&self, what: &str) -> EngineError {
        refused(what, self.status, &self.body)
    }
}

/// A request without a body.
pub(super) fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, EngineError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Empty::new())
        .map_err(|error| EngineError::Answer(error.to_string()))
}

/// The engine's no, with what it says of it.
pub(super) fn refused(what: &str, status: StatusCode, body: &[u8]) -> EngineError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let message = match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message.chars().take(MAX_MESSAGE).collect::<String>(),
        Err(_) => "it gives no reason".to_owned(),
    };
    EngineError::Refused {
        what: what.to_owned(),
        status: status.as_u16(),
        // What would move a terminal's cursor or end a log's line is shown as an escape.
        message: message.escape_debug().to_string(),
    }
}

async fn connect(socket: &Path) -> Result<Connection, EngineError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| EngineError::connecting(socket, error))?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| EngineError::broken(&error))?;
    let driver = AbortOnDrop::new(tokio::spawn(async {
        // What goes wrong here shows at the request.
        connection.await.ok();
    }));
    Ok(Connection { sender, driver })
}

/// Of an answer that is kept as a whole. An inspected container has a few KiB, and its labels and
/// environment.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const MAX_HEADERS: usize = 64 * 1024;
const MAX_MESSAGE: usize = 300;
