//! What a configured secrets manager is called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use edge_secrets_protocol::NameError;
use serde::{Deserialize, Serialize};

/// 1 to 64 lower-case letters, digits and `-`, not starting with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManagerName(Arc<str>);

impl ManagerName {
    /// The hub's own manager.
    #[must_use]
    pub fn embedded() -> Self {
        Self(EMBEDDED.into())
    }

    /// Whether it is the hub's own.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        &*self.0 == EMBEDDED
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ManagerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=64).contains(&text.len());
        if fits && !text.starts_with('-') && text.chars().all(plain) {
            return Ok(Self(text.into()));
        }
        Err(NameError::new(
            "secrets manager",
            text,
            "is not 1 to 64 lower-case letters, digits and `-`",
        ))
    }
}

impl TryFrom<String> for ManagerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ManagerName> for String {
    fn from(name: ManagerName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ManagerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

const EMBEDDED: &str = "embedded";
