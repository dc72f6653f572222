//! What nodes should have: the reads behind every pull and every fetch.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use edge_secrets_protocol::binding::{BoundSecret, FetchItem, SecretState};
use edge_secrets_protocol::{DeploymentId, Generation, NodeId, OrgId, PublicKey, SecretName};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::rows::{Columns, malformed, number};
use super::{SqliteCatalog, leases, managed, nodes, secrets};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    BindingDetail, Bound, BoundDeployment, LeaseId, NodeBindings, Placed,
};
use crate::catalog::resolve::{Candidate, CurrentLease, Known, resolve};
use crate::clock;
use crate::reference::SecretRef;

pub(super) async fn bindings(
    catalog: &SqliteCatalog,
    org: &OrgId,
    node: &NodeId,
    since: Option<Generation>,
) -> Result<NodeBindings, CatalogError> {
    // One statement is one consistent view, and one trip to the database's thread.
    let since = since.map_or(NEVER, |since| number(since.0));
    let rows = sqlx::query(AssertSqlSafe(BINDINGS.as_str()))
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(since)
        .fetch_all(&catalog.readers)
        .await?;
    let mut generation = None;
    let mut unchanged = Vec::new();
    let mut changed = Vec::new();
    let mut current: BTreeMap<DeploymentId, Candidates> = BTreeMap::new();
    for row in &rows {
        match row.count("kind")? {
            NODE => generation = Some(Generation(row.count("number")?)),
            DEPLOYMENT => match row.json_opt::<Placed>("document")? {
                Some(placed) => changed.push(placed),
                None => unchanged.push(row.name("deployment")?),
            },
            _ => current
                .entry(row.name("deployment")?)
                .or_default()
                .entry(row.name("name")?)
                .or_default()
                .push(candidate(row)?),
        }
    }
    let generation = generation.ok_or_else(|| nodes::not_found(node))?;
    let now = clock::now();
    let deployments = changed
        .into_iter()
        .map(|placed| {
            let candidates = current.remove(&placed.id).unwrap_or_default();
            bound_deployment(placed, &candidates, now)
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

/// What is known of the candidates of every name, in their order.
type Candidates = BTreeMap<SecretName, Vec<Candidate>>;

fn bound_deployment(placed: Placed, candidates: &Candidates, now: Timestamp) -> BoundDeployment {
    let (mut resolved, mut details) = (BTreeMap::new(), BTreeMap::new());
    let mut secrets = Vec::with_capacity(placed.bindings.len());
    for (name, binding) in &placed.bindings {
        let mut secret = BoundSecret {
            name: name.clone(),
            state: SecretState::Denied,
            expires_at: None,
            expires_in_ms: None,
        };
        if !binding.denied {
            let candidates = candidates.get(name).map_or(&[][..], Vec::as_slice);
            let resolution = resolve(candidates, now);
            secret.state = resolution.state;
            secret.expires_at = resolution.expires_at;
            let detail = BindingDetail {
                effect: resolution.effect,
                identity: resolution.identity,
                trouble: resolution.trouble,
            };
            if detail != BindingDetail::default() {
                details.insert(name.clone(), detail);
            }
            resolved.extend(resolution.reference.map(|found| (name.clone(), found)));
        }
        secrets.push(secret);
    }
    BoundDeployment {
        placed,
        secrets,
        resolved,
        details,
    }
}

/// One row of a binding's candidates, joined with all that is known of it.
fn candidate(row: &SqliteRow) -> Result<Candidate, CatalogError> {
    let reference: SecretRef = row.name("reference")?;
    let known = if reference.manager().is_none() {
        let version = row.count_opt("current_version")?;
        let version = version.map(secrets::version).transpose()?;
        let ends_at = row.time_opt("own_expires_at")?;
        Known::Own(version.map(|version| (version, ends_at)))
    } else {
        let asked = row.flag_opt("asked")?.unwrap_or(false);
        let observation = asked.then(|| managed::known(row)).transpose()?;
        Known::Managed(observation, current_lease(row)?)
    };
    Ok(Candidate {
        reference: reference.with_field(row.name_opt("field")?),
        known,
    })
}

fn current_lease(row: &SqliteRow) -> Result<Option<CurrentLease>, CatalogError> {
    let Some(id) = row.count_opt("lease")? else {
        return Ok(None);
    };
    Ok(Some(CurrentLease {
        id: LeaseId(id),
        state: leases::state(&row.text("lease_state")?)?,
        ends_at: row.time_opt("lease_ends_at")?,
        trouble: managed::trouble(row, ["lease_fault", "lease_detail", "lease_fault_since"])?,
    }))
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
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); items.len()];
    for row in query.fetch_all(conn).await? {
        let Some(item) = row.count_opt("item")? else {
            key = Some(PublicKey::from_stored(&row.bytes("sealing_key")?));
            continue;
        };
        let at = usize::try_from(item).map_err(|_| malformed("item"))?;
        // Rows past the items are those asked for again.
        if let Some(found) = found.get_mut(at) {
            let denied = row.flag("denied")?;
            let reference = row.text_opt("reference")?;
            let known = (!denied && reference.is_some()).then(|| candidate(&row));
            found.push(Found {
                deployment: row.name("deployment")?,
                denied,
                candidate: known.transpose()?,
            });
        }
    }
    let now = clock::now();
    answers.extend(found.into_iter().map(|found| decide(found, now)));
    Ok(key)
}

/// A candidate of an item.
#[derive(Clone)]
struct Found {
    deployment: DeploymentId,
    denied: bool,
    candidate: Option<Candidate>,
}

/// What an item is bound to. Should two deployments bind the same name of the same service, one that
/// may have it goes before one that may not, and one that has a version before one that has none.
fn decide(found: Vec<Found>, now: Timestamp) -> Option<Bound> {
    let mut by_deployment: BTreeMap<DeploymentId, (bool, Vec<Candidate>)> = BTreeMap::new();
    for Found {
        deployment,
        denied,
        candidate,
    } in found
    {
        let (all_denied, candidates) = by_deployment
            .entry(deployment)
            .or_insert((true, Vec::new()));
        *all_denied &= denied;
        candidates.extend(candidate);
    }
    let bound = |(deployment, (denied, candidates)): (DeploymentId, (bool, Vec<Candidate>))| {
        let resolution = resolve(&candidates, now);
        let pending = resolution.state == SecretState::Pending;
        let version = match resolution.state {
            SecretState::Ready { version } if !denied => Some(version),
            _ => None,
        };
        Bound {
            deployment,
            resolved: resolution.reference.zip(version),
            denied,
            expires_at: resolution.expires_at,
            trouble: resolution.trouble,
            pending,
            lease: resolution.lease,
        }
    };
    let bound = by_deployment.into_iter().map(bound);
    bound.min_by_key(|bound| (bound.denied, bound.resolved.is_none()))
}

/// The node's sealing key, and the candidates of so many items with all that is known of them, in the
/// items' order, and of one item in theirs.
fn bound_statement(items: usize) -> String {
    let wanted: Vec<_> = (0..items)
        .map(|at| format!("({at}, ${}, ${})", 2 * at + 3, 2 * at + 4))
        .collect();
    format!(
        "WITH w (item, service, name) AS (VALUES {})
         SELECT NULL AS item, sealing_key, NULL AS deployment, 0 AS denied, 0 AS rank, {NOTHING}
         FROM nodes WHERE org = $1 AND node = $2 AND NOT revoked
         UNION ALL
         SELECT w.item, NULL, b.deployment, b.denied, b.rank, {KNOWN}
         FROM w
         CROSS JOIN bindings b ON b.service = w.service AND b.name = w.name
         {JOINS}
         WHERE b.org = $1 AND b.node = $2
         ORDER BY item, deployment, rank",
        wanted.join(", ")
    )
}

static BOUND_ONE: LazyLock<String> = LazyLock::new(|| bound_statement(1));
static BOUND_MANY: LazyLock<String> = LazyLock::new(|| bound_statement(ITEMS_PER_QUERY));
const ITEMS_PER_QUERY: usize = 32;

/// All that is known of a candidate `b`: the hub's own secret `s`, what a manager said `o`, and the
/// binding's lease `l`.
const KNOWN: &str = "b.reference, b.field, s.current_version,
     s.expires_at AS own_expires_at, o.asked, o.effect, o.version,
     o.expires_at, o.identity, o.fault, o.detail, o.fault_since, l.id AS lease, l.state AS lease_state,
     l.ends_at AS lease_ends_at, l.fault AS lease_fault, l.detail AS lease_detail,
     l.fault_since AS lease_fault_since";
/// The same columns with nothing in them.
const NOTHING: &str = "NULL AS reference, NULL AS field, NULL AS current_version,
     NULL AS own_expires_at, NULL AS asked,
     NULL AS effect, NULL AS version, NULL AS expires_at, NULL AS identity, NULL AS fault,
     NULL AS detail, NULL AS fault_since, NULL AS lease, NULL AS lease_state, NULL AS lease_ends_at,
     NULL AS lease_fault, NULL AS lease_detail, NULL AS lease_fault_since";
const JOINS: &str = "LEFT JOIN secrets s ON s.org = b.org AND s.reference = b.reference
     LEFT JOIN observed o ON o.org = b.org AND o.reference = b.reference
     LEFT JOIN leases l ON l.org = b.org AND l.node = b.node AND l.deployment = b.deployment
         AND l.reference = b.reference AND l.current = 1";

/// The node, its deployments, and the candidates of every binding of the deployments that changed, in
/// their order. `CROSS JOIN` makes SQLite begin with the deployments, of which few have changed. A
/// generation that this node has never had is no base for a difference.
static BINDINGS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH since (seen) AS (
             SELECT CASE WHEN $3 <= generation THEN $3 ELSE -1 END
             FROM nodes WHERE org = $1 AND node = $2)
         SELECT 0 AS kind, generation AS number, NULL AS deployment, NULL AS document,
             NULL AS name, {NOTHING}
         FROM nodes WHERE org = $1 AND node = $2
         UNION ALL
         SELECT 1, 0, deployment, CASE WHEN changed > (SELECT seen FROM since) THEN document END,
             NULL, {NOTHING}
         FROM deployments WHERE org = $1 AND node = $2
         UNION ALL
         SELECT 2, b.rank, b.deployment, NULL, b.name, {KNOWN}
         FROM deployments d
         CROSS JOIN bindings b
             ON b.org = d.org AND b.node = d.node AND b.deployment = d.deployment
         {JOINS}
         WHERE d.org = $1 AND d.node = $2 AND d.changed > (SELECT seen FROM since)
             AND NOT b.denied AND b.reference IS NOT NULL
         ORDER BY kind, deployment, name, number"
    )
});
const NODE: u64 = 0;
const DEPLOYMENT: u64 = 1;
/// Before every generation: everything has changed since.
const NEVER: i64 = -1;

#[cfg(test)]
pub(super) fn statements_on_a_node() -> [String; 3] {
    [BINDINGS.clone(), BOUND_ONE.clone(), BOUND_MANY.clone()]
}
