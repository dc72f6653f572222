//! The envelope of every answer.

use http::HeaderValue;
use serde_json::{Value, json};

use super::uuid;
use crate::Response;

/// What a handler answers, or refuses with.
pub(crate) type Outcome = Result<Answer, Answer>;

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) location: Option<String>,
}

/// A lease in an answer.
pub(crate) struct InAnswer {
    pub(crate) id: String,
    pub(crate) seconds: u64,
    pub(crate) renewable: bool,
    pub(crate) warnings: Value,
}

impl Answer {
    pub(crate) fn data(data: Value) -> Self {
        Self::of(200, envelope(data, Value::Null))
    }

    pub(crate) fn auth(auth: Value) -> Self {
        Self::of(200, envelope(Value::Null, auth))
    }

    pub(crate) fn leased(data: Value, lease: InAnswer) -> Self {
        let mut body = envelope(data, Value::Null);
        body["lease_id"] = Value::String(lease.id);
        body["lease_duration"] = lease.seconds.into();
        body["renewable"] = lease.renewable.into();
        body["warnings"] = lease.warnings;
        Self::of(200, body)
    }

    /// With this body and nothing around it.
    pub(crate) fn of(status: u16, body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::empty(status)
        }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            body: None,
            retry_after: None,
            location: None,
        }
    }

    pub(crate) fn redirect(location: String) -> Self {
        Self {
            location: Some(location),
            ..Self::empty(307)
        }
    }

    pub(crate) fn errors(status: u16, texts: &[&str]) -> Self {
        Self::of(status, json!({"errors": texts}))
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = match &self.body {
            Some(body) => Response::json(self.status, body),
            None => Response::empty(self.status),
        };
        let headers = &mut response.headers;
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert("retry-after", HeaderValue::from(seconds));
        }
        if let Some(location) = &self.location {
            let location = HeaderValue::from_str(location).expect("a location");
            headers.insert("location", location);
        }
        response
    }
}

pub(crate) fn none() -> Outcome {
    Ok(Answer::empty(204))
}

pub(crate) fn refuse(status: u16, texts: &[&str]) -> Outcome {
    Err(Answer::errors(status, texts))
}

pub(crate) fn unsupported() -> Outcome {
    refuse(405, &["unsupported operation"])
}

fn envelope(data: Value, auth: Value) -> Value {
    json!({
        "request_id": uuid(),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": auth,
        "mount_type": "stand-in",
    })
}
