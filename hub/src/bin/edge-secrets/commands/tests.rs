use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use edge_secrets_hub::wire::{RevealSecret, SetSecret};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Fields, OrgId, PublicKey, SealingKey, Secret, UserId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::output::TestUi;
use crate::testing::{Answer, Asked, FakeHub};

mod managed;
mod metadata;

const CANARY: &str = "canary-7d1f-hunter2";

fn hub_info(key: &PublicKey, user: &str) -> Value {
    json!({"version": "0.1.0", "sealing_key": key, "org": "myorg", "user": user, "role": "admin"})
}

/// A hub that keeps one secret, `user/alice/db`, as real hubs do: in clear nowhere but in memory.
async fn hub_with_a_secret() -> FakeHub {
    let key = Arc::new(SealingKey::generate());
    let kept = Arc::new(Mutex::new(None::<Secret>));
    FakeHub::start(move |asked| {
        let answer = keep_secret(&key, &kept, &asked);
        async move { answer }
    })
    .await
}

fn keep_secret(key: &SealingKey, kept: &Mutex<Option<Secret>>, asked: &Asked) -> Answer {
    let org: OrgId = "myorg".parse().unwrap();
    let user: UserId = "alice".parse().unwrap();
    let reference = "user/alice/db";
    let at = "2026-03-01T12:00:00Z";
    match asked.line().as_str() {
        "GET /v1/hub" => Answer::json(&hub_info(&key.public(), "alice")),
        "PUT /v1/orgs/myorg/secrets/user/alice/db" => {
            let body: SetSecret = serde_json::from_slice(&asked.body).unwrap();
            let place = Place::Set {
                org: &org,
                user: &user,
                reference,
            };
            *kept.lock().unwrap() = Some(body.sealed.open(key, &place).unwrap());
            Answer::json(&json!({"version": "3", "nodes": 2, "at": at}))
        }
        "POST /v1/orgs/myorg/secret-reveal/user/alice/db" => {
            let body: RevealSecret = serde_json::from_slice(&asked.body).unwrap();
            let version = body.version.unwrap_or_else(|| "3".parse().unwrap());
            let place = Place::Reveal {
                org: &org,
                user: &user,
                reference,
                version: &version,
            };
            let kept = kept.lock().unwrap();
            let sealed = body.seal_to.seal(&place, kept.as_ref().unwrap()).unwrap();
            Answer::json(&json!({"version": version, "sealed": sealed}))
        }
        "GET /v1/orgs/myorg/secrets/user/alice/db" => Answer::json(&json!({
            "reference": reference, "version": "3", "created_at": at, "updated_at": at,
            "updated_by": "alice", "fields": ["value"]})),
        "GET /v1/orgs/myorg/secret-versions/user/alice/db" => Answer::json(&json!([
            {"version": "3", "current": true, "fields": ["value"], "created_at": at,
             "created_by": "alice", "restored_from": "1"}])),
        "DELETE /v1/orgs/myorg/secrets/user/alice/db" => Answer::json(&json!({"nodes": 1})),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_value_comes_back_as_it_was_set_and_travels_sealed() {
    let hub = hub_with_a_secret().await;
    let value = format!("{CANARY}\n");
    let set = hub
        .run("secret set user/alice/db --value-file -", value.as_bytes())
        .await;
    assert_eq!(
        set.out(),
        "Secret user/alice/db is at version 3; it goes to 2 nodes.\n"
    );

    let raw = hub.run("secret show user/alice/db --reveal", b"").await;
    assert_eq!(raw.out(), value);
    let json = hub
        .run(
            "secret show user/alice/db --reveal --version 2 -o json",
            b"",
        )
        .await;
    let json: Value = serde_json::from_str(&json.out()).unwrap();
    assert_eq!(json, json!({ "value": value }));

    for asked in hub.seen() {
        let body = String::from_utf8(asked.body.to_vec()).unwrap();
        assert!(!body.contains(CANARY), "{asked:?}");
    }
}

#[tokio::test]
async fn fields_travel_under_their_names() {
    let hub = hub_with_a_secret().await;
    let object = br#"{"key": "basicauth", "value": "user:pw"}"#;
    hub.run("secret set user/alice/db --from-file -", object)
        .await
        .out();
    let shown = hub
        .run("secret show user/alice/db --reveal", b"")
        .await
        .out();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown, json!({"key": "basicauth", "value": "user:pw"}));
}

#[tokio::test]
async fn without_reveal_no_value_is_even_fetched() {
    let hub = hub_with_a_secret().await;
    let mut said = String::new();
    let set = "secret set user/alice/db --value-file -";
    for (line, input) in [
        (set, CANARY),
        ("secret set user/alice/db --value-file - -o json", CANARY),
        ("secret show user/alice/db", ""),
        ("secret show user/alice/db -o json", ""),
        ("secret show user/alice/db -o yaml --version 3", ""),
        ("secret versions user/alice/db", ""),
        ("secret rm user/alice/db --yes", ""),
    ] {
        let ran = hub.run(line, input.as_bytes()).await;
        said += &(ran.out() + &ran.err());
    }
    let words: Vec<_> = said.split_whitespace().collect();
    assert!(
        words.windows(2).any(|w| w == ["fields:", "value"]),
        "{said}"
    );
    assert!(said.contains("RESTORED FROM"), "{said}");
    assert!(!said.contains(CANARY), "{said}");
    assert!(!hub.lines().iter().any(|line| line.contains("reveal")));
}

#[tokio::test]
async fn a_value_sealed_for_another_place_is_not_shown() {
    let hub = FakeHub::start(|asked| async move {
        if asked.path == "/v1/hub" {
            return Answer::json(&hub_info(&SealingKey::generate().public(), "alice"));
        }
        let body: RevealSecret = serde_json::from_slice(&asked.body).unwrap();
        let (org, user) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
        let version = "3".parse().unwrap();
        let place = Place::Reveal {
            org: &org,
            user: &user,
            reference: "another",
            version: &version,
        };
        let payload = Fields::encode(&[("value".parse().unwrap(), CANARY.as_bytes())]).unwrap();
        let sealed = body.seal_to.seal(&place, &payload).unwrap();
        Answer::json(&json!({"version": version, "sealed": sealed}))
    })
    .await;
    let ran = hub.run("secret show db --reveal", b"").await;
    assert_eq!((ran.code(), ran.test.out().as_str()), (1, ""));
    let ran = hub.run("secret show db --reveal --version 2", b"").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.err().contains("version 3 instead"), "{}", ran.err());
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_noticed() {
    let key = SealingKey::generate().public();
    let hub = FakeHub::start(move |_| {
        let info = hub_info(&key, "bob");
        async move { Answer::json(&info) }
    })
    .await;
    let ran = hub.run("secret set db --value-file -", b"x").await;
    assert_eq!(ran.code(), 64);
    assert!(
        ran.err().contains("alice") && ran.err().contains("bob"),
        "{}",
        ran.err()
    );
    assert_eq!(hub.lines(), ["GET /v1/hub"]);
}

#[tokio::test]
async fn nothing_is_destroyed_in_a_pipe_without_yes() {
    let hub = FakeHub::start(|_| async { Answer::json(&json!({})) }).await;
    for line in [
        "secret rm db",
        "policy rm uplink",
        "node rm edge-01",
        "node revoke edge-01",
        "user rm bob",
    ] {
        let ran = hub.run(line, b"y\n").await;
        assert_eq!(ran.code(), 64, "{line}");
        assert!(ran.err().contains("--yes"), "{}", ran.err());
    }
    assert!(hub.seen().is_empty());
    let ran = hub.run("node revoke edge-01 --yes", b"").await;
    assert!(ran.out().contains("revoked"));
    assert_eq!(hub.lines(), ["POST /v1/orgs/myorg/nodes/edge-01/revoke"]);
}

fn published(dry_run: bool) -> Value {
    json!({"dry_run": dry_run, "untouched_nodes": 4, "warnings": [], "changes": [
        {"node": "edge-01", "service": {"org": "myorg", "url": "com.example.uplink"},
         "service_version": "1.2.0", "policy": "uplink", "change": "undeploy",
         "secrets": [{"name": "cred", "references": ["xyz"]}]}]})
}

#[tokio::test]
async fn who_withdraws_a_policy_sees_first_what_it_does() {
    let answer =
        |asked: Asked| async move { Answer::json(&published(asked.query == "dry_run=true")) };
    let hub = FakeHub::start(answer).await;
    let withdraw = async |answer: &[u8]| {
        let ui = |_: &_| TestUi::new(None, answer).on_terminal();
        hub.run_as("policy rm uplink", ui).await
    };
    let ran = withdraw(b"n\n").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.err().contains("edge-01  loses"), "{}", ran.err());
    let queries = || {
        hub.seen()
            .into_iter()
            .map(|asked| asked.query)
            .collect::<Vec<_>>()
    };
    assert_eq!(queries(), ["dry_run=true"]);

    let ran = withdraw(b"y\n").await;
    assert!(
        ran.out()
            .starts_with("Policy uplink is withdrawn: 1 node changed"),
        "{}",
        ran.out()
    );
    assert_eq!(queries()[1..], ["dry_run=true", "dry_run=false"]);
}

#[tokio::test]
async fn documents_go_as_they_are() {
    let hub = FakeHub::start(|asked| async move {
        if asked.body.starts_with(b"broken") {
            return Answer::problem(Code::Invalid, "line 1: service is missing");
        }
        Answer::json(&published(asked.query.contains("dry_run=true")))
    })
    .await;
    let text = "# kept\nlabel: x\n";
    hub.file("p.yaml", text);
    let ran = hub
        .run("policy publish uplink DIR/p.yaml --dry-run", b"")
        .await;
    assert!(
        ran.out().starts_with("Dry run: nothing has changed."),
        "{}",
        ran.out()
    );
    let ran = hub.run("service publish - -o json", b"{ \"url\": 1}").await;
    let shown: Value = serde_json::from_str(&ran.out()).unwrap();
    assert_eq!(shown["changes"], published(false)["changes"]);

    let seen = hub.seen();
    assert_eq!(seen[0].line(), "PUT /v1/orgs/myorg/policies/uplink");
    assert_eq!(
        (&*seen[0].body, &*seen[0].media_type),
        (text.as_bytes(), "application/yaml")
    );
    assert_eq!(seen[1].line(), "POST /v1/orgs/myorg/services");
    assert_eq!(
        (&*seen[1].body, &*seen[1].media_type),
        (&b"{ \"url\": 1}"[..], "application/json")
    );

    hub.file("p.yaml", "broken: 1\n");
    let ran = hub.run("policy publish uplink DIR/p.yaml", b"").await;
    assert_eq!(ran.code(), 1);
    assert!(
        ran.err().contains("p.yaml: invalid: line 1"),
        "{}",
        ran.err()
    );
}

#[tokio::test]
async fn a_document_is_shown_in_the_order_it_was_written() {
    let hub =
        FakeHub::start(|_| async { Answer::raw(200, r#"{"z": 1, "a": {"y": [true]}}"#) }).await;
    let yaml = hub.run("policy show uplink", b"").await;
    assert_eq!(yaml.out(), "z: 1\na:\n  y:\n  - true\n");
    let json = hub.run("policy show uplink -o json", b"").await;
    let compact: String = json.out().split_whitespace().collect();
    assert_eq!(compact, r#"{"z":1,"a":{"y":[true]}}"#);
}

fn rollout(applied: usize, tag: &str) -> Value {
    json!({"policy": "uplink", "tag": tag, "applied": applied, "total": 2, "nodes": []})
}

/// Not moved, then moved once, then done.
fn rollout_at(step: usize) -> Answer {
    Answer::json(&match step {
        0 | 1 => rollout(0, "a"),
        2 => rollout(1, "b"),
        _ => rollout(2, "c"),
    })
}

#[tokio::test]
async fn a_rollout_is_watched_until_all_have_applied() {
    let steps = Arc::new(AtomicUsize::new(0));
    let hub = FakeHub::start(move |_| {
        let step = steps.fetch_add(1, Ordering::Relaxed);
        async move { rollout_at(step) }
    })
    .await;
    let ran = hub.run("rollout uplink --watch -o json", b"").await;
    let out = ran.out();
    let applied: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["applied"].clone())
        .collect();
    assert_eq!(applied, [0, 1, 2]);
    let queries: Vec<_> = hub.seen().into_iter().map(|asked| asked.query).collect();
    assert_eq!(
        queries,
        ["", "after=a&wait=30", "after=a&wait=30", "after=b&wait=30"]
    );
}

#[tokio::test]
async fn a_watch_outlives_a_hub_that_is_away() {
    let steps = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(Mutex::new(None::<Arc<Mutex<JoinSet<()>>>>));
    let handle = Arc::clone(&connections);
    let hub = FakeHub::start(move |_| {
        let step = steps.fetch_add(1, Ordering::Relaxed);
        let handle = Arc::clone(&handle);
        async move {
            match step {
                2 => {
                    let connections = handle.lock().unwrap().take().unwrap();
                    FakeHub::cut(&connections);
                    std::future::pending().await
                }
                3 => Answer::problem(Code::Unavailable, "starting"),
                step => rollout_at(step),
            }
        }
    })
    .await;
    *connections.lock().unwrap() = Some(hub.connections());
    let ran = hub.run("rollout uplink --watch", b"").await;
    let out = ran.out();
    assert_eq!(out.matches("applied").count(), 2, "{out}");
    assert!(out.contains("applied 2/2"), "{out}");
    assert_eq!(
        ran.err().matches("trying again").count(),
        1,
        "{}",
        ran.err()
    );
    assert!(ran.err().contains("is back"), "{}", ran.err());
}

fn record(seq: u64) -> Value {
    json!({"seq": seq, "at": "2026-03-01T12:00:00Z", "actor": "user/alice", "action": "secret.set",
           "object": "db", "result": "ok", "detail": "", "peer": ""})
}

#[tokio::test]
async fn the_whole_trail_is_read_page_by_page() {
    let hub = FakeHub::start(|asked| async move {
        let page = match asked.query.split('&').next().unwrap() {
            "after=0" => vec![record(3), record(5)],
            "after=5" => vec![record(9)],
            "after=9" => vec![],
            other => panic!("{other}"),
        };
        Answer::json(&page)
    })
    .await;
    let ran = hub
        .run("audit --since 2026-03-01T00:00:00Z -o json", b"")
        .await;
    let shown: Vec<Value> = serde_json::from_str(&ran.out()).unwrap();
    assert_eq!(shown, [record(3), record(5), record(9)]);
    assert!(
        hub.seen()[0]
            .query
            .contains("since=2026-03-01T00%3A00%3A00Z")
    );
}

#[tokio::test]
async fn a_followed_trail_shows_each_record_once() {
    let hub = FakeHub::start(|asked| async move {
        let waits = asked.query.ends_with("&wait=30");
        match (asked.query.split('&').next().unwrap(), waits) {
            ("after=0", false) => Answer::json(&[record(3), record(5)]),
            ("after=5", true) => Answer::json(&[record(9)]),
            // The way out of an endless command.
            _ => Answer::problem(Code::Denied, "no longer yours"),
        }
    })
    .await;
    let ran = hub.run("audit --follow -o json", b"").await;
    assert_eq!(ran.code(), 77);
    let out = ran.test.out();
    let shown: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(shown, [record(3), record(5), record(9)]);
}

#[tokio::test]
async fn a_token_alone_goes_to_standard_output() {
    let hub = FakeHub::start(|_| async {
        Answer::json(&json!({"token": "es1.x", "expires_at": "2026-03-01T12:00:00Z"}))
    })
    .await;
    let ran = hub
        .run("node token edge-01 --ttl 15m --owner bob", b"")
        .await;
    assert_eq!(ran.out(), "es1.x\n");
    let body: Value = serde_json::from_slice(&hub.seen()[0].body).unwrap();
    assert_eq!(body, json!({"ttl_seconds": 900, "owner": "bob"}));
}

#[tokio::test]
async fn a_new_user_gets_a_context_that_works() {
    let hub = FakeHub::start(|asked| async move {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        if body["user"] == "eve" {
            return Answer::problem(Code::Denied, "only administrators add users");
        }
        assert!(
            body["csr"]
                .as_str()
                .unwrap()
                .contains("BEGIN CERTIFICATE REQUEST")
        );
        Answer::json(&json!({"certificate": "CERT", "trust_bundle": "CA"}))
    })
    .await;
    let add = "user add bob --role user --out DIR/bob.yaml";
    assert!(hub.run(add, b"").await.out().contains("bob.yaml"));
    let file = |name: &str| std::fs::read_to_string(hub.dir.path().join(name)).unwrap();
    let context = crate::context::Context::load(&hub.dir.path().join("bob.yaml")).unwrap();
    assert_eq!(context.hub.as_str(), format!("https://{}", hub.address()));
    assert_eq!(context.user.as_str(), "bob");
    assert_eq!(context.key, hub.dir.path().join("bob.key"));
    assert_eq!(
        (file("bob.crt"), file("bob.ca.crt")),
        ("CERT".into(), "CA".into())
    );
    let key = file("bob.key");
    assert!(key.contains("PRIVATE KEY"));
    assert!(
        !String::from_utf8(hub.seen()[0].body.to_vec())
            .unwrap()
            .contains("PRIVATE")
    );

    let again = hub.run(add, b"").await;
    assert_eq!(again.code(), 64);
    assert_eq!(file("bob.key"), key);
    let refused = hub
        .run("user add eve --role admin --out DIR/eve.yaml", b"")
        .await;
    assert_eq!(refused.code(), 77);
    for left in ["eve.yaml", "eve.crt", "eve.key", "eve.ca.crt"] {
        assert!(!hub.dir.path().join(left).exists(), "{left}");
    }
}
