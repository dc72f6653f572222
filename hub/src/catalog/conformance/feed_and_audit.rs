//! The change feed, its bell, and the audit trail.

use std::sync::Arc;

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::status::StatusReport;

use super::Place;
use super::world::{World, at, audit, certificate, enrolment, node_id, org, placed, policy};
use crate::catalog::records::{Actor, AuditQuery, Change, FeedEvent, NewAudit, Role, UserRecord};

pub(crate) async fn the_feed_is_in_order_and_the_bell_rings(place: &mut dyn Place) {
    let world = World::new(place).await;
    let mut bell = world.catalog.bell();
    assert_eq!(*bell.borrow_and_update(), 0);
    world.enrol("n").await;
    assert!(!bell.has_changed().unwrap(), "nothing was announced yet");

    world.place("n", vec![placed("d", &["a=x"])]).await;
    bell.changed().await.unwrap();
    let rung = *bell.borrow_and_update();
    assert_eq!(world.feed().await.last().unwrap().seq, rung);
    world.put("x", 1).await;
    let report = StatusReport::default();
    let reported = world
        .catalog
        .put_report(&world.org, &node_id("n"), &report, at(3))
        .await;
    reported.unwrap();
    let revoke = Change::RevokeNode(node_id("n"));
    world.commit(revoke, vec![]).await.unwrap();

    let feed = world.feed().await;
    let events: Vec<_> = feed.iter().map(|entry| entry.event).collect();
    let expected = [
        FeedEvent::Bindings(Generation(1)),
        FeedEvent::Bindings(Generation(2)),
        FeedEvent::Status,
        FeedEvent::Revoked,
    ];
    assert_eq!(events, expected);
    assert!(feed.is_sorted_by(|a, b| a.seq < b.seq));
    assert!(
        feed.iter()
            .all(|e| e.org == world.org && e.node == node_id("n"))
    );
    assert_eq!(*bell.borrow_and_update(), feed[3].seq);

    let after = world.catalog.feed(feed[0].seq, 2).await.unwrap();
    assert_eq!(after, feed[1..3]);
    let none = world.catalog.feed(feed[3].seq, 100).await.unwrap();
    assert_eq!(none, []);
    // A catalog that is opened again knows where the feed stands.
    let catalog = place.open().await;
    assert_eq!(*catalog.bell().borrow(), feed[3].seq);
}

pub(crate) async fn every_write_leaves_its_record(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, org) = (&world.catalog, &world.org);
    let alice = UserRecord {
        org: org.clone(),
        user: "alice".parse().unwrap(),
        role: Role::Admin,
        created_at: at(1),
    };
    catalog.add_user(&alice, audit("user.add")).await.unwrap();
    let removed = catalog
        .remove_user(org, &alice.user, audit("user.remove"))
        .await;
    removed.unwrap();
    world.token("n", 1, at(100)).await;
    let enrolled = world.commit(enrolment("n", 1, "s", at(1)), vec![]).await;
    enrolled.unwrap();
    let renewed = catalog
        .renew_node(
            org,
            &node_id("n"),
            "s",
            &certificate("s2"),
            None,
            audit("node.renew"),
        )
        .await;
    renewed.unwrap();
    world.put("x", 1).await;
    world.remove("x").await;
    world.commit(policy("p"), vec![]).await.unwrap();

    let trail = world.trail().await;
    let actions: Vec<_> = trail.iter().map(|r| r.entry.action.as_str()).collect();
    let expected = [
        "org.create",
        "user.add",
        "user.remove",
        "node.token",
        "commit",
        "node.renew",
        "secret.set",
        "secret.remove",
        "commit",
    ];
    assert_eq!(actions, expected);
    assert_eq!(trail[0].entry, audit("org.create"));
    assert!(trail.is_sorted_by(|a, b| a.seq < b.seq));
}

pub(crate) async fn concurrent_appends_are_all_kept(place: &mut dyn Place) {
    let world = Arc::new(World::new(place).await);
    let appends: Vec<_> = (0..40)
        .map(|n| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let two = vec![audit(&format!("a{n:02}")), audit(&format!("b{n:02}"))];
                world.catalog.append_audit(two).await
            })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    world.catalog.append_audit(vec![]).await.unwrap();
    let trail = world.trail().await;
    let actions: Vec<_> = trail.iter().map(|r| r.entry.action.clone()).collect();
    let mut sorted = actions.clone();
    sorted.sort();
    let mut expected: Vec<_> = (0..40).map(|n| format!("a{n:02}")).collect();
    expected.extend((0..40).map(|n| format!("b{n:02}")));
    expected.push("org.create".into());
    assert_eq!(sorted, expected);
    // What was appended together stays together.
    for pair in actions[1..].chunks(2) {
        assert_eq!(
            pair[0].trim_start_matches('a'),
            pair[1].trim_start_matches('b')
        );
    }
}

pub(crate) async fn the_trail_is_read_by_position_time_and_number(place: &mut dyn Place) {
    let world = World::new(place).await;
    let actors = [
        Actor::Hub,
        Actor::Nobody,
        Actor::Node(node_id("n")),
        Actor::User("bob@example".parse().unwrap()),
    ];
    let records = actors.into_iter().zip(10..).map(|(actor, time)| NewAudit {
        actor,
        at: at(time),
        ..audit("x")
    });
    let mut records: Vec<_> = records.collect();
    // Refusals may be about an organisation that does not exist.
    let foreign = NewAudit {
        org: org("nowhere"),
        ..audit("foreign")
    };
    records.insert(2, foreign.clone());
    world.catalog.append_audit(records.clone()).await.unwrap();
    records.remove(2);

    let read = |query: AuditQuery| {
        let world = &world;
        async move {
            let found = world.catalog.audit(&world.org, &query).await.unwrap();
            found.into_iter().map(|r| r.entry).collect::<Vec<_>>()
        }
    };
    let all = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    assert_eq!(read(all.clone()).await[1..], records);
    let first = AuditQuery {
        limit: 2,
        ..all.clone()
    };
    assert_eq!(read(first).await[1], records[0]);
    let since = AuditQuery {
        since: Some(at(12)),
        ..all.clone()
    };
    assert_eq!(read(since).await, records[2..]);
    let after = world.trail().await[2].seq;
    let rest = AuditQuery {
        after,
        ..all.clone()
    };
    assert_eq!(read(rest).await, records[2..]);
    let elsewhere = world.catalog.audit(&org("nowhere"), &all).await.unwrap();
    assert_eq!(elsewhere[0].entry, foreign);
    assert_eq!(elsewhere.len(), 1);
}
