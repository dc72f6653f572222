//! The calls over a real catalog, in process: what a connection would carry is put in by hand.

mod access;
mod definitions;
mod fleet;
mod hook;
mod managed;
mod metadata;
mod metrics;
mod patterns;
mod people;
mod public;
mod secrets;
mod trouble;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::status::{DeploymentState, DeploymentStatus, StatusReport};
use edge_secrets_protocol::{Code, Fields, NodeId, OrgId, Problem, SealingKey, Token, UserId};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api::peer::{Connected, Peer};
use crate::catalog::Catalog;
use crate::catalog::records::{
    Actor, AuditQuery, Change, Enrolment, NewAudit, NewCertificate, Role, UserRecord,
};
use crate::catalog::sqlite::SqliteCatalog;
use crate::clock;
use crate::config::Config;
use crate::deploy::{self, Models};
use crate::feed::{self, Feed};
use crate::hub::Hub;
use crate::lease::Leases;
use crate::managers::embedded::Embedded;
use crate::managers::envelope::MasterKey;
use crate::managers::registry::Registry;
use crate::metadata::MetaChange;
use crate::pki::Pki;
use crate::wire::{SetSecret, TokenIssued};

/// A hub with the organisation `myorg`, its administrators `root` and `deputy`, and its users
/// `alice` and `bob`; and the organisation `other` with the administrator `mallory`.
struct World {
    hub: Arc<Hub>,
    background: Vec<tokio::task::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

/// What a call answered.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        Self::with("", Registry::default(), Leases::new().0).await
    }

    /// With these lines in `hub.yaml`, and these managers under the names that stand there.
    async fn with(config: &str, managers: Registry, leases: Leases) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("hub.db"))
            .await
            .unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(catalog);
        let config = format!("listen: 127.0.0.1:0\n{config}");
        let config = Config::parse(&config, &dir.path().join("hub.yaml")).unwrap();
        let feed = Feed::new();
        let follower = tokio::spawn(feed::follow(feed.clone(), Arc::clone(&catalog), 0));
        let master = MasterKey::generate().unwrap();
        let hub = Hub {
            secrets: Arc::new(Embedded::new(Arc::clone(&catalog), master)),
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
            background: vec![follower],
            dir,
        };
        for (org, people) in [
            (
                "myorg",
                &[
                    ("root", Role::Admin),
                    ("deputy", Role::Admin),
                    ("alice", Role::User),
                    ("bob", Role::User),
                ][..],
            ),
            ("other", &[("mallory", Role::Admin)]),
        ] {
            let org: OrgId = org.parse().unwrap();
            let catalog = &world.hub.catalog;
            catalog.create_org(&org, setup(&org)).await.unwrap();
            for (user, role) in people {
                let record = UserRecord {
                    org: org.clone(),
                    user: user.parse().unwrap(),
                    role: *role,
                    created_at: clock::now(),
                };
                catalog.add_user(&record, setup(&org)).await.unwrap();
                let certificate = NewCertificate {
                    serial: serial(user),
                    not_after: Timestamp::MAX,
                };
                catalog
                    .add_user_certificate(&org, &record.user, &certificate)
                    .await
                    .unwrap();
            }
        }
        world
    }

    async fn request(&self, user: &str, request: Request<Body>) -> Answer {
        let mut request = request;
        let org = if user == "mallory" { "other" } else { "myorg" };
        request.extensions_mut().insert(Connected {
            peer: Peer::User {
                org: org.parse().unwrap(),
                user: user.parse().unwrap(),
                serial: serial(user),
            },
            address: "192.0.2.1:4711".parse().unwrap(),
        });
        let response = crate::api::router(Arc::clone(&self.hub))
            .oneshot(request)
            .await
            .unwrap();
        Answer::read(response).await
    }

    /// A call by `user` in `myorg`; `path` is what comes after the organisation.
    async fn call(&self, user: &str, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(at(path));
        self.request(user, request.body(Body::empty()).unwrap())
            .await
    }

    async fn get(&self, user: &str, path: &str) -> Answer {
        self.call(user, Method::GET, path).await
    }

    async fn delete(&self, user: &str, path: &str) -> Answer {
        self.call(user, Method::DELETE, path).await
    }

    async fn send(&self, user: &str, method: Method, path: &str, body: &impl Serialize) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(at(path))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(serde_json::to_vec(body).unwrap()));
        self.request(user, request.unwrap()).await
    }

    async fn post(&self, user: &str, path: &str, body: &impl Serialize) -> Answer {
        self.send(user, Method::POST, path, body).await
    }

    async fn put(&self, user: &str, path: &str, body: &impl Serialize) -> Answer {
        self.send(user, Method::PUT, path, body).await
    }

    fn sealed(&self, user: &str, reference: &str, value: &str) -> SetSecret {
        let field = "value".parse().unwrap();
        let payload = Fields::encode(&[(field, value.as_bytes())]).unwrap();
        let place = Place::Set {
            org: &"myorg".parse().unwrap(),
            user: &user.parse().unwrap(),
            reference,
        };
        let key = self.hub.sealing_key.public();
        SetSecret {
            sealed: key.seal(&place, &payload).unwrap(),
            meta: MetaChange::default(),
            generator: None,
        }
    }

    async fn set(&self, user: &str, reference: &str, value: &str) -> Answer {
        let body = self.sealed(user, reference, value);
        self.put(user, &format!("secrets/{reference}"), &body).await
    }

    /// The sample service, whose secret `cred` the sample policy binds to `db` where `site` is
    /// `berlin`.
    async fn publish_samples(&self) {
        self.set("root", "db", "v1").await.ok();
        let service = service("1.0.0", &["cred"]);
        self.post("alice", "services", &service).await.ok();
        let policy = policy("1.0.0", &[("cred", "db")]);
        self.put("alice", "policies/uplink", &policy).await.ok();
    }

    async fn enrol(&self, node: &str, site: &str, owner: Option<&str>) {
        let body = json!({ "ttl_seconds": 3600, "owner": owner });
        self.enrol_with(node, site, body).await;
    }

    /// With a token of what `body` asks for.
    async fn enrol_with(&self, node: &str, site: &str, body: Value) {
        let issued: TokenIssued = self
            .post("root", &format!("nodes/{node}/token"), &body)
            .await
            .json();
        let token: Token = issued.token.parse().unwrap();
        let mut token_hash = [0; 32];
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose_secret());
        token_hash.copy_from_slice(digest.as_ref());
        let enrolment = Enrolment {
            node: token.node.clone(),
            token_hash,
            belongs: self
                .hub
                .catalog
                .promised(&token_hash)
                .await
                .unwrap()
                .unwrap(),
            certificate: NewCertificate {
                serial: serial(node),
                not_after: Timestamp::MAX,
            },
            sealing_key: SealingKey::generate().public(),
            facts: facts(site),
            at: clock::now(),
        };
        let change = Change::Enrol(Box::new(enrolment));
        deploy::apply(&self.hub, &token.org, change, setup(&token.org))
            .await
            .unwrap();
    }

    async fn say_facts(&self, node: &str, site: &str) {
        let org: OrgId = "myorg".parse().unwrap();
        let change = Change::PutFacts {
            node: node.parse().unwrap(),
            facts: Box::new(facts(site)),
        };
        deploy::apply(&self.hub, &org, change, setup(&org))
            .await
            .unwrap();
    }

    /// The node reports that it applied exactly what it should have now.
    async fn report_applied(&self, node: &str) {
        let (org, node): (OrgId, NodeId) = ("myorg".parse().unwrap(), node.parse().unwrap());
        let catalog = &self.hub.catalog;
        let bindings = catalog.bindings(&org, &node, None).await.unwrap();
        let deployments = bindings
            .deployments
            .into_iter()
            .map(|bound| DeploymentStatus {
                id: bound.placed.id,
                service: bound.placed.service,
                state: DeploymentState::Applied,
                applied: bound
                    .secrets
                    .into_iter()
                    .filter_map(|secret| match secret.state {
                        edge_secrets_protocol::binding::SecretState::Ready { version } => {
                            Some((secret.name, version))
                        }
                        _ => None,
                    })
                    .collect(),
                error: None,
            });
        let report = StatusReport {
            generation: bindings.generation,
            deployments: deployments.collect(),
        };
        catalog
            .put_report(&org, &node, &report, clock::now())
            .await
            .unwrap();
    }

    /// `action object result` of every audited call of a user, oldest first.
    async fn trail(&self, org: &str) -> Vec<String> {
        let query = AuditQuery {
            limit: 1000,
            ..AuditQuery::default()
        };
        let records = self.hub.catalog.audit(&org.parse().unwrap(), &query).await;
        let of_users = records.unwrap().into_iter().map(|record| record.entry);
        let of_users = of_users.filter(|entry| matches!(entry.actor, Actor::User(_)));
        of_users
            .map(|entry| format!("{} {} {}", entry.action, entry.object, entry.result))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.background.iter().for_each(|task| task.abort());
    }
}

impl Answer {
    async fn read(response: Response) -> Self {
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec();
        Self { status, body }
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn json<T: DeserializeOwned>(self) -> T {
        let answer = self.ok();
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[track_caller]
    fn problem(&self) -> Problem {
        match serde_json::from_slice(&self.body) {
            Ok(problem) => problem,
            Err(error) => panic!("{}: {error}: {}", self.status, self.text()),
        }
    }

    #[track_caller]
    fn refused(&self, code: Code) -> String {
        let problem = self.problem();
        assert_eq!(problem.code, code, "{}", problem.detail);
        assert_eq!(self.status.as_u16(), code.status());
        problem.detail
    }
}

fn at(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/v1/orgs/myorg/{path}")
    }
}

fn serial(name: &str) -> String {
    data_encoding::HEXLOWER.encode(name.as_bytes())
}

fn setup(org: &OrgId) -> NewAudit {
    NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: "test.setup".into(),
        object: String::new(),
        result: "ok".into(),
        detail: String::new(),
        peer: String::new(),
    }
}

fn facts(site: &str) -> NodeFacts {
    let property = |name: &str, value: &str| Property {
        name: name.into(),
        value: value.into(),
        kind: None,
    };
    NodeFacts {
        properties: vec![property("site", site)],
        built_in: vec![property("openhorizon.arch", "amd64")],
        ..NodeFacts::default()
    }
}

fn service(version: &str, secrets: &[&str]) -> Value {
    let secrets: serde_json::Map<_, _> = secrets
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "description": "x" })))
        .collect();
    json!({
        "org": "myorg", "url": "com.example.uplink", "version": version, "arch": "amd64",
        "deployment": { "services": { "uplink": { "image": "x", "secrets": secrets } } },
    })
}

fn policy(version: &str, bindings: &[(&str, &str)]) -> Value {
    let secrets: Vec<_> = bindings
        .iter()
        .map(|(name, reference)| json!({ *name: reference }))
        .collect();
    json!({
        "service": { "name": "com.example.uplink", "org": "myorg", "arch": "*",
            "serviceVersions": [{ "version": version }] },
        "constraints": ["site == berlin"],
        "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": "com.example.uplink",
            "serviceArch": "*", "serviceVersionRange": "[0.0.0,INFINITY)", "secrets": secrets }],
    })
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}
