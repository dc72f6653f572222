//! Errors of the API's handlers, and how they are answered.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edge_secrets_protocol::problem::{CONTENT_TYPE, Problem};
use edge_secrets_protocol::{Code, NameError};
use tracing::error;

use crate::catalog::CatalogError;
use crate::managers::ManagerError;
use crate::pki::PkiError;

/// Why a call is not done, as the caller is told. Handlers return it with `?`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// An error with its code's status. `detail` says what, where and what to do; never a value.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// A failure inside the hub: `error` goes to the log, and the caller learns that there is one.
    #[must_use]
    pub fn internal(error: &dyn std::error::Error) -> Self {
        error!(%error, "A call failed inside the hub.");
        Self::new(
            Code::Internal,
            "The hub failed on this call; its log says why. Nothing was changed.",
        )
    }

    /// Not allowed, or not there; the caller cannot tell which.
    #[must_use]
    pub fn denied() -> Self {
        Self::new(
            Code::Denied,
            "This is not allowed, or there is no such thing.",
        )
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(Code::BadRequest, format!("The {error}."))
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match &error {
            CatalogError::Conflict => Self::new(
                Code::Conflict,
                "Something else changed meanwhile; look again and repeat the call.",
            ),
            CatalogError::Exists(_) => Self::new(Code::Conflict, sentence(&error)),
            CatalogError::NotFound(_) => Self::new(Code::NotFound, sentence(&error)),
            // The reason is for the audit trail alone: it would tell a guesser how far they are.
            CatalogError::Token(_) => Self::denied(),
            CatalogError::Full => {
                error!(%error, "A call was refused. Make room where the data directory is.");
                Self::new(
                    Code::Unavailable,
                    "The hub's disk is full; nothing was changed. Make room where its data directory \
                     is, and repeat the call.",
                )
            }
            CatalogError::Disk(_) => {
                error!(%error, "A call failed at the disk.");
                Self::new(
                    Code::Unavailable,
                    "The hub's disk cannot be written; the hub's log says why. Look whether this was \
                     done before you repeat the call.",
                )
            }
            CatalogError::Storage(_) => Self::internal(&error),
        }
    }
}

impl From<ManagerError> for ApiError {
    fn from(error: ManagerError) -> Self {
        let code = error.fault.code();
        Self::new(code, sentence(&error))
    }
}

impl From<PkiError> for ApiError {
    fn from(error: PkiError) -> Self {
        match &error {
            PkiError::Request(_) => Self::new(Code::Invalid, sentence(&error)),
            PkiError::File { .. } | PkiError::Authority(_) => Self::internal(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answers_with_its_status_and_media_type() {
        let response = ApiError::new(Code::TooLarge, "too much").into_response();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
    }

    #[test]
    fn what_the_database_said_stays_inside() {
        let error = ApiError::from(CatalogError::Storage("disk I/O error at /x".into()));
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("disk"), "{error}");
    }

    #[test]
    fn a_full_disk_is_named_and_passes() {
        let error = ApiError::from(CatalogError::Full);
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.to_string().contains("disk is full"), "{error}");
        let error = ApiError::from(CatalogError::Disk("code 778 at /x".into()));
        assert_eq!(error.code(), Code::Unavailable);
        assert!(!error.to_string().contains("/x"), "{error}");
    }

    #[test]
    fn a_refused_token_is_not_explained_to_the_caller() {
        let used = ApiError::from(CatalogError::Token("used"));
        let unknown = ApiError::from(CatalogError::Token("unknown"));
        assert_eq!(used, unknown);
    }
}
