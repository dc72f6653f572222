//! The embedded manager's secrets, always encrypted, and the nodes that a change of them touches.

use edge_secrets_protocol::{Generation, NodeId, OrgId, SecretVersion};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows::{Columns, malformed, number, raised, to_json};
use super::write::Write;
use super::{SqliteCatalog, definitions, metadata};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Committed, EncryptedVersion, FeedEvent, NewAudit, NewMeta, Revision, SecretPut, SecretRecord,
    VersionRecord,
};
use crate::generator::Generator;
use crate::metadata::{MaxVersions, SecretMeta};
use crate::reference::SecretRef;

pub(super) async fn put(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
    version: &EncryptedVersion,
    meta: &NewMeta,
    expected: Option<Option<SecretVersion>>,
    mut audit: NewAudit,
) -> Result<SecretPut, CatalogError> {
    let next = version_number(&version.version).ok_or_else(|| {
        CatalogError::Storage(format!("version {} is not a number", version.version))
    })?;
    let mut write = catalog.write().await?;
    let kept = kept(write.conn(), org, reference).await?;
    if !kept.is_as(expected)? || next <= kept.last {
        return Err(CatalogError::Conflict);
    }
    let mut new = meta.change.applied_to(&kept.meta);
    let mut lifted_end = None;
    if meta.change.expires_at.is_none() && new.has_ended(version.created_at) {
        lifted_end = new.expires_at.take();
        audit.add_detail("its end had come and is lifted");
    }
    let generator = match &meta.generator {
        Some(generator) => generator.as_ref(),
        None => kept.generator.as_ref(),
    };
    // A secret that was removed begins anew, but for its numbers.
    let upsert = sqlx::query(
        "INSERT INTO secrets
             (org, reference, current_version, last_version, created_at, updated_at, updated_by,
              labels, description, expires_at, max_versions, rotate_every, generator)
         VALUES ($1, $2, $8, $8, $9, $9, $10, $3, $4, $5, $6, $7, $11)
         ON CONFLICT (org, reference) DO UPDATE SET
             created_at = CASE WHEN current_version IS NULL
                 THEN excluded.created_at ELSE created_at END,
             current_version = excluded.current_version, last_version = excluded.last_version,
             updated_at = excluded.updated_at, updated_by = excluded.updated_by,
             labels = excluded.labels, description = excluded.description,
             expires_at = excluded.expires_at, max_versions = excluded.max_versions,
             rotate_every = excluded.rotate_every, generator = excluded.generator, expired = 0",
    );
    metadata::bind(upsert, org, reference, &new)?
        .bind(number(next))
        .bind(version.created_at.as_millisecond())
        .bind(version.created_by.as_str())
        .bind(generator.map(|g| to_json("generator", g)).transpose()?)
        .execute(write.conn())
        .await?;
    insert_version(write.conn(), org, reference, next, version).await?;
    if let Some(most) = new.max_versions {
        prune(write.conn(), org, reference, most).await?;
    }
    let committed = finish(write, kept.revision, org, reference, &audit).await?;
    Ok(SecretPut {
        committed,
        lifted_end,
    })
}

pub(super) async fn remove(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
    audit: &NewAudit,
) -> Result<Committed, CatalogError> {
    let mut write = catalog.write().await?;
    let revision = definitions::revision(write.conn(), org).await?;
    let gone = sqlx::query(
        "UPDATE secrets SET current_version = NULL, labels = '[]', description = '',
             expires_at = NULL, max_versions = NULL, rotate_every = NULL, generator = NULL,
             expired = 0
         WHERE org = $1 AND reference = $2 AND current_version IS NOT NULL",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .execute(write.conn())
    .await?;
    if gone.rows_affected() == 0 {
        return Err(CatalogError::NotFound(format!("secret {reference}")));
    }
    sqlx::query("DELETE FROM secret_versions WHERE org = $1 AND reference = $2")
        .bind(org.as_str())
        .bind(reference.to_string())
        .execute(write.conn())
        .await?;
    finish(write, revision, org, reference, audit).await
}

pub(super) async fn list(
    catalog: &SqliteCatalog,
    org: &OrgId,
    prefix: &str,
) -> Result<Vec<SecretRecord>, CatalogError> {
    // As a range, so that the primary key serves it; `DEL` is above all that a reference may hold.
    sqlx::query(
        "SELECT * FROM secrets
         WHERE org = $1 AND reference >= $2 AND reference < $3 AND current_version IS NOT NULL
         ORDER BY reference",
    )
    .bind(org.as_str())
    .bind(prefix)
    .bind(format!("{prefix}\u{7f}"))
    .fetch_all(&catalog.readers)
    .await?
    .iter()
    .map(record)
    .collect()
}

pub(super) async fn get(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Option<SecretRecord>, CatalogError> {
    let mut conn = catalog.readers.acquire().await?;
    get_on(&mut conn, org, reference).await
}

pub(super) async fn get_on(
    conn: &mut SqliteConnection,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Option<SecretRecord>, CatalogError> {
    sqlx::query(
        "SELECT * FROM secrets
         WHERE org = $1 AND reference = $2 AND current_version IS NOT NULL",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .fetch_optional(conn)
    .await?
    .map(|row| record(&row))
    .transpose()
}

pub(super) async fn versions(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Vec<VersionRecord>, CatalogError> {
    sqlx::query(
        "SELECT version, fields, created_by, created_at, restored_from FROM secret_versions
         WHERE org = $1 AND reference = $2 ORDER BY version DESC",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .fetch_all(&catalog.readers)
    .await?
    .iter()
    .map(|row| {
        Ok(VersionRecord {
            version: version(row.count("version")?)?,
            fields: row.json("fields")?,
            created_by: row.name("created_by")?,
            created_at: row.time("created_at")?,
            restored_from: row.count_opt("restored_from")?.map(version).transpose()?,
        })
    })
    .collect()
}

pub(super) async fn last_version(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<u64, CatalogError> {
    let mut conn = catalog.readers.acquire().await?;
    Ok(kept(&mut conn, org, reference).await?.last)
}

pub(super) async fn encrypted(
    catalog: &SqliteCatalog,
    org: &OrgId,
    reference: &SecretRef,
    wanted: &SecretVersion,
) -> Result<Option<EncryptedVersion>, CatalogError> {
    let Some(stored) = version_number(wanted) else {
        return Ok(None);
    };
    sqlx::query(
        "SELECT wrapped_key, ciphertext, fields, created_by, created_at, restored_from
         FROM secret_versions WHERE org = $1 AND reference = $2 AND version = $3",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .bind(number(stored))
    .fetch_optional(&catalog.readers)
    .await?
    .map(|row| {
        Ok(EncryptedVersion {
            version: wanted.clone(),
            wrapped_key: row.bytes("wrapped_key")?,
            ciphertext: row.bytes("ciphertext")?,
            fields: row.json("fields")?,
            created_by: row.name("created_by")?,
            created_at: row.time("created_at")?,
            restored_from: row.count_opt("restored_from")?.map(version).transpose()?,
        })
    })
    .transpose()
}

/// A stored version number as the version that it is.
pub(super) fn version(number: u64) -> Result<SecretVersion, CatalogError> {
    number.to_string().parse().map_err(|_| malformed("version"))
}

/// The number that a version of the embedded manager is, in its one form: no sign, no leading zero.
pub(super) fn version_number(version: &SecretVersion) -> Option<u64> {
    let number: u64 = version.as_str().parse().ok()?;
    (number > 0 && i64::try_from(number).is_ok() && number.to_string() == version.as_str())
        .then_some(number)
}

/// What stands there before a write.
pub(super) struct Kept {
    /// The organisation's.
    pub(super) revision: Revision,
    /// The current version's number.
    pub(super) current: Option<u64>,
    /// The highest number that ever was, 0 for none.
    pub(super) last: u64,
    /// The default where there is no secret.
    pub(super) meta: SecretMeta,
    generator: Option<Generator>,
}

impl Kept {
    /// Whether the current version is the expected one, where one is.
    pub(super) fn is_as(
        &self,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<bool, CatalogError> {
        match expected {
            Some(expected) => Ok(self.current.map(version).transpose()? == expected),
            None => Ok(true),
        }
    }
}

pub(super) async fn kept(
    conn: &mut SqliteConnection,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Kept, CatalogError> {
    let row = sqlx::query(
        "SELECT o.revision, s.current_version, COALESCE(s.last_version, o.version_floor) AS last_version,
             COALESCE(s.labels, '[]') AS labels, COALESCE(s.description, '') AS description,
             s.expires_at, s.max_versions, s.rotate_every, s.generator
         FROM orgs o LEFT JOIN secrets s ON s.org = o.org AND s.reference = $2
         WHERE o.org = $1",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| definitions::no_org(org))?;
    Ok(Kept {
        revision: Revision(row.count("revision")?),
        current: row.count_opt("current_version")?,
        last: row.count("last_version")?,
        meta: metadata::read(&row)?,
        generator: row.json_opt("generator")?,
    })
}

/// Removes the oldest versions beyond `most`. The current one is the newest, and stays.
async fn prune(
    conn: &mut SqliteConnection,
    org: &OrgId,
    reference: &SecretRef,
    most: MaxVersions,
) -> Result<(), CatalogError> {
    sqlx::query(
        "DELETE FROM secret_versions
         WHERE org = $1 AND reference = $2 AND version <= (
             SELECT version FROM secret_versions WHERE org = $1 AND reference = $2
             ORDER BY version DESC LIMIT 1 OFFSET $3)",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .bind(number(most.into()))
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_version(
    conn: &mut SqliteConnection,
    org: &OrgId,
    reference: &SecretRef,
    next: u64,
    version: &EncryptedVersion,
) -> Result<(), CatalogError> {
    let restored_from = match &version.restored_from {
        Some(old) => Some(version_number(old).ok_or_else(|| malformed("version"))?),
        None => None,
    };
    sqlx::query(
        "INSERT INTO secret_versions (org, reference, version, wrapped_key, ciphertext, fields,
             created_by, created_at, restored_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(org.as_str())
    .bind(reference.to_string())
    .bind(number(next))
    .bind(version.wrapped_key.as_slice())
    .bind(version.ciphertext.as_slice())
    .bind(to_json("field names", &version.fields)?)
    .bind(version.created_by.as_str())
    .bind(version.created_at.as_millisecond())
    .bind(restored_from.map(number))
    .execute(conn)
    .await?;
    Ok(())
}

/// Touches the nodes that the secret is bound on and commits, with the audit record.
async fn finish(
    mut write: Write,
    revision: Revision,
    org: &OrgId,
    reference: &SecretRef,
    audit: &NewAudit,
) -> Result<Committed, CatalogError> {
    let touched = touch(&mut write, org, reference).await?;
    write.audit(audit).await?;
    let at = write.commit().await?;
    Ok(Committed {
        revision,
        touched,
        at,
    })
}

/// Raises the generation of every node with a binding that resolves to the secret where it exists,
/// once each, and marks the deployments. It finds them by the index on references: the cost is that
/// of the bindings touched, whatever the size of the fleet.
pub(super) async fn touch(
    write: &mut Write,
    org: &OrgId,
    reference: &SecretRef,
) -> Result<Vec<(NodeId, Generation)>, CatalogError> {
    touch_by(write, org, reference, [RAISE_NODES, MARK_DEPLOYMENTS]).await
}

/// The same for the nodes and the deployments that these two statements find.
pub(super) async fn touch_by(
    write: &mut Write,
    org: &OrgId,
    reference: &SecretRef,
    [raise_nodes, mark_deployments]: [&'static str; 2],
) -> Result<Vec<(NodeId, Generation)>, CatalogError> {
    let mut touched: Vec<(NodeId, Generation)> = Vec::new();
    for row in sqlx::query(raise_nodes)
        .bind(org.as_str())
        .bind(reference.to_string())
        .fetch_all(write.conn())
        .await?
    {
        touched.push((row.name("node")?, Generation(row.count("generation")?)));
    }
    touched.sort();
    if touched.is_empty() {
        return Ok(touched);
    }
    sqlx::query(mark_deployments)
        .bind(org.as_str())
        .bind(reference.to_string())
        .execute(write.conn())
        .await?;
    let news: Vec<_> = touched
        .iter()
        .map(|(node, generation)| (node.clone(), FeedEvent::Bindings(*generation)))
        .collect();
    write.announce(org, &news).await?;
    Ok(touched)
}

fn record(row: &SqliteRow) -> Result<SecretRecord, CatalogError> {
    Ok(SecretRecord {
        reference: row.name("reference")?,
        current: version(row.count("current_version")?)?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.name("updated_by")?,
        meta: metadata::read(row)?,
        generator: row.json_opt("generator")?,
    })
}

/// `$columns` of the bindings that have the reference `$2` as a candidate and none before it that
/// exists and has not ended.
macro_rules! resolving {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM bindings b WHERE b.org = $1 AND b.reference = $2 AND NOT b.denied
                 AND NOT EXISTS (
                     SELECT 1 FROM bindings h
                     JOIN secrets s ON s.org = h.org AND s.reference = h.reference
                     WHERE h.org = b.org AND h.node = b.node AND h.deployment = b.deployment
                         AND h.name = b.name AND h.rank < b.rank
                         AND s.current_version IS NOT NULL AND s.expired = 0)"
        )
    };
}

const RAISE_NODES: &str = concat!(
    "UPDATE nodes SET ",
    raised!(),
    " WHERE org = $1 AND node IN (",
    resolving!("b.node"),
    ") RETURNING node, generation"
);
const MARK_DEPLOYMENTS: &str = concat!(
    "UPDATE deployments SET changed = (
         SELECT n.generation FROM nodes n
         WHERE n.org = deployments.org AND n.node = deployments.node)
     WHERE org = $1 AND (node, deployment) IN (",
    resolving!("b.node, b.deployment"),
    ")"
);

#[cfg(test)]
pub(super) const STATEMENTS_ON_THE_FLEET: [&str; 2] = [RAISE_NODES, MARK_DEPLOYMENTS];
