//! KV version 2: versions, check-and-set, deletions that can be taken back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome, none, refuse, unsupported};
use super::kv1::list;
use super::{Call, Counted, Verb, after, seconds};

#[derive(Default)]
pub(crate) struct Store {
    entries: BTreeMap<String, Entry>,
    cas_required: bool,
}

struct Entry {
    versions: BTreeMap<u64, Version>,
    current: u64,
    created: Timestamp,
    updated: Timestamp,
    custom: Value,
    max_versions: u64,
    cas_required: bool,
    delete_after: u64,
}

struct Version {
    data: Value,
    created: Timestamp,
    deleted: Option<Timestamp>,
    destroyed: bool,
}

impl Store {
    pub(crate) fn answer(&mut self, call: &Call<'_>, path: &str, counted: &mut Counted) -> Outcome {
        if path == "config" {
            return self.config(call);
        }
        // Listings come with or without a slash at their end.
        let (part, key) = path.split_once('/').unwrap_or((path, ""));
        match (part, call.verb) {
            ("data", Verb::Read) => self.read(call, key, counted),
            ("data", Verb::Write) => self.write(call, key),
            ("data", Verb::Patch) => self.patch(call, key),
            ("data", Verb::Delete) => {
                let current = self.entries.get(key).map_or(0, |entry| entry.current);
                self.delete(key, &[current], call.now)
            }
            ("subkeys", Verb::Read) => self.subkeys(call, key),
            ("delete", Verb::Write) => self.delete(key, &numbers(&call.body), call.now),
            ("undelete", Verb::Write) => self.change(key, &numbers(&call.body), |version| {
                version.deleted = None;
            }),
            ("destroy", Verb::Write | Verb::Patch) => {
                self.change(key, &numbers(&call.body), |version| {
                    version.destroyed = true;
                    version.data = Value::Null;
                })
            }
            ("metadata", Verb::List) => list(self.entries.keys(), key),
            ("metadata", Verb::Read) => match self.entries.get(key) {
                Some(entry) => Ok(Answer::data(entry.metadata())),
                None => refuse(404, &[]),
            },
            ("metadata", Verb::Write) => self.set_metadata(call, key),
            ("metadata", Verb::Delete) => {
                self.entries.remove(key);
                none()
            }
            ("data" | "metadata" | "subkeys" | "delete" | "undelete" | "destroy", _) => {
                unsupported()
            }
            _ => invalid_path(),
        }
    }

    fn read(&self, call: &Call<'_>, key: &str, counted: &mut Counted) -> Outcome {
        let (number, version, custom) = self.version(call, key)?;
        let metadata = version.metadata(number, custom);
        if !version.readable(call.now) {
            let answer = Answer::data(json!({"data": null, "metadata": metadata}));
            return Err(Answer {
                status: 404,
                ..answer
            });
        }
        counted.values += 1;
        Ok(Answer::data(
            json!({"data": version.data, "metadata": metadata}),
        ))
    }

    fn subkeys(&self, call: &Call<'_>, key: &str) -> Outcome {
        let (number, version, custom) = self.version(call, key)?;
        let metadata = version.metadata(number, custom);
        if !version.readable(call.now) {
            let answer = Answer::data(json!({"subkeys": null, "metadata": metadata}));
            return Err(Answer {
                status: 404,
                ..answer
            });
        }
        Ok(Answer::data(
            json!({"subkeys": without_values(&version.data), "metadata": metadata}),
        ))
    }

    fn version(&self, call: &Call<'_>, key: &str) -> Result<(u64, &Version, &Value), Answer> {
        let missing = || Answer::errors(404, &[]);
        let entry = self.entries.get(key).ok_or_else(missing)?;
        let asked = match call.query("version") {
            None | Some("" | "0") => entry.current,
            Some(text) => text
                .parse()
                .map_err(|_| Answer::errors(400, &["invalid version"]))?,
        };
        let version = entry.versions.get(&asked).ok_or_else(missing)?;
        Ok((asked, version, &entry.custom))
    }

    fn write(&mut self, call: &Call<'_>, key: &str) -> Outcome {
        let Some(data @ Value::Object(_)) = call.body.get("data") else {
            return refuse(400, &["no data provided"]);
        };
        let cas = call.body.pointer("/options/cas").and_then(seconds);
        let now = call.now;
        let required = self.cas_required;
        let current = self.entries.get(key).map_or(0, |entry| entry.current);
        let must = required || self.entries.get(key).is_some_and(|e| e.cas_required);
        match cas {
            None if must => {
                return refuse(400, &["check-and-set parameter required for this call"]);
            }
            Some(cas) if cas != current => {
                return refuse(
                    400,
                    &["check-and-set parameter did not match the current version"],
                );
            }
            _ => {}
        }
        let data = data.clone();
        let entry = self.entry(key, now);
        Ok(Answer::data(entry.push(data, now)))
    }

    fn patch(&mut self, call: &Call<'_>, key: &str) -> Outcome {
        let now = call.now;
        let Some(entry) = self.entries.get_mut(key) else {
            return refuse(404, &[]);
        };
        if let Some(cas) = call.body.pointer("/options/cas").and_then(seconds)
            && cas != entry.current
        {
            return refuse(
                400,
                &["check-and-set parameter did not match the current version"],
            );
        }
        let Some(latest) = entry.versions.get(&entry.current) else {
            return refuse(404, &[]);
        };
        if !latest.readable(now) {
            return refuse(404, &[]);
        }
        let mut data = latest.data.clone();
        merge(&mut data, call.body.get("data").unwrap_or(&Value::Null));
        Ok(Answer::data(entry.push(data, now)))
    }

    fn delete(&mut self, key: &str, numbers: &[u64], now: Timestamp) -> Outcome {
        self.change(key, numbers, |version| {
            version.deleted.get_or_insert(now);
        })
    }

    fn change(
        &mut self,
        key: &str,
        numbers: &[u64],
        mut change: impl FnMut(&mut Version),
    ) -> Outcome {
        if let Some(entry) = self.entries.get_mut(key) {
            for number in numbers {
                if let Some(version) = entry.versions.get_mut(number) {
                    change(version);
                }
            }
        }
        none()
    }

    fn set_metadata(&mut self, call: &Call<'_>, key: &str) -> Outcome {
        let entry = self.entry(key, call.now);
        if let Some(custom) = call.body.get("custom_metadata") {
            entry.custom = custom.clone();
        }
        if let Some(max) = call.body.get("max_versions").and_then(seconds) {
            entry.max_versions = max;
        }
        if let Some(required) = call.body.get("cas_required").and_then(Value::as_bool) {
            entry.cas_required = required;
        }
        if let Some(delete_after) = call.body.get("delete_version_after").and_then(seconds) {
            entry.delete_after = delete_after;
        }
        none()
    }

    fn config(&mut self, call: &Call<'_>) -> Outcome {
        match call.verb {
            Verb::Read => Ok(Answer::data(json!({
                "cas_required": self.cas_required,
                "delete_version_after": "0s",
                "max_versions": 0,
            }))),
            Verb::Write => {
                let required = call.body.get("cas_required").and_then(Value::as_bool);
                self.cas_required = required.unwrap_or(self.cas_required);
                none()
            }
            _ => unsupported(),
        }
    }

    fn entry(&mut self, key: &str, now: Timestamp) -> &mut Entry {
        self.entries.entry(key.to_owned()).or_insert_with(|| Entry {
            versions: BTreeMap::new(),
            current: 0,
            created: now,
            updated: now,
            custom: Value::Null,
            max_versions: 0,
            cas_required: false,
            delete_after: 0,
        })
    }
}

impl Entry {
    /// Adds a version and gives its metadata.
    fn push(&mut self, data: Value, now: Timestamp) -> Value {
        self.current += 1;
        self.updated = now;
        let version = Version {
            data,
            created: now,
            deleted: (self.delete_after > 0).then(|| after(now, self.delete_after)),
            destroyed: false,
        };
        let metadata = version.metadata(self.current, &self.custom);
        self.versions.insert(self.current, version);
        let max = if self.max_versions == 0 {
            DEFAULT_VERSIONS
        } else {
            self.max_versions
        };
        let current = self.current;
        self.versions.retain(|number, _| number + max > current);
        metadata
    }

    fn metadata(&self) -> Value {
        let versions: Map<String, Value> = self
            .versions
            .iter()
            .map(|(number, version)| (number.to_string(), version.times()))
            .collect();
        json!({
            "cas_required": self.cas_required,
            "created_time": self.created.to_string(),
            "current_version": self.current,
            "custom_metadata": self.custom,
            "delete_version_after": format!("{}s", self.delete_after),
            "max_versions": self.max_versions,
            "oldest_version": self.versions.keys().next().copied().unwrap_or(0),
            "updated_time": self.updated.to_string(),
            "versions": versions,
        })
    }
}

impl Version {
    fn readable(&self, now: Timestamp) -> bool {
        !self.destroyed && self.deleted.is_none_or(|at| at > now)
    }

    fn times(&self) -> Value {
        json!({
            "created_time": self.created.to_string(),
            "deletion_time": self.deleted.map(|at| at.to_string()).unwrap_or_default(),
            "destroyed": self.destroyed,
        })
    }

    fn metadata(&self, number: u64, custom: &Value) -> Value {
        let mut metadata = self.times();
        metadata["version"] = number.into();
        metadata["custom_metadata"] = custom.clone();
        metadata
    }
}

fn numbers(body: &Value) -> Vec<u64> {
    let listed = body.get("versions").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(seconds).collect()
}

fn without_values(data: &Value) -> Value {
    match data {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), without_values(value)))
            .collect::<Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    if let Value::Object(target) = into {
        for (name, value) in members {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

fn invalid_path() -> Outcome {
    let text = "Invalid path for a versioned K/V secrets engine. See the API docs for the \
                appropriate API endpoints to use.";
    Err(Answer::of(404, json!({"errors": [], "warnings": [text]})))
}

const DEFAULT_VERSIONS: u64 = 10;
