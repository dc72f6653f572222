//! Bad input is refused at the border with a reason, and the hub goes on.

use edge_secrets_protocol::routes;
use edge_secrets_tests::node::AdminApi;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{Answer, Client, TestHub};
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        names_that_are_none_are_refused,
        names_in_documents_are_refused_with_their_place,
        bodies_above_the_limit_are_refused,
        broken_and_deep_json_is_refused,
        a_wrong_content_type_is_refused,
        unknown_paths_and_methods_are_problems_too,
        a_node_cannot_say_what_is_out_of_bounds,
        what_was_sealed_for_another_place_is_refused,
        garbage_instead_of_tls_or_http2_harms_nobody,
    ]
}

/// The hub answers, and has not panicked on the way.
fn assert_alive(hub: &TestHub) {
    let answer = hub.admin().client.get("/v1/hub").expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    assert!(!hub.log_text().contains("panicked"), "{}", hub.log_text());
}

fn assert_refused(what: &str, answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{what}: {answer}");
    let code = answer.code();
    let problem: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(
        problem["type"],
        format!("urn:edge-secrets:problem:{code}"),
        "{what}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.len() > 5),
        "{what}: {answer}"
    );
}

fn names_that_are_none_are_refused() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let long = "x".repeat(600);
    let names = [
        "..",
        "a%2F..%2Fb",
        "%2e%2e",
        "a%00b",
        "%00",
        "a%0Ab",
        ".",
        "%FF%FE",
        "a%20b",
        &long,
    ];
    let paths = |name: &str| {
        [
            (Method::PUT, format!("secrets/{name}")),
            (Method::GET, format!("secrets/{name}")),
            (Method::PUT, format!("policies/{name}")),
            (Method::GET, format!("nodes/{name}")),
            (Method::POST, format!("nodes/{name}/token")),
            (Method::DELETE, format!("users/{name}")),
            (Method::GET, format!("policies/{name}/rollout")),
        ]
    };
    for name in names {
        for (method, path) in paths(name) {
            let body = match path.split('/').next() {
                Some("secrets") => admin.sealed("x", &[("value", b"v")]),
                Some("nodes") => json!({ "ttl_seconds": 60 }),
                _ => policy("com.example.x", &[], &[]),
            };
            let path = admin.path(&path);
            let answer = admin
                .client
                .json(method.clone(), &path, &body)
                .expect("an answer");
            assert_refused(&format!("{method} {path}"), &answer);
        }
    }
    for org in ["..", "%2e%2e", "a%00b", "%2F", &long] {
        let answer = admin
            .client
            .get(&format!("/v1/orgs/{org}/secrets"))
            .expect("an answer");
        assert_refused(org, &answer);
    }
    assert_eq!(admin.get("secrets"), json!([]), "nothing came of it");
    assert_eq!(admin.get("policies"), json!([]), "nothing came of it");
    assert_alive(&hub);
}

fn names_in_documents_are_refused_with_their_place() {
    let hub = TestHub::start();
    let operator = hub.operator();
    operator.set("s", "x");
    for name in ["", "..", "../x", "a/b", "a\0b", "a\nb", &"x".repeat(300)] {
        let ended = operator.run(
            &["service", "publish", "-"],
            plain_service("com.example.x", &[name]).to_string(),
        );
        assert_eq!(ended.code, 1, "secret name {name:?}: {ended:?}");
        assert!(ended.stderr.contains("secret name"), "{name:?}: {ended:?}");
    }
    for url in ["", "a b", "ü", &"x".repeat(300)] {
        let ended = operator.run(
            &["service", "publish", "-"],
            plain_service(url, &["a"]).to_string(),
        );
        assert_eq!(ended.code, 1, "url {url:?}: {ended:?}");
    }
    let mut bad_container = plain_service("com.example.x", &["a"]);
    let container = bad_container["deployment"]["services"]["main"].take();
    bad_container["deployment"]["services"] = json!({ "../main": container });
    let ended = operator.run(&["service", "publish", "-"], bad_container.to_string());
    assert_eq!(ended.code, 1, "{ended:?}");
    operator.publish_service(&plain_service("com.example.x", &["a"]));
    for reference in [
        "",
        "..",
        "a/../b",
        "user",
        "user/alice",
        "openhorizon/x",
        "a b",
        "Vault:x",
    ] {
        let policy = policy("com.example.x", &[], &[("a", reference)]);
        let ended = operator.run(&["policy", "publish", "x", "-"], policy.to_string());
        assert_eq!(ended.code, 1, "reference {reference:?}: {ended:?}");
        assert!(
            ended.stderr.contains("secretBinding"),
            "where: {reference:?}: {ended:?}"
        );
    }
    assert_eq!(hub.admin().get("policies"), json!([]), "nothing came of it");
    assert_alive(&hub);
}

fn bodies_above_the_limit_are_refused() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let large = format!("{{\"sealed\":\"{}\"}}", "x".repeat(3 * 1024 * 1024));
    for path in ["secrets/x", "policies/x"] {
        let path = admin.path(path);
        let answer = json_text(&mut admin.client, Method::PUT, &path, &large);
        assert_eq!(answer.code(), "too_large", "{path}");
    }
    let mut node = hub.raw_node("edge-01", &[]);
    let items = |mib: usize| {
        format!(
            "{{\"items\":[],\"x\":\"{}\"}}",
            "x".repeat(mib * 1024 * 1024)
        )
    };
    for (method, path, mib) in [
        (Method::POST, routes::SECRETS, 2),
        // Of a full node it is larger than any other.
        (Method::PUT, routes::STATUS, 5),
    ] {
        assert_eq!(
            json_text(&mut node.client, method, path, &items(mib)).code(),
            "too_large",
            "{path}"
        );
    }
    let answer = json_text(&mut hub.stranger(), Method::POST, routes::ENROLL, &items(2));
    assert_eq!(answer.code(), "too_large");
    assert_alive(&hub);
}

fn broken_and_deep_json_is_refused() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let mut node = hub.raw_node("edge-01", &[]);
    let deep = "[".repeat(200_000);
    let deep_object = "{\"a\":".repeat(100_000);
    let bad = [
        "",
        "{",
        "null",
        "[]",
        "\"x\"",
        "{\"items\":1}",
        "{\"a\":1,}",
        "\u{0}",
        "{}}",
        &deep,
        &deep_object,
    ];
    for text in bad {
        let shown = &text[..text.len().min(20)];
        for path in ["secrets/x", "policies/x"] {
            let path = admin.path(path);
            let answer = json_text(&mut admin.client, Method::PUT, &path, text);
            assert_refused(&format!("{path} {shown:?}"), &answer);
        }
        for (method, path) in [
            (Method::POST, routes::SECRETS),
            (Method::POST, routes::RENEW),
            (Method::PUT, routes::STATUS),
        ] {
            let answer = json_text(&mut node.client, method, path, text);
            assert_refused(&format!("{path} {shown:?}"), &answer);
        }
        let answer = json_text(&mut hub.stranger(), Method::POST, routes::ENROLL, text);
        assert_refused(&format!("enroll {shown:?}"), &answer);
    }
    assert_alive(&hub);
}

fn a_wrong_content_type_is_refused() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let body = admin.sealed("x", &[("value", b"v")]).to_string();
    let path = admin.path("secrets/x");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        "application/jsonx",
    ] {
        let answer = admin
            .client
            .send(Method::PUT, &path, &[("content-type", kind)], body.clone());
        assert_eq!(
            answer.expect("an answer").code(),
            "unsupported_media_type",
            "{kind:?}"
        );
    }
    let kind = [("content-type", "application/json; charset=utf-8")];
    let answer = admin
        .client
        .send(Method::PUT, &path, &kind, body)
        .expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    let mut node = hub.raw_node("edge-01", &[]);
    let answer = node
        .client
        .send(Method::POST, routes::SECRETS, &[], "{\"items\":[]}");
    assert_eq!(answer.expect("an answer").code(), "unsupported_media_type");
    assert_alive(&hub);
}

fn unknown_paths_and_methods_are_problems_too() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    for path in [
        "/",
        "/v1",
        "/v2/hub",
        "/v1/orgs/myorg/nothing",
        "/v1/orgs//secrets",
        "//",
    ] {
        let answer = admin.client.get(path).expect("an answer");
        assert_refused(path, &answer);
    }
    let answer = admin
        .client
        .send(Method::DELETE, "/v1/hub", &[], "")
        .expect("an answer");
    assert_eq!(answer.code(), "method_not_allowed");
    for query in ["wait=x", "after=x&wait=99999999999999999999", "limit=-1"] {
        let path = admin.path(&format!("audit?{query}"));
        assert_refused(query, &admin.client.get(&path).expect("an answer"));
    }
    assert_alive(&hub);
}

fn a_node_cannot_say_what_is_out_of_bounds() {
    let hub = TestHub::start();
    let mut node = hub.raw_node("edge-01", &[]);
    let items: Vec<Value> = (0..1000)
        .map(|n| json!({ "service": { "org": "myorg", "url": "u" }, "name": format!("n{n}"), "version": "1" }))
        .collect();
    let answer = node
        .client
        .json(Method::POST, routes::SECRETS, &json!({ "items": items }));
    assert_eq!(answer.expect("an answer").code(), "too_large");
    for bad in [
        json!({ "items": [{ "service": { "org": "myorg", "url": "u" }, "name": "../x", "version": "1" }] }),
        json!({ "items": [{ "service": { "org": "..", "url": "u" }, "name": "x", "version": "1" }] }),
        json!({ "items": [{ "service": { "org": "myorg", "url": "" }, "name": "x", "version": "" }] }),
    ] {
        let answer = node
            .client
            .json(Method::POST, routes::SECRETS, &bad)
            .expect("an answer");
        assert_refused("fetch", &answer);
    }
    for bad in [
        json!({ "properties": [{ "name": "", "value": 1 }] }),
        json!({ "properties": [{ "name": "a", "value": { "b": [1] } }] }),
        json!({ "properties": "x" }),
        json!({ "policy": { "constraints": ["a =="] } }),
    ] {
        let answer = node
            .client
            .json(Method::PUT, routes::NODE, &bad)
            .expect("an answer");
        assert_refused(&bad.to_string(), &answer);
    }
    assert_alive(&hub);
}

fn what_was_sealed_for_another_place_is_refused() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let body = admin.sealed("one", &[("value", b"v")]);
    let answer = admin.put("secrets/two", &body);
    assert_refused("sealed for another reference", &answer);
    let mut other = AdminApi::over(as_user(&hub, "bob"));
    let answer = other.put("secrets/one", &body);
    assert_refused("sealed by another user", &answer);
    let mut broken = admin.sealed("one", &[("value", b"v")]);
    for value in broken["sealed"]
        .as_object_mut()
        .expect("an object")
        .values_mut()
    {
        if let Some(text) = value.as_str() {
            *value = text.replacen(['A', 'a', 'B', 'b', 'C', 'c'], "D", 3).into();
        }
    }
    assert_refused("changed on the way", &admin.put("secrets/one", &broken));
    assert_eq!(admin.get("secrets"), json!([]));
    assert_alive(&hub);
}

fn garbage_instead_of_tls_or_http2_harms_nobody() {
    use std::io::{Read, Write};
    let hub = TestHub::start();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 4096],
        &[0x16, 3, 1, 0xff, 0xff],
        b"",
    ] {
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", hub.port())).expect("connected");
        stream.write_all(garbage).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        // It ends, one way or the other.
        stream
            .set_read_timeout(Some(edge_secrets_tests::DEADLINE))
            .expect("a bound");
        stream.read_to_end(&mut answer).ok();
    }
    assert_alive(&hub);
}

fn as_user(hub: &TestHub, name: &str) -> Client {
    let user = hub.user(name, "admin");
    let context = edge_secrets_tests::hub::Context::load(user.context());
    let client = Client::connect(hub.port(), Some(&context.ca), Some(&context.credentials));
    client.expect("a connection")
}

fn json_text(client: &mut Client, method: Method, path: &str, text: &str) -> Answer {
    let kind = [("content-type", "application/json")];
    client
        .send(method, path, &kind, text.to_owned())
        .expect("an answer")
}
