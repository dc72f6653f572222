//! What the agent tells on its local socket: names, versions and states, never a value.

use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{
    ConsumerName, DeploymentId, Generation, NodeId, OrgId, SecretName, SecretVersion, ServiceId,
    Source,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::SealingKeyCustody;

/// The whole answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's version.
    pub agent_version: String,
    /// The node's organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// The connection to the hub.
    pub hub: HubStatus,
    /// The generation that is worked through.
    pub generation: Generation,
    /// How the runtime directory and the agent's own memory are kept out of swap and core dumps.
    pub protection: Vec<String>,
    /// What is deployed here, by service and policy.
    pub services: Vec<ServiceStatus>,
    /// What is wrong or doubtful in `services.d`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profile_problems: Vec<ProfileProblem>,
    /// What is kept for times without the hub; absent where `offline.cache` is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheStatus>,
}

/// The sealed cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// How many values are kept.
    pub values: usize,
    /// How the key is kept that opens them: `file` or `credential`.
    #[serde(default)]
    pub sealing_key: SealingKeyCustody,
    /// Why not all that should be kept is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is wrong or doubtful in a file of `services.d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileProblem {
    /// The file.
    pub file: String,
    /// The line, from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub reason: String,
    /// What follows.
    pub effect: ProfileEffect,
}

/// What follows from something wrong or doubtful in a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileEffect {
    /// The file is refused, and its last good version stays in force.
    FormerStays,
    /// The file is refused, and nothing of it was ever good: it is as if it were not there.
    Ignored,
    /// The profile is in force; somebody should look all the same.
    Warning,
}

/// The connection to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// The hub's address.
    pub url: String,
    /// Whether it answers.
    pub state: HubState,
    /// Since when the state is what it is.
    pub since: Timestamp,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the node's certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<Timestamp>,
}

/// Whether the hub answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HubState {
    /// Not since the agent started.
    Connecting,
    /// It does.
    Connected,
    /// Not any more; what was delivered stays.
    Disconnected,
    /// The hub says this node is revoked; everything is wiped.
    Revoked,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The service.
    pub service: ServiceId,
    /// The service's version.
    pub service_version: String,
    /// The policy or pattern that placed it.
    pub policy: Source,
    /// Where it stands.
    pub state: DeploymentState,
    /// Since when the state is what it is.
    pub since: Timestamp,
    /// Why it is not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
    /// Each secret.
    pub secrets: Vec<SecretStatus>,
    /// Where each consumer reads.
    pub consumers: Vec<ConsumerStatus>,
}

impl ServiceStatus {
    /// Whether the service can read everything in the wanted versions.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.state == DeploymentState::Applied
    }
}

/// One secret of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStatus {
    /// What the service calls it.
    pub name: SecretName,
    /// `applied` when the wanted version is readable.
    pub state: DeploymentState,
    /// The version that is readable now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SecretVersion>,
    /// The version that the hub wants to be readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<SecretVersion>,
    /// Since when state and version are what they are.
    pub since: Timestamp,
    /// When the version that is readable now ends, or, where none is, when the wanted one does or did;
    /// absent where that has no end. By the hub's wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// One consumer of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStatus {
    /// Its name in the service definition.
    pub name: ConsumerName,
    /// The directory to mount or read.
    pub directory: String,
    /// The profile that shapes it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How the on-change action stands, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<ActionStatus>,
    /// How the unit or container stands that it lives with, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecycleStatus>,
    /// How its own secrets API stands, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_api: Option<SecretsApiStatus>,
}

/// How a consumer's own secrets API stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsApiStatus {
    /// The directory with the socket, `auth.json`, `cert.pem` and `env`.
    pub directory: String,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a consumer's on-change action stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionStatus {
    /// What is done, for people: `reload uplink.service`.
    pub action: String,
    /// Where it stands.
    pub state: ActionState,
    /// Since when.
    pub since: Timestamp,
    /// Attempts that failed since it last went well.
    pub failures: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where an on-change action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// It waits for further changes, or runs.
    Running,
    /// It is done for what can be read now.
    Done,
    /// It failed and is tried again.
    Failing,
}

/// How the unit or container stands that a consumer lives with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleStatus {
    /// `unit uplink.service` or `container uplink`.
    pub workload: String,
    /// `present`, `absent` or `unknown`.
    pub presence: String,
    /// Why it is unknown, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
