//! What a node should have: its deployments, their bindings and versions, and the fetch of values.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{
    ConsumerName, DeploymentId, Generation, NameError, SecretName, SecretVersion, ServiceId,
};
use crate::problem::Problem;
use crate::sealed::Sealed;
use crate::source::Source;

/// The answer of `GET /v1/bindings`: all that the node should have.
///
/// Asked with `?since=G`, the hub may answer with what changed after `G` alone and name the rest, so
/// that a pull costs what the change costs; [`onto`](Self::onto) makes it whole again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bindings {
    /// Grows with every change of what follows.
    pub generation: Generation,
    /// In the order of their ids.
    pub deployments: Vec<Deployment>,
    /// The generation that this is a difference to; absent when it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Generation>,
    /// The deployments that are as they were at `since`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchanged: Vec<DeploymentId>,
}

/// A difference that does not fit what it should be put onto: pull the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the difference is to another generation than the one at hand")]
pub struct DifferenceError;

impl Bindings {
    /// The whole, from this answer and the whole that came before it.
    ///
    /// # Errors
    /// When this is a difference to something else than `base`.
    pub fn onto(mut self, base: &Self) -> Result<Self, DifferenceError> {
        let Some(since) = self.since.take() else {
            return Ok(self);
        };
        if since != base.generation || base.since.is_some() {
            return Err(DifferenceError);
        }
        let known: BTreeMap<_, _> = base.deployments.iter().map(|d| (&d.id, d)).collect();
        for id in std::mem::take(&mut self.unchanged) {
            let deployment = *known.get(&id).ok_or(DifferenceError)?;
            self.deployments.push(deployment.clone());
        }
        self.deployments.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(self)
    }
}

/// One service placed on one node by one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Stays the same while the policy places the service here.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceId,
    /// The service's version, as its definition writes it.
    pub service_version: String,
    /// The policy or pattern that placed it.
    pub policy: Source,
    /// Every secret that the service declares, once, whatever the number of consumers; without those
    /// optional ones that are not there.
    pub secrets: Vec<BoundSecret>,
    /// Who reads which of them, in which format.
    pub consumers: Vec<Consumer>,
}

/// One declared secret and where it stands. The reference it is bound to stays at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSecret {
    /// What the service calls it.
    pub name: SecretName,
    /// Where it stands.
    #[serde(flatten)]
    pub state: SecretState,
    /// When the value ends, where it does: for people, and for nodes where `expires_in_ms` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How long the value of this version still had to live when the hub made the answer, in
    /// milliseconds; 0 when its life is over. It wins over `expires_at`, as a node's wall clock may be
    /// wrong. With [`SecretState::Ready`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// Absent, denied, not yet and failed are different answers (invariant 11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SecretState {
    /// The manager has this version.
    Ready {
        /// The version to fetch.
        version: SecretVersion,
    },
    /// The manager has not answered yet.
    Pending,
    /// The manager has no such secret.
    Missing,
    /// This node may not have it.
    Denied,
    /// The manager fails on it.
    Failed,
}

/// One container or unit of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name in the service definition.
    pub name: ConsumerName,
    /// The secrets it reads, in the order of their names.
    pub secrets: Vec<ConsumerSecret>,
}

/// One secret as one consumer reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerSecret {
    /// What the service calls it.
    pub name: SecretName,
    /// How the file looks.
    #[serde(default)]
    pub format: Format,
    /// The file's mode, where the service definition asks for one and the node's administrator says
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
}

/// A mode that a service definition may ask for: its owner reads the file, the owner and the group may
/// read and write it, others may nothing, and nobody executes it. Written in octal: `0440`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(u16);

impl TryFrom<String> for FileMode {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        mode.to_string()
    }
}

impl FileMode {
    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

impl FromStr for FileMode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| NameError::new("mode", text, reason);
        let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
        let plain = |digits: &&str| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        let Some(digits) = digits.filter(plain) else {
            return Err(refused("is not written like 0440"));
        };
        let Ok(mode) = u16::from_str_radix(digits, 8) else {
            return Err(refused("is not octal"));
        };
        if mode & 0o400 == 0 {
            return Err(refused("lets the file's owner not read it"));
        }
        if mode & !0o660 != 0 {
            return Err(refused(
                "gives more than reading and writing to owner and group",
            ));
        }
        Ok(Self(mode))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// How a secret's file looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object of every field; Open Horizon's default.
    #[default]
    Json,
    /// The raw bytes of the field `value`, or of the only field.
    ValueOnly,
    /// A line `FIELD="value"` for every field, as systemd's `EnvironmentFile=` and shells read it.
    Env,
    /// A directory with a file of raw bytes for every field.
    Fields,
}

/// The body of `POST /v1/secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// At most [`MAX_BATCH_ITEMS`](crate::limits::MAX_BATCH_ITEMS).
    pub items: Vec<FetchItem>,
}

/// One value wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FetchItem {
    /// The service that reads it.
    pub service: ServiceId,
    /// What the service calls it.
    pub name: SecretName,
    /// The version that the bindings gave.
    pub version: SecretVersion,
}

/// The answer of `POST /v1/secrets`: one entry per item, in the items' order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResponse {
    /// As many as were asked for.
    pub items: Vec<FetchResult>,
}

/// One sealed value, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchResult {
    /// The value of exactly the version asked for, sealed to the node.
    Sealed(Sealed),
    /// Why there is none.
    Problem(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_written_flat() {
        let secret = BoundSecret {
            name: "tlsKey".parse().unwrap(),
            state: SecretState::Ready {
                version: "7".parse().unwrap(),
            },
            expires_at: None,
            expires_in_ms: None,
        };
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(json, r#"{"name":"tlsKey","state":"ready","version":"7"}"#);
        assert_eq!(serde_json::from_str::<BoundSecret>(&json).unwrap(), secret);
    }

    #[test]
    fn a_mode_is_octal_and_for_owner_and_group_alone() {
        for text in ["0400", "0440", "0600", "0640", "0660"] {
            let mode: FileMode = serde_json::from_value(text.into()).unwrap();
            assert_eq!(mode.to_string(), text);
        }
        assert_eq!("0o440".parse::<FileMode>().unwrap().bits(), 0o440);
        for text in [
            "", "0", "440", "00440", "0444", "0404", "0040", "0500", "0550", "04400", "0x44",
            "0980", "+440", "-0440", "0+40",
        ] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
        let plain = r#"{"name":"a","format":"json"}"#;
        let secret: ConsumerSecret = serde_json::from_str(plain).unwrap();
        assert_eq!(serde_json::to_string(&secret).unwrap(), plain);
    }

    #[test]
    fn a_life_travels_as_what_is_left_of_it() {
        let json = r#"{"name":"lease","state":"ready","version":"7","expires_in_ms":1500}"#;
        let secret: BoundSecret = serde_json::from_str(json).unwrap();
        assert_eq!(secret.expires_in_ms, Some(1500));
        assert_eq!(serde_json::to_string(&secret).unwrap(), json);
    }

    fn deployment(id: &str, service_version: &str) -> Deployment {
        Deployment {
            id: id.parse().unwrap(),
            service: "myorg/com.example.uplink".parse().unwrap(),
            service_version: service_version.into(),
            policy: "uplink".parse().unwrap(),
            secrets: vec![],
            consumers: vec![],
        }
    }

    #[test]
    fn a_difference_makes_the_whole_again() {
        let base = Bindings {
            generation: Generation(4),
            deployments: vec![
                deployment("a", "1"),
                deployment("b", "1"),
                deployment("c", "1"),
            ],
            ..Bindings::default()
        };
        let difference = Bindings {
            generation: Generation(6),
            deployments: vec![deployment("b", "2")],
            since: Some(Generation(4)),
            unchanged: vec!["a".parse().unwrap()],
        };
        let whole = difference.clone().onto(&base).unwrap();
        assert_eq!(whole.generation, Generation(6));
        assert_eq!(
            whole.deployments,
            [deployment("a", "1"), deployment("b", "2")]
        );
        assert_eq!(whole.since, None);

        let other = Bindings {
            generation: Generation(5),
            ..base
        };
        assert_eq!(difference.onto(&other), Err(DifferenceError));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let json = r#"{"generation":3,"deployments":[],"of_tomorrow":{"a":[1]}}"#;
        let bindings: Bindings = serde_json::from_str(json).unwrap();
        assert_eq!(bindings.generation, Generation(3));
    }
}
