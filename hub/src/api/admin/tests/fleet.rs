use super::*;
use crate::wire::{Explanation, NodeDetail, NodeInfo, NodeState, Rollout};

async fn rollout(world: &World) -> Rollout {
    world.get("bob", "policies/uplink/rollout").await.json()
}

fn states(rollout: &Rollout) -> Vec<(&str, DeploymentState)> {
    let nodes = rollout.nodes.iter();
    nodes.map(|node| (node.node.as_str(), node.state)).collect()
}

#[tokio::test]
async fn a_rollout_counts_what_is_applied_and_a_rotation_takes_it_back() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    world.enrol("n2", "berlin", None).await;
    world.enrol("n3", "paris", None).await;
    let (applied, pending) = (DeploymentState::Applied, DeploymentState::Pending);
    assert_eq!(
        states(&rollout(&world).await),
        [("n1", pending), ("n2", pending)]
    );

    world.report_applied("n1").await;
    let now = rollout(&world).await;
    assert_eq!(states(&now), [("n1", applied), ("n2", pending)]);
    assert_eq!((now.applied, now.total), (1, 2));
    assert_eq!(
        now.nodes[0].secrets[0].reference,
        Some("db".parse().unwrap())
    );

    world.set("root", "db", "v2").await.ok();
    assert_eq!(
        states(&rollout(&world).await),
        [("n1", pending), ("n2", pending)]
    );
    world.delete("root", "secrets/db").await.ok();
    let blocked = rollout(&world).await;
    assert_eq!(blocked.nodes[0].state, DeploymentState::Blocked);
    assert_eq!(blocked.nodes[0].error.as_ref().unwrap().code, Code::Missing);
    world
        .get("bob", "policies/nope/rollout")
        .await
        .refused(Code::NotFound);
}

/// What it delivers stays where it is.
#[tokio::test]
async fn a_rollout_tells_of_nodes_that_are_away_for_longer_than_node_health_lets_pass() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    let (org, node) = ("myorg".parse().unwrap(), "n1".parse().unwrap());
    let gone = clock::now() - jiff::SignedDuration::from_mins(10);
    world.hub.feed.left(&org, &node, gone);
    let mut asking = policy("1.0.0", &[("cred", "db")]);
    for (heartbeat, told) in [(None, None), (Some(3600), None), (Some(599), Some(gone))] {
        if let Some(seconds) = heartbeat {
            asking["service"]["nodeHealth"] = json!({"missing_heartbeat_interval": seconds});
            world.put("alice", "policies/uplink", &asking).await.ok();
        }
        let now = rollout(&world).await;
        assert_eq!((now.heartbeat, now.nodes[0].away_since), (heartbeat, told));
    }
    let watching = world.hub.feed.watch(&org, &node);
    assert_eq!(rollout(&world).await.nodes[0].away_since, None);
    drop(watching);
}

/// Of a pattern's services the strictest counts.
#[tokio::test]
async fn a_rollout_of_a_pattern_tells_of_nodes_that_are_away() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    let (org, node) = ("myorg".parse().unwrap(), "n1".parse().unwrap());
    let gone = clock::now() - jiff::SignedDuration::from_mins(10);
    world.hub.feed.left(&org, &node, gone);
    let mut second = service("1.0.0", &[]);
    second["url"] = json!("com.example.second");
    world.post("alice", "services", &second).await.ok();
    let offer = |url: &str, seconds: u64| {
        json!({"serviceUrl": url, "serviceOrgid": "myorg", "serviceArch": "*",
            "serviceVersions": [{"version": "1.0.0"}],
            "nodeHealth": {"missing_heartbeat_interval": seconds}})
    };
    for (seconds, told) in [(3600, None), (599, Some(gone))] {
        let pattern = json!({
            "services": [offer("com.example.uplink", 7200), offer("com.example.second", seconds)],
            "secretBinding": [{"serviceOrgid": "myorg", "serviceUrl": "com.example.uplink",
                               "secrets": [{"cred": "db"}]}],
        });
        world.put("alice", "patterns/edge", &pattern).await.ok();
        let on = json!({"pattern": "edge"});
        world.put("root", "nodes/n1/pattern", &on).await.ok();
        let now: Rollout = world.get("bob", "patterns/edge/rollout").await.json();
        assert_eq!(
            (now.heartbeat, now.nodes[0].away_since),
            (Some(seconds), told)
        );
    }
}

#[tokio::test]
async fn a_rollout_is_held_back_until_there_is_news() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    let first = rollout(&world).await;
    let path = format!("policies/uplink/rollout?after={}&wait=60", first.tag);
    // The report is made only once the call waits for it.
    let waiting = world.get("bob", &path);
    let reporting = async {
        tokio::task::yield_now().await;
        world.report_applied("n1").await;
    };
    let (answer, ()) = tokio::join!(waiting, reporting);
    let second: Rollout = answer.json();
    assert_ne!(second.tag, first.tag);
    assert_eq!(second.applied, 1);
    // Nothing new and no patience: the same again, at once.
    let path = format!("policies/uplink/rollout?after={}&wait=0", second.tag);
    let third: Rollout = world.get("bob", &path).await.json();
    assert_eq!(third.tag, second.tag);
}

#[tokio::test]
async fn a_node_shows_what_it_has_and_what_still_leaves() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    world.report_applied("n1").await;
    let shown: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert_eq!(shown.deployments.len(), 1);
    assert_eq!(shown.deployments[0].state, DeploymentState::Applied);
    assert_eq!(shown.info.applied, Some(shown.info.generation));
    assert!(!shown.info.connected);

    let _watch = world
        .hub
        .feed
        .watch(&"myorg".parse().unwrap(), &"n1".parse().unwrap());
    world.delete("alice", "policies/uplink").await.ok();
    let shown: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert!(shown.deployments.is_empty() && shown.info.connected);
    assert_eq!(shown.leaving.len(), 1);
    assert_eq!(shown.leaving[0].secrets, ["cred".parse().unwrap()]);
    world.report_applied("n1").await;
    let shown: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert!(shown.leaving.is_empty());
    world.get("bob", "nodes/n9").await.refused(Code::NotFound);
}

#[tokio::test]
async fn a_node_that_moves_gets_and_loses_its_deployments() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "paris", None).await;
    assert_eq!(rollout(&world).await.total, 0);
    world.say_facts("n1", "berlin").await;
    assert_eq!(rollout(&world).await.total, 1);
    let generation = |nodes: Vec<NodeInfo>| nodes[0].generation;
    let before = generation(world.get("bob", "nodes").await.json());
    world.say_facts("n1", "berlin").await;
    assert_eq!(generation(world.get("bob", "nodes").await.json()), before);
    world.say_facts("n1", "paris").await;
    assert_eq!(rollout(&world).await.total, 0);
    assert!(generation(world.get("bob", "nodes").await.json()) > before);
}

#[tokio::test]
async fn a_private_secret_goes_to_its_users_own_node_alone() {
    let world = World::new().await;
    world.set("alice", "user/alice/key", "x").await.ok();
    world
        .post("alice", "services", &service("1.0.0", &["cred"]))
        .await
        .ok();
    let policy = policy("1.0.0", &[("cred", "user/alice/key")]);
    world.put("alice", "policies/uplink", &policy).await.ok();
    world.enrol("hers", "berlin", Some("alice")).await;
    world.enrol("nobodys", "berlin", None).await;
    world.enrol("his", "berlin", Some("bob")).await;
    let of = |rollout: Rollout| -> Vec<_> {
        let nodes = rollout.nodes.into_iter();
        nodes
            .map(|node| (node.node.to_string(), node.error.map(|e| e.code)))
            .collect()
    };
    let expected = [
        ("hers", None),
        ("his", Some(Code::Denied)),
        ("nobodys", Some(Code::Denied)),
    ]
    .map(|(node, code)| (node.to_owned(), code));
    assert_eq!(of(rollout(&world).await), expected);
    // A node that enrols again as somebody else's loses it.
    world.enrol("hers", "berlin", Some("bob")).await;
    assert_eq!(of(rollout(&world).await)[0].1, Some(Code::Denied));
}

#[tokio::test]
async fn a_revoked_node_has_nothing_and_a_forgotten_one_is_gone() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    world
        .post("root", "nodes/n1/revoke", &Value::Null)
        .await
        .ok();
    let shown: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert_eq!(shown.info.state, NodeState::Revoked);
    assert!(shown.deployments.is_empty());
    assert_eq!(rollout(&world).await.total, 0);
    let why: Explanation = world.get("bob", "nodes/n1/explain").await.json();
    assert!(!why.verdicts[0].deployed);
    assert!(why.verdicts[0].rules[0].detail.contains("revoked"));

    world.enrol("n1", "berlin", None).await;
    assert_eq!(rollout(&world).await.total, 1);
    world.delete("root", "nodes/n1").await.ok();
    world.get("bob", "nodes/n1").await.refused(Code::NotFound);
    world
        .delete("root", "nodes/n1")
        .await
        .refused(Code::NotFound);
    assert_eq!(rollout(&world).await.total, 0);
}

#[tokio::test]
async fn an_explanation_has_the_rules_and_where_each_secret_stands() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    world.enrol("n2", "paris", None).await;
    for service in [
        "",
        "?service=com.example.uplink",
        "?service=myorg/com.example.uplink",
    ] {
        let path = format!("nodes/n1/explain{service}");
        let why: Explanation = world.get("bob", &path).await.json();
        assert_eq!(why.verdicts.len(), 1);
        let verdict = &why.verdicts[0];
        assert!(verdict.deployed && verdict.rules.iter().all(|rule| rule.holds));
        let secrets = &verdict.deployment.as_ref().unwrap().secrets;
        assert_eq!(secrets[0].reference, Some("db".parse().unwrap()));
    }
    let why: Explanation = world.get("bob", "nodes/n2/explain").await.json();
    assert!(!why.verdicts[0].deployed && why.verdicts[0].deployment.is_none());
    let failed: Vec<_> = why.verdicts[0]
        .rules
        .iter()
        .filter(|rule| !rule.holds)
        .collect();
    assert!(failed[0].detail.contains("paris"), "{failed:?}");
    let path = "nodes/n1/explain?service=nope";
    let why: Explanation = world.get("bob", path).await.json();
    assert!(why.verdicts.is_empty());
}

#[tokio::test]
async fn a_token_is_bounded_and_kept_as_a_hash() {
    let world = World::new().await;
    for ttl in [0, 59, 30 * 24 * 3600 + 1, u64::MAX] {
        let body = json!({ "ttl_seconds": ttl });
        world
            .post("root", "nodes/n1/token", &body)
            .await
            .refused(Code::Invalid);
    }
    let body = json!({ "ttl_seconds": 60, "owner": "nobody" });
    world
        .post("root", "nodes/n1/token", &body)
        .await
        .refused(Code::Invalid);
    let body = json!({ "ttl_seconds": 60, "owner": "alice" });
    let issued: TokenIssued = world.post("root", "nodes/n1/token", &body).await.json();
    let token: Token = issued.token.parse().unwrap();
    assert_eq!(token.node.as_str(), "n1");
    assert_eq!(token.ca_fingerprint, world.hub.pki.ca_fingerprint());
    let trail = world.trail("myorg").await;
    assert_eq!(trail, ["node.token node/n1 ok"]);
}
