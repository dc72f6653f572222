mod catalog;
mod foreign;

use std::collections::BTreeMap;

use edge_secrets_protocol::limits::{MAX_DEPLOYMENTS, MAX_NODE_SECRETS};
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::{Generation, NodeId, OrgId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::model::Model;
use super::plan::{candidates, new_faults, node_counts, plan};
use super::shelf::Shelf;
use super::within_bounds;
use crate::catalog::records::{
    Belonging, Change, NodePlacement, NodeRecord, OrgSnapshot, PatternRecord, Placed, PolicyRecord,
    PublicSnapshot, Revision, ServiceRecord,
};
use crate::policy::place;
use crate::wire::ChangeKind;

fn org() -> OrgId {
    "myorg".parse().unwrap()
}

fn service(url: &str, version: &str, secret: &str) -> ServiceRecord {
    let mut secrets = serde_json::Map::new();
    secrets.insert(secret.to_owned(), json!({}));
    let document = json!({
        "org": "myorg", "url": url, "version": version, "arch": "*",
        "deployment": { "services": { "main": { "image": "x", "secrets": secrets } } },
    });
    ServiceRecord {
        url: url.parse().unwrap(),
        version: version.into(),
        arch: "*".into(),
        owner: "alice".parse().unwrap(),
        public: false,
        document: document.to_string(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn policy(name: &str, url: &str, version: &str, site: &str, secret: &str) -> PolicyRecord {
    let document = json!({
        "service": { "name": url, "org": "myorg", "arch": "*",
            "serviceVersions": [{ "version": version }] },
        "constraints": [format!("site == {site}")],
        "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": url, "serviceArch": "*",
            "serviceVersionRange": "[0.0.0,INFINITY)", "secrets": [{ secret: "db" }] }],
    });
    PolicyRecord {
        name: name.parse().unwrap(),
        owner: "alice".parse().unwrap(),
        document: document.to_string(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn facts(site: &str) -> NodeFacts {
    NodeFacts {
        properties: vec![Property {
            name: "site".into(),
            value: site.into(),
            kind: None,
        }],
        ..NodeFacts::default()
    }
}

fn node(name: &str, site: &str, revoked: bool) -> NodeRecord {
    NodeRecord {
        node: name.parse().unwrap(),
        belongs: Belonging::default(),
        revoked,
        facts: facts(site),
        generation: Generation(1),
        enrolled_at: Timestamp::UNIX_EPOCH,
        seen_at: None,
        behind_since: None,
    }
}

fn snapshot(
    services: Vec<ServiceRecord>,
    policies: Vec<PolicyRecord>,
    nodes: Vec<NodeRecord>,
) -> OrgSnapshot {
    OrgSnapshot {
        revision: Revision(7),
        services,
        policies,
        nodes,
        ..OrgSnapshot::default()
    }
}

fn sample() -> Model {
    let snapshot = snapshot(
        vec![service("uplink", "1.0.0", "cred")],
        vec![policy("p", "uplink", "1.0.0", "berlin", "cred")],
        vec![
            node("n1", "berlin", false),
            node("n2", "paris", false),
            node("n3", "berlin", true),
        ],
    );
    Model::load(&org(), snapshot, None)
}

fn names(placements: &[NodePlacement]) -> Vec<&str> {
    placements.iter().map(|p| p.node.as_str()).collect()
}

#[test]
fn a_policy_touches_the_nodes_it_matches_and_no_revoked_one() {
    let model = sample();
    let removal = Change::RemovePolicy("p".parse().unwrap());
    let removal = plan(&model, &removal);
    assert_eq!(names(&removal.placements), ["n1"]);
    assert_eq!(removal.placements[0].deployments, []);
    assert_eq!(removal.changes[0].change, ChangeKind::Undeploy);
    assert_eq!(removal.untouched, 2);

    let moved = Change::PutPolicy(policy("p", "uplink", "1.0.0", "paris", "cred"));
    let moved = plan(&model, &moved);
    assert_eq!(names(&moved.placements), ["n1", "n2"]);
    let kinds: Vec<_> = moved.changes.iter().map(|c| c.change).collect();
    assert_eq!(kinds, [ChangeKind::Undeploy, ChangeKind::Deploy]);
}

/// Whose name comes first has it; both publishers are told.
#[test]
fn policies_that_want_the_same_service_are_told_of_each_other() {
    let snapshot = snapshot(
        vec![
            service("uplink", "1.0.0", "cred"),
            service("other", "1.0.0", "cred"),
        ],
        vec![
            policy("m", "uplink", "1.0.0", "berlin", "cred"),
            policy("o", "other", "1.0.0", "berlin", "cred"),
        ],
        vec![
            node("n1", "berlin", false),
            node("n2", "berlin", false),
            node("n3", "paris", false),
        ],
    );
    let model = Model::load(&org(), snapshot, None);
    let told = |name: &str, url: &str, site: &str, secret: &str| {
        let record = policy(name, url, "1.0.0", site, secret);
        let plan = plan(&model, &Change::PutPolicy(record));
        (plan.rivals, plan.changes.len())
    };
    assert_eq!(
        told("z", "uplink", "berlin", "cred"),
        (
            vec![
                "myorg/uplink stays with policy m on 2 nodes, which this one matches too: its name comes \
                 before z"
                    .to_owned()
            ],
            0
        )
    );
    assert_eq!(
        told("a", "uplink", "berlin", "cred"),
        (
            vec![
                "myorg/uplink is taken from policy m on 2 nodes: its name comes after a".to_owned()
            ],
            4
        )
    );
    // Elsewhere, for another service, or where it could not be deployed anyway, it is nobody's rival.
    for (name, url, site, secret) in [
        ("z", "uplink", "paris", "cred"),
        ("z", "other", "munich", "cred"),
        ("z", "uplink", "berlin", "another"),
        ("m", "uplink", "berlin", "cred"),
    ] {
        assert_eq!(told(name, url, site, secret).0, [""; 0]);
    }
}

#[test]
fn a_node_that_moves_leaves_the_others_alone() {
    let model = sample();
    let moved = plan(
        &model,
        &Change::PutFacts {
            node: "n1".parse().unwrap(),
            facts: Box::new(facts("paris")),
        },
    );
    assert_eq!(names(&moved.placements), ["n1"]);
    assert_eq!(moved.placements[0].deployments, []);
    assert_eq!(moved.untouched, 2);

    let revoked = plan(&model, &Change::RevokeNode("n1".parse().unwrap()));
    assert_eq!(revoked.placements[0].deployments, []);
    assert_eq!(revoked.changes[0].change, ChangeKind::Undeploy);
    let removed = plan(&model, &Change::RemoveNode("n1".parse().unwrap()));
    assert_eq!(names(&removed.placements), [""; 0]);
    assert_eq!(removed.changes.len(), 1);
}

#[test]
fn what_a_new_definition_breaks_is_named() {
    let (model, uplink) = (sample(), "myorg/uplink".parse().unwrap());
    let change = Change::PutService(service("uplink", "1.0.0", "other"));
    let broken = new_faults(
        &uplink,
        &model.definitions,
        &model.definitions_after(&change),
    );
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].0.to_string(), "p");
    assert!(broken[0].1[0].contains("other"), "{broken:?}");
    let again = Change::PutService(service("uplink", "1.0.0", "cred"));
    let fine = new_faults(
        &uplink,
        &model.definitions,
        &model.definitions_after(&again),
    );
    assert_eq!(fine, []);
}

#[test]
fn a_document_of_tomorrow_is_skipped_and_the_rest_stays() {
    let mut tomorrow = policy("of-tomorrow", "uplink", "1.0.0", "berlin", "cred");
    tomorrow.document = r#"{"service": 7}"#.into();
    let mut broken = service("sensor", "1.0.0", "cred");
    broken.document = "{".into();
    let snapshot = snapshot(
        vec![service("uplink", "1.0.0", "cred"), broken],
        vec![tomorrow, policy("p", "uplink", "1.0.0", "berlin", "cred")],
        vec![node("n1", "berlin", false)],
    );
    let model = Model::load(&org(), snapshot, None);
    assert_eq!((model.services.len(), model.policies.len()), (2, 2));
    let (definitions, count) = (&model.definitions, node_counts(&model));
    assert_eq!(
        (
            definitions.services.iter().count(),
            definitions.policies.len()
        ),
        (1, 1)
    );
    assert_eq!(count, BTreeMap::from([("p".parse().unwrap(), 1)]));
}

fn sites() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["berlin", "paris"][..])
}

fn any_service() -> impl Strategy<Value = ServiceRecord> {
    let url = prop::sample::select(&["gps", "uplink", "dep"][..]);
    let version = prop::sample::select(&["1.0.0", "2.0.0"][..]);
    let secret = prop::sample::select(&["cred", "key"][..]);
    let required = prop::sample::select(&["", "gps", "uplink", "dep"][..]);
    (url, version, secret, required).prop_map(|(url, version, secret, required)| {
        let mut record = service(url, version, secret);
        if !required.is_empty() && required != url {
            let mut document: serde_json::Value = serde_json::from_str(&record.document).unwrap();
            document["requiredServices"] = json!([{"url": required, "org": "myorg"}]);
            document["sharable"] = json!("singleton");
            record.document = document.to_string();
        }
        record
    })
}

fn any_policy() -> impl Strategy<Value = PolicyRecord> {
    let name = prop::sample::select(&["a", "b", "c"][..]);
    let url = prop::sample::select(&["gps", "uplink", "dep"][..]);
    let version = prop::sample::select(&["1.0.0", "2.0.0"][..]);
    let secret = prop::sample::select(&["cred", "key"][..]);
    (name, url, version, sites(), secret).prop_map(|(name, url, version, site, secret)| {
        let mut record = policy(name, url, version, site, secret);
        let mut document: serde_json::Value = serde_json::from_str(&record.document).unwrap();
        // What the service may require is bound as well.
        let more = ["gps", "uplink", "dep"]
            .into_iter()
            .filter(|other| *other != url);
        let more = more.map(|url| {
            let secrets = json!([{"cred": name}, {"key": name}]);
            json!({"serviceOrgid": "myorg", "serviceUrl": url, "secrets": secrets})
        });
        let entries = document["secretBinding"].as_array_mut().unwrap();
        entries.extend(more);
        record.document = document.to_string();
        record
    })
}

fn pattern(name: &str, services: &[(&str, &str)], secret: &str) -> PatternRecord {
    let offers = services.iter().map(|(url, version)| {
        json!({"serviceOrgid": "myorg", "serviceUrl": url, "serviceArch": "*",
               "serviceVersions": [{"version": version}]})
    });
    let bindings = ["gps", "uplink", "dep"].map(|url| {
        let secrets = json!([{"cred": name}, {"key": secret}]);
        json!({"serviceOrgid": "myorg", "serviceUrl": url, "secrets": secrets})
    });
    let document = json!({"services": offers.collect::<Vec<_>>(), "secretBinding": bindings});
    PatternRecord {
        name: name.parse().unwrap(),
        owner: "alice".parse().unwrap(),
        public: false,
        document: document.to_string(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn any_pattern() -> impl Strategy<Value = PatternRecord> {
    let name = prop::sample::select(&["a", "b"][..]);
    let url = prop::sample::select(&["gps", "uplink", "dep"][..]);
    let version = prop::sample::select(&["1.0.0", "2.0.0"][..]);
    let services = prop::collection::vec((url, version), 1..4);
    (name, services, "[x-z]").prop_map(|(name, services, secret)| pattern(name, &services, &secret))
}

fn any_choice() -> impl Strategy<Value = Option<edge_secrets_protocol::PatternId>> {
    let name = prop::sample::select(&["myorg/a", "myorg/b", "other/a"][..]);
    prop::option::of(name.prop_map(|name| name.parse().unwrap()))
}

fn any_snapshot() -> impl Strategy<Value = OrgSnapshot> {
    let services = prop::collection::vec(any_service(), 0..6);
    let policies = prop::collection::vec(any_policy(), 0..4);
    let patterns = prop::collection::vec(any_pattern(), 0..3);
    let nodes = prop::collection::vec((sites(), any::<bool>(), any_choice()), 0..4);
    (services, policies, patterns, nodes).prop_map(|(services, policies, patterns, nodes)| {
        let by_key = |s: ServiceRecord| ((s.url.clone(), s.version.clone()), s);
        let services: BTreeMap<_, _> = services.into_iter().map(by_key).collect();
        let policies: BTreeMap<_, _> = policies.into_iter().map(|p| (p.name.clone(), p)).collect();
        let patterns: BTreeMap<_, _> = patterns.into_iter().map(|p| (p.name.clone(), p)).collect();
        let nodes = nodes.into_iter().enumerate();
        let nodes = nodes.map(|(at, (site, revoked, pattern))| NodeRecord {
            belongs: Belonging {
                owner: None,
                pattern,
            },
            ..node(&format!("n{at}"), site, revoked)
        });
        OrgSnapshot {
            patterns: patterns.into_values().collect(),
            ..snapshot(
                services.into_values().collect(),
                policies.into_values().collect(),
                nodes.collect(),
            )
        }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_service().prop_map(Change::PutService),
        any_service().prop_map(|s| Change::RemoveService {
            url: s.url,
            version: s.version,
            arch: s.arch,
        }),
        any_policy().prop_map(Change::PutPolicy),
        any_policy().prop_map(|p| Change::RemovePolicy(p.name)),
        any_pattern().prop_map(Change::PutPattern),
        any_pattern().prop_map(|p| Change::RemovePattern(p.name)),
        ("n[0-3]", any_choice()).prop_map(|(node, pattern)| Change::SetPattern {
            node: node.parse().unwrap(),
            pattern,
        }),
        ("n[0-3]", sites()).prop_map(|(node, site)| Change::PutFacts {
            node: node.parse().unwrap(),
            facts: Box::new(facts(site)),
        }),
        "n[0-3]".prop_map(|node| Change::RevokeNode(node.parse().unwrap())),
        "n[0-3]".prop_map(|node| Change::RemoveNode(node.parse().unwrap())),
    ]
}

/// Everything that every node gets, computed from nothing.
fn whole(model: &Model) -> BTreeMap<NodeId, Vec<Placed>> {
    let placed = |(id, node): (&NodeId, &std::sync::Arc<super::model::NodeModel>)| {
        let view = node.placeable();
        let placed = view.map_or_else(Vec::new, |view| place(&org(), view, &model.definitions));
        (id.clone(), placed)
    };
    model.nodes.iter().map(placed).collect()
}

/// The same snapshot as the records say it after the change, as the catalog would give it.
fn after(model: &Model, before: &OrgSnapshot, change: &Change) -> OrgSnapshot {
    let mut nodes = before.nodes.clone();
    match change {
        Change::PutFacts { node, facts } => {
            for record in nodes.iter_mut().filter(|record| record.node == *node) {
                record.facts = (**facts).clone();
            }
        }
        Change::SetPattern { node, pattern } => {
            for record in nodes.iter_mut().filter(|record| record.node == *node) {
                record.belongs.pattern.clone_from(pattern);
            }
        }
        Change::RevokeNode(node) => {
            for record in nodes.iter_mut().filter(|record| record.node == *node) {
                record.revoked = true;
            }
        }
        Change::RemoveNode(node) => nodes.retain(|record| record.node != *node),
        _ => {}
    }
    OrgSnapshot {
        default_manager: None,
        revision: Revision(8),
        patterns: model.patterns.values().map(|r| (**r).clone()).collect(),
        services: model.services.values().map(|r| (**r).clone()).collect(),
        policies: model.policies.values().map(|r| (**r).clone()).collect(),
        nodes,
    }
}

/// What another organisation, `other`, publishes: the same, under its name.
fn any_shelf() -> impl Strategy<Value = std::sync::Arc<Shelf>> {
    let services = prop::collection::vec(any_service(), 0..6);
    let patterns = prop::collection::vec(any_pattern(), 0..3);
    (services, patterns).prop_map(|(services, patterns)| {
        let other = |document: &str| document.replace("\"myorg\"", "\"other\"");
        let services = services.into_iter().map(|mut record| {
            record.document = other(&record.document);
            ((record.url.clone(), record.version.clone()), record)
        });
        let patterns = patterns.into_iter().map(|mut record| {
            record.document = other(&record.document);
            (record.name.clone(), record)
        });
        let services: BTreeMap<_, _> = services.collect();
        let patterns: BTreeMap<_, _> = patterns.collect();
        let snapshot = PublicSnapshot {
            published: Revision(1),
            services: services.into_values().collect(),
            patterns: patterns.into_values().collect(),
        };
        std::sync::Arc::new(Shelf::load(&"other".parse().unwrap(), snapshot, None))
    })
}

fn shelves(shelf: &std::sync::Arc<Shelf>) -> BTreeMap<OrgId, std::sync::Arc<Shelf>> {
    BTreeMap::from([("other".parse().unwrap(), std::sync::Arc::clone(shelf))])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Nodes on another organisation's patterns, when that publishes something else: they get what a
    /// computation from nothing gives, and nobody else is looked at.
    #[test]
    fn following_is_what_a_whole_computation_would_give(
        before in any_snapshot(), old in any_shelf(), new in any_shelf(),
    ) {
        let mut model = Model::load(&org(), before.clone(), None);
        model.meet(shelves(&old));
        let mut stored = whole(&model);
        model.meet(shelves(&new));
        let plan = plan(&model, &Change::Follow("other".parse().unwrap()));
        for placement in plan.placements {
            let on = model.nodes[&placement.node].belongs.pattern.as_ref();
            prop_assert_eq!(on.map(|on| on.org.as_str()), Some("other"));
            stored.insert(placement.node, placement.deployments);
        }
        prop_assert_eq!(&stored, &whole(&model));
        let mut fresh = Model::load(&org(), before, None);
        fresh.meet(shelves(&new));
        prop_assert_eq!(stored, whole(&fresh));
    }

    /// Whatever the change: the nodes that the plan does not name keep exactly what they have, the
    /// others get exactly what a computation from nothing gives, and a model that moved on over the
    /// change is the model of the snapshot after it.
    #[test]
    fn a_plan_is_what_a_whole_computation_would_give(
        before in any_snapshot(), shelf in any_shelf(), change in any_change(),
    ) {
        let mut model = Model::load(&org(), before.clone(), None);
        model.meet(shelves(&shelf));
        let old = whole(&model);
        let mut plan = plan(&model, &change);
        model.advance(&change, plan.definitions.clone(), plan.node.take(), Revision(8));
        let new = whole(&model);

        let mut stored = old.clone();
        for placement in &plan.placements {
            stored.insert(placement.node.clone(), placement.deployments.clone());
        }
        if let Change::RemoveNode(node) = &change {
            stored.remove(node);
        }
        stored.retain(|node, _| new.contains_key(node));
        prop_assert_eq!(&stored, &new);
        prop_assert!(plan.placements.len() <= old.len().max(1));

        let reloaded = Model::load(&org(), after(&model, &before, &change), Some(&model));
        prop_assert_eq!(whole(&reloaded), new);
        let mut fresh = Model::load(&org(), after(&model, &before, &change), None);
        fresh.meet(shelves(&shelf));
        prop_assert_eq!(whole(&fresh), whole(&reloaded));
    }

    #[test]
    fn whatever_a_policy_deploys_is_among_its_candidates(
        before in any_snapshot(), shelf in any_shelf(),
    ) {
        let mut model = Model::load(&org(), before, None);
        model.meet(shelves(&shelf));
        for (node, placed) in whole(&model) {
            for placed in placed {
                prop_assert!(candidates(&model, &placed.policy).contains(&node));
            }
        }
    }
}

/// A node is on a pattern or on policies: a change of the others is nothing to it.
#[test]
fn a_pattern_touches_the_nodes_that_are_on_it_alone() {
    let on = |name: &str, pattern: &str| NodeRecord {
        belongs: Belonging {
            owner: None,
            pattern: Some(pattern.parse().unwrap()),
        },
        ..node(name, "berlin", false)
    };
    let snapshot = OrgSnapshot {
        patterns: vec![pattern("a", &[("uplink", "1.0.0")], "x")],
        ..snapshot(
            vec![service("uplink", "1.0.0", "cred")],
            vec![policy("p", "uplink", "1.0.0", "berlin", "cred")],
            vec![
                node("n1", "berlin", false),
                on("n2", "myorg/a"),
                on("n3", "myorg/b"),
                on("n4", "other/a"),
            ],
        )
    };
    let model = Model::load(&org(), snapshot, None);
    let of = |change: &Change| {
        let plan = plan(&model, change);
        let changes = plan.changes.iter();
        let line =
            |c: &crate::wire::DeploymentChange| format!("{} {:?} {}", c.node, c.change, c.policy);
        changes.map(line).collect::<Vec<_>>()
    };
    let policy = Change::RemovePolicy("p".parse().unwrap());
    assert_eq!(of(&policy), ["n1 Undeploy p"]);
    let gone = Change::RemovePattern("a".parse().unwrap());
    assert_eq!(of(&gone), ["n2 Undeploy pattern:myorg/a"]);
    let more = Change::PutPattern(pattern("b", &[("uplink", "1.0.0")], "x"));
    assert_eq!(of(&more), ["n3 Deploy pattern:myorg/b"]);
    let set = |node: &str, pattern: Option<&str>| Change::SetPattern {
        node: node.parse().unwrap(),
        pattern: pattern.map(|name| name.parse().unwrap()),
    };
    let onto = ["n1 Deploy pattern:myorg/a", "n1 Undeploy p"];
    let mut told = of(&set("n1", Some("myorg/a")));
    told.sort();
    assert_eq!(told, onto);
    assert_eq!(of(&set("n1", Some("myorg/b"))), ["n1 Undeploy p"]);
    let counts = node_counts(&model);
    let both = ["p", "pattern:myorg/a"].map(|name| (name.parse().unwrap(), 1));
    assert_eq!(counts, BTreeMap::from(both));
    assert_eq!(
        candidates(&model, &"pattern:myorg/a".parse().unwrap()),
        ["n2".parse().unwrap()]
    );
    assert_eq!(
        candidates(&model, &"p".parse().unwrap()),
        ["n1".parse().unwrap()]
    );
}

#[test]
fn a_definition_that_would_overfill_a_node_is_refused() {
    let placed = |at: usize| Placed {
        id: format!("d{at}").parse().unwrap(),
        policy: "p".parse().unwrap(),
        service: "myorg/s".parse().unwrap(),
        service_version: "1.0.0".into(),
        consumers: vec![],
        required_by: Vec::new(),
        bindings: BTreeMap::new(),
    };
    let full = |deployments: usize| NodePlacement {
        node: "edge-01".parse().unwrap(),
        deployments: (0..deployments).map(placed).collect(),
    };
    let change = Change::PutPolicy(PolicyRecord {
        name: "p".parse().unwrap(),
        owner: "alice".parse().unwrap(),
        document: "{}".into(),
        updated_at: crate::clock::now(),
    });
    assert!(within_bounds(&change, &[full(MAX_DEPLOYMENTS)]).is_ok());
    let refused = within_bounds(&change, &[full(1), full(MAX_DEPLOYMENTS + 1)]);
    assert!(refused.unwrap_err().detail.contains("edge-01"));

    let name = |at: usize| format!("s{at}").parse().unwrap();
    let binding = crate::catalog::records::PlacedBinding {
        candidates: vec![],
        denied: false,
        optional: false,
    };
    let mut many = full(1);
    many.deployments[0].bindings = (0..=MAX_NODE_SECRETS)
        .map(|at| (name(at), binding.clone()))
        .collect();
    assert!(within_bounds(&change, &[many]).is_err());
}
