//! The server itself: health, the seal, what is mounted.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, none, refuse, unsupported};
use super::{Call, Vault, Verb};
use crate::Request;

impl Vault {
    /// What is answered whatever state the server is in.
    pub(super) fn health(&self, path: &str, request: &Request, now: Timestamp) -> Option<Answer> {
        let asked = |name: &str| request.query(name).is_some_and(|value| value != "false");
        match path {
            "sys/health" => {
                let standby = self.standby.is_some();
                let status = match (self.sealed, standby) {
                    (true, _) => 503,
                    (false, true) if !asked("standbyok") => 429,
                    _ => 200,
                };
                Some(Answer::of(
                    status,
                    json!({
                        "initialized": true,
                        "sealed": self.sealed,
                        "standby": standby,
                        "performance_standby": false,
                        "replication_performance_mode": "disabled",
                        "replication_dr_mode": "disabled",
                        "server_time_utc": now.as_second(),
                        "version": VERSION,
                    }),
                ))
            }
            "sys/seal-status" => Some(Answer::of(200, self.seal_status())),
            _ => None,
        }
    }

    pub(super) fn sys(&mut self, call: &Call<'_>, rest: &[&str]) -> Outcome {
        match (call.verb, rest) {
            (Verb::Write, ["seal"]) => {
                self.sealed = true;
                none()
            }
            (Verb::Write, ["unseal"]) => {
                self.sealed = false;
                Ok(Answer::of(200, self.seal_status()))
            }
            (Verb::Write, ["mounts", path]) => {
                let version = call.body.pointer("/options/version");
                let version = version.and_then(Value::as_str).unwrap_or("1");
                let engine = match call.text("type") {
                    "kv-v2" => "kv2",
                    "kv" if version == "2" => "kv2",
                    "kv" => "kv1",
                    "database" => "database",
                    _ => return refuse(400, &["plugin not found in the catalog"]),
                };
                self.mount(&call.global(path), engine);
                none()
            }
            (Verb::Delete, ["mounts", path]) => {
                self.mounts.remove(&call.global(path));
                none()
            }
            _ => unsupported(),
        }
    }

    fn seal_status(&self) -> Value {
        json!({
            "type": "shamir",
            "initialized": true,
            "sealed": self.sealed,
            "t": 1,
            "n": 1,
            "progress": 0,
            "nonce": "",
            "version": VERSION,
            "build_date": "2026-01-01T00:00:00Z",
            "migration": false,
            "recovery_seal": false,
            "storage_type": "inmem",
        })
    }
}

/// What the stand-in says that it is.
const VERSION: &str = "1.20.0";
