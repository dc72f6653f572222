//! Definitions, and the changes of them.

use edge_secrets_protocol::{NodeId, OrgId};
use sqlx::SqliteConnection;

use super::rows::{Columns, to_json};
use super::{SqliteCatalog, followers, nodes, placement};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Basis, Change, Committed, FeedEvent, NewAudit, NodePlacement, OrgSnapshot, PatternRecord,
    PolicyRecord, PublicSnapshot, Revision, ServiceRecord,
};
use crate::clock;
use crate::managers::ManagerName;

pub(super) async fn snapshot(
    catalog: &SqliteCatalog,
    org: &OrgId,
) -> Result<OrgSnapshot, CatalogError> {
    let mut view = catalog.read().await?;
    Ok(OrgSnapshot {
        revision: revision(&mut view, org).await?,
        default_manager: default_manager(&mut view, org).await?,
        services: services(&mut view, org).await?,
        policies: policies(&mut view, org).await?,
        patterns: patterns(&mut view, org).await?,
        nodes: nodes::list(&mut view, org).await?,
    })
}

pub(super) async fn public(
    catalog: &SqliteCatalog,
    publisher: &OrgId,
) -> Result<PublicSnapshot, CatalogError> {
    let mut view = catalog.read().await?;
    let published = followers::published(&mut view, publisher).await?;
    let mut services = services(&mut view, publisher).await?;
    let mut patterns = patterns(&mut view, publisher).await?;
    services.retain(|service| service.public);
    patterns.retain(|pattern| pattern.public);
    Ok(PublicSnapshot {
        published,
        services,
        patterns,
    })
}

pub(super) async fn revision(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Revision, CatalogError> {
    let row = sqlx::query("SELECT revision FROM orgs WHERE org = $1")
        .bind(org.as_str())
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| no_org(org))?;
    Ok(Revision(row.count("revision")?))
}

pub(super) async fn orgs(catalog: &SqliteCatalog) -> Result<Vec<OrgId>, CatalogError> {
    sqlx::query("SELECT org FROM orgs ORDER BY org")
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(|row| row.name("org"))
        .collect()
}

async fn default_manager(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Option<ManagerName>, CatalogError> {
    sqlx::query("SELECT default_manager FROM orgs WHERE org = $1")
        .bind(org.as_str())
        .fetch_one(conn)
        .await?
        .name_opt("default_manager")
}

/// There is no such organisation.
pub(super) fn no_org(org: &OrgId) -> CatalogError {
    CatalogError::NotFound(format!("organisation {org}"))
}

pub(super) async fn commit(
    catalog: &SqliteCatalog,
    org: &OrgId,
    basis: &Basis,
    change: Change,
    placements: Vec<NodePlacement>,
    audit: &NewAudit,
) -> Result<Committed, CatalogError> {
    let mut write = catalog.write().await?;
    let mut revision = revision(write.conn(), org).await?;
    if revision != basis.revision {
        return Err(CatalogError::Conflict);
    }
    for (publisher, seen) in &basis.published {
        if followers::published(write.conn(), publisher).await? != *seen {
            return Err(CatalogError::Conflict);
        }
    }
    if let Change::Follow(publisher) = &change {
        // Placements that looked at nothing of the publisher's are none that follow it.
        let seen = basis.published.get(publisher);
        let seen = *seen.ok_or(CatalogError::Conflict)?;
        if !followers::caught_up(write.conn(), org, publisher, seen).await? {
            return Ok(Committed {
                revision,
                touched: Vec::new(),
                at: clock::now(),
            });
        }
    }
    // What was public counts as well as what becomes it.
    let concerned = followers::concerned(write.conn(), org, &change).await?;
    let done = apply(write.conn(), org, &change).await?;
    if let Some(concerned) = concerned
        && followers::leave_behind(write.conn(), org, &concerned).await?
    {
        write.leaves_behind();
    }
    let touched = placement::place(write.conn(), org, placements, done.revoked.as_ref()).await?;
    if done.changed || !touched.is_empty() {
        sqlx::query("UPDATE orgs SET revision = revision + 1 WHERE org = $1")
            .bind(org.as_str())
            .execute(write.conn())
            .await?;
        revision.0 += 1;
    }
    let lost = done.revoked.or(done.removed);
    let mut news: Vec<_> = touched
        .iter()
        .filter(|(node, _)| Some(node) != lost.as_ref())
        .map(|(node, generation)| (node.clone(), FeedEvent::Bindings(*generation)))
        .collect();
    news.extend(lost.map(|node| (node, FeedEvent::Revoked)));
    write.announce(org, &news).await?;
    // What others changed and no node of this organisation sees is not its trail's.
    if done.changed || !touched.is_empty() || !matches!(change, Change::Follow(_)) {
        write.audit(audit).await?;
    }
    let at = write.commit().await?;
    Ok(Committed {
        revision,
        touched,
        at,
    })
}

/// What a change did beside its own rows.
#[derive(Default)]
struct Done {
    /// Whether a snapshot would now be another.
    changed: bool,
    /// Its deployments must go, whatever the placements say.
    revoked: Option<NodeId>,
    removed: Option<NodeId>,
}

async fn apply(
    conn: &mut SqliteConnection,
    org: &OrgId,
    change: &Change,
) -> Result<Done, CatalogError> {
    let mut done = Done {
        changed: true,
        ..Done::default()
    };
    match change {
        Change::PutService(service) => put_service(conn, org, service).await?,
        Change::RemoveService { url, version, arch } => {
            let gone = sqlx::query(
                "DELETE FROM services WHERE org = $1 AND url = $2 AND version = $3 AND arch = $4",
            )
            .bind(org.as_str())
            .bind(url.as_str())
            .bind(version)
            .bind(arch)
            .execute(conn)
            .await?;
            if gone.rows_affected() == 0 {
                let what = format!("service {url} in version {version} for {arch}");
                return Err(CatalogError::NotFound(what));
            }
        }
        Change::PutPolicy(policy) => put_policy(conn, org, policy).await?,
        Change::RemovePolicy(name) => {
            let gone = sqlx::query("DELETE FROM policies WHERE org = $1 AND name = $2")
                .bind(org.as_str())
                .bind(name.as_str())
                .execute(conn)
                .await?;
            if gone.rows_affected() == 0 {
                return Err(CatalogError::NotFound(format!("policy {name}")));
            }
        }
        Change::PutPattern(pattern) => put_pattern(conn, org, pattern).await?,
        Change::RemovePattern(name) => {
            let gone = sqlx::query("DELETE FROM patterns WHERE org = $1 AND name = $2")
                .bind(org.as_str())
                .bind(name.as_str())
                .execute(conn)
                .await?;
            if gone.rows_affected() == 0 {
                return Err(CatalogError::NotFound(format!("pattern {name}")));
            }
        }
        Change::SetDefaultManager(manager) => {
            sqlx::query("UPDATE orgs SET default_manager = $2 WHERE org = $1")
                .bind(org.as_str())
                .bind(manager.as_ref().map(ManagerName::as_str))
                .execute(conn)
                .await?;
        }
        Change::Enrol(enrolment) => nodes::enrol(conn, org, enrolment).await?,
        Change::PutFacts { node, facts } => {
            let facts = to_json("node's facts", facts)?;
            let stored =
                sqlx::query("SELECT facts FROM nodes WHERE org = $1 AND node = $2 AND NOT revoked")
                    .bind(org.as_str())
                    .bind(node.as_str())
                    .fetch_optional(&mut *conn)
                    .await?
                    .ok_or_else(|| nodes::not_found(node))?;
            // A fleet that reconnects says what it said before: no new revision for that.
            done.changed = stored.text("facts")? != facts;
            if done.changed {
                sqlx::query("UPDATE nodes SET facts = $3 WHERE org = $1 AND node = $2")
                    .bind(org.as_str())
                    .bind(node.as_str())
                    .bind(facts)
                    .execute(conn)
                    .await?;
            }
        }
        Change::SetPattern { node, pattern } => {
            nodes::set_pattern(conn, org, node, pattern.as_ref()).await?;
        }
        Change::Follow(_) => done.changed = false,
        Change::RevokeNode(node) => {
            let found = sqlx::query("UPDATE nodes SET revoked = TRUE WHERE org = $1 AND node = $2")
                .bind(org.as_str())
                .bind(node.as_str())
                .execute(conn)
                .await?;
            if found.rows_affected() == 0 {
                return Err(nodes::not_found(node));
            }
            done.revoked = Some(node.clone());
        }
        Change::RemoveNode(node) => {
            nodes::remove(conn, org, node).await?;
            done.removed = Some(node.clone());
        }
    }
    Ok(done)
}

async fn put_service(
    conn: &mut SqliteConnection,
    org: &OrgId,
    service: &ServiceRecord,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO services (org, url, version, arch, owner, public, document, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (org, url, version, arch) DO UPDATE SET owner = excluded.owner,
             public = excluded.public, document = excluded.document, updated_at = excluded.updated_at",
    )
    .bind(org.as_str())
    .bind(service.url.as_str())
    .bind(&service.version)
    .bind(&service.arch)
    .bind(service.owner.as_str())
    .bind(service.public)
    .bind(&service.document)
    .bind(service.updated_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

async fn put_policy(
    conn: &mut SqliteConnection,
    org: &OrgId,
    policy: &PolicyRecord,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO policies (org, name, owner, document, updated_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (org, name) DO UPDATE SET owner = excluded.owner,
             document = excluded.document, updated_at = excluded.updated_at",
    )
    .bind(org.as_str())
    .bind(policy.name.as_str())
    .bind(policy.owner.as_str())
    .bind(&policy.document)
    .bind(policy.updated_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

async fn put_pattern(
    conn: &mut SqliteConnection,
    org: &OrgId,
    pattern: &PatternRecord,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO patterns (org, name, owner, public, document, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (org, name) DO UPDATE SET owner = excluded.owner, public = excluded.public,
             document = excluded.document, updated_at = excluded.updated_at",
    )
    .bind(org.as_str())
    .bind(pattern.name.as_str())
    .bind(pattern.owner.as_str())
    .bind(pattern.public)
    .bind(&pattern.document)
    .bind(pattern.updated_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

async fn services(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Vec<ServiceRecord>, CatalogError> {
    sqlx::query(
        "SELECT url, version, arch, owner, public, document, updated_at FROM services
         WHERE org = $1 ORDER BY url, version, arch",
    )
    .bind(org.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(ServiceRecord {
            url: row.name("url")?,
            version: row.text("version")?,
            arch: row.text("arch")?,
            owner: row.name("owner")?,
            public: row.flag("public")?,
            document: row.text("document")?,
            updated_at: row.time("updated_at")?,
        })
    })
    .collect()
}

async fn policies(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Vec<PolicyRecord>, CatalogError> {
    sqlx::query(
        "SELECT name, owner, document, updated_at FROM policies WHERE org = $1 ORDER BY name",
    )
    .bind(org.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(PolicyRecord {
            name: row.name("name")?,
            owner: row.name("owner")?,
            document: row.text("document")?,
            updated_at: row.time("updated_at")?,
        })
    })
    .collect()
}

async fn patterns(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<Vec<PatternRecord>, CatalogError> {
    sqlx::query(
        "SELECT name, owner, public, document, updated_at FROM patterns
         WHERE org = $1 ORDER BY name",
    )
    .bind(org.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(PatternRecord {
            name: row.name("name")?,
            owner: row.name("owner")?,
            public: row.flag("public")?,
            document: row.text("document")?,
            updated_at: row.time("updated_at")?,
        })
    })
    .collect()
}
