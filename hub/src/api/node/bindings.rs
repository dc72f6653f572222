//! `GET /v1/bindings`: what the node should have.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edge_secrets_protocol::Generation;
use edge_secrets_protocol::binding::{Bindings, Deployment, SecretState};
use jiff::Timestamp;
use serde::Deserialize;
use tracing::warn;

use super::generation;
use crate::api::peer::NodePeer;
use crate::api::problem::ApiError;
use crate::catalog::records::{BoundDeployment, NodeBindings};
use crate::clock;
use crate::hub::Hub;

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// What cannot be read is taken for absent: the answer is then the whole.
    #[serde(default)]
    since: Option<String>,
}

/// The whole, or with `?since=G` the difference to that generation; 304 when the node has it.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    peer: NodePeer,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let held = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .and_then(Generation::from_etag);
    let since = wanted.since.as_deref().and_then(generation);
    let mut bindings = hub.catalog.bindings(&peer.org, &peer.node, since).await?;
    let tag = validators(bindings.generation);
    if held == Some(bindings.generation) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let mut since = since;
    if since.is_some_and(|since| since > bindings.generation) {
        // The catalog is older than the node, which does not go back. Nothing is known to be unchanged.
        warn!(
            org = %peer.org, node = %peer.node, followed = ?since, has = %bindings.generation,
            "A node has followed a later state than this hub's database has: it was put back by other \
             means than `restore`, or a hub that was restored from its backup serves too."
        );
        since = None;
        bindings = hub.catalog.bindings(&peer.org, &peer.node, None).await?;
    }
    let tag = validators(bindings.generation);
    Ok((tag, Answer(answer(bindings, since))).into_response())
}

fn validators(generation: Generation) -> [(HeaderName, HeaderValue); 2] {
    let tag = HeaderValue::from_str(&generation.etag());
    [
        (
            header::ETAG,
            tag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
}

fn answer(bindings: NodeBindings, since: Option<Generation>) -> Bindings {
    let now = clock::now();
    Bindings {
        generation: bindings.generation,
        deployments: bindings
            .deployments
            .into_iter()
            .map(|bound| deployment(bound, now))
            .collect(),
        since,
        unchanged: if since.is_some() {
            bindings.unchanged
        } else {
            Vec::new()
        },
    }
}

/// What the node needs of a deployment. The references stay here.
fn deployment(mut bound: BoundDeployment, now: Timestamp) -> Deployment {
    // To the node an optional secret that is not there is none that it should have.
    let absent = bound.absent_optional();
    bound
        .secrets
        .retain(|secret| !absent.contains(&secret.name));
    for consumer in &mut bound.placed.consumers {
        consumer
            .secrets
            .retain(|secret| !absent.contains(&secret.name));
    }
    for secret in &mut bound.secrets {
        if !matches!(secret.state, SecretState::Ready { .. }) {
            secret.expires_at = None;
        }
        // What is left of it, by the hub's clock: a node's may be wrong.
        secret.expires_in_ms = secret.expires_at.map(|end| {
            let left = end.duration_since(now).as_millis();
            u64::try_from(left).unwrap_or(0)
        });
        if let (SecretState::Ready { version }, Some(reference)) =
            (&mut secret.state, bound.resolved.get(&secret.name))
        {
            *version = reference.version_at_nodes(version);
        }
    }
    let placed = bound.placed;
    Deployment {
        id: placed.id,
        service: placed.service,
        service_version: placed.service_version,
        policy: placed.policy,
        secrets: bound.secrets,
        consumers: placed.consumers,
    }
}
