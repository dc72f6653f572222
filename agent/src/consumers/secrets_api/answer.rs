//! The calls of Open Horizon's secrets API, with its codes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_secrets_protocol::SecretName;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, RETRY_AFTER,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::credential::Credential;
use super::room::Room;
use crate::local_api::percent_decode;
use crate::metrics::Counters;
use crate::places::Place;

/// What calls are answered from.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) room: Arc<Room>,
    pub(super) credential: Arc<Credential>,
    pub(super) counters: Arc<Counters>,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Answers {
    /// The answer to one request. Bodies are not read: no call needs one.
    pub(super) async fn to<B>(&self, request: &Request<B>, place: &Place) -> Answer {
        let path = request.uri().path();
        let Some(below) = path.strip_prefix(SECRETS) else {
            return say(StatusCode::NOT_FOUND, "there is /api/v1/secrets alone");
        };
        let is_list = below.is_empty();
        if is_list && request.method() != Method::GET {
            return not_allowed("GET");
        }
        if !self.credential.admits(request.headers().get(AUTHORIZATION)) {
            self.counters.api_refused.increment();
            warn!(consumer = %self.room.consumer(), "A call of the secrets API with wrong credentials.");
            return say(StatusCode::FORBIDDEN, "Unauthorized");
        }
        let query = request.uri().query().unwrap_or_default();
        if is_list {
            return self.list(query, place).await;
        }
        let Some(name) = below.strip_prefix('/') else {
            return say(StatusCode::NOT_FOUND, "there is /api/v1/secrets alone");
        };
        if name.is_empty() || name.contains('/') {
            return say(
                StatusCode::BAD_REQUEST,
                "name one secret: /api/v1/secrets/NAME",
            );
        }
        let Some(name) = percent_decode(name) else {
            return say(StatusCode::BAD_REQUEST, "the name has a malformed %XX");
        };
        match *request.method() {
            Method::GET => self.secret(&name, request.headers().get(IF_NONE_MATCH)),
            Method::POST => self.receive(&name, query),
            _ => not_allowed("GET, POST"),
        }
    }

    /// The names of what has changed; waits for some where it is asked to.
    async fn list(&self, query: &str, place: &Place) -> Answer {
        let Some(wait) = value_of(query, "wait").map_or(Some(Duration::ZERO), seconds) else {
            return say(StatusCode::BAD_REQUEST, "wait is a whole number of seconds");
        };
        // First, so that nothing falls between the look and the wait.
        let mut bell = self.room.bell();
        let mut updated = self.room.updated();
        if updated.is_empty() && !wait.is_zero() {
            let Some(_wait) = place.wait() else {
                let detail = "too many calls wait already";
                let mut answer = say(StatusCode::TOO_MANY_REQUESTS, detail);
                header(&mut answer, RETRY_AFTER, HeaderValue::from_static("5"));
                return answer;
            };
            let end = Instant::now() + wait;
            while updated.is_empty() {
                tokio::select! {
                    rung = bell.changed() => if rung.is_err() { break },
                    () = self.room.closed() => break,
                    () = sleep_until(end) => break,
                }
                updated = self.room.updated();
            }
        }
        if updated.is_empty() {
            return respond(StatusCode::NOT_FOUND, PLAIN, Bytes::new());
        }
        // A list of strings: there is nothing that cannot be written.
        let names = serde_json::to_vec(&updated).unwrap_or_default();
        respond(StatusCode::OK, JSON, names.into())
    }

    fn secret(&self, name: &str, known: Option<&HeaderValue>) -> Answer {
        let found = name.parse::<SecretName>().ok();
        let found = found.and_then(|name| Some((self.room.version(&name)?, name)));
        let Some((version, name)) = found else {
            return say(StatusCode::NOT_FOUND, "Secret not found.");
        };
        let tag = format!("\"{version}\"");
        if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return respond(StatusCode::NOT_MODIFIED, PLAIN, Bytes::new());
        }
        match self.room.value(&name) {
            Ok(Some(value)) => {
                self.counters.api_values.increment();
                // Wiped when the last byte of it has been encrypted, or the connection breaks.
                let mut answer = respond(StatusCode::OK, JSON, Bytes::from_owner(value));
                header(
                    &mut answer,
                    CACHE_CONTROL,
                    HeaderValue::from_static("no-store"),
                );
                if let Ok(tag) = HeaderValue::from_str(&tag) {
                    header(&mut answer, ETAG, tag);
                }
                answer
            }
            Ok(None) => say(StatusCode::NOT_FOUND, "Secret not found."),
            Err(error) => {
                warn!(consumer = %self.room.consumer(), secret = %name, %error, "A secret cannot be told.");
                say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    }

    fn receive(&self, name: &str, query: &str) -> Answer {
        if !value_of(query, "received").is_some_and(|text| YES.contains(&text)) {
            return say(
                StatusCode::BAD_REQUEST,
                "what can be posted is ?received=true",
            );
        }
        let found = name.parse().is_ok_and(|name| self.room.receive(&name));
        if found {
            respond(StatusCode::CREATED, PLAIN, Bytes::new())
        } else {
            say(StatusCode::NOT_FOUND, "Secret not found.")
        }
    }
}

/// The first value of a key in a query.
fn value_of<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(found, _)| *found == key)
        .map(|(_, value)| value)
}

/// How long to wait, however large the number; none when it is none.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().map_or(MAX_WAIT, Duration::from_secs);
    is_number.then_some(seconds.min(MAX_WAIT))
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, Bytes::new());
    header(&mut answer, ALLOW, HeaderValue::from_static(allow));
    answer
}

fn say(status: StatusCode, text: &str) -> Answer {
    respond(status, PLAIN, Bytes::from(format!("{text}\n")))
}

fn respond(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    header(
        &mut response,
        CONTENT_TYPE,
        HeaderValue::from_static(media_type),
    );
    response
}

fn header(answer: &mut Answer, name: HeaderName, value: HeaderValue) {
    answer.headers_mut().insert(name, value);
}

const SECRETS: &str = "/api/v1/secrets";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
/// What Open Horizon takes for true.
const YES: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
/// The longest wait; who asks for more gets this.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(300);
