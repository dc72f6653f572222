//! What makes, changes and ends secrets.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::super::answers::{Refusal, random, refuse, uuid};
use super::super::{Ibm, Role, Secret, Version};
use super::text;
use crate::{Request, Response};

impl Ibm {
    pub(in crate::ibm) fn create(
        &mut self,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let (name, kind) = (text(body, "name")?, text(body, "secret_type")?);
        let group = body["secret_group_id"].as_str().unwrap_or("default");
        if self.hidden.contains(group) || !self.groups.iter().any(|known| known.id == group) {
            return Err(refuse(404, "secret group not found"));
        }
        let same = |s: &Secret| s.group == group && s.kind == kind && s.name == name;
        if self.secrets.iter().any(same) {
            let message = format!("A secret with the same name already exists: {name}");
            return Err(refuse(409, message));
        }
        let list = |name: &str| -> Vec<String> {
            let items = body[name].as_array().into_iter().flatten();
            items.filter_map(|i| i.as_str().map(Into::into)).collect()
        };
        let id = uuid();
        let secret = Secret {
            id: id.clone(),
            name,
            group: group.into(),
            description: body["description"].as_str().unwrap_or_default().into(),
            labels: list("labels"),
            locks: Vec::new(),
            state: 1,
            expiration: body["expiration_date"]
                .as_str()
                .and_then(|t| t.parse().ok()),
            ttl: body["ttl"].as_str().map(Into::into),
            reuse: body["reuse_api_key"].as_bool().unwrap_or(false),
            access_groups: list("access_groups"),
            service_id: body["service_id"].as_str().map(Into::into),
            created: now,
            updated: now,
            versions: Vec::new(),
            kind,
        };
        let iam = secret.is_iam();
        if iam {
            if secret.ttl.as_deref().and_then(seconds).is_none() {
                return Err(refuse(400, "ttl is not 1 minute to 90 days"));
            }
            if secret.access_groups.is_empty() == secret.service_id.is_none() {
                return Err(refuse(400, "either access_groups or service_id"));
            }
            self.secrets.push(secret);
            self.make_version(&id, now);
        } else {
            let data = value_of(&secret.kind, body)?;
            self.secrets.push(secret);
            self.push_version(&id, data, now);
        }
        self.given += 1;
        Ok(self.secret(&id).with_value())
    }

    pub(in crate::ibm) fn add_version(
        &mut self,
        id: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        self.unlocked(id)?;
        let secret = self.secret(id).clone();
        if secret.is_iam() {
            if !secret.reuse {
                let why =
                    "Rotating IAM credentials is not supported when reuse credentials is off.";
                return Err(refuse(400, why));
            }
            self.make_version(id, now);
        } else if body["restore_from_version"] == "previous" {
            let at = self.position(id, "previous")?;
            let data = secret.versions.get(at).and_then(|v| v.data.clone());
            self.push_version(id, data.unwrap_or_default(), now);
        } else {
            self.push_version(id, value_of(&secret.kind, body)?, now);
        }
        self.given += 1;
        let secret = self.secret(id);
        Ok(secret.version_with_value(secret.versions.len() - 1))
    }

    /// A version with another key.
    pub(super) fn make_version(&mut self, id: &str, now: Timestamp) {
        let ttl = self.secret(id).ttl.as_deref().and_then(seconds);
        let end = now + SignedDuration::from_secs(ttl.expect("a ttl"));
        let key = self.account.make_key(end);
        let mut data = Map::new();
        data.insert("api_key".into(), key.into());
        self.push_version(id, data, now);
        let versions = &mut self.secret(id).versions;
        let version = versions.last_mut().expect("the new one");
        version.key_id = Some(format!("ApiKey-{}", uuid()));
        version.end = Some(end);
    }

    fn push_version(&mut self, id: &str, data: Map<String, Value>, now: Timestamp) {
        let secret = self.secret(id);
        secret.updated = now;
        secret.versions.push(Version {
            id: uuid(),
            created: now,
            data: Some(data),
            key_id: None,
            end: None,
        });
        // Metadata of fifty, values of two.
        while secret.versions.len() > 50 {
            secret.versions.remove(0);
        }
        let kept = secret.versions.len().saturating_sub(2);
        for old in secret.versions.iter_mut().take(kept) {
            old.data = None;
        }
    }

    /// Ends the keys of all versions.
    pub(super) fn end_keys(&mut self, id: &str) {
        let versions = self.secret(id).versions.clone();
        for version in &versions {
            self.end_key_of(version);
        }
        for version in &mut self.secret(id).versions {
            version.data = None;
        }
    }

    pub(super) fn end_version(
        &mut self,
        id: &str,
        version: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let at = self.position(id, version)?;
        let secret = self.secret(id);
        let ended = secret.versions.get_mut(at).expect("a version");
        let before = ended.clone();
        if ended.data.take().is_none() {
            return Err(refuse(404, "the version has no data"));
        }
        secret.updated = now;
        self.end_key_of(&before);
        Ok(())
    }

    fn end_key_of(&mut self, version: &Version) {
        let data = version.data.as_ref();
        if let Some(key) = data.and_then(|data| data.get("api_key")?.as_str()) {
            self.account.end_key(key);
        }
    }

    pub(super) fn edit(&mut self, id: &str, body: &Value, now: Timestamp) -> Value {
        let secret = self.secret(id);
        if let Some(name) = body["name"].as_str() {
            secret.name = name.into();
        }
        if let Some(labels) = body["labels"].as_array() {
            let labels = labels.iter().filter_map(|l| l.as_str().map(Into::into));
            secret.labels = labels.collect();
        }
        if let Some(reuse) = body["reuse_api_key"].as_bool() {
            secret.reuse = reuse;
        }
        secret.updated = now;
        secret.metadata()
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.end_keys(id);
        self.secrets.retain(|secret| secret.id != id);
    }

    pub(super) fn configure(
        &mut self,
        request: &Request,
        rest: &[&str],
    ) -> Result<Response, Refusal> {
        self.need(Role::Manager)?;
        let body = request.json();
        let (status, name) = match (request.method.as_str(), rest) {
            ("POST", []) => {
                let name = text(&body, "name")?;
                text(&body, "api_key")?;
                if self.configurations.contains_key(&name) {
                    return Err(refuse(409, "the configuration is there already"));
                }
                self.configurations.insert(name.clone(), body);
                (201, name)
            }
            ("PATCH", [name]) => {
                let known = self.configurations.get_mut(*name);
                let known = known.ok_or_else(|| refuse(404, "configuration not found"))?;
                for (member, value) in body.as_object().into_iter().flatten() {
                    known[member] = value.clone();
                }
                (200, (*name).to_owned())
            }
            ("GET", [name]) => (200, (*name).to_owned()),
            _ => return Err(refuse(404, "is not a valid access endpoint")),
        };
        let shown = self.configurations.get(&name);
        let shown = shown.ok_or_else(|| refuse(404, "configuration not found"))?;
        Ok(Response::json(status, shown))
    }
}

/// The members of a body that are the value.
fn value_of(kind: &str, body: &Value) -> Result<Map<String, Value>, Refusal> {
    let mut body = body.clone();
    let (must, may): (&[&str], &[&str]) = match kind {
        "arbitrary" => (&["payload"], &[]),
        "kv" => (&["data"], &[]),
        "username_password" => {
            if body["password"].is_null() {
                body["password"] = random(16).into();
            }
            (&["password"], &["username"])
        }
        "imported_cert" | "public_cert" | "private_cert" => (
            &["certificate"],
            &["intermediate", "private_key", "issuing_ca"],
        ),
        "service_credentials" => {
            if body["credentials"].is_null() {
                body["credentials"] = json!({ "apikey": random(16), "iam_apikey_name": "made" });
            }
            (&["credentials"], &[])
        }
        "custom_credentials" => (&["credentials_content"], &[]),
        _ => return Err(refuse(400, "no such secret_type")),
    };
    let mut data = Map::new();
    for name in must.iter().chain(may) {
        match body.get(*name) {
            Some(value) if !value.is_null() => data.insert((*name).into(), value.clone()),
            _ if must.contains(name) => return Err(refuse(400, format!("{name} is missing"))),
            _ => None,
        };
    }
    Ok(data)
}

/// `1800`, `30m`, `24h` or `90d`, from a minute to ninety days.
fn seconds(ttl: &str) -> Option<i64> {
    let (digits, unit) = match ttl.strip_suffix(['s', 'm', 'h', 'd']) {
        None => (ttl, 1),
        Some(digits) => match ttl.as_bytes().last()? {
            b'm' => (digits, 60),
            b'h' => (digits, 3600),
            b'd' => (digits, 86400),
            _ => (digits, 1),
        },
    };
    let seconds = digits.parse::<i64>().ok()?.checked_mul(unit)?;
    (60..=90 * 86400).contains(&seconds).then_some(seconds)
}
