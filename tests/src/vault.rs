//! A stand-in for Vault beside a hub.

use edge_secrets_fakes::vault::{AppRole, Event, Role, Rule, Vault};
use serde_json::{Value, json};

use crate::stand_in::StandIn;

/// A Vault with a KV store `secret` and a database engine `database`, and the role that a hub logs in
/// with.
pub type TestVault = StandIn<Vault>;

impl StandIn<Vault> {
    /// A new one that serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        let vault = Self::serve(Vault::new());
        let now = vault.now();
        let (role_id, secret_id) = vault.with(|vault| {
            vault.mount("database", "database");
            vault.mount("openhorizon", "kv2");
            vault.database_role("database", "app", Role::default());
            let rules = [
                Rule::new("secret/data/*", "create,read,update"),
                Rule::new("secret/metadata/*", "read,list"),
                Rule::new("openhorizon/data/*", "read"),
                Rule::new("openhorizon/metadata/*", "read,list"),
                Rule::new("database/creds/*", "read"),
                Rule::new("database/roles/*", "read,list"),
                Rule::new("sys/leases/*", "update"),
            ];
            vault.policy("hub", &rules);
            let role = AppRole {
                policies: vec!["hub".into()],
                period: Some(3600),
                ..AppRole::default()
            };
            let role_id = vault.approle_role("approle", "hub", role);
            let path = "auth/approle/role/hub/secret-id";
            let made = vault.act("POST", path, json!({}), now);
            let secret_id = made.pointer("/data/secret_id").and_then(Value::as_str);
            (role_id, secret_id.expect("a secret id").to_owned())
        });
        vault.file("role-id", &role_id);
        vault.file("secret-id", &secret_id);
        vault
    }

    /// Puts it into a hub's configuration as `vault`; `paths` is what the organisation may reach.
    pub fn configure(&self, hub: &mut serde_yaml::Value, paths: &[&str]) {
        let settings = json!({
            "address": self.server().url(),
            "ca_file": self.path("ca.pem"),
            "auth": { "approle": {
                "role_id": self.path("role-id"),
                "secret_id": self.path("secret-id"),
            } },
            "mounts": [
                { "path": "secret", "type": "kv2" },
                { "path": "database", "type": "dynamic" },
            ],
            "write": true,
        });
        self.enlist(hub, ("vault", "vault"), paths, &settings);
    }

    /// Sets a secret of the KV store, behind everybody's back.
    pub fn put(&self, path: &str, fields: &Value) {
        let path = format!("secret/data/{path}");
        self.act("POST", &path, &json!({ "data": fields }));
    }

    /// Does something as an operator of Vault.
    pub fn act(&self, method: &str, path: &str, body: &Value) -> Value {
        let (now, body) = (self.now(), body.clone());
        self.with(|vault| vault.act(method, path, body, now))
    }

    /// How many values it gave out, and how many credentials it made.
    #[must_use]
    pub fn counted(&self) -> (usize, usize) {
        self.with(|vault| (vault.counted.values, vault.counted.minted))
    }

    /// How many credentials live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.with(|vault| vault.live_leases())
    }

    /// Tells of database users.
    pub fn on_user(&self, hook: impl FnMut(Event) + Send + 'static) {
        self.with(|vault| vault.on_user(hook));
    }

    /// Whether a user can log in at the database.
    #[must_use]
    pub fn user_works(&self, username: &str, password: &str) -> bool {
        self.with(|vault| vault.user_works("database", username, password))
    }
}
