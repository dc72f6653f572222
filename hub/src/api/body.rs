//! Request bodies, read within bounds of size and time and parsed without ever being quoted.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use edge_secrets_protocol::Code;
use edge_secrets_protocol::limits::MAX_NODE_REQUEST;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// A JSON body of at most `LIMIT` bytes. Refused with a problem document: another media type (415),
/// too large (413), not JSON or not of the type's shape (400).
#[derive(Debug)]
pub struct Json<T, const LIMIT: usize = { MAX_NODE_REQUEST }>(pub T);

impl<T, S, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        expect_media_type(request.headers(), &["application/json"])?;
        let body = read(request, LIMIT).await?;
        parse(&body).map(Self)
    }
}

/// The body's media type, without its parameters and in lower case, if it is one of `accepted`.
///
/// # Errors
/// `unsupported_media_type` otherwise, or when there is none.
pub fn expect_media_type<'a>(
    headers: &HeaderMap,
    accepted: &[&'a str],
) -> Result<&'a str, ApiError> {
    let sent = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    accepted
        .iter()
        .find(|accepted| sent.as_deref() == Some(**accepted))
        .copied()
        .ok_or_else(|| {
            let wanted = accepted.join("` or `");
            ApiError::new(
                Code::UnsupportedMediaType,
                format!("The body must be `{wanted}`; say so in `content-type`."),
            )
        })
}

/// The whole body, at most `limit` bytes of it and within [`READ_TIMEOUT`].
///
/// # Errors
/// `too_large` above the bound, `bad_request` when it breaks off or does not end in time.
pub async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(too_large(limit));
    }
    let body = Limited::new(request.into_body(), limit);
    match tokio::time::timeout(READ_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(ApiError::new(Code::BadRequest, "The body broke off.")),
        Err(_) => Err(ApiError::new(
            Code::BadRequest,
            format!("The body did not end within {} s.", READ_TIMEOUT.as_secs()),
        )),
    }
}

/// Parses JSON. The parser bounds the depth; what it says of content is not passed on, for it may
/// quote a value.
///
/// # Errors
/// `bad_request` with the place, when the body is not JSON of the type's shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "has a field that is missing or out of its bounds",
            _ => "is not JSON, or nested too deeply",
        };
        let (line, column) = (error.line(), error.column());
        ApiError::new(
            Code::BadRequest,
            format!("The body {what}, at line {line}, column {column}."),
        )
    })
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        Code::TooLarge,
        format!("The body is larger than {limit} bytes."),
    )
}

/// How long a body may take to arrive.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Small {
        name: edge_secrets_protocol::NodeId,
    }

    async fn extract(content_type: Option<&str>, body: &str) -> Result<Small, Code> {
        let mut request = Request::builder();
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        Json::<Small, 64>::from_request(request, &())
            .await
            .map(|body| body.0)
            .map_err(|error| error.code())
    }

    #[tokio::test]
    async fn a_json_body_within_bounds_is_taken() {
        let body = r#"{"name":"edge-01","of_tomorrow":1}"#;
        for media_type in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(
                extract(Some(media_type), body).await.unwrap().name.as_str(),
                "edge-01"
            );
        }
    }

    #[tokio::test]
    async fn each_fault_of_a_body_has_its_code() {
        let json = Some("application/json");
        let good = r#"{"name":"edge-01"}"#;
        let long = format!(r#"{{"name":"{}"}}"#, "e".repeat(100));
        let deep = "[".repeat(60);
        for (content_type, body, code) in [
            (None, good, Code::UnsupportedMediaType),
            (Some("text/plain"), good, Code::UnsupportedMediaType),
            (json, &long, Code::TooLarge),
            (json, &deep, Code::BadRequest),
            (json, "{", Code::BadRequest),
            (json, "", Code::BadRequest),
            (json, r#"{"name":"../x"}"#, Code::BadRequest),
            (json, "{}", Code::BadRequest),
        ] {
            assert_eq!(
                extract(content_type, body).await.unwrap_err(),
                code,
                "{body}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_a_crash() {
        let deep = "[".repeat(500_000);
        let refused = parse::<serde_json::Value>(deep.as_bytes()).unwrap_err();
        assert_eq!(refused.code(), Code::BadRequest);
    }

    #[test]
    fn a_body_is_never_quoted() {
        for body in [r#"{"name":"canary/4711"}"#, r#"{"name":canary4711"#] {
            let refused = parse::<Small>(body.as_bytes()).unwrap_err();
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }
}
