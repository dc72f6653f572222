//! The calls over a real catalog, in process: what a connection would carry is put in by hand.

mod description;
mod fleet;
mod identity;
mod managed;
mod state;
mod values;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::Response;
use edge_secrets_protocol::enroll::{EnrollRequest, Identity, RenewRequest};
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::problem::CONTENT_TYPE;
use edge_secrets_protocol::{
    Code, Fields, NodeId, OrgId, Problem, SealingKey, SecretVersion, Token, UserId, routes,
};
use http_body_util::BodyExt;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api::peer::{Connected, Peer};
use crate::catalog::Catalog;
use crate::catalog::records::{
    Actor, AuditQuery, Belonging, Change, NewAudit, NewMeta, NewToken, PolicyRecord, ServiceRecord,
};
use crate::catalog::sqlite::SqliteCatalog;
use crate::clock;
use crate::config::Config;
use crate::deploy::{self, Models};
use crate::feed::{self, Feed};
use crate::hub::Hub;
use crate::lease::Leases;
use crate::managers::embedded::{Embedded, NewValue};
use crate::managers::envelope::MasterKey;
use crate::managers::registry::Registry;
use crate::pki::Pki;
use crate::pki::identity::ClientCertificate;

/// A hub with the organisation `myorg`. Its service `uplink` declares `cred` and `extra`, and its
/// policy puts it on nodes with `site == berlin`, bound to the secrets `db` and `more`.
pub(super) struct World {
    pub(super) hub: Arc<Hub>,
    follower: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

/// A node that has enrolled.
pub(super) struct Node {
    pub(super) connected: Connected,
    pub(super) identity: Identity,
    sealing: SealingKey,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        Self::with(Registry::default(), Leases::new().0).await
    }

    async fn with(managers: Registry, leases: Leases) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("hub.db"))
            .await
            .unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(catalog);
        let config = Config::parse("listen: 127.0.0.1:0\n", &dir.path().join("hub.yaml")).unwrap();
        let feed = Feed::new();
        let follower = tokio::spawn(feed::follow(feed.clone(), Arc::clone(&catalog), 0));
        let hub = Hub {
            secrets: Arc::new(Embedded::new(
                Arc::clone(&catalog),
                MasterKey::generate().unwrap(),
            )),
            managers,
            hints: Default::default(),
            leases,
            pki: Pki::create(config.trust_domain.clone()).unwrap().0,
            config,
            catalog,
            feed,
            sealing_key: SealingKey::generate(),
            models: Models::default(),
        };
        let world = Self {
            hub: Arc::new(hub),
            follower,
            dir,
        };
        let setup = audit("setup");
        world.hub.catalog.create_org(&org(), setup).await.unwrap();
        world
    }

    /// Everything that the service needs, and one node that gets it.
    pub(super) async fn deployed() -> (Self, Node) {
        let world = Self::new().await;
        let node = world.deploy().await;
        (world, node)
    }

    async fn deploy(&self) -> Node {
        let world = self;
        world.set("db", "hunter2").await;
        world.set("more", "s3cr3t").await;
        world.change(Change::PutService(uplink())).await;
        world.bind(&[("cred", "db"), ("extra", "more")]).await;
        world.enrol("edge-01", "berlin").await
    }

    async fn bind(&self, bindings: &[(&str, &str)]) {
        let secrets: Vec<_> = bindings
            .iter()
            .map(|(name, reference)| json!({ *name: reference }))
            .collect();
        let document = json!({
            "service": { "name": "com.example.uplink", "org": "myorg", "arch": "*",
                "serviceVersions": [{ "version": "1.0.0" }] },
            "constraints": ["site == berlin"],
            "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": "com.example.uplink",
                "serviceArch": "*", "serviceVersionRange": "[0.0.0,INFINITY)", "secrets": secrets }],
        });
        self.change(Change::PutPolicy(PolicyRecord {
            name: "uplink".parse().unwrap(),
            owner: alice(),
            document: document.to_string(),
            updated_at: clock::now(),
        }))
        .await;
    }

    async fn change(&self, change: Change) {
        deploy::apply(&self.hub, &org(), change, audit("setup"))
            .await
            .unwrap();
    }

    async fn set(&self, reference: &str, value: &str) -> SecretVersion {
        let payload = Fields::encode(&[("value".parse().unwrap(), value.as_bytes())]).unwrap();
        let reference = reference.parse().unwrap();
        let (org, alice, setup) = (org(), alice(), audit("setup"));
        let value = NewValue {
            org: &org,
            reference: &reference,
            payload: &payload,
            by: &alice,
            meta: NewMeta::default(),
        };
        let set = self.hub.secrets.set(value, None, setup);
        set.await.unwrap().0
    }

    /// A token's text, known to the catalog for `seconds` from now.
    async fn token(&self, node: &str, seconds: i64) -> String {
        self.token_of(node, seconds, Belonging::default()).await
    }

    async fn token_of(&self, node: &str, seconds: i64, belongs: Belonging) -> String {
        let node: NodeId = node.parse().unwrap();
        let fingerprint = self.hub.pki.ca_fingerprint();
        let token = Token::generate(org(), node.clone(), fingerprint).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose_secret());
        let record = NewToken {
            org: org(),
            node,
            belongs,
            hash: digest.as_ref().try_into().unwrap(),
            expires_at: clock::now() + jiff::SignedDuration::from_secs(seconds),
        };
        let setup = audit("setup");
        self.hub.catalog.add_token(&record, setup).await.unwrap();
        token.expose().to_string()
    }

    async fn enrol(&self, node: &str, site: &str) -> Node {
        let token = self.token(node, 60).await;
        let sealing = SealingKey::generate();
        let request = enrolment(token, &sealing, site);
        let answer = self
            .send(&anonymous(), "POST", routes::ENROLL, &request)
            .await;
        self.node(answer.ok().json(), sealing)
    }

    fn node(&self, identity: Identity, sealing: SealingKey) -> Node {
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let certificate = ClientCertificate::parse(&der, self.hub.pki.trust_domain()).unwrap();
        Node {
            connected: Connected {
                peer: Peer::Node {
                    org: identity.org.clone(),
                    node: identity.node.clone(),
                    serial: certificate.serial,
                    expired: false,
                },
                ..anonymous()
            },
            identity,
            sealing,
        }
    }

    async fn request(&self, connected: &Connected, request: Request<Body>) -> Response {
        let mut request = request;
        request.extensions_mut().insert(connected.clone());
        crate::api::router(Arc::clone(&self.hub))
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn get(&self, connected: &Connected, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        Answer::read(self.request(connected, request).await).await
    }

    async fn send(
        &self,
        connected: &Connected,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(serde_json::to_vec(body).unwrap()))
            .unwrap();
        Answer::read(self.request(connected, request).await).await
    }

    /// What was audited under this action: `actor object result detail`, oldest first.
    async fn trail(&self, action: &str) -> Vec<String> {
        let query = AuditQuery {
            limit: 10_000,
            ..AuditQuery::default()
        };
        let records = self.hub.catalog.audit(&org(), &query).await.unwrap();
        records
            .into_iter()
            .map(|record| record.entry)
            .filter(|entry| entry.action == action)
            .map(|e| format!("{} {} {} {}", e.actor, e.object, e.result, e.detail))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Node {
    fn expired(&self) -> Connected {
        let mut connected = self.connected.clone();
        if let Peer::Node { expired, .. } = &mut connected.peer {
            *expired = true;
        }
        connected
    }
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().into(),
        }
    }

    #[track_caller]
    fn ok(self) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert!(self.status.is_success(), "{} {text}", self.status);
        self
    }

    #[track_caller]
    fn json<T: DeserializeOwned>(self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem, which must be answered as one.
    #[track_caller]
    fn problem(self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], CONTENT_TYPE);
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.status, problem.code.status());
        problem
    }
}

fn uplink() -> ServiceRecord {
    let document = json!({
        "org": "myorg", "url": "com.example.uplink", "version": "1.0.0", "arch": "*",
        "deployment": { "services": { "main": { "image": "x", "secrets": {
            "cred": { "description": "x" }, "extra": { "description": "x" } } } } },
    });
    ServiceRecord {
        url: "com.example.uplink".parse().unwrap(),
        version: "1.0.0".into(),
        arch: "*".into(),
        owner: alice(),
        public: false,
        document: document.to_string(),
        updated_at: clock::now(),
    }
}

fn org() -> OrgId {
    "myorg".parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn anonymous() -> Connected {
    Connected {
        peer: Peer::Anonymous,
        address: ([192, 0, 2, 1], 4711).into(),
    }
}

fn facts(site: &str) -> NodeFacts {
    NodeFacts {
        properties: vec![Property {
            name: "site".into(),
            value: site.into(),
            kind: None,
        }],
        ..NodeFacts::default()
    }
}

fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    csr.pem().unwrap()
}

fn enrolment(token: String, sealing: &SealingKey, site: &str) -> EnrollRequest {
    EnrollRequest {
        token,
        csr: csr(),
        sealing_key: sealing.public(),
        facts: facts(site),
    }
}

fn renewal(sealing: Option<&SealingKey>) -> RenewRequest {
    RenewRequest {
        csr: csr(),
        sealing_key: sealing.map(SealingKey::public),
    }
}

fn audit(action: &str) -> NewAudit {
    NewAudit {
        org: org(),
        at: clock::now(),
        actor: Actor::Hub,
        action: action.into(),
        object: String::new(),
        result: "ok".into(),
        detail: String::new(),
        peer: String::new(),
    }
}
