//! Where a policy stands on every node that it touches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::routing::get;
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{NodeId, PolicyName};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::policies::{absent, object};
use super::session::{Params, Session};
use super::standing::standing;
use crate::api::problem::ApiError;
use crate::catalog::records::Report;
use crate::clock;
use crate::deploy::plan;
use crate::hub::Hub;
use crate::rights::Call;
use crate::wire::{NodeDeployment, Rollout, RolloutNode, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new().route(paths::ROLLOUT, get(rollout))
}

#[derive(Deserialize)]
struct Poll {
    after: Option<String>,
    #[serde(default)]
    wait: u64,
}

async fn rollout(session: Session, Params(poll): Params<Poll>) -> Result<Json<Rollout>, ApiError> {
    let policy: PolicyName = session.param("policy")?;
    session
        .require(Call::See, "policy.rollout", object(&policy))
        .await?;
    let deadline = Instant::now() + wait(poll.wait);
    let mut news = session.hub.feed.org_revision(&session.org);
    loop {
        // News that come while it is looked up are not lost: they end the wait at once.
        news.borrow_and_update();
        let rollout = now(&session, &policy).await?;
        if poll.after.as_ref() != Some(&rollout.tag) {
            return Ok(Json(rollout));
        }
        let Ok(Ok(())) = timeout_at(deadline, news.changed()).await else {
            return Ok(Json(rollout));
        };
    }
}

/// How long a call may wait for news.
pub(super) fn wait(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(MAX_WAIT_SECONDS))
}

async fn now(session: &Session, policy: &PolicyName) -> Result<Rollout, ApiError> {
    let (hub, org) = (&session.hub, &session.org);
    let model = hub.models.current(&*hub.catalog, org).await?;
    if !model.policies.contains_key(policy) {
        return Err(absent(policy));
    }
    let published = model.definitions.policies.get(policy);
    let heartbeat = published.and_then(|published| published.document.heartbeat());
    let away_since = |node: &NodeId| {
        let since = hub.feed.away_since(org, node)?;
        let allowed = i64::try_from(heartbeat?).ok()?;
        (clock::now().as_second() - since.as_second() > allowed).then_some(since)
    };
    let wanted = policy.clone();
    let candidates = tokio::task::spawn_blocking(move || plan::candidates(&model, &wanted))
        .await
        .map_err(|error| ApiError::internal(&error))?;
    let reports = hub.catalog.reports(org, None).await?;
    let reports: HashMap<&NodeId, &Report> = reports
        .iter()
        .map(|report| (&report.node, report))
        .collect();
    let mut nodes = Vec::new();
    for node in candidates {
        let report = reports.get(&node).copied();
        let bindings = hub.catalog.bindings(org, &node, None).await?;
        let deployments = standing(&bindings, report.map(|report| &report.status));
        let (own, others): (Vec<_>, Vec<_>) = deployments
            .into_iter()
            .partition(|one| one.is_own_of(policy));
        let required: Vec<_> = others
            .into_iter()
            .filter(|one| one.is_required_by(policy))
            .collect();
        let own = own.into_iter().next();
        nodes.extend(own.map(|own| RolloutNode {
            away_since: away_since(&node),
            ..row(&node, own, required, report)
        }));
    }
    let states = nodes.iter().map(|node: &RolloutNode| node.state);
    let applied = states
        // What is stopped has nothing to apply until it starts.
        .filter(|state| matches!(state, DeploymentState::Applied | DeploymentState::Stopped))
        .count();
    Ok(Rollout {
        policy: policy.clone(),
        tag: tag(&nodes)?,
        applied,
        total: nodes.len(),
        heartbeat,
        nodes,
    })
}

/// A service works once what it requires has its secrets too.
fn row(
    node: &NodeId,
    own: NodeDeployment,
    required: Vec<NodeDeployment>,
    report: Option<&Report>,
) -> RolloutNode {
    let done = |one: &NodeDeployment| {
        matches!(
            one.state,
            DeploymentState::Applied | DeploymentState::Stopped
        )
    };
    let lacking = required
        .iter()
        .find(|one| !done(one))
        .filter(|_| done(&own));
    let error = lacking
        .and_then(|one| one.error.clone())
        .map(|error| DeploymentError {
            detail: format!("of what it requires: {}", error.detail),
            ..error
        });
    RolloutNode {
        node: node.clone(),
        state: lacking.map_or(own.state, |one| one.state),
        error: if lacking.is_some() { error } else { own.error },
        secrets: own.secrets,
        required,
        reported_at: report.map(|report| report.at),
        away_since: None,
    }
}

fn tag(nodes: &[RolloutNode]) -> Result<String, ApiError> {
    let text = serde_json::to_vec(nodes).map_err(|error| ApiError::internal(&error))?;
    let print = digest(&SHA256, &text);
    Ok(HEXLOWER.encode(print.as_ref().get(..TAG_BYTES).unwrap_or_default()))
}

const MAX_WAIT_SECONDS: u64 = 60;
const TAG_BYTES: usize = 16;
