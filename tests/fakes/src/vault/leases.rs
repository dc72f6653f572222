//! Leases: children of the token that they were made with.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, InAnswer, Outcome, none, refuse, unsupported};
use super::{Call, Event, Vault, Verb, after, seconds, seconds_until};

pub(crate) struct Lease {
    pub(crate) token: String,
    pub(crate) mount: String,
    pub(crate) role: String,
    pub(crate) username: String,
    pub(crate) issued: Timestamp,
    pub(crate) renewed: Option<Timestamp>,
    pub(crate) expires: Timestamp,
    pub(crate) max: Timestamp,
    pub(crate) renewable: bool,
}

impl Vault {
    /// How many leases are alive.
    #[must_use]
    pub fn live_leases(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn leases(&mut self, call: &Call<'_>, rest: &[&str]) -> Outcome {
        let now = call.now;
        let id = call.text("lease_id").to_owned();
        if id.is_empty() && matches!(rest, ["renew" | "lookup" | "revoke"]) {
            return refuse(400, &["lease_id must be specified"]);
        }
        match (call.verb, rest) {
            (Verb::Write, ["renew"]) => self.renew(call, &id),
            (Verb::Write, ["revoke"]) => {
                let ended = self.leases.remove(&id);
                if let Some(lease) = ended {
                    self.remove_user(&lease);
                }
                match call.body.get("sync").and_then(Value::as_bool) {
                    Some(true) => none(),
                    _ => Ok(Answer::empty(202)),
                }
            }
            (Verb::Write, ["lookup"]) => match self.leases.get(&id) {
                Some(lease) => Ok(Answer::data(json!({
                    "id": id,
                    "issue_time": lease.issued.to_string(),
                    "expire_time": lease.expires.to_string(),
                    "last_renewal": lease.renewed.map(|at| at.to_string()),
                    "renewable": lease.renewable,
                    "ttl": seconds_until(lease.expires, now),
                }))),
                None => refuse(400, &["invalid lease"]),
            },
            (Verb::Write, ["revoke-prefix", prefix @ ..]) => {
                let prefix = prefix.join("/");
                self.end_where(|id, _| id.starts_with(&prefix));
                none()
            }
            _ => unsupported(),
        }
    }

    fn renew(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        let now = call.now;
        let Some(lease) = self.leases.get_mut(id) else {
            return refuse(400, &["lease not found"]);
        };
        if !lease.renewable {
            return refuse(400, &["lease is not renewable"]);
        }
        let asked = call.body.get("increment").and_then(seconds).unwrap_or(0);
        let wanted = after(now, if asked == 0 { 3600 } else { asked });
        let mut warnings = Value::Null;
        if wanted > lease.max {
            let left = seconds_until(lease.max, now);
            warnings = json!([format!(
                "TTL of \"{asked}s\" exceeded the effective max_ttl of \"{left}s\"; \
                 TTL value is capped accordingly"
            )]);
        }
        lease.expires = wanted.min(lease.max);
        lease.renewed = Some(now);
        let shown = InAnswer {
            id: id.to_owned(),
            seconds: seconds_until(lease.expires, now),
            renewable: true,
            warnings,
        };
        let event = Event::Renewed {
            username: lease.username.clone(),
            valid_until: lease.expires,
        };
        self.tell(event);
        Ok(Answer::leased(Value::Null, shown))
    }

    pub(super) fn expire_leases(&mut self, now: Timestamp) {
        self.end_where(|_, lease| lease.expires <= now);
    }

    pub(super) fn end_leases_of(&mut self, token: &str, now: Timestamp) {
        self.end_where(|_, lease| lease.token == token || lease.expires <= now);
    }

    fn end_where(&mut self, ends: impl Fn(&str, &Lease) -> bool) {
        let ending = self.leases.iter().filter(|(id, lease)| ends(id, lease));
        let ending: Vec<_> = ending.map(|(id, _)| id.clone()).collect();
        for id in ending {
            if let Some(lease) = self.leases.remove(&id) {
                self.remove_user(&lease);
            }
        }
    }
}
