//! Restarts, concurrency and cancellation.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Place;
use super::world::{World, at, audit, encrypted, node_id, placed, placement, policy, secret_ref};
use crate::catalog::CatalogError;
use crate::catalog::records::{FeedEvent, NewMeta};

pub(crate) async fn everything_survives_a_restart(place: &mut dyn Place) {
    let mut world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    world.put("x", 1).await;
    let report = edge_secrets_protocol::status::StatusReport::default();
    let reported = world
        .catalog
        .put_report(&world.org, &node_id("n"), &report, at(3))
        .await;
    reported.unwrap();
    let before = (
        world.bindings("n", None).await,
        world.catalog.nodes(&world.org).await.unwrap(),
        world.catalog.revision(&world.org).await.unwrap(),
        world.trail().await,
        world.feed().await,
        world.catalog.reports(&world.org, None).await.unwrap(),
    );
    world.catalog = place.open().await;
    let after = (
        world.bindings("n", None).await,
        world.catalog.nodes(&world.org).await.unwrap(),
        world.catalog.revision(&world.org).await.unwrap(),
        world.trail().await,
        world.feed().await,
        world.catalog.reports(&world.org, None).await.unwrap(),
    );
    assert_eq!(after, before);
    // Counters go on where they stood.
    world.put("x", 2).await;
    assert_eq!(world.generation("n").await, before.0.generation.0 + 1);
    assert!(world.feed().await.last().unwrap().seq > before.4.last().unwrap().seq);
    assert!(world.trail().await.last().unwrap().seq > before.3.last().unwrap().seq);
}

pub(crate) async fn concurrent_writers_lose_nothing(place: &mut dyn Place) {
    let world = Arc::new(World::new(place).await);
    world.enrol("n").await;
    let names: Vec<_> = (0..20).map(|n| format!("s{n}=x{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    world.place("n", vec![placed("d", &names)]).await;
    let feed = world.feed().await.len();
    let mut writers = Vec::new();
    for n in 0..20 {
        let rotating = Arc::clone(&world);
        writers.push(tokio::spawn(async move {
            rotating.put(&format!("x{n}"), 1).await;
            rotating.put(&format!("x{n}"), 2).await;
        }));
        let publishing = Arc::clone(&world);
        writers.push(tokio::spawn(async move {
            loop {
                let change = policy(&format!("p{n}"));
                match publishing.commit(change, vec![]).await {
                    Ok(_) => return,
                    Err(error) => assert!(matches!(error, CatalogError::Conflict), "{error}"),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(world.generation("n").await, 41);
    assert_eq!(world.feed().await.len(), feed + 40);
    assert!(
        world
            .resolved("n")
            .await
            .values()
            .all(|v| v.ends_with("@2"))
    );
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.policies.len(), 21);
    // No two commits saw the same revision: enrolment, placement, twenty policies.
    assert_eq!(snapshot.revision.0, 22);
}

pub(crate) async fn a_cancelled_write_happened_whole_or_not_at_all(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    let (catalog, org, x) = (&world.catalog, &world.org, secret_ref("x"));
    let feed = world.feed().await.len();
    let before = world.generation("n").await;
    // Let go of it after one look at it, after two, … until it gets through; three times over.
    let (mut number, mut through, mut looks) = (0, 0, 0);
    let mut bell = catalog.bell();
    let meta = NewMeta::default();
    while through < 3 {
        number += 1;
        let version = encrypted(number);
        let put = catalog.put_secret(org, &x, &version, &meta, None, audit("rotate"));
        match first_looks(put, looks).await {
            Some(done) => {
                done.unwrap();
                (through, looks) = (through + 1, 0);
            }
            None => looks += 1,
        }
        // Behind all that was under way. Whatever of it happened rings, though nobody waits for it.
        let fence = catalog.append_audit(vec![audit("fence")]).await;
        fence.unwrap();
        let newest = world.feed().await.last().unwrap().seq;
        let rung = bell.wait_for(|seq| *seq >= newest);
        tokio::time::timeout(Duration::from_secs(60), rung)
            .await
            .expect("an entry without its bell")
            .unwrap();
    }
    // A write that comes after all of them.
    let change = policy("after");
    let placements = vec![placement("n", vec![placed("d", &["a=x"])])];
    world.commit(change, placements).await.unwrap();

    let happened = catalog.versions(org, &x).await.unwrap().len();
    let trail = world.trail().await;
    let records = trail.iter().filter(|r| r.entry.action == "rotate").count();
    let entries = world.feed().await.split_off(feed);
    assert!(
        entries
            .iter()
            .all(|e| matches!(e.event, FeedEvent::Bindings(_)))
    );
    assert_eq!((records, entries.len()), (happened, happened));
    assert_eq!(world.generation("n").await, before + happened as u64);
    assert!(number > 10, "hardly any was cancelled");
    assert!((happened as u64) < number, "every one happened");
}

/// What the future gives within so many polls.
async fn first_looks<T>(future: impl Future<Output = T>, looks: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = looks;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}
