//! Labels, to find secrets by.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use edge_secrets_protocol::NameError;
use serde::{Deserialize, Serialize};

use super::MetaError;

/// A label: 2 to 64 of `A-Z a-z 0-9 . _ : - /` and spaces, but none at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| Err(NameError::new("label", text, reason));
        if !(2..=MAX_LEN).contains(&text.len()) {
            return refused("is not 2 to 64 characters long");
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return refused("begins or ends with a space");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:-/ ".contains(c);
        if !text.chars().all(plain) {
            return refused("has a character other than A-Z a-z 0-9 . _ : - / and space");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// At most 30 labels, each once, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct Labels(BTreeSet<Label>);

impl Labels {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every one of `wanted` is here.
    #[must_use]
    pub fn hold(&self, wanted: &Self) -> bool {
        wanted.0.is_subset(&self.0)
    }
}

impl TryFrom<Vec<Label>> for Labels {
    type Error = MetaError;

    fn try_from(labels: Vec<Label>) -> Result<Self, MetaError> {
        let labels: BTreeSet<_> = labels.into_iter().collect();
        if labels.len() > MAX_LABELS {
            return Err(MetaError::TooManyLabels);
        }
        Ok(Self(labels))
    }
}

impl From<Labels> for Vec<Label> {
    fn from(labels: Labels) -> Self {
        labels.0.into_iter().collect()
    }
}

impl FromStr for Labels {
    type Err = MetaError;

    /// Reads labels with commas between them, which no label has.
    fn from_str(text: &str) -> Result<Self, MetaError> {
        let labels: Result<Vec<Label>, _> = text.split(',').map(str::parse).collect();
        labels?.try_into()
    }
}

impl fmt::Display for Labels {
    /// With commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> = self.0.iter().map(Label::as_str).collect();
        f.pad(&labels.join(","))
    }
}

/// Most labels of one secret.
pub(super) const MAX_LABELS: usize = 30;
const MAX_LEN: usize = 64;
