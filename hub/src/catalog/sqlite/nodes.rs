//! Nodes: their records, certificates, tokens and reports.

use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{Generation, NodeId, OrgId, PatternId, PublicKey};
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows::{Columns, number, to_json};
use super::{SqliteCatalog, users};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Belonging, Enrolment, FeedEvent, Lag, NewAudit, NewCertificate, NewToken, NodeIdentity,
    NodeRecord, Report, Unsettled,
};

pub(super) async fn identity(
    catalog: &SqliteCatalog,
    serial: &str,
) -> Result<Option<NodeIdentity>, CatalogError> {
    sqlx::query(
        "SELECT n.org, n.node, n.revoked FROM node_certificates c
         JOIN nodes n ON n.org = c.org AND n.node = c.node WHERE c.serial = $1",
    )
    .bind(serial)
    .fetch_optional(&catalog.readers)
    .await?
    .map(|row| {
        Ok(NodeIdentity {
            org: row.name("org")?,
            node: row.name("node")?,
            revoked: row.flag("revoked")?,
        })
    })
    .transpose()
}

pub(super) async fn was_removed(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
) -> Result<bool, CatalogError> {
    let found =
        sqlx::query("SELECT 1 FROM removed_nodes WHERE org = $1 AND node = $2 AND told = 1")
            .bind(org.as_str())
            .bind(node.as_str())
            .fetch_optional(&catalog.readers)
            .await?;
    Ok(found.is_some())
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Vec<NodeRecord>, CatalogError> {
    sqlx::query(
        "SELECT node, owner, pattern, revoked, facts, generation, enrolled_at, seen_at,
             behind_since FROM nodes
         WHERE org = $1 ORDER BY node",
    )
    .bind(org.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(record)
    .collect()
}

pub(super) async fn get(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
) -> Result<Option<NodeRecord>, CatalogError> {
    sqlx::query(
        "SELECT node, owner, pattern, revoked, facts, generation, enrolled_at, seen_at,
             behind_since FROM nodes
         WHERE org = $1 AND node = $2",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .fetch_optional(&catalog.readers)
    .await?
    .map(|row| record(&row))
    .transpose()
}

pub(super) async fn renew(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
    serial: &str,
    certificate: &NewCertificate,
    sealing_key: Option<&PublicKey>,
    audit: &NewAudit,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    // Without a new key the statement only finds out whether the node is there.
    let found = sqlx::query(
        "UPDATE nodes SET sealing_key = COALESCE($3, sealing_key)
         WHERE org = $1 AND node = $2 AND NOT revoked",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(sealing_key.map(PublicKey::to_bytes))
    .execute(write.conn())
    .await?;
    if found.rows_affected() == 0 {
        return Err(not_found(node));
    }
    sqlx::query("DELETE FROM node_certificates WHERE org = $1 AND node = $2 AND serial <> $3")
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(serial)
        .execute(write.conn())
        .await?;
    let old = sqlx::query("SELECT 1 FROM node_certificates WHERE org = $1 AND node = $2")
        .bind(org.as_str())
        .bind(node.as_str())
        .fetch_optional(write.conn())
        .await?;
    if old.is_none() {
        return Err(CatalogError::Conflict);
    }
    add_certificate(write.conn(), org, node, certificate).await?;
    write.audit(audit).await?;
    write.commit().await.map(drop)
}

pub(super) async fn add_token(
    catalog: &SqliteCatalog,
    token: &NewToken,
    audit: &NewAudit,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    users::known_org(write.conn(), &token.org).await?;
    sqlx::query("DELETE FROM tokens WHERE org = $1 AND node = $2 AND used_at IS NULL")
        .bind(token.org.as_str())
        .bind(token.node.as_str())
        .execute(write.conn())
        .await?;
    let made = sqlx::query(
        "INSERT INTO tokens (hash, org, node, owner, pattern, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(token.hash.as_slice())
    .bind(token.org.as_str())
    .bind(token.node.as_str())
    .bind(owner(&token.belongs))
    .bind(pattern(&token.belongs))
    .bind(token.expires_at.as_millisecond())
    .execute(write.conn())
    .await?;
    if made.rows_affected() == 0 {
        return Err(CatalogError::Exists("that enrolment token".into()));
    }
    write.audit(audit).await?;
    write.commit().await.map(drop)
}

/// Uses the token up and makes or replaces the node's identity.
pub(super) async fn enrol(
    conn: &mut SqliteConnection,
    org: &OrgId,
    enrolment: &Enrolment,
) -> Result<(), CatalogError> {
    let node = &enrolment.node;
    let token = sqlx::query(
        "SELECT org, node, owner, pattern, expires_at, used_at FROM tokens WHERE hash = $1",
    )
    .bind(enrolment.token_hash.as_slice())
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(CatalogError::Token("it is unknown"))?;
    if token.text("org")? != org.as_str() || token.text("node")? != node.as_str() {
        return Err(CatalogError::Token("it is for another node"));
    }
    if token.time_opt("used_at")?.is_some() {
        return Err(CatalogError::Token("it was used already"));
    }
    if token.time("expires_at")? <= enrolment.at {
        return Err(CatalogError::Token("it has expired"));
    }
    if belonging(&token)? != enrolment.belongs {
        return Err(CatalogError::Token(
            "it says otherwise what the node will be",
        ));
    }
    sqlx::query("UPDATE tokens SET used_at = $2 WHERE hash = $1")
        .bind(enrolment.token_hash.as_slice())
        .bind(enrolment.at.as_millisecond())
        .execute(&mut *conn)
        .await?;
    // A node that comes back goes on with the generation it had.
    sqlx::query(
        "INSERT INTO nodes
             (org, node, owner, pattern, revoked, facts, sealing_key, generation, enrolled_at,
              seen_at, behind_since)
         VALUES ($1, $2, $3, $4, FALSE, $5, $6, COALESCE(
             (SELECT generation FROM removed_nodes WHERE org = $1 AND node = $2), 0), $7, NULL, $7)
         ON CONFLICT (org, node) DO UPDATE SET owner = excluded.owner, pattern = excluded.pattern,
             revoked = FALSE, facts = excluded.facts, sealing_key = excluded.sealing_key,
             enrolled_at = excluded.enrolled_at, seen_at = NULL, behind_since = excluded.behind_since",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(owner(&enrolment.belongs))
    .bind(pattern(&enrolment.belongs))
    .bind(to_json("node's facts", &enrolment.facts)?)
    .bind(enrolment.sealing_key.to_bytes())
    .bind(enrolment.at.as_millisecond())
    .execute(&mut *conn)
    .await?;
    for statement in [
        "DELETE FROM removed_nodes WHERE org = $1 AND node = $2",
        "DELETE FROM node_certificates WHERE org = $1 AND node = $2",
        "DELETE FROM reports WHERE org = $1 AND node = $2",
    ] {
        sqlx::query(statement)
            .bind(org.as_str())
            .bind(node.as_str())
            .execute(&mut *conn)
            .await?;
    }
    add_certificate(conn, org, node, &enrolment.certificate).await
}

/// Puts the node on a pattern, or on policies.
pub(super) async fn set_pattern(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    pattern: Option<&PatternId>,
) -> Result<(), CatalogError> {
    let found = sqlx::query("UPDATE nodes SET pattern = $3 WHERE org = $1 AND node = $2")
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(pattern.map(PatternId::to_string))
        .execute(conn)
        .await?;
    match found.rows_affected() {
        0 => Err(not_found(node)),
        _ => Ok(()),
    }
}

/// Forgets the node and all that belongs to it, but for where its generation stood.
pub(super) async fn remove(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
) -> Result<(), CatalogError> {
    let kept = sqlx::query(
        "INSERT INTO removed_nodes (org, node, generation, told)
         SELECT org, node, generation, 1 FROM nodes WHERE org = $1 AND node = $2",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .execute(&mut *conn)
    .await?;
    if kept.rows_affected() == 0 {
        return Err(not_found(node));
    }
    // Certificates, deployments and the report go with the node.
    for statement in [
        "DELETE FROM nodes WHERE org = $1 AND node = $2",
        "DELETE FROM tokens WHERE org = $1 AND node = $2",
    ] {
        sqlx::query(statement)
            .bind(org.as_str())
            .bind(node.as_str())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

pub(super) async fn put_report(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
    report: &StatusReport,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    // Any other generation than the one that counts now is one of before, or of another history.
    let found = sqlx::query(
        "UPDATE nodes SET seen_at = $3, behind_since =
             CASE WHEN generation = $4 THEN NULL ELSE COALESCE(behind_since, $3) END
         WHERE org = $1 AND node = $2",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(at.as_millisecond())
    .bind(number(report.generation.0))
    .execute(write.conn())
    .await?;
    if found.rows_affected() == 0 {
        return Err(not_found(node));
    }
    sqlx::query(
        "INSERT INTO reports (org, node, generation, document, reported_at, worst)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (org, node) DO UPDATE SET generation = excluded.generation,
             document = excluded.document, reported_at = excluded.reported_at,
             worst = excluded.worst",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(number(report.generation.0))
    .bind(to_json("report", report)?)
    .bind(at.as_millisecond())
    .bind(Unsettled::of(report).map(Unsettled::as_str))
    .execute(write.conn())
    .await?;
    write
        .announce(org, &[(node.clone(), FeedEvent::Status)])
        .await?;
    write.commit().await.map(drop)
}

pub(super) async fn reports(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: Option<&NodeId>,
) -> Result<Vec<Report>, CatalogError> {
    let one = "SELECT node, document, reported_at FROM reports WHERE org = $1 AND node = $2";
    let all = "SELECT node, document, reported_at FROM reports WHERE org = $1 ORDER BY node";
    let query = match node {
        Some(node) => sqlx::query(one).bind(org.as_str()).bind(node.as_str()),
        None => sqlx::query(all).bind(org.as_str()),
    };
    query
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(Report {
                node: row.name("node")?,
                status: row.json("document")?,
                at: row.time("reported_at")?,
            })
        })
        .collect()
}

/// Reads by two indexes that hold such nodes and no others.
pub(super) async fn lagging(
    catalog: &SqliteCatalog,
    org: &OrgId,
) -> Result<Vec<Lag>, CatalogError> {
    sqlx::query(LAGGING)
        .bind(org.as_str())
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(Lag {
                node: row.name("node")?,
                since: row.time_opt("behind_since")?,
                reported: row.count_opt("generation")?.map(Generation),
                unsettled: row.name_opt("worst")?,
            })
        })
        .collect()
}

/// There is no such node, or none that counts.
pub(super) fn not_found(node: &NodeId) -> CatalogError {
    CatalogError::NotFound(format!("node {node}"))
}

async fn add_certificate(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    certificate: &NewCertificate,
) -> Result<(), CatalogError> {
    let made = sqlx::query(
        "INSERT INTO node_certificates (serial, org, node, not_after) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&certificate.serial)
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(certificate.not_after.as_millisecond())
    .execute(conn)
    .await?;
    if made.rows_affected() == 0 {
        return Err(CatalogError::Exists("a certificate of that serial".into()));
    }
    Ok(())
}

pub(super) async fn promised(
    catalog: &SqliteCatalog,
    hash: &[u8; 32],
) -> Result<Option<Belonging>, CatalogError> {
    sqlx::query("SELECT owner, pattern FROM tokens WHERE hash = $1")
        .bind(hash.as_slice())
        .fetch_optional(&catalog.readers)
        .await?
        .map(|row| belonging(&row))
        .transpose()
}

fn belonging(row: &SqliteRow) -> Result<Belonging, CatalogError> {
    Ok(Belonging {
        owner: row.name_opt("owner")?,
        pattern: row.name_opt("pattern")?,
    })
}

fn owner(belongs: &Belonging) -> Option<String> {
    belongs.owner.as_ref().map(ToString::to_string)
}

fn pattern(belongs: &Belonging) -> Option<String> {
    belongs.pattern.as_ref().map(ToString::to_string)
}

fn record(row: &SqliteRow) -> Result<NodeRecord, CatalogError> {
    Ok(NodeRecord {
        node: row.name("node")?,
        belongs: belonging(row)?,
        revoked: row.flag("revoked")?,
        facts: row.json("facts")?,
        generation: Generation(row.count("generation")?),
        enrolled_at: row.time("enrolled_at")?,
        seen_at: row.time_opt("seen_at")?,
        behind_since: row.time_opt("behind_since")?,
    })
}

/// Those that are behind, the longest first, and then those that have worked through what they should have and
/// could not do it all.
pub(super) const LAGGING: &str = "SELECT * FROM (
         SELECT n.node, n.behind_since, r.generation, r.worst FROM nodes n
         LEFT JOIN reports r ON r.org = n.org AND r.node = n.node
         WHERE n.org = $1 AND n.behind_since IS NOT NULL AND n.revoked = 0
         ORDER BY n.behind_since, n.node)
     UNION ALL SELECT * FROM (
         SELECT r.node, NULL, r.generation, r.worst FROM reports r
         CROSS JOIN nodes n ON n.org = r.org AND n.node = r.node
         WHERE r.org = $1 AND r.worst IS NOT NULL AND n.behind_since IS NULL AND n.revoked = 0
         ORDER BY r.node)";
