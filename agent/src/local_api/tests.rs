use edge_secrets_protocol::Generation;
use edge_secrets_protocol::status::DeploymentState;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

struct Served {
    _dir: tempfile::TempDir,
    path: PathBuf,
    sender: watch::Sender<Arc<AgentStatus>>,
    task: Option<AbortOnDrop>,
}

fn serve(status: AgentStatus) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    // A socket that a killed agent left must not be in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (sender, receiver) = watch::channel(Arc::new(status));
    let api = LocalApi::bind(&path, receiver).unwrap();
    Served {
        _dir: dir,
        path,
        sender,
        task: Some(AbortOnDrop::new(tokio::spawn(api.serve()))),
    }
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
    for (request, code) in [
        ("GET /v1/nothing HTTP/1.1\r\nhost: a\r\n\r\n", "not_found"),
        (
            "DELETE /v1/status HTTP/1.1\r\nhost: a\r\n\r\n",
            "method_not_allowed",
        ),
        (
            "POST /v1/wait HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n{",
            "bad_request",
        ),
        (
            "POST /v1/wait HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\n",
            "too_large",
        ),
    ] {
        let mut stream = UnixStream::connect(&served.path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(PROBLEM_TYPE), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_run_is_told_apart() {
    let mut served = serve(agent(vec![]));
    drop(served.task.take());
    tokio::task::yield_now().await;
    let error = status(&served.path).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
}
