//! The room as a whole: who gets what, why, and what may be published.

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::{NodeId, OrgId, PolicyName, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};

use std::sync::Arc;

use super::*;

mod bulk;
mod check;
mod check_pattern;
mod explain;
mod generated;
mod optional;
mod place;
mod place_pattern;
mod required;
mod service_policy;

fn org() -> OrgId {
    "myorg".parse().unwrap()
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn service(text: &str) -> Service {
    let definition = ServiceDefinition::parse(text).unwrap_or_else(|error| panic!("{error}"));
    (user("dev"), definition)
}

fn policy(name: &str, owner: &str, text: &str) -> Policy {
    let policy = DeploymentPolicy::parse(text).unwrap_or_else(|error| panic!("{error}"));
    (name.parse().unwrap(), user(owner), policy)
}

type Service = (UserId, ServiceDefinition);
type Policy = (PolicyName, UserId, DeploymentPolicy);

fn definitions(services: Vec<Service>, policies: Vec<Policy>) -> Definitions {
    let policy = |(name, owner, document)| (name, Arc::new(Published { owner, document }));
    Definitions {
        services: services.into_iter().collect(),
        policies: policies.into_iter().map(policy).collect(),
        ..Definitions::default()
    }
}

/// Service definition and policy of the sample, which alice published.
fn uplink() -> Definitions {
    definitions(
        vec![service(UPLINK)],
        vec![policy("uplink", "alice", UPLINK_POLICY)],
    )
}

fn node(name: &str, owner: Option<&str>, arch: &str, stated: Value) -> NodeView {
    let properties = |map: &Value| {
        let entries = map.as_object().into_iter().flatten();
        let property = |(name, value): (&String, &Value)| Property {
            name: name.clone(),
            value: value.clone(),
            kind: None,
        };
        entries.map(property).collect::<Vec<_>>()
    };
    let facts = NodeFacts {
        properties: properties(&stated),
        built_in: properties(&json!({"openhorizon.arch": arch, "openhorizon.memory": 2048})),
        policy: stated.get("node policy").cloned(),
        ..NodeFacts::default()
    };
    let facts = NodeFacts {
        properties: facts
            .properties
            .into_iter()
            .filter(|p| p.name != "node policy")
            .collect(),
        ..facts
    };
    let id: NodeId = name.parse().unwrap();
    NodeView::new(&id, owner.map(user).as_ref(), &facts).unwrap_or_else(|error| panic!("{error}"))
}

fn berlin() -> NodeView {
    node("edge-01", Some("alice"), "amd64", json!({"site": "berlin"}))
}

/// A definition of `myorg/u` that declares the secret `s`.
fn plain_service(version: &str, arch: &str) -> (UserId, ServiceDefinition) {
    let text = json!({
        "org": "myorg", "url": "u", "version": version, "arch": arch,
        "deployment": {"services": {"main": {"secrets": {"s": {}}}}},
    });
    service(&text.to_string())
}

/// A definition of `myorg/url` that requires each `url range` and declares these secrets.
fn requiring(url: &str, version: &str, required: &[&str], secrets: &[&str]) -> Service {
    let required = required.iter().map(|one| {
        let (url, range) = one.split_once(' ').unwrap_or((one, ""));
        json!({"url": url, "org": "myorg", "versionRange": range})
    });
    let declared: serde_json::Map<_, _> = secrets
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect();
    let text = json!({
        "org": "myorg", "url": url, "version": version, "sharable": "singleton",
        "requiredServices": required.collect::<Vec<_>>(),
        "deployment": {"services": {"main": {"secrets": declared}}},
    });
    service(&text.to_string())
}

/// A policy document for `myorg/u` that tries `versions` in order and binds `s` to `secret`.
fn plain_policy(versions: &[&str], range: &str, secret: &str) -> Value {
    let version = |(at, version): (usize, &&str)| {
        let priority = json!({"priority_value": at + 1, "retries": 1, "retry_durations": 1});
        json!({"version": version, "priority": priority})
    };
    let versions: Vec<Value> = versions.iter().enumerate().map(version).collect();
    json!({
        "service": {"name": "u", "org": "myorg", "arch": "*", "serviceVersions": versions},
        "secretBinding": [{
            "serviceOrgid": "myorg", "serviceUrl": "u", "serviceVersionRange": range,
            "secrets": [{"s": secret}],
        }],
    })
}

const UPLINK: &str = include_str!("fixtures/uplink.service.json");
const UPLINK_POLICY: &str = include_str!("fixtures/uplink.policy.json");
