use edge_secrets_protocol::Generation;
use edge_secrets_protocol::status::DeploymentState;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use std::path::Path;

use edge_secrets_protocol::problem::CONTENT_TYPE as PROBLEM_TYPE;
use nix::unistd::{getegid, geteuid};

use super::*;
use crate::app::AbortOnDrop;
use crate::status::{HubState, HubStatus};

fn agent(services: Vec<ServiceStatus>) -> AgentStatus {
    AgentStatus {
        agent_version: "0".into(),
        org: "myorg".parse().unwrap(),
        node: "edge-01".parse().unwrap(),
        hub: HubStatus {
            url: "https://hub:1".into(),
            state: HubState::Connecting,
            since: Timestamp::UNIX_EPOCH,
            error: None,
            certificate_not_after: None,
        },
        generation: Generation(0),
        protection: vec![],
        services,
        profile_problems: vec![],
        cache: None,
    }
}

fn service(state: DeploymentState) -> ServiceStatus {
    ServiceStatus {
        deployment: "d".parse().unwrap(),
        service: "myorg/https://x.y/a?b".parse().unwrap(),
        service_version: "1".into(),
        policy: "p".parse().unwrap(),
        state,
        since: Timestamp::UNIX_EPOCH,
        error: None,
        secrets: vec![],
        consumers: vec![],
    }
}

type Teller = watch::Sender<Arc<AgentStatus>>;

struct Served {
    _dir: tempfile::TempDir,
    path: PathBuf,
    sender: Teller,
    refresh: Arc<Notify>,
    task: Option<AbortOnDrop>,
}

fn bind(
    path: &Path,
    group: Option<&str>,
    status: AgentStatus,
) -> Result<(LocalApi, Teller, Arc<Notify>), BindError> {
    let (sender, receiver) = watch::channel(Arc::new(status));
    let refresh = Arc::new(Notify::new());
    let api = LocalApi::bind(LocalApiOptions {
        path: path.to_owned(),
        group: group.map(str::to_owned),
        status: receiver,
        refresh: refresh.clone(),
        counters: Arc::default(),
    })?;
    Ok((api, sender, refresh))
}

fn serve(status: AgentStatus) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    // A socket that a killed agent left must not be in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (api, sender, refresh) = bind(&path, None, status).unwrap();
    Served {
        _dir: dir,
        path,
        sender,
        refresh,
        task: Some(AbortOnDrop::new(tokio::spawn(api.serve()))),
    }
}

/// Sends a request as it is and gives the answer as it is.
async fn raw(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that does not read the whole request resets the connection after its answer.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

async fn get(path: &Path, resource: &str) -> String {
    raw(path, &format!("GET {resource} HTTP/1.1\r\nhost: a\r\n\r\n")).await
}

/// A wait that has been sent and not answered.
async fn waiting(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let body = r#"{"service":"other","timeout_ms":600000}"#;
    let head = format!(
        "POST /v1/wait HTTP/1.1\r\nhost: a\r\ncontent-length: {}",
        body.len()
    );
    let request = format!("{head}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn the_status_is_told_to_who_may_use_the_socket() {
    let served = serve(agent(vec![service(DeploymentState::Applied)]));
    let told = status(&served.path).await.unwrap();
    assert_eq!(told, **served.sender.borrow());
    let mode = fs::metadata(&served.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn waiting_ends_when_the_service_is_applied() {
    let served = serve(agent(vec![]));
    let waiting = wait(&served.path, "https://x.y/a?b", MAX_WAIT);
    let change = async {
        tokio::task::yield_now().await;
        let pending = agent(vec![service(DeploymentState::Pending)]);
        served.sender.send_replace(Arc::new(pending));
        tokio::task::yield_now().await;
        let applied = agent(vec![service(DeploymentState::Applied)]);
        served.sender.send_replace(Arc::new(applied));
    };
    let (answer, ()) = tokio::join!(waiting, change);
    assert!(answer.unwrap().applied);
}

#[tokio::test]
async fn waiting_in_vain_says_how_things_stand() {
    let served = serve(agent(vec![service(DeploymentState::Blocked)]));
    let name = "myorg/https://x.y/a?b";
    let answer = wait(&served.path, name, Duration::ZERO).await.unwrap();
    assert!(!answer.applied);
    assert_eq!(answer.services, [service(DeploymentState::Blocked)]);
    let answer = wait(&served.path, "other", Duration::ZERO).await.unwrap();
    assert!(!answer.applied && answer.services.is_empty());
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_a_problem() {
    let served = serve(agent(vec![]));
    let get = "GET /v1/nothing HTTP/1.1\r\nhost: a\r\n\r\n".to_owned();
    let post = |rest: &str| format!("POST /v1/wait HTTP/1.1\r\nhost: a\r\n{rest}");
    for (request, status, code) in [
        (get.clone(), 404, "not_found"),
        (
            get.replace("nothing", "services/myorg/absent"),
            404,
            "not_found",
        ),
        (get.replace("nothing", "services/myorg"), 400, "bad_request"),
        (
            get.replace("nothing", "services/myorg/%2"),
            400,
            "bad_request",
        ),
        (get.replace("nothing", "wait"), 405, "method_not_allowed"),
        (get.replace("nothing", "refresh"), 405, "method_not_allowed"),
        (
            get.replace("GET /v1/nothing", "DELETE /v1/status"),
            405,
            "method_not_allowed",
        ),
        (
            get.replace("GET /v1/nothing", "POST /metrics"),
            405,
            "method_not_allowed",
        ),
        (post("content-length: 1\r\n\r\n{"), 400, "bad_request"),
        (post("content-length: 2\r\n\r\n[]"), 400, "bad_request"),
        (
            post("content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}"),
            415,
            "unsupported_media_type",
        ),
        (post("content-length: 99999\r\n\r\n"), 413, "too_large"),
    ] {
        let answer = raw(&served.path, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(answer.contains(PROBLEM_TYPE), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
    let huge = get.replace("nothing", &"x".repeat(2 * MAX_HEADERS));
    let answer = raw(&served.path, &huge).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_peer_that_never_asks_is_let_go() {
    let served = serve(agent(vec![]));
    // Both end because the server's time limit does.
    let (head, body) = tokio::join!(
        raw(&served.path, "GET /v1/st"),
        raw(
            &served.path,
            "POST /v1/wait HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
        ),
    );
    assert!(!head.contains("200 OK"), "{head}");
    assert!(body.contains("too slowly"), "{body}");
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_and_nothing_else() {
    let (mut here, there) = UnixStream::pair().unwrap();
    let (_sender, status) = watch::channel(Arc::new(agent(vec![])));
    let answers = Answers {
        status,
        refresh: Arc::default(),
        counters: Arc::default(),
    };
    let peer = Peer::of(&there).unwrap();
    let denied = Problem::new(edge_secrets_protocol::Code::Denied, "not you");
    let place = Places::new(BOUNDS).take(peer.uid);
    let served = converse(there, peer, Err(denied), place, answers);
    let asked = async {
        let request = "GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n";
        here.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        here.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(served, asked);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains(PROBLEM_TYPE) && answer.contains("not you"),
        "{answer}"
    );
    assert!(!answer.contains("myorg"), "{answer}");
}

/// What another user, in these groups, is answered with: the HTTP status, or none.
async fn asked_as(path: &Path, uid: u32, groups: &str) -> String {
    let user = [
        format!("--reuid={uid}"),
        format!("--regid={uid}"),
        groups.to_owned(),
    ];
    let ended = tokio::process::Command::new("setpriv")
        .args(user)
        .args([
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--unix-socket",
        ])
        .arg(path)
        .arg("http://agent/v1/status")
        .output();
    String::from_utf8(ended.await.unwrap().stdout).unwrap()
}

#[tokio::test]
#[ignore = "needs root, setpriv and curl"]
async fn other_users_may_ask_when_their_process_is_in_the_group() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("agent.sock");
    let (api, _sender, _refresh) = bind(&path, Some("54321"), agent(vec![])).unwrap();
    let _task = AbortOnDrop::new(tokio::spawn(api.serve()));
    assert_eq!(asked_as(&path, 12345, "--clear-groups").await, "000");
    assert_eq!(asked_as(&path, 12345, "--groups=54321").await, "200");
    assert_eq!(asked_as(&path, 54321, "--clear-groups").await, "200");
    // Where somebody loosened the mode, the peer is still checked.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(asked_as(&path, 12345, "--clear-groups").await, "403");
    assert_eq!(asked_as(&path, 12345, "--groups=54321").await, "200");
}

#[tokio::test]
async fn services_are_told_all_or_one() {
    let served = serve(agent(vec![service(DeploymentState::Applied)]));
    let all = services(&served.path).await.unwrap();
    assert_eq!(all, [service(DeploymentState::Applied)]);
    for name in ["https%3A%2F%2Fx.y%2Fa%3Fb", "https://x.y/a%3fb"] {
        let answer = get(&served.path, &format!("/v1/services/myorg/{name}")).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let one: Vec<ServiceStatus> = serde_json::from_str(body).unwrap();
        assert_eq!(one, all);
    }
}

#[tokio::test]
async fn a_refresh_rings_the_bell() {
    let served = serve(agent(vec![]));
    refresh(&served.path).await.unwrap();
    served.refresh.notified().await;
    let post = "POST /v1/refresh HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(&served.path, post).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
    served.refresh.notified().await;
}

#[tokio::test]
async fn metrics_are_told_as_prometheus_wants_them() {
    let served = serve(agent(vec![]));
    let answer = get(&served.path, "/metrics").await;
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    let text = metrics(&served.path).await.unwrap();
    assert!(text.contains("\nedge_secrets_hub_connected 0\n"), "{text}");
}

#[tokio::test]
async fn waits_do_not_hold_up_short_calls_and_have_a_bound() {
    let served = serve(agent(vec![]));
    let mut waits = Vec::new();
    for _ in 0..BOUNDS.waits_each {
        waits.push(waiting(&served.path).await);
    }
    // Answered after those, so that all of them wait by then.
    status(&served.path).await.unwrap();
    let error = wait(&served.path, "other", MAX_WAIT).await.unwrap_err();
    let ClientError::Refused(problem) = error else {
        panic!("{error}");
    };
    assert_eq!(problem.status, 429);
    // Who goes away makes room for another.
    waits.pop();
    loop {
        match wait(&served.path, "other", Duration::ZERO).await {
            Ok(answer) => break assert!(!answer.applied),
            Err(ClientError::Refused(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_flood_of_connections_starves_nobody() {
    let served = serve(agent(vec![]));
    let mut flood = Vec::new();
    for round in 0..4 {
        for _ in 0..BOUNDS.short_each {
            flood.push(UnixStream::connect(&served.path).await.unwrap());
        }
        status(&served.path).await.unwrap();
        // The oldest had to make room.
        if round > 0 {
            let gone = flood.remove(0).read(&mut [0]).await;
            assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
        }
    }
}

#[tokio::test]
async fn the_socket_goes_to_the_configured_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    // Root may give it to any group, others to one of their own.
    let group = if geteuid().is_root() {
        12345
    } else {
        getegid().as_raw()
    };
    let (api, ..) = bind(&path, Some(&group.to_string()), agent(vec![])).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.gid(), found.mode() & 0o777), (group, 0o660));
    assert_eq!(api.group, group);
    drop(api);
    assert!(!path.exists());
}

#[tokio::test]
async fn an_unknown_group_changes_nothing_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    fs::write(&path, "there before").unwrap();
    let error = bind(&path, Some("no-such-group-here"), agent(vec![]))
        .err()
        .unwrap();
    assert!(matches!(error, BindError::UnknownGroup(_)));
    assert!(error.to_string().contains("groupadd"), "{error}");
    assert!(path.exists());
}

#[tokio::test]
async fn an_agent_that_does_not_run_is_told_apart() {
    let mut served = serve(agent(vec![]));
    drop(served.task.take());
    tokio::task::yield_now().await;
    let error = status(&served.path).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
}
