//! Generated worlds as documents of Open Horizon, read by the room that is checked.

use serde_json::{Map, Value, json};

use super::super::{
    Definitions, DeploymentPolicy, NodeView, ServiceDefinition, definitions as gather, user,
};
use super::world::{Node, Plain, Policy, Range, Service, Tree, World};
use edge_secrets_protocol::node::{NodeFacts, Property};

pub(super) fn definitions(world: &World) -> Definitions {
    let service = |one: &Service| {
        let text = service(one).to_string();
        let read =
            ServiceDefinition::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (user("dev"), read)
    };
    let policy = |one: &Policy| {
        let text = policy(one).to_string();
        let read = DeploymentPolicy::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (one.name.parse().unwrap(), user(one.owner), read)
    };
    gather(
        world.services.iter().map(service).collect(),
        world.policies.iter().map(policy).collect(),
    )
}

pub(super) fn node(node: &Node) -> NodeView {
    let id = node.name.parse().unwrap();
    NodeView::new(&id, node.owner.map(user).as_ref(), &facts(node)).unwrap()
}

/// For whoever looks for the mistake.
pub(super) fn shown(world: &World, node: &Node) -> String {
    let services: Vec<Value> = world.services.iter().map(service).collect();
    let policies = world.policies.iter();
    let policies: Map<String, Value> = policies.map(|p| (p.name.clone(), policy(p))).collect();
    let all = json!({"services": services, "policies": policies, "node": facts(node), "owner": node.owner});
    serde_json::to_string_pretty(&all).unwrap()
}

fn service(one: &Service) -> Value {
    let mut secrets = Map::new();
    for (name, optional) in &one.secrets {
        let declared = if *optional {
            json!({"optional": true})
        } else {
            json!({})
        };
        secrets.insert((*name).to_owned(), declared);
    }
    let required = one.requires.iter().map(|(url, wanted, arch)| {
        json!({"url": format!("u{url}"), "org": "myorg", "versionRange": range(wanted), "arch": arch})
    });
    let mut document = json!({
        "org": "myorg", "url": format!("u{}", one.url), "version": version(one.version),
        "arch": one.arch, "sharable": if one.singleton { "singleton" } else { "multiple" },
        "requiredServices": required.collect::<Vec<_>>(),
        "servicePolicy": {"properties": properties(&one.properties), "constraints": trees(&one.wants)},
    });
    match one.cluster {
        true => document["clusterDeployment"] = json!({"operatorYamlArchive": "x"}),
        false => {
            let main = json!({"secrets": secrets, "privileged": one.privileged});
            let deployment = json!({"services": {"main": main}});
            // Signed deployments are texts.
            document["deployment"] = match one.version {
                3 => deployment.to_string().into(),
                _ => deployment,
            };
        }
    }
    document
}

fn policy(one: &Policy) -> Value {
    let versions = one.versions.iter().map(|(wanted, priority)| {
        let retries = u64::from(*priority != 0);
        json!({"version": version(*wanted), "priority": {
            "priority_value": priority, "retries": retries, "retry_durations": retries}})
    });
    let bindings = one.bindings.iter().map(|entry| {
        let secrets = entry.secrets.iter().map(|(name, reference)| json!({*name: reference}));
        json!({
            "serviceOrgid": "myorg", "serviceUrl": format!("u{}", entry.url), "serviceArch": entry.arch,
            "serviceVersionRange": range(&entry.range), "enableNodeLevelSecrets": entry.node_level,
            "secrets": secrets.collect::<Vec<_>>(),
        })
    });
    json!({
        "service": {"name": format!("u{}", one.url), "org": "myorg", "arch": one.arch,
            "serviceVersions": versions.collect::<Vec<_>>()},
        "properties": properties(&one.properties),
        "constraints": trees(&one.wants),
        "secretBinding": bindings.collect::<Vec<_>>(),
    })
}

fn facts(node: &Node) -> NodeFacts {
    let property = |name: &str, value: Value| Property {
        name: name.to_owned(),
        value,
        kind: None,
    };
    let mut stated = properties(&node.properties);
    if let Some(allows) = node.allows_privileged {
        stated.push(json!({"name": "openhorizon.allowPrivileged", "value": allows}));
    }
    let mut built_in = vec![property("openhorizon.memory", json!(1024))];
    if !node.arch.is_empty() {
        // Under another name than definitions have.
        let arch = if node.arch == "amd64" {
            "x86_64"
        } else {
            "aarch64"
        };
        built_in.push(property("openhorizon.arch", json!(arch)));
    }
    NodeFacts {
        built_in,
        policy: Some(
            json!({"deployment": {"properties": stated, "constraints": trees(&node.wants)}}),
        ),
        ..NodeFacts::default()
    }
}

fn properties(list: &[(&'static str, Plain)]) -> Vec<Value> {
    let property = |(name, value): &(&str, Plain)| match value {
        Plain::Text(text) => json!({"name": name, "value": text}),
        Plain::Number(number) => json!({"name": name, "value": number}),
        Plain::Flag(flag) => json!({"name": name, "value": flag}),
        Plain::Version(own) => json!({"name": name, "value": version(*own), "type": "version"}),
        Plain::List(items) => json!({"name": name, "value": items}),
    };
    list.iter().map(property).collect()
}

fn trees(list: &[Tree]) -> Vec<String> {
    list.iter().map(tree).collect()
}

fn tree(tree_: &Tree) -> String {
    match tree_ {
        Tree::And(one, other) => format!("({}) AND ({})", tree(one), tree(other)),
        Tree::Or(one, other) => format!("({}) || ({})", tree(one), tree(other)),
        Tree::In(name, wanted) => format!("{name} in {}", range(wanted)),
        Tree::Leaf(name, operator, value) => {
            let text = match value {
                Plain::Text(text) => format!("\"{text}\""),
                Plain::Number(number) => number.to_string(),
                Plain::Flag(flag) => flag.to_string(),
                Plain::Version(own) => version(*own),
                Plain::List(items) => items.join(","),
            };
            format!("{name} {operator} {text}")
        }
    }
}

fn range(range: &Range) -> String {
    let (open, close) = (
        if range.low_in { '[' } else { '(' },
        if range.high_in { ']' } else { ')' },
    );
    let high = range.high.map_or_else(|| "INFINITY".to_owned(), version);
    format!("{open}{},{high}{close}", version(range.low))
}

fn version(version: i64) -> String {
    format!("{version}.0.0")
}
