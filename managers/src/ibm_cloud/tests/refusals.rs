//! What each status means, and that no error shows what it should not.

use super::*;

const TOKEN: &str = "ibm:edge/kv/token";

#[tokio::test]
async fn each_status_has_its_fault() {
    let fake = Fake::start().await;
    fake.current(TOKEN).await.unwrap();
    for (status, fault) in [
        (400, Fault::Invalid),
        (403, Fault::Denied),
        (409, Fault::Conflict),
        (412, Fault::Locked),
        (413, Fault::TooLarge),
        (429, Fault::RateLimited),
        (500, Fault::Failed),
        (502, Fault::Unavailable),
        (503, Fault::Unavailable),
        (504, Fault::Unavailable),
        (302, Fault::Malformed),
        (418, Fault::Malformed),
    ] {
        let answer = container(status).with("retry-after", "7");
        fake.server.faults.always(Trick::Answer(answer));
        let error = fake.describe(TOKEN).await.unwrap_err();
        assert_eq!(error.fault, fault, "{status}: {error}");
        assert!(
            error
                .detail
                .contains(&format!("status {status}, trace {TRACE}")),
            "{error}"
        );
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert_shows_nothing(&fake, &error);
        fake.server.faults.heal();
    }
}

#[tokio::test]
async fn a_trace_that_is_no_uuid_is_not_shown() {
    let fake = Fake::start().await;
    fake.current(TOKEN).await.unwrap();
    let body = json!({ "errors": [{}], "trace": CANARY });
    fake.server
        .faults
        .always(Trick::Answer(Response::json(403, &body)));
    assert_shows_nothing(&fake, &fake.describe(TOKEN).await.unwrap_err());
}

#[tokio::test]
async fn a_proxys_404_is_no_absence() {
    let fake = Fake::start().await;
    fake.current(TOKEN).await.unwrap();
    for answer in [
        Response::text(404, "text/html", "not found"),
        Response::json(404, &json!({ "message": "not found" })),
        Response::empty(404),
    ] {
        let metadata = |request: &edge_secrets_fakes::Request| request.path.ends_with("/metadata");
        fake.server.faults.when(metadata, Trick::Answer(answer));
        let error = fake.describe(TOKEN).await.unwrap_err();
        assert_eq!(error.fault, Fault::Malformed, "{error}");
        fake.server.faults.heal();
    }
    // And a list that is not there says nothing of what is on it.
    fake.server.faults.always(Trick::Answer(container(404)));
    let error = fake.describe("ibm:edge/kv/unknown").await.unwrap_err();
    assert_eq!(error.fault, Fault::Malformed, "{error}");
}

#[tokio::test]
async fn access_that_was_lost_is_no_absence() {
    let fake = Fake::start().await;
    fake.describe(TOKEN).await.unwrap();
    let hide = |ibm: &mut Ibm| ibm.hidden.insert(fake.group.clone());
    fake.server.with(hide);
    let error = fake.describe(TOKEN).await.unwrap_err();
    assert_eq!(error.fault, Fault::Denied, "{error}");
    // The same with nothing remembered, as after a restart of the hub.
    let fake = Fake::start().await;
    fake.server
        .with(|ibm| ibm.hidden.insert(fake.group.clone()));
    let error = fake.describe(TOKEN).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotFoundOrDenied, "{error}");
    let fake = Fake::start().await;
    fake.server.with(|ibm| ibm.secrets.clear());
    let error = fake.describe(TOKEN).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotFoundOrDenied, "{error}");
    let error = fake
        .describe("ibm:no-such-group/kv/token")
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::NotFoundOrDenied, "{error}");
    assert!(error.detail.contains("no-such-group"), "{error}");
}

#[tokio::test]
async fn a_reader_sees_and_does_not_read() {
    let fake = Fake::start().await;
    fake.seed_keys("cos", false);
    fake.server
        .with(|ibm| ibm.role = edge_secrets_fakes::ibm::Role::Reader);
    let described = fake.describe(TOKEN).await.unwrap();
    let version = described.version.unwrap();
    let error = fake.read(TOKEN, version.as_str()).await.err().unwrap();
    assert_eq!(error.fault, Fault::Denied, "{error}");
    let error = fake
        .mint("ibm:edge/iam_credentials/cos")
        .await
        .err()
        .unwrap();
    assert_eq!(error.fault, Fault::Denied, "{error}");
}

#[tokio::test]
async fn a_broken_list_is_malformed() {
    let fake = Fake::start().await;
    for body in [
        json!({ "secrets": [{}], "total_count": 1 }),
        json!({ "secrets": [{ "secret_type": "kv" }], "total_count": 1 }),
        json!({ "secrets": [], "total_count": 1, "next": { "href": "x?offset=0" } }),
        json!({ "secrets": CANARY, "total_count": 1 }),
    ] {
        let lists = |request: &edge_secrets_fakes::Request| request.path == "/api/v2/secrets";
        fake.server
            .faults
            .when(lists, Trick::Answer(Response::json(200, &body)));
        let error = fake.describe(TOKEN).await.unwrap_err();
        assert_eq!(error.fault, Fault::Malformed, "{body}: {error}");
        assert_shows_nothing(&fake, &error);
        fake.server.faults.heal();
    }
}

fn assert_shows_nothing(fake: &Fake, error: &ManagerError) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("canary"), "{shown}");
    for token in fake.server.with(|ibm| ibm.account.tokens()) {
        assert!(!shown.contains(&token), "{shown}");
    }
}
