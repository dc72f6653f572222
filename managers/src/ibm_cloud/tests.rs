//! The suite over all managers, and what only this one has: each row of what IBM documents, over a
//! stand-in that IBM's own client was driven against.

mod keys;
mod refusals;
mod sweeping;
mod tokens;
mod values;
mod writing;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_fakes::ibm::Ibm;
use edge_secrets_fakes::{Fault as Trick, Response, Server};
use edge_secrets_protocol::{Fields, OrgId, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, CANARY, PATIENCE, Trouble, World};
use crate::{Effect, SecretRef};

/// A stand-in and the backend before it.
struct Fake {
    server: Server<Ibm>,
    manager: Arc<IbmCloud>,
    group: String,
    token: String,
    dir: TempDir,
}

impl Fake {
    async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// With more in the configuration.
    async fn with(more: Value) -> Self {
        let server = Server::start(Ibm::new(API_KEY)).await;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), server.pki().certificate()).unwrap();
        fs::write(dir.path().join("key"), API_KEY).unwrap();
        fs::set_permissions(dir.path().join("key"), Permissions::from_mode(0o600)).unwrap();
        let mut config = json!({
            "url": server.url(), "iam_url": server.url(), "api_key": "key", "ca_file": "ca.pem",
        });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        let config: IbmCloudConfig = serde_json::from_value(config).unwrap();
        let config = config.based_on(dir.path());
        let manager = Arc::new(IbmCloud::new(&config, PATIENCE).unwrap());
        let group = server.with(|ibm| ibm.add_group("edge"));
        let mut fake = Self {
            server,
            manager,
            group,
            token: String::new(),
            dir,
        };
        fake.token = fake.seed(json!({
            "secret_type": "kv", "name": "token", "data": { "key": "basicauth", "value": CANARY },
        }));
        fake
    }

    fn seed(&self, mut body: Value) -> String {
        if body["secret_group_id"].is_null() {
            body["secret_group_id"] = self.group.clone().into();
        }
        let now = self.server.clock.now();
        self.server.with(|ibm| ibm.seed(&body, now))
    }

    /// A secret that makes keys of half an hour.
    fn seed_keys(&self, name: &str, reuse: bool) -> String {
        self.seed(json!({
            "secret_type": "iam_credentials", "name": name, "ttl": "30m",
            "access_groups": ["AccessGroupId-1"], "reuse_api_key": reuse,
        }))
    }

    fn minted(&self) -> usize {
        self.server.with(|ibm| ibm.account.minted)
    }

    fn given(&self) -> usize {
        self.server.with(|ibm| ibm.given)
    }

    fn works(&self, payload: &Secret) -> bool {
        let key = field(payload, "apikey");
        let now = self.server.clock.now();
        self.server.with(|ibm| ibm.account.works(&key, now))
    }

    fn edit(&self, id: &str, edit: impl FnOnce(&mut edge_secrets_fakes::ibm::Secret)) {
        let now = self.server.clock.now();
        self.server.with(|ibm| {
            let secret = ibm.secret(id);
            edit(secret);
            secret.updated = now;
        });
    }

    /// Reads of values by id, whatever became of them.
    fn reads(&self) -> usize {
        self.server.log.count(|call| {
            let path: Vec<_> = call.path.trim_matches('/').split('/').collect();
            call.method == http::Method::GET
                && matches!(
                    path.as_slice(),
                    ["api", "v2", "secrets", _] | [.., "versions", _]
                )
        })
    }

    async fn describe(&self, reference: &str) -> Result<Description, ManagerError> {
        let (org, reference) = parsed(reference);
        self.manager.describe(target(&org, &reference)).await
    }

    async fn mint(&self, reference: &str) -> Result<Minted, ManagerError> {
        let (org, reference) = parsed(reference);
        self.manager.mint(target(&org, &reference)).await
    }

    async fn read(&self, reference: &str, version: &str) -> Result<Secret, ManagerError> {
        let (org, reference) = parsed(reference);
        let version = version.parse().unwrap();
        self.manager.read(target(&org, &reference), &version).await
    }

    /// What the current version holds.
    async fn current(&self, reference: &str) -> Result<Secret, ManagerError> {
        let version = self.describe(reference).await?.version.unwrap();
        self.read(reference, version.as_str()).await
    }
}

#[async_trait]
impl World for Fake {
    fn kind(&self) -> Kind {
        Kind::IbmCloud
    }

    fn manager(&self) -> Arc<dyn SecretManager> {
        self.manager.clone()
    }

    fn pure(&self) -> SecretRef {
        "ibm:edge/kv/token".parse().unwrap()
    }

    fn absent(&self) -> SecretRef {
        "ibm:edge/kv/nothing".parse().unwrap()
    }

    fn refused(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("ibm:token", "<group>/<type>/<name>"),
            ("ibm:edge/iam-credentials/x1", "iam_credentials"),
            ("ibm:id/token", "UUID"),
            ("ibm:edge/kv/a b", "2 to 256"),
        ]
    }

    fn leased(&self) -> Option<(SecretRef, Effect)> {
        let reference = "ibm:edge/iam_credentials/cos".parse().unwrap();
        Some((reference, Effect::MintsAndInvalidates))
    }

    async fn rotate(&self, value: &str) {
        let now = self.server.clock.now();
        let body = json!({ "data": { "key": "basicauth", "value": value } });
        self.server.with(|ibm| ibm.rotate(&self.token, &body, now));
    }

    async fn remove(&self) -> bool {
        let id = &self.token;
        self.server
            .with(|ibm| ibm.secrets.retain(|secret| secret.id != *id));
        true
    }

    fn values_given(&self) -> Option<usize> {
        Some(self.given())
    }

    fn minted(&self) -> Option<usize> {
        Some(Self::minted(self))
    }

    async fn works(&self, minted: &Secret) -> Option<bool> {
        Some(Self::works(self, minted))
    }

    fn advance(&self, by: Duration) -> bool {
        self.server.clock.advance(by);
        true
    }

    fn trouble(&self, trouble: Trouble) -> bool {
        let trick = match trouble {
            Trouble::Drop => Trick::Drop,
            Trouble::Hang => Trick::Hang,
            Trouble::Html => Trick::Html,
            Trouble::Truncated => Trick::Truncated,
            Trouble::Huge => Trick::Huge,
            Trouble::WrongTypes => Trick::WrongTypes,
            Trouble::RateLimited => Trick::Answer(container(429).with("retry-after", "7")),
            Trouble::Broken => Trick::Answer(container(500)),
            Trouble::Closed => Trick::Answer(container(503)),
            Trouble::TokenDied => {
                self.server.with(|ibm| ibm.account.forget_tokens());
                return true;
            }
            Trouble::LockedOut => {
                self.server.with(|ibm| ibm.account.locked_out = true);
                return true;
            }
        };
        self.server.faults.always(trick);
        true
    }

    fn heal(&self) {
        self.server.faults.heal();
        self.server.with(|ibm| ibm.account.locked_out = false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_manager_does() {
    conformance::run(async || {
        let fake = Fake::start().await;
        fake.seed_keys("cos", false);
        fake
    })
    .await;
}

/// IBM's container of errors, with what it was sent and a value in its message.
fn container(status: u16) -> Response {
    let body = json!({
        "errors": [{ "code": "c", "message": format!("{CANARY} in the secret {API_KEY}") }],
        "trace": TRACE, "status_code": status,
    });
    Response::json(status, &body)
}

fn parsed(reference: &str) -> (OrgId, SecretRef) {
    ("myorg".parse().unwrap(), reference.parse().unwrap())
}

fn target<'a>(org: &'a OrgId, reference: &'a SecretRef) -> Target<'a> {
    Target { org, reference }
}

fn field(payload: &Secret, name: &str) -> String {
    let fields = Fields::decode(payload.expose()).unwrap();
    let mut shown = fields.expose();
    let (_, value) = shown.find(|(n, _)| *n == name).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

const API_KEY: &str = "canary api&key=1";
const TRACE: &str = "0b5571f7-21e6-42b7-91c5-3f5ac9793a46";
