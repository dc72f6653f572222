//! Fetching values.

use edge_secrets_protocol::binding::{
    Bindings, FetchItem, FetchRequest, FetchResponse, FetchResult, SecretState,
};
use edge_secrets_protocol::limits::{MAX_BATCH_ITEMS, MAX_SECRET_BYTES};
use edge_secrets_protocol::sealed::Place;

use super::*;
use crate::catalog::records::{Observation, Trouble};
use crate::managers::Fault;
use crate::reference::SecretRef;

const SERVICE: &str = "myorg/com.example.uplink";

/// With the version as a node knows it, of what the sample policy binds the name to.
fn item(service: &str, name: &str, version: &str) -> FetchItem {
    let reference: SecretRef = match name {
        "cred" => "db".parse().unwrap(),
        "extra" => "more".parse().unwrap(),
        other => other.parse().unwrap(),
    };
    FetchItem {
        service: service.parse().unwrap(),
        name: name.parse().unwrap(),
        version: reference.version_at_nodes(&version.parse().unwrap()),
    }
}

async fn post(world: &World, node: &Node, items: Vec<FetchItem>) -> Answer {
    let request = FetchRequest { items };
    world
        .send(&node.connected, "POST", routes::SECRETS, &request)
        .await
}

async fn fetch_items(world: &World, node: &Node, items: Vec<FetchItem>) -> Vec<FetchResult> {
    let response: FetchResponse = post(world, node, items).await.ok().json();
    response.items
}

/// Names and versions of the sample service.
pub(super) async fn fetch(world: &World, node: &Node, wanted: &[(&str, &str)]) -> Vec<FetchResult> {
    let items = wanted
        .iter()
        .map(|(name, version)| item(SERVICE, name, version))
        .collect();
    fetch_items(world, node, items).await
}

/// The value, opened as the node would.
#[track_caller]
pub(super) fn open(node: &Node, name: &str, version: &str, result: &FetchResult) -> String {
    let FetchResult::Sealed(sealed) = result else {
        panic!("{result:?}");
    };
    let item = item(SERVICE, name, version);
    let place = Place::Node {
        org: &node.identity.org,
        node: &node.identity.node,
        service: &item.service,
        name: &item.name,
        version: &item.version,
    };
    let secret = sealed.open(&node.sealing, &place).unwrap();
    let fields = Fields::decode(secret.expose()).unwrap();
    String::from_utf8(fields.expose_value().unwrap().to_vec()).unwrap()
}

#[track_caller]
fn problem(result: &FetchResult) -> &Problem {
    match result {
        FetchResult::Problem(problem) => problem,
        FetchResult::Sealed(_) => panic!("a value was given"),
    }
}

#[tokio::test]
async fn a_node_gets_what_is_bound_and_the_trail_says_so() {
    let (world, node) = World::deployed().await;
    let got = fetch(&world, &node, &[("cred", "1"), ("extra", "1")]).await;
    assert_eq!(open(&node, "cred", "1", &got[0]), "hunter2");
    assert_eq!(open(&node, "extra", "1", &got[1]), "s3cr3t");
    let trail = world.trail("secret.fetch").await;
    assert_eq!(
        trail,
        [
            "node/edge-01 myorg/com.example.uplink/cred -> db@1 ok ",
            "node/edge-01 myorg/com.example.uplink/extra -> more@1 ok ",
        ]
    );
}

#[tokio::test]
async fn what_a_node_may_not_have_is_refused_in_the_same_words() {
    let (world, berlin) = World::deployed().await;
    let paris = world.enrol("edge-02", "paris").await;
    let reached = [
        // Deployed, but not here.
        fetch_items(&world, &paris, vec![item(SERVICE, "cred", "1")]).await,
        // A service that is nowhere.
        fetch_items(&world, &paris, vec![item("myorg/nowhere", "cred", "1")]).await,
        // Another organisation's.
        fetch_items(
            &world,
            &paris,
            vec![item("other/com.example.uplink", "cred", "1")],
        )
        .await,
        // A name that the service does not declare, on the node that has the service.
        fetch(&world, &berlin, &[("nothing", "1")]).await,
        // A reference instead of a name.
        fetch(&world, &berlin, &[("db", "1")]).await,
    ];
    for answer in &reached {
        assert_eq!(answer, &reached[0]);
        assert_eq!(problem(&answer[0]).code, Code::Denied);
    }
    let trail = world.trail("secret.fetch").await;
    assert_eq!(trail.len(), reached.len(), "{trail:?}");
    assert!(
        trail.iter().all(|line| line.contains(" denied ")),
        "{trail:?}"
    );
}

#[tokio::test]
async fn one_refused_item_leaves_the_others_alone() {
    let (world, node) = World::deployed().await;
    let got = fetch(
        &world,
        &node,
        &[("nothing", "1"), ("cred", "1"), ("cred", "9")],
    )
    .await;
    assert_eq!(problem(&got[0]).code, Code::Denied);
    assert_eq!(open(&node, "cred", "1", &got[1]), "hunter2");
    assert_eq!(problem(&got[2]).code, Code::Superseded);
}

#[tokio::test]
async fn only_the_present_version_is_given() {
    let (world, node) = World::deployed().await;
    world.set("db", "hunter3").await;
    let got = fetch(&world, &node, &[("cred", "1"), ("cred", "2")]).await;
    assert_eq!(problem(&got[0]).code, Code::Superseded);
    assert_eq!(open(&node, "cred", "2", &got[1]), "hunter3");
}

#[tokio::test]
async fn the_same_version_of_another_reference_is_another_version() {
    let (world, node) = World::deployed().await;
    let before = fetch(&world, &node, &[("cred", "1")]).await;
    assert_eq!(open(&node, "cred", "1", &before[0]), "hunter2");
    world.bind(&[("cred", "more"), ("extra", "more")]).await;
    // What the node has is not what it should have, though both are the first of their kind.
    let after = fetch(&world, &node, &[("cred", "1")]).await;
    assert_eq!(problem(&after[0]).code, Code::Superseded);
    let bindings: Bindings = world
        .get(&node.connected, routes::BINDINGS)
        .await
        .ok()
        .json();
    let more: SecretRef = "more".parse().unwrap();
    let version = more.version_at_nodes(&"1".parse().unwrap());
    assert_eq!(
        bindings.deployments[0].secrets[0].state,
        SecretState::Ready { version }
    );
}

#[tokio::test]
async fn absent_and_failed_are_not_denied() {
    let (world, node) = World::deployed().await;
    world
        .bind(&[("cred", "gone"), ("extra", "elsewhere:x")])
        .await;
    let got = fetch(&world, &node, &[("cred", "1"), ("extra", "1")]).await;
    assert_eq!(problem(&got[0]).code, Code::Missing);
    // Nobody has asked yet; nothing answers for a manager that the hub does not have.
    assert_eq!(problem(&got[1]).code, Code::Pending);
    let said = Observation {
        trouble: Some(Trouble {
            fault: Fault::UnknownManager,
            detail: "no such manager".into(),
            since: clock::now(),
        }),
        ..Observation::default()
    };
    let elsewhere: SecretRef = "elsewhere:x".parse().unwrap();
    let org = "myorg".parse().unwrap();
    let audit = audit("secret.observe");
    let observed = world.hub.catalog.observe(&org, &elsewhere, &said, audit);
    assert_eq!(observed.await.unwrap().unwrap().touched.len(), 1);
    let got = fetch(&world, &node, &[("extra", "1")]).await;
    assert_eq!(problem(&got[0]).code, Code::Failed);
}

#[tokio::test]
async fn a_withdrawn_binding_gives_nothing_any_more() {
    let (world, node) = World::deployed().await;
    let withdraw = Change::RemovePolicy("uplink".parse().unwrap());
    world.change(withdraw).await;
    let got = fetch(&world, &node, &[("cred", "1")]).await;
    assert_eq!(problem(&got[0]).code, Code::Denied);
}

#[tokio::test]
async fn a_batch_is_bounded_in_items_and_in_bytes() {
    let (world, node) = World::deployed().await;
    let many = vec![item(SERVICE, "cred", "1"); MAX_BATCH_ITEMS + 1];
    let refused = post(&world, &node, many).await.problem();
    assert_eq!(refused.code, Code::TooLarge);

    world.set("db", &"x".repeat(MAX_SECRET_BYTES - 100)).await;
    let wanted = [("cred", "2"); 8];
    let answer = post(
        &world,
        &node,
        wanted.map(|(n, v)| item(SERVICE, n, v)).into(),
    )
    .await;
    assert!(answer.body.len() <= edge_secrets_protocol::limits::MAX_RESPONSE);
    let got = answer.ok().json::<FetchResponse>().items;
    let full: Vec<bool> = got
        .iter()
        .map(|result| matches!(result, FetchResult::Problem(p) if p.code == Code::BatchFull))
        .collect();
    // Five of 700 KB fit into 4 MiB; the others are asked for again.
    assert_eq!(full, [false, false, false, false, false, true, true, true]);
    assert_eq!(
        open(&node, "cred", "2", &got[4]).len(),
        MAX_SECRET_BYTES - 100
    );
    assert_eq!(world.trail("secret.fetch").await.len(), 5);
}

#[tokio::test]
async fn an_empty_batch_is_answered() {
    let (world, node) = World::deployed().await;
    assert!(fetch_items(&world, &node, vec![]).await.is_empty());
}
