//! Errors as they travel: `application/problem+json` (RFC 9457) with a stable `code`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What a program needs to know of an error. Codes are never renamed; new ones may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The answer was full before this item; ask again for it.
    BatchFull,
    /// The request does not parse, or a name in it is no name.
    BadRequest,
    /// The certificate has expired; within the grace it may still renew.
    CertificateExpired,
    /// The state changed meanwhile, or the thing exists already.
    Conflict,
    /// Not allowed, or not there: the answer does not tell which.
    Denied,
    /// The life of the value is over, and there is no other version yet.
    Expired,
    /// The manager or the hub tried and could not; see the detail.
    Failed,
    /// The hub failed in a way that it does not explain to callers.
    Internal,
    /// The document is refused; the detail says where and why.
    Invalid,
    /// The method is not one of this resource.
    MethodNotAllowed,
    /// The secret that is bound does not exist (any more).
    Missing,
    /// The hub does not know this certificate (any more): enrol again.
    NotEnrolled,
    /// There is nothing at this path.
    NotFound,
    /// Not yet: the manager has not answered; the hub tries on.
    Pending,
    /// Too many requests; try later.
    RateLimited,
    /// The node is revoked: wipe.
    NodeRevoked,
    /// The version asked for is no longer the bound one: pull the bindings again.
    Superseded,
    /// The body, list or value is above its bound.
    TooLarge,
    /// The hub cannot answer now; try later.
    Unavailable,
    /// The body is not of a media type that this resource takes.
    UnsupportedMediaType,
    /// A code of a newer peer.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::CertificateExpired | Self::Denied | Self::NodeRevoked | Self::NotEnrolled => 403,
            Self::Missing | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::Superseded => 409,
            Self::Expired => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::RateLimited => 429,
            Self::BatchFull | Self::Pending | Self::Unavailable => 503,
            Self::Failed | Self::Internal | Self::Unknown => 500,
        }
    }

    /// The code as it is written on the wire and shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BatchFull => "batch_full",
            Self::BadRequest => "bad_request",
            Self::CertificateExpired => "certificate_expired",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Missing => "missing",
            Self::NotEnrolled => "not_enrolled",
            Self::NotFound => "not_found",
            Self::Pending => "pending",
            Self::RateLimited => "rate_limited",
            Self::NodeRevoked => "node_revoked",
            Self::Superseded => "superseded",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One error as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// `urn:edge-secrets:problem:<code>`.
    pub r#type: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// One sentence for people: what, where, what to do. Never a value.
    pub detail: String,
}

impl Problem {
    /// A problem with its code's status.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:edge-secrets:problem:{code}"),
            status: code.status(),
            code,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_travels_with_its_code() {
        let problem = Problem::new(Code::NodeRevoked, "node edge-01 is revoked");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.contains(r#""code":"node_revoked""#), "{json}");
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
    }

    #[test]
    fn every_code_is_written_as_it_is_shown() {
        let text = serde_json::to_string(&Code::UnsupportedMediaType).unwrap();
        assert_eq!(text, format!("\"{}\"", Code::UnsupportedMediaType));
        assert_eq!(
            serde_json::from_str::<Code>("\"of_tomorrow\"").unwrap(),
            Code::Unknown
        );
    }
}
