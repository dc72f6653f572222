//! Organisations, users and their certificates.

use super::Place;
use super::world::{World, at, audit, certificate, org};
use crate::catalog::CatalogError;
use crate::catalog::records::{Role, UserRecord};

fn user(name: &str, role: Role) -> UserRecord {
    UserRecord {
        org: org("o"),
        user: name.parse().unwrap(),
        role,
        created_at: at(3),
    }
}

pub(crate) async fn an_organisation_is_created_once(place: &mut dyn Place) {
    let world = World::new(place).await;
    let again = world
        .catalog
        .create_org(&world.org, audit("org.create"))
        .await;
    assert!(matches!(again, Err(CatalogError::Exists(_))));
    assert_eq!(world.trail().await.len(), 1);

    let nowhere = org("nowhere");
    let snapshot = world.catalog.snapshot(&nowhere).await;
    assert!(matches!(snapshot, Err(CatalogError::NotFound(_))));
    let lost = UserRecord {
        org: nowhere,
        ..user("alice", Role::User)
    };
    let added = world.catalog.add_user(&lost, audit("user.add")).await;
    assert!(matches!(added, Err(CatalogError::NotFound(_))));
}

pub(crate) async fn users_come_and_go_with_their_certificates(place: &mut dyn Place) {
    let world = World::new(place).await;
    let catalog = &world.catalog;
    let (bob, alice) = (user("bob", Role::User), user("alice", Role::Admin));
    for user in [&bob, &alice] {
        catalog.add_user(user, audit("user.add")).await.unwrap();
    }
    let again = catalog.add_user(&bob, audit("user.add")).await;
    assert!(matches!(again, Err(CatalogError::Exists(_))));
    assert_eq!(
        catalog.users(&world.org).await.unwrap(),
        [alice.clone(), bob.clone()]
    );

    let issued = catalog
        .add_user_certificate(&world.org, &alice.user, &certificate("a1"))
        .await;
    issued.unwrap();
    let identity = catalog.user_identity("a1").await.unwrap().unwrap();
    assert_eq!(
        (identity.user, identity.role),
        (alice.user.clone(), Role::Admin)
    );
    assert_eq!(catalog.user_identity("b1").await.unwrap(), None);
    assert_eq!(catalog.node_identity("a1").await.unwrap(), None);

    let removed = catalog
        .remove_user(&world.org, &alice.user, audit("user.remove"))
        .await;
    removed.unwrap();
    assert_eq!(catalog.user_identity("a1").await.unwrap(), None);
    assert_eq!(catalog.users(&world.org).await.unwrap(), [bob]);
    let again = catalog
        .remove_user(&world.org, &alice.user, audit("user.remove"))
        .await;
    assert!(matches!(again, Err(CatalogError::NotFound(_))));
    let issued = catalog
        .add_user_certificate(&world.org, &alice.user, &certificate("a2"))
        .await;
    assert!(matches!(issued, Err(CatalogError::NotFound(_))));

    // Who comes back under the same name does not get the old certificate with it.
    catalog.add_user(&alice, audit("user.add")).await.unwrap();
    assert_eq!(catalog.user_identity("a1").await.unwrap(), None);
}

pub(crate) async fn a_serial_is_recorded_once(place: &mut dyn Place) {
    let world = World::new(place).await;
    let alice = user("alice", Role::User);
    let added = world.catalog.add_user(&alice, audit("user.add")).await;
    added.unwrap();
    let one = certificate("1");
    let issue = || {
        world
            .catalog
            .add_user_certificate(&world.org, &alice.user, &one)
    };
    issue().await.unwrap();
    assert!(matches!(issue().await, Err(CatalogError::Exists(_))));
}
