//! What deciding who gets what costs, and how it grows: `cargo bench -p edge-secrets-hub`.
//!
//! Beside each time stands the least that it could take here: for the whole, one comparison of two
//! short texts for each node and policy; for a change, one for each node.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should end at once"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use edge_secrets_hub::catalog::records::{
    Belonging, Change, NodeRecord, OrgSnapshot, PolicyRecord, Revision, ServiceRecord,
};
use edge_secrets_hub::deploy::model::Model;
use edge_secrets_hub::deploy::plan::plan;
use edge_secrets_hub::policy::place;
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::{Generation, OrgId};
use jiff::Timestamp;
use serde_json::{Value, json};

fn main() {
    println!(
        "{:>7} {:>8} | {:>22} | {:>30} | {:>30} | {:>22}",
        "nodes",
        "policies",
        "all, floor",
        "a policy, touched, floor",
        "a definition, touched, floor",
        "a node, deployments"
    );
    for (nodes, policies) in SIZES {
        row(*nodes, *policies);
    }
}

fn row(nodes: usize, policies: usize) {
    let model = model(nodes, policies);
    let all = least(|| {
        for node in model.nodes.values() {
            let view = node.placeable().unwrap();
            black_box(place(&model.org, view, &model.definitions));
        }
    });
    let (texts, wanted) = (texts(nodes), texts(policies));
    let compare = |wanted: &[String]| {
        let equal = |site: &String| wanted.iter().filter(|own| *own == site).count();
        black_box(texts.iter().map(equal).sum::<usize>());
    };
    let (every_pair, every_node) = (least(|| compare(&wanted)), least(|| compare(&wanted[..1])));
    let (policy, by_policy) = change(&model, &Change::PutPolicy(policy_record(7, "another")));
    let (service, by_service) = change(&model, &Change::PutService(service_record(7, true)));
    let moved = Change::PutFacts {
        node: "edge-00007".parse().unwrap(),
        facts: Box::new(facts(8)),
    };
    let (one, _) = change(&model, &moved);
    let deployments = plan(&model, &moved).placements[0].deployments.len();
    println!(
        "{nodes:>7} {policies:>8} | {} {} | {} {by_policy:>8} {} | {} {by_service:>8} {} | {} {deployments:>10}",
        shown(all),
        shown(every_pair),
        shown(policy),
        shown(every_node),
        shown(service),
        shown(every_node),
        shown(one),
    );
}

/// The time to know what the change does, and how many nodes it touches.
fn change(model: &Model, change: &Change) -> (Duration, usize) {
    let touched = plan(model, change).placements.len();
    (least(|| drop(black_box(plan(model, change)))), touched)
}

/// The shortest of several runs: what else the machine does only ever adds to it.
fn least(mut work: impl FnMut()) -> Duration {
    let mut time = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..ROUNDS).map(|_| time()).min().unwrap()
}

fn shown(time: Duration) -> String {
    format!("{:>8.2} ms", time.as_secs_f64() * 1e3)
}

fn texts(count: usize) -> Vec<String> {
    (0..count)
        .map(|at| format!("site-{}", at % SITES))
        .collect()
}

fn model(nodes: usize, policies: usize) -> Model {
    let dependency = ServiceRecord {
        document: json!({
            "org": "myorg", "url": "com.example.dep", "version": "1.0.0", "arch": "*",
            "sharable": "singleton",
            "deployment": {"services": {"main": {"secrets": {"token": {}}}}},
        })
        .to_string(),
        url: "com.example.dep".parse().unwrap(),
        ..service_record(0, false)
    };
    let services = (0..policies).map(|at| service_record(at, false));
    let snapshot = OrgSnapshot {
        revision: Revision(1),
        services: services.chain([dependency]).collect(),
        policies: (0..policies).map(|at| policy_record(at, "db")).collect(),
        nodes: (0..nodes).map(node_record).collect(),
        ..OrgSnapshot::default()
    };
    Model::load(&org(), snapshot, None)
}

fn service_record(at: usize, more: bool) -> ServiceRecord {
    let url = format!("com.example.service-{at}");
    let mut document = json!({
        "org": "myorg", "url": url, "version": "1.0.0", "arch": "*",
        "deployment": {"services": {"main": {"secrets": {"cred": {}, "key": {"format": "value_only"}}}}},
    });
    if at % 10 == 3 {
        document["requiredServices"] = json!([{"url": "com.example.dep", "org": "myorg"}]);
    }
    if more {
        document["deployment"]["services"]["other"] = json!({"secrets": {"cred": {}}});
    }
    ServiceRecord {
        url: url.parse().unwrap(),
        version: "1.0.0".to_owned(),
        arch: "*".to_owned(),
        owner: "alice".parse().unwrap(),
        public: false,
        document: document.to_string(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// Most policies are for a site, some for a tier, a few for whatever has the memory.
fn policy_record(at: usize, secret: &str) -> PolicyRecord {
    let constraint = match at % 20 {
        0 => "openhorizon.memory >= 16384".to_owned(),
        1..=3 => format!("tier in \"prod-{at},spare-{at}\" AND openhorizon.memory >= 512"),
        _ => format!("site == site-{} AND openhorizon.memory >= 512", at % SITES),
    };
    let entry = |url: String, secrets: Value| json!({"serviceOrgid": "myorg", "serviceUrl": url, "secrets": secrets});
    let own = json!([{"cred": secret}, {"key": "tls"}]);
    let document = json!({
        "service": {"name": format!("com.example.service-{at}"), "org": "myorg", "arch": "*",
            "serviceVersions": [{"version": "1.0.0"}]},
        "properties": [{"name": "purpose", "value": "measuring"}],
        "constraints": [constraint],
        "secretBinding": [
            entry(format!("com.example.service-{at}"), own),
            entry("com.example.dep".to_owned(), json!([{"token": "shared"}])),
        ],
    });
    PolicyRecord {
        name: format!("policy-{at:05}").parse().unwrap(),
        owner: "alice".parse().unwrap(),
        document: document.to_string(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn node_record(at: usize) -> NodeRecord {
    NodeRecord {
        node: format!("edge-{at:05}").parse().unwrap(),
        belongs: Belonging::default(),
        revoked: false,
        facts: facts(at),
        generation: Generation(1),
        enrolled_at: Timestamp::UNIX_EPOCH,
        seen_at: None,
        behind_since: None,
    }
}

fn facts(at: usize) -> NodeFacts {
    let property = |name: &str, value: Value| Property {
        name: name.to_owned(),
        value,
        kind: None,
    };
    NodeFacts {
        properties: vec![
            property("site", json!(format!("site-{}", at % SITES))),
            property("tier", json!(format!("prod-{}", at % 1000))),
            property("rack", json!(at % 40)),
            property("roles", json!(["camera", "gateway"])),
        ],
        built_in: vec![
            property("openhorizon.arch", json!("amd64")),
            property("openhorizon.cpu", json!(4)),
            property("openhorizon.memory", json!(1024 << (at % 5))),
            property("openhorizon.operatingSystem", json!("debian")),
        ],
        policy: Some(json!({"constraints": ["purpose != testing"]})),
        ..NodeFacts::default()
    }
}

fn org() -> OrgId {
    "myorg".parse().unwrap()
}

const SIZES: &[(usize, usize)] = &[
    (1_000, 100),
    (10_000, 100),
    (1_000, 1_000),
    (2_000, 1_000),
    (5_000, 1_000),
    (10_000, 1_000),
];
const SITES: usize = 100;
const ROUNDS: usize = 5;
