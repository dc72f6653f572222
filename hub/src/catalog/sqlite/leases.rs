//! Leases of credentials.

use std::collections::BTreeMap;

use edge_secrets_protocol::{DeploymentId, Generation, NodeId, OrgId};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::SqliteCatalog;
use super::managed::trouble;
use super::rows::{Columns, malformed, number, raised};
use super::write::Write;
use crate::catalog::CatalogError;
use crate::catalog::records::{
    FeedEvent, LeaseChange, LeaseId, LeasePlace, LeaseQuery, LeaseRecord, LeaseState, NewAudit,
    Wish,
};
use crate::clock;
use crate::managers::{Effect, LeaseHandle};

pub(super) async fn list(
    catalog: &SqliteCatalog,
    query: &LeaseQuery,
) -> Result<Vec<LeaseRecord>, CatalogError> {
    let mut select = QueryBuilder::<Sqlite>::new(match query.limit {
        Some(_) => "SELECT * FROM (SELECT * FROM leases ",
        None => "SELECT * FROM leases ",
    });
    // However many are dead, the open ones are found without them.
    select.push(match query.ended {
        true => "WHERE 1",
        false => "INDEXED BY leases_open WHERE state <> 'ended'",
    });
    if let Some(org) = &query.org {
        select.push(" AND org = ").push_bind(org.as_str());
    }
    if let Some(node) = &query.node {
        select.push(" AND node = ").push_bind(node.as_str());
    }
    if let Some(before) = query.before {
        select.push(" AND id < ").push_bind(number(before.0));
    }
    if let Some(limit) = query.limit {
        select.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        select.push(")");
    }
    select.push(" ORDER BY id");
    let rows = select.build().fetch_all(&catalog.readers).await?;
    rows.iter().map(record).collect()
}

pub(super) async fn count(
    catalog: &SqliteCatalog,
    org: &OrgId,
) -> Result<BTreeMap<LeaseState, u64>, CatalogError> {
    let rows = sqlx::query(COUNT)
        .bind(org.as_str())
        .fetch_all(&catalog.readers)
        .await?;
    let counted = |row: &SqliteRow| {
        let state = row.text("state")?;
        let state = state.parse().map_err(|()| malformed("state"))?;
        Ok((state, row.count("leases")?))
    };
    rows.iter().map(counted).collect()
}

pub(super) async fn forget_ended(
    catalog: &SqliteCatalog,
    before: Timestamp,
) -> Result<u64, CatalogError> {
    let mut forgotten = 0;
    loop {
        // A part at a time: who writes meanwhile does not wait for all of them.
        let mut write = catalog.write().await?;
        let gone = sqlx::query(FORGET_ENDED)
            .bind(before.as_millisecond())
            .bind(number(FORGET_AT_ONCE))
            .execute(write.conn())
            .await?
            .rows_affected();
        write.commit().await?;
        forgotten += gone;
        if gone < FORGET_AT_ONCE {
            return Ok(forgotten);
        }
    }
}

pub(super) async fn change(
    catalog: &SqliteCatalog,
    changes: &[LeaseChange],
    audit: &[NewAudit],
) -> Result<Vec<LeaseRecord>, CatalogError> {
    let mut write = catalog.write().await?;
    let mut changed = Vec::with_capacity(changes.len());
    let mut seen = Vec::with_capacity(changes.len());
    for change in changes {
        let place = match change {
            LeaseChange::Want(wish) => &wish.place,
            LeaseChange::Set(record) => &record.place,
        };
        let before = visible(&mut write, place).await?;
        let record = match change {
            LeaseChange::Want(wish) => want(&mut write, wish).await?,
            LeaseChange::Set(record) => set(&mut write, record).await?,
        };
        seen.push(visible(&mut write, &record.place).await? != before);
        changed.push(record);
    }
    let mut places: Vec<_> = changed
        .iter()
        .zip(seen)
        .filter(|(_, seen)| *seen)
        .map(|(record, _)| &record.place)
        .collect();
    places.sort();
    places.dedup_by_key(|place| (&place.org, &place.node, &place.deployment));
    let mut raised: Option<(&OrgId, &NodeId, Generation)> = None;
    for place in places {
        // In their order, so that a node's deployments share one new generation.
        let known = raised.filter(|(org, node, _)| (*org, *node) == (&place.org, &place.node));
        let generation = match known {
            Some((.., generation)) => Some(generation),
            None => raise(&mut write, &place.org, &place.node).await?,
        };
        if let Some(generation) = generation {
            raised = Some((&place.org, &place.node, generation));
            mark(&mut write, place, generation).await?;
        }
    }
    for record in audit {
        write.audit(record).await?;
    }
    write.commit().await?;
    Ok(changed)
}

pub(super) async fn binds_leased(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
) -> Result<bool, CatalogError> {
    let found = sqlx::query(
        "SELECT 1 FROM bindings b
         CROSS JOIN observed o ON o.org = b.org AND o.reference = b.reference
         WHERE b.org = $1 AND b.node = $2 AND NOT b.denied AND o.effect <> $3 LIMIT 1",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(Effect::Pure.as_str())
    .fetch_optional(&catalog.readers)
    .await?;
    Ok(found.is_some())
}

/// Nodes with a binding whose reads have a lease, and nodes with a lease that is open.
pub(super) async fn leasing_nodes(
    catalog: &SqliteCatalog,
) -> Result<Vec<(OrgId, NodeId)>, CatalogError> {
    sqlx::query(
        "SELECT b.org, b.node FROM observed o
         JOIN bindings b ON b.org = o.org AND b.reference = o.reference
         WHERE o.effect IS NOT NULL AND o.effect <> $1
         UNION SELECT org, node FROM leases WHERE state <> 'ended'",
    )
    .bind(Effect::Pure.as_str())
    .fetch_all(&catalog.readers)
    .await?
    .iter()
    .map(|row| Ok((row.name("org")?, row.name("node")?)))
    .collect()
}

/// What a node sees of a place's leases: whether there is a credential and which, until when, or that
/// it is refused.
async fn visible(
    write: &mut Write,
    place: &LeasePlace,
) -> Result<Option<(u64, Option<Timestamp>, bool)>, CatalogError> {
    let row = sqlx::query(
        "SELECT id, state, ends_at FROM leases
         WHERE org = $1 AND node = $2 AND deployment = $3 AND reference = $4 AND current = 1
             AND state IN ('live', 'refused')",
    )
    .bind(place.org.as_str())
    .bind(place.node.as_str())
    .bind(place.deployment.as_str())
    .bind(place.reference.to_string())
    .fetch_optional(write.conn())
    .await?;
    row.map(|row| {
        let refused = state(&row.text("state")?)? == LeaseState::Refused;
        Ok((row.count("id")?, row.time_opt("ends_at")?, refused))
    })
    .transpose()
}

async fn want(write: &mut Write, wish: &Wish) -> Result<LeaseRecord, CatalogError> {
    let Wish {
        place,
        identity,
        refused,
        beside,
    } = wish;
    if !beside {
        make_room(write, place).await?;
    }
    let state = match refused {
        Some(_) => LeaseState::Refused,
        None => LeaseState::Wanted,
    };
    let refused = refused.as_ref();
    let row = sqlx::query(
        "INSERT INTO leases (org, node, deployment, reference, current, state, renewable,
             attempts, fault, detail, fault_since, created_at, identity, enrolled_at)
         VALUES ($1, $2, $3, $4, $10, $5, 0, 0, $6, $7, $8, $9, $11,
             (SELECT enrolled_at FROM nodes WHERE org = $1 AND node = $2)) RETURNING *",
    )
    .bind(place.org.as_str())
    .bind(place.node.as_str())
    .bind(place.deployment.as_str())
    .bind(place.reference.to_string())
    .bind(state.as_str())
    .bind(refused.map(|trouble| trouble.fault.as_str()))
    .bind(refused.map_or("", |trouble| trouble.detail.as_str()))
    .bind(refused.map(|trouble| trouble.since.as_millisecond()))
    .bind(clock::now().as_millisecond())
    .bind(!beside)
    .bind(identity.as_deref())
    .fetch_one(write.conn())
    .await?;
    record(&row)
}

/// The lease that is current for the place is that no more.
async fn make_room(write: &mut Write, place: &LeasePlace) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE leases SET current = 0
         WHERE org = $1 AND node = $2 AND deployment = $3 AND reference = $4 AND current = 1",
    )
    .bind(place.org.as_str())
    .bind(place.node.as_str())
    .bind(place.deployment.as_str())
    .bind(place.reference.to_string())
    .execute(write.conn())
    .await?;
    Ok(())
}

async fn set(write: &mut Write, lease: &LeaseRecord) -> Result<LeaseRecord, CatalogError> {
    let row = sqlx::query(
        "UPDATE leases SET current = $2, state = $3, handle = $4, epoch = $5, renewable = $6,
             granted_at = $7, ends_at = $8, attempts = $9, fault = $10, detail = $11,
             fault_since = $12, ended_at = CASE WHEN $3 = 'ended' THEN coalesce(ended_at, $13) END
         WHERE id = $1 RETURNING *",
    )
    .bind(number(lease.id.0))
    .bind(lease.current)
    .bind(lease.state.as_str())
    .bind(lease.handle.as_ref().map(LeaseHandle::as_str))
    .bind(lease.epoch.as_deref())
    .bind(lease.renewable)
    .bind(lease.granted_at.map(Timestamp::as_millisecond))
    .bind(lease.ends_at.map(Timestamp::as_millisecond))
    .bind(i64::from(lease.attempts))
    .bind(lease.trouble.as_ref().map(|trouble| trouble.fault.as_str()))
    .bind(
        lease
            .trouble
            .as_ref()
            .map_or("", |trouble| trouble.detail.as_str()),
    )
    .bind(
        lease
            .trouble
            .as_ref()
            .map(|trouble| trouble.since.as_millisecond()),
    )
    .bind(clock::now().as_millisecond())
    .fetch_optional(write.conn())
    .await?
    .ok_or_else(|| CatalogError::NotFound(format!("lease {}", lease.id)))?;
    record(&row)
}

/// The node's next generation; none where there is no such node any more.
async fn raise(
    write: &mut Write,
    org: &OrgId,
    node: &NodeId,
) -> Result<Option<Generation>, CatalogError> {
    let row = sqlx::query(concat!(
        "UPDATE nodes SET ",
        raised!(),
        " WHERE org = $1 AND node = $2 AND NOT revoked RETURNING generation"
    ))
    .bind(org.as_str())
    .bind(node.as_str())
    .fetch_optional(write.conn())
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let generation = Generation(row.count("generation")?);
    let news = [(node.clone(), FeedEvent::Bindings(generation))];
    write.announce(org, &news).await?;
    Ok(Some(generation))
}

async fn mark(
    write: &mut Write,
    place: &LeasePlace,
    generation: Generation,
) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE deployments SET changed = $4 WHERE org = $1 AND node = $2 AND deployment = $3",
    )
    .bind(place.org.as_str())
    .bind(place.node.as_str())
    .bind(place.deployment.as_str())
    .bind(number(generation.0))
    .execute(write.conn())
    .await?;
    Ok(())
}

fn record(row: &SqliteRow) -> Result<LeaseRecord, CatalogError> {
    let handle = row.text_opt("handle")?;
    let attempts = row.count("attempts")?;
    Ok(LeaseRecord {
        id: LeaseId(row.count("id")?),
        place: LeasePlace {
            org: row.name("org")?,
            node: row.name("node")?,
            deployment: row.name::<DeploymentId>("deployment")?,
            reference: row.name("reference")?,
        },
        identity: row.text_opt("identity")?,
        enrolled_at: row.time_opt("enrolled_at")?,
        current: row.flag("current")?,
        state: state(&row.text("state")?)?,
        handle: handle
            .map(LeaseHandle::new)
            .transpose()
            .map_err(|_| malformed("handle"))?,
        epoch: row.text_opt("epoch")?,
        renewable: row.flag("renewable")?,
        granted_at: row.time_opt("granted_at")?,
        ends_at: row.time_opt("ends_at")?,
        attempts: u32::try_from(attempts).map_err(|_| malformed("attempts"))?,
        trouble: trouble(row, ["fault", "detail", "fault_since"])?,
        created_at: row.time("created_at")?,
    })
}

pub(super) fn state(text: &str) -> Result<LeaseState, CatalogError> {
    text.parse().map_err(|()| malformed("state"))
}

const COUNT: &str = "SELECT state, count(*) AS leases FROM leases \
     INDEXED BY leases_open WHERE state <> 'ended' AND org = $1 GROUP BY state";
const FORGET_ENDED: &str = "DELETE FROM leases WHERE id IN (
     SELECT id FROM leases WHERE state = 'ended' AND ended_at < $1 LIMIT $2)";
const FORGET_AT_ONCE: u64 = 1_000;
