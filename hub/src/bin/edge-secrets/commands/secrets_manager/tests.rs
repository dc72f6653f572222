use std::sync::{Arc, Mutex};

use edge_secrets_hub::wire::SetSecret;
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Fields, OrgId, SealingKey, UserId};
use serde_json::json;

use crate::testing::{Answer, Asked, FakeHub};

/// What was set: reference, key, value.
type Sets = Arc<Mutex<Vec<(String, String, String)>>>;

/// `db` is there, `denied` is another's, and all else is not there.
async fn hub(role: &'static str) -> (FakeHub, Sets) {
    let key = Arc::new(SealingKey::generate());
    let sets = Sets::default();
    let log = Arc::clone(&sets);
    let hub = FakeHub::start(move |asked| {
        let answer = answer(&key, role, &log, &asked);
        async move { answer }
    })
    .await;
    (hub, sets)
}

fn answer(
    key: &SealingKey,
    role: &str,
    sets: &Mutex<Vec<(String, String, String)>>,
    asked: &Asked,
) -> Answer {
    let info = |reference: &str| {
        json!({"reference": reference, "version": "1", "created_at": AT, "updated_at": AT,
               "updated_by": "alice"})
    };
    let name = asked.path.strip_prefix("/v1/orgs/myorg/secrets/");
    match (asked.method.as_str(), asked.path.as_str(), name) {
        (_, "/v1/hub", _) => Answer::json(&json!({
            "version": "0.1.0", "sealing_key": key.public(), "org": "myorg", "user": "alice",
            "role": role,
        })),
        (_, "/v1/orgs/other/secrets" | "/v1/orgs/myorg/secret-reveal/denied", _)
        | (_, _, Some("denied")) => Answer::problem(Code::Denied, "no"),
        ("GET", "/v1/orgs/myorg/secrets", _) => Answer::json(&[
            info("a/b"),
            info("db"),
            info("node/n1/db"),
            info("user/alice/db"),
        ]),
        ("GET", _, Some(name @ "db")) => Answer::json(&info(name)),
        ("DELETE", _, Some("db")) => Answer::json(&json!({"nodes": 1})),
        ("PUT", _, Some(reference)) => {
            let (org, user): (OrgId, UserId) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
            let place = Place::Set {
                org: &org,
                user: &user,
                reference,
            };
            let body: SetSecret = serde_json::from_slice(&asked.body).unwrap();
            let payload = body.sealed.open(key, &place).unwrap();
            let fields = Fields::decode(payload.expose()).unwrap();
            let text = |name: &str| {
                let (_, value) = fields.expose().find(|(known, _)| *known == name).unwrap();
                String::from_utf8(value.to_vec()).unwrap()
            };
            sets.lock()
                .unwrap()
                .push((reference.to_owned(), text("key"), text("value")));
            Answer::json(&json!({"version": "1", "nodes": 0, "at": AT}))
        }
        _ => Answer::problem(Code::NotFound, "it is not there"),
    }
}

#[tokio::test]
async fn a_secret_is_added_from_a_file_standard_input_or_the_command_line() {
    let (hub, sets) = hub("admin").await;
    hub.file("value", "u:p\n");
    let added = hub
        .run("sm secret add --secretKey basicauth -f DIR/value new", b"")
        .await;
    assert_eq!(
        added.out(),
        "Secret \"new\" successfully added to the secrets manager.\n"
    );
    hub.run(
        "secretsmanager secret add a/b/c --secretKey k -f- -n n1",
        b"from stdin",
    )
    .await
    .out();
    let loud = hub
        .run("sm secret add new --secretKey k -d canary", b"")
        .await;
    assert!(
        loud.err().starts_with("warning: other processes"),
        "{}",
        loud.err()
    );
    assert!(!(loud.err() + &loud.out()).contains("canary"));
    let wanted = [
        ("new", "basicauth", "u:p\n"),
        ("node/n1/a/b/c", "k", "from stdin"),
        ("new", "k", "canary"),
    ];
    let wanted = wanted.map(|(r, k, v)| (r.to_owned(), k.to_owned(), v.to_owned()));
    assert_eq!(*sets.lock().unwrap(), wanted);
}

#[tokio::test]
async fn what_is_there_is_replaced_when_somebody_or_a_script_says_y() {
    let (hub, sets) = hub("admin").await;
    let line = "sm secret add db --secretKey k -d v";
    for (line, input, out, set) in [
        (line, &b"n\n"[..], "Exiting.\n", 0),
        (line, b"", "Exiting.\n", 0),
        (
            line,
            b"Y\n",
            "Secret \"db\" successfully added to the secrets manager.\n",
            1,
        ),
        (
            "sm secret add db --secretKey k -d v -O",
            b"",
            "Secret \"db\" successfully added to the secrets manager.\n",
            2,
        ),
        (
            "--yes sm secret add db --secretKey k -d v",
            b"",
            "Secret \"db\" successfully added to the secrets manager.\n",
            3,
        ),
    ] {
        let ran = hub.run(line, input).await;
        assert_eq!((ran.code(), ran.out().as_str()), (0, out), "{line}");
        assert_eq!(sets.lock().unwrap().len(), set, "{line}");
    }
}

#[tokio::test]
async fn lines_that_say_too_little_or_too_much_set_nothing() {
    let (hub, sets) = hub("admin").await;
    for (line, input, words) in [
        (
            "sm secret add db --secretKey k",
            &b""[..],
            "Must specify either -f or --secretDetail.",
        ),
        (
            "sm secret add db --secretKey k -f- -d v",
            b"v",
            "-f is mutually exclusive with --secretDetail.",
        ),
        (
            "sm secret add db --secretKey k -f-",
            b"",
            "the value is empty",
        ),
        (
            "sm secret add db canary --secretKey k -d v",
            b"",
            "more on the line",
        ),
        (
            "sm secret add user --secretKey k -d v",
            b"",
            "User must be specified",
        ),
        ("sm secret read user/alice", b"", "Incorrect secret name"),
    ] {
        let ran = hub.run(line, input).await;
        assert_eq!(ran.code(), 64, "{line}: {}", ran.err());
        assert!(ran.err().contains(words), "{line}: {}", ran.err());
        assert!(!ran.err().contains("canary"), "{}", ran.err());
    }
    assert!(sets.lock().unwrap().is_empty());
}

#[tokio::test]
async fn existence_is_an_answer_and_an_exit_code() {
    let (hub, _) = hub("admin").await;
    let there = hub.run("sm secret list db", b"").await;
    assert_eq!(there.out(), "{\n  \"exists\": true\n}\n");
    let absent = hub.run("sm secret ls absent", b"").await;
    assert_eq!((absent.code(), absent.err().as_str()), (1, ""));
    assert_eq!(absent.test.out(), "{\n  \"exists\": false\n}\n");
}

#[tokio::test]
async fn scopes_are_listed_without_what_is_within_them() {
    let (hub, _) = hub("user").await;
    for (line, out) in [
        ("sm secret list", "[\n  \"a/b\",\n  \"db\"\n]\n"),
        ("sm secret list user/alice", "[\n  \"db\"\n]\n"),
        ("sm secret list -n n1", "[\n  \"db\"\n]\n"),
        ("sm secret list user/alice -n n1", "[]\n"),
        ("sm secret list --output yaml", "- a/b\n- db\n"),
    ] {
        assert_eq!(hub.run(line, b"").await.out(), out, "{line}");
    }
    let all = hub.run("sm secret list --listAll", b"").await.out();
    assert!(
        all.contains("node/n1/db") && all.contains("user/alice/db"),
        "{all}"
    );
    let others = hub.run("sm secret list user/bob", b"").await;
    assert_eq!(others.code(), 77);
    assert!(
        others
            .err()
            .contains("Permission denied, user \"alice\" cannot list"),
        "{}",
        others.err()
    );
}

#[tokio::test]
async fn a_secret_is_removed_when_it_is_meant() {
    let (hub, _) = hub("admin").await;
    let kept = hub.run("sm secret remove db", b"no\n").await;
    assert_eq!(kept.out(), "Exiting.\n");
    assert!(!hub.lines().iter().any(|line| line.starts_with("DELETE")));
    let gone = hub.run("sm secret rm -f db", b"").await;
    assert_eq!(
        gone.out(),
        "Secret \"db\" successfully deleted from the secrets manager.\n"
    );
    assert!(gone.err().contains("1 node bound to it"), "{}", gone.err());
    let absent = hub.run("sm secret rm -f absent", b"").await;
    assert_eq!(absent.code(), 1);
    assert!(
        absent.err().contains("nothing to remove"),
        "{}",
        absent.err()
    );
}

#[tokio::test]
async fn refusals_come_in_the_words_that_scripts_look_for() {
    let (hub, _) = hub("admin").await;
    for (line, code, words) in [
        (
            "sm secret list denied",
            77,
            "Permission denied, user \"alice\" cannot list secret \"denied\" in organization \"myorg\"",
        ),
        ("sm secret read denied", 77, "cannot read secret"),
        ("sm secret rm -f denied", 77, "cannot remove secret"),
        (
            "sm secret add denied --secretKey k -d v",
            77,
            "cannot add secret",
        ),
        (
            "sm secret read absent",
            1,
            "No secret(s) found under secret name \"absent\"",
        ),
        ("sm secret list -o other", 77, "Permission denied"),
        ("sm secret list -u bob:pw", 77, "Failed to authenticate"),
    ] {
        let ran = hub.run(line, b"").await;
        assert_eq!(ran.code(), code, "{line}: {}", ran.err());
        assert!(ran.err().contains(words), "{line}: {}", ran.err());
    }
}

const AT: &str = "2026-03-01T12:00:00Z";
