//! Where a policy or pattern stands on every node that it touches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::routing::get;
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{NodeId, PatternId, PatternName, PolicyName, Source};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::session::{Params, Session};
use super::standing::standing;
use super::{patterns, policies};
use crate::api::problem::ApiError;
use crate::catalog::records::Report;
use crate::clock;
use crate::deploy::plan;
use crate::hub::Hub;
use crate::rights::Call;
use crate::wire::{NodeDeployment, Rollout, RolloutNode, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::ROLLOUT, get(of_policy))
        .route(paths::PATTERN_ROLLOUT, get(of_pattern))
}

#[derive(Deserialize)]
struct Poll {
    after: Option<String>,
    #[serde(default)]
    wait: u64,
}

async fn of_policy(
    session: Session,
    Params(poll): Params<Poll>,
) -> Result<Json<Rollout>, ApiError> {
    let policy: PolicyName = session.param("policy")?;
    session
        .require(Call::See, "policy.rollout", policies::object(&policy))
        .await?;
    rollout(&session, &Source::Policy(policy), poll).await
}

async fn of_pattern(
    session: Session,
    Params(patterns::Whose { of }): Params<patterns::Whose>,
    Params(poll): Params<Poll>,
) -> Result<Json<Rollout>, ApiError> {
    let name: PatternName = session.param("pattern")?;
    session
        .require(Call::See, "pattern.rollout", patterns::object(&name))
        .await?;
    let org = of.unwrap_or_else(|| session.org.clone());
    rollout(&session, &Source::Pattern(PatternId { org, name }), poll).await
}

async fn rollout(
    session: &Session,
    source: &Source,
    poll: Poll,
) -> Result<Json<Rollout>, ApiError> {
    let deadline = Instant::now() + wait(poll.wait);
    let mut news = session.hub.feed.org_revision(&session.org);
    loop {
        // News that come while it is looked up are not lost: they end the wait at once.
        news.borrow_and_update();
        let rollout = now(session, source).await?;
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

async fn now(session: &Session, source: &Source) -> Result<Rollout, ApiError> {
    let (hub, org) = (&session.hub, &session.org);
    let publisher = match source {
        Source::Pattern(pattern) => Some(&pattern.org),
        Source::Policy(_) => None,
    };
    let model = patterns::with_public_of(session, publisher).await?;
    match source {
        Source::Policy(policy) if !model.policies.contains_key(policy) => {
            return Err(policies::absent(policy));
        }
        // Of another organisation's it is not said whether it is there.
        Source::Pattern(pattern) if model.definitions.pattern(pattern).is_none() => {
            return Err(match pattern.org == *org {
                true => patterns::absent(&pattern.name),
                false => patterns::absent_public(pattern),
            });
        }
        _ => {}
    }
    let policies = &model.definitions.policies;
    let heartbeat = match source {
        Source::Policy(policy) => policies
            .get(policy)
            .and_then(|one| one.document.heartbeat()),
        Source::Pattern(pattern) => {
            let published = model.definitions.pattern(pattern);
            published.and_then(|one| one.document.heartbeat())
        }
    };
    let away_since = |node: &NodeId| {
        let since = hub.feed.away_since(org, node)?;
        let allowed = i64::try_from(heartbeat?).ok()?;
        (clock::now().as_second() - since.as_second() > allowed).then_some(since)
    };
    let wanted = source.clone();
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
            .partition(|one| one.is_own_of(source));
        let required = |own: &NodeDeployment| {
            let others = others.iter();
            others
                .filter(|one| one.is_required_by(source))
                .filter(|one| match source {
                    Source::Policy(_) => true,
                    Source::Pattern(_) => one.is_required_through(&own.service),
                })
                .cloned()
                .collect()
        };
        nodes.extend(own.into_iter().map(|own| RolloutNode {
            service: matches!(source, Source::Pattern(_)).then(|| own.service.clone()),
            away_since: away_since(&node),
            ..row(&node, required(&own), own, report)
        }));
    }
    let states = nodes.iter().map(|node: &RolloutNode| node.state);
    let applied = states
        // What is stopped has nothing to apply until it starts.
        .filter(|state| matches!(state, DeploymentState::Applied | DeploymentState::Stopped))
        .count();
    Ok(Rollout {
        policy: source.clone(),
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
    required: Vec<NodeDeployment>,
    own: NodeDeployment,
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
        service: None,
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
