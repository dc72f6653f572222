//! What nodes should have: the reads behind every pull and every fetch.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{BoundSecret, FetchItem, SecretState};
use edge_secrets_protocol::{
    DeploymentId, Generation, NodeId, OrgId, PublicKey, SecretName, SecretVersion,
};
use sqlx::SqliteConnection;

use super::rows::{Columns, malformed, number};
use super::{SqliteCatalog, nodes, secrets};
use crate::catalog::CatalogError;
use crate::catalog::records::{Bound, BoundDeployment, NodeBindings, Placed};
use crate::reference::SecretRef;

pub(super) async fn bindings(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
    since: Option<Generation>,
) -> Result<NodeBindings, CatalogError> {
    let mut view = catalog.read().await?;
    let row = sqlx::query("SELECT generation FROM nodes WHERE org = $1 AND node = $2")
        .bind(org.as_str())
        .bind(node.as_str())
        .fetch_optional(&mut *view)
        .await?
        .ok_or_else(|| nodes::not_found(node))?;
    let generation = Generation(row.count("generation")?);
    // A generation that this node has never had is no base for a difference.
    let since = match since {
        Some(since) if since <= generation => number(since.0),
        _ => NEVER,
    };
    let mut unchanged = Vec::new();
    let mut changed = Vec::new();
    for row in sqlx::query(
        "SELECT deployment, CASE WHEN changed > $3 THEN document END AS document
         FROM deployments WHERE org = $1 AND node = $2 ORDER BY deployment",
    )
    .bind(org.as_str())
    .bind(node.as_str())
    .bind(since)
    .fetch_all(&mut *view)
    .await?
    {
        match row.json_opt::<Placed>("document")? {
            Some(placed) => changed.push(placed),
            None => unchanged.push(row.name("deployment")?),
        }
    }
    let mut current = if changed.is_empty() {
        BTreeMap::new()
    } else {
        resolve(&mut view, org, node, since).await?
    };
    let deployments = changed
        .into_iter()
        .map(|placed| {
            let resolved = current.remove(&placed.id).unwrap_or_default();
            bound_deployment(placed, resolved)
        })
        .collect();
    Ok(NodeBindings {
        generation,
        deployments,
        unchanged,
    })
}

pub(super) async fn bound(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
    items: &[FetchItem],
) -> Result<Option<(PublicKey, Vec<Option<Bound>>)>, CatalogError> {
    let mut view = catalog.read().await?;
    let Some(row) =
        sqlx::query("SELECT sealing_key FROM nodes WHERE org = $1 AND node = $2 AND NOT revoked")
            .bind(org.as_str())
            .bind(node.as_str())
            .fetch_optional(&mut *view)
            .await?
    else {
        return Ok(None);
    };
    let key =
        PublicKey::from_bytes(&row.bytes("sealing_key")?).map_err(|_| malformed("sealing_key"))?;
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(bound_item(&mut view, org, node, item).await?);
    }
    Ok(Some((key, answers)))
}

/// What every name resolves to: the first candidate that exists.
type Resolved = BTreeMap<SecretName, (SecretRef, SecretVersion)>;

async fn resolve(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    since: i64,
) -> Result<BTreeMap<DeploymentId, Resolved>, CatalogError> {
    let mut all: BTreeMap<DeploymentId, Resolved> = BTreeMap::new();
    for row in sqlx::query(RESOLVE)
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(since)
        .fetch_all(conn)
        .await?
    {
        let version = secrets::version(row.count("current_version")?)?;
        let target = (row.name("reference")?, version);
        all.entry(row.name("deployment")?)
            .or_default()
            .entry(row.name("name")?)
            .or_insert(target);
    }
    Ok(all)
}

fn bound_deployment(placed: Placed, mut current: Resolved) -> BoundDeployment {
    let mut resolved = BTreeMap::new();
    let secrets = placed
        .bindings
        .iter()
        .map(|(name, binding)| {
            let state = match (binding.denied, current.remove(name)) {
                (true, _) => SecretState::Denied,
                (false, None) => SecretState::Missing,
                (false, Some((reference, version))) => {
                    resolved.insert(name.clone(), reference);
                    SecretState::Ready { version }
                }
            };
            BoundSecret {
                name: name.clone(),
                state,
                expires_at: None,
            }
        })
        .collect();
    BoundDeployment {
        placed,
        secrets,
        resolved,
    }
}

async fn bound_item(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    item: &FetchItem,
) -> Result<Option<Bound>, CatalogError> {
    let row = sqlx::query(BOUND)
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(item.service.to_string())
        .bind(item.name.as_str())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let resolved = match row.count_opt("current_version")? {
        Some(current) => Some((row.name("reference")?, secrets::version(current)?)),
        None => None,
    };
    Ok(Some(Bound {
        deployment: row.name("deployment")?,
        resolved,
        denied: row.flag("denied")?,
    }))
}

/// The existing candidates of every binding of the deployments that changed, in their order.
/// `CROSS JOIN` makes SQLite begin with the deployments, of which few have changed.
const RESOLVE: &str = "SELECT b.deployment, b.name, b.reference, s.current_version
      FROM deployments d
      CROSS JOIN bindings b ON b.org = d.org AND b.node = d.node AND b.deployment = d.deployment
      JOIN secrets s ON s.org = b.org AND s.reference = b.reference
      WHERE d.org = $1 AND d.node = $2 AND d.changed > $3
          AND NOT b.denied AND s.current_version IS NOT NULL
      ORDER BY b.deployment, b.name, b.rank";
/// The candidates of one item, those that exist first, in their order: the first row decides. Should
/// two deployments bind the same name of the same service, one that may have it goes before.
const BOUND: &str = "SELECT b.deployment, b.denied, b.reference, s.current_version
      FROM bindings b
      LEFT JOIN secrets s ON s.org = b.org AND s.reference = b.reference AND NOT b.denied
      WHERE b.org = $1 AND b.node = $2 AND b.service = $3 AND b.name = $4
      ORDER BY b.denied, s.current_version IS NULL, b.deployment, b.rank LIMIT 1";
/// Before every generation: everything has changed since.
const NEVER: i64 = -1;

#[cfg(test)]
pub(super) const STATEMENTS_ON_A_NODE: [&str; 2] = [RESOLVE, BOUND];
