//! The hub's two APIs over one router: the node protocol and the operators' calls.
//!
//! Every answer that is not a success is a problem document (RFC 9457), whoever made it.

pub mod admin;
pub mod body;
mod either;
pub mod exchange;
mod failures;
pub mod hook;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod problem;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use edge_secrets_protocol::Code;

use crate::hub::Hub;
use problem::ApiError;

/// Every call of the hub. Requests carry a [`peer::Connected`] among their extensions.
pub fn router(hub: Arc<Hub>) -> Router {
    node::router()
        .merge(admin::router())
        .merge(hook::router())
        .merge(metrics::router())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(hub)
}

async fn no_such_path(uri: Uri) -> ApiError {
    // The path is the caller's text: it is shown escaped and shortened.
    let shown: String = uri.path().chars().take(SHOWN_CHARS).collect();
    ApiError::new(Code::NotFound, format!("There is no {shown:?} here."))
}

async fn no_such_method() -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        "This path has other methods; the header `allow` names them.",
    )
}

const SHOWN_CHARS: usize = 100;
