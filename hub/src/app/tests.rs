//! A whole hub over real TLS: what `init` made, served, watched and stopped.

use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::enroll::{EnrollRequest, Identity};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::watch::{WatchDecoder, WatchEvent};
use edge_secrets_protocol::{Code, Fields, OrgId, Problem, Token, UserId, routes};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::catalog::records::{
    Actor, AuditQuery, Belonging, Change, Enrolment, NewAudit, NewCertificate, NewMeta, NewToken,
    PolicyRecord, ServiceRecord,
};
use crate::init::tests::wanted;
use crate::init::{CONFIG_FILE, init};
use crate::managers::embedded::NewValue;
use crate::server::tls::provider;

type Client = SendRequest<Full<bytes::Bytes>>;

async fn data_dir() -> (tempfile::TempDir, Config) {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    init(&wanted(&dir)).await.unwrap();
    let config = Config::load(&dir.join(CONFIG_FILE)).unwrap();
    (room, config)
}

async fn connect(
    address: SocketAddr,
    ca: &str,
    identity: Option<(&str, &KeyPair)>,
) -> std::io::Result<Client> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((pem, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await?;
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

async fn call(
    client: &mut Client,
    method: &str,
    path: &str,
    body: String,
) -> Response<hyper::body::Incoming> {
    client.ready().await.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("https://127.0.0.1{path}"))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap();
    client.send_request(request).await.unwrap()
}

async fn body(response: Response<hyper::body::Incoming>) -> bytes::Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn setup(hub: &Hub) -> NewAudit {
    NewAudit {
        org: "myorg".parse().unwrap(),
        at: clock::now(),
        actor: Actor::Hub,
        action: hub.pki.trust_domain().to_string(),
        object: String::new(),
        result: "ok".into(),
        detail: String::new(),
        peer: String::new(),
    }
}

async fn token(hub: &Hub) -> Token {
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let token = Token::generate(org, node, hub.pki.ca_fingerprint()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose_secret());
    let record = NewToken {
        org: token.org.clone(),
        node: token.node.clone(),
        belongs: Belonging::default(),
        hash: digest.as_ref().try_into().unwrap(),
        expires_at: clock::now() + Duration::from_secs(60),
    };
    hub.catalog.add_token(&record, setup(hub)).await.unwrap();
    token
}

/// The body of an enrolment over `key` with a new token.
async fn enrolment(hub: &Hub, key: &KeyPair) -> String {
    let csr = CertificateParams::default().serialize_request(key).unwrap();
    let request = EnrollRequest {
        token: token(hub).await.expose().to_string(),
        csr: csr.pem().unwrap(),
        sealing_key: SealingKey::generate().public(),
        facts: NodeFacts::default(),
    };
    serde_json::to_string(&request).unwrap()
}

#[tokio::test]
async fn a_node_enrols_watches_and_is_let_go_when_the_hub_stops() {
    let (_room, config) = data_dir().await;
    let bound = build(config).await.unwrap();
    let (hub, address) = (Arc::clone(bound.hub()), bound.address());
    let stop = Stop::default();
    let running = tokio::spawn(bound.run(stop.clone()));
    let ca = hub.pki.trust_bundle_pem();

    let key = KeyPair::generate().unwrap();
    let request = enrolment(&hub, &key).await;
    let mut stranger = connect(address, ca, None).await.unwrap();
    let answer = call(&mut stranger, "POST", routes::ENROLL, request.clone()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let identity: Identity = serde_json::from_slice(&body(answer).await).unwrap();
    let again = call(&mut stranger, "POST", routes::ENROLL, request).await;
    let refused: Problem = serde_json::from_slice(&body(again).await).unwrap();
    assert_eq!(refused.code, Code::Denied);

    let mut node = connect(address, ca, Some((&identity.certificate, &key)))
        .await
        .unwrap();
    let watch = call(&mut node, "GET", routes::WATCH, String::new()).await;
    assert_eq!(watch.status(), StatusCode::OK);
    let mut watch = watch.into_body();
    let mut decoder = WatchDecoder::default();
    let first = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    let events = decoder.push(&first).unwrap();
    assert!(matches!(events.as_slice(), [WatchEvent::Bindings(_)]));
    assert!(hub.feed.is_connected(&identity.org, &identity.node));

    // Over the same connection, beside the watch.
    let bindings = call(&mut node, "GET", routes::BINDINGS, String::new()).await;
    assert_eq!(bindings.status(), StatusCode::OK);
    body(bindings).await;

    let revoke = Change::RevokeNode(identity.node.clone());
    crate::deploy::apply(&hub, &identity.org, revoke, setup(&hub))
        .await
        .unwrap();
    let mut events = Vec::new();
    while let Some(frame) = watch.frame().await {
        events.extend(decoder.push(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    assert_eq!(events.last(), Some(&WatchEvent::Revoked));

    stop.graceful.cancel();
    running.await.unwrap();
    assert!(connect(address, ca, None).await.is_err());
}

#[tokio::test]
async fn a_watch_does_not_hold_up_the_end() {
    let (_room, config) = data_dir().await;
    let bound = build(config).await.unwrap();
    let (hub, address) = (Arc::clone(bound.hub()), bound.address());
    let stop = Stop::default();
    let running = tokio::spawn(bound.run(stop.clone()));
    let key = KeyPair::generate().unwrap();
    let request = enrolment(&hub, &key).await;
    let ca = hub.pki.trust_bundle_pem();
    let mut stranger = connect(address, ca, None).await.unwrap();
    let answer = call(&mut stranger, "POST", routes::ENROLL, request).await;
    let identity: Identity = serde_json::from_slice(&body(answer).await).unwrap();
    let mut node = connect(address, ca, Some((&identity.certificate, &key)))
        .await
        .unwrap();
    let watch = call(&mut node, "GET", routes::WATCH, String::new()).await;

    stop.graceful.cancel();
    // The stream ends whole, not by a cut.
    body(watch).await;
    running.await.unwrap();
}

#[tokio::test]
async fn a_second_hub_on_the_same_data_is_refused() {
    let (_room, config) = data_dir().await;
    let first = build(config.clone()).await.unwrap();
    let refused = build(config.clone()).await.err().unwrap();
    assert!(matches!(refused, AppError::Locked(_)), "{refused}");
    let stop = Stop::default();
    stop.graceful.cancel();
    first.run(stop).await;
    build(config).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_init_did_not_make_is_named_with_what_to_do() {
    let (_room, config) = data_dir().await;
    let (empty, mut other) = (tempfile::tempdir().unwrap(), config.clone());
    other.data_dir = empty.path().to_owned();
    let refused = build(other).await.err().unwrap().to_string();
    assert!(refused.contains("edge-secrets-hub init"), "{refused}");
    for missing in [MASTER_KEY_FILE, SEALING_KEY_FILE, DATABASE_FILE] {
        let path = config.data_dir.join(missing);
        let aside = config.data_dir.join("aside");
        std::fs::rename(&path, &aside).unwrap();
        let refused = build(config.clone()).await.err().unwrap();
        assert!(refused.is_configuration());
        let text = refused.to_string();
        assert!(
            text.contains(missing) && text.contains("edge-secrets-hub restore"),
            "{text}"
        );
        std::fs::rename(&aside, &path).unwrap();
    }
    std::fs::write(config.data_dir.join(MASTER_KEY_FILE), b"short").unwrap();
    let refused = build(config).await.err().unwrap().to_string();
    assert!(refused.contains("malformed"), "{refused}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let (_room, mut config) = data_dir().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.listen = taken.local_addr().unwrap();
    let refused = build(config.clone()).await.err().unwrap();
    assert!(!refused.is_configuration());
    assert!(
        refused.to_string().contains(&config.listen.to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn a_key_that_everybody_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    for name in [crate::pki::CA_KEY_FILE, MASTER_KEY_FILE, SEALING_KEY_FILE] {
        let (_room, config) = data_dir().await;
        let path = config.data_dir.join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        let error = build(config).await.err().unwrap();
        assert!(error.is_configuration(), "{error}");
        let said = error.to_string();
        assert!(said.contains(name) && said.contains("604"), "{said}");
    }
}

/// Serves a hub until `look` is done with it.
async fn serving(config: Config, look: impl AsyncFnOnce(&Hub)) {
    let bound = build(config).await.unwrap();
    let hub = Arc::clone(bound.hub());
    let stop = Stop::default();
    let running = tokio::spawn(bound.run(stop.clone()));
    look(&hub).await;
    stop.graceful.cancel();
    running.await.unwrap();
}

/// Puts a service that wants `cred`, the policy that binds it to `db`, a value of `db`, and a node
/// that gets it.
async fn deploy_one(hub: &Hub) {
    let (org, alice): (OrgId, UserId) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
    let payload = Fields::encode(&[("value".parse().unwrap(), b"x")]).unwrap();
    let value = NewValue {
        org: &org,
        reference: &"db".parse().unwrap(),
        payload: &payload,
        by: &alice,
        meta: NewMeta::default(),
    };
    hub.secrets.set(value, None, setup(hub)).await.unwrap();
    let service = json!({
        "org": "myorg", "url": "com.example.uplink", "version": "1.0.0", "arch": "*",
        "deployment": { "services": { "main": { "image": "x", "secrets": {
            "cred": { "description": "x" } } } } },
    });
    let policy = json!({
        "service": { "name": "com.example.uplink", "org": "myorg", "arch": "*",
            "serviceVersions": [{ "version": "1.0.0" }] },
        "constraints": [],
        "secretBinding": [{ "serviceOrgid": "myorg", "serviceUrl": "com.example.uplink",
            "serviceArch": "*", "serviceVersionRange": "[0.0.0,INFINITY)",
            "secrets": [{ "cred": "db" }] }],
    });
    let token = token(hub).await;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose_secret());
    for change in [
        Change::PutService(ServiceRecord {
            url: "com.example.uplink".parse().unwrap(),
            version: "1.0.0".into(),
            arch: "*".into(),
            owner: alice.clone(),
            public: false,
            document: service.to_string(),
            updated_at: clock::now(),
        }),
        Change::PutPolicy(PolicyRecord {
            name: "uplink".parse().unwrap(),
            owner: alice.clone(),
            document: policy.to_string(),
            updated_at: clock::now(),
        }),
        Change::Enrol(Box::new(Enrolment {
            node: token.node.clone(),
            token_hash: digest.as_ref().try_into().unwrap(),
            belongs: Belonging::default(),
            certificate: NewCertificate {
                serial: "0a".into(),
                not_after: jiff::Timestamp::MAX,
            },
            sealing_key: SealingKey::generate().public(),
            facts: NodeFacts::default(),
            at: clock::now(),
        })),
    ] {
        let applied = crate::deploy::apply(hub, &org, change, setup(hub)).await;
        applied.unwrap();
    }
}

/// What the node's one secret is bound to, and where it stands, once it is as wanted.
async fn until_bound(hub: &Hub, reference: &str, wanted: impl Fn(&SecretState) -> bool) {
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let waiting = async {
        loop {
            let bindings = hub.catalog.bindings(&org, &node, None).await.unwrap();
            let bound = bindings.deployments.into_iter().next();
            let stands = bound.is_some_and(|bound| {
                let binding = bound.placed.bindings.into_values().next().unwrap();
                let candidates = binding.candidates.iter().map(ToString::to_string);
                let candidates: Vec<_> = candidates.collect();
                candidates == [reference] && wanted(&bound.secrets[0].state)
            });
            if stands {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.unwrap_or_else(|_| panic!("never bound to {reference}"));
}

#[tokio::test]
async fn another_default_manager_binds_what_names_none_anew() {
    let (_room, own) = data_dir().await;
    let ready = |state: &SecretState| matches!(state, SecretState::Ready { .. });
    serving(own.clone(), async |hub| {
        deploy_one(hub).await;
        until_bound(hub, "db", ready).await;
    })
    .await;
    let text = format!(
        "{}managers:\n- name: vault\n  orgs: {{}}\n  vault: {{address: 'https://127.0.0.1:1', \
         auth: {{token: token}}}}\ndefault_managers: {{myorg: vault, nowhere: vault}}\n",
        std::fs::read_to_string(own.data_dir.join(CONFIG_FILE)).unwrap()
    );
    let managed = Config::parse(&text, &own.data_dir.join(CONFIG_FILE)).unwrap();
    // Another secret, which the configuration gives to nobody: the one of before is not delivered.
    let denied = |state: &SecretState| *state == SecretState::Denied;
    for _ in 0..2 {
        serving(managed.clone(), async |hub| {
            until_bound(hub, "vault:db", denied).await;
        })
        .await;
    }
    serving(own, async |hub| {
        until_bound(hub, "db", ready).await;
        let query = AuditQuery {
            limit: 1000,
            ..AuditQuery::default()
        };
        let trail = hub.catalog.audit(&"myorg".parse().unwrap(), &query).await;
        let changed: Vec<_> = trail
            .unwrap()
            .into_iter()
            .map(|record| record.entry)
            .filter(|entry| entry.action == "manager.default")
            .map(|entry| format!("{} {} {}", entry.actor, entry.object, entry.detail))
            .collect();
        assert_eq!(changed, ["hub org/myorg vault", "hub org/myorg embedded"]);
    })
    .await;
}
