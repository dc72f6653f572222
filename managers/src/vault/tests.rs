mod config;
mod contract;
mod errors;
mod kv;
mod leases;
mod login;
mod world;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_secrets_fakes::Server;
use edge_secrets_fakes::vault::{AppRole, Role, Rule, Vault as Fake};
use edge_secrets_protocol::{Fields, OrgId, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::conformance::PATIENCE;
use crate::session::InMemory;

/// A stand-in with a KV of each version and a database, a role for the hub, and a place for its files.
struct Bench {
    server: Server<Fake>,
    dir: TempDir,
    kept: Arc<InMemory>,
    /// Seconds that the hub's clock is ahead.
    ahead: Arc<AtomicU64>,
}

impl Bench {
    async fn new() -> Self {
        Self::with_role(AppRole {
            policies: vec!["hub".into()],
            period: Some(3600),
            ..AppRole::default()
        })
        .await
    }

    async fn with_role(role: AppRole) -> Self {
        let bench = Self {
            server: Server::start(Fake::new()).await,
            dir: tempfile::tempdir().unwrap(),
            kept: Arc::default(),
            ahead: Arc::default(),
        };
        let role_id = bench.server.with(|fake| {
            fake.mount("kv1", "kv1");
            fake.mount("database", "database");
            fake.database_role("database", "app", Role::default());
            fake.policy(
                "hub",
                &[
                    Rule::new("secret/data/*", "read,create,update"),
                    Rule::new("secret/metadata/*", "read,list"),
                    Rule::new("secret/data/forbidden/*", "deny"),
                    Rule::new("secret/metadata/forbidden/*", "deny"),
                    Rule::new("kv1/*", "read,list,create"),
                    Rule::new("database/creds/*", "read"),
                    Rule::new("database/roles", "list"),
                    Rule::new("sys/leases/revoke", "update"),
                    Rule::new("nowhere/*", "read,list"),
                ],
            );
            fake.approle_role("approle", "hub", role)
        });
        let made = bench.act("POST", "auth/approle/role/hub/secret-id", json!({}));
        let secret_id = made.pointer("/data/secret_id").and_then(Value::as_str);
        bench.file("role-id", &role_id);
        bench.file("secret-id", secret_id.unwrap());
        bench.file("ca.pem", bench.server.pki().certificate());
        bench
    }

    /// Writes a file that only its owner reads.
    fn file(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn act(&self, method: &str, path: &str, body: Value) -> Value {
        let now = self.server.clock.now();
        self.server.with(|fake| fake.act(method, path, body, now))
    }

    /// The configuration that `hub.yaml` would have, with more of it at its end.
    fn config(&self, more: &str) -> VaultConfig {
        let auth = "auth: {approle: {role_id: role-id, secret_id: secret-id}}";
        self.config_with(auth, more)
    }

    fn config_with(&self, auth: &str, more: &str) -> VaultConfig {
        let mounts = match more.contains("mounts:") {
            true => "",
            false => MOUNTS,
        };
        let yaml = format!(
            "address: {}\nca_file: ca.pem\n{auth}\n{mounts}\n{more}\n",
            self.server.url()
        );
        let config: VaultConfig = serde_yaml::from_str(&yaml).unwrap();
        config.based_on(self.dir.path())
    }

    /// A hub, as after a restart.
    fn hub(&self, config: &VaultConfig) -> Vault {
        let ahead = Arc::clone(&self.ahead);
        let clock =
            Arc::new(move || Instant::now() + Duration::from_secs(ahead.load(Ordering::SeqCst)));
        let kept = Arc::clone(&self.kept);
        Vault::with_clock(config, PATIENCE, kept, clock).unwrap()
    }

    fn vault(&self) -> Vault {
        self.hub(&self.config(""))
    }

    /// Turns both clocks.
    fn advance(&self, by: Duration) {
        self.server.clock.advance(by);
        self.ahead.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    fn counted(&self) -> edge_secrets_fakes::vault::Counted {
        self.server.with(|fake| fake.counted)
    }
}

fn org() -> OrgId {
    "myorg".parse().unwrap()
}

async fn describe(vault: &Vault, reference: &str) -> Result<Description, ManagerError> {
    let (org, reference) = (org(), reference.parse().unwrap());
    vault.describe(target(&org, &reference)).await
}

async fn read(vault: &Vault, reference: &str, version: &str) -> Result<Secret, ManagerError> {
    let (org, reference) = (org(), reference.parse().unwrap());
    let version = version.parse().unwrap();
    vault.read(target(&org, &reference), &version).await
}

async fn mint(vault: &Vault, reference: &str) -> Result<Minted, ManagerError> {
    let (org, reference) = (org(), reference.parse().unwrap());
    vault.mint(target(&org, &reference)).await
}

fn target<'a>(org: &'a OrgId, reference: &'a SecretRef) -> Target<'a> {
    Target { org, reference }
}

/// A field's text.
fn field(payload: &Secret, name: &str) -> String {
    let fields = Fields::decode(payload.expose()).unwrap();
    let mut shown = fields.expose();
    let (_, value) = shown.find(|(found, _)| *found == name).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

fn fault<T>(result: Result<T, ManagerError>) -> Fault {
    match result {
        Ok(_) => panic!("it went well"),
        Err(error) => error.fault,
    }
}

const MOUNTS: &str = "mounts: [{path: secret, type: kv2}, {path: kv1, type: kv1}, \
                      {path: database, type: dynamic}, {path: nowhere, type: kv2}]";
