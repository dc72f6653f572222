//! Why a service is or is not deployed on a node, and where each of its secrets stands.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{NodeId, ServiceId, Source};
use serde::Deserialize;

use super::nodes;
use super::session::{Params, Session};
use super::standing::standing;
use crate::api::problem::ApiError;
use crate::deploy::model::{Model, NodeModel};
use crate::hub::Hub;
use crate::policy::{NodeView, Rule, Verdict, explain};
use crate::rights::Call;
use crate::wire::{Explanation, NodeDeployment, NodesPattern, VerdictInfo, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new().route(paths::NODE_EXPLAIN, get(explanation))
}

#[derive(Deserialize)]
struct Which {
    service: Option<String>,
}

async fn explanation(
    session: Session,
    Params(which): Params<Which>,
) -> Result<Json<Explanation>, ApiError> {
    let node: NodeId = session.param("node")?;
    let object = nodes::object(&node);
    session.require(Call::See, "node.explain", object).await?;
    nodes::existing(&session, &node).await?;
    let (hub, org) = (&session.hub, &session.org);
    let model = hub.models.current(&*hub.catalog, org).await?;
    let bindings = hub.catalog.bindings(org, &node, None).await?;
    let reports = hub.catalog.reports(org, Some(&node)).await?;
    let deployments = standing(&bindings, reports.first().map(|report| &report.status));
    let on = model.nodes.get(&node);
    let on = on.and_then(|node| node.belongs.pattern.clone());
    let pattern = on.map(|name| NodesPattern {
        found: model.definitions.pattern(&name).is_some(),
        name,
    });
    let verdicts = match model.nodes.get(&node) {
        Some(node) => verdicts(&model, node),
        None => Vec::new(),
    };
    let view = model
        .nodes
        .get(&node)
        .and_then(|node| node.view.as_ref().ok());
    let notes = view.map_or_else(Vec::new, NodeView::notes);
    let wanted = |service: &ServiceId| match &which.service {
        None => true,
        Some(text) => service.url.as_str() == text || service.to_string() == *text,
    };
    let verdicts = verdicts
        .into_iter()
        .filter(|verdict| wanted(&verdict.service))
        .map(|verdict| info(verdict, &deployments));
    Ok(Json(Explanation {
        verdicts: verdicts.collect(),
        pattern,
        node,
        notes,
    }))
}

/// The rules of the pure core; where nothing can be placed at all, the one reason for every policy.
fn verdicts(model: &Model, node: &NodeModel) -> Vec<Verdict> {
    if let Some(view) = node.placeable() {
        return explain(&model.org, view, &model.definitions);
    }
    let detail = match &node.view {
        Err(error) => format!("what the node says of itself does not parse: {error}"),
        Ok(_) => "the node is revoked: nothing is deployed on it until it enrols again".to_owned(),
    };
    let asked: Vec<(Source, &ServiceId)> = match &node.belongs.pattern {
        None => {
            let policies = model.definitions.policies.iter();
            let asked =
                policies.map(|(name, one)| (Source::Policy(name.clone()), one.document.service()));
            asked.collect()
        }
        Some(id) => {
            let found = model.definitions.pattern(id);
            let services = found.into_iter().flat_map(|one| one.document.services());
            services
                .map(|service| (Source::Pattern(id.clone()), service))
                .collect()
        }
    };
    let verdict = |(policy, service): (Source, &ServiceId)| Verdict {
        policy,
        service: service.clone(),
        placed: None,
        rules: vec![Rule {
            rule: "node".to_owned(),
            holds: false,
            detail: detail.clone(),
        }],
    };
    asked.into_iter().map(verdict).collect()
}

fn info(verdict: Verdict, deployments: &[NodeDeployment]) -> VerdictInfo {
    let mut own = deployments.iter();
    let own = own.find(|one| one.service == verdict.service && one.is_own_of(&verdict.policy));
    let required = deployments
        .iter()
        .filter(|one| one.is_required_by(&verdict.policy));
    VerdictInfo {
        required: required.cloned().collect(),
        policy: verdict.policy,
        service: verdict.service,
        deployed: own.is_some(),
        rules: verdict.rules,
        deployment: own.cloned(),
    }
}
