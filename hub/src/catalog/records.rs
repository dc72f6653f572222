//! What the catalog takes and gives.

mod lag;
mod managed;

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::{BoundSecret, Consumer, SecretState};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{
    DeploymentId, Generation, NodeId, OrgId, PatternId, PatternName, PolicyName, PublicKey,
    SecretName, SecretVersion, ServiceId, ServiceUrl, Source, UserId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::generator::Generator;
use crate::managers::{Effect, ManagerName};
use crate::metadata::{MetaChange, SecretMeta};
use crate::reference::SecretRef;
pub use lag::{Lag, Unsettled};
pub use managed::{
    LeaseChange, LeaseId, LeasePlace, LeaseQuery, LeaseRecord, LeaseState, Observation, Observed,
    Trouble, Wish,
};

/// Counts the changes of an organisation's definitions and nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// What a user may do, see [`crate::rights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Administers the organisation.
    Admin,
    /// Works in it.
    User,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The organisation.
    pub org: OrgId,
    /// The name.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// Its end.
    pub not_after: Timestamp,
}

/// Who a user certificate belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// The organisation.
    pub org: OrgId,
    /// The user.
    pub user: UserId,
    /// What they may do now.
    pub role: Role,
}

/// Which node a certificate belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// An enrolment token as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The organisation.
    pub org: OrgId,
    /// The node that may enrol.
    pub node: NodeId,
    /// What the node will be.
    pub belongs: Belonging,
    /// SHA-256 of the token's secret half.
    pub hash: [u8; 32],
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Whose a node is, and what decides what it gets: the operator's to say, not the node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// Whose it is; the organisation's when absent.
    pub owner: Option<UserId>,
    /// The pattern that it is on; when absent it is on policies.
    pub pattern: Option<PatternId>,
}

/// A service definition as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The url.
    pub url: ServiceUrl,
    /// The version, as written.
    pub version: String,
    /// The architecture, as written; `*` or empty for any.
    pub arch: String,
    /// Who published it.
    pub owner: UserId,
    /// Whether other organisations may deploy it, as the document says.
    pub public: bool,
    /// The definition, as JSON.
    pub document: String,
    /// When.
    pub updated_at: Timestamp,
}

/// A deployment policy as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// The name.
    pub name: PolicyName,
    /// Who published it.
    pub owner: UserId,
    /// The policy, as JSON.
    pub document: String,
    /// When.
    pub updated_at: Timestamp,
}

/// A pattern as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternRecord {
    /// The name.
    pub name: PatternName,
    /// Who published it.
    pub owner: UserId,
    /// Whether nodes of other organisations may use it, as the document says.
    pub public: bool,
    /// The pattern, as JSON.
    pub document: String,
    /// When.
    pub updated_at: Timestamp,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// The name.
    pub node: NodeId,
    /// Whose it is, and what it is on.
    pub belongs: Belonging,
    /// Whether it was revoked.
    pub revoked: bool,
    /// What it last said of itself.
    pub facts: NodeFacts,
    /// What it should have, counted.
    pub generation: Generation,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When it last reported.
    pub seen_at: Option<Timestamp>,
    /// Since when it should have what it has not reported to have worked through.
    pub behind_since: Option<Timestamp>,
}

/// All that placement needs of an organisation.
#[derive(Debug, Clone, Default)]
pub struct OrgSnapshot {
    /// What it is a snapshot of.
    pub revision: Revision,
    /// The manager that references without one mean; the hub's own when absent.
    pub default_manager: Option<ManagerName>,
    /// Every service definition.
    pub services: Vec<ServiceRecord>,
    /// Every deployment policy.
    pub policies: Vec<PolicyRecord>,
    /// Every pattern.
    pub patterns: Vec<PatternRecord>,
    /// Every node, the revoked ones too.
    pub nodes: Vec<NodeRecord>,
}

/// What an organisation publishes for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicSnapshot {
    /// How often that has changed.
    pub published: Revision,
    /// Every public service definition.
    pub services: Vec<ServiceRecord>,
    /// Every public pattern.
    pub patterns: Vec<PatternRecord>,
}

/// What placements were computed from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// The organisation's own revision.
    pub revision: Revision,
    /// Of every other organisation whose public documents were looked at, how often these had changed.
    pub published: BTreeMap<OrgId, Revision>,
}

impl From<Revision> for Basis {
    /// Nothing of another organisation was looked at.
    fn from(revision: Revision) -> Self {
        Self {
            revision,
            published: BTreeMap::new(),
        }
    }
}

/// Nodes of an organisation that are on patterns of another and were not placed since that changed what
/// it publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Whose nodes.
    pub org: OrgId,
    /// Whose patterns.
    pub publisher: OrgId,
    /// Which change they must be placed after.
    pub published: Revision,
    /// Since when they are behind.
    pub since: Timestamp,
}

/// Who uses patterns of an organisation beside its own nodes: how many, and not who.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followers {
    /// How many other organisations.
    pub orgs: usize,
    /// How many nodes of theirs.
    pub nodes: usize,
}

/// A change of definitions or nodes.
#[derive(Debug, Clone)]
pub enum Change {
    /// Publish or replace a service definition.
    PutService(ServiceRecord),
    /// Remove one.
    RemoveService {
        /// The url.
        url: ServiceUrl,
        /// The version, as written.
        version: String,
        /// The architecture, as written.
        arch: String,
    },
    /// Publish or replace a deployment policy.
    PutPolicy(PolicyRecord),
    /// Remove one.
    RemovePolicy(PolicyName),
    /// Publish or replace a pattern.
    PutPattern(PatternRecord),
    /// Remove one.
    RemovePattern(PatternName),
    /// Make this the manager that references without one mean; the hub's own when absent.
    SetDefaultManager(Option<ManagerName>),
    /// Use a token up and make or replace the node's identity: every earlier certificate of the
    /// node stops working, and a revoked node is a node again.
    Enrol(Box<Enrolment>),
    /// What a node says of itself.
    PutFacts {
        /// The node.
        node: NodeId,
        /// All of it.
        facts: Box<NodeFacts>,
    },
    /// Put a node on a pattern, or on policies.
    SetPattern {
        /// The node.
        node: NodeId,
        /// The pattern.
        pattern: Option<PatternId>,
    },
    /// Place the nodes that are on patterns of this other organisation after what it publishes now.
    Follow(OrgId),
    /// Revoke a node: it keeps its certificates so that it can be told.
    RevokeNode(NodeId),
    /// Forget a node, its certificates, its report and its tokens.
    RemoveNode(NodeId),
}

/// A node enrolling.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The node.
    pub node: NodeId,
    /// SHA-256 of the token's secret half.
    pub token_hash: [u8; 32],
    /// What the token says that the node will be, see [`Catalog::promised`](super::Catalog::promised).
    pub belongs: Belonging,
    /// The certificate that it will get.
    pub certificate: NewCertificate,
    /// Where values are sealed to.
    pub sealing_key: PublicKey,
    /// What it says of itself.
    pub facts: NodeFacts,
    /// Now.
    pub at: Timestamp,
}

/// All deployments of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlacement {
    /// The node.
    pub node: NodeId,
    /// Its deployments, by id.
    pub deployments: Vec<Placed>,
}

/// One service placed on one node by one policy or pattern, as the pure core decides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The deployment.
    pub id: DeploymentId,
    /// The policy or pattern.
    pub policy: Source,
    /// The service.
    pub service: ServiceId,
    /// The service's version.
    pub service_version: String,
    /// Who reads what.
    pub consumers: Vec<Consumer>,
    /// Every declared secret's binding, by name.
    pub bindings: BTreeMap<SecretName, PlacedBinding>,
    /// Every policy or pattern that has it; empty where it is its own service and no other's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_by: Vec<Requirer>,
}

impl Placed {
    /// Every policy or pattern that has it.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let own = self.required_by.is_empty().then_some(&self.policy);
        let others = self.required_by.iter().map(|requirer| &requirer.policy);
        own.into_iter().chain(others)
    }
}

/// A policy or pattern that has a service which runs once for all who need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirer {
    /// The policy or pattern.
    pub policy: Source,
    /// From its own service to it, without itself; empty for its own.
    pub path: Vec<ServiceId>,
}

/// What one declared secret is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedBinding {
    /// The references to try, the most specific first (the node-level one where enabled).
    pub candidates: Vec<SecretRef>,
    /// The node may not have it: it is another user's.
    pub denied: bool,
    /// The service runs without it where it is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The organisation's revision after it.
    pub revision: Revision,
    /// The nodes whose generation was raised, with the new one.
    pub touched: Vec<(NodeId, Generation)>,
    /// When it became durable.
    pub at: Timestamp,
}

/// What a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBindings {
    /// The node's generation.
    pub generation: Generation,
    /// Deployments, by id; with `since`, only those that changed after it.
    pub deployments: Vec<BoundDeployment>,
    /// The other deployments.
    pub unchanged: Vec<DeploymentId>,
}

/// One deployment with where each of its secrets stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundDeployment {
    /// As it was placed.
    pub placed: Placed,
    /// Every declared secret, by name.
    pub secrets: Vec<BoundSecret>,
    /// The reference that decided where each name stands, where one exists.
    pub resolved: BTreeMap<SecretName, SecretRef>,
    /// What operators should know of a name, where there is anything.
    pub details: BTreeMap<SecretName, BindingDetail>,
}

impl BoundDeployment {
    /// The optional secrets that are not there: the service runs without them.
    #[must_use]
    pub fn absent_optional(&self) -> BTreeSet<SecretName> {
        let optional = |name: &SecretName| {
            let binding = self.placed.bindings.get(name);
            binding.is_some_and(|binding| binding.optional)
        };
        let absent = self.secrets.iter().filter(|secret| {
            matches!(secret.state, SecretState::Missing) && optional(&secret.name)
        });
        absent.map(|secret| secret.name.clone()).collect()
    }
}

/// What operators should know of a bound name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindingDetail {
    /// What reading it does, where a manager said so.
    pub effect: Option<Effect>,
    /// The manager's own name of it, see [`crate::managers::Description::identity`].
    pub identity: Option<String>,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
}

/// What one fetched item is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The deployment that binds it.
    pub deployment: DeploymentId,
    /// The reference and its version; `None` when there is no version to be had now.
    pub resolved: Option<(SecretRef, SecretVersion)>,
    /// The node may not have it.
    pub denied: bool,
    /// When the value ends.
    pub expires_at: Option<Timestamp>,
    /// Why there is no version to be had.
    pub trouble: Option<Trouble>,
    /// Nobody knows yet.
    pub pending: bool,
    /// The lease whose credential it is. From its own row: a manager's version may look like one.
    pub lease: Option<LeaseId>,
}

/// A node's last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// What it said.
    pub status: StatusReport,
    /// When.
    pub at: Timestamp,
}

/// One version of an embedded secret as it is kept: ciphertext under a key of its own, which is
/// wrapped by the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedVersion {
    /// Counts up within the secret.
    pub version: SecretVersion,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// The encrypted payload.
    pub ciphertext: Vec<u8>,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// Who set it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// The version it was restored from.
    pub restored_from: Option<SecretVersion>,
}

/// A secret's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// What the manager calls it.
    pub reference: SecretRef,
    /// The version that is delivered.
    pub current: SecretVersion,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
    /// Who last set it.
    pub updated_by: UserId,
    /// What people say of it.
    pub meta: SecretMeta,
    /// How its values are made, where they are.
    pub generator: Option<Generator>,
}

/// What a new version changes beside the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMeta {
    /// The metadata.
    pub change: MetaChange,
    /// How values are made from now on; `None` leaves it as it is.
    pub generator: Option<Option<Generator>>,
}

/// What adding a version did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPut {
    /// As every write.
    pub committed: Committed,
    /// The secret's end, if it had come and no other was given: then the secret has none any more.
    pub lifted_end: Option<Timestamp>,
}

/// What a look for secrets whose end has come found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Those that ended and were not announced before, by their end.
    pub ended: Vec<EndedSecret>,
    /// When to look again. It may have come already: one look announces a bounded number.
    pub next: Option<Timestamp>,
}

/// Most ends that one look announces.
pub const MAX_EXPIRING: usize = 256;

/// A secret whose end has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSecret {
    /// The organisation.
    pub org: OrgId,
    /// What the manager calls it.
    pub reference: SecretRef,
    /// Its end.
    pub expires_at: Timestamp,
    /// The nodes whose generation was raised, with the new one.
    pub touched: Vec<(NodeId, Generation)>,
}

/// A version's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The version.
    pub version: SecretVersion,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// Who set it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// The version it was restored from.
    pub restored_from: Option<SecretVersion>,
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// Grows.
    pub seq: u64,
    /// The organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// What happened to it.
    pub event: FeedEvent,
}

/// What happened to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedEvent {
    /// It should have something else now.
    Bindings(Generation),
    /// It was revoked or forgotten.
    Revoked,
    /// It reported.
    Status,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The hub itself.
    Hub,
    /// A person or program.
    User(UserId),
    /// A node.
    Node(NodeId),
    /// Someone without an identity: an enrolment.
    Nobody,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub => f.pad("hub"),
            Self::User(user) => f.pad(&format!("user/{user}")),
            Self::Node(node) => f.pad(&format!("node/{node}")),
            Self::Nobody => f.pad("-"),
        }
    }
}

/// What is written to the audit trail: who, what, on what, with which result. Never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// The organisation it belongs to.
    pub org: OrgId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What: `secret.set`, `secret.fetch`, `policy.publish`, …
    pub action: String,
    /// On what.
    pub object: String,
    /// `ok`, or the code of the refusal.
    pub result: String,
    /// More for people; a version, a reason.
    pub detail: String,
    /// The peer's address.
    pub peer: String,
}

impl NewAudit {
    /// Adds something for people.
    pub fn add_detail(&mut self, text: &str) {
        if !self.detail.is_empty() {
            self.detail.push_str(", ");
        }
        self.detail.push_str(text);
    }
}

/// A record of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Grows; without gaps that mean anything.
    pub seq: u64,
    /// What was written.
    pub entry: NewAudit,
}

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// After this record.
    pub after: u64,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}
