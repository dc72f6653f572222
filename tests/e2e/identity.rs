//! Who may connect, enrol and fetch (invariants 5 and 12).

use std::time::Duration;

use edge_secrets_protocol::{SealingKey, routes};
use edge_secrets_tests::node::{enrol_body, item};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{Client, Credentials, ORG, TestAgent, TestHub};
use http::Method;
use libtest_mimic::Trial;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

use crate::delivery::{URL, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_node_reaching_for_what_is_not_its_own_learns_nothing,
        a_value_of_a_former_version_or_deployment_is_not_served,
        a_used_token_is_denied_and_audited,
        a_wrong_token_is_denied_and_audited,
        an_expired_or_replaced_token_is_denied,
        a_token_of_another_hub_sends_the_agent_nowhere,
        an_agent_without_an_identity_says_what_to_do,
        a_foreign_certificate_is_refused_in_tls_and_the_log_says_why,
        an_expired_certificate_is_refused,
        no_certificate_opens_nothing_but_enrolment,
        nodes_and_users_keep_to_their_own_paths,
        enrolling_again_ends_the_former_identity,
    ]
}

/// Two nodes; `edge-01` has the service, `edge-02` another one.
fn two_nodes() -> (
    TestHub,
    edge_secrets_tests::RawNode,
    edge_secrets_tests::RawNode,
) {
    let hub = TestHub::start();
    let operator = hub.operator();
    publish_uplink(&operator, "one");
    operator.set("other", "x");
    operator.set("unbound", "y");
    operator.publish_service(&plain_service("com.example.other", &["a"]));
    operator.publish_policy(
        "other",
        &policy("com.example.other", &[], &[("a", "other")]),
    );
    let first = hub.raw_node("edge-01", &[("site", json!("berlin"))]);
    let second = hub.raw_node("edge-02", &[("site", json!("paris"))]);
    (hub, first, second)
}

fn a_node_reaching_for_what_is_not_its_own_learns_nothing() {
    let (hub, mut first, mut second) = two_nodes();
    let of_first = first.bound(URL, "myCloudServiceCred");
    assert!(first.fetch_one(&of_first).is_ok());
    let own = second.bound("com.example.other", "a");
    assert!(second.fetch_one(&own).is_ok());
    let reached = [
        // Another node's secret, of a service this node does not have.
        of_first,
        // A service that nobody has.
        item("com.example.nobody", "myCloudServiceCred", "1"),
        // A name that its own service does not declare, but a secret exists by that name.
        item("com.example.other", "unbound", "1"),
        // A name that does not exist at all.
        item("com.example.other", "nothing", "1"),
        // Another version of what is not its own.
        item(URL, "myCloudServiceCred", "2"),
    ];
    let shape = |wanted: &edge_secrets_protocol::binding::FetchItem, problem: &Value| {
        assert_eq!(problem["code"], "denied", "{problem}");
        let mut text = problem.to_string();
        for name in [
            wanted.service.to_string(),
            wanted.name.to_string(),
            wanted.version.to_string(),
        ] {
            text = text.replace(&name, "?");
        }
        text
    };
    let answers: Vec<String> = reached
        .iter()
        .map(|wanted| shape(wanted, &second.fetch_one(wanted).err().expect("refused")))
        .collect();
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
    // In one batch with its own, the own one comes and the others do not.
    let mut batch = reached.to_vec();
    batch.push(own);
    let answer: Value = second.fetch(&batch).ok();
    for refused in &answer["items"].as_array().expect("a list")[..reached.len()] {
        assert_eq!(refused["problem"]["code"], "denied", "{refused}");
    }
    assert!(
        answer["items"][reached.len()]["sealed"].is_object(),
        "{answer}"
    );
    let audited = hub.operator().audit(&[
        ("actor", "node/edge-02"),
        ("action", "secret.fetch"),
        ("result", "denied"),
    ]);
    assert_eq!(audited.len(), 2 * reached.len(), "{audited:#?}");
    let served = hub
        .operator()
        .audit(&[("actor", "node/edge-02"), ("result", "ok")]);
    assert!(
        served
            .iter()
            .any(|record| record["action"] == "secret.fetch"),
        "{served:#?}"
    );
}

fn a_value_of_a_former_version_or_deployment_is_not_served() {
    let (hub, mut first, _) = two_nodes();
    let wanted = first.bound(URL, "myCloudServiceCred");
    assert!(first.fetch_one(&wanted).is_ok());
    hub.operator().set("cloudServiceXYZSecret", "two");
    let problem = first.fetch_one(&wanted).err().expect("refused");
    assert_eq!(problem["code"], "superseded", "{problem}");
    let second = first.bound(URL, "myCloudServiceCred");
    assert!(first.fetch_one(&second).is_ok());
    // The same number of another secret is another version.
    let operator = hub.operator();
    operator.set("another", "x");
    operator.set("another", "y");
    let bound = [("myCloudServiceCred", "another")];
    operator.publish_policy("uplink", &policy(URL, &["site == berlin"], &bound));
    let problem = first.fetch_one(&second).err().expect("refused");
    assert_eq!(problem["code"], "superseded", "{problem}");
    let third = first.bound(URL, "myCloudServiceCred");
    assert!(first.fetch_one(&third).is_ok());
    operator.ok(&["policy", "rm", "uplink"], "");
    let problem = first.fetch_one(&third).err().expect("refused");
    assert_eq!(problem["code"], "denied", "{problem}");
}

fn a_used_token_is_denied_and_audited() {
    let hub = TestHub::start();
    let token = hub.token("edge-01");
    let agent = TestAgent::new(&hub, "edge-01", &[]);
    assert_eq!(agent.enrol(&token).code, 0);
    let again = TestAgent::new(&hub, "edge-01", &[]);
    let ended = again.enrol(&token);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert_denied_enrolment(&hub);
    // The first one's identity still works.
    let mut agent = agent;
    agent.run();
    agent.await_hub("connected");
}

fn a_wrong_token_is_denied_and_audited() {
    let hub = TestHub::start();
    let token = hub.token("edge-01");
    let at = token.len() - 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    let wrong = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    let agent = TestAgent::new(&hub, "edge-01", &[]);
    let ended = agent.enrol(&wrong);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(
        !ended.stderr.contains(&wrong[at - 20..]),
        "no token in an error"
    );
    assert_denied_enrolment(&hub);
    // For another node than the token says.
    let agent = TestAgent::new(&hub, "edge-02", &[]);
    assert_ne!(agent.enrol(&token).code, 0);
    // What is no token at all is told without asking the hub, and nothing of it is shown.
    let ended = agent.enrol("hunter2hunter2");
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    // The token itself was not used up by all this.
    assert_eq!(TestAgent::new(&hub, "edge-01", &[]).enrol(&token).code, 0);
}

fn an_expired_or_replaced_token_is_denied() {
    let hub = TestHub::start();
    let replaced = hub.token("edge-01");
    let short = hub
        .operator()
        .json(&["node", "token", "edge-01", "--ttl", "1m"]);
    let agent = TestAgent::new(&hub, "edge-01", &[]);
    assert_eq!(
        agent.enrol(&replaced).code,
        77,
        "only the newest token works"
    );
    let end: jiff::Timestamp = short["expires_at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    sleep_until(end);
    let ended = agent.enrol(short["token"].as_str().expect("a token"));
    assert_eq!(ended.code, 77, "{ended:?}");
    assert_denied_enrolment(&hub);
}

fn a_token_of_another_hub_sends_the_agent_nowhere() {
    let hub = TestHub::start();
    let foreign = TestHub::start();
    let agent = TestAgent::new(&hub, "edge-01", &[]);
    let ended = agent.enrol(&foreign.token("edge-01"));
    assert_ne!(ended.code, 0);
    assert!(
        ended.stderr.contains("does not present the CA"),
        "{ended:?}"
    );
    // The token's secret half was not shown to the wrong hub.
    let denied = hub.operator().audit(&[("action", "node.enrol")]);
    assert!(denied.is_empty(), "{denied:?}");
}

fn an_agent_without_an_identity_says_what_to_do() {
    let hub = TestHub::start();
    let agent = TestAgent::new(&hub, "edge-01", &[]);
    let ended = agent.ended(&["run"]);
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains("enroll"), "{ended:?}");
}

fn a_foreign_certificate_is_refused_in_tls_and_the_log_says_why() {
    let hub = TestHub::start();
    let real = hub.raw_node("edge-01", &[]);
    drop(real);
    let foreign = forged();
    let client = Client::connect(hub.port(), Some(&hub.ca()), Some(&foreign));
    // With TLS 1.3 the refusal may come with the first answer.
    let answer = client.and_then(|mut client| client.get(routes::BINDINGS));
    let error = answer.expect_err("refused");
    assert!(error.to_lowercase().contains("alert"), "{error}");
    hub.await_log("not signed by this hub's CA");
    // A client that trusts somebody else goes away before it says anything.
    let other = TestHub::start();
    let error = Client::connect(hub.port(), Some(&other.ca()), None)
        .err()
        .expect("refused");
    assert!(error.contains("invalid peer certificate"), "{error}");
}

fn an_expired_certificate_is_refused() {
    let hub = TestHub::configured(|config| {
        config["node_certificates"]["lifetime"] = "60s".into();
        config["node_certificates"]["renewal_grace"] = "0s".into();
    });
    let mut node = hub.raw_node("edge-01", &[]);
    let answer = node.client.get(routes::BINDINGS).expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    // The clock is what is waited for.
    std::thread::sleep(Duration::from_secs(62));
    for connect_again in [false, true] {
        let answer = if connect_again {
            let client = Client::connect(hub.port(), Some(&hub.ca()), Some(&node.credentials));
            client.and_then(|mut client| client.get(routes::BINDINGS))
        } else {
            node.client.get(routes::BINDINGS)
        };
        match answer {
            Ok(answer) => assert_eq!(answer.code(), "certificate_expired"),
            Err(error) => assert!(!error.is_empty()),
        }
    }
    // Written after the client has heard of the refusal, perhaps.
    hub.await_log("expired");
}

fn no_certificate_opens_nothing_but_enrolment() {
    let hub = TestHub::start();
    let mut stranger = hub.stranger();
    for path in [
        routes::BINDINGS,
        routes::WATCH,
        "/v1/hub",
        "/v1/orgs/myorg/secrets",
    ] {
        let answer = stranger.get(path).expect("an answer");
        assert!(
            matches!(answer.code().as_str(), "denied" | "not_enrolled"),
            "{path}: {answer}"
        );
    }
    for path in [routes::SECRETS, routes::RENEW] {
        let answer = stranger
            .json(Method::POST, path, &json!({}))
            .expect("an answer");
        assert_eq!(answer.status, 403, "{path}: {answer}");
    }
}

fn nodes_and_users_keep_to_their_own_paths() {
    let (hub, mut node, _) = two_nodes();
    for path in [
        "/v1/hub",
        "/v1/orgs/myorg/secrets",
        "/v1/orgs/myorg/nodes",
        "/v1/orgs/myorg/audit",
    ] {
        let answer = node.client.get(path).expect("an answer");
        assert_eq!(answer.status, 403, "{path}: {answer}");
    }
    let mut admin = hub.admin();
    for path in [routes::BINDINGS, routes::WATCH] {
        let answer = admin.client.get(path).expect("an answer");
        assert_eq!(answer.status, 403, "{path}: {answer}");
    }
    let wanted = json!({ "items": [item(URL, "myCloudServiceCred", "1")] });
    let answer = admin
        .client
        .json(Method::POST, routes::SECRETS, &wanted)
        .expect("an answer");
    assert_eq!(answer.status, 403, "{answer}");
    // Another organisation is not there for anybody.
    let answer = admin
        .client
        .get("/v1/orgs/other/secrets")
        .expect("an answer");
    assert_eq!(answer.code(), "denied");
}

fn enrolling_again_ends_the_former_identity() {
    let (hub, mut first, _) = two_nodes();
    let mut second = hub.raw_node("edge-01", &[("site", json!("berlin"))]);
    let wanted = second.bound(URL, "myCloudServiceCred");
    assert!(second.fetch_one(&wanted).is_ok());
    assert_eq!(
        first.fetch(std::slice::from_ref(&wanted)).code(),
        "not_enrolled"
    );
    // Nor can it renew.
    let key = KeyPair::generate().expect("a key");
    let body = enrol_body("", &key, &SealingKey::generate(), &[]);
    let answer = first
        .client
        .json(Method::POST, routes::RENEW, &json!({ "csr": body.csr }));
    assert_eq!(answer.expect("an answer").status, 403);
}

fn assert_denied_enrolment(hub: &TestHub) {
    let audit = hub.operator().audit(&[("action", "node.enrol")]);
    assert!(
        audit.iter().any(|record| record["result"] == "denied"),
        "{audit:#?}"
    );
}

/// A certificate with the same name from a CA that has the same name.
fn forged() -> Credentials {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, ca_key).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://edge-secrets.internal/org/{ORG}/node/edge-01");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
    let certificate = params.signed_by(&key, &ca).expect("a certificate");
    Credentials {
        chain: format!("{}{}", certificate.pem(), ca.pem()),
        key: key.serialize_pem(),
    }
}

fn sleep_until(end: jiff::Timestamp) {
    let left = end.duration_since(jiff::Timestamp::now());
    std::thread::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(50));
}
