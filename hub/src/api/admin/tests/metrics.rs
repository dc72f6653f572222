//! What the hub counts.

use std::collections::BTreeMap;

use super::managed::{CANARY, Scene};
use super::*;
use crate::catalog::records::Unsettled;
use crate::managers::{Effect, Fault, Target};
use crate::wire::NodeInfo;

/// Values by name and labels. Fails on what is no Prometheus text (exposition format 0.0.4).
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut values = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<_> = comment.splitn(3, ' ').collect();
            assert_eq!(words.len(), 3, "{line}");
            match words[0] {
                "HELP" => {}
                "TYPE" => {
                    assert!(["counter", "gauge"].contains(&words[2]), "{line}");
                    let twice = types.insert(words[1], words[2]);
                    assert_eq!(twice, None, "{line}");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let kind = types.get(name);
        assert!(kind.is_some(), "its type comes first: {line}");
        assert_eq!(name.ends_with("_total"), kind == Some(&"counter"), "{line}");
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(plain), "{line}");
        let labels = labels.strip_suffix('}').unwrap();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').unwrap();
            assert!(key.chars().all(plain), "{line}");
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            assert!(!value.contains(['"', '\\']), "{line}");
        }
        let before = values.insert(series.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "twice: {line}");
    }
    values
}

#[tokio::test]
async fn administrators_read_what_is_counted() {
    let scene = Scene::new().await;
    for user in ["alice", "bob"] {
        scene.get(user, "/v1/metrics").await.refused(Code::Denied);
    }
    let metrics = async || parse(&scene.get("root", "/v1/metrics").await.ok().text());
    let open = "edge_secrets_hub_manager_left_alone{manager=\"vault\"}";
    let calls = |call: &str, result: &str| {
        format!(
            "edge_secrets_hub_manager_calls_total\
             {{manager=\"vault\",call=\"{call}\",result=\"{result}\"}}"
        )
    };
    let before = metrics().await;
    assert_eq!(
        (before[open], before["edge_secrets_hub_watching_nodes"]),
        (0.0, 0.0)
    );
    assert!(!before.contains_key(&calls("describe", "ok")));

    scene.vault.put("team/db", &[("value", CANARY)]);
    for _ in 0..3 {
        scene.get("root", "managed/vault:team/db").await.ok();
    }
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let _watcher = scene.world.hub.feed.watch(&org, &node);
    scene.vault.suffer(
        Some(Fault::RateLimited),
        Some(std::time::Duration::from_secs(60)),
    );
    let limited = scene.get("root", "managed/vault:team/db").await;
    limited.refused(Code::RateLimited);
    let after = metrics().await;
    assert_eq!(after[&calls("describe", "ok")], 3.0);
    assert_eq!(after[&calls("describe", "rate_limited")], 1.0);
    assert_eq!(
        (after[open], after["edge_secrets_hub_watching_nodes"]),
        (1.0, 1.0)
    );
    for state in ["wanted", "minting", "dropped", "live", "ending", "refused"] {
        let series = format!("edge_secrets_hub_leases{{state=\"{state}\"}}");
        assert_eq!(after[&series], 0.0, "{state}");
    }
    scene.expect_no_value().await;
}

#[tokio::test]
async fn credentials_that_nobody_knows_of_are_told() {
    let scene = Scene::new().await;
    let series = "edge_secrets_manager_unknown_outcomes_total{manager=\"vault\"}";
    let told = async || parse(&scene.get("root", "/v1/metrics").await.ok().text())[series];
    assert_eq!(told().await, 0.0);
    scene.vault.leased("team/creds", Effect::Mints);
    scene
        .vault
        .fail("team/creds", Fault::OutcomeUnknown, Some(1));
    let (org, reference) = (
        "myorg".parse().unwrap(),
        "vault:team/creds".parse().unwrap(),
    );
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let managers = &scene.world.hub.managers;
    let vault = managers.of(&reference).unwrap().unwrap();
    vault.mint(target).await.err().unwrap();
    assert_eq!(told().await, 1.0);
}

#[tokio::test]
async fn an_organisation_reads_of_its_own_managers_and_nodes_alone() {
    let scene = Scene::new().await;
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let _watcher = scene.world.hub.feed.watch(&org, &node);
    let metrics = async |user: &str| scene.get(user, "/v1/metrics").await.ok().text();
    let (root, mallory) = (metrics("root").await, metrics("mallory").await);
    let hidden = "manager=\"hidden\"";
    assert!(!root.contains(hidden) && mallory.contains(hidden), "{root}");
    assert!(root.contains("manager=\"vault\""), "{root}");
    let watching = "edge_secrets_hub_watching_nodes";
    assert_eq!(
        (parse(&root)[watching], parse(&mallory)[watching]),
        (1.0, 0.0)
    );
}

/// Applied is compared with desired for every node.
#[tokio::test]
async fn nodes_that_are_behind_are_counted_until_they_report() {
    let world = World::new().await;
    world.publish_samples().await;
    let metrics = async || parse(&world.get("root", "/v1/metrics").await.ok().text());
    let behind = async || {
        let metrics = metrics().await;
        ["yes", "no"].map(|connected| {
            let of = |name: &str| {
                metrics[&format!("edge_secrets_hub_nodes_{name}{{connected=\"{connected}\"}}")]
            };
            (of("behind"), of("behind_longest_seconds") > 0.0)
        })
    };
    let unsettled = |metrics: &BTreeMap<String, f64>, state: &str| {
        metrics[&format!("edge_secrets_hub_nodes_unsettled{{state=\"{state}\"}}")]
    };
    assert_eq!(behind().await, [(0.0, false); 2]);
    world.enrol("n1", "berlin", None).await;
    world.enrol("n2", "berlin", None).await;
    let (org, n1) = ("myorg".parse().unwrap(), "n1".parse().unwrap());
    let _watching = world.hub.feed.watch(&org, &n1);
    assert_eq!(behind().await, [(1.0, true), (1.0, true)]);
    world.report_applied("n1").await;
    world.report_applied("n2").await;
    assert_eq!(behind().await, [(0.0, false); 2]);
    world.set("root", "db", "v2").await.ok();
    world.report_applied("n1").await;
    assert_eq!(behind().await, [(0.0, false), (1.0, true)]);

    let listed = async || -> Vec<NodeInfo> { world.get("bob", "nodes?behind=true").await.json() };
    let [n2] = &listed().await[..] else {
        panic!("one is behind")
    };
    assert_eq!((n2.node.as_str(), n2.unsettled), ("n2", None));
    assert!(n2.applied < Some(n2.generation) && n2.behind_since.is_some());
    let all: Vec<NodeInfo> = world.get("bob", "nodes").await.json();
    let since: Vec<_> = all.iter().map(|node| node.behind_since.is_some()).collect();
    assert_eq!(since, [false, true]);

    let catalog = &world.hub.catalog;
    let mut report = catalog.reports(&org, Some(&n1)).await.unwrap()[0]
        .status
        .clone();
    report.deployments[0].state = DeploymentState::Failed;
    let put = catalog.put_report(&org, &n1, &report, clock::now());
    put.await.unwrap();
    let now = metrics().await;
    assert_eq!(
        (unsettled(&now, "failed"), unsettled(&now, "blocked")),
        (1.0, 0.0)
    );
    let listed = listed().await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1].unsettled, Some(Unsettled::Failed));
}
