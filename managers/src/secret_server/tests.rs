//! Against the stand-in, which its manager's own client drives too.

mod access;
mod finding;
mod leases;
mod refusals;
mod session;
mod values;
mod world;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use edge_secrets_fakes::Server;
use edge_secrets_fakes::secret_server::{Item, SecretServer as Fake};
use edge_secrets_protocol::{Fields, OrgId, Secret, SecretVersion};
use tempfile::TempDir;

use super::{SecretServer, SecretServerConfig};
use crate::conformance::PATIENCE;
use crate::lease::Minted;
use crate::session::InMemory;
use crate::{Description, Fault, ListQuery, ManagerError, SecretManager, SecretRef, Target};

/// The stand-in and a manager that speaks to it.
struct Pim {
    server: Server<Fake>,
    manager: Arc<SecretServer>,
    org: OrgId,
    _dir: TempDir,
}

/// What the configuration allows beside the plain.
#[derive(Default)]
struct Allow {
    comment: Option<&'static str>,
    checkout: bool,
}

impl Pim {
    async fn start(fake: Fake) -> Self {
        Self::allowing(fake, Allow::default()).await
    }

    async fn allowing(fake: Fake, allow: Allow) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keep = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        };
        keep("username", &fake.username);
        keep("password", &fake.password);
        let domain = fake.domain.clone();
        let server = Server::start(fake).await;
        keep("ca.pem", server.pki().certificate());
        let config = SecretServerConfig {
            url: format!("{}/SecretServer", server.url()).parse().unwrap(),
            username: "username".to_owned().try_into().unwrap(),
            password: "password".to_owned().try_into().unwrap(),
            domain,
            ca_file: Some("ca.pem".into()),
            comment: allow.comment.map(str::to_owned),
            checkout: allow.checkout,
        };
        let config = config.based_on(dir.path());
        let kept = Arc::new(InMemory::default());
        let manager = SecretServer::new(&config, PATIENCE, kept).unwrap();
        Self {
            server,
            manager: Arc::new(manager),
            org: "myorg".parse().unwrap(),
            _dir: dir,
        }
    }

    async fn describe(&self, text: &str) -> Result<Description, ManagerError> {
        let reference = reference(text);
        self.manager.describe(self.target(&reference)).await
    }

    async fn version(&self, text: &str) -> SecretVersion {
        self.describe(text).await.unwrap().version.unwrap()
    }

    /// Why it cannot be described.
    async fn refusal(&self, text: &str) -> ManagerError {
        self.describe(text).await.unwrap_err()
    }

    async fn read(&self, text: &str) -> Result<Secret, ManagerError> {
        let version = self.describe(text).await?.version.unwrap();
        let reference = reference(text);
        self.manager.read(self.target(&reference), &version).await
    }

    async fn mint(&self, text: &str) -> Result<Minted, ManagerError> {
        let reference = reference(text);
        self.manager.mint(self.target(&reference)).await
    }

    /// Everything that a listing gives, page by page.
    async fn list(&self, mut query: ListQuery) -> Vec<String> {
        let mut paths = Vec::new();
        loop {
            let page = self.manager.list(&self.org, &query).await.unwrap();
            paths.extend(page.entries.into_iter().map(|entry| entry.path));
            query.page = page.next;
            if query.page.is_none() {
                return paths;
            }
        }
    }

    fn target<'a>(&'a self, reference: &'a SecretRef) -> Target<'a> {
        Target {
            org: &self.org,
            reference,
        }
    }

    /// How many calls went to a path that ends so.
    fn calls(&self, end: &str) -> usize {
        self.server.log.count(|call| call.path.ends_with(end))
    }
}

fn reference(text: &str) -> SecretRef {
    format!("pim:{text}").parse().unwrap()
}

/// A stand-in with one secret, and its number.
fn with_one(items: &[Item]) -> (Fake, u64) {
    let mut fake = Fake::new();
    let id = fake.add("Team", "db", items);
    (fake, id)
}

fn login() -> [Item; 2] {
    [
        Item::text("username", "svc"),
        Item::password("password", PASSWORD),
    ]
}

/// A payload's fields as text.
fn shown(payload: &Secret) -> Vec<(String, String)> {
    let fields = Fields::decode(payload.expose()).unwrap();
    let shown = fields.expose();
    shown
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}

fn field(payload: &Secret, name: &str) -> String {
    let fields = shown(payload);
    let found = fields.into_iter().find(|(field, _)| field == name);
    found.unwrap().1
}

fn fault<T>(result: Result<T, ManagerError>) -> Fault {
    result.err().unwrap().fault
}

/// Neither in errors nor in `Debug`.
const PASSWORD: &str = "canary-password";
