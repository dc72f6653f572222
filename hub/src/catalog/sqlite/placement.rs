//! Storing placements: only what really differs is written and raises a generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use edge_secrets_protocol::{Generation, NodeId, OrgId};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection};

use super::nodes;
use super::rows::{Columns, number, raised, to_json};
use crate::catalog::CatalogError;
use crate::catalog::records::{NodePlacement, Placed};
use crate::reference::SecretRef;

/// Compares `placements` with what is stored, stores the difference, and gives the nodes that
/// differ with their new generations. Revoked nodes have no deployments, whatever is said of them;
/// `revoked` was revoked just now and counts as differing.
pub(super) async fn place(
    conn: &mut SqliteConnection,
    org: &OrgId,
    placements: Vec<NodePlacement>,
    revoked: Option<&NodeId>,
) -> Result<Vec<(NodeId, Generation)>, CatalogError> {
    let mut wanted: BTreeMap<NodeId, Vec<Placed>> = placements
        .into_iter()
        .map(|placement| (placement.node, placement.deployments))
        .collect();
    if let Some(node) = revoked {
        wanted.insert(node.clone(), Vec::new());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let mut touched = Vec::new();
    for chunk in wanted.chunks(NODES_PER_QUERY) {
        let differences = compare(conn, org, chunk, revoked).await?;
        touched.extend(store(conn, org, &differences).await?);
    }
    Ok(touched)
}

/// What a node has and should not, and should have and has not.
struct Difference<'a> {
    node: &'a NodeId,
    removed: Vec<String>,
    /// What it had in another form.
    replaced: Vec<&'a Placed>,
    /// New and replaced deployments as they will be stored.
    written: Vec<(&'a Placed, String)>,
}

async fn compare<'a>(
    conn: &mut SqliteConnection,
    org: &OrgId,
    wanted: &'a [(NodeId, Vec<Placed>)],
    revoked_now: Option<&NodeId>,
) -> Result<Vec<Difference<'a>>, CatalogError> {
    let nodes: Vec<_> = wanted.iter().map(|(node, _)| node).collect();
    let mut known = BTreeMap::new();
    for row in with_nodes(&SELECT_NODES, org, &nodes)
        .fetch_all(&mut *conn)
        .await?
    {
        known.insert(row.text("node")?, row.flag("revoked")?);
    }
    let mut stored: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in with_nodes(&SELECT_DEPLOYMENTS, org, &nodes)
        .fetch_all(conn)
        .await?
    {
        let of_node = stored.entry(row.text("node")?).or_default();
        of_node.insert(row.text("deployment")?, row.text("document")?);
    }
    let mut differences = Vec::new();
    for (node, deployments) in wanted {
        let deployments = match known.get(node.as_str()) {
            Some(true) => &[],
            Some(false) => deployments.as_slice(),
            // It was removed just now.
            None if deployments.is_empty() => continue,
            None => return Err(nodes::not_found(node)),
        };
        let mut had = stored.remove(node.as_str()).unwrap_or_default();
        let (mut replaced, mut written) = (Vec::new(), Vec::new());
        let mut ids = BTreeSet::new();
        for placed in deployments {
            if !ids.insert(&placed.id) {
                let reason = format!("node {node} is given deployment {} twice", placed.id);
                return Err(CatalogError::Storage(reason));
            }
            let document = to_json("deployment", placed)?;
            match had.remove(placed.id.as_str()) {
                Some(same) if same == document => continue,
                Some(_) => replaced.push(placed),
                None => {}
            }
            written.push((placed, document));
        }
        if !had.is_empty() || !written.is_empty() || Some(node) == revoked_now {
            differences.push(Difference {
                node,
                removed: had.into_keys().collect(),
                replaced,
                written,
            });
        }
    }
    Ok(differences)
}

async fn store(
    conn: &mut SqliteConnection,
    org: &OrgId,
    differences: &[Difference<'_>],
) -> Result<Vec<(NodeId, Generation)>, CatalogError> {
    let nodes: Vec<_> = differences.iter().map(|one| one.node).collect();
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut raised = BTreeMap::new();
    for row in with_nodes(&RAISE, org, &nodes)
        .fetch_all(&mut *conn)
        .await?
    {
        raised.insert(row.name("node")?, Generation(row.count("generation")?));
    }
    let mut deployments = Vec::new();
    let mut candidates = Vec::new();
    for difference in differences {
        let node = difference.node;
        let generation = *raised.get(node).ok_or_else(|| nodes::not_found(node))?;
        for id in &difference.removed {
            delete(conn, DELETE_DEPLOYMENT, org, node, id).await?;
        }
        for placed in &difference.replaced {
            delete(conn, DELETE_BINDINGS, org, node, placed.id.as_str()).await?;
        }
        for (placed, document) in &difference.written {
            deployments.push((node, *placed, document, generation));
            candidates.extend(candidates_of(node, placed));
        }
    }
    insert_deployments(conn, org, &deployments).await?;
    insert_candidates(conn, org, &candidates).await?;
    Ok(raised.into_iter().collect())
}

async fn delete(
    conn: &mut SqliteConnection,
    statement: &'static str,
    org: &OrgId,
    node: &NodeId,
    deployment: &str,
) -> Result<(), CatalogError> {
    sqlx::query(statement)
        .bind(org.as_str())
        .bind(node.as_str())
        .bind(deployment)
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert_deployments(
    conn: &mut SqliteConnection,
    org: &OrgId,
    rows: &[(&NodeId, &Placed, &String, Generation)],
) -> Result<(), CatalogError> {
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO deployments (org, node, deployment, changed, document) ",
        );
        insert.push_values(chunk, |mut row, (node, placed, document, generation)| {
            row.push_bind(org.as_str().to_owned())
                .push_bind(node.as_str().to_owned())
                .push_bind(placed.id.as_str().to_owned())
                .push_bind(number(generation.0))
                .push_bind((*document).clone());
        });
        insert.push(
            " ON CONFLICT (org, node, deployment)
              DO UPDATE SET changed = excluded.changed, document = excluded.document",
        );
        insert
            .build()
            .persistent(chunk.len() == 1)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// One row of the table of bindings.
struct Candidate<'a> {
    node: &'a NodeId,
    placed: &'a Placed,
    name: &'a str,
    rank: i64,
    denied: bool,
    /// The secret, and the field of it.
    reference: Option<SecretRef>,
}

fn candidates_of<'a>(node: &'a NodeId, placed: &'a Placed) -> Vec<Candidate<'a>> {
    let mut rows = Vec::new();
    for (name, binding) in &placed.bindings {
        let mut references: Vec<_> = binding.candidates.iter().cloned().map(Some).collect();
        if references.is_empty() {
            references.push(None);
        }
        rows.extend((0..).zip(references).map(|(rank, reference)| Candidate {
            node,
            placed,
            name: name.as_str(),
            rank,
            denied: binding.denied,
            reference,
        }));
    }
    rows
}

async fn insert_candidates(
    conn: &mut SqliteConnection,
    org: &OrgId,
    rows: &[Candidate<'_>],
) -> Result<(), CatalogError> {
    watch(conn, org, rows).await?;
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO bindings
                 (org, node, deployment, name, rank, service, denied, reference, field) ",
        );
        insert.push_values(chunk, |mut row, candidate| {
            row.push_bind(org.as_str().to_owned())
                .push_bind(candidate.node.as_str().to_owned())
                .push_bind(candidate.placed.id.as_str().to_owned())
                .push_bind(candidate.name.to_owned())
                .push_bind(candidate.rank)
                .push_bind(candidate.placed.service.to_string())
                .push_bind(candidate.denied)
                .push_bind(candidate.reference.as_ref().map(|r| r.secret().to_string()))
                .push_bind(
                    candidate
                        .reference
                        .as_ref()
                        .and_then(|r| r.field().map(|field| field.as_str().to_owned())),
                );
        });
        insert
            .build()
            .persistent(chunk.len() == 1)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Secrets of managers that are bound for the first time are to be asked about.
async fn watch(
    conn: &mut SqliteConnection,
    org: &OrgId,
    rows: &[Candidate<'_>],
) -> Result<(), CatalogError> {
    let may_have = rows.iter().filter(|row| !row.denied);
    let managed: BTreeSet<_> = may_have
        .filter_map(|row| row.reference.as_ref())
        .filter(|reference| reference.manager().is_some())
        .map(|reference| reference.secret().to_string())
        .collect();
    let managed: Vec<_> = managed.into_iter().collect();
    for chunk in managed.chunks(ROWS_PER_INSERT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT OR IGNORE INTO observed (org, reference, asked, detail) ",
        );
        insert.push_values(chunk, |mut row, reference| {
            row.push_bind(org.as_str().to_owned())
                .push_bind(reference.clone())
                .push_bind(false)
                .push_bind("");
        });
        insert
            .build()
            .persistent(chunk.len() == 1)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// The statement with its list of nodes filled, the last one again where there are fewer: so it is
/// one prepared statement for any number of nodes.
fn with_nodes<'q>(
    statement: &'q str,
    org: &OrgId,
    nodes: &[&NodeId],
) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments> {
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(org.as_str().to_owned());
    let last = nodes.last();
    for node in nodes
        .iter()
        .chain(last.into_iter().cycle())
        .take(NODES_PER_QUERY)
    {
        query = query.bind(node.as_str().to_owned());
    }
    query
}

/// `statement` with `{nodes}` replaced by the parameters `$2`, `$3`, ….
fn listing(statement: &str) -> String {
    let parameters: Vec<_> = (0..NODES_PER_QUERY)
        .map(|at| format!("${}", at + 2))
        .collect();
    statement.replace("{nodes}", &parameters.join(", "))
}

static SELECT_NODES: LazyLock<String> = LazyLock::new(|| {
    listing("SELECT node, revoked FROM nodes WHERE org = $1 AND node IN ({nodes})")
});
static SELECT_DEPLOYMENTS: LazyLock<String> = LazyLock::new(|| {
    listing(
        "SELECT node, deployment, document FROM deployments
         WHERE org = $1 AND node IN ({nodes})",
    )
});
static RAISE: LazyLock<String> = LazyLock::new(|| {
    listing(concat!(
        "UPDATE nodes SET ",
        raised!(),
        " WHERE org = $1 AND node IN ({nodes}) RETURNING node, generation"
    ))
});
const DELETE_DEPLOYMENT: &str =
    "DELETE FROM deployments WHERE org = $1 AND node = $2 AND deployment = $3";
const DELETE_BINDINGS: &str =
    "DELETE FROM bindings WHERE org = $1 AND node = $2 AND deployment = $3";
const NODES_PER_QUERY: usize = 64;
const ROWS_PER_INSERT: usize = 256;
