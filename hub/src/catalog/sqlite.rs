//! The catalog in one SQLite file: for a site that one hub serves.
//!
//! One connection writes, a few read: with the write-ahead log readers see the last commit and wait
//! for nobody. Every commit is synced to the disk before it is answered. Only one process may have
//! the file open: the bell rings for the writes of this one alone.

mod audit;
mod bindings;
mod certificates;
mod copy;
mod definitions;
mod feed;
mod followers;
mod leases;
mod managed;
mod metadata;
mod nodes;
mod placement;
mod rows;
mod secrets;
mod sound;
mod users;
mod wrapped;
mod write;

pub use self::certificates::{Holder, KnownCertificate};

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{
    Generation, NodeId, OrgId, PatternName, PublicKey, SecretVersion, UserId,
};
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, Transaction};
use tokio::sync::watch;

use super::records::{
    AuditQuery, AuditRecord, Basis, Behind, Belonging, Bound, Change, Committed, EncryptedVersion,
    EndedSecret, Expiry, FeedEntry, Followers, Lag, LeaseChange, LeaseQuery, LeaseRecord,
    LeaseState, NewAudit, NewCertificate, NewMeta, NewToken, NodeBindings, NodeIdentity,
    NodePlacement, NodeRecord, Observation, Observed, OrgSnapshot, PublicSnapshot, Report,
    Revision, SecretPut, SecretRecord, UserIdentity, UserRecord, VersionRecord,
};
use super::{Catalog, CatalogError};
use crate::managers::ManagerName;
use crate::metadata::MetaChange;
use crate::reference::SecretRef;
use write::Write;

pub use copy::Restored;
pub use wrapped::Wrapped;

/// A catalog in one SQLite file.
pub struct SqliteCatalog {
    writer: SqlitePool,
    readers: SqlitePool,
    bell: Arc<watch::Sender<u64>>,
    behind_bell: Arc<watch::Sender<u64>>,
    waiting: Arc<audit::Waiting>,
}

impl SqliteCatalog {
    /// Opens the catalog, makes it where there is none (mode 0600), and brings its tables up to
    /// date. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or was written by a newer hub.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        keep_private(path).map_err(|error| {
            let reason = format!("{} cannot be opened: {error}", path.display());
            CatalogError::of_file(&error, reason)
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON");
        let writer = pool(1).connect_with(writing).await?;
        sqlx::migrate!("./migrations/sqlite").run(&writer).await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await?;
        let newest = feed::newest(&mut *readers.acquire().await?).await?;
        Ok(Self {
            writer,
            readers,
            bell: Arc::new(watch::Sender::new(newest)),
            behind_bell: Arc::default(),
            waiting: Arc::default(),
        })
    }

    /// Waits for what is under way and closes the file. Whatever is asked afterwards fails.
    pub async fn close(&self) {
        // The writer last: it folds the write-ahead log into the file.
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn write(&self) -> Result<Write, CatalogError> {
        let tx = match self.begin().await {
            // A connection that was opened while the disk was read-only stays so for ever.
            Err(CatalogError::Disk(_)) => {
                self.writer.acquire().await?.close().await?;
                self.begin().await?
            }
            begun => begun?,
        };
        let bells = (Arc::clone(&self.bell), Arc::clone(&self.behind_bell));
        Ok(Write::new(tx, bells.0, bells.1))
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        Ok(self.writer.begin_with(BEGIN).await?)
    }

    /// One consistent view over several statements.
    async fn read(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        Ok(self.readers.begin().await?)
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn create_org(&self, org: &OrgId, audit: NewAudit) -> Result<(), CatalogError> {
        users::create_org(self, org, &audit).await
    }

    async fn add_user(&self, user: &UserRecord, audit: NewAudit) -> Result<(), CatalogError> {
        users::add(self, user, &audit).await
    }

    async fn remove_user(
        &self,
        org: &OrgId,
        user: &UserId,
        audit: NewAudit,
    ) -> Result<(), CatalogError> {
        users::remove(self, org, user, &audit).await
    }

    async fn users(&self, org: &OrgId) -> Result<Vec<UserRecord>, CatalogError> {
        users::list(self, org).await
    }

    async fn add_user_certificate(
        &self,
        org: &OrgId,
        user: &UserId,
        certificate: &NewCertificate,
    ) -> Result<(), CatalogError> {
        users::add_certificate(self, org, user, certificate).await
    }

    async fn user_identity(&self, serial: &str) -> Result<Option<UserIdentity>, CatalogError> {
        users::identity(self, serial).await
    }

    async fn node_identity(&self, serial: &str) -> Result<Option<NodeIdentity>, CatalogError> {
        nodes::identity(self, serial).await
    }

    async fn was_removed(&self, org: &OrgId, node: &NodeId) -> Result<bool, CatalogError> {
        nodes::was_removed(self, org, node).await
    }

    async fn renew_node(
        &self,
        org: &OrgId,
        node: &NodeId,
        serial: &str,
        certificate: &NewCertificate,
        sealing_key: Option<&PublicKey>,
        audit: NewAudit,
    ) -> Result<(), CatalogError> {
        nodes::renew(self, org, node, serial, certificate, sealing_key, &audit).await
    }

    async fn add_token(&self, token: &NewToken, audit: NewAudit) -> Result<(), CatalogError> {
        nodes::add_token(self, token, &audit).await
    }

    async fn promised(&self, hash: &[u8; 32]) -> Result<Option<Belonging>, CatalogError> {
        nodes::promised(self, hash).await
    }

    async fn snapshot(&self, org: &OrgId) -> Result<OrgSnapshot, CatalogError> {
        definitions::snapshot(self, org).await
    }

    async fn revision(&self, org: &OrgId) -> Result<Revision, CatalogError> {
        definitions::revision(&mut *self.readers.acquire().await?, org).await
    }

    async fn commit(
        &self,
        org: &OrgId,
        basis: Basis,
        change: Change,
        placements: Vec<NodePlacement>,
        audit: NewAudit,
    ) -> Result<Committed, CatalogError> {
        definitions::commit(self, org, &basis, change, placements, &audit).await
    }

    async fn public(&self, publisher: &OrgId) -> Result<PublicSnapshot, CatalogError> {
        definitions::public(self, publisher).await
    }

    async fn published(&self, publisher: &OrgId) -> Result<Revision, CatalogError> {
        followers::published(&mut *self.readers.acquire().await?, publisher).await
    }

    async fn followers(
        &self,
        publisher: &OrgId,
        patterns: &[PatternName],
    ) -> Result<Followers, CatalogError> {
        followers::count(self, publisher, patterns).await
    }

    async fn behind(&self) -> Result<Vec<Behind>, CatalogError> {
        followers::behind(self).await
    }

    fn behind_bell(&self) -> watch::Receiver<u64> {
        self.behind_bell.subscribe()
    }

    async fn nodes(&self, org: &OrgId) -> Result<Vec<NodeRecord>, CatalogError> {
        nodes::list(&mut *self.readers.acquire().await?, org).await
    }

    async fn node(&self, org: &OrgId, node: &NodeId) -> Result<Option<NodeRecord>, CatalogError> {
        nodes::get(self, org, node).await
    }

    async fn bindings(
        &self,
        org: &OrgId,
        node: &NodeId,
        since: Option<Generation>,
    ) -> Result<NodeBindings, CatalogError> {
        bindings::bindings(self, org, node, since).await
    }

    async fn bound(
        &self,
        org: &OrgId,
        node: &NodeId,
        items: &[FetchItem],
    ) -> Result<Option<(PublicKey, Vec<Option<Bound>>)>, CatalogError> {
        bindings::bound(self, org, node, items).await
    }

    async fn put_report(
        &self,
        org: &OrgId,
        node: &NodeId,
        report: &StatusReport,
        at: Timestamp,
    ) -> Result<(), CatalogError> {
        nodes::put_report(self, org, node, report, at).await
    }

    async fn reports(
        &self,
        org: &OrgId,
        node: Option<&NodeId>,
    ) -> Result<Vec<Report>, CatalogError> {
        nodes::reports(self, org, node).await
    }

    async fn lagging(&self, org: &OrgId) -> Result<Vec<Lag>, CatalogError> {
        nodes::lagging(self, org).await
    }

    async fn put_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &EncryptedVersion,
        meta: &NewMeta,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<SecretPut, CatalogError> {
        secrets::put(self, org, reference, version, meta, expected, audit).await
    }

    async fn edit_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        change: &MetaChange,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<(SecretRecord, Committed), CatalogError> {
        metadata::edit(self, org, reference, change, expected, &audit).await
    }

    async fn expire_secrets(&self, now: Timestamp) -> Result<Expiry, CatalogError> {
        metadata::expire(self, now).await
    }

    async fn revive_secrets(&self, now: Timestamp) -> Result<Vec<EndedSecret>, CatalogError> {
        metadata::revive(self, now).await
    }

    async fn remove_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        audit: NewAudit,
    ) -> Result<Committed, CatalogError> {
        secrets::remove(self, org, reference, &audit).await
    }

    async fn secrets(&self, org: &OrgId, prefix: &str) -> Result<Vec<SecretRecord>, CatalogError> {
        secrets::list(self, org, prefix).await
    }

    async fn secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Option<SecretRecord>, CatalogError> {
        secrets::get(self, org, reference).await
    }

    async fn versions(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Vec<VersionRecord>, CatalogError> {
        secrets::versions(self, org, reference).await
    }

    async fn last_version(&self, org: &OrgId, reference: &SecretRef) -> Result<u64, CatalogError> {
        secrets::last_version(self, org, reference).await
    }

    async fn encrypted(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &SecretVersion,
    ) -> Result<Option<EncryptedVersion>, CatalogError> {
        secrets::encrypted(self, org, reference, version).await
    }

    async fn orgs(&self) -> Result<Vec<OrgId>, CatalogError> {
        definitions::orgs(self).await
    }

    async fn observed(&self, unasked: bool) -> Result<Vec<Observed>, CatalogError> {
        managed::observed(self, unasked).await
    }

    async fn observation(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Option<Observed>, CatalogError> {
        managed::observation(self, org, reference).await
    }

    async fn binding_nodes(&self, org: &OrgId, secret: &SecretRef) -> Result<usize, CatalogError> {
        managed::binding_nodes(self, org, secret).await
    }

    async fn observe(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        said: &Observation,
        audit: NewAudit,
    ) -> Result<Option<Committed>, CatalogError> {
        managed::observe(self, org, reference, said, &audit).await
    }

    async fn forget_unbound(&self) -> Result<Vec<(OrgId, SecretRef)>, CatalogError> {
        managed::forget_unbound(self).await
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<LeaseRecord>, CatalogError> {
        leases::list(self, query).await
    }

    async fn count_leases(&self, org: &OrgId) -> Result<BTreeMap<LeaseState, u64>, CatalogError> {
        leases::count(self, org).await
    }

    async fn change_leases(
        &self,
        changes: &[LeaseChange],
        audit: Vec<NewAudit>,
    ) -> Result<Vec<LeaseRecord>, CatalogError> {
        leases::change(self, changes, &audit).await
    }

    async fn binds_leased(&self, org: &OrgId, node: &NodeId) -> Result<bool, CatalogError> {
        leases::binds_leased(self, org, node).await
    }

    async fn leasing_nodes(&self) -> Result<Vec<(OrgId, NodeId)>, CatalogError> {
        leases::leasing_nodes(self).await
    }

    async fn forget_ended_leases(&self, before: Timestamp) -> Result<u64, CatalogError> {
        leases::forget_ended(self, before).await
    }

    async fn manager_session(
        &self,
        manager: &ManagerName,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, CatalogError> {
        managed::session(self, manager).await
    }

    async fn put_manager_session(
        &self,
        manager: &ManagerName,
        wrapped_key: &[u8],
        ciphertext: &[u8],
        at: Timestamp,
    ) -> Result<(), CatalogError> {
        managed::put_session(self, manager, wrapped_key, ciphertext, at).await
    }

    async fn feed(&self, seq: u64, limit: u32) -> Result<Vec<FeedEntry>, CatalogError> {
        feed::read(self, seq, limit).await
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    async fn append_audit(&self, records: Vec<NewAudit>) -> Result<(), CatalogError> {
        audit::append(self, records).await
    }

    async fn audit(
        &self,
        org: &OrgId,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRecord>, CatalogError> {
        audit::read(self, org, query).await
    }
}

/// Connections stay open and are handed out as they are: getting one costs no statement.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        // On a full disk SQLite ends a transaction by itself, and the rollback after it fails: such a
        // connection would begin no other one, ever.
        .after_release(|conn, _| {
            Box::pin(async move {
                if conn.is_in_transaction() {
                    // A rollback may be on its way.
                    conn.ping().await?;
                }
                Ok(!conn.is_in_transaction())
            })
        })
        .min_connections(connections)
        .max_connections(connections)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Nobody but the hub reads the file; SQLite gives the log beside it the same mode.
fn keep_private(path: &Path) -> std::io::Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(PRIVATE))
}

/// Takes the write lock at once, so that no transaction fails halfway for want of it.
const BEGIN: &str = "BEGIN IMMEDIATE";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
const PRIVATE: u32 = 0o600;

#[cfg(test)]
mod tests;
