//! Logins, tokens, health, the configuration, and that nothing secret is said.

use std::sync::Arc;
use std::time::Duration;

use edge_secrets_fakes::secret_server::SecretServer as Fake;
use edge_secrets_fakes::{Fault as Trick, Request, Response};
use serde_json::json;
use tokio::task::JoinSet;

use super::{PASSWORD, Pim, SecretServer, SecretServerConfig, fault, login, reference, with_one};
use crate::session::InMemory;
use crate::{Fault, ListQuery, ManagerError, SecretManager, Target};

fn is_login(request: &Request) -> bool {
    request.path.ends_with("/oauth2/token")
}

/// As many at once.
async fn describe_at_once(pim: &Pim, times: usize) -> Vec<Option<ManagerError>> {
    let mut all = JoinSet::new();
    for _ in 0..times {
        let (manager, org) = (Arc::clone(&pim.manager), pim.org.clone());
        all.spawn(async move {
            let reference = reference("Team/db");
            let target = Target {
                org: &org,
                reference: &reference,
            };
            manager.describe(target).await.err()
        });
    }
    all.join_all().await
}

#[tokio::test]
async fn one_login_serves_all() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    let errors = describe_at_once(&pim, 20).await;
    assert!(errors.iter().all(Option::is_none), "{errors:?}");
    assert_eq!(pim.server.with(|fake| fake.logins), 1);
    pim.server.with(Fake::end_tokens);
    let errors = describe_at_once(&pim, 20).await;
    assert!(errors.iter().all(Option::is_none), "{errors:?}");
    assert_eq!(pim.server.with(|fake| fake.logins), 2);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends() {
    for refreshes in [false, true] {
        let (mut fake, _) = with_one(&login());
        // As a text, and over at once.
        fake.expires_in = json!("0");
        fake.refreshes = refreshes;
        let pim = Pim::start(fake).await;
        for _ in 0..3 {
            pim.describe("Team/db").await.unwrap();
        }
        let (logins, refreshed) = pim.server.with(|fake| (fake.logins, fake.refreshed));
        assert_eq!(logins == 1, refreshes);
        assert_eq!(refreshed > 2, refreshes);
    }
}

#[tokio::test]
async fn a_refresh_that_is_refused_becomes_a_login() {
    let (mut fake, _) = with_one(&login());
    (fake.expires_in, fake.refreshes) = (json!(0), true);
    let pim = Pim::start(fake).await;
    let refresh =
        |request: &Request| String::from_utf8_lossy(&request.body).contains("refresh_token");
    let refused = Response::json(400, &json!({"error": "invalid_grant"}));
    pim.server.faults.next(1, refresh, Trick::Answer(refused));
    pim.describe("Team/db").await.unwrap();
    assert_eq!(pim.server.with(|fake| fake.logins), 2);
}

#[tokio::test]
async fn a_dead_token_is_replaced_whatever_its_status() {
    for status in [401, 403] {
        let (mut fake, _) = with_one(&login());
        fake.dead_token = status;
        let pim = Pim::start(fake).await;
        pim.describe("Team/db").await.unwrap();
        pim.server.with(Fake::end_tokens);
        pim.describe("Team/db").await.unwrap();
        assert_eq!(pim.server.with(|fake| fake.logins), 2, "{status}");
    }
}

#[tokio::test]
async fn what_is_denied_for_good_makes_no_logins() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    let denied = Response::json(403, &json!({"message": "Authentication failed."}));
    let looking = |request: &Request| request.path.ends_with("/summary");
    pim.server.faults.when(looking, Trick::Answer(denied));
    for _ in 0..4 {
        assert_eq!(pim.refusal("Team/db").await.fault, Fault::Denied);
    }
    assert!(pim.server.with(|fake| fake.logins) <= 2);
}

#[tokio::test]
async fn a_refused_login_is_shared_and_not_repeated_at_once() {
    let (mut fake, _) = with_one(&login());
    fake.locked = true;
    let pim = Pim::start(fake).await;
    let before = std::time::Instant::now();
    let errors = describe_at_once(&pim, 10).await;
    for error in errors {
        let error = error.unwrap();
        assert_eq!(error.fault, Fault::Unauthenticated);
        assert!(error.retry_after.is_some());
    }
    assert_eq!(pim.calls("/oauth2/token"), 1);
    // Only later, and then it is asked again.
    pim.server.with(|fake| fake.locked = false);
    pim.describe("Team/db").await.unwrap();
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_login_that_hangs_is_waited_for_once() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    pim.server.faults.when(is_login, Trick::Hang);
    let errors = describe_at_once(&pim, 10).await;
    let timed_out = |error: &Option<ManagerError>| error.as_ref().unwrap().fault == Fault::TimedOut;
    assert!(errors.iter().all(timed_out), "{errors:?}");
    assert_eq!(pim.calls("/oauth2/token"), 1);
    pim.server.faults.heal();
    pim.describe("Team/db").await.unwrap();
}

#[tokio::test]
async fn what_is_no_secret_server_is_said_to_be_none() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    let page = |status| Response::text(status, "text/html", "<html>Sign in</html>");
    for status in [404, 302, 200] {
        pim.server
            .faults
            .when(is_login, Trick::Answer(page(status)));
        let error = pim.refusal("Team/db").await;
        assert_eq!(error.fault, Fault::Malformed, "{status}");
        if status == 404 {
            assert!(error.detail.contains("virtual directory"), "{error}");
            assert!(error.detail.contains("web services"), "{error}");
        }
        pim.server.faults.heal();
    }
    pim.server.faults.always(Trick::Answer(page(404)));
    assert_eq!(fault(pim.manager.health().await), Fault::Malformed);
}

#[tokio::test]
async fn health_is_asked_openly_and_proved_with_a_token() {
    let pim = Pim::start(Fake::new()).await;
    let health = pim.manager.health().await.unwrap();
    assert!(health.notes.is_empty());
    assert_eq!(
        pim.server.with(|fake| (fake.logins, fake.values_given)),
        (1, 0)
    );
    let check = |request: &Request| request.path.ends_with("/healthcheck");
    for (body, healthy) in [
        ("\"Healthy\"", true),
        (r#"{"healthy":true,"readOnlyMode":true}"#, true),
        (r#"{"healthy":false}"#, false),
        (r#"{"Healthy":true,"databaseHealthy":false}"#, false),
        ("\"canary\"", false),
    ] {
        pim.server.faults.heal();
        let answer = Response::text(200, "application/json", body);
        pim.server.faults.when(check, Trick::Answer(answer));
        assert_eq!(pim.manager.health().await.is_ok(), healthy, "{body}");
    }
    pim.server.faults.heal();
    pim.server.with(|fake| {
        fake.locked = true;
        fake.end_tokens();
    });
    assert_eq!(fault(pim.manager.health().await), Fault::Unauthenticated);
}

#[tokio::test]
async fn nothing_secret_is_said_whatever_is_answered() {
    let (fake, id) = with_one(&login());
    let password = fake.password.clone();
    let pim = Pim::start(fake).await;
    let version = pim.version("Team/db").await;
    let reference = reference("Team/db");
    let body = json!({"message": PASSWORD, "errorCode": PASSWORD, "error": PASSWORD,
        "records": PASSWORD, "items": PASSWORD, "id": PASSWORD, "access_token": 7});
    let mut said = Vec::new();
    for status in [200, 302, 400, 401, 403, 404, 409, 418, 429, 500, 502, 503] {
        let answer = Response::json(status, &body);
        let reading = move |request: &Request| {
            request.path.ends_with(&format!("/secrets/{id}")) || request.path.ends_with("/folders")
        };
        pim.server
            .faults
            .when(reading, Trick::Answer(answer.clone()));
        let read = pim.manager.read(pim.target(&reference), &version).await;
        said.push(format!("{:?}", read.err().unwrap()));
        let listed = pim.manager.list(&pim.org, &ListQuery::default()).await;
        said.push(format!("{:?}", listed.unwrap_err()));
        pim.server.faults.heal();
    }
    for text in said {
        assert!(
            !text.contains("canary") && !text.contains(&password),
            "{text}"
        );
    }
}

#[test]
fn a_configuration_says_only_what_is_known() {
    let read = |text: &str| serde_yaml::from_str::<SecretServerConfig>(text);
    let minimal =
        "url: https://pim.example.com/SecretServer\nusername: u\npassword: credential:p\n";
    let config = read(minimal).unwrap();
    assert!(!config.checkout && config.comment.is_none() && config.domain.is_none());
    assert!(read(&format!("{minimal}check_out: true\n")).is_err());
    assert!(read("url: http://pim.example.com\nusername: u\npassword: p\n").is_err());
    let dir = tempfile::tempdir().unwrap();
    let make = |config: &SecretServerConfig| {
        SecretServer::new(
            config,
            Duration::from_secs(1),
            Arc::new(InMemory::default()),
        )
        .err()
    };
    let error = make(&config.clone().based_on(dir.path())).unwrap();
    assert!(error.contains("u:"), "{error}");
    for (domain, comment, word) in [
        (Some("a\nb"), None, "domain"),
        (None, Some(" "), "comment"),
        (None, Some("x\ty"), "comment"),
    ] {
        let config = SecretServerConfig {
            domain: domain.map(str::to_owned),
            comment: comment.map(str::to_owned),
            ..config.clone()
        };
        assert!(make(&config).unwrap().starts_with(word));
    }
}
