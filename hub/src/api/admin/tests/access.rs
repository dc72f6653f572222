use super::*;
use crate::wire::HubInfo;

/// Every call, with a body where it takes one.
fn calls() -> Vec<(Method, &'static str, Value)> {
    let document = service("1.0.0", &["cred"]);
    let sealed = json!(SealingKey::generate().public());
    vec![
        (Method::GET, "secrets", Value::Null),
        (Method::GET, "secrets/db", Value::Null),
        (Method::DELETE, "secrets/db", Value::Null),
        (Method::GET, "secret-versions/db", Value::Null),
        (Method::POST, "secret-restore/db", json!({ "version": "1" })),
        (
            Method::POST,
            "secret-reveal/db",
            json!({ "seal_to": sealed }),
        ),
        (Method::GET, "services", Value::Null),
        (Method::POST, "services", document.clone()),
        (Method::GET, "service?url=com.example.uplink", Value::Null),
        (
            Method::DELETE,
            "service?url=com.example.uplink",
            Value::Null,
        ),
        (Method::GET, "policies", Value::Null),
        (Method::GET, "policies/uplink", Value::Null),
        (
            Method::PUT,
            "policies/uplink",
            policy("1.0.0", &[("cred", "db")]),
        ),
        (Method::DELETE, "policies/uplink", Value::Null),
        (Method::GET, "policies/uplink/rollout", Value::Null),
        (Method::GET, "nodes", Value::Null),
        (Method::GET, "nodes/n1", Value::Null),
        (Method::DELETE, "nodes/n1", Value::Null),
        (
            Method::POST,
            "nodes/n1/token",
            json!({ "ttl_seconds": 3600 }),
        ),
        (Method::POST, "nodes/n1/revoke", Value::Null),
        (Method::GET, "nodes/n1/explain", Value::Null),
        (Method::GET, "users", Value::Null),
        (
            Method::POST,
            "users",
            json!({ "user": "eve", "role": "admin", "csr": "" }),
        ),
        (Method::DELETE, "users/alice", Value::Null),
        (Method::GET, "audit", Value::Null),
    ]
}

#[tokio::test]
async fn a_stranger_is_denied_everywhere_audited_and_changes_nothing() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    let before = world.trail("myorg").await;
    let calls = calls();
    for (method, path, body) in &calls {
        let answer = world.send("mallory", method.clone(), path, body).await;
        let detail = answer.refused(Code::Denied);
        assert!(detail.contains("myorg"), "{method} {path}: {detail}");
    }
    let sealed = world.sealed("mallory", "db", "x");
    let answer = world.put("mallory", "secrets/db", &sealed).await;
    answer.refused(Code::Denied);
    // In the stranger's own trail; the organisation that was reached for is as it was.
    assert_eq!(world.trail("myorg").await, before);
    let denied = world.trail("other").await;
    assert_eq!(denied.len(), calls.len() + 1);
    assert!(denied.iter().all(|record| record.ends_with(" denied")));
}

#[tokio::test]
async fn what_administrators_do_is_denied_to_users() {
    let world = World::new().await;
    world.enrol("n1", "berlin", None).await;
    let before = world.trail("myorg").await.len();
    let sealed = world.sealed("alice", "db", "x");
    let reserved = [
        (Method::PUT, "secrets/db", json!(sealed)),
        (Method::DELETE, "secrets/db", Value::Null),
        (Method::GET, "secret-versions/db", Value::Null),
        (Method::GET, "secrets/user/bob/db", Value::Null),
        (Method::DELETE, "secrets/user/bob/db", Value::Null),
        (Method::POST, "nodes/n1/token", json!({ "ttl_seconds": 60 })),
        (Method::POST, "nodes/n1/revoke", Value::Null),
        (Method::DELETE, "nodes/n1", Value::Null),
        (Method::GET, "users", Value::Null),
        (Method::DELETE, "users/bob", Value::Null),
        (Method::GET, "audit", Value::Null),
    ];
    for (method, path, body) in &reserved {
        let answer = world.send("alice", method.clone(), path, body).await;
        answer.refused(Code::Denied);
    }
    let trail = world.trail("myorg").await;
    let denied = &trail[before..];
    assert_eq!(denied.len(), reserved.len());
    assert!(denied.iter().all(|record| record.ends_with(" denied")));
    assert_eq!(denied[0], "secret.set secret/db denied");
    for path in [
        "nodes",
        "nodes/n1",
        "nodes/n1/explain",
        "services",
        "policies",
        "secrets",
    ] {
        world.get("alice", path).await.ok();
    }
}

#[tokio::test]
async fn names_that_are_none_are_refused_with_the_reason() {
    let world = World::new().await;
    for path in [
        "/v1/orgs/.hidden/nodes",
        "nodes/..%2Fn1",
        "nodes/a%00b",
        "secrets/a/..%2Fb",
        "secrets/user/alice",
        "secrets/openhorizon/x",
        "policies/a%20b",
        "audit?after=x",
        "audit?since=yesterday",
        "service?version=1",
        "service?url=%01",
    ] {
        world.get("root", path).await.refused(Code::BadRequest);
    }
    let long = "x".repeat(600);
    let answer = world.get("root", &format!("secrets/{long}")).await;
    assert!(answer.refused(Code::BadRequest).contains("too long"));
}

#[tokio::test]
async fn a_client_learns_who_it_is_and_where_to_seal() {
    let world = World::new().await;
    let info: HubInfo = world.get("alice", "/v1/hub").await.json();
    assert_eq!((info.user, info.role), (user("alice"), Role::User));
    assert_eq!(info.sealing_key, world.hub.sealing_key.public());
}
