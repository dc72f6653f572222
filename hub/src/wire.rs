//! What operators and the hub say to each other: paths and bodies of the admin API. The operator's
//! command line is built on these types alone.
//!
//! Bodies are JSON, errors are [`Problem`](edge_secrets_protocol::Problem)s. Values travel sealed:
//! to the hub's key when set, to a key of the caller's when revealed.

mod managed;

use std::time::Duration;

use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{
    DeploymentId, Generation, NodeId, OrgId, PatternChoice, PatternId, PatternName, PolicyName,
    PublicKey, Sealed, SecretName, SecretVersion, ServiceId, ServiceUrl, Source, UserId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::records::{Requirer, Role, Trouble, Unsettled};
use crate::generator::Generator;
use crate::managers::{Effect, ManagerName};
use crate::metadata::{MetaChange, SecretMeta};
use crate::policy::Rule;
use crate::reference::SecretRef;
pub use managed::*;

/// Paths, as axum routes. `{*reference}` is a secret reference with its slashes.
pub mod paths {
    /// `GET` [`HubInfo`](super::HubInfo).
    pub const HUB: &str = "/v1/hub";
    /// `GET ?prefix=&labels=A,B&due=true` list of [`SecretInfo`](super::SecretInfo): those that have
    /// every label; with `due` only those whose rotation is due or whose end has come or comes
    /// within [`DUE_SOON`](super::DUE_SOON).
    pub const SECRETS: &str = "/v1/orgs/{org}/secrets";
    /// `GET` [`SecretInfo`](super::SecretInfo), `PUT` [`SetSecret`](super::SetSecret) →
    /// [`SecretSet`](super::SecretSet), `PATCH` [`MetaChange`](crate::metadata::MetaChange) →
    /// [`SecretEdited`](super::SecretEdited), `DELETE` → [`SecretRemoved`](super::SecretRemoved). A
    /// `PUT` or `PATCH` with `If-Match: "VERSION"` does it only while that is the version, a `PUT`
    /// with `If-None-Match: *` only when there is none; `conflict` otherwise (RFC 9110 §13.1).
    pub const SECRET: &str = "/v1/orgs/{org}/secrets/{*reference}";
    /// `GET` list of [`VersionInfo`](super::VersionInfo), newest first.
    pub const SECRET_VERSIONS: &str = "/v1/orgs/{org}/secret-versions/{*reference}";
    /// `POST` [`RestoreSecret`](super::RestoreSecret) → [`SecretSet`](super::SecretSet).
    pub const SECRET_RESTORE: &str = "/v1/orgs/{org}/secret-restore/{*reference}";
    /// `POST` [`RevealSecret`](super::RevealSecret) → [`SecretRevealed`](super::SecretRevealed).
    pub const SECRET_REVEAL: &str = "/v1/orgs/{org}/secret-reveal/{*reference}";
    /// `GET` list of [`ServiceInfo`](super::ServiceInfo); `POST ?dry_run=` a definition
    /// (`application/json`, `application/yaml` or `text/yaml`) → [`Published`](super::Published).
    pub const SERVICES: &str = "/v1/orgs/{org}/services";
    /// `GET`, `DELETE` `?url=&version=&arch=&dry_run=`: one definition's document / → `Published`.
    /// Without `version` or `arch` the one definition that fits is meant; `conflict` if several do.
    pub const SERVICE: &str = "/v1/orgs/{org}/service";
    /// `GET`, `PUT`, `DELETE` `?url=&version=&arch=&dry_run=`: the policy of a service's own, which its
    /// definition carries as `servicePolicy` / → `Published`.
    pub const SERVICE_POLICY: &str = "/v1/orgs/{org}/service-policy";
    /// `GET` list of [`PolicyInfo`](super::PolicyInfo).
    pub const POLICIES: &str = "/v1/orgs/{org}/policies";
    /// `GET` the document, `PUT ?dry_run=` a policy, `DELETE ?dry_run=`: →
    /// [`Published`](super::Published).
    pub const POLICY: &str = "/v1/orgs/{org}/policies/{policy}";
    /// `GET ?of=ORG` list of [`PatternInfo`](super::PatternInfo): the organisation's own patterns, or the
    /// public ones of another with `of`.
    pub const PATTERNS: &str = "/v1/orgs/{org}/patterns";
    /// `GET ?of=ORG` the document, of another organisation's public pattern with `of`;
    /// `PUT ?dry_run=&allow_missing=` a pattern, `DELETE ?dry_run=`: → [`Published`](super::Published).
    pub const PATTERN: &str = "/v1/orgs/{org}/patterns/{pattern}";
    /// `GET ?of=ORG&after=TAG&wait=SECONDS` [`Rollout`](super::Rollout) of a pattern, of another
    /// organisation's with `of`, on this organisation's nodes; otherwise as [`ROLLOUT`].
    pub const PATTERN_ROLLOUT: &str = "/v1/orgs/{org}/patterns/{pattern}/rollout";
    /// `GET ?after=TAG&wait=SECONDS` [`Rollout`](super::Rollout); with `after` the answer waits until
    /// the tag is another, at most `wait` seconds.
    pub const ROLLOUT: &str = "/v1/orgs/{org}/policies/{policy}/rollout";
    /// `GET ?behind=true` list of [`NodeInfo`](super::NodeInfo): by name; with `behind` only those that do
    /// not have all that they should, the longest behind first.
    pub const NODES: &str = "/v1/orgs/{org}/nodes";
    /// `GET` [`NodeDetail`](super::NodeDetail), `DELETE` → 204.
    pub const NODE: &str = "/v1/orgs/{org}/nodes/{node}";
    /// `PUT ?dry_run=` [`NodePattern`](super::NodePattern) → [`Published`](super::Published).
    pub const NODE_PATTERN: &str = "/v1/orgs/{org}/nodes/{node}/pattern";
    /// `POST` [`NewToken`](super::NewToken) → [`TokenIssued`](super::TokenIssued).
    pub const NODE_TOKEN: &str = "/v1/orgs/{org}/nodes/{node}/token";
    /// `POST`, no body → 204.
    pub const NODE_REVOKE: &str = "/v1/orgs/{org}/nodes/{node}/revoke";
    /// `GET ?service=` [`Explanation`](super::Explanation); `service` is a url or `ORG/URL`.
    pub const NODE_EXPLAIN: &str = "/v1/orgs/{org}/nodes/{node}/explain";
    /// `GET` list of [`UserInfo`](super::UserInfo), `POST` [`NewUser`](super::NewUser) →
    /// [`UserCertificate`](super::UserCertificate).
    pub const USERS: &str = "/v1/orgs/{org}/users";
    /// `DELETE` → 204.
    pub const USER: &str = "/v1/orgs/{org}/users/{user}";
    /// `GET ?after=SEQ&since=TIME&limit=N&wait=SECONDS` list of [`AuditInfo`](super::AuditInfo),
    /// oldest first; with `wait` an empty one only when so many seconds brought nothing.
    pub const AUDIT: &str = "/v1/orgs/{org}/audit";
    /// `GET` list of [`ManagerInfo`](super::ManagerInfo).
    pub const MANAGERS: &str = "/v1/orgs/{org}/managers";
    /// `POST`, no body → [`ManagerCheck`](super::ManagerCheck).
    pub const MANAGER_CHECK: &str = "/v1/orgs/{org}/managers/{manager}/check";
    /// `PUT` [`SetEngine`](super::SetEngine) → [`EngineSet`](super::EngineSet).
    pub const MANAGER_ENGINE: &str = "/v1/orgs/{org}/managers/{manager}/engine";
    /// `GET ?prefix=&labels=A,B&search=&page=` [`ManagedPage`](super::ManagedPage): those that have every
    /// label, or the text; `invalid` where the manager's listings tell no labels, or it cannot search.
    pub const MANAGED_LIST: &str = "/v1/orgs/{org}/managers/{manager}/secrets";
    /// `GET` [`ManagedInfo`](super::ManagedInfo); `POST`
    /// [`NewCredential`](crate::managers::NewCredential) → `ManagedInfo`.
    pub const MANAGED: &str = "/v1/orgs/{org}/managed/{*reference}";
    /// `GET` list of [`ManagedVersion`](super::ManagedVersion), newest first.
    pub const MANAGED_VERSIONS: &str = "/v1/orgs/{org}/managed-versions/{*reference}";
    /// `GET ?node=&ended=&before=LEASE&limit=N` [`LeasePage`](super::LeasePage): the newest, 1,000 at most.
    pub const LEASES: &str = "/v1/orgs/{org}/leases";
    /// `POST`, no body → 204.
    pub const LEASE_REVOKE: &str = "/v1/orgs/{org}/leases/{lease}/revoke";
    /// `POST` [`Hooked`](super::Hooked) or anything → 202; with the manager's webhook token, and
    /// without a client certificate.
    pub const HOOK: &str = "/v1/hooks/{manager}";
    /// `GET`: Prometheus' text format.
    pub const METRICS: &str = "/v1/metrics";
}

/// What a client needs to know of the hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HubInfo {
    /// The hub's version.
    pub version: String,
    /// Where values are sealed to on their way in.
    pub sealing_key: PublicKey,
    /// Who the caller is.
    pub org: OrgId,
    /// Who the caller is.
    pub user: UserId,
    /// What the caller may do.
    pub role: Role,
    /// The secrets manager that references without one mean; the hub's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_manager: Option<ManagerName>,
}

/// A secret's metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretInfo {
    /// What the manager calls it.
    pub reference: SecretRef,
    /// The version that is delivered.
    pub version: SecretVersion,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
    /// Who last set it.
    pub updated_by: UserId,
    /// What people say of it.
    #[serde(flatten)]
    pub meta: SecretMeta,
    /// Its end has come: no node gets it.
    #[serde(default)]
    pub expired: bool,
    /// When its value should be replaced, where that was asked for. It may be past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_due_at: Option<Timestamp>,
    /// The names of the delivered version's fields; left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// How its values are made, where they are; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Generator>,
}

/// How far ahead a list of what is due looks for ends.
pub const DUE_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Sets a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetSecret {
    /// The payload ([`edge_secrets_protocol::Fields`]), sealed to the hub for
    /// [`Place::Set`](edge_secrets_protocol::sealed::Place::Set).
    pub sealed: Sealed,
    /// What changes with it; all else stays.
    #[serde(flatten)]
    pub meta: MetaChange,
    /// How the value was made, to make the next one alike; forgotten when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Generator>,
}

/// What changing its metadata did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretEdited {
    /// As it is now.
    #[serde(flatten)]
    pub info: SecretInfo,
    /// How many nodes hear of it.
    pub nodes: usize,
}

/// What setting it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretSet {
    /// The version that is delivered from now on.
    pub version: SecretVersion,
    /// How many nodes get it; of a manager's, how many bind it.
    pub nodes: usize,
    /// Another manager keeps it: nodes hear of it once the hub has looked there, which it does at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_next_look: bool,
    /// When it became durable.
    pub at: Timestamp,
    /// What is odd, but done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What removing it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretRemoved {
    /// How many nodes have a binding to it that is now blocked; what they have stays.
    pub nodes: usize,
}

/// A version's metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The version.
    pub version: SecretVersion,
    /// Whether it is the one delivered.
    pub current: bool,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// When it was set.
    pub created_at: Timestamp,
    /// Who set it.
    pub created_by: UserId,
    /// The version it was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<SecretVersion>,
}

/// Makes an old version's value the newest version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreSecret {
    /// The version whose value comes back, under a new number.
    pub version: SecretVersion,
}

/// Asks for a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevealSecret {
    /// A key of the caller's, made for this call.
    pub seal_to: PublicKey,
    /// Which version; the delivered one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SecretVersion>,
}

/// A value on its way to an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretRevealed {
    /// Its version.
    pub version: SecretVersion,
    /// The payload, sealed for [`Place::Reveal`](edge_secrets_protocol::sealed::Place::Reveal).
    pub sealed: Sealed,
}

/// A service definition in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// The url.
    pub url: ServiceUrl,
    /// The version.
    pub version: String,
    /// The architecture.
    pub arch: String,
    /// The secrets it declares.
    pub secrets: Vec<SecretName>,
    /// Who published it.
    pub owner: UserId,
    /// When.
    pub updated_at: Timestamp,
}

/// A deployment policy in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// The name.
    pub name: PolicyName,
    /// The service it deploys.
    pub service: ServiceId,
    /// On how many nodes it does.
    pub nodes: usize,
    /// Who published it.
    pub owner: UserId,
    /// When.
    pub updated_at: Timestamp,
}

/// A pattern in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PatternInfo {
    /// The name.
    pub name: PatternName,
    /// The services it deploys, in its order.
    pub services: Vec<ServiceId>,
    /// Whether nodes of other organisations may use it.
    pub public: bool,
    /// On how many nodes of this organisation it deploys.
    pub nodes: usize,
    /// Who published it; absent for another organisation's, whose people are its own business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// When.
    pub updated_at: Timestamp,
}

/// What a change of definitions does, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// Nothing was changed: it was only asked.
    pub dry_run: bool,
    /// Every deployment that comes, goes or changes, by node; the first [`MAX_CHANGES`] of them.
    pub changes: Vec<DeploymentChange>,
    /// How many more there are.
    #[serde(default)]
    pub more_changes: usize,
    /// How many nodes it leaves as they are.
    pub untouched_nodes: usize,
    /// What is odd, but allowed.
    pub warnings: Vec<String>,
    /// Who else follows it: nodes of other organisations, which are not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
    /// When it became durable; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Nodes of other organisations that are on the public patterns which a change concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// How many other organisations.
    pub orgs: usize,
    /// How many nodes of theirs: what these have may change, or stay as it is.
    pub nodes: usize,
}

/// Most changes that one answer lists.
pub const MAX_CHANGES: usize = 5_000;

/// One deployment that comes, goes or changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeploymentChange {
    /// The node.
    pub node: NodeId,
    /// The service.
    pub service: ServiceId,
    /// The service's version; the old one for a deployment that goes.
    pub service_version: String,
    /// The version before, where it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_version: Option<String>,
    /// The policy or pattern.
    pub policy: Source,
    /// What happens.
    pub change: ChangeKind,
    /// Which secret name gets which reference, the most specific first.
    pub secrets: Vec<BoundName>,
}

/// What happens to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It comes.
    Deploy,
    /// It changes.
    Update,
    /// It goes, and its files are wiped.
    Undeploy,
}

/// A secret name and what it is bound to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoundName {
    /// What the service calls it.
    pub name: SecretName,
    /// What it is bound to; empty where the service has it no more.
    pub references: Vec<SecretRef>,
    /// What it was bound to, where that changes; empty where the service did not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Vec<SecretRef>>,
}

/// Where a policy or pattern stands on every node that it touches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rollout {
    /// The policy or pattern.
    pub policy: Source,
    /// Another whenever something below is another; opaque.
    pub tag: String,
    /// How many of the rows have applied all they should.
    pub applied: usize,
    /// How many rows there are.
    pub total: usize,
    /// After how many seconds its `nodeHealth` wants to know of a node that is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<u64>,
    /// Each node that it touches, by name; of a pattern one row for each service of each node.
    pub nodes: Vec<RolloutNode>,
}

/// Where a policy, or one service of a pattern, stands on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutNode {
    /// The node.
    pub node: NodeId,
    /// Which service of the pattern; absent for a policy, which has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// `applied` only if every version the node should have is applied, also of what is required.
    pub state: DeploymentState,
    /// Each secret of the service itself.
    pub secrets: Vec<SecretStanding>,
    /// What the service requires that has secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<NodeDeployment>,
    /// Why it is not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
    /// When the node last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Timestamp>,
    /// Since when the node is away, where that is longer than the policy's `heartbeat`. It keeps what it
    /// has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<Timestamp>,
}

/// Where one secret of a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStanding {
    /// What the service calls it.
    pub name: SecretName,
    /// What it resolves to; absent when no candidate exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<SecretRef>,
    /// Where it stands at the hub, with the version wanted.
    #[serde(flatten)]
    pub state: SecretState,
    /// The service runs without it while it is missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The version that the node reported as applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<SecretVersion>,
    /// When the value ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What reading it does at its manager, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What its manager has to say against it. What is delivered stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// A node in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The name.
    pub node: NodeId,
    /// Whose it is; the organisation's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The pattern that it is on; on policies when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<PatternId>,
    /// `active` or `revoked`.
    pub state: NodeState,
    /// Whether it watches this hub now.
    pub connected: bool,
    /// What it should have.
    pub generation: Generation,
    /// What it has worked through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Generation>,
    /// When it last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// Since when it should have what it has not reported to have worked through. Not of revoked ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
    /// The worst that it reported of a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
}

/// Whether a node may have anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It may.
    Active,
    /// It was revoked.
    Revoked,
}

/// Everything about a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeDetail {
    /// As in lists.
    #[serde(flatten)]
    pub info: NodeInfo,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// What it said of itself.
    pub facts: NodeFacts,
    /// Its deployments.
    pub deployments: Vec<NodeDeployment>,
    /// What it should not have any more and has not wiped yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Leaving>,
}

/// A deployment that a node should not have any more and has not reported as wiped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The deployment.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceId,
    /// The secrets that the service could still read when the node last reported.
    pub secrets: Vec<SecretName>,
    /// Why it is not wiped, where the node says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
}

/// A deployment of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDeployment {
    /// The deployment.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceId,
    /// The service's version.
    pub service_version: String,
    /// The policy or pattern whose bindings are in force.
    pub policy: Source,
    /// Every policy or pattern that has it; empty where it is its own service and no other's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_by: Vec<Requirer>,
    /// As in a rollout.
    pub state: DeploymentState,
    /// Each secret.
    pub secrets: Vec<SecretStanding>,
    /// Why it is not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
}

impl NodeDeployment {
    /// Whether it is of a service of this policy's or pattern's own.
    #[must_use]
    pub fn is_own_of(&self, policy: &Source) -> bool {
        let mut users = self.required_by.iter();
        match self.required_by.is_empty() {
            true => self.policy == *policy,
            false => users.any(|user| user.policy == *policy && user.path.is_empty()),
        }
    }

    /// Whether it is on the way from this service, which requires it.
    #[must_use]
    pub fn is_required_through(&self, service: &ServiceId) -> bool {
        let mut users = self.required_by.iter();
        users.any(|user| user.path.first() == Some(service))
    }

    /// Whether a service of this policy's or pattern's own requires it.
    #[must_use]
    pub fn is_required_by(&self, policy: &Source) -> bool {
        let mut users = self.required_by.iter();
        users.any(|user| user.policy == *policy && !user.path.is_empty())
    }
}

/// Asks for an enrolment token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// For how long it works, in seconds: at least one minute, at most 30 days.
    pub ttl_seconds: u64,
    /// The user who will own the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The pattern that the node will be on; on policies when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<PatternChoice>,
}

/// Puts a node on a pattern, or on policies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodePattern {
    /// The pattern; on policies when `null`.
    pub pattern: Option<PatternChoice>,
}

/// An enrolment token. It is shown once.
#[derive(Serialize, Deserialize)]
pub struct TokenIssued {
    /// The token's text.
    pub token: String,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Why services are or are not deployed on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// The node.
    pub node: NodeId,
    /// The pattern that it is on; on policies when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<NodesPattern>,
    /// One per policy that deploys the service asked for, by policy; before them, for a node on a
    /// pattern, one for each of its services.
    pub verdicts: Vec<VerdictInfo>,
    /// What has no effect of what the node says of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The pattern that a node is on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodesPattern {
    /// Its name.
    pub name: PatternId,
    /// Whether it is there, and the node's organisation may use it.
    pub found: bool,
}

/// Why one policy, or one service of a pattern, is or is not deployed on the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerdictInfo {
    /// The policy or pattern.
    pub policy: Source,
    /// The service.
    pub service: ServiceId,
    /// Whether it is deployed.
    pub deployed: bool,
    /// Every rule with the values that decided it.
    pub rules: Vec<Rule>,
    /// Where the deployment stands on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<NodeDeployment>,
    /// Where that stands which the service requires and which has secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<NodeDeployment>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserInfo {
    /// The name.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

/// Adds a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewUser {
    /// The name.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// A certificate signing request over a key that stays with the caller, PEM.
    pub csr: String,
}

/// A user's certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserCertificate {
    /// The certificate and what it needs up to the CA, PEM.
    pub certificate: String,
    /// The CA certificates to trust, PEM.
    pub trust_bundle: String,
}

/// A record of the audit trail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditInfo {
    /// Grows.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what.
    pub object: String,
    /// `ok`, or the code of the refusal.
    pub result: String,
    /// More for people.
    pub detail: String,
    /// The peer's address.
    pub peer: String,
}
