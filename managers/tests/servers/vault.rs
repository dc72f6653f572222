//! A real Vault or OpenBao: `VAULT_ADDR`, a `VAULT_TOKEN` that may mount engines, and if need be
//! `VAULT_CACERT` and `VAULT_NAMESPACE`. It gets a KV mount of its own, which is removed afterwards.
//! Where `VAULT_POSTGRES` names a PostgreSQL as the server reaches it, with a user that may make roles
//! (`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`), the same with a database mount, and leases too.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use edge_secrets_managers::conformance::{self, CANARY, Trouble, World};
use edge_secrets_managers::http::{HttpClient, HttpConfig, Request};
use edge_secrets_managers::route::at;
use edge_secrets_managers::session::InMemory;
use edge_secrets_managers::vault::{Vault, VaultConfig};
use edge_secrets_managers::{Effect, Kind, SecretManager, SecretRef};
use edge_secrets_protocol::Secret;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn conforms() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Arc::new(Server::new());
    let suite = async {
        server.mount().await;
        conformance::run(async || Real::new(Arc::clone(&server)).await).await;
    };
    let passed = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(suite)));
    // Whether it passed or not, nothing is left behind.
    runtime.block_on(server.unmount());
    if let Err(why) = passed {
        panic::resume_unwind(why);
    }
}

/// The server, as its operator.
struct Server {
    http: HttpClient,
    token: Secret,
    namespace: Option<String>,
    ca_file: Option<String>,
    mount: String,
    /// Where users of a database are made.
    database: Option<String>,
    dir: TempDir,
    worlds: AtomicUsize,
}

impl Server {
    fn new() -> Self {
        let ca_file = env::var("VAULT_CACERT").ok();
        let http = HttpClient::new(&HttpConfig {
            base: env::var("VAULT_ADDR").unwrap().parse().unwrap(),
            ca_file: ca_file.clone().map(Into::into),
            identity: None,
            timeout: Duration::from_secs(10),
        });
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let token = env::var("VAULT_TOKEN").unwrap();
        let mount = format!("edge-secrets-test-{}", HEXLOWER.encode(&random));
        let postgres = env::var_os("VAULT_POSTGRES");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, &token).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        Self {
            http: http.unwrap(),
            token: Secret::new(token.into_bytes()),
            namespace: env::var("VAULT_NAMESPACE").ok(),
            ca_file,
            database: postgres.map(|_| format!("{mount}-database")),
            mount,
            dir,
            worlds: AtomicUsize::new(0),
        }
    }

    async fn mount(&self) {
        let path = format!("sys/mounts/{}", self.mount);
        let body = json!({"type": "kv", "options": {"version": "2"}});
        let status = self.ask(Method::POST, &path, &body).await;
        assert!((200..300).contains(&status), "no mount: status {status}");
        let Some(database) = &self.database else {
            return;
        };
        let url = env::var("VAULT_POSTGRES").unwrap();
        for (path, body) in [
            (
                format!("sys/mounts/{database}"),
                json!({"type": "database"}),
            ),
            (
                format!("{database}/config/own"),
                json!({
                    "plugin_name": "postgresql-database-plugin",
                    "allowed_roles": ["app"],
                    "connection_url": url,
                }),
            ),
            (
                format!("{database}/roles/app"),
                json!({
                    "db_name": "own",
                    "creation_statements": [
                        "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"
                    ],
                    "default_ttl": "1h",
                    "max_ttl": "2h",
                }),
            ),
        ] {
            let status = self.ask(Method::POST, &path, &body).await;
            assert!((200..300).contains(&status), "{path}: status {status}");
        }
    }

    async fn unmount(&self) {
        for mount in [Some(&self.mount), self.database.as_ref()]
            .into_iter()
            .flatten()
        {
            let path = format!("sys/mounts/{mount}");
            let status = self.ask(Method::DELETE, &path, &Value::Null).await;
            assert!((200..300).contains(&status), "{mount} stays: {status}");
        }
    }

    async fn put(&self, path: &str, value: &str) {
        let path = format!("{}/data/{path}", self.mount);
        let body = json!({"data": {"key": "basicauth", "value": value}});
        // A new mount makes itself ready for a moment, and says no when: it answers with 400.
        for _ in 0..50 {
            if self.ask(Method::POST, &path, &body).await == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} cannot be written");
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> u16 {
        let mut request = Request::new(method, at("/v1/{*path}", &[path]))
            .credential(HeaderName::from_static("x-vault-token"), "", &self.token)
            .unwrap()
            .header(
                HeaderName::from_static("x-vault-request"),
                HeaderValue::from_static("true"),
            );
        if let Some(namespace) = &self.namespace {
            let name = HeaderName::from_static("x-vault-namespace");
            request = request.header(name, HeaderValue::from_str(namespace).unwrap());
        }
        if !body.is_null() {
            let body = Secret::new(body.to_string().into_bytes());
            request = request.body("application/json", body);
        }
        self.http.send(request).await.unwrap().status
    }
}

/// A folder of the mount.
struct Real {
    server: Arc<Server>,
    folder: String,
    vault: Arc<Vault>,
}

impl Real {
    async fn new(server: Arc<Server>) -> Self {
        let folder = format!("w{}", server.worlds.fetch_add(1, Ordering::SeqCst));
        server.put(&format!("{folder}/team/db"), CANARY).await;
        let mut config = json!({
            "address": server.http.base().to_string(),
            "auth": {"token": server.dir.path().join("token")},
            "mounts": [{"path": server.mount, "type": "kv2", "root": folder}],
        });
        if let Some(database) = &server.database {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"path": database, "type": "dynamic"}));
        }
        if let Some(ca_file) = &server.ca_file {
            config["ca_file"] = ca_file.as_str().into();
        }
        if let Some(namespace) = &server.namespace {
            config["namespace"] = namespace.as_str().into();
        }
        let config: VaultConfig = serde_json::from_value(config).unwrap();
        let kept = Arc::new(InMemory::default());
        let vault = Vault::new(&config, Duration::from_secs(1), kept).unwrap();
        Self {
            server,
            folder,
            vault: Arc::new(vault),
        }
    }
}

#[async_trait]
impl World for Real {
    fn kind(&self) -> Kind {
        Kind::Vault
    }

    fn manager(&self) -> Arc<dyn SecretManager> {
        Arc::clone(&self.vault) as Arc<dyn SecretManager>
    }

    fn pure(&self) -> SecretRef {
        "vault:team/db".parse().unwrap()
    }

    fn absent(&self) -> SecretRef {
        "vault:team/nothing".parse().unwrap()
    }

    fn refused(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    fn leased(&self) -> Option<(SecretRef, Effect)> {
        let database = self.server.database.as_ref()?;
        let reference = format!("vault:{database}/creds/app").parse().unwrap();
        Some((reference, Effect::Mints))
    }

    async fn rotate(&self, value: &str) {
        let path = format!("{}/team/db", self.folder);
        self.server.put(&path, value).await;
    }

    async fn remove(&self) -> bool {
        let path = format!("{}/data/{}/team/db", self.server.mount, self.folder);
        let status = self.server.ask(Method::DELETE, &path, &Value::Null).await;
        assert!((200..300).contains(&status), "status {status}");
        true
    }

    fn values_given(&self) -> Option<usize> {
        None
    }

    fn minted(&self) -> Option<usize> {
        None
    }

    async fn works(&self, _: &Secret) -> Option<bool> {
        None
    }

    fn advance(&self, _: Duration) -> bool {
        false
    }

    fn trouble(&self, _: Trouble) -> bool {
        false
    }

    fn heal(&self) {}
}
