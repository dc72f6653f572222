//! `POST /v1/hooks/{manager}`: somebody says that something changed at a manager. A hint, authenticated
//! by a token of the manager's own: what changed is looked up there, and nothing of the body is
//! believed but where to look.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Extension, Router};
use edge_secrets_protocol::Code;
use tracing::{debug, warn};

use super::body;
use super::failures::Failures;
use super::peer::Connected;
use super::problem::ApiError;
use crate::hub::Hub;
use crate::managers::ManagerName;
use crate::observe::Hint;
use crate::wire::{Hooked, paths};

/// The call, to be given its hub.
pub fn router() -> Router<Arc<Hub>> {
    let failures = Extension(Arc::new(Failures::default()));
    Router::new().route(paths::HOOK, post(call).layer(failures))
}

async fn call(
    State(hub): State<Arc<Hub>>,
    Extension(failures): Extension<Arc<Failures>>,
    Path(name): Path<String>,
    connected: Connected,
    headers: HeaderMap,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let name: ManagerName = name.parse().map_err(|_| ApiError::denied())?;
    let address = connected.address;
    if failures.is_full(address.ip(), Instant::now()) {
        return Err(ApiError::new(
            Code::RateLimited,
            "Too many refused calls from this address; try again in a minute.",
        ));
    }
    if !admits(&hub, &name, &headers) {
        failures.count(address.ip(), Instant::now());
        warn!(manager = %name, %address, "A webhook call was refused.");
        return Err(ApiError::denied());
    }
    let body = body::read(request, MAX_BODY).await?;
    let hooked = if body.is_empty() {
        Hooked::default()
    } else {
        // Somebody else's notification has members of its own: then everything is looked at.
        serde_json::from_slice(&body).unwrap_or_default()
    };
    let hint = match hooked.references {
        Some(references) if references.len() <= MAX_REFERENCES => Hint::These(
            references
                .iter()
                // Without a manager's name it is the one that was called.
                .map(|reference| reference.secret().resolved(Some(&name)))
                .collect(),
        ),
        _ => Hint::All,
    };
    debug!(manager = %name, %address, ?hint, "A webhook call.");
    // Where nothing of the manager is watched there is nothing to look at.
    let _watched = hub.hints.give(&name, hint);
    Ok(StatusCode::ACCEPTED)
}

/// Whether the caller has the manager's token: as `Authorization: Bearer`, or in a header of its own
/// for senders that cannot set that. One answer for a wrong token, no token, and no such manager.
fn admits(hub: &Hub, name: &ManagerName, headers: &HeaderMap) -> bool {
    let sent = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .or_else(|| headers.get(TOKEN_HEADER).map(|value| value.as_bytes()));
    let mut managers = hub.config.managers.managers.iter();
    let configured = managers.find(|manager| manager.name == *name);
    let token = configured.and_then(|manager| manager.webhook_token.as_ref());
    let (Some(sent), Some(token)) = (sent, token) else {
        return false;
    };
    match token.read() {
        // In constant time: a guesser learns nothing from how long it took.
        Ok(token) => {
            token.len() >= MIN_TOKEN
                && aws_lc_rs::constant_time::verify_slices_are_equal(token.expose(), sent).is_ok()
        }
        Err(error) => {
            warn!(manager = %name, error, "The token of a webhook cannot be read.");
            false
        }
    }
}

const TOKEN_HEADER: &str = "x-edge-secrets-token";
const MAX_BODY: usize = 256 * 1024;
const MAX_REFERENCES: usize = 1_000;
/// A shorter one could be guessed.
const MIN_TOKEN: usize = 16;
