//! A secret with its versions, and how it is shown.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answers::date;

/// A secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its id.
    pub id: String,
    /// Its name: one of its type in its group.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its group's id.
    pub group: String,
    /// For people.
    pub description: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Names of its locks.
    pub locks: Vec<String>,
    /// 0 pre-activation, 1 active, 2 suspended, 3 deactivated, 5 destroyed.
    pub state: u8,
    /// When it ends, where it was told so at its creation.
    pub expiration: Option<Timestamp>,
    /// How long a key of it lives, as it was written.
    pub ttl: Option<String>,
    /// Whether reads give the same key until its end.
    pub reuse: bool,
    /// The groups that a made service id is put into.
    pub access_groups: Vec<String>,
    /// The service id that was brought along.
    pub service_id: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub updated: Timestamp,
    /// Oldest first; the last one is the current one.
    pub versions: Vec<Version>,
}

/// A version of it.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// The members of an answer that are the value; gone for all but the last two versions.
    pub data: Option<Map<String, Value>>,
    /// The id of the key that was made for it.
    pub key_id: Option<String>,
    /// When its key ends.
    pub end: Option<Timestamp>,
}

impl Secret {
    /// Whether it makes keys.
    #[must_use]
    pub fn is_iam(&self) -> bool {
        self.kind == "iam_credentials"
    }

    pub(super) fn current(&self) -> &Version {
        self.versions.last().expect("a version")
    }

    /// Where the version of this id or alias stands.
    pub(super) fn position(&self, version: &str) -> Option<usize> {
        let last = self.versions.len() - 1;
        match version {
            "current" => Some(last),
            "previous" => last.checked_sub(1),
            id => self.versions.iter().position(|version| version.id == id),
        }
    }

    pub(super) fn metadata(&self) -> Value {
        let states = ["pre_activation", "active", "suspended", "deactivated"];
        let mut shown = json!({
            "id": self.id, "name": self.name, "description": self.description,
            "secret_type": self.kind, "secret_group_id": self.group, "labels": self.labels,
            "custom_metadata": {}, "crn": format!("crn:v1:fake:secret:{}", self.id),
            "created_at": date(self.created), "created_by": "iam-Fake",
            "updated_at": date(self.updated), "downloaded": true,
            "locks_total": self.locks.len(), "versions_total": self.versions.len(),
            "state": self.state,
            "state_description": states.get(usize::from(self.state)).unwrap_or(&"destroyed"),
            "referenced_by": [],
        });
        let end = match self.is_iam() {
            true => self.current().end,
            false => self.expiration,
        };
        if let Some(end) = end {
            shown["expiration_date"] = date(end).into();
        }
        if self.is_iam() {
            shown["ttl"] = json!(self.ttl);
            shown["access_groups"] = json!(self.access_groups);
            shown["service_id"] = json!(self.service_id.as_deref().unwrap_or("ServiceId-made"));
            shown["service_id_is_static"] = json!(self.service_id.is_some());
            shown["reuse_api_key"] = json!(self.reuse);
            if let Some(key) = &self.current().key_id {
                shown["api_key_id"] = json!(key);
            }
        }
        shown
    }

    /// Metadata and, where it still has one, the current value.
    pub(super) fn with_value(&self) -> Value {
        let mut shown = self.metadata();
        for (name, value) in self.current().data.iter().flatten() {
            shown[name] = value.clone();
        }
        shown
    }

    pub(super) fn version_metadata(&self, at: usize) -> Value {
        let version = self.versions.get(at).expect("a version");
        let mut shown = json!({
            "id": version.id, "secret_id": self.id, "secret_name": self.name,
            "secret_type": self.kind, "secret_group_id": self.group, "auto_rotated": false,
            "created_at": date(version.created), "created_by": "iam-Fake", "downloaded": true,
            "payload_available": version.data.is_some(), "version_custom_metadata": {},
        });
        match self.versions.len() - at {
            1 => shown["alias"] = json!("current"),
            2 => shown["alias"] = json!("previous"),
            _ => {}
        }
        if let Some(key) = &version.key_id {
            shown["api_key_id"] = json!(key);
        }
        if let Some(end) = version.end.or(self.expiration) {
            shown["expiration_date"] = date(end).into();
        }
        shown
    }

    pub(super) fn version_with_value(&self, at: usize) -> Value {
        let mut shown = self.version_metadata(at);
        let version = self.versions.get(at).expect("a version");
        for (name, value) in version.data.iter().flatten() {
            shown[name] = value.clone();
        }
        shown
    }
}
