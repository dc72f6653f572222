//! What the hub knows, behind one trait: definitions, nodes, who should have what, versions,
//! reports, the change feed and the audit trail.
//!
//! Every write is one durable transaction that carries its audit records, the generations it raises
//! and the feed entries that announce them, so that a crash leaves all of it or nothing. A change of
//! definitions is computed outside, from a snapshot, and committed only if the organisation's
//! revision is still the snapshot's: several hubs over one catalog stay correct without a lock.

#[cfg(test)]
pub mod conformance;
pub mod records;
pub mod resolve;
pub mod sqlite;

use std::collections::BTreeMap;
use std::io;

use async_trait::async_trait;
use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{
    Generation, NodeId, OrgId, PatternName, PublicKey, SecretVersion, UserId,
};
use jiff::Timestamp;
use sqlx::migrate::MigrateError;
use tokio::sync::watch;

use crate::disk;
use crate::managers::ManagerName;
use crate::metadata::MetaChange;
use crate::reference::SecretRef;
use records::{
    AuditQuery, AuditRecord, Basis, Behind, Belonging, Bound, Change, Committed, EncryptedVersion,
    Expiry, FeedEntry, Followers, Lag, LeaseChange, LeaseQuery, LeaseRecord, LeaseState, NewAudit,
    NewCertificate, NewMeta, NewToken, NodeBindings, NodeIdentity, NodePlacement, NodeRecord,
    Observation, Observed, OrgSnapshot, PublicSnapshot, Report, Revision, SecretPut, SecretRecord,
    UserIdentity, UserRecord, VersionRecord,
};

/// Why the catalog did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// The organisation moved on since the snapshot: take a new one and compute again.
    #[error("the organisation changed meanwhile")]
    Conflict,
    /// There is something of that name already.
    #[error("{0} exists already")]
    Exists(String),
    /// There is nothing of that name.
    #[error("{0} is not there")]
    NotFound(String),
    /// The enrolment token is unknown, used, expired or for another node.
    #[error("the enrolment token is refused: {0}")]
    Token(&'static str),
    /// There is no room for it. Once there is, it goes on by itself.
    #[error("the hub's disk is full")]
    Full,
    /// The disk cannot be written for another reason, or failed on the way.
    #[error("the hub's disk fails: {0}")]
    Disk(String),
    /// The database failed.
    #[error("the catalog failed: {0}")]
    Storage(String),
}

impl CatalogError {
    /// Why a file of the catalog cannot be used: for the disk's sake, which may pass, or for its own.
    pub(crate) fn of_file(error: &io::Error, reason: String) -> Self {
        match disk::may_pass(error) {
            true => Self::Disk(reason),
            false => Self::Storage(reason),
        }
    }
}

impl From<MigrateError> for CatalogError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        let code = code.and_then(|code| code.parse::<u32>().ok());
        // The lowest byte is the result, the others are its details.
        match code.map(|code| code & 0xff) {
            Some(SQLITE_FULL) => Self::Full,
            Some(SQLITE_IOERR | SQLITE_READONLY | SQLITE_CANTOPEN) => Self::Disk(error.to_string()),
            _ => Self::Storage(error.to_string()),
        }
    }
}

const SQLITE_READONLY: u32 = 8;
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;

/// The hub's memory. Every method is safe to cancel: it happened whole or not at all.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    // --- organisations, people, identities ---

    /// Creates an organisation.
    async fn create_org(&self, org: &OrgId, audit: NewAudit) -> Result<(), CatalogError>;

    /// Adds a user.
    async fn add_user(&self, user: &UserRecord, audit: NewAudit) -> Result<(), CatalogError>;

    /// Removes a user and every certificate of theirs.
    async fn remove_user(
        &self,
        org: &OrgId,
        user: &UserId,
        audit: NewAudit,
    ) -> Result<(), CatalogError>;

    /// The users of an organisation, by name.
    async fn users(&self, org: &OrgId) -> Result<Vec<UserRecord>, CatalogError>;

    /// Records a certificate that was issued to a user.
    async fn add_user_certificate(
        &self,
        org: &OrgId,
        user: &UserId,
        certificate: &NewCertificate,
    ) -> Result<(), CatalogError>;

    /// Who a user certificate belongs to, while the user exists.
    async fn user_identity(&self, serial: &str) -> Result<Option<UserIdentity>, CatalogError>;

    /// Which node a certificate belongs to, revoked or not.
    async fn node_identity(&self, serial: &str) -> Result<Option<NodeIdentity>, CatalogError>;

    /// Whether a node of this name was removed, and none was enrolled since. Never after a restore, until
    /// it is removed again: who knows whether one was enrolled since the backup.
    async fn was_removed(&self, org: &OrgId, node: &NodeId) -> Result<bool, CatalogError>;

    /// Records a certificate that was renewed over the one of this `serial`, and the new sealing key
    /// where there is one. The old one stays good until the new one renews, for the node may not have
    /// kept the new one; all others stop working. Refused with `NotFound` when the node is revoked or
    /// gone, with `Conflict` when the old certificate is no longer the node's.
    async fn renew_node(
        &self,
        org: &OrgId,
        node: &NodeId,
        serial: &str,
        certificate: &NewCertificate,
        sealing_key: Option<&PublicKey>,
        audit: NewAudit,
    ) -> Result<(), CatalogError>;

    /// Keeps the hash of a new enrolment token; earlier unused tokens of the node stop working.
    async fn add_token(&self, token: &NewToken, audit: NewAudit) -> Result<(), CatalogError>;

    /// What a node will be that enrols with the token of this hash; `None` when there is no such token.
    /// Whether the token still works, the enrolment finds out.
    async fn promised(&self, hash: &[u8; 32]) -> Result<Option<Belonging>, CatalogError>;

    // --- definitions and placement ---

    /// All that placement needs of an organisation, with the revision it is of.
    async fn snapshot(&self, org: &OrgId) -> Result<OrgSnapshot, CatalogError>;

    /// The organisation's revision now.
    async fn revision(&self, org: &OrgId) -> Result<Revision, CatalogError>;

    /// What an organisation publishes for others; nothing for one that is not there.
    async fn public(&self, publisher: &OrgId) -> Result<PublicSnapshot, CatalogError>;

    /// How often what an organisation publishes for others has changed: a pattern or service definition
    /// that was public before or is afterwards. 0 for one that is not there.
    async fn published(&self, publisher: &OrgId) -> Result<Revision, CatalogError>;

    /// How many nodes of other organisations are on these patterns of this one.
    async fn followers(
        &self,
        publisher: &OrgId,
        patterns: &[PatternName],
    ) -> Result<Followers, CatalogError>;

    /// Every organisation with nodes that are behind what another publishes, the longest first.
    async fn behind(&self) -> Result<Vec<Behind>, CatalogError>;

    /// Rings whenever there may be more that is [`behind`](Self::behind). A hint, as
    /// [`bell`](Self::bell) is: look at times without it too.
    fn behind_bell(&self) -> watch::Receiver<u64>;

    /// Applies a change and the placements that follow from it, if all that these were computed from
    /// is still as `basis` says. `placements` names every node whose deployments may differ, with all
    /// of its deployments; the catalog compares, and raises the generation of the nodes that really
    /// differ.
    ///
    /// A change of what the organisation publishes for others makes those [`behind`](Self::behind) who
    /// have nodes that it may concern, in the same transaction. [`Change::Follow`] ends that, and only
    /// by placements of the publisher's documents as they are when it is committed; where nothing is
    /// behind (another hub was quicker) it does nothing at all.
    async fn commit(
        &self,
        org: &OrgId,
        basis: Basis,
        change: Change,
        placements: Vec<NodePlacement>,
        audit: NewAudit,
    ) -> Result<Committed, CatalogError>;

    // --- what nodes have and should have ---

    /// The nodes of an organisation, by name.
    async fn nodes(&self, org: &OrgId) -> Result<Vec<NodeRecord>, CatalogError>;

    /// One node.
    async fn node(&self, org: &OrgId, node: &NodeId) -> Result<Option<NodeRecord>, CatalogError>;

    /// A node's deployments with the present version of every binding. With `since`, deployments
    /// that have not changed after that generation come as ids only.
    async fn bindings(
        &self,
        org: &OrgId,
        node: &NodeId,
        since: Option<Generation>,
    ) -> Result<NodeBindings, CatalogError>;

    /// For each item what it is bound to on this node now, `None` where nothing binds it; the
    /// node's sealing key comes along. `Ok(None)` when the node is revoked or gone.
    async fn bound(
        &self,
        org: &OrgId,
        node: &NodeId,
        items: &[FetchItem],
    ) -> Result<Option<(PublicKey, Vec<Option<Bound>>)>, CatalogError>;

    /// Replaces the node's report and notes that it was seen.
    async fn put_report(
        &self,
        org: &OrgId,
        node: &NodeId,
        report: &StatusReport,
        at: Timestamp,
    ) -> Result<(), CatalogError>;

    /// The last reports of an organisation's nodes, by node; of one node where it is named.
    async fn reports(
        &self,
        org: &OrgId,
        node: Option<&NodeId>,
    ) -> Result<Vec<Report>, CatalogError>;

    /// The nodes of an organisation that do not have all that they should, by their own reports: those
    /// that are behind, the longest first, and then those that have worked through everything and could
    /// not do it all. Revoked ones are not among them. Costs what it gives, however many other nodes
    /// there are.
    async fn lagging(&self, org: &OrgId) -> Result<Vec<Lag>, CatalogError>;

    // --- the embedded manager's secrets, always encrypted ---

    /// Adds a version, makes it the current one, and raises the generation of every node with a
    /// binding that now resolves differently. With `expected` it does so only when the current
    /// version is that one (`Conflict` otherwise). The version is a decimal number above
    /// [`last_version`](Self::last_version); one that is not above it is a `Conflict` too.
    ///
    /// `meta` is applied first. Versions beyond the number to keep are gone with it, the oldest
    /// first. An end that has come by the version's time, and that `meta` does not replace, is
    /// lifted: a value that nobody gets would be of no use.
    async fn put_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &EncryptedVersion,
        meta: &NewMeta,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<SecretPut, CatalogError>;

    /// Changes a secret's metadata, and nothing of its versions: fewer versions are kept from the
    /// next one on. Another end raises the generation of every node with a binding that resolves to
    /// the secret. With `expected` it does so only when the current version is that one.
    async fn edit_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        change: &MetaChange,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<(SecretRecord, Committed), CatalogError>;

    /// Announces the ends that have come: every secret of every organisation whose end is not after
    /// `now`, once for each end it is given, at most [`MAX_EXPIRING`](records::MAX_EXPIRING) by one
    /// call. In one transaction it raises the generation of every node with a binding that resolves
    /// to such a secret and writes an audit record `secret.expire` of the hub's. Where nothing has
    /// ended it only reads.
    ///
    /// Delivery does not hang on it: whoever resolves compares the end with the time.
    async fn expire_secrets(&self, now: Timestamp) -> Result<Expiry, CatalogError>;

    /// Takes announcements back that a wrong clock made: of every secret whose announced end is after
    /// `now`, at most [`MAX_EXPIRING`](records::MAX_EXPIRING) by one call. In one transaction it raises the
    /// generation of every node with a binding that resolves to such a secret and writes an audit record
    /// `secret.revive` of the hub's. May look at all secrets.
    async fn revive_secrets(
        &self,
        now: Timestamp,
    ) -> Result<Vec<records::EndedSecret>, CatalogError>;

    /// Removes a secret with its metadata and every version of it.
    async fn remove_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        audit: NewAudit,
    ) -> Result<Committed, CatalogError>;

    /// The secrets whose reference starts with `prefix`, by reference. Metadata only.
    async fn secrets(&self, org: &OrgId, prefix: &str) -> Result<Vec<SecretRecord>, CatalogError>;

    /// One secret's metadata.
    async fn secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Option<SecretRecord>, CatalogError>;

    /// A secret's versions, newest first. Metadata only.
    async fn versions(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Vec<VersionRecord>, CatalogError>;

    /// The highest version number that the secret ever had, 0 for none. It outlives the secret, so
    /// that a version never comes back with another value.
    async fn last_version(&self, org: &OrgId, reference: &SecretRef) -> Result<u64, CatalogError>;

    /// One version as it is kept.
    async fn encrypted(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &SecretVersion,
    ) -> Result<Option<EncryptedVersion>, CatalogError>;

    // --- what managers outside keep ---

    /// The organisations.
    async fn orgs(&self) -> Result<Vec<OrgId>, CatalogError>;

    /// Every secret of a manager that bindings name, by organisation and reference; `unasked` those
    /// alone that nobody has asked about yet.
    async fn observed(&self, unasked: bool) -> Result<Vec<Observed>, CatalogError>;

    /// One of them.
    async fn observation(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> Result<Option<Observed>, CatalogError>;

    /// How many nodes have a binding that names the secret, whichever of its fields, and that they may
    /// have.
    async fn binding_nodes(&self, org: &OrgId, secret: &SecretRef) -> Result<usize, CatalogError>;

    /// Keeps what a manager said. Where nodes see a difference their generations are raised, and a
    /// record is audited. What nothing binds any more is forgotten: `None` then.
    async fn observe(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        said: &Observation,
        audit: NewAudit,
    ) -> Result<Option<Committed>, CatalogError>;

    /// Forgets secrets of managers that nothing binds any more, and says which.
    async fn forget_unbound(&self) -> Result<Vec<(OrgId, SecretRef)>, CatalogError>;

    /// Leases, by number.
    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<LeaseRecord>, CatalogError>;

    /// How many leases of an organisation there are in each state but `ended`; states of none are left
    /// out.
    async fn count_leases(&self, org: &OrgId) -> Result<BTreeMap<LeaseState, u64>, CatalogError>;

    /// Changes leases, raises the generations of the nodes whose bindings then stand otherwise, and
    /// gives the changed leases as they are now, in the changes' order.
    async fn change_leases(
        &self,
        changes: &[LeaseChange],
        audit: Vec<NewAudit>,
    ) -> Result<Vec<LeaseRecord>, CatalogError>;

    /// Whether the node binds a secret whose reads have a lease.
    async fn binds_leased(&self, org: &OrgId, node: &NodeId) -> Result<bool, CatalogError>;

    /// The nodes that bind a secret whose reads have a lease, or have an open lease.
    async fn leasing_nodes(&self) -> Result<Vec<(OrgId, NodeId)>, CatalogError>;

    /// Forgets leases that were found dead before this time, and says how many.
    async fn forget_ended_leases(&self, before: Timestamp) -> Result<u64, CatalogError>;

    /// What a manager's backend kept: wrapped key and ciphertext.
    async fn manager_session(
        &self,
        manager: &ManagerName,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, CatalogError>;

    /// Keeps this instead.
    async fn put_manager_session(
        &self,
        manager: &ManagerName,
        wrapped_key: &[u8],
        ciphertext: &[u8],
        at: Timestamp,
    ) -> Result<(), CatalogError>;

    // --- feed and audit ---

    /// Feed entries after `seq`, oldest first, at most `limit`.
    async fn feed(&self, seq: u64, limit: u32) -> Result<Vec<FeedEntry>, CatalogError>;

    /// Rings with the newest `seq` it knows whenever there may be new feed entries. A hint: it may
    /// ring late or once for many.
    fn bell(&self) -> watch::Receiver<u64>;

    /// Adds audit records that go with no other write. Durable when it returns.
    async fn append_audit(&self, records: Vec<NewAudit>) -> Result<(), CatalogError>;

    /// Audit records, oldest first.
    async fn audit(
        &self,
        org: &OrgId,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRecord>, CatalogError>;
}
