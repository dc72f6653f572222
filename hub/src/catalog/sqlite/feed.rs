//! The change feed: what happened to which node, in the order of the commits.

use edge_secrets_protocol::{Generation, NodeId, OrgId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteCatalog;
use super::rows::{Columns, malformed, number};
use crate::catalog::CatalogError;
use crate::catalog::records::{FeedEntry, FeedEvent};

pub(super) async fn read(
    catalog: &SqliteCatalog,
    seq: u64,
    limit: u32,
) -> Result<Vec<FeedEntry>, CatalogError> {
    sqlx::query(
        "SELECT seq, org, node, event, generation FROM feed WHERE seq > $1 ORDER BY seq LIMIT $2",
    )
    .bind(number(seq))
    .bind(i64::from(limit))
    .fetch_all(&catalog.readers)
    .await?
    .iter()
    .map(entry)
    .collect()
}

/// The newest entry's number; 0 where there is none.
pub(super) async fn newest(conn: &mut SqliteConnection) -> Result<u64, CatalogError> {
    let row = sqlx::query("SELECT COALESCE(MAX(seq), 0) AS seq FROM feed")
        .fetch_one(conn)
        .await?;
    row.count("seq")
}

/// Adds entries and gives the number of the last one; 0 where there are none to add.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    org: &OrgId,
    news: &[(NodeId, FeedEvent)],
) -> Result<u64, CatalogError> {
    let mut last = 0;
    for chunk in news.chunks(ROWS_PER_INSERT) {
        let mut insert =
            QueryBuilder::<Sqlite>::new("INSERT INTO feed (org, node, event, generation) ");
        insert.push_values(chunk, |mut row, (node, event)| {
            let (event, generation) = match event {
                FeedEvent::Bindings(generation) => (BINDINGS, Some(number(generation.0))),
                FeedEvent::Revoked => (REVOKED, None),
                FeedEvent::Status => (STATUS, None),
            };
            row.push_bind(org.as_str().to_owned())
                .push_bind(node.as_str().to_owned())
                .push_bind(event)
                .push_bind(generation);
        });
        insert.push(" RETURNING seq");
        let rows = insert
            .build()
            .persistent(chunk.len() == 1)
            .fetch_all(&mut *conn)
            .await?;
        for row in rows {
            last = last.max(row.count("seq")?);
        }
    }
    Ok(last)
}

/// Forgets the entries that nobody can still need, now that `newest` is there.
pub(super) async fn prune(conn: &mut SqliteConnection, newest: u64) -> Result<(), CatalogError> {
    if newest > KEPT {
        sqlx::query("DELETE FROM feed WHERE seq <= $1")
            .bind(number(newest - KEPT))
            .execute(conn)
            .await?;
    }
    Ok(())
}

fn entry(row: &SqliteRow) -> Result<FeedEntry, CatalogError> {
    let event = match row.text("event")?.as_str() {
        BINDINGS => FeedEvent::Bindings(Generation(row.count("generation")?)),
        REVOKED => FeedEvent::Revoked,
        STATUS => FeedEvent::Status,
        _ => return Err(malformed("event")),
    };
    Ok(FeedEntry {
        seq: row.count("seq")?,
        org: row.name("org")?,
        node: row.name("node")?,
        event,
    })
}

const BINDINGS: &str = "bindings";
const REVOKED: &str = "revoked";
const STATUS: &str = "status";
/// Who is further behind pulls everything anyway: the feed is a hint.
pub(super) const KEPT: u64 = 100_000;
const ROWS_PER_INSERT: usize = 256;
