use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::wire::{AuditInfo, NewUser, UserCertificate, UserInfo};

fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

async fn names(world: &World) -> Vec<String> {
    let users: Vec<UserInfo> = world.get("root", "users").await.json();
    users
        .into_iter()
        .map(|user| user.user.to_string())
        .collect()
}

#[tokio::test]
async fn a_user_is_added_with_a_certificate_and_removed_with_it() {
    let world = World::new().await;
    let body = json!({ "user": "carol", "role": "user", "csr": csr() });
    let added: UserCertificate = world.post("root", "users", &body).await.json();
    assert!(added.certificate.contains("BEGIN CERTIFICATE"));
    assert_eq!(added.trust_bundle, world.hub.pki.trust_bundle_pem());
    world
        .post("root", "users", &body)
        .await
        .refused(Code::Conflict);
    let unsigned = json!({ "user": "dave", "role": "user", "csr": "none" });
    world
        .post("root", "users", &unsigned)
        .await
        .refused(Code::Invalid);
    assert_eq!(
        names(&world).await,
        ["alice", "bob", "carol", "deputy", "root"]
    );
    world.delete("root", "users/carol").await.ok();
    world
        .delete("root", "users/carol")
        .await
        .refused(Code::NotFound);
    let trail = world.trail("myorg").await;
    assert_eq!(
        trail,
        ["user.add user/carol ok", "user.remove user/carol ok"]
    );
}

#[tokio::test]
async fn nobody_inherits_the_secrets_of_an_earlier_user() {
    let world = World::new().await;
    world.set("alice", "user/alice/key", "x").await.ok();
    world.delete("root", "users/alice").await.ok();
    let body = json!({ "user": "alice", "role": "user", "csr": csr() });
    let detail = world
        .post("root", "users", &body)
        .await
        .refused(Code::Conflict);
    assert!(detail.contains("user/alice/"), "{detail}");
    world.delete("root", "secrets/user/alice/key").await.ok();
    world.post("root", "users", &body).await.ok();
}

#[tokio::test]
async fn an_administrator_always_remains() {
    let world = World::new().await;
    world
        .delete("root", "users/root")
        .await
        .refused(Code::Conflict);
    // Each removes the other, at once.
    let (first, second) = tokio::join!(
        world.delete("root", "users/deputy"),
        world.delete("deputy", "users/root"),
    );
    assert_ne!(first.status.is_success(), second.status.is_success());
    let org = "myorg".parse().unwrap();
    let users = world.hub.catalog.users(&org).await.unwrap();
    let admins = users.iter().filter(|user| user.role == Role::Admin);
    assert_eq!(admins.count(), 1);
}

#[tokio::test]
async fn who_is_removed_is_no_caller_any_more() {
    let world = World::new().await;
    world.get("alice", "nodes").await.ok();
    world.delete("root", "users/alice").await.ok();
    world.get("alice", "nodes").await.refused(Code::Denied);
}

#[tokio::test]
async fn the_audit_trail_is_paged_and_followed() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.set("root", "db", "y").await.ok();
    let all: Vec<AuditInfo> = world.get("root", "audit").await.json();
    let sets: Vec<_> = all.iter().filter(|r| r.action == "secret.set").collect();
    assert_eq!(sets.len(), 2);
    assert_eq!(
        (sets[0].actor.as_str(), sets[0].peer.as_str()),
        ("user/root", "192.0.2.1:4711")
    );
    let page: Vec<AuditInfo> = world.get("root", "audit?limit=1").await.json();
    assert_eq!(page[0].seq, all[0].seq);
    let last = all.last().unwrap().seq;
    let path = format!("audit?after={last}");
    let none: Vec<AuditInfo> = world.get("root", &path).await.json();
    assert!(none.is_empty());
    let future = format!("audit?since={}", "2999-01-01T00:00:00Z");
    assert!(
        world
            .get("root", &future)
            .await
            .json::<Vec<AuditInfo>>()
            .is_empty()
    );

    // A refusal touches no node; it is heard of nevertheless.
    let path = format!("audit?after={last}&wait=60");
    let waiting = world.get("root", &path);
    let reaching = async {
        tokio::task::yield_now().await;
        world.get("alice", "users").await.refused(Code::Denied);
    };
    let (answer, ()) = tokio::join!(waiting, reaching);
    let news: Vec<AuditInfo> = answer.json();
    assert_eq!(
        (news[0].action.as_str(), news[0].result.as_str()),
        ("user.list", "denied")
    );
}

#[tokio::test]
async fn who_is_removed_while_their_call_comes_in_does_nothing_more() {
    let (key, world) = (KeyPair::generate().unwrap(), Arc::new(World::new().await));
    let csr = CertificateParams::default().serialize_request(&key);
    let accomplice = NewUser {
        user: user("accomplice"),
        role: Role::Admin,
        csr: csr.unwrap().pem().unwrap(),
    };
    world.set("root", "db", "x").await.ok();
    let calls = [
        (
            Method::POST,
            "users",
            serde_json::to_vec(&accomplice).unwrap(),
        ),
        (
            Method::PUT,
            "secrets/db",
            serde_json::to_vec(&world.sealed("deputy", "db", "y")).unwrap(),
        ),
        (
            Method::POST,
            "services",
            service("1.0.0", &["cred"]).to_string().into_bytes(),
        ),
    ];
    for (method, path, body) in calls {
        let org: OrgId = "myorg".parse().unwrap();
        let deputy = UserRecord {
            org: org.clone(),
            user: user("deputy"),
            role: Role::Admin,
            created_at: clock::now(),
        };
        let before = world.trail("myorg").await;
        // Asked for only once the caller is known: they are removed before the body is there.
        let meanwhile = futures_util::stream::once({
            let catalog = Arc::clone(&world.hub.catalog);
            let (org, deputy) = (org.clone(), deputy.user.clone());
            async move {
                catalog.remove_user(&org, &deputy, setup(&org)).await?;
                Ok::<_, crate::catalog::CatalogError>(body)
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(at(path))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from_stream(meanwhile));
        let answer = world.request("deputy", request.unwrap()).await;
        answer.refused(Code::Denied);
        assert_eq!(world.trail("myorg").await, before, "{path}");
        // For the next round.
        let catalog = &world.hub.catalog;
        catalog.add_user(&deputy, setup(&org)).await.unwrap();
        let certificate = NewCertificate {
            serial: serial("deputy"),
            not_after: Timestamp::MAX,
        };
        let added = catalog.add_user_certificate(&org, &deputy.user, &certificate);
        added.await.unwrap();
    }
}
