//! `PUT /v1/node`: what the node says of itself.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use edge_secrets_protocol::limits::MAX_DEPLOYMENTS;
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::{Code, NodeId, PatternId, Problem};
use serde::Serialize;

use super::audited;
use crate::api::body::Json;
use crate::api::either;
use crate::api::peer::NodePeer;
use crate::api::problem::ApiError;
use crate::catalog::records::Change;
use crate::deploy::model::Model;
use crate::deploy::{self, DeployError};
use crate::hub::Hub;
use crate::policy::NodeView;

/// Facts that are as they were change nothing and cost no write.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    peer: NodePeer,
    Json(facts): Json<NodeFacts>,
) -> Result<StatusCode, ApiError> {
    check(&facts)?;
    let policy_place = view(&peer.node, &facts)?.policy_place().map(str::to_owned);
    let audit = audited(&peer, "node.facts", format!("node/{}", peer.node));
    let change = Change::PutFacts {
        node: peer.node.clone(),
        facts: Box::new(facts),
    };
    let check = |model: &Model| {
        let node = model.nodes.get(&peer.node);
        if let Some(pattern) = node.and_then(|node| node.belongs.pattern.as_ref()) {
            expect_one(pattern, policy_place.as_deref())?;
        }
        Ok(Vec::new())
    };
    match deploy::apply_checked(&hub, &peer.org, change, audit, &check).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(DeployError::Refused(problem)) => Err(problem.into()),
        Err(DeployError::Catalog(error)) => Err(error.into()),
    }
}

/// Keeps facts within bounds of number and size: every one of them is kept and matched against.
///
/// # Errors
/// `too_large`, with what is.
pub(super) fn check(facts: &NodeFacts) -> Result<(), ApiError> {
    let too_large = |what: &str, limit: usize, of: &str| {
        let detail = format!("The node's {what} is larger than {limit} {of}.");
        Err(ApiError::new(Code::TooLarge, detail))
    };
    for properties in [&facts.properties, &facts.built_in] {
        if properties.len() > MAX_PROPERTIES {
            return too_large("list of properties", MAX_PROPERTIES, "entries");
        }
        if !properties.iter().all(is_bounded) {
            return too_large("largest property", MAX_PROPERTY, "bytes");
        }
    }
    if facts
        .policy
        .as_ref()
        .is_some_and(|policy| json_len(policy) > MAX_POLICY)
    {
        return too_large("policy", MAX_POLICY, "bytes");
    }
    if facts.agent_version.len() > MAX_AGENT_VERSION {
        return too_large("agent version", MAX_AGENT_VERSION, "bytes");
    }
    if facts.services.len() > MAX_DEPLOYMENTS {
        return too_large("list of services", MAX_DEPLOYMENTS, "entries");
    }
    Ok(())
}

/// Checks that the facts can be given their types, and that no field of the policy is misspelt.
///
/// # Errors
/// `invalid`, with the place and the reason.
pub(super) fn view(node: &NodeId, facts: &NodeFacts) -> Result<NodeView, ApiError> {
    let refused = |reason: &dyn Display| {
        let detail = format!("What the node says of itself is refused: {reason}.");
        ApiError::new(Code::Invalid, detail)
    };
    let view = NodeView::new(node, None, facts).map_err(|error| refused(&error))?;
    match view.slip() {
        Some(slip) => Err(refused(&slip)),
        None => Ok(view),
    }
}

/// Refuses a node policy for nodes on policies of a node that is on a pattern.
///
/// # Errors
/// `conflict`, with both places.
pub(super) fn expect_one(pattern: &PatternId, policy_place: Option<&str>) -> Result<(), Problem> {
    match policy_place {
        Some(place) => Err(either::refused("The node is", pattern, place)),
        None => Ok(()),
    }
}

fn is_bounded(property: &Property) -> bool {
    let kind = property.kind.as_ref().map_or(0, String::len);
    property.name.len() + kind + json_len(&property.value) <= MAX_PROPERTY
}

fn json_len(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| json.len())
}

const MAX_PROPERTIES: usize = 256;
const MAX_PROPERTY: usize = 4 * 1024;
const MAX_POLICY: usize = 64 * 1024;
const MAX_AGENT_VERSION: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &str, value: &str) -> Property {
        Property {
            name: name.into(),
            value: value.into(),
            kind: None,
        }
    }

    #[test]
    fn facts_are_bounded_in_number_and_size() {
        let ordinary = NodeFacts {
            properties: vec![property("Straße", "Süd"); MAX_PROPERTIES],
            ..NodeFacts::default()
        };
        assert_eq!(check(&ordinary), Ok(()));
        let huge = "x".repeat(MAX_POLICY);
        for facts in [
            NodeFacts {
                properties: vec![property("a", "b"); MAX_PROPERTIES + 1],
                ..NodeFacts::default()
            },
            NodeFacts {
                built_in: vec![property(&huge, "b")],
                ..NodeFacts::default()
            },
            NodeFacts {
                properties: vec![property("a", &huge)],
                ..NodeFacts::default()
            },
            NodeFacts {
                policy: Some(huge.clone().into()),
                ..NodeFacts::default()
            },
            NodeFacts {
                agent_version: huge.clone(),
                ..NodeFacts::default()
            },
        ] {
            assert_eq!(check(&facts).unwrap_err().code(), Code::TooLarge);
        }
    }
}
