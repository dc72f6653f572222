//! One secret of a manager for ten thousand nodes.

use edge_secrets_protocol::binding::{FetchRequest, FetchResponse, FetchResult, SecretState};
use futures_util::{StreamExt, stream};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::managed::{Scene, item};
use super::*;
use crate::managers::shelf::Shelf;
use crate::observe::Hint;

const NODES: usize = 10_000;

/// Everything of `edge-01` once more under other names, beneath the catalog: to enrol each would try
/// the test's patience and not the hub's.
const COPIES: [&str; 4] = [
    "INSERT INTO nodes (org, node, owner, revoked, facts, sealing_key, generation, enrolled_at)
     SELECT n.org, c.name, n.owner, n.revoked, n.facts, n.sealing_key, n.generation, n.enrolled_at
     FROM nodes n CROSS JOIN copies c WHERE n.node = 'edge-01'",
    "INSERT INTO node_certificates (serial, org, node, not_after)
     SELECT c.name, n.org, c.name, n.not_after
     FROM node_certificates n CROSS JOIN copies c WHERE n.node = 'edge-01'",
    "INSERT INTO deployments (org, node, deployment, changed, document)
     SELECT d.org, c.name, d.deployment, d.changed, d.document
     FROM deployments d CROSS JOIN copies c WHERE d.node = 'edge-01'",
    "INSERT INTO bindings (org, node, deployment, name, rank, service, denied, reference, field)
     SELECT b.org, c.name, b.deployment, b.name, b.rank, b.service, b.denied, b.reference, b.field
     FROM bindings b CROSS JOIN copies c WHERE b.node = 'edge-01'",
];

async fn copy_the_node(world: &World) {
    let options = SqliteConnectOptions::new().filename(world.dir.path().join("hub.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(
        "CREATE TEMP TABLE copies AS
         WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < $1)
         SELECT format('copy-%d', n) AS name FROM counted",
    )
    .bind(i64::try_from(NODES - 1).unwrap())
    .execute(&mut *tx)
    .await
    .unwrap();
    for statement in COPIES {
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    pool.close().await;
}

fn copy(number: usize) -> Connected {
    let name = format!("copy-{number}");
    Connected {
        peer: Peer::Node {
            org: org(),
            node: name.parse().unwrap(),
            serial: name,
            expired: false,
        },
        address: "127.0.0.1:1".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_rotation_for_ten_thousand_nodes_is_one_read() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "one")]);
    let scene = Scene::new(
        Arc::clone(&shelf),
        &[("cred", "v:team/db"), ("extra", "more")],
    )
    .await;
    let first = scene.version("cred").await;
    copy_the_node(&scene.world).await;
    shelf.put("team/db", &[("value", "two")]);
    let before = shelf.calls().len();
    assert!(scene.world.hub.hints.give(&"v".parse().unwrap(), Hint::All));
    let is_newer =
        |state: &SecretState| matches!(state, SecretState::Ready { version } if *version != first);
    let SecretState::Ready { version: newer } = scene.until("cred", is_newer).await.state else {
        unreachable!("it was waited for")
    };
    let fetches = (1..NODES).map(|number| {
        let (world, item) = (&scene.world, item("cred", &newer));
        async move {
            let request = FetchRequest { items: vec![item] };
            let node = copy(number);
            let answer = world.send(&node, "POST", routes::SECRETS, &request);
            let items = answer.await.ok().json::<FetchResponse>().items;
            assert!(matches!(items[0], FetchResult::Sealed(_)), "{items:?}");
        }
    });
    stream::iter(fetches)
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await;
    let calls = shelf.calls();
    assert_eq!(calls[before..], ["describe team/db", "read team/db"]);
}
