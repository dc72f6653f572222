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
    // One statement is one consistent view, and one trip to the database's thread.
    let since = since.map_or(NEVER, |since| number(since.0));
    let rows = sqlx::query(BINDINGS)
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(since)
        .fetch_all(&catalog.readers)
        .await?;
    let mut generation = None;
    let mut unchanged = Vec::new();
    let mut changed = Vec::new();
    let mut current: BTreeMap<DeploymentId, Resolved> = BTreeMap::new();
    for row in &rows {
        match row.count("kind")? {
            NODE => generation = Some(Generation(row.count("number")?)),
            DEPLOYMENT => match row.json_opt::<Placed>("document")? {
                Some(placed) => changed.push(placed),
                None => unchanged.push(row.name("deployment")?),
            },
            _ => {
                let version = secrets::version(row.count("current_version")?)?;
                let target = (row.name("reference")?, version);
                current
                    .entry(row.name("deployment")?)
                    .or_default()
                    .entry(row.name("name")?)
                    .or_insert(target);
            }
        }
    }
    let generation = generation.ok_or_else(|| nodes::not_found(node))?;
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
    let mut answers = Vec::with_capacity(items.len());
    if items.len() <= ITEMS_PER_QUERY {
        let mut conn = catalog.readers.acquire().await?;
        let key = bound_items(&mut conn, org, node, items, &mut answers).await?;
        return Ok(key.map(|key| (key, answers)));
    }
    // Several statements need a view that holds still.
    let mut view = catalog.read().await?;
    let mut key = None;
    for chunk in items.chunks(ITEMS_PER_QUERY) {
        key = bound_items(&mut view, org, node, chunk, &mut answers).await?;
    }
    Ok(key.map(|key| (key, answers)))
}

/// What every name resolves to: the first candidate that exists.
type Resolved = BTreeMap<SecretName, (SecretRef, SecretVersion)>;

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
                expires_in_ms: None,
            }
        })
        .collect();
    BoundDeployment {
        placed,
        secrets,
        resolved,
    }
}

/// Adds as many answers as items, which are at most [`ITEMS_PER_QUERY`], and gives the node's sealing
/// key; none when the node is revoked or gone.
async fn bound_items(
    conn: &mut SqliteConnection,
    org: &OrgId,
    node: &NodeId,
    items: &[FetchItem],
    answers: &mut Vec<Option<Bound>>,
) -> Result<Option<PublicKey>, CatalogError> {
    // Two prepared statements for any number: one for a single item, one that asks for the last
    // item again until it is full. Nothing is bound to a service without a name.
    let (statement, room) = match items.len() {
        0 | 1 => (BOUND_ONE.as_str(), 1),
        _ => (BOUND_MANY.as_str(), ITEMS_PER_QUERY),
    };
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(org.as_str())
        .bind(node.as_str());
    for at in 0..room {
        let item = items.get(at).or_else(|| items.last());
        query = query
            .bind(item.map(|item| item.service.to_string()))
            .bind(item.map(|item| item.name.as_str()));
    }
    let mut key = None;
    let first = answers.len();
    answers.resize(first + items.len(), None);
    for row in query.fetch_all(conn).await? {
        let Some(item) = row.count_opt("item")? else {
            key = Some(PublicKey::from_stored(&row.bytes("sealing_key")?));
            continue;
        };
        let at = usize::try_from(item).map_err(|_| malformed("item"))?;
        // The first row of an item decides; rows past the items are those asked for again.
        if let Some(answer @ None) = answers.get_mut(first + at) {
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
    Ok(key)
}

/// The node's sealing key, and the candidates of so many items, in the items' order; of one item those that exist first, then
/// in their order, so that the first row decides. Should two deployments bind the same name of the
/// same service, one that may have it goes before.
fn bound_statement(items: usize) -> String {
    let wanted: Vec<_> = (0..items)
        .map(|at| format!("({at}, ${}, ${})", 2 * at + 3, 2 * at + 4))
        .collect();
    format!(
        "WITH w (item, service, name) AS (VALUES {})
         SELECT NULL AS item, sealing_key, NULL AS deployment, 0 AS denied, NULL AS reference,
             NULL AS current_version, 0 AS absent, 0 AS rank
         FROM nodes WHERE org = $1 AND node = $2 AND NOT revoked
         UNION ALL
         SELECT w.item, NULL, b.deployment, b.denied, b.reference, s.current_version,
             s.current_version IS NULL, b.rank
         FROM w
         CROSS JOIN bindings b ON b.service = w.service AND b.name = w.name
         LEFT JOIN secrets s ON s.org = b.org AND s.reference = b.reference AND NOT b.denied
         WHERE b.org = $1 AND b.node = $2
         ORDER BY item, denied, absent, deployment, rank",
        wanted.join(", ")
    )
}

static BOUND_ONE: LazyLock<String> = LazyLock::new(|| bound_statement(1));
static BOUND_MANY: LazyLock<String> = LazyLock::new(|| bound_statement(ITEMS_PER_QUERY));
const ITEMS_PER_QUERY: usize = 32;
/// The node, its deployments, and the existing candidates of every binding of the deployments that
/// changed, in their order. `CROSS JOIN` makes SQLite begin with the deployments, of which few have
/// changed. A generation that this node has never had is no base for a difference.
const BINDINGS: &str = "WITH since (seen) AS (
         SELECT CASE WHEN $3 <= generation THEN $3 ELSE -1 END
         FROM nodes WHERE org = $1 AND node = $2)
     SELECT 0 AS kind, generation AS number, NULL AS deployment, NULL AS document, NULL AS name,
         NULL AS reference, NULL AS current_version
     FROM nodes WHERE org = $1 AND node = $2
     UNION ALL
     SELECT 1, 0, deployment, CASE WHEN changed > (SELECT seen FROM since) THEN document END,
         NULL, NULL, NULL
     FROM deployments WHERE org = $1 AND node = $2
     UNION ALL
     SELECT 2, b.rank, b.deployment, NULL, b.name, b.reference, s.current_version
     FROM deployments d
     CROSS JOIN bindings b ON b.org = d.org AND b.node = d.node AND b.deployment = d.deployment
     JOIN secrets s ON s.org = b.org AND s.reference = b.reference
     WHERE d.org = $1 AND d.node = $2 AND d.changed > (SELECT seen FROM since)
         AND NOT b.denied AND s.current_version IS NOT NULL
     ORDER BY kind, deployment, name, number";
const NODE: u64 = 0;
const DEPLOYMENT: u64 = 1;
/// Before every generation: everything has changed since.
const NEVER: i64 = -1;

#[cfg(test)]
pub(super) fn statements_on_a_node() -> [String; 3] {
    [BINDINGS.to_owned(), BOUND_ONE.clone(), BOUND_MANY.clone()]
}
