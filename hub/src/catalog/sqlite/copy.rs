//! A copy of the catalog while it is used, and what must be changed in one that is used again.

use std::path::Path;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::rows::Columns;
use super::{BUSY_TIMEOUT, SqliteCatalog, keep_private, sound};
use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, NewAudit};
use crate::disk;

/// What a copy held when it was taken into use again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Nodes, revoked ones too.
    pub nodes: u64,
    /// Secrets with a value here.
    pub secrets: u64,
    /// Enrolment tokens that were not used, and are void now.
    pub void_tokens: u64,
}

impl SqliteCatalog {
    /// Copies the catalog at `path` to `to`, as it is at one moment; a hub may be serving it. `to` is
    /// made anew, mode 0600.
    ///
    /// # Errors
    /// When either cannot be used.
    pub async fn copy(path: &Path, to: &Path) -> Result<(), CatalogError> {
        sound::look(path)?;
        disk::remove(to)
            // An empty file is taken as it is: with its mode.
            .and_then(|()| keep_private(to))
            .map_err(|error| CatalogError::Storage(format!("{}: {error}", to.display())))?;
        let mut conn = connect(path, false).await?;
        sqlx::query("VACUUM INTO $1")
            .bind(to.to_string_lossy().as_ref())
            .execute(&mut conn)
            .await?;
        conn.close().await?;
        std::fs::File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(|error| CatalogError::Storage(format!("{}: {error}", to.display())))
    }

    /// Reads the whole file at `path` and says whether it is a sound database.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub async fn check(path: &Path) -> Result<(), CatalogError> {
        let mut conn = connect(path, true).await?;
        let rows = sqlx::query("PRAGMA integrity_check(1)")
            .fetch_all(&mut conn)
            .await?;
        let foreign = sqlx::query("PRAGMA foreign_key_check")
            .fetch_optional(&mut conn)
            .await?;
        conn.close().await?;
        let sound = match rows.as_slice() {
            [row] => row.text("integrity_check")? == "ok",
            _ => false,
        };
        if sound && foreign.is_none() {
            return Ok(());
        }
        Err(CatalogError::Storage("the database is damaged".into()))
    }

    /// Whether this hub could go on with the database at `path`, which is only read, and the mark of the master
    /// key that it is under; none where no hub has said yet.
    ///
    /// # Errors
    /// When it is no catalog, or one of a newer hub.
    pub async fn look_into(path: &Path) -> Result<Option<Vec<u8>>, CatalogError> {
        let mut conn = connect(path, true).await?;
        let looked = look(&mut conn).await;
        conn.close().await?;
        looked
    }

    /// Takes a copy into use that nodes, managers and operators may have gone on from. Nothing that was
    /// counted since comes a second time: what was version 8 of a secret then is not version 8 of
    /// another value now, and no node takes an older state for a newer one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_up(
        &self,
        made_at: Timestamp,
        at: Timestamp,
    ) -> Result<Restored, CatalogError> {
        // Of the time, so that the same copy taken up twice goes on behind both.
        let leap = at.as_millisecond().max(0);
        let version_leap = at.duration_since(EPOCH).as_secs().max(1);
        let mut write = self.write().await?;
        let conn = write.conn();
        // Every deployment has changed: what a node has heard since is not known here.
        // Not added where that is less: a backup from before another restore is ahead of that one too.
        let generation =
            format!("CASE WHEN generation < {leap} THEN {leap} ELSE generation + {leap} END");
        for statement in [
            format!(
                "UPDATE nodes SET generation = {generation},
                     behind_since = COALESCE(behind_since, {leap})"
            ),
            // One of them may have been enrolled again since.
            format!("UPDATE removed_nodes SET told = 0, generation = {generation}"),
            "UPDATE deployments SET changed = (SELECT generation FROM nodes n
                 WHERE n.org = deployments.org AND n.node = deployments.node)"
                .to_owned(),
            format!("UPDATE secrets SET last_version = last_version + {version_leap}"),
            // Those of secrets that are not here, and may have been there.
            format!("UPDATE orgs SET version_floor = version_floor + {version_leap}"),
            "INSERT INTO sqlite_sequence (name, seq)
                 SELECT name, 0 FROM (SELECT 'leases' AS name UNION ALL SELECT 'feed' UNION ALL SELECT 'audit')
                 WHERE name NOT IN (SELECT name FROM sqlite_sequence)"
                .to_owned(),
            format!(
                "UPDATE sqlite_sequence SET seq = seq + {leap}
                 WHERE name IN ('leases', 'feed', 'audit')"
            ),
        ] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *conn)
                .await?;
        }
        // One of them may have been used since, and by somebody else.
        let void = sqlx::query("DELETE FROM tokens WHERE used_at IS NULL")
            .execute(&mut *conn)
            .await?;
        let counted = sqlx::query(
            "SELECT (SELECT count(*) FROM nodes) AS nodes,
                 (SELECT count(*) FROM secrets WHERE current_version IS NOT NULL) AS secrets",
        )
        .fetch_one(&mut *conn)
        .await?;
        let restored = Restored {
            nodes: counted.count("nodes")?,
            secrets: counted.count("secrets")?,
            void_tokens: void.rows_affected(),
        };
        let orgs = sqlx::query("SELECT org FROM orgs")
            .fetch_all(&mut *conn)
            .await?;
        for row in orgs {
            let org = row.name("org")?;
            let record = NewAudit {
                object: format!("org/{org}"),
                org,
                at,
                actor: Actor::Hub,
                action: "hub.restore".into(),
                result: "ok".into(),
                detail: format!("from a backup of {made_at}"),
                peer: String::new(),
            };
            write.audit(&record).await?;
        }
        write.commit().await?;
        Ok(restored)
    }
}

async fn look(conn: &mut SqliteConnection) -> Result<Option<Vec<u8>>, CatalogError> {
    let known = sqlx::migrate!("./migrations/sqlite");
    let done = sqlx::query("SELECT version, checksum FROM _sqlx_migrations")
        .fetch_all(&mut *conn)
        .await?;
    for row in &done {
        let (version, checksum) = (row.count("version")?, row.bytes("checksum")?);
        let mut ours = known.iter();
        let ours = ours.find(|ours| u64::try_from(ours.version) == Ok(version));
        if ours.is_none_or(|ours| *ours.checksum != *checksum) {
            let reason =
                format!("the database is of a newer hub (its step {version} is not known here)");
            return Err(CatalogError::Storage(reason));
        }
    }
    let marked = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'master_key'")
        .fetch_optional(&mut *conn)
        .await?;
    if marked.is_none() {
        return Ok(None);
    }
    let row = sqlx::query("SELECT mark FROM master_key")
        .fetch_optional(conn)
        .await?;
    row.map(|row| row.bytes("mark")).transpose()
}

pub(super) async fn connect(
    path: &Path,
    read_only: bool,
) -> Result<SqliteConnection, CatalogError> {
    Ok(SqliteConnectOptions::new()
        .filename(path)
        .read_only(read_only)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
        .connect()
        .await?)
}

/// Versions go on by the seconds since then, as people see them: 2026-01-01.
pub(super) const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);
