//! What is known of a secret beside its value: labels, a description, an end, and how its versions
//! come and go. None of it is secret: it is listed, audited and logged.

mod label;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use edge_secrets_protocol::NameError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::rust::double_option;

pub use label::{Label, Labels};

/// A secret's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMeta {
    /// To find it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// For people.
    #[serde(default, skip_serializing_if = "Description::is_empty")]
    pub description: Description,
    /// From then on no node gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many versions are kept, the current one included; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_versions: Option<MaxVersions>,
    /// How old a value may become before people are reminded to rotate it.
    #[serde(
        default,
        rename = "rotate_every_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub rotate_every: Option<RotateEvery>,
}

impl SecretMeta {
    /// Whether its end has come.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// When a value that was set at `set_at` should be replaced.
    #[must_use]
    pub fn rotation_due_at(&self, set_at: Timestamp) -> Option<Timestamp> {
        let every = self.rotate_every?;
        Some(set_at.checked_add(every.0).unwrap_or(Timestamp::MAX))
    }
}

/// A change of a secret's metadata: what is absent stays as it is, `null` takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaChange {
    /// All labels from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The description; the empty one for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// The end, or none.
    #[serde(
        default,
        with = "double_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_at: Option<Option<Timestamp>>,
    /// How many versions are kept, or all.
    #[serde(
        default,
        with = "double_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_versions: Option<Option<MaxVersions>>,
    /// When to remind of rotation, or never.
    #[serde(
        default,
        rename = "rotate_every_seconds",
        with = "double_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub rotate_every: Option<Option<RotateEvery>>,
}

impl MetaChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What becomes of `meta`.
    #[must_use]
    pub fn applied_to(&self, meta: &SecretMeta) -> SecretMeta {
        let changed = self.clone();
        SecretMeta {
            labels: changed.labels.unwrap_or_else(|| meta.labels.clone()),
            description: changed
                .description
                .unwrap_or_else(|| meta.description.clone()),
            expires_at: changed.expires_at.unwrap_or(meta.expires_at),
            max_versions: changed.max_versions.unwrap_or(meta.max_versions),
            rotate_every: changed.rotate_every.unwrap_or(meta.rotate_every),
        }
    }
}

impl fmt::Display for MetaChange {
    /// In words, for the audit trail; empty where nothing changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        let mut words = Vec::new();
        match &self.labels {
            Some(labels) if labels.is_empty() => words.push("no labels".to_owned()),
            Some(labels) => words.push(format!("labels {labels}")),
            None => {}
        }
        match &self.description {
            Some(text) if text.is_empty() => words.push("no description".to_owned()),
            Some(_) => words.push("another description".to_owned()),
            None => {}
        }
        if let Some(end) = &self.expires_at {
            words.push(format!(
                "expires {}",
                or(end.map(|e| e.to_string()), "never")
            ));
        }
        if let Some(most) = self.max_versions {
            let most = or(most.map(|m| format!("{m} versions")), "all versions");
            words.push(format!("keeps {most}"));
        }
        if let Some(every) = self.rotate_every {
            let every = or(every.map(|e| format!("rotation every {e}")), "no rotation");
            words.push(every);
        }
        f.pad(&words.join(", "))
    }
}

/// Why metadata is not taken. Says the bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// A label is none.
    #[error(transparent)]
    Label(#[from] NameError),
    /// There are too many of them.
    #[error("there are more than {} labels", label::MAX_LABELS)]
    TooManyLabels,
    /// The description is too long, or drives a terminal.
    #[error("a description has at most {MAX_DESCRIPTION} characters and no control characters")]
    Description,
    /// The number of versions is out of bounds.
    #[error("the number of versions to keep is between 1 and {MAX_VERSIONS}")]
    MaxVersions,
    /// The time between rotations is out of bounds.
    #[error("the time between rotations is between 1 minute and {MAX_ROTATION_DAYS} days")]
    RotateEvery,
}

/// A description: at most 1024 characters, none of them a control character.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(String);

impl Description {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Description {
    type Err = MetaError;

    fn from_str(text: &str) -> Result<Self, MetaError> {
        if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
            return Err(MetaError::Description);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Description {
    type Error = MetaError;

    fn try_from(text: String) -> Result<Self, MetaError> {
        text.parse()
    }
}

impl From<Description> for String {
    fn from(description: Description) -> Self {
        description.0
    }
}

/// How many versions a secret keeps: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct MaxVersions(u64);

impl TryFrom<u64> for MaxVersions {
    type Error = MetaError;

    fn try_from(number: u64) -> Result<Self, MetaError> {
        if (1..=MAX_VERSIONS).contains(&number) {
            Ok(Self(number))
        } else {
            Err(MetaError::MaxVersions)
        }
    }
}

impl From<MaxVersions> for u64 {
    fn from(number: MaxVersions) -> Self {
        number.0
    }
}

impl FromStr for MaxVersions {
    type Err = MetaError;

    fn from_str(text: &str) -> Result<Self, MetaError> {
        let number: u64 = text.parse().map_err(|_| MetaError::MaxVersions)?;
        number.try_into()
    }
}

impl fmt::Display for MaxVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A time between rotations: whole seconds, from a minute to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct RotateEvery(Duration);

impl RotateEvery {
    /// The time.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for RotateEvery {
    type Error = MetaError;

    fn try_from(every: Duration) -> Result<Self, MetaError> {
        every.as_secs().try_into()
    }
}

impl TryFrom<u64> for RotateEvery {
    type Error = MetaError;

    fn try_from(seconds: u64) -> Result<Self, MetaError> {
        if (60..=MAX_ROTATION_DAYS * DAY).contains(&seconds) {
            Ok(Self(Duration::from_secs(seconds)))
        } else {
            Err(MetaError::RotateEvery)
        }
    }
}

impl From<RotateEvery> for u64 {
    fn from(every: RotateEvery) -> Self {
        every.0.as_secs()
    }
}

impl fmt::Display for RotateEvery {
    /// As it can be written: `90d`, `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let mut text = String::new();
        for (length, unit) in [(DAY, "d"), (3600, "h"), (60, "m"), (1, "s")] {
            let whole = rest / length;
            rest %= length;
            if whole > 0 {
                text.push_str(&format!("{whole}{unit}"));
            }
        }
        f.pad(&text)
    }
}

const MAX_DESCRIPTION: usize = 1024;
const MAX_VERSIONS: u64 = 1000;
const MAX_ROTATION_DAYS: u64 = 3660;
const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests;
