//! Real sockets on a real tmpfs, with a reconciler that really delivers.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use edge_secrets_protocol::binding::{Deployment, Format};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::consumers::lifecycle::Verdict;
use crate::consumers::profile::{Lifecycle, Profile, Shape, Workload};
use crate::hub::tls::provider;
use crate::reconcile::tests::world::{World, bindings, deployment, lease};

/// A world and its APIs.
struct Served {
    world: World,
    apis: SecretsApis,
}

impl Served {
    fn new() -> Self {
        let mut world = World::new();
        world.serve_apis(true);
        let apis = SecretsApis::new(Vec::new(), Arc::default());
        Self { world, apis }
    }

    fn follow(&mut self) {
        let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
        self.apis.follow(self.world.reconciler(), &org, &node);
    }

    fn apply(&mut self, generation: u64, deployments: impl IntoIterator<Item = Deployment>) {
        self.world.apply(&bindings(generation, deployments));
        self.follow();
    }

    /// As after a kill: nothing of the former life runs.
    fn restart(&mut self) {
        self.apis = SecretsApis::new(Vec::new(), Arc::default());
        self.world.restart();
        self.follow();
    }

    fn dir(&self, service: &str) -> PathBuf {
        let dir = self.world.dir().join("ess/myorg");
        dir.join(service).join("main")
    }

    /// A client that reads what it needs now, and never again.
    fn client(&self, service: &str) -> Client {
        let dir = self.dir(service);
        let auth: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join("auth.json")).unwrap()).unwrap();
        let text = |name: &str| auth[name].as_str().unwrap().to_owned();
        assert_eq!(text("version"), "1.0.0");
        let mut roots = RootCertStore::empty();
        let pem = fs::read(dir.join("cert.pem")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client {
            socket: dir.join("essapi.sock"),
            tls: TlsConnector::from(Arc::new(tls)),
            credential: format!("{}:{}", text("id"), text("token")),
        }
    }
}

#[derive(Clone)]
struct Client {
    socket: PathBuf,
    tls: TlsConnector,
    credential: String,
}

/// A status, the lines of the head, and the body.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    async fn connect(&self) -> std::io::Result<TlsStream<UnixStream>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let name = ServerName::try_from("localhost").unwrap();
        self.tls.connect(name, stream).await
    }

    async fn send(&self, method: &str, path: &str, more: &str) -> TlsStream<UnixStream> {
        let mut stream = self.connect().await.unwrap();
        let credential = BASE64.encode(self.credential.as_bytes());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {credential}\r\n\
             {more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn call(&self, method: &str, path: &str) -> Told {
        answer(self.send(method, path, "").await).await
    }

    async fn updated(&self) -> Option<String> {
        let told = self.call("GET", "/api/v1/secrets").await;
        match told.status {
            404 => None,
            200 => Some(told.body),
            _ => panic!("{told:?}"),
        }
    }

    async fn secret(&self, name: &str) -> Told {
        self.call("GET", &format!("/api/v1/secrets/{name}")).await
    }

    async fn receive(&self, name: &str) -> u16 {
        let path = format!("/api/v1/secrets/{name}?received=true");
        self.call("POST", &path).await.status
    }
}

async fn answer(mut stream: TlsStream<UnixStream>) -> Told {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Told {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn uplink(secrets: &[(&str, &str)]) -> Deployment {
    deployment("d1", "uplink", secrets)
}

fn profile(secrets_api: Option<bool>, shape: Shape) -> Profile {
    Profile {
        service: "myorg/uplink".parse().unwrap(),
        consumer: None,
        file: "uplink.yaml".into(),
        shape,
        on_change: None,
        lifecycle: None,
        credentials: None,
        secrets_api,
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_change_is_listed_read_and_acknowledged_and_two_within_a_second_are_two() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1"), ("b", "1")])]);
    let client = served.client("uplink");
    assert_eq!(
        client.updated().await,
        None,
        "the service begins with these"
    );
    for (generation, version) in [(2, "2"), (3, "3")] {
        served.apply(generation, [uplink(&[("a", version), ("b", "1")])]);
        assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
        let told = client.secret("a").await;
        let value = format!(r#"{{"key":"","value":"canary a {version}"}}"#);
        assert_eq!((told.status, told.body), (200, value));
        let tag = format!("etag: \"{version}\"");
        assert!(told.head.contains(&tag), "{}", told.head);
        assert!(
            told.head.contains("cache-control: no-store"),
            "{}",
            told.head
        );
        assert_eq!(client.receive("a").await, 201);
        assert_eq!(client.updated().await, None);
    }
}

#[tokio::test]
async fn every_call_has_the_code_of_open_horizon() {
    let mut served = Served::new();
    served.apply(
        1,
        [uplink(&[("a", "1"), ("tls key", "1"), ("two-fields", "1")])],
    );
    let client = served.client("uplink");
    for (method, path, status) in [
        ("GET", "/api/v1/secrets", 404),
        ("POST", "/api/v1/secrets", 405),
        ("DELETE", "/api/v1/secrets", 405),
        ("GET", "/api/v1/secrets/a", 200),
        ("GET", "/api/v1/secrets/tls%20key", 200),
        ("GET", "/api/v1/secrets/none", 404),
        ("GET", "/api/v1/secrets/..", 404),
        ("GET", "/api/v1/secrets/..api", 404),
        ("GET", "/api/v1/secrets/%2e%2e%2fa", 404),
        ("GET", "/api/v1/secrets/%zz", 400),
        ("GET", "/api/v1/secrets/", 400),
        ("GET", "/api/v1/secrets/a/b", 400),
        ("PUT", "/api/v1/secrets/a", 405),
        ("HEAD", "/api/v1/secrets/a", 405),
        ("POST", "/api/v1/secrets/a?received=true", 201),
        ("POST", "/api/v1/secrets/a?received=1", 201),
        ("POST", "/api/v1/secrets/none?received=true", 404),
        ("POST", "/api/v1/secrets/a?received=false", 400),
        ("POST", "/api/v1/secrets/a?received=", 400),
        ("POST", "/api/v1/secrets/a", 400),
        ("GET", "/api/v1/secrets?wait=soon", 400),
        ("GET", "/api/v1/secrets?wait=0", 404),
        ("GET", "/api/v1/secretsx", 404),
        ("GET", "/", 404),
    ] {
        let told = client.call(method, path).await;
        assert_eq!(told.status, status, "{method} {path}: {told:?}");
    }
    // Which of several fields is the value nobody knows.
    let told = client.secret("two-fields").await;
    let fields = r#"{"a":"canary two-fields 1","b":"canary two-fields 1","key":""}"#;
    assert_eq!(told.body, fields);
    let stream = client
        .send("GET", "/api/v1/secrets/a", "if-none-match: \"1\"\r\n")
        .await;
    assert_eq!(answer(stream).await.status, 304);
    let stream = client
        .send("GET", "/api/v1/secrets/a", "if-none-match: \"0\"\r\n")
        .await;
    assert_eq!(answer(stream).await.status, 200);
}

#[tokio::test]
async fn wrong_credentials_and_another_services_are_refused_alike() {
    let mut served = Served::new();
    let others = deployment("d2", "other", &[("a", "1")]);
    served.apply(1, [uplink(&[("a", "1")]), others]);
    let own = served.client("uplink");
    let other = served.client("other");
    assert_ne!(own.credential, other.credential);
    let with = |credential: &str| Client {
        credential: credential.to_owned(),
        ..own.clone()
    };
    let (id, token) = own.credential.split_once(':').unwrap();
    let (_, others_token) = other.credential.split_once(':').unwrap();
    for wrong in [
        other.credential.clone(),
        format!("{id}:{others_token}"),
        format!("{id}:"),
        format!("{id}x:{token}"),
        format!(":{token}"),
        String::new(),
    ] {
        for path in [
            "/api/v1/secrets",
            "/api/v1/secrets/a",
            "/api/v1/secrets/none",
        ] {
            let told = with(&wrong).call("GET", path).await;
            assert_eq!(
                (told.status, &*told.body),
                (403, "Unauthorized\n"),
                "{wrong}"
            );
        }
        assert_eq!(with(&wrong).receive("a").await, 403);
    }
    // Nor does the one's certificate vouch for the other.
    let elsewhere = Client {
        socket: other.socket,
        ..own.clone()
    };
    assert!(elsewhere.connect().await.is_err());
    assert_eq!(own.secret("a").await.status, 200);
}

#[tokio::test]
async fn a_wait_is_answered_by_a_change_and_by_the_end() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    let wait = "/api/v1/secrets?wait=300";
    let waiting = client.send("GET", wait, "").await;
    // Answered after it, so that it waits by then.
    assert_eq!(client.updated().await, None);
    served.apply(2, [uplink(&[("a", "2")])]);
    let told = answer(waiting).await;
    assert_eq!((told.status, &*told.body), (200, r#"["a"]"#));
    // What is not acknowledged is waited for no longer, for however long one would wait.
    for seconds in ["300", "301", "99999999999999999999999999"] {
        let path = format!("/api/v1/secrets?wait={seconds}");
        assert_eq!(client.call("GET", &path).await.status, 200, "{seconds}");
    }
    assert_eq!(client.receive("a").await, 201);

    let waiting = client.send("GET", wait, "").await;
    assert_eq!(client.updated().await, None);
    served.apply(3, []);
    assert_eq!(answer(waiting).await.status, 404);
}

#[tokio::test]
async fn a_wait_is_answered_when_a_stopped_service_has_its_news_again() {
    let mut served = Served::new();
    let tied = Profile {
        lifecycle: Some(Lifecycle {
            workload: Workload::Container("uplink".parse().unwrap()),
            linger: std::time::Duration::ZERO,
        }),
        ..profile(None, Shape::default())
    };
    served.world.shape(vec![tied]);
    let lives = |served: &mut Served, verdict| {
        let key = ("myorg/uplink".parse().unwrap(), None);
        let (now, stances) = (served.world.now(), [(key, verdict)].into());
        served.world.reconciler().live_by(stances, now);
    };
    lives(&mut served, Verdict::Deliver);
    served.apply(1, [uplink(&[("a", "1")])]);
    served.apply(2, [uplink(&[("a", "2")])]);
    let client = served.client("uplink");
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
    lives(&mut served, Verdict::Withhold);
    served.apply(3, [uplink(&[("a", "2")])]);
    // Its next process asks before it has been seen.
    let waiting = client.send("GET", "/api/v1/secrets?wait=30", "").await;
    assert_eq!(client.updated().await, None);
    lives(&mut served, Verdict::Deliver);
    served.apply(4, [uplink(&[("a", "2")])]);
    let told = answer(waiting).await;
    assert_eq!((told.status, &*told.body), (200, r#"["a"]"#));
}

#[tokio::test]
async fn waits_are_bounded_and_do_not_hold_up_other_calls() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    let wait = "/api/v1/secrets?wait=300";
    let mut waits = Vec::new();
    for _ in 0..serve::BOUNDS.waits_each {
        waits.push(client.send("GET", wait, "").await);
    }
    assert_eq!(client.updated().await, None);
    let told = client.call("GET", wait).await;
    assert_eq!(told.status, 429, "{told:?}");
    assert_eq!(client.secret("a").await.status, 200);
    // Who goes away makes room.
    drop(waits.pop());
    loop {
        match client.call("GET", "/api/v1/secrets?wait=1").await.status {
            404 => break,
            429 => tokio::task::yield_now().await,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_restart_keeps_clients_and_acknowledgements() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1"), ("b", "1")])]);
    let client = served.client("uplink");
    served.apply(2, [uplink(&[("a", "2"), ("b", "2")])]);
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a","b"]"#));
    assert_eq!(client.receive("a").await, 201);
    served.restart();
    // The same client, which has read nothing again.
    assert_eq!(client.updated().await.as_deref(), Some(r#"["b"]"#));
    assert_eq!(client.secret("a").await.status, 200);
    assert_eq!(client.receive("b").await, 201);
    served.restart();
    served.apply(3, [uplink(&[("a", "2"), ("b", "2")])]);
    assert_eq!(client.updated().await, None);
}

#[tokio::test]
async fn what_a_former_life_left_malformed_is_made_anew() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    served.apply(2, [uplink(&[("a", "2")])]);
    let before = served.client("uplink");
    let own = served.world.dir().join("ess-own/myorg/uplink/main");
    for name in ["token", "key.der", "certificate.der", "notes.json"] {
        assert_eq!(mode(&own.join(name)), 0o600);
        fs::write(own.join(name), "not what was written").unwrap();
    }
    served.restart();
    assert!(before.connect().await.is_err());
    let after = served.client("uplink");
    assert_eq!(after.secret("a").await.status, 200);
    // What was acknowledged is not known any more: told once too often is better than never.
    assert_eq!(after.updated().await.as_deref(), Some(r#"["a"]"#));
}

#[tokio::test]
async fn what_a_killed_agent_was_just_writing_is_wiped_by_the_next_one() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let own = served.world.dir().join("ess-own/myorg/uplink/main");
    let left = [served.dir("uplink"), own].map(|dir| dir.join("..new.0123456789abcdef"));
    for file in &left {
        fs::write(file, "half a token").unwrap();
    }
    let client = served.client("uplink");
    served.restart();
    for file in &left {
        assert!(!file.exists(), "{}", file.display());
    }
    assert_eq!(client.secret("a").await.status, 200);
}

#[tokio::test]
async fn a_revoked_node_serves_nothing_and_one_that_comes_back_does() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    let waiting = client.send("GET", "/api/v1/secrets?wait=300", "").await;
    assert_eq!(client.updated().await, None);
    let now = served.world.now().wall;
    served.world.reconciler().wipe_all(now).unwrap();
    served.follow();
    assert_eq!(answer(waiting).await.status, 404);
    assert!(client.connect().await.is_err());
    served.world.assert_nothing_is_left();
    served.apply(2, [uplink(&[("a", "1")])]);
    let again = served.client("uplink");
    assert_ne!(again.credential, client.credential);
    assert_eq!(again.secret("a").await.status, 200);
}

#[tokio::test]
async fn an_api_that_is_switched_on_begins_with_what_is_there() {
    let mut served = Served::new();
    served.world.serve_apis(false);
    served.apply(1, [uplink(&[("a", "1")])]);
    served.world.serve_apis(true);
    // The door is there before all fields lie beside the files.
    served.follow();
    let client = served.client("uplink");
    assert_eq!(client.secret("a").await.status, 404);
    served.apply(2, [uplink(&[("a", "1")])]);
    assert_eq!(client.secret("a").await.status, 200);
    assert_eq!(client.updated().await, None, "the service begins with this");
    served.apply(3, [uplink(&[("a", "2")])]);
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
}

#[tokio::test]
async fn an_undeployment_ends_socket_credentials_and_notes() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    let dir = served.dir("uplink");
    served.apply(2, []);
    assert!(dir.is_dir(), "a container has it mounted");
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    served.world.finish_wiping();
    served.world.assert_nothing_is_left();
    // Deployed again it is another one.
    served.apply(3, [uplink(&[("a", "2")])]);
    let again = served.client("uplink");
    assert_ne!(again.credential, client.credential);
    assert_eq!(again.updated().await, None);
    // And what a killed agent left is wiped by the next one that has no use for it.
    served.apis = SecretsApis::new(Vec::new(), Arc::default());
    served.world.serve_apis(false);
    served.follow();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    served.world.apply(&bindings(4, []));
    served.world.finish_wiping();
    served.world.assert_nothing_is_left();
}

#[tokio::test]
async fn what_has_ended_is_told_no_more_and_its_successor_is_news() {
    let mut served = Served::new();
    let life = std::time::Duration::from_secs(60);
    served.apply(1, [lease(uplink(&[("a", "1")]), "a", life)]);
    let client = served.client("uplink");
    assert_eq!(client.secret("a").await.status, 200);
    served.world.wait(2 * life);
    served.follow();
    assert_eq!(client.secret("a").await.status, 404);
    assert_eq!(client.updated().await, None);
    served.apply(2, [uplink(&[("a", "2")])]);
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
    assert_eq!(client.secret("a").await.status, 200);
}

#[tokio::test]
async fn a_stopped_service_has_its_api_and_nothing_to_be_told() {
    let mut served = Served::new();
    let tied = Profile {
        lifecycle: Some(Lifecycle {
            workload: Workload::Container("uplink".parse().unwrap()),
            linger: std::time::Duration::ZERO,
        }),
        ..profile(None, Shape::default())
    };
    served.world.shape(vec![tied]);
    let key = ("myorg/uplink".parse().unwrap(), None);
    let lives = |served: &mut Served, verdict| {
        let (now, stances) = (served.world.now(), [(key.clone(), verdict)].into());
        served.world.reconciler().live_by(stances, now);
    };
    lives(&mut served, Verdict::Withhold);
    served.apply(1, [uplink(&[("a", "1")])]);
    // A container takes its environment when it is made, before it lives.
    let client = served.client("uplink");
    assert!(served.dir("uplink").join("env").exists());
    assert_eq!(client.secret("a").await.status, 404);
    assert_eq!(client.updated().await, None);
    assert_eq!(client.receive("a").await, 404);
    lives(&mut served, Verdict::Deliver);
    served.apply(2, [uplink(&[("a", "1")])]);
    assert_eq!(client.secret("a").await.status, 200);
    assert_eq!(client.updated().await, None, "it starts with this");
    lives(&mut served, Verdict::Withhold);
    served.apply(3, [uplink(&[("a", "2")])]);
    assert_eq!(client.secret("a").await.status, 404);
    // Not forgotten by an agent that has not heard of its hub yet.
    served.restart();
    lives(&mut served, Verdict::Deliver);
    served.apply(4, [uplink(&[("a", "2")])]);
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
}

#[tokio::test]
async fn files_are_for_the_owner_alone_and_hidden_ones_for_the_agent() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let (dir, home) = (served.dir("uplink"), served.world.home("uplink"));
    assert_eq!(mode(&dir.join("essapi.sock")), 0o600);
    assert_eq!(mode(&dir.join("auth.json")), 0o400);
    assert_eq!(mode(&dir.join("cert.pem")), 0o444);
    assert_eq!(mode(&home.join("..data/..api")), 0o700);
    assert_eq!(mode(&home.join("..data/..api/a")), 0o400);
    assert_eq!(mode(&served.world.dir().join("ess-own")), 0o700);
    let visible = fs::read_dir(&home).unwrap();
    let visible: Vec<_> = visible.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!visible.iter().any(|name| name == "..api"), "{visible:?}");
    assert_eq!(served.world.reconciler().verify(), 0);
    let environment = fs::read_to_string(dir.join("env")).unwrap();
    assert!(
        environment.contains("HZN_AGREEMENTID=d1\n"),
        "{environment}"
    );
    assert!(
        environment.contains("HZN_DEVICE_ID=edge-01\n"),
        "{environment}"
    );

    // Open to all where the administrator insists, but not this.
    let client = served.client("uplink");
    let shape = Shape {
        mode: Some(0o444),
        format: Some(Format::ValueOnly),
        ..Shape::default()
    };
    served.world.shape(vec![profile(None, shape)]);
    served.apply(2, [uplink(&[("a", "1")])]);
    assert_eq!(mode(&dir.join("essapi.sock")), 0o660);
    assert_eq!(mode(&dir.join("auth.json")), 0o440);
    assert_eq!(fs::read(home.join("a")).unwrap(), b"canary a 1");
    let told = client.secret("a").await;
    assert_eq!(
        told.body, r#"{"key":"","value":"canary a 1"}"#,
        "also of raw bytes"
    );
}

#[tokio::test]
async fn a_former_owner_and_group_have_nothing_left_of_it() {
    use crate::consumers::profile::Principal;
    if !nix::unistd::geteuid().is_root() {
        // Only root gives files away.
        return;
    }
    let mut served = Served::new();
    let shape = |owner: Option<u32>, group: Option<u32>| Shape {
        owner: owner.map(Principal::Id),
        group: group.map(Principal::Id),
        mode: Some(0o440),
        ..Shape::default()
    };
    let own = nix::unistd::getegid().as_raw();
    // Over every way from one to another, there and back.
    let steps = [
        ((Some(1234), Some(4321)), (1234, 4321)),
        ((None, Some(4321)), (0, 4321)),
        ((Some(1234), Some(4321)), (1234, 4321)),
        ((None, None), (0, own)),
    ];
    for (generation, ((owner, group), wanted)) in (1..).zip(steps) {
        served.world.shape(vec![profile(None, shape(owner, group))]);
        served.apply(generation, [uplink(&[("a", "1")])]);
        for name in ["essapi.sock", "auth.json"] {
            let found = fs::symlink_metadata(served.dir("uplink").join(name)).unwrap();
            let found = (found.uid(), found.gid());
            assert_eq!(found, wanted, "{name} of {owner:?} {group:?}");
        }
        assert_eq!(served.client("uplink").secret("a").await.status, 200);
    }
}

#[tokio::test]
async fn there_is_none_unless_somebody_asks_for_it() {
    let mut served = Served::new();
    served.world.serve_apis(false);
    served.apply(1, [uplink(&[("a", "1")])]);
    assert!(!served.world.dir().join("ess").exists());
    assert!(!served.world.home("uplink").join("..data/..api").exists());
    served
        .world
        .shape(vec![profile(Some(true), Shape::default())]);
    served.apply(2, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    assert_eq!(client.secret("a").await.status, 200);
    // Whatever the node says of all.
    served.world.serve_apis(true);
    served
        .world
        .shape(vec![profile(Some(false), Shape::default())]);
    served.apply(3, [uplink(&[("a", "1")])]);
    assert!(client.connect().await.is_err());
    assert!(!served.world.home("uplink").join("..data/..api").exists());
    // A service that may not look at files.
    let private = Shape {
        private: true,
        ..Shape::default()
    };
    served.world.shape(vec![profile(None, private)]);
    served.apply(4, [uplink(&[("a", "1")])]);
    assert!(client.connect().await.is_err());
}

#[tokio::test]
async fn a_damaged_hidden_file_is_delivered_anew() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1"), ("b", "1")])]);
    let hidden = served.world.home("uplink").join("..data/..api/a");
    fs::remove_file(&hidden).unwrap();
    let client = served.client("uplink");
    assert_eq!(client.secret("a").await.status, 404);
    assert_eq!(served.world.reconciler().verify(), 1);
    assert_eq!(
        served
            .world
            .apply(&bindings(1, [uplink(&[("a", "1"), ("b", "1")])])),
        1
    );
    served.follow();
    assert_eq!(client.secret("a").await.status, 200);
    assert_eq!(client.updated().await, None, "it is the same value");
}

#[tokio::test]
async fn an_unknown_owner_costs_this_api_alone_and_is_named() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let shape = Shape {
        owner: Some(crate::consumers::profile::Principal::Name(
            "no-such-user".into(),
        )),
        ..Shape::default()
    };
    served.world.shape(vec![profile(None, shape)]);
    let others = deployment("d2", "other", &[("a", "1")]);
    served.apply(2, [uplink(&[("a", "1")]), others]);
    let consumer = ConsumerId {
        service: "myorg/uplink".parse().unwrap(),
        consumer: "main".parse().unwrap(),
    };
    let status = served
        .apis
        .status(&consumer, served.world.reconciler())
        .unwrap();
    assert!(status.error.unwrap().contains("no-such-user"));
    assert_eq!(served.client("other").secret("a").await.status, 200);
    assert_eq!(
        served.client("uplink").secret("a").await.status,
        200,
        "as before"
    );
    served.world.shape(vec![]);
    served.follow();
    let status = served
        .apis
        .status(&consumer, served.world.reconciler())
        .unwrap();
    assert_eq!(status.error, None);
}

#[tokio::test]
async fn a_flood_of_connections_starves_nobody() {
    let mut served = Served::new();
    let others = deployment("d2", "other", &[("a", "1")]);
    served.apply(1, [uplink(&[("a", "1")]), others]);
    let (own, other) = (served.client("uplink"), served.client("other"));
    let mut flood = Vec::new();
    for _ in 0..4 {
        for _ in 0..serve::BOUNDS.short_each {
            flood.push(UnixStream::connect(&own.socket).await.unwrap());
        }
        assert_eq!(other.secret("a").await.status, 200);
        assert_eq!(own.secret("a").await.status, 200);
    }
    let gone = flood.remove(0).read(&mut [0]).await;
    assert!(
        matches!(gone, Ok(0) | Err(_)),
        "the oldest had to make room: {gone:?}"
    );
}

#[tokio::test]
async fn what_is_no_tls_or_no_request_is_let_go() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    let client = served.client("uplink");
    let mut plain = UnixStream::connect(&client.socket).await.unwrap();
    plain
        .write_all(b"GET /api/v1/secrets HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut huge = client.connect().await.unwrap();
    let head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(64 * 1024));
    huge.write_all(head.as_bytes()).await.ok();
    let mut answer = Vec::new();
    huge.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    assert_eq!(client.secret("a").await.status, 200);
}

#[tokio::test]
async fn a_connection_has_one_answer_whatever_else_is_sent_over_it() {
    let mut served = Served::new();
    served.apply(1, [uplink(&[("a", "1")])]);
    served.apply(2, [uplink(&[("a", "2")])]);
    let client = served.client("uplink");
    assert_eq!(client.updated().await.as_deref(), Some(r#"["a"]"#));
    let credential = BASE64.encode(client.credential.as_bytes());
    let second = format!(
        "POST /api/v1/secrets/a?received=true HTTP/1.1\r\nhost: a\r\n\
         authorization: Basic {credential}\r\n\r\n"
    );
    for more in [
        format!("\r\n{second}"),
        format!("content-length: {}\r\n\r\n{second}", second.len()),
        format!("content-length: 0\r\ncontent-length: 5\r\n\r\n{second}"),
        format!("content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}"),
        format!("transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n{second}"),
    ] {
        let mut stream = client.connect().await.unwrap();
        let first = format!(
            "GET /api/v1/secrets HTTP/1.1\r\nhost: a\r\nauthorization: Basic {credential}\r\n{more}"
        );
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.ok();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "{more}: {told}");
        let listed = client.updated().await;
        assert_eq!(listed.as_deref(), Some(r#"["a"]"#), "{more}");
    }
}

#[tokio::test]
async fn a_name_longer_than_an_address_has_its_socket_too() {
    let mut served = Served::new();
    let service = "s".repeat(180);
    served.apply(1, [deployment("d1", &service, &[("a", "1")])]);
    let near = tempfile::tempdir().unwrap();
    let link = near.path().join("ess");
    // As a mount would.
    symlink(served.dir(&service), &link).unwrap();
    let client = Client {
        socket: link.join("essapi.sock"),
        ..served.client(&service)
    };
    assert_eq!(client.secret("a").await.status, 200);
}
