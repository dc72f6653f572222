//! A stand-in for Vault beside a hub: it serves for as long as a test holds it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edge_secrets_fakes::vault::{AppRole, Event, Role, Rule, Vault};
use edge_secrets_fakes::{Fault, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{ORG, wait};

/// A Vault with a KV store `secret` and a database engine `database`, and the role that a hub logs in
/// with.
pub struct TestVault {
    // Before the runtime that it is served on.
    server: Server<Vault>,
    _runtime: Runtime,
    place: TempDir,
}

impl TestVault {
    /// A new one that serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::start(Vault::new()));
        let place = tempfile::Builder::new()
            .prefix("edge-secrets-vault-")
            .tempdir()
            .expect("a place");
        let now = server.clock.now();
        let (role_id, secret_id) = server.with(|vault| {
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
        let vault = Self {
            server,
            _runtime: runtime,
            place,
        };
        vault.file("ca.pem", vault.server.pki().certificate());
        vault.file("role-id", &role_id);
        vault.file("secret-id", &secret_id);
        vault
    }

    /// Puts it into a hub's configuration as `vault`, looked at every second; `paths` is what the
    /// organisation may reach.
    pub fn configure(&self, hub: &mut serde_yaml::Value, paths: &[&str]) {
        let manager = json!({
            "name": "vault",
            "orgs": { ORG: paths },
            "poll": "1s",
            "timeout": "2s",
            "requests_per_second": 500,
            "vault": {
                "address": self.server.url(),
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
            },
        });
        let manager = serde_yaml::to_value(manager).expect("YAML");
        hub["managers"] = serde_yaml::Value::Sequence(vec![manager]);
    }

    /// The server, with its clock, faults and log.
    #[must_use]
    pub fn server(&self) -> &Server<Vault> {
        &self.server
    }

    /// Sets a secret of the KV store, behind everybody's back.
    pub fn put(&self, path: &str, fields: &Value) {
        let now = self.server.clock.now();
        let path = format!("secret/data/{path}");
        let body = json!({ "data": fields });
        self.server
            .with(|vault| vault.act("POST", &path, body, now));
    }

    /// Does something as an operator of Vault.
    pub fn act(&self, method: &str, path: &str, body: &Value) -> Value {
        let now = self.server.clock.now();
        let body = body.clone();
        self.server.with(|vault| vault.act(method, path, body, now))
    }

    /// How many values it gave out, and how many credentials it made.
    #[must_use]
    pub fn counted(&self) -> (usize, usize) {
        self.server
            .with(|vault| (vault.counted.values, vault.counted.minted))
    }

    /// How many credentials live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.server.with(|vault| vault.live_leases())
    }

    /// Tells of database users.
    pub fn on_user(&self, hook: impl FnMut(Event) + Send + 'static) {
        self.server.with(|vault| vault.on_user(hook));
    }

    /// Whether a user can log in at the database.
    #[must_use]
    pub fn user_works(&self, username: &str, password: &str) -> bool {
        self.server
            .with(|vault| vault.user_works("database", username, password))
    }

    /// Everything goes wrong like this until it heals.
    pub fn suffer(&self, fault: Fault) {
        self.server.faults.always(fault);
    }

    /// Waits until it is as wanted; looks whenever the hub of this log has something to say.
    pub fn until(&self, log: &Path, what: &str, wanted: impl Fn(&Self) -> bool) {
        wait::until(log, what, || wanted(self));
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.place.path().join(name);
        fs::write(&path, content).expect("a writable place");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    }
}
