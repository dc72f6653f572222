use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use edge_secrets_protocol::{Code, SealingKey};
use serde_json::{Value, json};

use crate::output::TestUi;
use crate::testing::{Answer, Asked, FakeHub};

/// Documents by path and query, as a hub keeps them.
type Kept = Arc<Mutex<BTreeMap<String, Value>>>;

async fn hub() -> (FakeHub, Kept) {
    hub_for("admin").await
}

async fn hub_for(role: &'static str) -> (FakeHub, Kept) {
    let kept = Kept::default();
    let (log, key) = (Arc::clone(&kept), SealingKey::generate().public());
    let hub = FakeHub::start(move |asked| {
        let answer = match asked.path.as_str() {
            "/v1/hub" => Answer::json(&json!({
                "version": "0.1.0", "sealing_key": key, "org": "myorg", "user": "alice",
                "role": role,
            })),
            _ => answer(&mut log.lock().unwrap(), &asked),
        };
        async move { answer }
    })
    .await;
    let service = json!({
        "org": "$HZN_ORG_ID", "url": "$NAME", "version": "1.0.0", "arch": "amd64",
        "deployment": {"services": {"main": {"image": "x", "secrets": {"cred": {}}}}},
    });
    std::fs::create_dir(hub.dir.path().join("fleet")).unwrap();
    hub.file(
        "fleet/hzn.json",
        &json!({"MetadataVars": {"NAME": "uplink"}}).to_string(),
    );
    hub.file("fleet/service.definition.json", &service.to_string());
    hub.file("fleet/up.policy.json", &policy("cred").to_string());
    hub.file(
        "fleet/userinput.json",
        r#"{"services": [{"variables": {}}]}"#,
    );
    (hub, kept)
}

fn policy(name: &str) -> Value {
    json!({
        "service": {"name": "$NAME", "org": "myorg", "serviceVersions": [{"version": "1.0.0"}]},
        "secretBinding": [{"serviceOrgid": "myorg", "serviceUrl": "$NAME", "secrets": [{name: "db"}]}],
    })
}

fn answer(kept: &mut BTreeMap<String, Value>, asked: &Asked) -> Answer {
    let at = "2026-03-01T12:00:00Z";
    let org = asked.path.strip_prefix("/v1/orgs/myorg/").unwrap();
    let dry_run = asked.query.contains("dry_run=true");
    match (asked.method.as_str(), org) {
        ("GET", "secrets/db") => Answer::json(&json!({"reference": "db", "version": "1",
            "created_at": at, "updated_at": at, "updated_by": "alice"})),
        ("GET", "services") => {
            let services = kept.iter().filter(|(key, _)| *key == "service");
            let info = |(_, one): (&String, &Value)| {
                json!({"url": one["url"], "version": "1.0.0",
                "arch": "amd64", "secrets": [], "owner": "alice", "updated_at": at})
            };
            Answer::json(&services.map(info).collect::<Vec<_>>())
        }
        ("GET", "policies") => {
            let names = kept.keys().filter_map(|key| key.strip_prefix("policies/"));
            let info = |name| {
                json!({"name": name, "service": {"org": "myorg", "url": "uplink"},
                "nodes": 0, "owner": "alice", "updated_at": at})
            };
            Answer::json(&names.map(info).collect::<Vec<_>>())
        }
        ("GET", "patterns") => Answer::json(&json!([])),
        ("GET", key) => match kept.get(key) {
            Some(document) => Answer::json(document),
            None => Answer::problem(Code::NotFound, "it is not there"),
        },
        ("PUT", key) if !dry_run && key == "policies/up" && kept.contains_key("is_away") => {
            Answer::problem(Code::Unavailable, "the hub is being restarted")
        }
        ("POST" | "PUT", key) => {
            let key = if key == "services" { "service" } else { key };
            if !dry_run {
                kept.insert(key.to_owned(), serde_json::from_slice(&asked.body).unwrap());
            }
            Answer::json(
                &json!({"dry_run": dry_run, "changes": [], "untouched_nodes": 0,
                "warnings": []}),
            )
        }
        _ => Answer::problem(Code::BadRequest, "what?"),
    }
}

fn writes(hub: &FakeHub) -> Vec<String> {
    let asked = hub.seen().into_iter();
    let real = asked.filter(|one| one.method != "GET" && !one.query.contains("dry_run=true"));
    real.map(|one| one.line()).collect()
}

#[tokio::test]
async fn a_fleet_is_published_in_order_and_the_second_time_is_unchanged() {
    let (hub, kept) = hub().await;
    let dry = hub
        .run("import open-horizon DIR/fleet --dry-run", b"")
        .await
        .out();
    assert!(
        dry.starts_with("Dry run: nothing has changed. 2 documents understood: 2 new"),
        "{dry}"
    );
    assert_eq!(writes(&hub), Vec::<String>::new());
    let done = hub.run("import open-horizon DIR/fleet", b"").await.out();
    assert!(done.starts_with("2 documents published. "), "{done}");
    assert!(done.contains("userinput.json: user input: "), "{done}");
    let published = [
        "POST /v1/orgs/myorg/services",
        "PUT /v1/orgs/myorg/policies/up",
    ];
    assert_eq!(writes(&hub), published);
    assert_eq!(kept.lock().unwrap()["service"]["url"], "uplink");
    let again = hub
        .run("import open-horizon DIR/fleet -o json", b"")
        .await
        .out();
    let again: Value = serde_json::from_str(&again).unwrap();
    for document in again["documents"].as_array().unwrap() {
        assert_eq!(document["state"], "unchanged", "{again}");
    }
    assert_eq!(writes(&hub).len(), 2);
    hub.file(
        "fleet/up.policy.json",
        &policy("cred").to_string().replace("db", "db#value"),
    );
    let changed = hub.run("import open-horizon DIR/fleet", b"").await.out();
    assert!(
        changed.contains("1 changed, 1 unchanged") && changed.contains("replaced"),
        "{changed}"
    );
}

#[tokio::test]
async fn nothing_is_published_when_anything_is_refused() {
    let (hub, _) = hub().await;
    hub.file("fleet/deployment.policy.json", &policy("other").to_string());
    let refused = hub.run("import open-horizon DIR/fleet", b"").await;
    assert_eq!(refused.code(), 1);
    let (out, err) = (refused.test.out(), refused.err());
    assert!(
        out.contains("No secret binding found for the following service secrets: [cred]"),
        "{out}"
    );
    assert!(err.contains("nothing was published"), "{err}");
    assert_eq!(writes(&hub), Vec::<String>::new());
    let rest = hub
        .run("import open-horizon DIR/fleet --keep-going", b"")
        .await;
    assert_eq!(rest.code(), 1);
    assert_eq!(writes(&hub).len(), 2);
}

/// As at the hub itself, and before anything else is published.
#[tokio::test]
async fn a_public_pattern_is_an_administrators_to_import() {
    let pattern = |public: bool| {
        json!({"public": public, "services": [{"serviceUrl": "uplink", "serviceOrgid": "myorg",
            "serviceArch": "*", "serviceVersions": [{"version": "1.0.0"}]}],
            "secretBinding": [{"serviceOrgid": "myorg", "serviceUrl": "uplink",
                "secrets": [{"cred": "db"}]}]})
    };
    for (role, public, allowed) in [
        ("user", true, false),
        ("user", false, true),
        ("admin", true, true),
    ] {
        let (hub, _) = hub_for(role).await;
        hub.file("fleet/edge.pattern.json", &pattern(public).to_string());
        let run = hub.run("import open-horizon DIR/fleet", b"").await;
        if allowed {
            let done = run.out();
            assert!(done.starts_with("3 documents published. "), "{done}");
            continue;
        }
        assert_eq!(run.code(), 1);
        let out = run.test.out();
        assert!(out.contains("public: only an administrator"), "{out}");
        assert_eq!(writes(&hub), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_was_published_before_a_failure_is_told_and_the_rest_comes_the_next_time() {
    let (hub, kept) = hub().await;
    kept.lock()
        .unwrap()
        .insert("is_away".to_owned(), json!(true));
    let ended = hub.run("import open-horizon DIR/fleet", b"").await;
    assert_eq!(ended.code(), 69, "{}", ended.err());
    let (out, err) = (ended.test.out(), ended.err());
    assert!(out.starts_with("1 document published. "), "{out}");
    let line = |word: &str| out.lines().find(|line| line.starts_with(word)).unwrap();
    assert!(line("service definition").contains(" published "), "{out}");
    assert!(
        line("deployment policy").contains(" not published "),
        "{out}"
    );
    assert!(err.contains("being restarted"), "{err}");
    kept.lock().unwrap().remove("is_away");
    let rest = hub.run("import open-horizon DIR/fleet", b"").await.out();
    assert!(rest.starts_with("1 document published. "), "{rest}");
    assert!(rest.contains("1 new, 0 changed, 1 unchanged"), "{rest}");
}

#[tokio::test]
async fn a_directory_of_wrong_files_is_refused_file_by_file_with_the_place() {
    let (hub, _) = hub().await;
    std::fs::create_dir(hub.dir.path().join("fleet/wrong")).unwrap();
    for (file, text, _) in WRONG {
        hub.file(&format!("fleet/wrong/{file}"), text);
    }
    let refused = hub.run("import open-horizon DIR/fleet -o json", b"").await;
    assert_eq!(refused.code(), 1);
    let report: Value = serde_json::from_str(&refused.test.out()).unwrap();
    let text = |one: &Value| {
        let part = |key: &str| one.get(key).map(ToString::to_string).unwrap_or_default();
        let file = one["file"].as_str().unwrap();
        let reason = one["reason"].as_str().unwrap();
        let file = file.rsplit('/').next().unwrap();
        format!("{file}:{}:{}: {reason}", part("line"), part("column"))
    };
    let said: Vec<_> = report["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    for (file, _, parts) in WRONG {
        let of_file: Vec<_> = said.iter().filter(|one| one.starts_with(file)).collect();
        assert_eq!(of_file.len(), 1, "{file}: {said:#?}");
        for part in *parts {
            assert!(of_file[0].contains(part), "{part}: {of_file:?}");
        }
    }
    assert_eq!(said.len(), WRONG.len(), "{said:#?}");
    assert_eq!(writes(&hub), Vec::<String>::new());
}

/// Files, and what of each must be said.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "cut.service.definition.json",
        "{ \"url\": \"a\",\n  \"version\": ",
        &["json:2:"],
    ),
    (
        "twice.service.definition.json",
        "{ \"url\": \"a\",\n  \"url\": \"b\" }",
        &["json:2:", "url"],
    ),
    (
        "word.service.definition.json",
        "{ \"url\": \"a\", \"version\": \"1.0.0\", \"arch\": \"amd64\",\n  \"sharable\": \"singelton\" }",
        &[
            "json:2:15: sharable",
            "expected",
            "did you mean `singleton`?",
        ],
    ),
    (
        "range.service.definition.json",
        "{ \"url\": \"a\", \"version\": \"1.0.0\", \"arch\": \"amd64\", \"requiredServices\":\n [{ \"url\": \"b\", \"org\": \"myorg\", \"versionRange\": \"[2.0.0,1.0.0]\" }] }",
        &["json:2:", "requiredServices[0].versionRange"],
    ),
    (
        "ring.service.definition.json",
        "{ \"url\": \"ring\", \"version\": \"1.0.0\", \"arch\": \"amd64\", \"requiredServices\":\n [{ \"url\": \"ring\", \"org\": \"myorg\", \"versionRange\": \"1.0.0\" }] }",
        &["ring"],
    ),
    (
        "field.deployment.policy.json",
        "{ \"service\": { \"name\": \"uplink\", \"org\": \"myorg\", \"serviceVersions\": [{ \"version\": \"1.0.0\" }] },\n  \"secretBindings\": [] }",
        &["json:2:", "secretBindings", "did you mean `secretBinding`?"],
    ),
    (
        "constraint.deployment.policy.yaml",
        "service: { name: uplink, org: myorg, serviceVersions: [{ version: 1.0.0 }] }\nconstraints:\n  - a = = b\n",
        &["yaml:3:", "constraints[0]"],
    ),
    (
        "path.deployment.policy.json",
        "{ \"service\": { \"name\": \"uplink\", \"org\": \"myorg\", \"serviceVersions\": [{ \"version\": \"1.0.0\" }] },\n  \"secretBinding\": [{ \"serviceOrgid\": \"myorg\", \"serviceUrl\": \"uplink\", \"secrets\": [{ \"../x\": \"db\" }] }] }",
        &["json:2:", "secretBinding[0].secrets[0]"],
    ),
    (
        "services.pattern.json",
        "{ \"services\": [{ \"serviceUrl\": \"uplink\", \"serviceOrgid\": \"myorg\", \"serviceArch\": \"*\",\n  \"serviceVersion\": [{ \"version\": \"1.0.0\" }] }] }",
        &["json:", "services[0]", "serviceVersions"],
    ),
    (
        "node.policy.json",
        "{ \"properties\": [],\n  \"constraint\": [\"a == b\"] }",
        &["json:2:", "constraint", "did you mean `constraints`?"],
    ),
    (
        "service.policy.json",
        "{ \"properties\": [{ \"name\": \"a\" }] }",
        &["json:1:", "properties[0]", "value"],
    ),
];

#[tokio::test]
async fn secrets_that_do_not_exist_are_refused_unless_allowed() {
    let (hub, _) = hub().await;
    hub.file(
        "fleet/up.policy.json",
        &policy("cred").to_string().replace("\"db\"", "\"absent\""),
    );
    let refused = hub
        .run("import open-horizon DIR/fleet --dry-run", b"")
        .await;
    assert_eq!(refused.code(), 1);
    assert!(
        refused
            .test
            .out()
            .contains("secret \"absent\" does not exist"),
        "{}",
        refused.test.out()
    );
    let allowed = hub
        .run("import open-horizon DIR/fleet --allow-missing", b"")
        .await
        .out();
    assert!(allowed.contains("2 documents published"), "{allowed}");
}

#[tokio::test]
async fn variables_come_from_flags_and_from_a_named_file() {
    let (hub, kept) = hub().await;
    hub.file(
        "other.json",
        &json!({"MetadataVars": {"NAME": "from-file"}}).to_string(),
    );
    hub.run(
        "import open-horizon DIR/fleet --hzn-json DIR/other.json",
        b"",
    )
    .await
    .out();
    assert_eq!(kept.lock().unwrap()["service"]["url"], "from-file");
    hub.run("import open-horizon DIR/fleet --var NAME=from-flag", b"")
        .await
        .out();
    assert_eq!(kept.lock().unwrap()["service"]["url"], "from-flag");
    let wrong = hub
        .run("import open-horizon DIR/fleet --var NAME", b"")
        .await;
    assert_eq!(wrong.code(), 64, "{}", wrong.err());
}

#[tokio::test]
async fn progress_is_for_terminals() {
    let (hub, _) = hub().await;
    let quiet = hub
        .run("import open-horizon DIR/fleet --dry-run", b"")
        .await;
    assert_eq!(quiet.err(), "");
    let shown = hub
        .run_as("import open-horizon DIR/fleet --dry-run", |cli| {
            TestUi::new(cli.output, b"").on_terminal()
        })
        .await;
    assert!(
        shown
            .err()
            .starts_with("[1/2] looking at service definition uplink"),
        "{}",
        shown.err()
    );
}
