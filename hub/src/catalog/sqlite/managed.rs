//! What managers outside keep: what they said of it, and what their backends keep.

use edge_secrets_protocol::OrgId;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteCatalog;
use super::rows::{Columns, malformed, raised};
use super::{definitions, secrets};
use crate::catalog::CatalogError;
use crate::catalog::records::{Committed, NewAudit, Observation, Observed, Trouble};
use crate::managers::{Effect, Fault, ManagerName};
use crate::reference::SecretRef;

pub(super) async fn observed(
    catalog: &SqliteCatalog,
    unasked: bool,
) -> Result<Vec<Observed>, CatalogError> {
    sqlx::query(if unasked { SELECT_UNASKED } else { SELECT_ALL })
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(row)
        .collect()
}

pub(super) async fn observation(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Option<Observed>, CatalogError> {
    let mut conn = catalog.readers.acquire().await?;
    stored(&mut conn, org, reference).await
}

pub(super) async fn binding_nodes(
    catalog: &SqliteCatalog,
    org: &OrgId,
    secret: &SecretRef,
) -> Result<usize, CatalogError> {
    let row = sqlx::query(BINDING_NODES)
        .bind(org.as_str())
        .bind(secret.to_string())
        .fetch_one(&catalog.readers)
        .await?;
    usize::try_from(row.count("nodes")?).map_err(|_| malformed("nodes"))
}

pub(super) async fn observe(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
    said: &Observation,
    audit: &NewAudit,
) -> Result<Option<Committed>, CatalogError> {
    let mut write = catalog.write().await?;
    let revision = definitions::revision(write.conn(), org).await?;
    let bound = sqlx::query("SELECT 1 FROM bindings WHERE org = $1 AND reference = $2 LIMIT 1")
        .bind(org.as_str())
        .bind(reference.to_string())
        .fetch_optional(write.conn())
        .await?;
    if bound.is_none() {
        sqlx::query("DELETE FROM observed WHERE org = $1 AND reference = $2")
            .bind(org.as_str())
            .bind(reference.to_string())
            .execute(write.conn())
            .await?;
        write.commit().await?;
        return Ok(None);
    }
    let before = stored(write.conn(), org, reference).await?;
    let before = before.and_then(|observed| observed.known);
    let trouble = said.trouble.as_ref();
    sqlx::query(
        "INSERT INTO observed
             (org, reference, asked, effect, version, expires_at, fault, detail, fault_since,
              identity)
         VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (org, reference) DO UPDATE SET
             asked = 1, effect = excluded.effect, version = excluded.version,
             expires_at = excluded.expires_at, fault = excluded.fault, detail = excluded.detail,
             fault_since = excluded.fault_since, identity = excluded.identity",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .bind(said.effect.map(Effect::as_str))
    .bind(said.version.as_ref().map(|version| version.as_str()))
    .bind(said.expires_at.map(Timestamp::as_millisecond))
    .bind(trouble.map(|trouble| trouble.fault.as_str()))
    .bind(trouble.map_or("", |trouble| trouble.detail.as_str()))
    .bind(trouble.map(|trouble| trouble.since.as_millisecond()))
    .bind(said.identity.as_deref())
    .execute(write.conn())
    .await?;
    let touched = if before.as_ref().map(seen_by_nodes) == Some(seen_by_nodes(said)) {
        Vec::new()
    } else {
        secrets::touch_by(&mut write, org, reference, [RAISE_NODES, MARK_DEPLOYMENTS]).await?
    };
    write.audit(audit).await?;
    let at = write.commit().await?;
    Ok(Some(Committed {
        revision,
        touched,
        at,
    }))
}

pub(super) async fn forget_unbound(
    catalog: &SqliteCatalog,
) -> Result<Vec<(OrgId, SecretRef)>, CatalogError> {
    let unbound = sqlx::query(UNBOUND).fetch_all(&catalog.readers).await?;
    if unbound.is_empty() {
        return Ok(Vec::new());
    }
    let mut write = catalog.write().await?;
    // Asked again: it may be bound by now.
    let gone = sqlx::query(FORGET_UNBOUND).fetch_all(write.conn()).await?;
    write.commit().await?;
    gone.iter()
        .map(|row| Ok((row.name("org")?, row.name("reference")?)))
        .collect()
}

pub(super) async fn session(
    catalog: &SqliteCatalog,
    manager: &ManagerName,
) -> Result<Option<(Vec<u8>, Vec<u8>)>, CatalogError> {
    sqlx::query("SELECT wrapped_key, ciphertext FROM manager_sessions WHERE manager = $1")
        .bind(manager.as_str())
        .fetch_optional(&catalog.readers)
        .await?
        .map(|row| Ok((row.bytes("wrapped_key")?, row.bytes("ciphertext")?)))
        .transpose()
}

pub(super) async fn put_session(
    catalog: &SqliteCatalog,
    manager: &ManagerName,
    wrapped_key: &[u8],
    ciphertext: &[u8],
    at: Timestamp,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    sqlx::query(
        "INSERT INTO manager_sessions (manager, wrapped_key, ciphertext, updated_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (manager) DO UPDATE SET wrapped_key = excluded.wrapped_key,
             ciphertext = excluded.ciphertext, updated_at = excluded.updated_at",
    )
    .bind(manager.as_str())
    .bind(wrapped_key)
    .bind(ciphertext)
    .bind(at.as_millisecond())
    .execute(write.conn())
    .await?;
    write.commit().await?;
    Ok(())
}

/// What of an observation decides where bindings stand: not for how long a trouble lasts already.
fn seen_by_nodes(
    said: &Observation,
) -> (
    Option<Effect>,
    Option<&str>,
    Option<Timestamp>,
    Option<Fault>,
) {
    let gone = said.trouble.as_ref().is_some_and(|t| t.fault.is_absence());
    let leased = said.effect.is_some_and(Effect::is_leased);
    let known_good = said.version.is_some() || (leased && !gone);
    let fault = said.trouble.as_ref().map(|trouble| trouble.fault);
    (
        said.effect,
        said.version.as_ref().map(|version| version.as_str()),
        said.expires_at,
        // With a version the trouble is for operators alone.
        fault.filter(|_| !known_good),
    )
}

async fn stored(
    conn: &mut SqliteConnection,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Option<Observed>, CatalogError> {
    sqlx::query(
        "SELECT org, reference, asked, effect, version, expires_at, fault, detail, fault_since, identity
         FROM observed WHERE org = $1 AND reference = $2",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .fetch_optional(conn)
    .await?
    .map(|found| row(&found))
    .transpose()
}

fn row(row: &SqliteRow) -> Result<Observed, CatalogError> {
    let known = row.flag("asked")?.then(|| known(row)).transpose()?;
    Ok(Observed {
        org: row.name("org")?,
        reference: row.name("reference")?,
        known,
    })
}

/// An observation from the columns `effect`, `version`, `expires_at`, `identity`, `fault`, `detail`
/// and `fault_since`.
pub(super) fn known(row: &SqliteRow) -> Result<Observation, CatalogError> {
    let effect = row.text_opt("effect")?;
    Ok(Observation {
        effect: effect.map(|text| parse_effect(&text)).transpose()?,
        version: row.name_opt("version")?,
        expires_at: row.time_opt("expires_at")?,
        identity: row.text_opt("identity")?,
        trouble: trouble(row, ["fault", "detail", "fault_since"])?,
    })
}

/// A trouble from these columns.
pub(super) fn trouble(
    row: &SqliteRow,
    [fault, detail, since]: [&'static str; 3],
) -> Result<Option<Trouble>, CatalogError> {
    let Some(code) = row.text_opt(fault)? else {
        return Ok(None);
    };
    Ok(Some(Trouble {
        fault: serde_json::from_value(code.into()).map_err(|_| malformed(fault))?,
        detail: row.text(detail)?,
        since: row.time_opt(since)?.ok_or_else(|| malformed(since))?,
    }))
}

fn parse_effect(text: &str) -> Result<Effect, CatalogError> {
    serde_json::from_value(text.into()).map_err(|_| malformed("effect"))
}

const UNBOUND: &str = "SELECT o.org FROM observed o WHERE NOT EXISTS (
     SELECT 1 FROM bindings b WHERE b.org = o.org AND b.reference = o.reference) LIMIT 1";
const FORGET_UNBOUND: &str = "DELETE FROM observed WHERE NOT EXISTS (
     SELECT 1 FROM bindings b WHERE b.org = observed.org AND b.reference = observed.reference)
     RETURNING org, reference";
const SELECT_ALL: &str =
    "SELECT org, reference, asked, effect, version, expires_at, fault, detail, fault_since, identity
     FROM observed ORDER BY org, reference";
const SELECT_UNASKED: &str =
    "SELECT org, reference, asked, effect, version, expires_at, fault, detail, fault_since, identity
     FROM observed WHERE asked = 0 ORDER BY org, reference";
const BINDING_NODES: &str = "SELECT COUNT(DISTINCT node) AS nodes FROM bindings
     WHERE org = $1 AND reference = $2 AND NOT denied";
/// The nodes that have the secret among a binding's candidates, found by the index on references.
const RAISE_NODES: &str = concat!(
    "UPDATE nodes SET ",
    raised!(),
    " WHERE org = $1 AND node IN (
         SELECT b.node FROM bindings b WHERE b.org = $1 AND b.reference = $2 AND NOT b.denied)
     RETURNING node, generation"
);
const MARK_DEPLOYMENTS: &str = "UPDATE deployments SET changed = (
         SELECT n.generation FROM nodes n
         WHERE n.org = deployments.org AND n.node = deployments.node)
     WHERE org = $1 AND (node, deployment) IN (
         SELECT b.node, b.deployment FROM bindings b
         WHERE b.org = $1 AND b.reference = $2 AND NOT b.denied)";

#[cfg(test)]
pub(super) const STATEMENTS_ON_THE_FLEET: [&str; 2] = [RAISE_NODES, MARK_DEPLOYMENTS];
