//! Logins with a role id and a secret id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, none, refuse, unsupported};
use super::tokens::DEFAULT_TTL;
use super::{AuthMethod, Call, NewToken, Vault, Verb, after, seconds, uuid};

/// What tokens of a role are like.
#[derive(Debug, Clone, Default)]
pub struct AppRole {
    /// Their policies.
    pub policies: Vec<String>,
    /// Their time to live, in seconds.
    pub ttl: Option<u64>,
    /// How long they are renewed at most, in seconds.
    pub max_ttl: Option<u64>,
    /// Their period, in seconds.
    pub period: Option<u64>,
    /// Whether they are batch tokens.
    pub batch: bool,
}

#[derive(Default)]
pub(crate) struct Roles(BTreeMap<String, Entry>);

struct Entry {
    role_id: String,
    role: AppRole,
    secret_ids: BTreeMap<String, SecretId>,
}

struct SecretId {
    accessor: String,
    /// How many logins are left; any number when absent.
    left: Option<u64>,
    expires: Option<Timestamp>,
}

impl Vault {
    /// Sets a role of the AppRole method at `auth/MOUNT`; gives its role id.
    ///
    /// # Panics
    /// When there is no such method.
    pub fn approle_role(&mut self, mount: &str, name: &str, role: AppRole) -> String {
        let role_id = uuid();
        let entry = Entry {
            role_id: role_id.clone(),
            role,
            secret_ids: BTreeMap::new(),
        };
        self.roles(mount).0.insert(name.to_owned(), entry);
        role_id
    }

    fn roles(&mut self, mount: &str) -> &mut Roles {
        match self.auths.get_mut(mount) {
            Some(AuthMethod::AppRole(roles)) => roles,
            _ => panic!("no AppRole at auth/{mount}"),
        }
    }

    pub(super) fn approle(&mut self, call: &Call<'_>, mount: &str, rest: &str) -> Outcome {
        match (call.verb, rest.split('/').collect::<Vec<_>>().as_slice()) {
            (Verb::Write, ["login"]) => self.approle_login(call, mount),
            (Verb::Write, ["role", name]) => {
                let option = |name: &str| call.body.get(name).and_then(seconds);
                let policies = call.body.get("token_policies");
                let names = policies.and_then(Value::as_array).into_iter().flatten();
                let role = AppRole {
                    policies: names.filter_map(Value::as_str).map(str::to_owned).collect(),
                    ttl: option("token_ttl"),
                    max_ttl: option("token_max_ttl"),
                    period: option("token_period"),
                    batch: call.text("token_type") == "batch",
                };
                self.approle_role(mount, name, role);
                none()
            }
            (Verb::Read, ["role", name, "role-id"]) => match self.roles(mount).0.get(*name) {
                Some(entry) => Ok(Answer::data(json!({"role_id": entry.role_id}))),
                None => refuse(404, &[]),
            },
            (Verb::Write, ["role", name, "secret-id"]) => {
                let now = call.now;
                let ttl = call.body.get("ttl").and_then(seconds).unwrap_or(0);
                let uses = call.body.get("num_uses").and_then(seconds).unwrap_or(0);
                let Some(entry) = self.roles(mount).0.get_mut(*name) else {
                    return refuse(404, &[]);
                };
                let (id, accessor) = (uuid(), uuid());
                let secret_id = SecretId {
                    accessor: accessor.clone(),
                    left: (uses > 0).then_some(uses),
                    expires: (ttl > 0).then(|| after(now, ttl)),
                };
                entry.secret_ids.insert(id.clone(), secret_id);
                Ok(Answer::data(json!({
                    "secret_id": id,
                    "secret_id_accessor": accessor,
                    "secret_id_ttl": ttl,
                    "secret_id_num_uses": uses,
                })))
            }
            (Verb::List, ["role", name, "secret-id"]) => {
                let Some(entry) = self.roles(mount).0.get(*name) else {
                    return refuse(404, &[]);
                };
                let ids = entry.secret_ids.values();
                let keys: Vec<_> = ids.map(|id| id.accessor.clone()).collect();
                Ok(Answer::data(json!({"keys": keys})))
            }
            _ => unsupported(),
        }
    }

    fn approle_login(&mut self, call: &Call<'_>, mount: &str) -> Outcome {
        let (role_id, secret_id) = (call.text("role_id"), call.text("secret_id"));
        let now = call.now;
        let roles = self.roles(mount);
        let named = roles.0.iter_mut().find(|(_, e)| e.role_id == role_id);
        let login = named.and_then(|(name, entry)| {
            let id = entry.secret_ids.get_mut(secret_id)?;
            if id.expires.is_some_and(|end| end <= now) {
                return None;
            }
            if let Some(left) = &mut id.left {
                *left -= 1;
                if *left == 0 {
                    entry.secret_ids.remove(secret_id);
                }
            }
            Some((name.clone(), entry.role.clone()))
        });
        let Some((name, role)) = login else {
            self.counted.refused_logins += 1;
            return refuse(400, &["invalid role or secret ID"]);
        };
        self.counted.logins += 1;
        let new = NewToken {
            policies: role.policies,
            namespace: call.namespace.clone(),
            ttl: role.ttl.or(Some(DEFAULT_TTL)),
            period: role.period,
            max_ttl: role.max_ttl,
            batch: role.batch,
            parent: None,
            path: format!("auth/{mount}/login"),
            metadata: json!({"role_name": name}),
        };
        Ok(Answer::auth(self.tokens.create(new, now).auth(now)))
    }
}
