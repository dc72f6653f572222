//! What a node says of itself: `PUT /v1/node`.

use serde::{Deserialize, Serialize};

use crate::name::ServiceId;

/// One property as Open Horizon writes it. The hub gives it its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// Any text; names with a prefix `openhorizon.` are the measured ones.
    pub name: String,
    /// A string, number, boolean, or list of strings.
    pub value: serde_json::Value,
    /// `string`, `int`, `float`, `boolean`, `version` or `list of strings`; inferred when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What a node says of itself, at enrolment and whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// What the administrator configured.
    #[serde(default)]
    pub properties: Vec<Property>,
    /// What the agent measured: `openhorizon.arch`, `openhorizon.cpu`, `openhorizon.memory`, …
    #[serde(default)]
    pub built_in: Vec<Property>,
    /// The node policy in Open Horizon's schema: the file's text, JSON or YAML, so that the hub can name line
    /// and column of a fault; or the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<serde_json::Value>,
    /// The agent's version.
    #[serde(default)]
    pub agent_version: String,
    /// Services that the node delivers to now.
    #[serde(default)]
    pub services: Vec<ServiceId>,
}
