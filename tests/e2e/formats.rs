//! What services read, byte for byte.

use std::fs;

use edge_secrets_tests::samples::{plain_service, policy, service};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        every_container_reads_its_own_secrets_in_its_own_format,
        raw_bytes_come_through_unchanged,
        values_up_to_the_limit_come_through_and_larger_ones_are_refused,
        unicode_properties_and_names_match,
        a_private_secret_reaches_its_owners_nodes_alone,
    ]
}

fn every_container_reads_its_own_secrets_in_its_own_format() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    let dir = tempfile::tempdir().expect("a place");
    let field = |name: &str, value: &str| {
        let path = dir.path().join(name);
        fs::write(&path, value).expect("written");
        format!("{name}={}", path.display())
    };
    let (key, value) = (field("key", "basicauth"), field("value", "user:p\"w\n\\ü"));
    operator.ok(
        &[
            "secret",
            "set",
            "cred",
            "--field-file",
            &key,
            "--field-file",
            &value,
        ],
        "",
    );
    operator.set("pem", "-----BEGIN x\n");
    let definition = service(
        "com.example.two",
        "1.0.0",
        &[
            ("front", &[("cred", None), ("tls.key", Some("value_only"))]),
            ("back", &[("cred", Some("value_only"))]),
            ("idle", &[]),
        ],
    );
    operator.publish_service(&definition);
    let bound = [("cred", "cred"), ("tls.key", "pem")];
    operator.publish_policy("two", &policy("com.example.two", &[], &bound));
    agent.await_service("com.example.two");
    let front = agent.consumer("com.example.two", "front");
    let back = agent.consumer("com.example.two", "back");
    let read = |path: std::path::PathBuf| fs::read_to_string(path).expect("readable");
    let json: Value = serde_json::from_str(&read(front.join("cred"))).expect("JSON");
    assert_eq!(
        json,
        json!({ "key": "basicauth", "value": "user:p\"w\n\\ü" })
    );
    assert_eq!(read(front.join("tls.key")), "-----BEGIN x\n");
    assert_eq!(read(back.join("cred")), "user:p\"w\n\\ü");
    assert!(
        !back.join("tls.key").exists(),
        "a container sees what it declares and no more"
    );
}

fn raw_bytes_come_through_unchanged() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.publish_service(&plain_service("com.example.raw", &["raw"]));
    let file = agent.consumer("com.example.raw", "main").join("raw");
    let every_byte: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    operator.set("raw", &every_byte);
    operator.publish_policy("raw", &policy("com.example.raw", &[], &[("raw", "raw")]));
    wait::content(&file, &every_byte);
    for value in [&b"no newline at the end"[..], b"newline\n", b"\r\n\0\xff"] {
        operator.set("raw", value);
        wait::content(&file, value);
    }
}

fn values_up_to_the_limit_come_through_and_larger_ones_are_refused() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.publish_service(&plain_service("com.example.large", &["a", "b"]));
    let large = |fill: u8| vec![fill; 400 * 1024];
    operator.set("a", large(b'a'));
    operator.set("b", large(b'b'));
    let bound = [("a", "a"), ("b", "b")];
    operator.publish_policy("large", &policy("com.example.large", &[], &bound));
    let dir = agent.consumer("com.example.large", "main");
    wait::content(&dir.join("a"), &large(b'a'));
    wait::content(&dir.join("b"), &large(b'b'));
    operator.set("a", large(b'c'));
    wait::content(&dir.join("a"), &large(b'c'));
    let ended = operator.run(
        &["secret", "set", "a", "--value-file", "-"],
        vec![b'x'; 600 * 1024],
    );
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("524288") || ended.stderr.contains("512"),
        "{ended:?}"
    );
    assert_eq!(fs::read(dir.join("a")).expect("it stays"), large(b'c'));
}

fn unicode_properties_and_names_match() {
    let hub = TestHub::start();
    let properties = [
        ("都市", json!("京都")),
        ("größe", json!(7)),
        ("label", json!("a b")),
    ];
    let agent = TestAgent::start(&hub, "edge-01", &properties);
    let operator = hub.operator();
    operator.set("s", "ok");
    operator.publish_service(&plain_service(
        "com.example.unicode",
        &["Zugangsdaten für 京都"],
    ));
    let constraints = [
        "都市 == 京都 AND größe >= 7",
        "label == \"a b\" || nothing != 1",
    ];
    let bound = [("Zugangsdaten für 京都", "s")];
    operator.publish_policy(
        "unicode",
        &policy("com.example.unicode", &constraints, &bound),
    );
    let dir = agent.consumer("com.example.unicode", "main");
    wait::content(&dir.join("Zugangsdaten für 京都"), b"ok");
}

fn a_private_secret_reaches_its_owners_nodes_alone() {
    let hub = TestHub::start();
    let alice = hub.user("alice", "user");
    let admin = hub.operator();
    // Her own node, and the organisation's.
    let token = admin.json(&["node", "token", "hers", "--owner", "alice"])["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let mut hers = TestAgent::new(&hub, "hers", &[]);
    assert_eq!(hers.enrol(&token).code, 0);
    hers.run();
    let other = TestAgent::start(&hub, "other", &[]);
    admin.publish_service(&plain_service("com.example.private", &["cred"]));
    alice.set("user/alice/cred", "hers alone");
    let bound = [("cred", "user/alice/cred")];
    alice.publish_policy("private", &policy("com.example.private", &[], &bound));
    wait::content(
        &hers.consumer("com.example.private", "main").join("cred"),
        b"hers alone",
    );
    hub.admin().await_rollout(
        "private",
        "the other node is refused or left out",
        |rollout| {
            let nodes = rollout["nodes"].as_array().expect("a list");
            let blocked = |node: &Value| node["node"] == "other" && node["state"] == "blocked";
            nodes.iter().any(blocked) || nodes.iter().all(|node| node["node"] != "other")
        },
    );
    assert!(
        !other
            .consumer("com.example.private", "main")
            .join("cred")
            .exists()
    );
}
