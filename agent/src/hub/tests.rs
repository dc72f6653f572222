use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::binding::{Bindings, FetchItem, FetchResult};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::watch::{BindingsEvent, WatchEvent};
use edge_secrets_protocol::{Code, Generation, Problem, routes};

use super::fake::{FakeHub, Seen, deployment, now};
use super::*;
use crate::clock::Now;
use crate::identity::{Material, NodeIdentity, Store};

fn identity(hub: &FakeHub) -> NodeIdentity {
    stored(&hub.issue("myorg", "edge-01"))
}

fn stored(material: &Material) -> NodeIdentity {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.install(material).unwrap();
    NodeIdentity::load(&store).unwrap().unwrap()
}

async fn connect(hub: &FakeHub, identity: &NodeIdentity) -> Result<Connection, HubError> {
    Connection::open(&hub.url(), identity.tls.clone()).await
}

#[tokio::test]
async fn all_calls_of_a_node_go_over_one_connection() {
    let mut hub = FakeHub::start().await;
    let identity = identity(&hub);
    hub.answers().bindings = Bindings {
        generation: Generation(3),
        deployments: vec![deployment("d1", "svc", &[("cred", "1")])],
        ..Bindings::default()
    };
    hub.answers().values.insert("cred".into(), "hunter2".into());
    let connection = connect(&hub, &identity).await.unwrap();

    connection.put_node(&NodeFacts::default()).await.unwrap();
    let mut watch = connection.watch(Some(Generation(2))).await.unwrap();
    let Pulled::Changed(bindings) = connection.bindings(None).await.unwrap() else {
        panic!("there are bindings");
    };
    assert_eq!(bindings.bindings().generation, Generation(3));
    let unchanged = connection.bindings(Some(Generation(3))).await.unwrap();
    assert!(matches!(unchanged, Pulled::Unchanged));

    let item = edge_secrets_protocol::binding::FetchItem {
        service: "myorg/svc".parse().unwrap(),
        name: "cred".parse().unwrap(),
        version: "1".parse().unwrap(),
    };
    let results = connection.secrets(vec![item]).await.unwrap();
    assert!(matches!(results.as_slice(), [FetchResult::Sealed(_)]));

    let event = WatchEvent::Bindings(BindingsEvent {
        generation: Generation(4),
        spread_ms: 0,
    });
    hub.push(event);
    assert_eq!(watch.next().await.unwrap(), [event]);
    let asked = hub.asked_so_far();
    assert!(
        asked.contains(&Seen::Watch(Some(Generation(2)))),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_problem_keeps_its_code_and_the_connection() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let problem = Problem::new(Code::NodeRevoked, "node edge-01 is revoked");
    hub.answers().refuse.insert(routes::BINDINGS, problem);
    let connection = connect(&hub, &identity).await.unwrap();
    let error = connection.bindings(None).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NodeRevoked));
    assert!(!error.ends_connection());
    assert!(connection.put_node(&NodeFacts::default()).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_refused() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let connection = connect(&hub, &identity).await.unwrap();
    for raw in [vec![b'['; 200_000], b"{}".to_vec(), vec![b' '; 9 << 20]] {
        hub.answers().raw = Some(raw.into());
        let error = connection.bindings(None).await.unwrap_err();
        assert!(matches!(error, HubError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn contradictory_and_boundless_bindings_are_refused() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let connection = connect(&hub, &identity).await.unwrap();
    let good = deployment("d1", "svc", &[("cred", "1")]);
    let mut noisy = good.clone();
    noisy.service_version = "1.0\u{1b}[2J".into();
    let names: Vec<_> = (0..2000).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let many = deployment("d1", "svc", &many);
    for bad in [vec![good.clone(), good], vec![noisy], vec![many]] {
        hub.answers().bindings.deployments = bad;
        let error = connection.bindings(None).await.unwrap_err();
        assert!(matches!(error, HubError::Malformed { .. }), "{error}");
    }
    // A difference that both changes a deployment and leaves it as it was.
    let mut bindings = hub.answers().bindings.clone();
    bindings.deployments = vec![deployment("d1", "svc", &[("cred", "2")])];
    bindings.unchanged = vec!["d1".parse().unwrap()];
    hub.answers().bindings = bindings;
    let error = connection.bindings(None).await.unwrap_err();
    assert!(matches!(error, HubError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn what_the_hub_says_is_one_short_line() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let connection = connect(&hub, &identity).await.unwrap();
    let long = "x".repeat(1 << 20);
    let noise = format!("no\n2026-01-01 INFO All is well.\u{1b}[2J\u{202e}{long}");
    let problem = Problem::new(Code::Failed, noise);
    hub.answers()
        .refuse
        .insert(routes::BINDINGS, problem.clone());
    let refused = connection.bindings(None).await.unwrap_err().to_string();
    hub.answers().item_problems.insert("cred".into(), problem);
    let item = FetchItem {
        service: "myorg/svc".parse().unwrap(),
        name: "cred".parse().unwrap(),
        version: "1".parse().unwrap(),
    };
    let results = connection.secrets(vec![item]).await.unwrap();
    let [FetchResult::Problem(item)] = results.as_slice() else {
        panic!("{results:?}");
    };
    for shown in [refused, item.to_string()] {
        assert!(shown.len() < 4000, "{}", shown.len());
        assert!(!shown.contains(['\n', '\u{1b}', '\u{202e}']), "{shown:?}");
        assert!(shown.contains("All is well"), "{shown:?}");
    }
}

#[tokio::test]
async fn a_tls_failure_names_its_reason() {
    let mine = FakeHub::start().await;
    let identity = identity(&mine);
    let fault = |error: HubError| match error {
        HubError::Tls { fault, .. } => fault,
        other => panic!("{other}"),
    };

    let foreign = FakeHub::start().await;
    let error = connect(&foreign, &identity).await.err().unwrap();
    assert_eq!(fault(error), TlsFault::HubOtherAuthority);

    for (name, years, wanted) in [
        ("127.0.0.1", (2000, 2001), TlsFault::HubExpired),
        ("127.0.0.1", (2990, 2999), TlsFault::HubNotYetValid),
        ("hub.test", (2000, 2999), TlsFault::HubOtherName),
    ] {
        let hub = FakeHub::start_as(name, years).await;
        let identity = self::identity(&hub);
        let error = connect(&hub, &identity).await.err().unwrap();
        assert_eq!(fault(error), wanted);
    }
    assert!(TlsFault::HubNotYetValid.to_string().contains("clock"));
}

#[tokio::test]
async fn a_hub_that_refuses_the_certificate_says_so() {
    let hub = FakeHub::start().await;
    hub.answers().validity = Some((now() - 7200, now() - 3600));
    let expired = identity(&hub);
    let connection = connect(&hub, &expired).await.unwrap();
    let error = connection.bindings(None).await.unwrap_err();
    assert!(error.refuses_identity(), "{error}");
    assert!(error.to_string().contains("expired"), "{error}");

    // A certificate of another CA, with this hub's CA as what is trusted.
    let other = FakeHub::start().await;
    let mut material = other.issue("myorg", "edge-01");
    material.trust_bundle = hub.issue("myorg", "edge-01").trust_bundle;
    let foreign = stored(&material);
    let connection = connect(&hub, &foreign).await.unwrap();
    let error = connection
        .put_node(&NodeFacts::default())
        .await
        .unwrap_err();
    assert!(error.refuses_identity(), "{error}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_unreachable() {
    let mut hub = FakeHub::start().await;
    let identity = identity(&hub);
    let connection = connect(&hub, &identity).await.unwrap();
    let mut watch = connection.watch(None).await.unwrap();
    hub.stop().await;
    let lost = watch.next().await.unwrap_err();
    assert!(lost.ends_connection(), "{lost}");
    let lost = connection.bindings(None).await.err().unwrap();
    assert!(matches!(lost, HubError::Lost(_)), "{lost}");
    let error = connect(&hub, &identity).await.err().unwrap();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_tls_is_no_hub() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let server = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        tcp
    };
    let (error, _tcp) = tokio::join!(Connection::open(&url, Arc::clone(&identity.tls)), server);
    let error = error.err().unwrap();
    assert!(error.to_string().contains("no hub"), "{error}");
}

#[tokio::test]
async fn a_slow_answer_makes_no_life_longer() {
    let hub = FakeHub::start().await;
    let identity = identity(&hub);
    let (life, slow) = (Duration::from_secs(60), Duration::from_millis(50));
    let mut lease = deployment("d1", "svc", &[("cred", "1")]);
    lease.secrets[0].expires_in_ms = Some(life.as_millis().try_into().unwrap());
    hub.answers().bindings.deployments = vec![lease];
    hub.answers().slow = slow;
    let connection = connect(&hub, &identity).await.unwrap();
    let before = Now::read().boot;
    let Pulled::Changed(desired) = connection.bindings(None).await.unwrap() else {
        panic!("there are bindings");
    };
    let answered = Now::read().boot;
    let end = desired
        .ends()
        .values()
        .flat_map(|ends| ends.values())
        .next();
    let end = end.unwrap().at;
    assert!(end >= before.after(life));
    assert!(end.after(slow) <= answered.after(life));
}
