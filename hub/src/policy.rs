//! Who gets what, decided without a clock, a file or a socket: definitions, deployment policies,
//! the constraint language, version ranges and compatibility, in Open Horizon's schemas.

use std::fmt;

use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::{NodeId, OrgId, PolicyName, SecretName, ServiceId, UserId};
use serde::{Deserialize, Serialize};

use crate::catalog::records::Placed;
use crate::reference::SecretRef;

/// Why a document is refused: where in it, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// Path into the document, like `secretBinding[0].secrets[1]`; empty for the whole.
    pub path: String,
    /// Line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// Column, counted from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A service definition in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct ServiceDefinition {}

impl ServiceDefinition {
    /// Reads a definition, JSON or YAML. Fields of Open Horizon that do not matter here are kept.
    pub fn parse(_text: &str) -> Result<Self, DocumentError> {
        unimplemented!()
    }
    /// The service.
    pub fn id(&self) -> &ServiceId {
        unimplemented!()
    }
    /// The version, as written.
    pub fn version(&self) -> &str {
        unimplemented!()
    }
    /// The architecture, as written.
    pub fn arch(&self) -> &str {
        unimplemented!()
    }
    /// The names of all declared secrets, once each.
    pub fn secret_names(&self) -> Vec<SecretName> {
        unimplemented!()
    }
    /// The whole document as JSON, unknown fields included; `parse` reads it again.
    pub fn to_json(&self) -> String {
        unimplemented!()
    }
}

/// A deployment policy in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct DeploymentPolicy {}

impl DeploymentPolicy {
    /// Reads a policy, JSON or YAML.
    pub fn parse(_text: &str) -> Result<Self, DocumentError> {
        unimplemented!()
    }
    /// The whole document as JSON.
    pub fn to_json(&self) -> String {
        unimplemented!()
    }
    /// The service it deploys.
    pub fn service(&self) -> &ServiceId {
        unimplemented!()
    }
    /// Every secret reference that a binding names, once each.
    pub fn references(&self) -> Vec<SecretRef> {
        unimplemented!()
    }
}

/// A node as placement sees it.
#[derive(Debug, Clone)]
pub struct NodeView {}

impl NodeView {
    /// Gives the node's facts their types.
    pub fn new(
        _node: &NodeId,
        _owner: Option<&UserId>,
        _facts: &NodeFacts,
    ) -> Result<Self, DocumentError> {
        unimplemented!()
    }
}

/// The definitions of one organisation.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Every service definition with its publisher.
    pub services: Vec<(UserId, ServiceDefinition)>,
    /// Every deployment policy with its name and publisher.
    pub policies: Vec<(PolicyName, UserId, DeploymentPolicy)>,
}

/// One rule that was applied, with the values that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which rule: `service version`, `arch`, `policy constraint`, `node constraint`, `binding`, …
    pub rule: String,
    /// Whether it holds.
    pub holds: bool,
    /// The constraint or range, and the values it saw.
    pub detail: String,
}

/// Why one policy does or does not deploy its service on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The policy.
    pub policy: PolicyName,
    /// The service.
    pub service: ServiceId,
    /// What would be deployed, when every rule holds and no other policy wins.
    pub placed: Option<Placed>,
    /// Every rule, in the order in which it was applied.
    pub rules: Vec<Rule>,
}

/// The deployments that a node should have, by id.
pub fn place(_org: &OrgId, _node: &NodeView, _definitions: &Definitions) -> Vec<Placed> {
    unimplemented!()
}

/// The same, with the reasons: one verdict per policy, by name.
pub fn explain(_org: &OrgId, _node: &NodeView, _definitions: &Definitions) -> Vec<Verdict> {
    unimplemented!()
}

/// What keeps a policy from being published: every fault, not the first alone. Warnings are apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyCheck {
    /// Each names what is wrong, where, and what to do.
    pub faults: Vec<String>,
    /// Bindings that no service needs, and the like.
    pub warnings: Vec<String>,
}

/// Checks a policy against the definitions it deploys: known service and versions, every declared
/// secret bound, no binding of another user's private secret. Whether the references exist is for
/// the caller, who can ask the managers.
pub fn check_policy(
    _policy: &DeploymentPolicy,
    _publisher: &UserId,
    _services: &[(UserId, ServiceDefinition)],
) -> PolicyCheck {
    unimplemented!()
}
