//! A small world to put a catalog through its cases in.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use edge_secrets_protocol::binding::{FetchItem, SecretState};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::{Generation, NodeId, OrgId, PublicKey, SealingKey, SecretVersion};
use jiff::Timestamp;

use super::Place;
use crate::catalog::records::{
    Actor, AuditQuery, AuditRecord, Belonging, Change, Committed, EncryptedVersion, Enrolment,
    FeedEntry, NewAudit, NewCertificate, NewMeta, NewToken, NodeBindings, NodePlacement, Placed,
    PlacedBinding, PolicyRecord, SecretPut,
};
use crate::catalog::{Catalog, CatalogError};
use crate::reference::SecretRef;

/// A catalog with one organisation, `o`.
pub(crate) struct World {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) org: OrgId,
}

impl World {
    pub(crate) async fn new(place: &mut dyn Place) -> Self {
        let catalog = place.open().await;
        let org = org("o");
        catalog.create_org(&org, audit("org.create")).await.unwrap();
        Self { catalog, org }
    }

    pub(crate) async fn token(&self, node: &str, hash: u8, expires_at: Timestamp) {
        let token = NewToken {
            org: self.org.clone(),
            node: node_id(node),
            belongs: belongs(),
            hash: [hash; 32],
            expires_at,
        };
        let added = self.catalog.add_token(&token, audit("node.token")).await;
        added.unwrap();
    }

    /// Commits at the present revision.
    pub(crate) async fn commit(
        &self,
        change: Change,
        placements: Vec<NodePlacement>,
    ) -> Result<Committed, CatalogError> {
        let revision = self.catalog.revision(&self.org).await?;
        self.catalog
            .commit(
                &self.org,
                revision.into(),
                change,
                placements,
                audit("commit"),
            )
            .await
    }

    /// A new token for the node, and its use.
    pub(crate) async fn enrol(&self, node: &str) {
        let count = self.catalog.nodes(&self.org).await.unwrap().len();
        // Of several worlds over one catalog each has its own tokens and serials.
        let first = self.org.as_str().as_bytes()[0];
        let of_org = b'o'.wrapping_sub(first).wrapping_mul(10);
        let hash = u8::try_from(count).unwrap().wrapping_add(100);
        let hash = hash.wrapping_add(of_org);
        self.token(node, hash, at(1_000)).await;
        let serial = match self.org.as_str() {
            "o" => format!("serial-of-{node}"),
            org => format!("serial-of-{org}-{node}"),
        };
        let change = enrolment(node, hash, &serial, at(10));
        self.commit(change, vec![]).await.unwrap();
    }

    pub(crate) async fn place(&self, node: &str, deployments: Vec<Placed>) -> Committed {
        let placement = placement(node, deployments);
        self.commit(policy("p"), vec![placement]).await.unwrap()
    }

    pub(crate) async fn put(&self, reference: &str, version: u64) -> Committed {
        let version = encrypted(version);
        let put = self.put_with(reference, &version, NewMeta::default()).await;
        put.committed
    }

    pub(crate) async fn put_with(
        &self,
        reference: &str,
        version: &EncryptedVersion,
        meta: NewMeta,
    ) -> SecretPut {
        let reference = secret_ref(reference);
        self.catalog
            .put_secret(
                &self.org,
                &reference,
                version,
                &meta,
                None,
                audit("secret.set"),
            )
            .await
            .unwrap()
    }

    pub(crate) async fn remove(&self, reference: &str) -> Committed {
        let reference = secret_ref(reference);
        self.catalog
            .remove_secret(&self.org, &reference, audit("secret.remove"))
            .await
            .unwrap()
    }

    pub(crate) async fn generation(&self, node: &str) -> u64 {
        let record = self.catalog.node(&self.org, &node_id(node)).await;
        record.unwrap().unwrap().generation.0
    }

    pub(crate) async fn bindings(&self, node: &str, since: Option<u64>) -> NodeBindings {
        self.catalog
            .bindings(&self.org, &node_id(node), since.map(Generation))
            .await
            .unwrap()
    }

    /// What every name of every deployment resolves to, as `deployment/name` -> `ref@version`,
    /// `missing` or `denied`.
    pub(crate) async fn resolved(&self, node: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for deployment in self.bindings(node, None).await.deployments {
            for secret in deployment.secrets {
                let text = match secret.state {
                    SecretState::Ready { version } => {
                        format!("{}@{version}", deployment.resolved[&secret.name])
                    }
                    SecretState::Missing => "missing".to_owned(),
                    SecretState::Denied => "denied".to_owned(),
                    other => format!("{other:?}"),
                };
                all.insert(format!("{}/{}", deployment.placed.id, secret.name), text);
            }
        }
        all
    }

    pub(crate) async fn feed(&self) -> Vec<FeedEntry> {
        self.catalog.feed(0, u32::MAX).await.unwrap()
    }

    pub(crate) async fn trail(&self) -> Vec<AuditRecord> {
        let query = AuditQuery {
            limit: u32::MAX,
            ..AuditQuery::default()
        };
        self.catalog.audit(&self.org, &query).await.unwrap()
    }
}

pub(crate) fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}

pub(crate) fn node_id(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(crate) fn secret_ref(text: &str) -> SecretRef {
    text.parse().unwrap()
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

pub(crate) fn audit(action: &str) -> NewAudit {
    NewAudit {
        org: org("o"),
        at: at(7),
        actor: Actor::User("alice".parse().unwrap()),
        action: action.into(),
        object: "thing".into(),
        result: "ok".into(),
        detail: String::new(),
        peer: "192.0.2.1".into(),
    }
}

/// One key for all: making one takes its time.
pub(crate) fn sealing_key() -> PublicKey {
    static KEY: LazyLock<PublicKey> = LazyLock::new(|| SealingKey::generate().public());
    KEY.clone()
}

pub(crate) fn certificate(serial: &str) -> NewCertificate {
    NewCertificate {
        serial: serial.into(),
        not_after: at(100_000),
    }
}

/// What every token here says of its node.
pub(crate) fn belongs() -> Belonging {
    Belonging {
        owner: Some("alice".parse().unwrap()),
        pattern: Some("o/edge".parse().unwrap()),
    }
}

pub(crate) fn enrolment(node: &str, hash: u8, serial: &str, now: Timestamp) -> Change {
    Change::Enrol(Box::new(Enrolment {
        node: node_id(node),
        token_hash: [hash; 32],
        belongs: belongs(),
        certificate: certificate(serial),
        sealing_key: sealing_key(),
        facts: NodeFacts::default(),
        at: now,
    }))
}

pub(crate) fn policy(name: &str) -> Change {
    Change::PutPolicy(PolicyRecord {
        name: name.parse().unwrap(),
        owner: "alice".parse().unwrap(),
        document: "{}".into(),
        updated_at: at(5),
    })
}

pub(crate) fn placement(node: &str, deployments: Vec<Placed>) -> NodePlacement {
    NodePlacement {
        node: node_id(node),
        deployments,
    }
}

/// A deployment `id` of service `o/id` with `name=candidate|candidate…` bindings; `!` denies.
pub(crate) fn placed(id: &str, bindings: &[&str]) -> Placed {
    let bindings = bindings.iter().map(|text| {
        let (name, candidates) = text.split_once('=').unwrap();
        let denied = candidates.starts_with('!');
        let candidates = candidates.trim_start_matches('!');
        let candidates = candidates.split('|').filter(|c| !c.is_empty());
        let binding = PlacedBinding {
            candidates: candidates.map(secret_ref).collect(),
            denied,
            optional: name.starts_with("optional"),
        };
        (name.parse().unwrap(), binding)
    });
    Placed {
        id: id.parse().unwrap(),
        policy: "p".parse().unwrap(),
        service: format!("o/{id}").parse().unwrap(),
        service_version: "1.0.0".into(),
        consumers: vec![],
        required_by: Vec::new(),
        bindings: bindings.collect(),
    }
}

pub(crate) fn version(number: u64) -> SecretVersion {
    number.to_string().parse().unwrap()
}

pub(crate) fn encrypted(number: u64) -> EncryptedVersion {
    EncryptedVersion {
        version: version(number),
        wrapped_key: vec![1, 0, 255],
        ciphertext: vec![2, 0, 254],
        fields: vec!["value".into()],
        created_by: "alice".parse().unwrap(),
        created_at: at(20),
        restored_from: None,
    }
}

pub(crate) fn item(service: &str, name: &str) -> FetchItem {
    FetchItem {
        service: format!("o/{service}").parse().unwrap(),
        name: name.parse().unwrap(),
        version: version(1),
    }
}

/// `resolved` as it is expected.
pub(crate) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}
