//! Tokens: few exchanges, early enough, and none in a loop.

use std::time::Instant;

use super::*;

const TOKEN: &str = "ibm:edge/kv/token";

fn exchanges(fake: &Fake) -> usize {
    fake.server.with(|ibm| ibm.account.exchanges)
}

async fn many_at_once(fake: &Fake, count: usize) -> Vec<Result<Health, ManagerError>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let manager = fake.manager.clone();
        tasks.spawn(async move { manager.health().await });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn one_exchange_is_enough_for_all_who_wait() {
    let fake = Fake::start().await;
    let answers = many_at_once(&fake, 50).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(exchanges(&fake), 1);
    fake.describe(TOKEN).await.unwrap();
    assert_eq!(exchanges(&fake), 1);
}

#[tokio::test]
async fn all_who_wait_share_a_refusal() {
    let fake = Fake::start().await;
    fake.server.with(|ibm| ibm.account.locked_out = true);
    let before = Instant::now();
    let answers = many_at_once(&fake, 50).await;
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.fault, Fault::Unauthenticated);
        assert!(error.detail.contains("BXNIM0415E"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    assert_eq!(exchanges(&fake), 1);
    // The next one waits, and then lets in.
    fake.heal();
    fake.describe(TOKEN).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1), "not at once");
    assert_eq!(exchanges(&fake), 2);
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_once() {
    let fake = Fake::start().await;
    fake.describe(TOKEN).await.unwrap();
    fake.server.clock.advance(Duration::from_secs(3601));
    fake.describe(TOKEN).await.unwrap();
    assert_eq!(exchanges(&fake), 2);
    // Refused whatever it is: two calls, and one exchange between them.
    let calls = |request: &edge_secrets_fakes::Request| request.path.starts_with("/api/");
    fake.server
        .faults
        .when(calls, Trick::Answer(container(401)));
    fake.server.log.clear();
    let error = fake.describe(TOKEN).await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(
        error.detail.contains("context-based restrictions"),
        "{error}"
    );
    assert_eq!((fake.server.log.calls().len(), exchanges(&fake)), (3, 3));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_is_refused() {
    let fake = Fake::start().await;
    fake.server
        .with(|ibm| ibm.account.announced_life = Some(Duration::ZERO));
    fake.manager.health().await.unwrap();
    fake.manager.health().await.unwrap();
    let sent = fake.server.log.count(|call| call.path == "/api/v2/secrets");
    assert_eq!(
        (sent, exchanges(&fake)),
        (2, 2),
        "no call was refused for it"
    );
}

#[tokio::test]
async fn iams_refusals_are_told_apart() {
    let fake = Fake::start().await;
    for (answer, fault) in [
        (
            Response::json(400, &json!({ "errorCode": CANARY })),
            Fault::Unauthenticated,
        ),
        (
            Response::text(401, "text/html", CANARY),
            Fault::Unauthenticated,
        ),
        (container(429).with("retry-after", "7"), Fault::RateLimited),
        (container(503), Fault::Unavailable),
        (Response::text(404, "text/html", CANARY), Fault::Malformed),
        (Response::text(200, "text/html", CANARY), Fault::Malformed),
        (
            Response::json(200, &json!({ "access_token": CANARY })),
            Fault::Malformed,
        ),
    ] {
        fake.server.faults.always(Trick::Answer(answer));
        let error = fake.manager.health().await.unwrap_err();
        assert_eq!(error.fault, fault, "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        fake.server.faults.heal();
    }
    fs::remove_file(fake.dir.path().join("key")).unwrap();
    let error = fake.manager.health().await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated, "{error}");
}

#[test]
fn a_configuration_has_no_more_than_it_should() {
    let read = |more: &str| {
        let text = format!("url: https://i.eu-de.secrets-manager.appdomain.cloud\n{more}");
        serde_yaml::from_str::<IbmCloudConfig>(&text)
    };
    let config = read("api_key: credential:ibm\n").unwrap();
    assert_eq!(config.iam_url.to_string(), "https://iam.cloud.ibm.com:443");
    assert!(!config.write && !config.share_reused && config.ca_file.is_none());
    for more in ["", "api_key: key\napikey: x\n", "api_key: key\nurl2: x\n"] {
        assert!(read(more).is_err(), "{more}");
    }
}
