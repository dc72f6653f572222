//! What each request is answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::problem::CONTENT_TYPE as PROBLEM_TYPE;
use edge_secrets_protocol::{Code, Problem, ServiceId};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{METRICS, REFRESH, SERVICES, STATUS, WAIT, WaitAnswer, WaitRequest};
use crate::metrics::{self, Counters};
use crate::places::Place;
use crate::status::{AgentStatus, ServiceStatus};

/// What answers are made of.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) status: watch::Receiver<Arc<AgentStatus>>,
    pub(super) refresh: Arc<Notify>,
    pub(super) counters: Arc<Counters>,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Answers {
    /// The answer to one request of a peer that may ask.
    pub(super) async fn to(self, request: Request<Incoming>, place: &Place) -> Answer {
        let path = request.uri().path();
        let (wants, resource) = match path {
            STATUS => (Method::GET, Resource::Status),
            SERVICES => (Method::GET, Resource::Services),
            METRICS => (Method::GET, Resource::Metrics),
            WAIT => (Method::POST, Resource::Wait),
            REFRESH => (Method::POST, Resource::Refresh),
            other => match other
                .strip_prefix(SERVICES)
                .and_then(|p| p.strip_prefix('/'))
            {
                Some(name) => (Method::GET, Resource::Service(name.to_owned())),
                None => {
                    return refuse(&Problem::new(
                        Code::NotFound,
                        "there is /v1/status, /v1/services, /v1/wait, /v1/refresh and /metrics",
                    ));
                }
            },
        };
        if *request.method() != wants {
            let detail = format!("{path} takes {wants} alone");
            let mut answer = refuse(&Problem::new(Code::MethodNotAllowed, detail));
            if let Ok(wants) = HeaderValue::from_str(wants.as_str()) {
                answer.headers_mut().insert(ALLOW, wants);
            }
            return answer;
        }
        let answer = match resource {
            Resource::Status => Ok(json(StatusCode::OK, JSON, &*self.now())),
            Resource::Services => Ok(json(StatusCode::OK, JSON, &self.now().services)),
            Resource::Service(name) => service(&self.now(), &name),
            Resource::Metrics => Ok(self.metrics()),
            Resource::Wait => self.wait(request, place).await,
            Resource::Refresh => {
                // Rung several times it still is one refresh.
                self.refresh.notify_one();
                Ok(json(StatusCode::ACCEPTED, JSON, &serde_json::json!({})))
            }
        };
        answer.unwrap_or_else(|problem| refuse(&problem))
    }

    fn now(&self) -> Arc<AgentStatus> {
        self.status.borrow().clone()
    }

    fn metrics(&self) -> Answer {
        let text = metrics::render(&self.now(), &self.counters);
        respond(StatusCode::OK, metrics::CONTENT_TYPE, text.into())
    }

    async fn wait(self, request: Request<Incoming>, place: &Place) -> Result<Answer, Problem> {
        let request = read(request).await?;
        let Some(_wait) = place.wait() else {
            let detail = "too many calls wait already; try again a little later";
            return Err(Problem::new(Code::RateLimited, detail));
        };
        let answer = applied(&request, self.status).await;
        Ok(json(StatusCode::OK, JSON, &answer))
    }
}

/// An answer that says what is wrong.
pub(super) fn refuse(problem: &Problem) -> Answer {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, PROBLEM_TYPE, problem)
}

enum Resource {
    Status,
    Services,
    Service(String),
    Metrics,
    Wait,
    Refresh,
}

/// `name` is `ORG/URL`, with whatever a path cannot hold written as `%XX`.
fn service(status: &AgentStatus, name: &str) -> Result<Answer, Problem> {
    let bad = |detail: String| Problem::new(Code::BadRequest, detail);
    let name = decode(name).ok_or_else(|| bad("the path has a malformed %XX".into()))?;
    let id: ServiceId = name.parse().map_err(|e| bad(format!("{e}")))?;
    let found: Vec<_> = status.services.iter().filter(|s| s.service == id).collect();
    if found.is_empty() {
        let detail = format!("{id} is not deployed to this node; see `edge-secrets explain`");
        return Err(Problem::new(Code::NotFound, detail));
    }
    Ok(json(StatusCode::OK, JSON, &found))
}

/// Percent-decoding (RFC 3986 §2.1), once.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

async fn read(request: Request<Incoming>) -> Result<WaitRequest, Problem> {
    let media_type = request.headers().get(CONTENT_TYPE);
    let is_json = media_type.is_none_or(|value| {
        let text = value.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(JSON)
    });
    if !is_json {
        let detail = "the body must be application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let too_large = || Problem::new(Code::TooLarge, format!("at most {MAX_BODY} bytes"));
    // What is announced as too large is not waited for.
    if request.body().size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = match within(super::HEADER_TIMEOUT, body).await {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(_)) => return Err(too_large()),
        None => return Err(Problem::new(Code::BadRequest, "the body comes too slowly")),
    };
    serde_json::from_slice(&body).map_err(|error| Problem::new(Code::BadRequest, error.to_string()))
}

async fn applied(
    request: &WaitRequest,
    mut status: watch::Receiver<Arc<AgentStatus>>,
) -> WaitAnswer {
    let limit = Duration::from_millis(request.timeout_ms).min(super::MAX_WAIT);
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

fn json(status: StatusCode, media_type: &'static str, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    respond(status, media_type, body.into())
}

fn respond(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

const JSON: &str = "application/json";
const MAX_BODY: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,40}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn any_text_decodes_or_is_refused(text in "[%0-9a-fA-Zé]{0,20}") {
            let plain = !text.contains('%');
            prop_assert_eq!(decode(&text).is_some_and(|it| it == text), plain);
        }
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for wrong in ["%", "a%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
