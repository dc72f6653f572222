//! The audit trail, to be read and followed.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::rollout::wait;
use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{AuditQuery, AuditRecord};
use crate::hub::Hub;
use crate::rights::Call;
use crate::wire::{AuditInfo, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new().route(paths::AUDIT, get(trail))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    after: u64,
    since: Option<Timestamp>,
    limit: Option<u32>,
    #[serde(default)]
    wait: u64,
}

/// With `wait`, an empty answer comes only at its end. News of nodes and calls that this process
/// served end the wait at once; a record of another process that touches no node is found at the
/// wait's end at the latest.
async fn trail(
    session: Session,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Vec<AuditInfo>>, ApiError> {
    session
        .require(Call::Administer, "audit.read", "audit")
        .await?;
    let query = AuditQuery {
        after: wanted.after,
        since: wanted.since,
        limit: wanted.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
    };
    let deadline = Instant::now() + wait(wanted.wait);
    let (hub, org) = (&session.hub, &session.org);
    let mut news = hub.feed.org_revision(org);
    let mut calls = hub.models.audit_bell(org);
    loop {
        news.borrow_and_update();
        calls.borrow_and_update();
        let records = hub.catalog.audit(org, &query).await?;
        if !records.is_empty() || Instant::now() >= deadline {
            return Ok(Json(records.into_iter().map(info).collect()));
        }
        let rung = async {
            tokio::select! {
                rung = news.changed() => rung,
                rung = calls.changed() => rung,
            }
        };
        // The hub stops: nothing will ring any more.
        if let Ok(Err(_)) = timeout_at(deadline, rung).await {
            return Ok(Json(Vec::new()));
        }
    }
}

fn info(record: AuditRecord) -> AuditInfo {
    let entry = record.entry;
    AuditInfo {
        seq: record.seq,
        at: entry.at,
        actor: entry.actor.to_string(),
        action: entry.action,
        object: entry.object,
        result: entry.result,
        detail: entry.detail,
        peer: entry.peer,
    }
}

const DEFAULT_LIMIT: u32 = 200;
const MAX_LIMIT: u32 = 5_000;
