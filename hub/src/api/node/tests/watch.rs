//! The watch stream.

use axum::body::BodyDataStream;
use edge_secrets_protocol::Generation;
use edge_secrets_protocol::watch::{BindingsEvent, WatchDecoder, WatchEvent};
use futures_util::StreamExt;

use super::*;

struct Stream {
    body: BodyDataStream,
    decoder: WatchDecoder,
}

impl Stream {
    async fn open(world: &World, node: &Node, last: Option<Generation>) -> Self {
        let mut request = Request::get(routes::WATCH);
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let request = request.body(Body::empty()).unwrap();
        let response = world.request(&node.connected, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Self {
            body: response.into_body().into_data_stream(),
            decoder: WatchDecoder::default(),
        }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            let bytes = self.body.next().await?.unwrap();
            if let [event] = self.decoder.push(&bytes).unwrap().as_slice() {
                return Some(*event);
            }
        }
    }

    async fn generation(&mut self) -> Generation {
        match self.next().await {
            Some(WatchEvent::Bindings(BindingsEvent { generation, .. })) => generation,
            other => panic!("{other:?}"),
        }
    }
}

async fn generation(world: &World, node: &Node) -> Generation {
    let name = &node.identity.node;
    let record = world.hub.catalog.node(&org(), name).await.unwrap();
    record.unwrap().generation
}

#[tokio::test]
async fn a_watch_starts_with_the_present_generation_and_goes_on_with_changes() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut stream = Stream::open(&world, &node, None).await;
    assert_eq!(stream.generation().await, now);
    world.set("db", "hunter3").await;
    let next = stream.generation().await;
    assert!(next > now);
    assert_eq!(next, generation(&world, &node).await);
}

#[tokio::test]
async fn a_node_that_missed_nothing_hears_nothing_until_something_changes() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut stream = Stream::open(&world, &node, Some(now)).await;
    world.set("db", "hunter3").await;
    assert!(stream.generation().await > now);
}

#[tokio::test]
async fn a_node_that_was_away_or_is_ahead_hears_the_truth_at_once() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    for last in [Generation(0), Generation(999)] {
        let mut stream = Stream::open(&world, &node, Some(last)).await;
        assert_eq!(stream.generation().await, now, "{last}");
    }
}

#[tokio::test]
async fn another_nodes_change_is_not_heard() {
    let (world, berlin) = World::deployed().await;
    let paris = world.enrol("edge-02", "paris").await;
    let now = generation(&world, &paris).await;
    let mut quiet = Stream::open(&world, &paris, Some(now)).await;
    let mut loud = Stream::open(&world, &berlin, None).await;
    loud.generation().await;
    world.set("db", "hunter3").await;
    loud.generation().await;
    // The same batch was announced to both; then paris itself moves.
    let answer = world
        .send(&paris.connected, "PUT", routes::NODE, &facts("berlin"))
        .await;
    answer.ok();
    assert_eq!(quiet.generation().await, generation(&world, &paris).await);
}

#[tokio::test]
async fn two_watches_of_one_node_are_both_served() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut one = Stream::open(&world, &node, Some(now)).await;
    let mut two = Stream::open(&world, &node, Some(now)).await;
    assert!(world.hub.feed.is_connected(&org(), &node.identity.node));
    world.set("db", "hunter3").await;
    assert_eq!(one.generation().await, two.generation().await);
    drop((one, two));
    assert!(!world.hub.feed.is_connected(&org(), &node.identity.node));
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_generation_alone() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut stream = Stream::open(&world, &node, Some(now)).await;
    let mut watcher = world.hub.feed.watch(&org(), &node.identity.node);
    for value in ["a", "b", "c"] {
        world.set("db", value).await;
    }
    let newest = generation(&world, &node).await;
    while watcher.next().await.unwrap().generation < newest {}
    assert_eq!(stream.generation().await, newest);
}

#[tokio::test]
async fn a_revoked_node_is_told_and_the_stream_ends() {
    let (world, node) = World::deployed().await;
    let mut stream = Stream::open(&world, &node, None).await;
    stream.generation().await;
    let revoke = Change::RevokeNode(node.identity.node.clone());
    world.change(revoke).await;
    loop {
        match stream.next().await {
            // Its deployments go with it, which is news too.
            Some(WatchEvent::Bindings(_)) => {}
            Some(WatchEvent::Revoked) => break,
            None => panic!("the stream ended without a word"),
        }
    }
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_node_that_enrolled_anew_is_not_told_to_wipe() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut stream = Stream::open(&world, &node, Some(now)).await;
    // Both have happened before the stream is read again.
    let revoke = Change::RevokeNode(node.identity.node.clone());
    world.change(revoke).await;
    world.enrol("edge-01", "berlin").await;
    while let Some(event) = stream.next().await {
        assert_ne!(event, WatchEvent::Revoked);
    }
}

#[tokio::test]
async fn the_stream_ends_when_the_hub_stops() {
    let (world, node) = World::deployed().await;
    let now = generation(&world, &node).await;
    let mut stream = Stream::open(&world, &node, Some(now)).await;
    world.hub.feed.close();
    assert_eq!(stream.next().await, None);
}
