//! The hub's own manager passes the suite of all managers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::{Fields, OrgId, Secret};
use tempfile::TempDir;

use super::{Embedded, NewValue};
use crate::catalog::Catalog;
use crate::catalog::conformance::world::audit;
use crate::catalog::records::NewMeta;
use crate::catalog::sqlite::SqliteCatalog;
use crate::managers::conformance::{self, CANARY, Trouble, World};
use crate::managers::envelope::MasterKey;
use crate::managers::{Effect, Fault, Kind, SecretManager};
use crate::reference::SecretRef;

struct Own {
    manager: Arc<Embedded>,
    scope: &'static str,
    _dir: TempDir,
}

/// The organisation's own, a user's, a node's, and a user's for one node.
const SCOPES: [&str; 4] = [
    "",
    "user/alice/",
    "node/edge-01/",
    "user/alice/node/edge-01/",
];

impl Own {
    async fn new(scope: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await;
        let catalog: Arc<dyn Catalog> = Arc::new(catalog.unwrap());
        let org: OrgId = "myorg".parse().unwrap();
        catalog.create_org(&org, audit("org.create")).await.unwrap();
        let manager = Embedded::new(catalog, MasterKey::generate().unwrap());
        let own = Self {
            manager: Arc::new(manager),
            scope,
            _dir: dir,
        };
        own.set(CANARY).await;
        own
    }

    async fn set(&self, value: &str) {
        let fields = [
            ("key".parse().unwrap(), &b"basicauth"[..]),
            ("value".parse().unwrap(), value.as_bytes()),
        ];
        let new = NewValue {
            org: &self.org(),
            reference: &self.pure(),
            payload: &Fields::encode(&fields).unwrap(),
            by: &"alice".parse().unwrap(),
            meta: NewMeta::default(),
        };
        self.manager
            .set(new, None, audit("secret.set"))
            .await
            .unwrap();
    }
}

#[async_trait]
impl World for Own {
    fn kind(&self) -> Kind {
        Kind::Embedded
    }

    fn manager(&self) -> Arc<dyn SecretManager> {
        self.manager.clone()
    }

    fn pure(&self) -> SecretRef {
        format!("{}team/db", self.scope).parse().unwrap()
    }

    fn absent(&self) -> SecretRef {
        format!("{}team/absent", self.scope).parse().unwrap()
    }

    fn absence(&self) -> Fault {
        Fault::Missing
    }

    /// What it cannot have is refused when it is written: nothing is left to refuse here.
    fn refused(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    fn leased(&self) -> Option<(SecretRef, Effect)> {
        None
    }

    async fn rotate(&self, value: &str) {
        self.set(value).await;
    }

    async fn remove(&self) -> bool {
        let (org, reference) = (self.org(), self.pure());
        let removed = self
            .manager
            .remove(&org, &reference, audit("secret.remove"));
        removed.await.unwrap();
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

    /// It is the hub itself: there is nobody between.
    fn trouble(&self, _: Trouble) -> bool {
        false
    }

    fn heal(&self) {}
}

#[tokio::test]
async fn the_hubs_own_manager_does_what_every_manager_does() {
    for scope in SCOPES {
        conformance::run(async || Own::new(scope).await).await;
    }
}
