//! A small HTTP/2 client for one hub: one connection, made when it is first needed and again after
//! it was lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edge_secrets_protocol::{OrgId, Problem, SecretVersion, UserId};
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::context::{Context, HubUrl};
use crate::error::Error;

use connection::Connection;
pub(crate) use edge_secrets_hub::route::{Route as Target, at};

mod connection;

mod tls;

/// Talks to the context's hub.
pub(crate) struct Client {
    hub: HubUrl,
    org: OrgId,
    user: UserId,
    connector: TlsConnector,
    connection: Option<Connection>,
}

impl Client {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// When the context's certificate, key or CA cannot be used.
    pub(crate) fn new(context: &Context) -> Result<Self, Error> {
        Ok(Self {
            hub: context.hub.clone(),
            org: context.org.clone(),
            user: context.user.clone(),
            connector: TlsConnector::from(Arc::new(tls::config(context)?)),
            connection: None,
        })
    }

    /// The hub.
    pub(crate) fn hub(&self) -> &HubUrl {
        &self.hub
    }

    /// The organisation that requests are about.
    pub(crate) fn org(&self) -> &OrgId {
        &self.org
    }

    /// The user that the context names.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// `GET`.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, target: Target) -> Result<T, Error> {
        self.call(Method::GET, target, None, REQUEST_TIMEOUT).await
    }

    /// `GET` of what the hub may hold back for up to `wait`.
    pub(crate) async fn poll<T: DeserializeOwned>(
        &mut self,
        target: Target,
        wait: Duration,
    ) -> Result<T, Error> {
        self.call(Method::GET, target, None, wait + REQUEST_TIMEOUT)
            .await
    }

    /// `PUT`, `PATCH` or `POST` of a JSON body.
    pub(crate) async fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: Target,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.send_over(method, target, body, None).await
    }

    /// The same, done only while `version` is the one that stands there, where one is named.
    pub(crate) async fn send_over<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: Target,
        body: &impl Serialize,
        version: Option<&SecretVersion>,
    ) -> Result<T, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|_| Error::Failed("the request cannot be written as JSON".to_owned()))?;
        let body = Content {
            media_type: JSON,
            bytes: bytes.into(),
            if_match: version.map(|version| format!("\"{version}\"")),
        };
        self.call(method, target, Some(body), REQUEST_TIMEOUT).await
    }

    /// `PUT` or `POST` of a document as it is.
    pub(crate) async fn send_document<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: Target,
        media_type: &'static str,
        document: Bytes,
    ) -> Result<T, Error> {
        let body = Content {
            media_type,
            bytes: document,
            if_match: None,
        };
        self.call(method, target, Some(body), REQUEST_TIMEOUT).await
    }

    /// A request without a body.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: Target,
    ) -> Result<T, Error> {
        self.call(method, target, None, REQUEST_TIMEOUT).await
    }

    /// A request without a body, whose answer says nothing but that it is done.
    pub(crate) async fn command(&mut self, method: Method, target: Target) -> Result<(), Error> {
        self.exchange(method, &target, None, REQUEST_TIMEOUT)
            .await
            .map(drop)
    }

    /// Ends the connection in good order, if the hub is quick to follow.
    pub(crate) async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: Target,
        body: Option<Content>,
        patience: Duration,
    ) -> Result<T, Error> {
        let answer = self
            .exchange(method.clone(), &target, body, patience)
            .await?;
        // What the parser has to say may quote the answer: it is left out.
        serde_json::from_slice(&answer)
            .map_err(|_| Error::Answer(format!("{method} {}", target.path())))
    }

    async fn exchange(
        &mut self,
        method: Method,
        target: &Target,
        body: Option<Content>,
        patience: Duration,
    ) -> Result<Bytes, Error> {
        let request = self.request(method, target, body)?;
        let mut connection = match self.connection.take() {
            Some(connection) if connection.is_open() => connection,
            _ => Connection::open(&self.hub, &self.connector).await?,
        };
        let answered = timeout(patience, async {
            let response = connection.send(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, read(response.into_body(), MAX_ANSWER).await?))
        });
        let (status, answer) = match answered.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(connection.explain(&self.hub, &error).await),
            Err(_) => {
                return Err(Error::Unavailable {
                    hub: self.hub.as_str().to_owned(),
                    reason: format!("no answer within {} s", patience.as_secs()),
                });
            }
        };
        self.connection = Some(connection);
        let Some(answer) = answer else {
            return Err(Error::Failed(format!(
                "the hub's answer is larger than {} MiB; ask for less",
                MAX_ANSWER >> 20
            )));
        };
        if status.is_success() {
            Ok(answer)
        } else {
            Err(self.problem(status, &answer))
        }
    }

    fn request(
        &self,
        method: Method,
        target: &Target,
        body: Option<Content>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.hub.as_str(), target.as_str()))
            .header(ACCEPT, "application/json, application/problem+json");
        let (request, body) = match body {
            Some(Content {
                media_type,
                bytes,
                if_match,
            }) => {
                let request = request.header(CONTENT_TYPE, media_type);
                let request = match if_match {
                    Some(tag) => request.header(IF_MATCH, tag),
                    None => request,
                };
                (request, bytes)
            }
            None => (request, Bytes::new()),
        };
        request
            .body(Full::new(body))
            .map_err(|_| Error::Usage(format!("{} is not a path", target.path())))
    }

    fn problem(&self, status: StatusCode, answer: &[u8]) -> Error {
        if let Ok(problem) = serde_json::from_slice::<Problem>(answer) {
            return problem.into();
        }
        let hub = self.hub.as_str().to_owned();
        if status.is_server_error() {
            let reason = format!("it answered HTTP {status} without saying why");
            return Error::Unavailable { hub, reason };
        }
        Error::Failed(format!(
            "what answers at {hub} does not look like an edge-secrets hub: HTTP {status}"
        ))
    }
}

/// What is sent with a request.
struct Content {
    media_type: &'static str,
    bytes: Bytes,
    if_match: Option<String>,
}

/// The body; `None` when it is larger than `most`.
async fn read<B>(mut body: B, most: usize) -> Result<Option<Bytes>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut answer = BytesMut::with_capacity(announced.min(most));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if answer.len() + data.len() > most {
                return Ok(None);
            }
            answer.extend_from_slice(&data);
        }
    }
    Ok(Some(answer.freeze()))
}

const JSON: &str = "application/json";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A list of a hundred thousand nodes fits.
const MAX_ANSWER: usize = 64 << 20;

#[cfg(test)]
mod tests;
