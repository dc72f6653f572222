//! How managers are spoken to: HTTPS with bounds on time and size. What they answer is never quoted.

mod connect;
mod url;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use self::connect::Connector;
pub use self::url::BaseUrl;
use crate::route::Route;
use crate::{Fault, ManagerError};

/// How one manager is reached.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where.
    pub base: BaseUrl,
    /// The CAs to trust, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// For one request and its whole answer.
    pub timeout: Duration,
}

/// One request.
pub struct Request {
    method: Method,
    route: Route,
    headers: HeaderMap,
    body: Option<Secret>,
}

/// A whole answer. It has no `Debug`: its body may hold a value.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Secret,
}

/// Speaks to one manager. Connections are kept open and used again.
pub struct HttpClient {
    base: BaseUrl,
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
}

impl Request {
    /// A request for `route`, below the base.
    #[must_use]
    pub fn new(method: Method, route: Route) -> Self {
        Self {
            method,
            route,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header that is a credential: `prefix` and the text of `secret`.
    ///
    /// # Errors
    /// [`Fault::Unauthenticated`] when it has bytes that no header may have.
    pub fn credential(
        mut self,
        name: HeaderName,
        prefix: &str,
        secret: &Secret,
    ) -> Result<Self, ManagerError> {
        let mut text = Vec::with_capacity(prefix.len() + secret.len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(secret.expose());
        let text = Secret::new(text);
        let mut value = HeaderValue::from_bytes(text.expose()).map_err(|_| {
            ManagerError::new(
                Fault::Unauthenticated,
                "the hub's credential for it has characters that it cannot have",
            )
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sends `body`, of this media type.
    #[must_use]
    pub fn body(mut self, media_type: &'static str, body: Secret) -> Self {
        let value = HeaderValue::from_static(media_type);
        self.headers.insert(header::CONTENT_TYPE, value);
        self.body = Some(body);
        self
    }
}

impl Reply {
    /// Whether the status is one of success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body. Every caller of this name is on the list to audit.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.body.expose()
    }

    /// The body as JSON of this shape, borrowed where it can be.
    ///
    /// # Errors
    /// [`Fault::Malformed`] when it is something else; the body is not quoted.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, ManagerError> {
        if !self.is_json() {
            return Err(self.malformed("is not JSON"));
        }
        serde_json::from_slice(self.expose()).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => self.malformed("has not the shape that it should"),
            _ => self.malformed("is broken JSON"),
        })
    }

    /// What of the body can be read as `T`, for the text of errors alone.
    #[must_use]
    pub fn json_or_none<T: DeserializeOwned>(&self) -> Option<T> {
        let json = self.is_json().then(|| self.expose())?;
        serde_json::from_slice(json).ok()
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the manager wants not to be asked (RFC 9110 §10.2.3, seconds alone), at most an hour.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(&header::RETRY_AFTER)?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(3600)))
    }

    fn is_json(&self) -> bool {
        let sent = self.header(&header::CONTENT_TYPE).unwrap_or_default();
        let media = sent.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("application/json")
            || media.to_ascii_lowercase().ends_with("+json")
    }

    fn malformed(&self, what: &str) -> ManagerError {
        ManagerError::new(
            Fault::Malformed,
            format!(
                "its answer (status {}) {what}: is the address that of such a manager, or of a \
                 proxy before it?",
                self.status
            ),
        )
    }
}

impl HttpClient {
    /// A client for one manager. Nothing is asked yet.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should; the text says which.
    pub fn new(config: &HttpConfig) -> Result<Self, String> {
        let connector = Connector::new(config)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // Whether a request was done once is for the callers to know.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self {
            base: config.base.clone(),
            client,
            timeout: config.timeout,
        })
    }

    /// Where it speaks to.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a request and reads the whole answer, whatever its status. Redirects are answers.
    ///
    /// # Errors
    /// [`Fault::Unreachable`] when the request was certainly not done; [`Fault::TimedOut`] when nobody
    /// knows; [`Fault::TooLarge`] above [`MAX_BODY`].
    pub async fn send(&self, request: Request) -> Result<Reply, ManagerError> {
        self.send_within(request, self.timeout).await
    }

    /// The same, with another bound on time.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_within(
        &self,
        request: Request,
        within: Duration,
    ) -> Result<Reply, ManagerError> {
        let answer = self.exchange(request);
        match timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ManagerError::new(
                Fault::TimedOut,
                format!("no whole answer within {} s", within.as_secs_f32()),
            )),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Reply, ManagerError> {
        let uri = self.base.join(&request.route).ok_or_else(|| {
            ManagerError::new(Fault::Invalid, "the reference makes no address there")
        })?;
        let body = match &request.body {
            // Copied once: the transport wants to own it. The allocator wipes what is freed.
            Some(body) => Full::from(body.expose().to_vec()),
            None => Full::default(),
        };
        let mut outgoing = http::Request::new(body);
        *outgoing.method_mut() = request.method;
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = request.headers;
        outgoing
            .headers_mut()
            .entry(header::ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        outgoing
            .headers_mut()
            .insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let response = self.client.request(outgoing).await.map_err(|error| {
            if error.is_connect() {
                let why = connect::explain(&error);
                ManagerError::new(
                    Fault::Unreachable,
                    format!("no connection to {}: {why}", self.base),
                )
            } else {
                ManagerError::new(Fault::TimedOut, "the connection was lost before the answer")
            }
        })?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(ManagerError::new(
                    Fault::TooLarge,
                    format!("its answer is larger than {MAX_BODY} bytes"),
                ));
            }
            Err(_) => {
                return Err(ManagerError::new(Fault::TimedOut, "its answer broke off"));
            }
        };
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: Secret::new(body.into()),
        })
    }
}

/// Largest answer that is read, in bytes: a page of a thousand secrets' metadata fits.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
const USER_AGENT: &str = concat!("edge-secrets-hub/", env!("CARGO_PKG_VERSION"));
const IDLE: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS: usize = 8;
