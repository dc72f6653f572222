//! The audit trail: append-only, durable before the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_secrets_protocol::OrgId;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::oneshot;

use super::rows::{Columns, malformed, number};
use super::{BEGIN, SqliteCatalog};
use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, AuditQuery, AuditRecord, NewAudit};

/// Records that wait for the writer. While one transaction is on its way to the disk, the next ones
/// gather here and go together: many appends at once cost few commits.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Vec<Append>>);

/// The records of one caller, and whom to tell.
type Append = (Vec<NewAudit>, oneshot::Sender<Result<(), CatalogError>>);

pub(super) async fn append(
    catalog: &SqliteCatalog,
    records: Vec<NewAudit>,
) -> Result<(), CatalogError> {
    if records.is_empty() {
        return Ok(());
    }
    let (done, written) = oneshot::channel();
    lock(&catalog.waiting.0).push((records, done));
    // A task of its own: it also writes for others, who must not be cancelled with this caller.
    tokio::spawn(flush(catalog.writer.clone(), Arc::clone(&catalog.waiting)));
    match written.await {
        Ok(result) => result,
        Err(_) => Err(CatalogError::Storage("the write was broken off".into())),
    }
}

pub(super) async fn read(
    catalog: &SqliteCatalog,
    org: &OrgId,
    query: &AuditQuery,
) -> Result<Vec<AuditRecord>, CatalogError> {
    // Two statements, so that each can use the index that fits it.
    let statement = if query.since.is_some() {
        "SELECT seq, org, recorded_at, actor, action, object, result, detail, peer FROM audit
         WHERE org = $1 AND seq > $2 AND recorded_at >= $3 ORDER BY seq LIMIT $4"
    } else {
        "SELECT seq, org, recorded_at, actor, action, object, result, detail, peer FROM audit
         WHERE org = $1 AND seq > $2 AND $3 IS NULL ORDER BY seq LIMIT $4"
    };
    sqlx::query(statement)
        .bind(org.as_str())
        .bind(number(query.after))
        .bind(query.since.map(|since| since.as_millisecond()))
        .bind(i64::from(query.limit))
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(record)
        .collect()
}

pub(super) async fn insert(
    conn: &mut SqliteConnection,
    record: &NewAudit,
) -> Result<(), CatalogError> {
    insert_all(conn, [record]).await
}

/// All of them by one statement, which happens whole or not at all.
async fn insert_all(
    conn: &mut SqliteConnection,
    records: impl IntoIterator<Item = &NewAudit>,
) -> Result<(), CatalogError> {
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT INTO audit (org, recorded_at, actor, action, object, result, detail, peer) ",
    );
    let mut rows = 0;
    insert.push_values(records, |mut row, record| {
        rows += 1;
        row.push_bind(record.org.as_str().to_owned())
            .push_bind(record.at.as_millisecond())
            .push_bind(record.actor.to_string())
            .push_bind(record.action.clone())
            .push_bind(record.object.clone())
            .push_bind(record.result.clone())
            .push_bind(record.detail.clone())
            .push_bind(record.peer.clone());
    });
    insert.build().persistent(rows == 1).execute(conn).await?;
    Ok(())
}

async fn flush(writer: SqlitePool, waiting: Arc<Waiting>) {
    let writer = writer.acquire().await;
    let batch = std::mem::take(&mut *lock(&waiting.0));
    if batch.is_empty() {
        return;
    }
    let result = async {
        let mut conn = writer?;
        let records: Vec<&NewAudit> = batch.iter().flat_map(|(records, _)| records).collect();
        if let [record] = records.as_slice() {
            // A statement alone is a transaction, without the trips of one.
            return insert(&mut conn, record).await;
        }
        let mut tx = conn.begin_with(BEGIN).await?;
        for chunk in records.chunks(ROWS_PER_INSERT) {
            insert_all(&mut tx, chunk.iter().copied()).await?;
        }
        tx.commit().await?;
        Ok::<_, CatalogError>(())
    }
    .await;
    for (_, done) in batch {
        // Whoever asked may have gone away.
        done.send(result.clone()).ok();
    }
}

fn record(row: &SqliteRow) -> Result<AuditRecord, CatalogError> {
    Ok(AuditRecord {
        seq: row.count("seq")?,
        entry: NewAudit {
            org: row.name("org")?,
            at: row.time("recorded_at")?,
            actor: actor(&row.text("actor")?)?,
            action: row.text("action")?,
            object: row.text("object")?,
            result: row.text("result")?,
            detail: row.text("detail")?,
            peer: row.text("peer")?,
        },
    })
}

fn actor(text: &str) -> Result<Actor, CatalogError> {
    let refused = |_| malformed("actor");
    match (text, text.split_once('/')) {
        ("hub", _) => Ok(Actor::Hub),
        ("-", _) => Ok(Actor::Nobody),
        (_, Some(("user", user))) => Ok(Actor::User(user.parse().map_err(refused)?)),
        (_, Some(("node", node))) => Ok(Actor::Node(node.parse().map_err(refused)?)),
        _ => Err(malformed("actor")),
    }
}

const ROWS_PER_INSERT: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under the lock can leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
