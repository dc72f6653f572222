//! One connection to the hub and the calls on it. Every call has a deadline and a bound on its
//! answer; the watch alone stays open.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::binding::{
    Bindings, FetchItem, FetchRequest, FetchResponse, FetchResult,
};
use edge_secrets_protocol::enroll::{EnrollRequest, Identity, RenewRequest};
use edge_secrets_protocol::limits::{MAX_BATCH_ITEMS, MAX_RESPONSE};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{Code, Generation, Problem, routes};
use http::header::{ACCEPT, CONTENT_TYPE, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::timer::KernelTimer;
use super::{HubError, TlsFault, WatchStream, border, tls};
use crate::clock::Now;
use crate::config::HubUrl;
use crate::ends::Desired;

/// A connection; clones share it, and it closes with the last of them.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    url: String,
    driver: Arc<Driver>,
}

/// The answer to a pull.
#[derive(Debug)]
pub enum Pulled {
    /// It is as it was.
    Unchanged,
    /// The whole, or a difference to the generation that was named.
    Changed(Desired),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the hub cannot be reached or either side refuses the other in TLS. A refusal of this
    /// node's certificate shows only at the first call: such is TLS 1.3.
    pub async fn open(url: &HubUrl, config: Arc<ClientConfig>) -> Result<Self, HubError> {
        let text = url.to_string();
        within("the connection", CONNECT_TIMEOUT, async {
            let unreachable = |error: std::io::Error| HubError::Unreachable {
                url: text.clone(),
                reason: error.to_string(),
            };
            let tcp = TcpStream::connect((url.host(), url.port()))
                .await
                .map_err(unreachable)?;
            tcp.set_nodelay(true).map_err(unreachable)?;
            let stream = TlsConnector::from(config)
                .connect(url.server_name().clone(), tcp)
                .await
                .map_err(|error| HubError::broken(&text, &error))?;
            if stream.get_ref().1.alpn_protocol() != Some(tls::ALPN) {
                let fault = TlsFault::NotAHub("it does not speak HTTP/2".into());
                return Err(HubError::Tls {
                    url: text.clone(),
                    fault,
                });
            }
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(KernelTimer)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEADERS)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| HubError::broken(&text, &error))?;
            Ok(Self {
                sender,
                driver: Arc::new(Driver::spawn(text.clone(), connection)),
                url: text.clone(),
            })
        })
        .await
    }

    /// `POST /v1/enroll`.
    ///
    /// # Errors
    /// See [`HubError`]; so for all calls.
    pub async fn enroll(&self, request: &EnrollRequest) -> Result<Identity, HubError> {
        self.json("the enrolment", Method::POST, routes::ENROLL, request)
            .await
    }

    /// `POST /v1/renew`.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn renew(&self, request: &RenewRequest) -> Result<Identity, HubError> {
        self.json("the renewal", Method::POST, routes::RENEW, request)
            .await
    }

    /// `PUT /v1/node`.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn put_node(&self, facts: &NodeFacts) -> Result<(), HubError> {
        self.put("the node's facts", routes::NODE, facts).await
    }

    /// `PUT /v1/status`.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn put_status(&self, report: &StatusReport) -> Result<(), HubError> {
        self.put("the status report", routes::STATUS, report).await
    }

    /// `GET /v1/bindings`, as a difference to `known` where that is given and the hub can.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn bindings(&self, known: Option<Generation>) -> Result<Pulled, HubError> {
        let what = "the pull of bindings";
        let path = match known {
            Some(Generation(known)) => format!("{}?since={known}", routes::BINDINGS),
            None => routes::BINDINGS.to_owned(),
        };
        let mut request = self.request(Method::GET, &path, Bytes::new());
        if let Some(tag) = known.and_then(|known| known.etag().parse().ok()) {
            request.headers_mut().insert(IF_NONE_MATCH, tag);
        }
        // Before it is sent: however slow the answer, no life becomes longer by it.
        let asked = Now::read();
        let (status, body) = self.call(what, request).await?;
        if status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Pulled::Unchanged);
        }
        let bindings: Bindings = parse(what, status, &body)?;
        border::check(&bindings).map_err(|reason| HubError::Malformed { what, reason })?;
        Ok(Pulled::Changed(Desired::new(bindings, asked)))
    }

    /// `POST /v1/secrets`, for at most [`MAX_BATCH_ITEMS`]: a result for each item, in their order.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn secrets(&self, items: Vec<FetchItem>) -> Result<Vec<FetchResult>, HubError> {
        let what = "the fetch of secrets";
        let wanted = items.len().min(MAX_BATCH_ITEMS);
        let request = FetchRequest { items };
        let answer: FetchResponse = self
            .json(what, Method::POST, routes::SECRETS, &request)
            .await?;
        if answer.items.len() == wanted {
            let tame = |result| match result {
                FetchResult::Problem(problem) => FetchResult::Problem(border::tame(problem)),
                sealed => sealed,
            };
            Ok(answer.items.into_iter().map(tame).collect())
        } else {
            let reason = "it has another number of items than were asked for";
            Err(HubError::Malformed { what, reason })
        }
    }

    /// `GET /v1/watch`, from `last` on.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn watch(&self, last: Option<Generation>) -> Result<WatchStream, HubError> {
        let what = "the watch";
        let mut request = self.request(Method::GET, routes::WATCH, Bytes::new());
        request.headers_mut().insert(ACCEPT, EVENT_STREAM);
        if let Some(id) = last.and_then(|last| last.to_string().parse().ok()) {
            request.headers_mut().insert("last-event-id", id);
        }
        within(what, READ_TIMEOUT, async {
            let response = within(what, CALL_TIMEOUT, self.send(request)).await?;
            if response.status() == StatusCode::OK {
                return Ok(WatchStream::new(response.into_body(), self.url.clone()));
            }
            let (status, body) = self.read(what, response).await?;
            Err(refused(what, status, &body))
        })
        .await
    }

    async fn put(
        &self,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), HubError> {
        let (status, body) = self
            .call(what, self.json_request(what, Method::PUT, path, body)?)
            .await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(refused(what, status, &body))
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HubError> {
        let request = self.json_request(what, method, path, body)?;
        let (status, body) = self.call(what, request).await?;
        parse(what, status, &body)
    }

    fn json_request(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Request<Full<Bytes>>, HubError> {
        let body = serde_json::to_vec(body).map_err(|_| HubError::Malformed {
            what,
            reason: "the request cannot be written as JSON",
        })?;
        let mut request = self.request(method, path, body.into());
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        Ok(request)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        if let Ok(uri) = format!("{}{path}", self.url).parse() {
            *request.uri_mut() = uri;
        }
        request
    }

    async fn call(
        &self,
        what: &'static str,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), HubError> {
        within(what, READ_TIMEOUT, async {
            let response = within(what, CALL_TIMEOUT, self.send(request)).await?;
            self.read(what, response).await
        })
        .await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HubError> {
        let mut sender = self.sender.clone();
        let sent = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        match sent.await {
            Ok(response) => Ok(response),
            // The driver knows better than the call why a connection ended.
            Err(error) if error.is_canceled() || error.is_closed() => {
                Err(self.driver.reason().await)
            }
            Err(error) => Err(HubError::broken(&self.url, &error)),
        }
    }

    async fn read(
        &self,
        what: &'static str,
        response: Response<Incoming>,
    ) -> Result<(StatusCode, Bytes), HubError> {
        let status = response.status();
        let broken = |error: &_| HubError::broken(&self.url, error);
        let body = collect(what, response.into_body(), broken).await?;
        Ok((status, body))
    }
}

/// A whole answer. It may take long, as long as something comes: over a slow link a batch of values takes
/// minutes, and to begin again would not be faster.
async fn collect<B: Body<Data = Bytes>>(
    what: &'static str,
    body: B,
    broken: impl Fn(&(dyn Error + 'static)) -> HubError,
) -> Result<Bytes, HubError>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(Limited::new(body, MAX_RESPONSE));
    let mut whole = Vec::new();
    loop {
        let next = async { Ok(body.frame().await) };
        match within(what, CALL_TIMEOUT, next).await? {
            None => return Ok(whole.into()),
            Some(Ok(frame)) => whole.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                let reason = "it is larger than 8 MiB";
                return Err(HubError::Malformed { what, reason });
            }
            Some(Err(error)) => return Err(broken(&*error)),
        }
    }
}

/// The task that moves the connection's bytes. It ends with the connection, or when dropped.
struct Driver {
    task: AbortHandle,
    url: String,
    ended: watch::Receiver<Option<Ended>>,
}

/// Why a connection ended.
#[derive(Clone)]
enum Ended {
    Lost(String),
    Tls(TlsFault),
}

impl Driver {
    fn spawn(
        url: String,
        connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static,
    ) -> Self {
        let (sender, ended) = watch::channel(None);
        let task_url = url.clone();
        let task = tokio::spawn(async move {
            let end = match connection.await {
                Ok(()) => Ended::Lost("the hub closed it".into()),
                Err(error) => match HubError::broken(&task_url, &error) {
                    HubError::Tls { fault, .. } => Ended::Tls(fault),
                    HubError::Lost(reason) => Ended::Lost(reason),
                    other => Ended::Lost(other.to_string()),
                },
            };
            sender.send_replace(Some(end));
        });
        Self {
            task: task.abort_handle(),
            url,
            ended,
        }
    }

    /// Why the connection ended; waits for the end.
    async fn reason(&self) -> HubError {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
        match end.ok().flatten() {
            Some(Ended::Tls(fault)) => HubError::Tls {
                url: self.url.clone(),
                fault,
            },
            Some(Ended::Lost(reason)) => HubError::Lost(reason),
            None => HubError::Lost("it was given up".into()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn within<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    timeout(limit, work)
        .await
        .unwrap_or(Err(HubError::Timeout { what, limit }))
}

fn parse<T: DeserializeOwned>(
    what: &'static str,
    status: StatusCode,
    body: &Bytes,
) -> Result<T, HubError> {
    if !status.is_success() {
        return Err(refused(what, status, body));
    }
    serde_json::from_slice(body).map_err(|_| HubError::Malformed {
        what,
        reason: "it is not the JSON that was expected",
    })
}

fn refused(what: &'static str, status: StatusCode, body: &Bytes) -> HubError {
    let problem = serde_json::from_slice(body).unwrap_or_else(|_| {
        let mut problem = Problem::new(Code::Unknown, format!("HTTP status {status}"));
        problem.status = status.as_u16();
        problem
    });
    let problem = border::tame(problem);
    HubError::Refused { what, problem }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the answer begins, and then until more of it comes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Until all of it is there: the largest over 40 kbit/s.
const READ_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Together they find a half-open connection within 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const MAX_HEADERS: u32 = 16 * 1024;
const JSON: http::HeaderValue = http::HeaderValue::from_static("application/json");
const EVENT_STREAM: http::HeaderValue = http::HeaderValue::from_static("text/event-stream");

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::time::sleep;

    use super::*;

    /// Pieces that come so many seconds apart.
    async fn collected(pieces: usize, apart: u64) -> Result<Bytes, HubError> {
        let pieces = stream::unfold(pieces, move |left| async move {
            sleep(Duration::from_secs(apart)).await;
            let left = left.checked_sub(1)?;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from("0123456789"))),
                left,
            ))
        });
        let broken = |error: &(dyn Error + 'static)| HubError::Lost(error.to_string());
        let body = StreamBody::new(pieces);
        within("it", READ_TIMEOUT, collect("it", body, broken)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for_and_a_silent_one_is_not() {
        assert_eq!(collected(20, 25).await.unwrap().len(), 200);
        for (pieces, apart) in [(20, 31), (100, 25)] {
            let error = collected(pieces, apart).await.unwrap_err();
            assert!(matches!(error, HubError::Timeout { .. }), "{error:?}");
        }
    }
}
