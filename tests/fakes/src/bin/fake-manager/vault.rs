//! Vault with a KV mount of each version, a database, AppRole and a client's certificate.

use std::fs;

use edge_secrets_fakes::Server;
use edge_secrets_fakes::vault::{AppRole, CertRole, Role, Rule, Vault};
use serde_json::{Value, json};

use super::Start;

pub(crate) async fn start(start: &Start) -> (Server<Vault>, Value) {
    let server = Server::start_at(Vault::new(), start.listen).await;
    let file = |name: &str, content: &str| {
        let path = start.dir.join(name);
        fs::write(&path, content).expect("a writable directory");
        path.display().to_string()
    };
    let (certificate, key) = server.pki().issue(&["client.example.com"]);
    let now = server.clock.now();
    let mut ready = server.with(|vault| {
        vault.mount("kv1", "kv1");
        vault.mount("database", "database");
        vault.database_role("database", "app", Role::default());
        vault.policy(
            "hub",
            &[
                Rule::new("secret/data/*", "read"),
                Rule::new("secret/metadata/*", "read,list"),
                Rule::new("kv1/*", "read,list"),
                Rule::new("database/creds/*", "read"),
                Rule::new("sys/leases/revoke", "update"),
            ],
        );
        let role = AppRole {
            policies: vec!["hub".into()],
            period: Some(3600),
            ..AppRole::default()
        };
        let role_id = vault.approle_role("approle", "hub", role);
        let path = "auth/approle/role/hub/secret-id";
        let made = vault.act("POST", path, json!({}), now);
        vault.cert_role(
            "cert",
            "hub",
            CertRole {
                certificate: Some(certificate.clone()),
                policies: vec!["hub".into()],
                ttl: Some(3600),
            },
        );
        json!({
            "token": vault.root_token(),
            "role_id": role_id,
            "secret_id": made.pointer("/data/secret_id"),
        })
    });
    ready["url"] = server.url().into();
    ready["ca"] = file("ca.pem", server.pki().certificate()).into();
    ready["client_certificate"] = file("client.pem", &certificate).into();
    ready["client_key"] = file("client-key.pem", &key).into();
    (server, ready)
}
