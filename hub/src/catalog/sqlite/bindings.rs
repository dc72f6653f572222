//! What nodes should have: the reads behind every pull and every fetch.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use edge_secrets_protocol::binding::{BoundSecret, FetchItem, SecretState};
use edge_secrets_protocol::{
    DeploymentId, Generation, NodeId, OrgId, PublicKey, SecretName, SecretVersion,
};
use sqlx::{AssertSqlSafe, SqliteConnection};

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
    for chunk in items.chunks(ITEMS_PER_QUERY) {
        answers.extend(bound_items(&mut view, org, node, chunk).await?);
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

/// As many answers as items, which are at most [`ITEMS_PER_QUERY`].
async fn bound_items(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    items: &[FetchItem],
) -> Result<Vec<Option<Bound>>, CatalogError> {
    // Two prepared statements for any number: one for a single item, one that asks for the last
    // item again until it is full.
    let (statement, room) = match items.len() {
        1 => (BOUND_ONE.as_str(), 1),
        _ => (BOUND_MANY.as_str(), ITEMS_PER_QUERY),
    };
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(org.as_str())
        .bind(node.as_str());
    let again = items.last().into_iter().cycle();
    for item in items.iter().chain(again).take(room) {
        query = query
            .bind(item.service.to_string())
            .bind(item.name.as_str());
    }
    let mut answers = vec![None; items.len()];
    for row in query.fetch_all(conn).await? {
        let at = usize::try_from(row.count("item")?).map_err(|_| malformed("item"))?;
        // The first row of an item decides; rows past the items are those asked for again.
        if let Some(answer @ None) = answers.get_mut(at) {
            let resolved = match row.count_opt("current_version")? {
                Some(current) => Some((row.name("reference")?, secrets::version(current)?)),
                None => None,
            };
            *answer = Some(Bound {
                deployment: row.name("deployment")?,
                resolved,
                denied: row.flag("denied")?,
            });
        }
    }
    Ok(answers)
}

/// The candidates of so many items, in the items' order; of one item those that exist first, then
/// in their order, so that the first row decides. Should two deployments bind the same name of the
/// same service, one that may have it goes before.
fn bound_statement(items: usize) -> String {
    let wanted: Vec<_> = (0..items)
        .map(|at| format!("({at}, ${}, ${})", 2 * at + 3, 2 * at + 4))
        .collect();
    format!(
        "WITH w (item, service, name) AS (VALUES {})
         SELECT w.item, b.deployment, b.denied, b.reference, s.current_version
         FROM w
         CROSS JOIN bindings b ON b.service = w.service AND b.name = w.name
         LEFT JOIN secrets s ON s.org = b.org AND s.reference = b.reference AND NOT b.denied
         WHERE b.org = $1 AND b.node = $2
         ORDER BY w.item, b.denied, s.current_version IS NULL, b.deployment, b.rank",
        wanted.join(", ")
    )
}

static BOUND_ONE: LazyLock<String> = LazyLock::new(|| bound_statement(1));
static BOUND_MANY: LazyLock<String> = LazyLock::new(|| bound_statement(ITEMS_PER_QUERY));
const ITEMS_PER_QUERY: usize = 32;
/// The existing candidates of every binding of the deployments that changed, in their order.
/// `CROSS JOIN` makes SQLite begin with the deployments, of which few have changed.
const RESOLVE: &str = "SELECT b.deployment, b.name, b.reference, s.current_version
      FROM deployments d
      CROSS JOIN bindings b ON b.org = d.org AND b.node = d.node AND b.deployment = d.deployment
      JOIN secrets s ON s.org = b.org AND s.reference = b.reference
      WHERE d.org = $1 AND d.node = $2 AND d.changed > $3
          AND NOT b.denied AND s.current_version IS NOT NULL
      ORDER BY b.deployment, b.name, b.rank";
/// Before every generation: everything has changed since.
const NEVER: i64 = -1;

#[cfg(test)]
pub(super) fn statements_on_a_node() -> [String; 3] {
    [RESOLVE.to_owned(), BOUND_ONE.clone(), BOUND_MANY.clone()]
}
