//! Secrets managers outside the hub, what they keep, and leases.

use edge_secrets_hub::wire::SetEngine;

use super::*;

/// A hub with these answers, by `METHOD /path`.
async fn hub(answers: &[(&str, Value)]) -> FakeHub {
    let answers: Vec<_> = answers
        .iter()
        .map(|(line, answer)| ((*line).to_owned(), answer.clone()))
        .collect();
    FakeHub::start(move |asked| {
        let line = asked.line().replace("%3A", ":");
        let found = answers.iter().find(|(known, _)| *known == line);
        let answer = match found {
            Some((_, answer)) => Answer::json(answer),
            None => panic!("{line}"),
        };
        async move { answer }
    })
    .await
}

fn managers() -> Value {
    json!([
        {"name": "vault", "kind": "vault", "default": true, "paths": ["team", "db/*"],
         "watched": 3, "troubled": 1, "calls": [
            {"call": "describe", "result": "ok", "count": 40, "millis": 9},
            {"call": "read", "result": "sealed", "count": 2, "millis": 1}],
         "trouble": {"fault": "sealed", "detail": "it is sealed: unseal it"},
         "left_alone_seconds": 12},
        {"name": "ibm", "kind": "ibm_cloud", "default": false, "paths": [], "watched": 0,
         "troubled": 0, "calls": []},
    ])
}

/// The words of the line that begins so.
#[track_caller]
fn row(table: &str, begins: &str) -> String {
    let line = table.lines().find(|line| line.starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("{begins}: {table}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn managers_are_listed_with_how_they_are() {
    let hub = hub(&[("GET /v1/orgs/myorg/managers", managers())]).await;
    let table = hub.run("manager list", b"").await.out();
    assert_eq!(
        row(&table, "vault"),
        "vault (default) vault team, db/* 3, 1 in trouble 42, 2 failed sealed: it is sealed: \
         unseal it; left alone for 12 s more"
    );
    assert_eq!(row(&table, "ibm"), "ibm ibm_cloud - 0 0 well");
    let json = hub.run("manager list -o json", b"").await.out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), managers());
}

#[tokio::test]
async fn a_check_that_fails_is_a_failure_of_the_command() {
    let line = "POST /v1/orgs/myorg/managers/vault/check";
    let well =
        json!({"healthy": true, "version": "1.19.0", "notes": ["The token ends\u{7} soon."]});
    let fine = hub(&[(line, well.clone())]).await;
    let ran = fine.run("manager check vault", b"").await;
    let said = ran.out();
    assert!(
        said.starts_with("Manager vault (1.19.0) answers and knows the hub.\n"),
        "{said}"
    );
    assert!(
        said.contains("soon.") && !said.contains('\u{7}'),
        "{said:?}"
    );
    let json = fine.run("manager check vault -o json", b"").await.out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), well);

    let ill = json!({"healthy": false,
        "trouble": {"fault": "unauthenticated", "detail": "its credential was refused"}});
    let ill_hub = hub(&[(line, ill.clone())]).await;
    let ran = ill_hub.run("manager check vault", b"").await;
    assert_eq!(ran.code(), 1);
    assert_eq!(ran.test.out(), "");
    let said = ran.err();
    assert!(
        said.contains("its credential was refused (unauthenticated)"),
        "{said}"
    );
    // Programs read it all the same.
    let ran = ill_hub.run("manager check vault -o json", b"").await;
    assert_eq!(ran.code(), 1);
    let shown: Value = serde_json::from_str(&ran.test.out()).unwrap();
    assert_eq!(shown, ill);
}

fn leases() -> Value {
    json!([
        {"id": 17, "node": "edge-01", "deployment": "d", "reference": "vault:db/creds/app",
         "state": "live", "current": true, "renewable": true,
         "granted_at": "2026-03-01T12:00:00Z", "ends_at": "2026-03-01T13:00:00Z", "attempts": 0},
        {"id": 16, "node": "edge-01", "deployment": "d", "reference": "vault:db/creds/app",
         "state": "ending", "current": false, "renewable": true, "attempts": 3,
         "trouble": {"fault": "unreachable", "detail": "no connection",
                     "since": "2026-03-01T12:00:00Z"}},
    ])
}

#[tokio::test]
async fn leases_are_listed_and_ended_after_a_question() {
    let revoke = "POST /v1/orgs/myorg/leases/17/revoke";
    let page = json!({ "leases": leases() });
    let hub = hub(&[("GET /v1/orgs/myorg/leases", page), (revoke, json!({}))]).await;
    let table = hub
        .run("lease list --node edge-01 --ended", b"")
        .await
        .out();
    assert_eq!(hub.seen()[0].query, "node=edge-01&ended=true");
    let live = row(&table, "17");
    assert!(
        live.starts_with("17 edge-01 vault:db/creds/app live "),
        "{live}"
    );
    let ending = row(&table, "16");
    assert!(ending.contains("ending (superseded)"), "{ending}");
    assert!(ending.ends_with("unreachable: no connection"), "{ending}");
    let json = hub.run("lease list -o json", b"").await.out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), leases());
    assert_eq!(hub.seen()[1].query, "ended=false");

    let ran = hub.run("lease revoke 17", b"y\n").await;
    assert_eq!(ran.code(), 64, "not without --yes in a pipe");
    let ran = hub.run("lease revoke 17 --yes", b"").await;
    assert!(ran.out().starts_with("Lease 17 is ended"), "{}", ran.out());
    assert_eq!(hub.lines().iter().filter(|line| *line == revoke).count(), 1);
}

#[tokio::test]
async fn leases_come_in_parts_the_newest_first_and_are_shown_oldest_first() {
    let hub = FakeHub::start(|asked| async move {
        let mut shown = leases();
        let all = shown.as_array_mut().unwrap();
        let (newer, older) = (all.remove(0), all.remove(0));
        match asked.query.as_str() {
            "ended=false" => Answer::json(&json!({ "leases": [newer], "next": 17 })),
            "ended=false&before=17" => Answer::json(&json!({ "leases": [older] })),
            other => panic!("{other}"),
        }
    })
    .await;
    let json = hub.run("lease list -o json", b"").await.out();
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&shown[0]["id"], &shown[1]["id"]), (&json!(16), &json!(17)));
}

#[tokio::test]
async fn nothing_to_list_is_a_remark() {
    let hub = hub(&[
        ("GET /v1/orgs/myorg/managers", json!([])),
        ("GET /v1/orgs/myorg/leases", json!({"leases": []})),
        (
            "GET /v1/orgs/myorg/managers/vault/secrets",
            json!({"entries": []}),
        ),
    ])
    .await;
    for line in ["manager list", "lease list", "secret list vault:"] {
        let ran = hub.run(line, b"").await;
        assert_eq!(ran.out(), "", "{line}");
        assert!(ran.err().contains("no"), "{line}: {}", ran.err());
        let json = hub.run(&format!("{line} -o json"), b"").await.out();
        assert_eq!(json.trim(), "[]", "{line}");
    }
}

#[tokio::test]
async fn a_managers_listing_is_read_to_its_end() {
    let hub = FakeHub::start(|asked| async move {
        assert_eq!(asked.line(), "GET /v1/orgs/myorg/managers/vault/secrets");
        if asked.query.ends_with("&page=p2") {
            return Answer::json(&json!({"entries": [
                {"name": "vault:team/db", "effect": "pure", "labels": ["a", "b"]}]}));
        }
        Answer::json(&json!({"entries": [{"name": "vault:team/sub/"}], "next": "p2"}))
    })
    .await;
    let table = hub.run("secret list vault:team/", b"").await.out();
    assert_eq!(row(&table, "vault:team/sub/"), "vault:team/sub/ - -");
    assert_eq!(row(&table, "vault:team/db"), "vault:team/db pure a, b");
    let queries: Vec<_> = hub.seen().into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries, ["prefix=team%2F", "prefix=team%2F&page=p2"]);
    let json = hub.run("secret list vault:team/ -o json", b"").await.out();
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        shown,
        json!([{"name": "vault:team/sub/"},
               {"name": "vault:team/db", "effect": "pure", "labels": ["a", "b"]}])
    );
}

fn info() -> Value {
    json!({"reference": "vault:team/db", "effect": "pure", "version": "7",
           "fields": ["password", "user"], "labels": ["edge"],
           "updated_at": "2026-03-01T12:00:00Z", "notes": ["It is kept for a year."]})
}

#[tokio::test]
async fn a_managed_secret_is_shown_by_its_name_or_by_the_default_manager() {
    let versions = json!([
        {"version": "7", "created_at": "2026-03-01T12:00:00Z"}, {"version": "6", "gone": "destroyed"}]);
    let mut named = hub_info(&SealingKey::generate().public(), "alice");
    named["default_manager"] = "vault".into();
    let hub = hub(&[
        ("GET /v1/hub", named),
        ("GET /v1/orgs/myorg/managed/vault:team/db", info()),
        ("GET /v1/orgs/myorg/managed/team/db", info()),
        (
            "GET /v1/orgs/myorg/managed-versions/vault:team/db",
            versions.clone(),
        ),
        ("GET /v1/orgs/myorg/secret-versions/embedded:db", json!([])),
    ])
    .await;
    for name in ["vault:team/db", "team/db"] {
        let shown = hub.run(&format!("secret show {name}"), b"").await.out();
        for (fact, value) in [
            ("secret:", "vault:team/db"),
            ("reading it:", "pure"),
            ("version:", "7"),
            ("fields:", "password, user"),
            ("ends:", "-"),
        ] {
            assert_eq!(row(&shown, fact), format!("{fact} {value}"));
        }
        assert!(shown.ends_with("It is kept for a year.\n"), "{shown}");
    }
    let json = hub
        .run("secret show vault:team/db -o json", b"")
        .await
        .out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), info());
    let table = hub.run("secret versions vault:team/db", b"").await.out();
    assert_eq!(row(&table, "6"), "6 - destroyed");
    let json = hub
        .run("secret versions vault:team/db -o json", b"")
        .await
        .out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), versions);
    // `embedded:` is the hub's own, whatever the default is.
    hub.run("secret versions embedded:db", b"").await.out();
}

#[tokio::test]
async fn a_credential_is_made_as_it_was_asked_for() {
    let path = "POST /v1/orgs/myorg/managed/ibm:default/iam_credentials/cos";
    let made = json!({"reference": "ibm:default/iam_credentials/cos",
                      "effect": "mints_and_invalidates", "ttl_seconds": 43_200});
    let hub = hub(&[(path, made.clone())]).await;
    let create = "secret create ibm:default/iam_credentials/cos --type iam-credentials";
    let line = format!("{create} --access-group g1 --access-group g2 --ttl 12h --label edge");
    let said = hub.run(&line, b"").await.out();
    assert!(
        said.starts_with("Secret ibm:default/iam_credentials/cos is made.\n"),
        "{said}"
    );
    assert_eq!(row(&said, "credentials live:"), "credentials live: 43200 s");
    let body = |at: usize| serde_json::from_slice::<Value>(&hub.seen()[at].body).unwrap();
    assert_eq!(
        body(0),
        json!({"ttl_seconds": 43_200, "access_groups": ["g1", "g2"], "reuse": false,
               "labels": ["edge"]})
    );
    let line = format!("{create} --service-id s --ttl 1h --reuse -o json");
    let json = hub.run(&line, b"").await.out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), made);
    assert_eq!(
        body(1),
        json!({"ttl_seconds": 3_600, "service_id": "s", "reuse": true})
    );
}

#[tokio::test]
async fn an_engines_key_comes_from_a_file_and_leaves_sealed() {
    let key = SealingKey::generate();
    let line = "PUT /v1/orgs/myorg/managers/ibm/engine";
    let set = json!({"manager": "ibm", "kind": "iam_credentials_configuration",
                     "name": "iam-config", "replaced": true});
    let info = hub_info(&key.public(), "alice");
    let hub = hub(&[("GET /v1/hub", info), (line, set.clone())]).await;
    hub.file("key", &format!("{CANARY}\r\n"));
    let engine = "manager engine ibm --engine iam-config --api-key-file";
    let said = hub.run(&format!("{engine} DIR/key"), b"").await.out();
    assert_eq!(
        said,
        "Manager ibm makes credentials with this key from now on: its \
         iam_credentials_configuration iam-config is replaced.\n"
    );
    let json = hub
        .run(&format!("{engine} - -o json"), CANARY.as_bytes())
        .await
        .out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), set);
    hub.run("manager engine ibm --api-key-file DIR/key", b"")
        .await
        .out();
    let (org, user) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
    let sent: Vec<_> = hub
        .seen()
        .into_iter()
        .filter(|a| a.line() == line)
        .collect();
    for (asked, name) in sent
        .iter()
        .zip(["iam-config", "iam-config", "edge-secrets"])
    {
        assert!(!String::from_utf8_lossy(&asked.body).contains("canary"));
        let body: SetEngine = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(body.name, name);
        let place = Place::Engine {
            org: &org,
            user: &user,
            manager: "ibm",
            name,
        };
        let opened = body.sealed.open(&key, &place).unwrap();
        assert_eq!(opened.expose(), CANARY.as_bytes());
    }
    assert_eq!(sent.len(), 3);
    let asked = hub.seen().len();
    hub.file("two", &format!("{CANARY} {CANARY}"));
    for (line, input) in [
        (format!("{engine} DIR/key {CANARY}"), &b""[..]),
        (format!("{engine} DIR/two"), b""),
        (format!("{engine} {CANARY}"), b""),
        (format!("{engine} -"), b"\n"),
        (format!("{engine} -"), b"\xff"),
    ] {
        let ran = hub.run(&line, input).await;
        assert_eq!(ran.code(), 64, "{line}");
        assert!(!ran.err().contains("canary"), "{}", ran.err());
    }
    assert_eq!(hub.seen().len(), asked, "nothing was asked");
}

#[tokio::test]
async fn one_version_of_a_managed_secret_is_shown_without_its_value() {
    let path = "GET /v1/orgs/myorg/managed-versions/vault:team/db";
    let old = json!({"version": "6", "created_at": "2026-03-01T12:00:00Z", "gone": "destroyed"});
    let hub = hub(&[(path, json!([{"version": "7"}, old.clone()]))]).await;
    let show = "secret show vault:team/db#user --version";
    let shown = hub.run(&format!("{show} 6"), b"").await.out();
    for (fact, value) in [
        ("secret:", "vault:team/db"),
        ("version:", "6"),
        ("gone:", "destroyed"),
    ] {
        assert_eq!(row(&shown, fact), format!("{fact} {value}"));
    }
    let shown = hub.run(&format!("{show} 7"), b"").await.out();
    assert_eq!(row(&shown, "created:"), "created: -");
    let json = hub.run(&format!("{show} 6 -o json"), b"").await.out();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), old);
    let ran = hub.run(&format!("{show} 5"), b"").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.err().contains("no version 5"), "{}", ran.err());
    let asked = hub.lines();
    let asked = asked.iter().map(|line| line.replace("%3A", ":"));
    assert!(asked.into_iter().all(|line| line == path));
}

#[tokio::test]
async fn a_listing_by_labels_asks_for_them_and_one_of_what_is_due_is_refused() {
    let path = "GET /v1/orgs/myorg/managers/ibm/secrets";
    let hub = hub(&[(path, json!({"entries": []}))]).await;
    let list = "secret list ibm:default/";
    hub.run(&format!("{list} --label prod --label eu"), b"")
        .await
        .out();
    assert_eq!(hub.seen()[0].query, "prefix=default%2F&labels=prod%2Ceu");
    let ran = hub.run(&format!("{list} --due"), b"").await;
    assert_eq!(ran.code(), 64);
    assert!(ran.err().contains("--due"), "{}", ran.err());
    assert_eq!(hub.seen().len(), 1);
}

#[tokio::test]
async fn a_text_is_searched_for_at_a_manager_page_by_page() {
    let hub = FakeHub::start(|asked| async move {
        assert_eq!(asked.line(), "GET /v1/orgs/myorg/managers/pim/secrets");
        let next = (!asked.query.contains("page=")).then_some("found-100");
        Answer::json(&json!({"entries": [{"name": "pim:Team/db"}], "next": next}))
    })
    .await;
    let list = "secret list pim:Team/ --search up&link";
    hub.run(list, b"").await.out();
    let queries: Vec<_> = hub.seen().into_iter().map(|asked| asked.query).collect();
    let search = "prefix=Team%2F&search=up%26link";
    assert_eq!(queries, [search, &format!("{search}&page=found-100")]);
    let ran = hub.run("secret list team/ --search uplink", b"").await;
    assert_eq!(ran.code(), 64);
    assert!(ran.err().contains("name one"), "{}", ran.err());
    assert_eq!(hub.seen().len(), 2);
}

#[tokio::test]
async fn what_is_set_at_a_manager_goes_to_who_binds_it_at_the_next_look() {
    for (nodes, said) in [
        (0, "no node binds it yet"),
        (
            1,
            "1 node binds it, and is told when the hub has looked there",
        ),
        (
            3,
            "3 nodes bind it, and are told when the hub has looked there",
        ),
    ] {
        let info = hub_info(&SealingKey::generate().public(), "alice");
        let set = json!({"version": "2", "nodes": nodes, "at_next_look": true,
                         "at": "2026-03-01T12:00:00Z"});
        let put = "PUT /v1/orgs/myorg/secrets/vault:team/db";
        let hub = hub(&[("GET /v1/hub", info), (put, set)]).await;
        let ran = hub
            .run("secret set vault:team/db --value-file -", b"x")
            .await;
        let wanted = format!("Secret vault:team/db is at version 2; {said}.\n");
        assert_eq!(ran.out(), wanted);
    }
}
