//! The keys that are wrapped by the master key, and which master key that is.

use edge_secrets_protocol::{OrgId, SecretVersion};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows::{Columns, number};
use super::{SqliteCatalog, secrets};
use crate::catalog::CatalogError;
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// What a wrapped key is the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrapped {
    /// A version of a secret.
    Version(OrgId, SecretRef, SecretVersion),
    /// What a manager's backend keeps.
    Session(ManagerName),
}

impl SqliteCatalog {
    /// The mark of the master key that everything is wrapped under; none before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn master_key_mark(&self) -> Result<Option<Vec<u8>>, CatalogError> {
        let row = sqlx::query("SELECT mark FROM master_key")
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| row.bytes("mark")).transpose()
    }

    /// Says for the first time which master key it is, once `opens` has agreed to some key that is
    /// wrapped already, if there is any. Gives what it said.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_master_key(
        &self,
        mark: &[u8],
        opens: impl Fn(&Wrapped, &[u8]) -> bool,
    ) -> Result<bool, CatalogError> {
        let mut write = self.write().await?;
        for statement in [VERSIONS, SESSIONS] {
            let page = page(write.conn(), statement, "", "", 0, 1).await?;
            if page.iter().any(|(wrapped, key)| !opens(wrapped, key)) {
                return Ok(false);
            }
        }
        put_mark(write.conn(), mark).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Wraps every key anew, all of them or none, and says that the master key is another now. Gives how
    /// many there are. `anew` gives nothing where a key does not open: then nothing is changed.
    ///
    /// # Errors
    /// When a key does not open, or the database fails.
    pub async fn rewrap(
        &self,
        mark: &[u8],
        anew: impl Fn(&Wrapped, &[u8]) -> Option<Vec<u8>>,
    ) -> Result<u64, CatalogError> {
        let mut write = self.write().await?;
        let conn = write.conn();
        let mut count = 0;
        for (select, update) in [
            (
                VERSIONS,
                "UPDATE secret_versions SET wrapped_key = $1
                 WHERE org = $2 AND reference = $3 AND version = $4",
            ),
            (
                SESSIONS,
                "UPDATE manager_sessions SET wrapped_key = $1
                 WHERE $2 = '' AND manager = $3 AND $4 = 0",
            ),
        ] {
            let (mut org, mut name, mut version) = (String::new(), String::new(), 0);
            loop {
                let page = page(conn, select, &org, &name, version, PAGE).await?;
                for (wrapped, key) in &page {
                    (org, name, version) = position(wrapped);
                    let key = anew(wrapped, key).ok_or_else(|| {
                        CatalogError::Storage(format!("the key of {name} does not open"))
                    })?;
                    let done = sqlx::query(update)
                        .bind(key)
                        .bind(&org)
                        .bind(&name)
                        .bind(version)
                        .execute(&mut *conn)
                        .await?;
                    // The old master key goes when this is done: nothing may be left under it.
                    if done.rows_affected() != 1 {
                        let why = format!("the key of {name} is not found again");
                        return Err(CatalogError::Storage(why));
                    }
                    count += 1;
                }
                if page.len() < PAGE as usize {
                    break;
                }
            }
        }
        put_mark(conn, mark).await?;
        write.commit().await?;
        Ok(count)
    }
}

async fn put_mark(conn: &mut SqliteConnection, mark: &[u8]) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO master_key (one, mark) VALUES (1, $1)
         ON CONFLICT (one) DO UPDATE SET mark = excluded.mark",
    )
    .bind(mark)
    .execute(conn)
    .await?;
    Ok(())
}

/// The next ones behind a position, in the order of their keys.
async fn page(
    conn: &mut SqliteConnection,
    statement: &'static str,
    org: &str,
    name: &str,
    version: i64,
    limit: i64,
) -> Result<Vec<(Wrapped, Vec<u8>)>, CatalogError> {
    let rows = sqlx::query(statement)
        .bind(org)
        .bind(name)
        .bind(version)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(wrapped).collect()
}

fn wrapped(row: &SqliteRow) -> Result<(Wrapped, Vec<u8>), CatalogError> {
    let key = row.bytes("wrapped_key")?;
    let wrapped = match row.count_opt("version")? {
        Some(version) => Wrapped::Version(
            row.name("org")?,
            row.name("name")?,
            secrets::version(version)?,
        ),
        None => Wrapped::Session(row.name("name")?),
    };
    Ok((wrapped, key))
}

fn position(wrapped: &Wrapped) -> (String, String, i64) {
    match wrapped {
        Wrapped::Version(org, reference, version) => (
            org.to_string(),
            reference.to_string(),
            secrets::version_number(version).map_or(0, number),
        ),
        Wrapped::Session(manager) => (String::new(), manager.to_string(), 0),
    }
}

const VERSIONS: &str = "SELECT org, reference AS name, version, wrapped_key FROM secret_versions
     WHERE (org, reference, version) > ($1, $2, $3) ORDER BY org, reference, version LIMIT $4";
const SESSIONS: &str = "SELECT '' AS org, manager AS name, NULL AS version, wrapped_key
     FROM manager_sessions WHERE $1 = '' AND manager > $2 AND $3 = 0 ORDER BY manager LIMIT $4";
const PAGE: i64 = 1000;
