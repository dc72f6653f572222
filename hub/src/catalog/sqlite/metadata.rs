//! Secrets' metadata, and the ends of secrets.

use std::time::Duration;

use edge_secrets_protocol::{OrgId, SecretVersion};
use jiff::Timestamp;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use super::rows::{Columns, malformed, number, to_json};
use super::{SqliteCatalog, secrets};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Actor, Committed, EndedSecret, Expiry, MAX_EXPIRING, NewAudit, SecretRecord,
};
use crate::metadata::{MetaChange, RotateEvery, SecretMeta};
use crate::reference::SecretRef;

pub(super) async fn edit(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
    change: &MetaChange,
    expected: Option<Option<SecretVersion>>,
    audit: &NewAudit,
) -> Result<(SecretRecord, Committed), CatalogError> {
    let mut write = catalog.write().await?;
    let kept = secrets::kept(write.conn(), org, reference).await?;
    if kept.current.is_none() {
        return Err(not_found(reference));
    }
    if !kept.is_as(expected)? {
        return Err(CatalogError::Conflict);
    }
    let meta = change.applied_to(&kept.meta);
    let update = sqlx::query(
        "UPDATE secrets SET labels = $3, description = $4, expires_at = $5, max_versions = $6,
             rotate_every = $7, expired = CASE WHEN expires_at IS $5 THEN expired ELSE 0 END
         WHERE org = $1 AND reference = $2",
    );
    bind(update, org, reference, &meta)?
        .execute(write.conn())
        .await?;
    let record = secrets::get_on(write.conn(), org, reference).await?;
    let record = record.ok_or_else(|| not_found(reference))?;
    let touched = if record.meta.expires_at == kept.meta.expires_at {
        Vec::new()
    } else {
        secrets::touch(&mut write, org, reference).await?
    };
    write.audit(audit).await?;
    let committed = Committed {
        revision: kept.revision,
        touched,
        at: write.commit().await?,
    };
    Ok((record, committed))
}

pub(super) async fn expire(
    catalog: &SqliteCatalog,
    now: Timestamp,
) -> Result<Expiry, CatalogError> {
    // Most looks find nothing, and then no writer is held up.
    let next = next_end(&mut *catalog.readers.acquire().await?).await?;
    if next.is_none_or(|next| next > now) {
        let ended = Vec::new();
        return Ok(Expiry { ended, next });
    }
    let mut write = catalog.write().await?;
    // All are marked before any node is touched: one may be a candidate before the other.
    let rows = sqlx::query(ENDED)
        .bind(now.as_millisecond())
        .bind(number(MAX_EXPIRING as u64))
        .fetch_all(write.conn())
        .await?;
    let mut ended = Vec::with_capacity(rows.len());
    for row in &rows {
        ended.push(EndedSecret {
            org: row.name("org")?,
            reference: row.name("reference")?,
            expires_at: row.time("expires_at")?,
            touched: Vec::new(),
        });
    }
    ended.sort_by_key(|secret| secret.expires_at);
    for secret in &mut ended {
        secret.touched = secrets::touch(&mut write, &secret.org, &secret.reference).await?;
        write.audit(&announcement(secret, now)).await?;
    }
    let next = next_end(write.conn()).await?;
    write.commit().await?;
    Ok(Expiry { ended, next })
}

/// See [`Catalog::revive_secrets`](crate::catalog::Catalog::revive_secrets).
pub(super) async fn revive(
    catalog: &SqliteCatalog,
    now: Timestamp,
) -> Result<Vec<EndedSecret>, CatalogError> {
    let mut write = catalog.write().await?;
    let rows = sqlx::query(NOT_ENDED)
        .bind(now.as_millisecond())
        .bind(number(MAX_EXPIRING as u64))
        .fetch_all(write.conn())
        .await?;
    let mut revived = Vec::with_capacity(rows.len());
    for row in &rows {
        let (org, reference): (OrgId, SecretRef) = (row.name("org")?, row.name("reference")?);
        let secret = EndedSecret {
            touched: secrets::touch(&mut write, &org, &reference).await?,
            expires_at: row.time("expires_at")?,
            org,
            reference,
        };
        let announced = announcement(&secret, now);
        let record = NewAudit {
            action: "secret.revive".to_owned(),
            detail: format!("the clock was set back; it ends at {}", secret.expires_at),
            ..announced
        };
        write.audit(&record).await?;
        revived.push(secret);
    }
    write.commit().await?;
    Ok(revived)
}

/// Binds the first seven parameters: whose, which, and the metadata.
pub(super) fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    org: &OrgId,
    reference: &SecretRef,
    meta: &SecretMeta,
) -> Result<Query<'q, Sqlite, SqliteArguments>, CatalogError> {
    let rotate_every = meta.rotate_every.map(|every| every.duration().as_millis());
    Ok(query
        .bind(org.to_string())
        .bind(reference.to_string())
        .bind(to_json("labels", &meta.labels)?)
        .bind(meta.description.as_str().to_owned())
        .bind(meta.expires_at.map(|end| end.as_millisecond()))
        .bind(meta.max_versions.map(|most| number(most.into())))
        .bind(rotate_every.map(|millis| number(u64::try_from(millis).unwrap_or(u64::MAX)))))
}

pub(super) fn read(row: &SqliteRow) -> Result<SecretMeta, CatalogError> {
    let max_versions = row.count_opt("max_versions")?.map(TryInto::try_into);
    let rotate_every = row.count_opt("rotate_every")?.map(Duration::from_millis);
    Ok(SecretMeta {
        labels: row.json("labels")?,
        description: row.name("description")?,
        expires_at: row.time_opt("expires_at")?,
        max_versions: max_versions
            .transpose()
            .map_err(|_| malformed("max_versions"))?,
        rotate_every: rotate_every
            .map(RotateEvery::try_from)
            .transpose()
            .map_err(|_| malformed("rotate_every"))?,
    })
}

async fn next_end(conn: &mut sqlx::SqliteConnection) -> Result<Option<Timestamp>, CatalogError> {
    sqlx::query(NEXT_END)
        .fetch_one(conn)
        .await?
        .time_opt("next")
}

fn announcement(secret: &EndedSecret, now: Timestamp) -> NewAudit {
    NewAudit {
        org: secret.org.clone(),
        at: now,
        actor: Actor::Hub,
        action: "secret.expire".to_owned(),
        object: format!("secret/{}", secret.reference),
        result: "ok".to_owned(),
        detail: format!("ended at {}", secret.expires_at),
        peer: String::new(),
    }
}

fn not_found(reference: &SecretRef) -> CatalogError {
    CatalogError::NotFound(format!("secret {reference}"))
}

/// Both name the condition of the index of ends, so that it serves them.
const NEXT_END: &str =
    "SELECT MIN(expires_at) AS next FROM secrets WHERE expires_at IS NOT NULL AND expired = 0";
const ENDED: &str = "UPDATE secrets SET expired = 1 WHERE (org, reference) IN (
         SELECT org, reference FROM secrets
         WHERE expires_at IS NOT NULL AND expired = 0 AND expires_at <= $1
         ORDER BY expires_at LIMIT $2)
     RETURNING org, reference, expires_at";
/// Looks at every secret: asked seldom.
const NOT_ENDED: &str = "UPDATE secrets SET expired = 0 WHERE (org, reference) IN (
         SELECT org, reference FROM secrets
         WHERE expires_at IS NOT NULL AND expired = 1 AND expires_at > $1
         ORDER BY expires_at LIMIT $2)
     RETURNING org, reference, expires_at";

#[cfg(test)]
pub(super) const STATEMENTS_ON_ENDS: [&str; 2] = [NEXT_END, ENDED];
