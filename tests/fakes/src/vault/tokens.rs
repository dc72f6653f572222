//! Tokens: their time to live, their children.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, none, refuse, unsupported};
use super::{Call, Vault, Verb, after, random, seconds, seconds_until};

/// What a token is made with.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// Its policies; `root` may do everything.
    pub policies: Vec<String>,
    /// The namespace it is of.
    pub namespace: String,
    /// Its time to live in seconds; none ends never.
    pub ttl: Option<u64>,
    /// Its period in seconds: renewals reach so far, for ever.
    pub period: Option<u64>,
    /// How long it may be renewed at most, in seconds from now.
    pub max_ttl: Option<u64>,
    /// One that is not kept: no accessor, no renewal.
    pub batch: bool,
    /// The token that it ends with.
    pub parent: Option<String>,
    /// Where it was made.
    pub path: String,
    /// What the login said of it.
    pub metadata: Value,
}

pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) accessor: String,
    pub(crate) policies: Vec<String>,
    pub(crate) namespace: String,
    issued: Timestamp,
    expires: Option<Timestamp>,
    max: Option<Timestamp>,
    new: NewToken,
}

#[derive(Default)]
pub(crate) struct Tokens(BTreeMap<String, Token>);

impl Tokens {
    pub(crate) fn get(&self, id: &str) -> Option<&Token> {
        self.0.get(id)
    }

    pub(crate) fn create(&mut self, new: NewToken, now: Timestamp) -> &Token {
        let id = match new.batch {
            true => format!("hvb.{}", random(60)),
            false => format!("hvs.{}", random(24)),
        };
        let max = new.max_ttl.map(|seconds| after(now, seconds));
        let end = new.period.or(new.ttl).map(|seconds| after(now, seconds));
        let token = Token {
            accessor: if new.batch { String::new() } else { random(12) },
            policies: new.policies.clone(),
            namespace: new.namespace.clone(),
            issued: now,
            expires: earlier(end, max),
            max,
            id: id.clone(),
            new,
        };
        self.0.entry(id).or_insert(token)
    }

    /// Ends a token and its children; gives their ids.
    fn end(&mut self, id: &str) -> Vec<String> {
        let mut ended = Vec::new();
        let mut open = vec![id.to_owned()];
        while let Some(id) = open.pop() {
            let children = self.0.values().filter(|token| {
                let parent = token.new.parent.as_deref();
                parent == Some(&id)
            });
            open.extend(children.map(|token| token.id.clone()));
            if self.0.remove(&id).is_some() {
                ended.push(id);
            }
        }
        ended
    }

    fn expired(&self, now: Timestamp) -> Vec<String> {
        let of = |token: &&Token| token.expires.is_some_and(|end| end <= now);
        self.0
            .values()
            .filter(of)
            .map(|token| token.id.clone())
            .collect()
    }
}

impl Token {
    fn renewable(&self) -> bool {
        !self.new.batch && self.expires.is_some()
    }

    fn ttl(&self, now: Timestamp) -> u64 {
        self.expires.map_or(0, |end| seconds_until(end, now))
    }

    /// The `auth` of an answer.
    pub(crate) fn auth(&self, now: Timestamp) -> Value {
        json!({
            "client_token": self.id,
            "accessor": self.accessor,
            "policies": self.shown(),
            "token_policies": self.shown(),
            "metadata": self.new.metadata,
            "lease_duration": self.ttl(now),
            "renewable": self.renewable(),
            "entity_id": "",
            "token_type": if self.new.batch { "batch" } else { "service" },
            "orphan": self.new.parent.is_none(),
            "mfa_requirement": null,
            "num_uses": 0,
        })
    }

    fn lookup(&self, now: Timestamp) -> Value {
        let mut data = json!({
            "accessor": self.accessor,
            "creation_time": self.issued.as_second(),
            "creation_ttl": self.new.period.or(self.new.ttl).unwrap_or(0),
            "display_name": "stand-in",
            "entity_id": "",
            "expire_time": self.expires.map(|end| end.to_string()),
            "explicit_max_ttl": 0,
            "id": self.id,
            "issue_time": self.issued.to_string(),
            "meta": self.new.metadata,
            "num_uses": 0,
            "orphan": self.new.parent.is_none(),
            "path": self.new.path,
            "policies": self.shown(),
            "renewable": self.renewable(),
            "ttl": self.ttl(now),
            "type": if self.new.batch { "batch" } else { "service" },
        });
        if let Some(period) = self.new.period {
            data["period"] = period.into();
        }
        data
    }

    fn shown(&self) -> Vec<String> {
        let mut policies = self.policies.clone();
        if !policies.iter().any(|name| name == "root") {
            policies.insert(0, "default".into());
        }
        policies
    }
}

impl Vault {
    /// Ends what has come to its end by now.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for id in self.tokens.expired(now) {
            self.end_token(&id, now);
        }
        self.expire_leases(now);
    }

    /// Ends every token but the root's, and their leases.
    pub fn end_tokens(&mut self, now: Timestamp) {
        let all: Vec<_> = self.tokens.0.keys().cloned().collect();
        for id in all {
            if id != self.root {
                self.end_token(&id, now);
            }
        }
    }

    fn end_token(&mut self, id: &str, now: Timestamp) {
        for ended in self.tokens.end(id) {
            self.end_leases_of(&ended, now);
        }
    }

    pub(super) fn token_api(&mut self, call: &Call<'_>, rest: &[&str]) -> Outcome {
        let id = call.token.clone().unwrap_or_default();
        let now = call.now;
        match (call.verb, rest) {
            (Verb::Read, ["lookup-self"]) => match self.tokens.get(&id) {
                Some(token) => Ok(Answer::data(token.lookup(now))),
                None => refuse(403, &["bad token"]),
            },
            (Verb::Write, ["renew-self"]) => {
                let increment = call.body.get("increment").and_then(seconds);
                self.counted.token_renewals += 1;
                let Some(token) = self.tokens.0.get_mut(&id).filter(|t| t.renewable()) else {
                    return refuse(400, &["lease is not renewable"]);
                };
                let ttl = token.new.period.or(increment).or(token.new.ttl);
                let end = ttl.map(|seconds| after(now, seconds));
                token.expires = earlier(end, token.max);
                Ok(Answer::auth(token.auth(now)))
            }
            (Verb::Write, ["revoke-self"]) => {
                self.end_token(&id, now);
                none()
            }
            (Verb::Write, ["create" | "create-orphan"]) => {
                let policies = call.body.get("policies").and_then(Value::as_array);
                let names = policies.into_iter().flatten().filter_map(Value::as_str);
                let option = |name: &str| call.body.get(name).and_then(seconds);
                let new = NewToken {
                    policies: names.map(str::to_owned).collect(),
                    namespace: call.namespace.clone(),
                    ttl: option("ttl").or(Some(DEFAULT_TTL)),
                    period: option("period"),
                    max_ttl: option("explicit_max_ttl"),
                    batch: call.text("type") == "batch",
                    parent: (rest == ["create"]).then_some(id),
                    path: "auth/token/create".into(),
                    metadata: Value::Null,
                };
                Ok(Answer::auth(self.tokens.create(new, now).auth(now)))
            }
            (Verb::Write, ["revoke"]) => {
                self.end_token(call.text("token"), now);
                none()
            }
            _ => unsupported(),
        }
    }
}

pub(crate) fn earlier(end: Option<Timestamp>, max: Option<Timestamp>) -> Option<Timestamp> {
    match (end, max) {
        (Some(end), Some(max)) => Some(end.min(max)),
        (end, max) => end.or(max),
    }
}

/// A token's time to live where nobody says another: 32 days.
pub(crate) const DEFAULT_TTL: u64 = 32 * 24 * 3600;
