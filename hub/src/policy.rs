//! Who gets what, decided without a clock, a file or a socket: definitions, deployment policies,
//! the constraint language, version ranges and compatibility, in Open Horizon's schemas.
//!
//! A policy deploys its service on a node when the node's properties satisfy the policy's
//! constraints, the service's and policy's properties satisfy the node's constraints, a definition
//! of one of its versions runs on the node's architecture, and every secret that the definition
//! declares is bound. A node may be on a pattern instead: then it has the pattern's services, and no
//! policy is asked. Everything is compiled when it is read, so that deciding for one node costs
//! little.

mod arch;
mod attempt;
mod binding;
mod board;
mod check;
mod closure;
mod compat;
mod constraint;
mod definition;
mod definitions;
mod deployment_policy;
mod document;
mod either;
mod field;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod nearest;
mod node;
mod offer;
mod pattern;
mod place;
mod placed;
mod policies;
mod property;
mod requirement;
mod schema;
mod service_policy;
mod user_input;
mod version;

use std::fmt;

use edge_secrets_protocol::{ServiceId, Source};
use serde::{Deserialize, Serialize};

pub use self::check::{PolicyCheck, check_pattern, check_policy};
pub use self::closure::{ring, unmet};
pub use self::definition::ServiceDefinition;
pub use self::definitions::{Definitions, Public, Published, Services};
pub use self::deployment_policy::DeploymentPolicy;
pub use self::document::read as read_document;
pub use self::node::{NodeView, check_node_policy};
pub use self::pattern::Pattern;
pub use self::place::{could_place, explain, fits_one_node, place};
pub use self::placed::placed;
pub use self::policies::Policies;
use crate::catalog::records::Placed;

/// Why a document is refused: where in it, and what was expected.
///
/// Displayed as `secretBinding[0].secrets[1]: expected one entry, found 2 (line 12, column 7)`.
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

impl DocumentError {
    /// The same of a document that stands in a field of another one.
    fn within(self, field: &str) -> Self {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path if path.starts_with('[') => format!("{field}{path}"),
            path => format!("{field}.{path}"),
        };
        Self { path, ..self }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " (line {line}, column {column})"),
            (Some(line), None) => write!(f, " (line {line})"),
            _ => Ok(()),
        }
    }
}

/// One rule that was applied, with the values that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which rule: `arch`, `policy constraint`, `service version`, `service constraint`, `node
    /// constraint`, `node type`, `required services`, `shared service`, `privileged`, `binding`, `secret
    /// scope`, `one policy per service`, `once in a pattern`, `pattern or policies`, `node
    /// bounds`.
    pub rule: String,
    /// Whether it holds.
    pub holds: bool,
    /// The constraint or range, and the values it saw.
    pub detail: String,
}

/// Why one policy, or one service of a pattern, is or is not deployed on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The policy, or the pattern that the node is on.
    pub policy: Source,
    /// The service.
    pub service: ServiceId,
    /// What would be deployed, when the rules hold and no other policy wins. A rule about one
    /// version may fail and the next version be placed; a secret whose scope forbids it is placed
    /// as denied.
    pub placed: Option<Placed>,
    /// Every rule, in the order in which it was applied.
    pub rules: Vec<Rule>,
}

#[cfg(test)]
mod tests;
