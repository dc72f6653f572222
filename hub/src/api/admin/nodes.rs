//! Nodes: tokens for new ones, what there is, and the end of one.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{Code, Generation, NodeId, PatternId, Token};
use jiff::SignedDuration;
use serde::Deserialize;

use super::document::{self, DryRun};
use super::patterns;
use super::policies::BoundSecrets;
use super::session::{Params, Session};
use super::standing::{leaving, standing};
use crate::api::problem::ApiError;
use crate::api::{body, either};
use crate::catalog::records::{self, Belonging, Change, NodeRecord, Unsettled};
use crate::clock;
use crate::deploy;
use crate::deploy::model::Model;
use crate::hub::Hub;
use crate::rights::Call;
use crate::wire::{
    NewToken, NodeDetail, NodeInfo, NodePattern, NodeState, Published, TokenIssued, paths,
};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::NODES, get(list))
        .route(paths::NODE, get(show).delete(remove))
        .route(paths::NODE_TOKEN, post(token))
        .route(paths::NODE_PATTERN, put(pattern))
        .route(paths::NODE_REVOKE, post(revoke))
}

#[derive(Deserialize)]
struct Which {
    /// Those alone that do not have all that they should.
    #[serde(default)]
    behind: bool,
}

async fn list(
    session: Session,
    Params(which): Params<Which>,
) -> Result<Json<Vec<NodeInfo>>, ApiError> {
    session.require(Call::See, "node.list", "nodes").await?;
    let (catalog, org) = (&session.hub.catalog, &session.org);
    if which.behind {
        return behind(&session).await;
    }
    let nodes = catalog.nodes(org).await?;
    let reports = catalog.reports(org, None).await?;
    let reported: HashMap<_, _> = reports
        .iter()
        .map(|report| (&report.node, Reported::of(&report.status)))
        .collect();
    let infos = nodes.iter().map(|record| {
        let reported = reported.get(&record.node).copied();
        info(&session, record, reported.unwrap_or_default())
    });
    Ok(Json(infos.collect()))
}

/// The longest behind first.
async fn behind(session: &Session) -> Result<Json<Vec<NodeInfo>>, ApiError> {
    let (catalog, org) = (&session.hub.catalog, &session.org);
    let lagging = catalog.lagging(org).await?;
    if lagging.is_empty() {
        return Ok(Json(Vec::new()));
    }
    let nodes = catalog.nodes(org).await?;
    let nodes: HashMap<_, _> = nodes.iter().map(|record| (&record.node, record)).collect();
    let infos = lagging.iter().filter_map(|lag| {
        let reported = Reported {
            generation: lag.reported,
            unsettled: lag.unsettled,
        };
        let record = nodes.get(&lag.node)?;
        Some(info(session, record, reported))
    });
    Ok(Json(infos.collect()))
}

async fn show(session: Session) -> Result<Json<NodeDetail>, ApiError> {
    let node: NodeId = session.param("node")?;
    session
        .require(Call::See, "node.show", object(&node))
        .await?;
    let (catalog, org) = (&session.hub.catalog, &session.org);
    let record = existing(&session, &node).await?;
    let bindings = catalog.bindings(org, &node, None).await?;
    let reports = catalog.reports(org, Some(&node)).await?;
    let report = reports.first().map(|report| &report.status);
    Ok(Json(NodeDetail {
        info: info(
            &session,
            &record,
            report.map(Reported::of).unwrap_or_default(),
        ),
        enrolled_at: record.enrolled_at,
        facts: record.facts,
        deployments: standing(&bindings, report),
        leaving: leaving(&bindings, report),
    }))
}

async fn token(
    session: Session,
    body::Json(body): body::Json<NewToken>,
) -> Result<Json<TokenIssued>, ApiError> {
    let node: NodeId = session.param("node")?;
    session
        .require(Call::Administer, "node.token", object(&node))
        .await?;
    let (hub, org) = (&session.hub, &session.org);
    if !(MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&body.ttl_seconds) {
        let detail = "A token works for one minute at least and 30 days at most.";
        return Err(ApiError::new(Code::Invalid, detail));
    }
    if let Some(owner) = &body.owner {
        let users = hub.catalog.users(org).await?;
        if users.iter().all(|user| user.user != *owner) {
            let detail = format!("There is no user \"{owner}\" who could own the node.");
            return Err(ApiError::new(Code::Invalid, detail));
        }
    }
    let pattern = match &body.pattern {
        None => None,
        Some(choice) => {
            let publisher = choice.org.as_ref();
            let model = hub
                .models
                .current_with(&*hub.catalog, org, publisher)
                .await?;
            Some(patterns::usable(&model, org, choice)?)
        }
    };
    let token = Token::generate(org.clone(), node.clone(), hub.pki.ca_fingerprint())
        .map_err(|error| ApiError::internal(&std::io::Error::other(error.to_string())))?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.expose_secret()).as_ref());
    let ttl = SignedDuration::from_secs(i64::try_from(body.ttl_seconds).unwrap_or(i64::MAX));
    let expires_at = clock::now()
        .checked_add(ttl)
        .map_err(|error| ApiError::internal(&error))?;
    let record = records::NewToken {
        org: org.clone(),
        node: node.clone(),
        belongs: Belonging {
            owner: body.owner,
            pattern,
        },
        hash,
        expires_at,
    };
    let mut audit = session.audit("node.token", object(&node));
    audit.detail = format!("until {expires_at}");
    if let Some(pattern) = &record.belongs.pattern {
        audit.add_detail(&format!("on pattern {pattern}"));
    }
    hub.catalog.add_token(&record, audit).await?;
    Ok(Json(TokenIssued {
        token: token.expose().to_string(),
        expires_at,
    }))
}

async fn pattern(
    session: Session,
    Params(DryRun { dry_run }): Params<DryRun>,
    body::Json(NodePattern { pattern }): body::Json<NodePattern>,
) -> Result<Json<Published>, ApiError> {
    let node: NodeId = session.param("node")?;
    session
        .require(Call::Administer, "node.pattern", object(&node))
        .await?;
    existing(&session, &node).await?;
    let org = &session.org;
    let lacking = match pattern.as_ref().map(|choice| choice.of(org)) {
        Some(id) if id.org != *org => lacking(&session, &id).await?,
        _ => Vec::new(),
    };
    let check = |model: &Model| {
        if let Some(choice) = &pattern {
            let id = patterns::usable(model, org, choice)?;
            let view = model
                .nodes
                .get(&node)
                .and_then(|node| node.view.as_ref().ok());
            if let Some(place) = view.and_then(|view| view.policy_place()) {
                return Err(either::refused(
                    &format!("Node {node} would be"),
                    &id,
                    place,
                ));
            }
        }
        Ok(lacking.clone())
    };
    let pattern = pattern.as_ref().map(|choice| choice.of(org));
    let mut audit = session.audit("node.pattern", object(&node));
    audit.detail = match &pattern {
        Some(pattern) => format!("on pattern {pattern}"),
        None => "on policies".to_owned(),
    };
    let change = Change::SetPattern {
        node: node.clone(),
        pattern,
    };
    let published = document::publish(&session, change, audit, dry_run, &check).await?;
    Ok(Json(published))
}

/// What another organisation's pattern binds and this one does not have: its publisher could not look,
/// and whoever puts a node on it should know.
async fn lacking(session: &Session, id: &PatternId) -> Result<Vec<String>, ApiError> {
    let model = patterns::with_public_of(session, Some(&id.org)).await?;
    let Some(published) = model.definitions.pattern(id) else {
        return Ok(Vec::new());
    };
    let mut references = published.document.references();
    // Private ones are denied, whether they are there or not.
    references.retain(|reference| reference.user().is_none());
    let bound = BoundSecrets::look(session, &references).await?;
    Ok(bound.into_warnings())
}

async fn revoke(session: Session) -> Result<StatusCode, ApiError> {
    let node: NodeId = session.param("node")?;
    end(
        &session,
        "node.revoke",
        &node,
        Change::RevokeNode(node.clone()),
    )
    .await
}

async fn remove(session: Session) -> Result<StatusCode, ApiError> {
    let node: NodeId = session.param("node")?;
    end(
        &session,
        "node.remove",
        &node,
        Change::RemoveNode(node.clone()),
    )
    .await
}

async fn end(
    session: &Session,
    action: &str,
    node: &NodeId,
    change: Change,
) -> Result<StatusCode, ApiError> {
    session
        .require(Call::Administer, action, object(node))
        .await?;
    existing(session, node).await?;
    let audit = session.audit(action, object(node));
    deploy::apply(&session.hub, &session.org, change, audit).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn existing(session: &Session, node: &NodeId) -> Result<NodeRecord, ApiError> {
    let record = session.hub.catalog.node(&session.org, node).await?;
    record.ok_or_else(|| {
        let detail = format!("There is no node \"{node}\".");
        ApiError::new(Code::NotFound, detail)
    })
}

pub(super) fn object(node: &NodeId) -> String {
    format!("node/{node}")
}

/// What lists show of a report.
#[derive(Clone, Copy, Default)]
struct Reported {
    generation: Option<Generation>,
    unsettled: Option<Unsettled>,
}

impl Reported {
    fn of(report: &StatusReport) -> Self {
        Self {
            generation: Some(report.generation),
            unsettled: Unsettled::of(report),
        }
    }
}

fn info(session: &Session, record: &NodeRecord, reported: Reported) -> NodeInfo {
    NodeInfo {
        node: record.node.clone(),
        owner: record.belongs.owner.clone(),
        pattern: record.belongs.pattern.clone(),
        state: if record.revoked {
            NodeState::Revoked
        } else {
            NodeState::Active
        },
        connected: session.hub.feed.is_connected(&session.org, &record.node),
        generation: record.generation,
        applied: reported.generation,
        seen_at: record.seen_at,
        behind_since: record.behind_since.filter(|_| !record.revoked),
        unsettled: reported.unsettled,
    }
}

const MIN_TTL_SECONDS: u64 = 60;
const MAX_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;
