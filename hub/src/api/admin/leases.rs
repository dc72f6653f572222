//! Leases of credentials.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use edge_secrets_protocol::{Code, NodeId};
use serde::Deserialize;

use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{LeaseId, LeaseQuery, LeaseRecord};
use crate::hub::Hub;
use crate::rights::{Call, SecretCall};
use crate::wire::{LeaseInfo, LeasePage, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::LEASES, get(list))
        .route(paths::LEASE_REVOKE, post(revoke))
}

#[derive(Deserialize)]
struct Which {
    node: Option<NodeId>,
    #[serde(default)]
    ended: bool,
    before: Option<u64>,
    limit: Option<u32>,
}

async fn list(session: Session, Params(which): Params<Which>) -> Result<Json<LeasePage>, ApiError> {
    session.require(Call::See, "lease.list", "leases").await?;
    let limit = which.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let query = LeaseQuery {
        org: Some(session.org.clone()),
        node: which.node,
        ended: which.ended,
        before: which.before.map(LeaseId),
        limit: Some(limit),
    };
    let leases = session.hub.catalog.leases(&query).await?;
    let full = leases.len() >= limit as usize;
    let next = leases.first().map(|lease| lease.id).filter(|_| full);
    let seen =
        |lease: &LeaseRecord| session.may(Call::Secret(SecretCall::List, &lease.place.reference));
    let leases = leases.into_iter().filter(seen).map(info).collect();
    Ok(Json(LeasePage { leases, next }))
}

/// Ends a credential at its manager. The answer says that it is to end; where its binding still
/// stands another one is made.
async fn revoke(session: Session) -> Result<StatusCode, ApiError> {
    let text = session.text("lease");
    let object = format!("lease/{text}");
    session
        .require(Call::Administer, "lease.revoke", &object)
        .await?;
    let id: u64 = text
        .parse()
        .map_err(|_| ApiError::new(Code::BadRequest, "A lease is named by its number."))?;
    let mut audit = session.audit("lease.revoke", &object);
    // That one alone, however many there are.
    let open = LeaseQuery {
        org: Some(session.org.clone()),
        before: Some(LeaseId(id.saturating_add(1))),
        limit: Some(1),
        ..LeaseQuery::default()
    };
    let open = session.hub.catalog.leases(&open).await?;
    let known = open.iter().any(|lease| lease.id == LeaseId(id));
    if !known {
        audit.result = Code::NotFound.to_string();
    }
    session.hub.catalog.append_audit(vec![audit]).await?;
    if known && session.hub.leases.revoke(&session.org, LeaseId(id)).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("There is no open lease {id}; `edge-secrets lease list` shows them.");
    Err(ApiError::new(Code::NotFound, detail))
}

fn info(lease: LeaseRecord) -> LeaseInfo {
    LeaseInfo {
        id: lease.id,
        node: lease.place.node,
        deployment: lease.place.deployment,
        reference: lease.place.reference,
        state: lease.state,
        current: lease.current,
        renewable: lease.renewable,
        granted_at: lease.granted_at,
        ends_at: lease.ends_at,
        attempts: lease.attempts,
        trouble: lease.trouble,
    }
}

/// Most leases of one answer.
const MAX_PAGE: u32 = 1_000;
