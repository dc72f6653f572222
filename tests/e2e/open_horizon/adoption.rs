//! A fleet's files as projects of `hzn` have them, published without changing a line.

use std::fs;
use std::path::Path;

use edge_secrets_tests::{ORG, Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::secrets_manager::add;

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        adoption_a_fleet_is_imported_as_it_is_and_its_services_get_their_secrets,
        adoption_a_wrong_file_is_named_with_its_line_and_nothing_is_published,
        adoption_what_the_exchange_lists_is_imported,
    ]
}

/// Two projects: `gps`, and `uplink` that requires it, with everything that `hzn dev` lays out.
fn fleet(root: &Path) {
    let put = |file: &str, text: &str| {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("written");
    };
    for (project, requires) in [
        ("gps", "[]"),
        (
            "uplink",
            r#"[{ "url": "com.example.gps", "org": "$HZN_ORG_ID", "versionRange": "[1.0.0,2.0.0)", "arch": "$ARCH" }]"#,
        ),
    ] {
        let config = json!({
            "HZN_ORG_ID": ORG,
            "MetadataVars": { "SERVICE_NAME": format!("com.example.{project}"), "SERVICE_VERSION": "1.0.0" },
        });
        put(&format!("{project}/horizon/hzn.json"), &config.to_string());
        put(
            &format!("{project}/horizon/service.definition.json"),
            &format!(
                r#"/* Of the {project} project. */
{{
  "org": "$HZN_ORG_ID",
  "label": "$SERVICE_NAME for $ARCH",
  "url": "$SERVICE_NAME",
  "version": "${{SERVICE_VERSION}}",
  "arch": "$ARCH",
  "sharable": "singleton",
  "requiredServices": {requires},
  "userInput": [{{ "name": "level", "type": "string", "defaultValue": "1" }}],
  "deployment": {{ "services": {{ "{project}": {{
    "image": "registry.example/$SERVICE_NAME:$SERVICE_VERSION",
    "secrets": {{ "{project}-cred": {{ "description": "", "format": "value_only" }} }}
  }} }} }}
}}
"#
            ),
        );
    }
    put(
        "uplink/horizon/deployment.policy.json",
        r#"{
  "label": "$SERVICE_NAME",
  "service": { "name": "$SERVICE_NAME", "org": "$HZN_ORG_ID", "arch": "*",
    "serviceVersions": [{ "version": "$SERVICE_VERSION", "priority": {} }],
    "nodeHealth": { "missing_heartbeat_interval": 600, "check_agreement_status": 120 } },
  "properties": [],
  "constraints": ["site == berlin"],
  "userInput": [],
  "secretBinding": [
    { "serviceOrgid": "$HZN_ORG_ID", "serviceUrl": "com.example.uplink", "serviceArch": "*",
      "serviceVersionRange": "[1.0.0,INFINITY)", "secrets": [{ "uplink-cred": "cloud/uplink" }] },
    { "serviceOrgid": "$HZN_ORG_ID", "serviceUrl": "com.example.gps", "serviceArch": "*",
      "serviceVersionRange": "1.0.0", "secrets": [{ "gps-cred": "cloud/gps" }] }
  ]
}
"#,
    );
    put(
        "uplink/horizon/service.policy.json",
        r#"{ "properties": [], "constraints": ["tier == prod"] }"#,
    );
    put(
        "uplink/horizon/userinput.json",
        r#"[{ "serviceOrgid": "x", "serviceUrl": "com.example.uplink", "inputs": [] }]"#,
    );
    put(
        "nodes/node.policy.json",
        r#"{ "properties": [{ "name": "site", "value": "berlin" }, { "name": "tier", "value": "prod" }] }"#,
    );
}

fn import(operator: &Operator, root: &Path, more: &[&str]) -> Value {
    let root = root.to_str().expect("a plain path");
    operator.json(&[&["import", "open-horizon", root], more].concat())
}

fn names(report: &Value) -> Vec<&str> {
    let documents = report["documents"].as_array().expect("documents");
    documents
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect()
}

fn states(report: &Value) -> Vec<&str> {
    let documents = report["documents"].as_array().expect("documents");
    documents
        .iter()
        .map(|one| one["state"].as_str().expect("a state"))
        .collect()
}

fn adoption_a_fleet_is_imported_as_it_is_and_its_services_get_their_secrets() {
    let place = tempfile::tempdir().expect("a place");
    fleet(place.path());
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, "cloud/uplink", "basicauth", "u:p");
    add(&admin, "cloud/gps", "token", "t");
    let dry = import(&admin, place.path(), &["--dry-run"]);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let expected = [
        format!("com.example.gps 1.0.0 {arch}"),
        format!("com.example.uplink 1.0.0 {arch}"),
        "uplink".to_owned(),
    ];
    assert_eq!(names(&dry), expected, "what is required comes first: {dry}");
    assert_eq!(states(&dry), ["new"; 3], "{dry}");
    let left: Vec<&Value> = dry["left"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|left| &left["kind"])
        .collect();
    assert_eq!(
        left,
        ["node_policy", "service_policy", "user_input"],
        "{dry}"
    );
    assert_eq!(
        admin.json(&["service", "list"]),
        json!([]),
        "nothing is published"
    );

    let done = import(&admin, place.path(), &[]);
    assert!(
        done["documents"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["published"] == true),
        "{done}"
    );
    let again = import(&admin, place.path(), &[]);
    assert_eq!(states(&again), ["unchanged"; 3], "{again}");

    // The node policy goes to the node. A node that the service's own policy excludes gets nothing.
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let policy_file = place.path().join("nodes/node.policy.json");
    let policy_file = policy_file.to_str().expect("a plain path").to_owned();
    agent.reconfigure(|config| config["node"]["policy_file"] = policy_file.into());
    agent.run();
    let _test = hub.raw_node(
        "edge-02",
        &[("site", json!("berlin")), ("tier", json!("test"))],
    );
    wait::content(
        &agent
            .consumer("com.example.uplink", "uplink")
            .join("uplink-cred"),
        b"u:p",
    );
    wait::content(
        &agent.consumer("com.example.gps", "gps").join("gps-cred"),
        b"t",
    );
    hub.await_rollout("uplink", 1);
}

fn adoption_a_wrong_file_is_named_with_its_line_and_nothing_is_published() {
    let place = tempfile::tempdir().expect("a place");
    fleet(place.path());
    let hub = TestHub::start();
    let admin = hub.operator();
    let root = place.path().to_str().expect("a plain path").to_owned();
    let refused = |word: &str| {
        let ended = admin.run(&["import", "open-horizon", &root], "");
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stdout.contains(word), "{word}: {ended:?}");
        assert_eq!(admin.json(&["service", "list"]), json!([]));
    };
    refused("secret \"cloud/uplink\" does not exist");
    add(&admin, "cloud/uplink", "basicauth", "u:p");
    add(&admin, "cloud/gps", "token", "t");
    let definition = place.path().join("gps/horizon/service.definition.json");
    let good = fs::read_to_string(&definition).expect("readable");
    let write = |text: String| fs::write(&definition, text).expect("written");
    write(good.replace("$SERVICE_NAME for", "$SERVICE_NAM for"));
    refused("gps/horizon/service.definition.json:4:13: the variable `SERVICE_NAM` has no value");
    write(good.replace("singleton", "singelton"));
    refused("gps/horizon/service.definition.json:8:15: sharable: expected `singleton`");
    write(good.replace("\"org\"", "\"org"));
    refused("gps/horizon/service.definition.json:3:");
    write(good);
    admin.ok(&["import", "open-horizon", &root], "");
}

fn adoption_what_the_exchange_lists_is_imported() {
    let place = tempfile::tempdir().expect("a place");
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, "db", "k", "v");
    // A listing has deployments as they were signed: as text.
    let services = json!({ "myorg/com.example.db_1.0.0_amd64": {
        "owner": "myorg/alice", "label": "", "public": true, "url": "com.example.db",
        "version": "1.0.0", "arch": "amd64", "sharable": "multiple", "lastUpdated": "2026-01-01T00:00:00Z",
        "deployment": "{\"services\":{\"main\":{\"image\":\"x\",\"secrets\":{\"cred\":{}}}}}",
        "deploymentSignature": "abc" } });
    let policies = json!({ "myorg/everywhere": {
        "owner": "myorg/alice", "service": { "name": "com.example.db", "org": "myorg", "arch": "amd64",
            "serviceVersions": [{ "version": "1.0.0" }] },
        "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": "com.example.db",
            "secrets": [{ "cred": "db" }] }], "lastUpdated": "2026-01-01T00:00:00Z" } });
    fs::write(place.path().join("services.json"), services.to_string()).expect("written");
    fs::write(place.path().join("policies.json"), policies.to_string()).expect("written");
    let patterns = json!({ "myorg/edge": {
        "owner": "myorg/alice", "label": "edge", "public": false, "services": [{
            "serviceUrl": "com.example.db", "serviceOrgid": "myorg", "serviceArch": "*",
            "serviceVersions": [{ "version": "1.0.0", "priority": {}, "upgradePolicy": {} }],
            "dataVerification": {}, "nodeHealth": {} }],
        "agreementProtocols": [{ "name": "Basic" }],
        "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": "com.example.db",
            "secrets": [{ "cred": "db" }] }], "lastUpdated": "2026-01-01T00:00:00Z" } });
    fs::write(place.path().join("patterns.json"), patterns.to_string()).expect("written");
    let done = import(&admin, place.path(), &[]);
    assert_eq!(
        names(&done),
        ["com.example.db 1.0.0 amd64", "everywhere", "edge"],
        "{done}"
    );
    assert_eq!(admin.json(&["pattern", "list"])[0]["name"], "edge");
    let again = import(&admin, place.path(), &[]);
    assert_eq!(states(&again), ["unchanged"; 3], "{again}");
    assert_eq!(admin.json(&["policy", "list"])[0]["name"], "everywhere");
}
