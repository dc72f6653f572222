//! Changes committed to a real catalog, by one hub and by two.

use std::sync::Arc;

use edge_secrets_protocol::SealingKey;

use super::*;
use crate::catalog::records::{Actor, Belonging, Enrolment, NewAudit, NewCertificate, NewToken};
use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Catalog, CatalogError};
use crate::deploy::{Models, apply_to};

pub(super) struct Place {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) _dir: tempfile::TempDir,
}

pub(super) async fn place_with_org() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&dir.path().join("hub.db"))
        .await
        .unwrap();
    catalog.create_org(&org(), audit()).await.unwrap();
    Place {
        catalog: Arc::new(catalog),
        _dir: dir,
    }
}

pub(super) fn audit() -> NewAudit {
    NewAudit {
        org: org(),
        at: Timestamp::UNIX_EPOCH,
        actor: Actor::Hub,
        action: "test".into(),
        object: String::new(),
        result: "ok".into(),
        detail: String::new(),
        peer: String::new(),
    }
}

async fn apply(place: &Place, models: &Models, change: Change) -> Result<(), CatalogError> {
    apply_to(&*place.catalog, models, &org(), change, audit())
        .await
        .map(drop)
}

async fn enrol(place: &Place, models: &Models, name: &str, owner: Option<&str>) {
    let belongs = Belonging {
        owner: owner.map(|owner| owner.parse().unwrap()),
        pattern: None,
    };
    enrol_as(place, models, &org(), name, belongs).await;
}

pub(super) async fn enrol_as(
    place: &Place,
    models: &Models,
    org: &OrgId,
    name: &str,
    belongs: Belonging,
) {
    let mut hash = [0; 32];
    hash[..name.len()].copy_from_slice(name.as_bytes());
    let token = NewToken {
        org: org.clone(),
        node: name.parse().unwrap(),
        belongs,
        hash,
        expires_at: "2999-01-01T00:00:00Z".parse().unwrap(),
    };
    place.catalog.add_token(&token, audit()).await.unwrap();
    let enrolment = Enrolment {
        node: token.node,
        token_hash: hash,
        belongs: token.belongs,
        certificate: NewCertificate {
            serial: data_encoding::HEXLOWER.encode(name.as_bytes()),
            not_after: "2999-01-01T00:00:00Z".parse().unwrap(),
        },
        sealing_key: SealingKey::generate().public(),
        facts: facts("berlin"),
        at: Timestamp::UNIX_EPOCH,
    };
    let change = Change::Enrol(Box::new(enrolment));
    let enrolled = apply_to(&*place.catalog, models, org, change, audit()).await;
    enrolled.unwrap();
}

/// What the catalog holds of every node against a computation from nothing.
async fn assert_settled(place: &Place) {
    let snapshot = place.catalog.snapshot(&org()).await.unwrap();
    for (node, wanted) in whole(&Model::load(&org(), snapshot, None)) {
        let bindings = place.catalog.bindings(&org(), &node, None).await.unwrap();
        let stored: Vec<_> = bindings.deployments.into_iter().map(|d| d.placed).collect();
        assert_eq!(stored, wanted, "{node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hubs_over_one_catalog_lose_no_change() {
    let place = Arc::new(place_with_org().await);
    let hubs = [Arc::new(Models::default()), Arc::new(Models::default())];
    let service = Change::PutService(service("uplink", "1.0.0", "cred"));
    apply(&place, &hubs[0], service).await.unwrap();
    for at in 0..4 {
        enrol(&place, &hubs[at % 2], &format!("n{at}"), None).await;
    }
    let work = hubs.into_iter().enumerate().map(|(at, models)| {
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            // Fewer changes than attempts: whatever the order, none can fail for ever.
            for round in 0..7 {
                let site = if (round + at) % 2 == 0 {
                    "berlin"
                } else {
                    "paris"
                };
                let name = format!("p{at}");
                let change = Change::PutPolicy(policy(&name, "uplink", "1.0.0", site, "cred"));
                apply(&place, &models, change).await.unwrap();
                let change = Change::PutFacts {
                    node: format!("n{}", round % 4).parse().unwrap(),
                    facts: Box::new(facts(site)),
                };
                apply(&place, &models, change).await.unwrap();
            }
        })
    });
    for work in work.collect::<Vec<_>>() {
        work.await.unwrap();
    }
    assert_settled(&place).await;
}

#[tokio::test]
async fn an_enrolled_node_is_placed_as_its_owners() {
    let place = place_with_org().await;
    let models = Models::default();
    let service = Change::PutService(service("uplink", "1.0.0", "cred"));
    apply(&place, &models, service).await.unwrap();
    let mut private = policy("p", "uplink", "1.0.0", "berlin", "cred");
    private.document = private.document.replace("\"db\"", "\"user/alice/db\"");
    apply(&place, &models, Change::PutPolicy(private))
        .await
        .unwrap();
    for (node, owner, denied) in [
        ("hers", Some("alice"), false),
        ("his", Some("bob"), true),
        ("nobodys", None, true),
    ] {
        enrol(&place, &models, node, owner).await;
        let node = node.parse().unwrap();
        let bindings = place.catalog.bindings(&org(), &node, None).await.unwrap();
        let placed = &bindings.deployments[0].placed;
        assert_eq!(placed.bindings[&"cred".parse().unwrap()].denied, denied);
    }
    assert_settled(&place).await;
}

#[tokio::test]
async fn a_model_follows_its_own_changes_without_a_new_snapshot() {
    let place = place_with_org().await;
    let models = Models::default();
    let service = Change::PutService(service("uplink", "1.0.0", "cred"));
    apply(&place, &models, service).await.unwrap();
    let before = models.current(&*place.catalog, &org()).await.unwrap();
    let change = Change::PutPolicy(policy("p", "uplink", "1.0.0", "berlin", "cred"));
    apply(&place, &models, change).await.unwrap();
    let after = models.current(&*place.catalog, &org()).await.unwrap();
    let snapshot = place.catalog.snapshot(&org()).await.unwrap();
    assert_eq!(after.revision, snapshot.revision);
    assert_eq!(after.policies.len(), 1);
    // Not even the record was read again: it is the one that was.
    let key = after.services.keys().next().unwrap();
    assert!(Arc::ptr_eq(&before.services[key], &after.services[key]));
}

#[tokio::test]
async fn a_failed_change_leaves_the_model_as_it_was() {
    let place = place_with_org().await;
    let models = Models::default();
    let removal = Change::RemovePolicy("p".parse().unwrap());
    let refused = apply(&place, &models, removal).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
    let model = models.current(&*place.catalog, &org()).await.unwrap();
    let revision = place.catalog.revision(&org()).await.unwrap();
    assert_eq!((model.policies.len(), model.revision), (0, revision));
}

#[tokio::test]
async fn an_organisation_that_is_not_there_leaves_no_trace() {
    let place = place_with_org().await;
    let models = Models::default();
    let nowhere: OrgId = "nowhere".parse().unwrap();
    let change = Change::RemoveNode("n".parse().unwrap());
    let refused = apply_to(&*place.catalog, &models, &nowhere, change, audit()).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
    assert!(models.is_empty());
}
