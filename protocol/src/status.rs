//! What a node has applied: `PUT /v1/status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{DeploymentId, Generation, SecretName, SecretVersion, ServiceId};
use crate::problem::Code;

/// The whole of what the node has applied; it replaces the report before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The generation that the node has worked through, whatever came of it.
    pub generation: Generation,
    /// Every deployment the node knows, and those it has just wiped.
    pub deployments: Vec<DeploymentStatus>,
}

/// One deployment as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// The deployment.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceId,
    /// Where it stands.
    pub state: DeploymentState,
    /// The version of every name that the service can read now.
    #[serde(default)]
    pub applied: BTreeMap<SecretName, SecretVersion>,
    /// Why it is not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// The service can read everything, in the wanted versions.
    Applied,
    /// A secret is missing, denied or not there yet; what was applied before stays.
    Blocked,
    /// The node could not deliver; what was applied before stays.
    Failed,
    /// Not done yet.
    Pending,
    /// Deployed, and nothing of it is left on the node, because what it is for does not run there.
    Stopped,
    /// Undeployed; nothing is left.
    Wiped,
}

/// Why a deployment is blocked or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentError {
    /// The stable code.
    pub code: Code,
    /// One sentence for people. Never a value.
    pub detail: String,
}
