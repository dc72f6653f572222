//! What places services on nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{NameError, PatternId, PolicyName};

/// A deployment policy of the nodes' organisation, or a pattern of any.
///
/// Written `NAME` and `pattern:ORG/NAME`: no policy's name holds a colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A deployment policy.
    Policy(PolicyName),
    /// A pattern.
    Pattern(PatternId),
}

impl Source {
    /// `policy uplink`, `pattern myorg/edge`.
    #[must_use]
    pub fn titled(&self) -> String {
        match self {
            Self::Policy(name) => format!("policy {name}"),
            Self::Pattern(id) => format!("pattern {id}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => name.fmt(f),
            Self::Pattern(id) => f.pad(&format!("{PATTERN}{id}")),
        }
    }
}

impl FromStr for Source {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix(PATTERN) {
            Some(id) => id.parse().map(Self::Pattern),
            None => text.parse().map(Self::Policy),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

const PATTERN: &str = "pattern:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_what_it_writes_and_no_policy_looks_like_a_pattern() {
        for text in ["uplink", "pattern:myorg/edge", "pattern"] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
        for text in [
            "",
            "pattern:",
            "pattern:edge",
            "a:b",
            "pattern:a/b/c",
            "policy:a",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        let stored: Source = serde_json::from_str("\"uplink\"").unwrap();
        assert_eq!(stored, Source::Policy("uplink".parse().unwrap()));
        assert_eq!(stored.titled(), "policy uplink");
    }
}
