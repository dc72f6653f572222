//! Secrets managers outside the hub, what they keep, and the leases of what they make.

use edge_secrets_protocol::{DeploymentId, NodeId, Sealed, SecretVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::records::{LeaseId, LeaseState, Trouble};
use crate::managers::{Effect, Fault, Kind, ManagerName};
use crate::reference::SecretRef;

/// A secrets manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagerInfo {
    /// What references call it.
    pub name: ManagerName,
    /// What it is.
    pub kind: Kind,
    /// References that name no manager mean it.
    pub default: bool,
    /// What of it the organisation may reach, as the hub's configuration says.
    pub paths: Vec<String>,
    /// How many of its secrets are bound in the organisation.
    pub watched: usize,
    /// How many of those are in trouble.
    pub troubled: usize,
    /// What is wrong with it as a whole, as of its last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ManagerTrouble>,
    /// For how many seconds still it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone_seconds: Option<u64>,
    /// What was asked of it since the hub started.
    pub calls: Vec<CallCount>,
}

/// What is wrong with a manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagerTrouble {
    /// The stable code.
    pub fault: Fault,
    /// What, and what to do.
    pub detail: String,
}

/// How often a manager was asked for something, with one result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallCount {
    /// What was asked.
    pub call: String,
    /// `ok`, or the fault's code.
    pub result: String,
    /// How often.
    pub count: u64,
    /// Altogether, in milliseconds.
    pub millis: u64,
}

/// Whether a manager can be used now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagerCheck {
    /// It can.
    pub healthy: bool,
    /// Its product's version, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ManagerTrouble>,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Gives a manager the key that it makes credentials with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetEngine {
    /// What the engine's configuration is called there: 1 to 128 characters.
    pub name: String,
    /// The key, sealed to the hub for
    /// [`Place::Engine`](edge_secrets_protocol::sealed::Place::Engine).
    pub sealed: Sealed,
}

/// What configuring an engine did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineSet {
    /// The manager.
    pub manager: ManagerName,
    /// The manager's word for such a configuration.
    pub kind: String,
    /// What it is called there.
    pub name: String,
    /// Whether one of this name was there, and is replaced.
    pub replaced: bool,
}

/// A secret that a manager keeps, without its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagedInfo {
    /// What it is called.
    pub reference: SecretRef,
    /// What reading it does.
    pub effect: Effect,
    /// The version that is delivered; absent where every node has a credential of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SecretVersion>,
    /// Its fields, where the manager tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// When the value ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How long a credential lives that is made now, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// The manager's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// When it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A version that a manager still knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagedVersion {
    /// The version.
    pub version: SecretVersion,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Why it cannot be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
}

/// A part of a manager's listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagedPage {
    /// In the manager's order.
    pub entries: Vec<ManagedEntry>,
    /// `?page=` of the next part; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One entry of a listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagedEntry {
    /// `<manager>:<path>`; of a folder with a slash at its end.
    pub name: String,
    /// What reading it does, where the listing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The manager's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// A part of the leases that there are: the newest of those that were asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeasePage {
    /// Oldest first.
    pub leases: Vec<LeaseInfo>,
    /// `?before=` of the part with older ones; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<LeaseId>,
}

/// A credential of one binding on one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Its number.
    pub id: LeaseId,
    /// The node.
    pub node: NodeId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The secret.
    pub reference: SecretRef,
    /// Where it is in its life.
    pub state: LeaseState,
    /// Whether it is the one that the node is to use.
    pub current: bool,
    /// Whether it can be made longer.
    pub renewable: bool,
    /// When it was made or last renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_at: Option<Timestamp>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// How often what is to be done with it failed in a row.
    pub attempts: u32,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// What a caller of the webhook may say. Everything else that is JSON says: look at everything.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Hooked {
    /// The secrets that changed; all of the manager's when absent.
    #[serde(default)]
    pub references: Option<Vec<SecretRef>>,
}
