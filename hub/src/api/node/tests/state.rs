//! Bindings, facts and reports.

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::binding::{Bindings, SecretState};
use edge_secrets_protocol::status::StatusReport;

use super::*;

async fn bindings(world: &World, node: &Node, query: &str) -> Bindings {
    let path = format!("{}{query}", routes::BINDINGS);
    world.get(&node.connected, &path).await.ok().json()
}

#[tokio::test]
async fn bindings_name_versions_and_no_references() {
    let (world, node) = World::deployed().await;
    let answer = world.get(&node.connected, routes::BINDINGS).await.ok();
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(
        !text.contains("\"db\"") && !text.contains("\"more\""),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let bindings: Bindings = answer.json();
    let deployment = &bindings.deployments[0];
    assert_eq!(deployment.policy.to_string(), "uplink");
    let secrets: Vec<_> = deployment.secrets.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(secrets, ["cred", "extra"]);
    assert!(matches!(
        deployment.secrets[0].state,
        SecretState::Ready { .. }
    ));
    assert_eq!(deployment.consumers[0].name.as_str(), "main");
}

/// It comes and goes with what it is bound to; its mode goes with it.
#[tokio::test]
async fn an_optional_secret_that_is_not_there_is_none_that_the_node_should_have() {
    let (world, node) = World::deployed().await;
    let mut service = uplink();
    service.document = service
        .document
        .replace(r#""extra":{"#, r#""extra":{"optional":true,"mode":"0440","#);
    world.change(Change::PutService(service)).await;
    world.bind(&[("cred", "db"), ("extra", "later")]).await;
    let names = async || {
        let bindings = bindings(&world, &node, "").await;
        let deployment = &bindings.deployments[0];
        let read = deployment.consumers[0].secrets.iter();
        let modes: Vec<_> = read
            .map(|s| (s.name.to_string(), s.mode.is_some()))
            .collect();
        let bound = deployment.secrets.iter().map(|s| s.name.to_string());
        assert!(bound.eq(modes.iter().map(|(name, _)| name.clone())));
        (bindings.generation, modes)
    };
    let cred = || ("cred".to_owned(), false);
    let (before, without) = names().await;
    assert_eq!(without, [cred()]);
    world.set("later", "s3cr3t").await;
    let (after, with) = names().await;
    assert!(after > before);
    assert_eq!(with, [cred(), ("extra".to_owned(), true)]);
    let (org, later) = (org(), "later".parse().unwrap());
    let catalog = &world.hub.catalog;
    let removed = catalog.remove_secret(&org, &later, audit("remove"));
    removed.await.unwrap();
    let (last, without) = names().await;
    assert!(last > after);
    assert_eq!(without, [cred()]);
    // It is still bound, and its absence is no trouble to anybody.
    world.bind(&[("cred", "db")]).await;
    assert_eq!(names().await.1, [cred()]);
}

#[tokio::test]
async fn a_node_that_has_the_generation_gets_no_body() {
    let (world, node) = World::deployed().await;
    let first = world.get(&node.connected, routes::BINDINGS).await.ok();
    let tag = first.headers[header::ETAG].to_str().unwrap().to_owned();
    let generation = Generation::from_etag(&tag).unwrap();
    assert_eq!(first.json::<Bindings>().generation, generation);
    let ask = async |tag: &str| {
        let request = Request::get(routes::BINDINGS)
            .header(header::IF_NONE_MATCH, tag)
            .body(Body::empty())
            .unwrap();
        Answer::read(world.request(&node.connected, request).await).await
    };
    let second = ask(&tag).await;
    assert_eq!(second.status, StatusCode::NOT_MODIFIED);
    assert!(second.body.is_empty());
    assert_eq!(second.headers[header::ETAG], tag.as_str());

    world.set("db", "hunter3").await;
    let third = ask(&tag).await.ok();
    assert!(third.json::<Bindings>().generation > generation);
}

#[tokio::test]
async fn a_difference_makes_the_whole_again() {
    let (world, node) = World::deployed().await;
    let old = bindings(&world, &node, "").await;
    let same = bindings(&world, &node, &format!("?since={}", old.generation)).await;
    assert_eq!(same.since, Some(old.generation));
    assert!(same.deployments.is_empty());
    assert_eq!(same.unchanged.len(), 1);
    assert_eq!(same.onto(&old).unwrap(), old);

    world.set("db", "hunter3").await;
    let whole = bindings(&world, &node, "").await;
    let difference = bindings(&world, &node, &format!("?since={}", old.generation)).await;
    assert_eq!(difference.deployments.len(), 1);
    assert_eq!(difference.onto(&old).unwrap(), whole);
}

#[tokio::test]
async fn a_generation_that_the_hub_does_not_know_gets_the_whole() {
    let (world, node) = World::deployed().await;
    let whole = bindings(&world, &node, "").await;
    for query in ["?since=99999", "?since=x", "?since=", "?other=1"] {
        assert_eq!(bindings(&world, &node, query).await, whole, "{query}");
    }
}

#[tokio::test]
async fn a_node_that_says_it_is_elsewhere_loses_the_deployment() {
    let (world, node) = World::deployed().await;
    let put = async |site: &str| {
        let answer = world
            .send(&node.connected, "PUT", routes::NODE, &facts(site))
            .await;
        assert_eq!(answer.ok().status, StatusCode::NO_CONTENT);
    };
    let before = bindings(&world, &node, "").await;
    put("berlin").await;
    assert_eq!(bindings(&world, &node, "").await, before);
    put("paris").await;
    let after = bindings(&world, &node, "").await;
    assert!(after.deployments.is_empty());
    assert!(after.generation > before.generation);
}

#[tokio::test]
async fn facts_said_again_are_not_written_again() {
    let (world, node) = World::deployed().await;
    let revision = world.hub.catalog.revision(&org()).await.unwrap();
    let answer = world
        .send(&node.connected, "PUT", routes::NODE, &facts("berlin"))
        .await;
    answer.ok();
    assert_eq!(world.hub.catalog.revision(&org()).await.unwrap(), revision);
}

#[tokio::test]
async fn a_report_is_kept_and_wakes_those_who_wait() {
    let (world, node) = World::deployed().await;
    let mut waiting = world.hub.feed.org_revision(&org());
    let report = StatusReport {
        generation: Generation(3),
        deployments: vec![],
    };
    let answer = world
        .send(&node.connected, "PUT", routes::STATUS, &report)
        .await;
    assert_eq!(answer.ok().status, StatusCode::NO_CONTENT);
    waiting.changed().await.unwrap();
    let name = &node.identity.node;
    let kept = world.hub.catalog.reports(&org(), Some(name)).await.unwrap();
    assert_eq!(kept[0].status, report);
}

#[tokio::test]
async fn oversized_and_malformed_bodies_are_answered_with_problems() {
    let (world, node) = World::deployed().await;
    let mut large = facts("berlin");
    large.agent_version = "x".repeat(2_000_000);
    let refused = world
        .send(&node.connected, "PUT", routes::NODE, &large)
        .await;
    assert_eq!(refused.problem().code, Code::TooLarge);
    let raw = async |content_type: &str, body: &'static str| {
        let request = Request::put(routes::STATUS)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .unwrap();
        let response = world.request(&node.connected, request).await;
        Answer::read(response).await.problem().code
    };
    assert_eq!(raw("text/plain", "{}").await, Code::UnsupportedMediaType);
    assert_eq!(raw("application/json", "{").await, Code::BadRequest);
    assert_eq!(raw("application/json", "[]").await, Code::BadRequest);
}
