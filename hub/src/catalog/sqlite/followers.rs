//! What organisations publish for others: how often that changed, who uses it, and who must be placed
//! anew.

use edge_secrets_protocol::{OrgId, PatternName};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteCatalog;
use super::rows::{Columns, number};
use crate::catalog::CatalogError;
use crate::catalog::records::{Behind, Change, Followers, Revision};
use crate::clock;

pub(super) async fn published(
    conn: &mut SqliteConnection,
    publisher: &OrgId,
) -> Result<Revision, CatalogError> {
    let row = sqlx::query("SELECT published FROM orgs WHERE org = $1")
        .bind(publisher.as_str())
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(Revision(0)), |row| Ok(Revision(row.count("published")?)))
}

/// Whose nodes a change of something public may concern.
pub(super) enum Concerned {
    /// Those on this pattern.
    Pattern(PatternName),
    /// Those on any of the publisher's patterns: which of them deploy the service stands in documents.
    AnyPattern,
}

/// Whom `change` may concern in other organisations: nobody, unless what it changes is public before it
/// or after it. To be asked before it is applied.
pub(super) async fn concerned(
    conn: &mut SqliteConnection,
    org: &OrgId,
    change: &Change,
) -> Result<Option<Concerned>, CatalogError> {
    let (becomes_public, stored) = match change {
        Change::PutPattern(record) => (record.public, pattern(&record.name, org)),
        Change::RemovePattern(name) => (false, pattern(name, org)),
        Change::PutService(record) => (
            record.public,
            service(record.url.as_str(), &record.version, &record.arch, org),
        ),
        Change::RemoveService { url, version, arch } => {
            (false, service(url.as_str(), version, arch, org))
        }
        _ => return Ok(None),
    };
    let was_public = match stored.fetch_optional(conn).await? {
        Some(row) => row.flag("public")?,
        None => false,
    };
    let concerned = match change {
        Change::PutPattern(record) => Concerned::Pattern(record.name.clone()),
        Change::RemovePattern(name) => Concerned::Pattern(name.clone()),
        _ => Concerned::AnyPattern,
    };
    Ok((becomes_public || was_public).then_some(concerned))
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

fn pattern<'q>(name: &'q PatternName, org: &'q OrgId) -> Query<'q> {
    sqlx::query("SELECT public FROM patterns WHERE org = $1 AND name = $2")
        .bind(org.as_str())
        .bind(name.as_str())
}

fn service<'q>(url: &'q str, version: &'q str, arch: &'q str, org: &'q OrgId) -> Query<'q> {
    sqlx::query(
        "SELECT public FROM services WHERE org = $1 AND url = $2 AND version = $3 AND arch = $4",
    )
    .bind(org.as_str())
    .bind(url)
    .bind(version)
    .bind(arch)
}

/// Counts a change of what `publisher` publishes, and writes down whose nodes are behind it. `false`
/// when nobody's are.
pub(super) async fn leave_behind(
    conn: &mut SqliteConnection,
    publisher: &OrgId,
    concerned: &Concerned,
) -> Result<bool, CatalogError> {
    let counted =
        sqlx::query("UPDATE orgs SET published = published + 1 WHERE org = $1 RETURNING published")
            .bind(publisher.as_str())
            .fetch_one(&mut *conn)
            .await?;
    let statement = match concerned {
        Concerned::Pattern(_) => BEHIND_PATTERN,
        Concerned::AnyPattern => BEHIND_ANY,
    };
    let mut insert = sqlx::query(statement)
        .bind(publisher.as_str())
        .bind(number(counted.count("published")?))
        .bind(clock::now().as_millisecond());
    if let Concerned::Pattern(name) = concerned {
        insert = insert.bind(format!("{publisher}/{name}"));
    }
    Ok(insert.execute(conn).await?.rows_affected() > 0)
}

/// Writes down that the nodes of `org` are placed after the change `seen` of the publisher's. `false`
/// when they were not behind it.
pub(super) async fn caught_up(
    conn: &mut SqliteConnection,
    org: &OrgId,
    publisher: &OrgId,
    seen: Revision,
) -> Result<bool, CatalogError> {
    let gone =
        sqlx::query("DELETE FROM behind WHERE org = $1 AND publisher = $2 AND published <= $3")
            .bind(org.as_str())
            .bind(publisher.as_str())
            .bind(number(seen.0))
            .execute(conn)
            .await?;
    Ok(gone.rows_affected() > 0)
}

pub(super) async fn behind(catalog: &SqliteCatalog) -> Result<Vec<Behind>, CatalogError> {
    let read = |row: &SqliteRow| {
        Ok(Behind {
            org: row.name("org")?,
            publisher: row.name("publisher")?,
            published: Revision(row.count("published")?),
            since: row.time("since")?,
        })
    };
    sqlx::query(
        "SELECT org, publisher, published, since FROM behind ORDER BY since, org, publisher",
    )
    .fetch_all(&catalog.readers)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn count(
    catalog: &SqliteCatalog,
    publisher: &OrgId,
    patterns: &[PatternName],
) -> Result<Followers, CatalogError> {
    let mut nodes = 0;
    let mut orgs = std::collections::BTreeSet::new();
    for chunk in patterns.chunks(PATTERNS_PER_QUERY) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT org, COUNT(*) AS nodes FROM nodes
             WHERE pattern IS NOT NULL AND pattern_org <> org AND pattern_org = ",
        );
        query.push_bind(publisher.as_str().to_owned());
        query.push(" AND pattern IN (");
        let mut list = query.separated(", ");
        for name in chunk {
            list.push_bind(format!("{publisher}/{name}"));
        }
        query.push(") GROUP BY org");
        let found = query.build().persistent(false);
        for row in found.fetch_all(&catalog.readers).await? {
            nodes += usize::try_from(row.count("nodes")?).unwrap_or(usize::MAX);
            orgs.insert(row.text("org")?);
        }
    }
    Ok(Followers {
        orgs: orgs.len(),
        nodes,
    })
}

/// With the conditions of the index, so that it is taken: the nodes that are on such patterns are
/// looked at, and no others.
const BEHIND_PATTERN: &str = "INSERT INTO behind (org, publisher, published, since)
     SELECT DISTINCT org, $1, $2, $3 FROM nodes
     WHERE pattern IS NOT NULL AND pattern_org <> org AND pattern_org = $1 AND pattern = $4
     ON CONFLICT (org, publisher) DO UPDATE SET published = excluded.published";
const BEHIND_ANY: &str = "INSERT INTO behind (org, publisher, published, since)
     SELECT DISTINCT org, $1, $2, $3 FROM nodes
     WHERE pattern IS NOT NULL AND pattern_org <> org AND pattern_org = $1
     ON CONFLICT (org, publisher) DO UPDATE SET published = excluded.published";
const PATTERNS_PER_QUERY: usize = 256;

/// For the test that looks whether the index is taken.
#[cfg(test)]
pub(super) const STATEMENTS_ON_FOLLOWERS: [&str; 2] = [BEHIND_PATTERN, BEHIND_ANY];
