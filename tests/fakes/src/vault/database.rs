//! Credentials that are made when they are asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, InAnswer, Outcome, none, refuse, unsupported};
use super::leases::Lease;
use super::{Call, Engine, Vault, Verb, after, random, seconds, seconds_until};

/// What the credentials of a role are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// How long they live, in seconds.
    pub ttl: u64,
    /// How long they are renewed at most, in seconds.
    pub max_ttl: u64,
    /// Whether they are renewed at all.
    pub renewable: bool,
    /// Whether they come without a lease, as from an engine that has none.
    pub leaseless: bool,
}

/// What happened to a user of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Made.
    Created {
        /// The role.
        role: String,
        /// The user.
        username: String,
        /// The user's password.
        password: String,
        /// Until when, unless it is renewed.
        valid_until: Timestamp,
    },
    /// Renewed.
    Renewed {
        /// The user.
        username: String,
        /// Until when.
        valid_until: Timestamp,
    },
    /// Removed.
    Revoked {
        /// The role.
        role: String,
        /// The user.
        username: String,
    },
}

#[derive(Default)]
pub(crate) struct Database {
    roles: BTreeMap<String, Role>,
    users: BTreeMap<String, String>,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            ttl: 3600,
            max_ttl: 24 * 3600,
            renewable: true,
            leaseless: false,
        }
    }
}

impl Vault {
    /// Sets a role of the database at this mount.
    ///
    /// # Panics
    /// When there is no such engine.
    pub fn database_role(&mut self, mount: &str, name: &str, role: Role) {
        self.engine(mount).roles.insert(name.to_owned(), role);
    }

    /// Whether a user can log in at the database of this mount.
    #[must_use]
    pub fn user_works(&self, mount: &str, username: &str, password: &str) -> bool {
        match self.mounts.get(mount) {
            Some(Engine::Database(database)) => {
                database.users.get(username).is_some_and(|p| p == password)
            }
            _ => false,
        }
    }

    fn engine(&mut self, mount: &str) -> &mut Database {
        match self.mounts.get_mut(mount) {
            Some(Engine::Database(database)) => database,
            _ => panic!("no database at {mount}"),
        }
    }

    pub(super) fn database(&mut self, call: &Call<'_>, mount: &str, rest: &str) -> Outcome {
        let segments: Vec<_> = rest.trim_end_matches('/').split('/').collect();
        match (call.verb, segments.as_slice()) {
            (Verb::List, ["roles"]) => {
                let keys: Vec<_> = self.engine(mount).roles.keys().cloned().collect();
                match keys.is_empty() {
                    true => refuse(404, &[]),
                    false => Ok(Answer::data(json!({"keys": keys}))),
                }
            }
            (Verb::Write, ["roles", name]) => {
                let option = |name: &str| call.body.get(name).and_then(seconds);
                let role = Role::default();
                let role = Role {
                    ttl: option("default_ttl").unwrap_or(role.ttl),
                    max_ttl: option("max_ttl").unwrap_or(role.max_ttl),
                    ..role
                };
                self.database_role(mount, name, role);
                none()
            }
            (Verb::Read, ["creds", name]) => self.mint(call, mount, name),
            _ => unsupported(),
        }
    }

    fn mint(&mut self, call: &Call<'_>, mount: &str, name: &str) -> Outcome {
        let now = call.now;
        let Some(role) = self.engine(mount).roles.get(name).cloned() else {
            return refuse(400, &[&format!("unknown role: {name}")]);
        };
        let username = format!("v-approle-{name}-{}", random(10));
        let password = format!("A1a-{}", random(12));
        let database = self.engine(mount);
        database.users.insert(username.clone(), password.clone());
        self.counted.minted += 1;
        self.counted.values += 1;
        let expires = after(now, role.ttl);
        self.tell(Event::Created {
            role: name.to_owned(),
            username: username.clone(),
            password: password.clone(),
            valid_until: expires,
        });
        let data = json!({"username": username, "password": password});
        if role.leaseless {
            return Ok(Answer::data(data));
        }
        let id = format!("{mount}/creds/{name}/{}", random(12));
        let lease = Lease {
            token: call.token.clone().unwrap_or_default(),
            mount: mount.to_owned(),
            role: name.to_owned(),
            username,
            issued: now,
            renewed: None,
            expires,
            max: after(now, role.max_ttl),
            renewable: role.renewable,
        };
        let shown = InAnswer {
            id: id.clone(),
            seconds: seconds_until(lease.expires, now),
            renewable: lease.renewable,
            warnings: Value::Null,
        };
        self.leases.insert(id, lease);
        Ok(Answer::leased(data, shown))
    }

    pub(super) fn remove_user(&mut self, lease: &Lease) {
        self.engine(&lease.mount).users.remove(&lease.username);
        self.tell(Event::Revoked {
            role: lease.role.clone(),
            username: lease.username.clone(),
        });
    }

    pub(super) fn tell(&mut self, event: Event) {
        if let Some(hook) = &mut self.hook {
            hook(event);
        }
    }
}
