//! Keys that a read makes.

use super::*;

const COS: &str = "ibm:edge/iam_credentials/cos";

#[tokio::test]
async fn a_delivery_is_one_read_and_looking_is_none() {
    let fake = Fake::start().await;
    let id = fake.seed_keys("cos", false);
    let made = fake.minted();
    let (org, reference) = parsed(COS);
    let cos = target(&org, &reference);
    for _ in 0..3 {
        let described = fake.describe(COS).await.unwrap();
        assert_eq!(described.effect, Effect::MintsAndInvalidates);
        assert_eq!((described.version, described.expires_at), (None, None));
        assert_eq!(described.ttl, Some(Duration::from_secs(1800)));
        assert_eq!(described.fields, ["apikey"]);
        fake.manager.describe_all(&[cos, cos]).await;
        assert!(fake.manager.versions(cos).await.unwrap().is_empty());
        fake.manager
            .list(&org, &ListQuery::default())
            .await
            .unwrap();
        fake.manager.health().await.unwrap();
    }
    assert_eq!((fake.minted(), fake.given(), fake.reads()), (made, 0, 0));
    fake.server.log.clear();
    let minted = fake.mint(COS).await.unwrap();
    assert_eq!(
        (fake.minted(), fake.given(), fake.reads()),
        (made + 1, 1, 1)
    );
    assert_eq!(
        fake.server.log.calls().len(),
        1,
        "and nothing else is asked"
    );
    assert_eq!(minted.term.duration, Duration::from_secs(1800 - 30));
    assert!(!minted.term.renewable);
    assert_eq!(minted.usable_after, Duration::from_secs(2));
    assert!(minted.handle.as_str().contains(&id));
    assert!(
        !minted
            .handle
            .as_str()
            .contains(&field(&minted.payload, "apikey"))
    );
    // Nobody reads it as if nothing happened then.
    let error = fake.read(COS, "first").await.err().unwrap();
    assert_eq!(error.fault, Fault::Exclusive, "{error}");
    assert_eq!(fake.reads(), 1);
}

#[tokio::test]
async fn the_next_key_is_the_newest_and_ends_the_one_before() {
    let fake = Fake::start().await;
    fake.seed_keys("cos", false);
    let first = fake.mint(COS).await.unwrap();
    let second = fake.mint(COS).await.unwrap();
    assert!(!fake.works(&first.payload) && fake.works(&second.payload));
    // The first lease's end is not the second one's.
    fake.manager.revoke(&first.handle).await.unwrap();
    assert!(fake.works(&second.payload));
    fake.manager.revoke(&second.handle).await.unwrap();
    assert!(!fake.works(&second.payload));
    fake.manager.revoke(&second.handle).await.unwrap();
    assert!(fake.works(&fake.mint(COS).await.unwrap().payload));
}

#[tokio::test]
async fn a_key_made_while_another_is_revoked_stays() {
    let fake = Fake::start().await;
    let id = fake.seed_keys("cos", false);
    let first = fake.mint(COS).await.unwrap();
    // The look is answered, and then, before the deletion, another key is made.
    let deletions = |request: &edge_secrets_fakes::Request| request.method == http::Method::DELETE;
    let slow = Trick::Slow(edge_secrets_fakes::server::SLOW);
    fake.server.faults.next(1, deletions, slow);
    let manager = fake.manager.clone();
    let handle = first.handle.clone();
    let revoking = tokio::spawn(async move { manager.revoke(&handle).await });
    while fake
        .server
        .log
        .count(|call| call.method == http::Method::DELETE)
        == 0
    {
        tokio::task::yield_now().await;
    }
    let second = fake.mint(COS).await.unwrap();
    revoking.await.unwrap().unwrap();
    assert!(fake.works(&second.payload));
    assert_eq!(fake.server.with(|ibm| ibm.secret(&id).versions.len()), 3);
}

#[tokio::test]
async fn revoking_what_is_gone_is_done() {
    let fake = Fake::start().await;
    fake.seed_keys("cos", false);
    let minted = fake.mint(COS).await.unwrap();
    fake.server.with(|ibm| ibm.secrets.clear());
    fake.manager.revoke(&minted.handle).await.unwrap();
    for handle in ["x", "{}", r#"{"secret":"../x","key":"k"}"#] {
        let handle = LeaseHandle::new(handle).unwrap();
        let error = fake.manager.revoke(&handle).await.unwrap_err();
        assert_eq!(error.fault, Fault::Malformed);
    }
    let renewed = fake
        .manager
        .renew(&minted.handle, Duration::from_secs(9))
        .await;
    assert_eq!(renewed.unwrap_err().fault, Fault::Unsupported);
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome() {
    let fake = Fake::start().await;
    let id = fake.seed_keys("cos", false);
    let before = fake.minted();
    let path = format!("/api/v2/secrets/{id}");
    for trick in [
        Trick::LoseAnswer,
        Trick::Truncated,
        Trick::WrongTypes,
        Trick::Answer(container(500)),
        Trick::Answer(container(504)),
    ] {
        fake.describe(COS).await.unwrap();
        let reads = fake.reads();
        let path = path.clone();
        fake.server
            .faults
            .next(1, move |request| request.path == path, trick.clone());
        let error = fake.mint(COS).await.err().unwrap();
        assert_eq!(error.fault, Fault::OutcomeUnknown, "{trick:?}: {error}");
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(fake.reads(), reads + 1, "never read again by itself");
    }
    assert_eq!(
        fake.minted(),
        before + 3,
        "three were made that nobody holds"
    );
    assert!(fake.works(&fake.mint(COS).await.unwrap().payload));
}

#[tokio::test]
async fn a_login_that_fails_is_no_unknown_outcome() {
    let fake = Fake::start().await;
    fake.seed_keys("cos", false);
    let path = |request: &edge_secrets_fakes::Request| request.path == "/identity/token";
    fake.server.faults.when(path, Trick::Hang);
    let error = fake.mint(COS).await.err().unwrap();
    assert_eq!(error.fault, Fault::TimedOut, "{error}");
}

#[tokio::test]
async fn what_is_locked_is_not_read() {
    let fake = Fake::start().await;
    let id = fake.seed_keys("cos", false);
    fake.edit(&id, |secret| secret.locks = vec!["lock-1".into()]);
    let described = fake.describe(COS).await.unwrap();
    assert!(described.notes.iter().any(|note| note.contains("locked")));
    let error = fake.mint(COS).await.err().unwrap();
    assert_eq!((error.fault, fake.reads()), (Fault::Locked, 0), "{error}");
    // Locked between the look and the read: the service says it.
    fake.edit(&id, |secret| secret.locks.clear());
    fake.describe(COS).await.unwrap();
    fake.edit(&id, |secret| secret.locks = vec!["lock-1".into()]);
    let error = fake.mint(COS).await.err().unwrap();
    assert_eq!((error.fault, fake.reads()), (Fault::Locked, 1), "{error}");
}

#[tokio::test]
async fn a_reused_key_is_shared_only_where_that_is_said() {
    let alone = Fake::start().await;
    alone.seed_keys("cos", true);
    let described = alone.describe(COS).await.unwrap();
    assert_eq!(described.effect, Effect::MintsAndInvalidates);
    assert!(
        described.notes[0].contains("share_reused"),
        "{:?}",
        described.notes
    );
    let (first, second) = (
        alone.mint(COS).await.unwrap(),
        alone.mint(COS).await.unwrap(),
    );
    assert!(first.payload.expose() == second.payload.expose());
    assert_eq!(first.handle, second.handle, "one lease");
    // At its end the next one is not there yet.
    alone.server.clock.advance(Duration::from_secs(1800 - 10));
    let error = alone.mint(COS).await.err().unwrap();
    assert_eq!(error.fault, Fault::Busy, "{error}");
    assert!(
        error
            .retry_after
            .is_some_and(|wait| wait >= Duration::from_secs(30))
    );
    alone.server.clock.advance(Duration::from_secs(11));
    assert!(alone.works(&alone.mint(COS).await.unwrap().payload));

    let shared = Fake::with(json!({ "share_reused": true })).await;
    shared.seed_keys("cos", true);
    let made = shared.minted();
    let described = shared.describe(COS).await.unwrap();
    assert_eq!(described.effect, Effect::Pure);
    assert!(described.version.is_some() && described.expires_at.is_some());
    let payload = shared.current(COS).await.unwrap();
    assert!(shared.works(&payload));
    assert!(payload.expose() == shared.current(COS).await.unwrap().expose());
    assert_eq!(shared.minted(), made);
    let error = shared.mint(COS).await.err().unwrap();
    assert_eq!(error.fault, Fault::Unsupported, "{error}");
}

#[tokio::test]
async fn a_shared_keys_version_is_the_key() {
    let fake = Fake::with(json!({ "share_reused": true })).await;
    let id = fake.seed_keys("cos", true);
    let first = fake.describe(COS).await.unwrap().version.unwrap();
    let now = fake.server.clock.now();
    fake.server.with(|ibm| ibm.rotate(&id, &json!({}), now));
    let second = fake.describe(COS).await.unwrap().version.unwrap();
    assert_ne!(first, second);
    let error = fake.read(COS, first.as_str()).await.err().unwrap();
    assert_eq!(error.fault, Fault::Superseded, "{error}");
    // After its end: one read makes the next, under a version of its own.
    fake.server.clock.advance(Duration::from_secs(1801));
    let ended = fake.describe(COS).await.unwrap();
    assert_eq!(ended.expires_at, None);
    let ended = ended.version.unwrap();
    assert_eq!(ended.as_str(), format!("after-{second}"));
    let error = fake.read(COS, ended.as_str()).await.err().unwrap();
    assert_eq!(error.fault, Fault::Superseded, "{error}");
    assert!(fake.works(&fake.current(COS).await.unwrap()));
    assert_ne!(fake.describe(COS).await.unwrap().version.unwrap(), second);
}

#[tokio::test]
async fn a_key_that_became_everybodys_does_not_end_with_one_nodes_lease() {
    let fake = Fake::with(json!({ "share_reused": true })).await;
    let id = fake.seed_keys("cos", false);
    let minted = fake.mint(COS).await.unwrap();
    fake.edit(&id, |secret| secret.reuse = true);
    fake.manager.revoke(&minted.handle).await.unwrap();
    assert!(fake.works(&minted.payload));
    fake.edit(&id, |secret| secret.reuse = false);
    fake.manager.revoke(&minted.handle).await.unwrap();
    assert!(!fake.works(&minted.payload), "one node's again");
}

#[tokio::test]
async fn a_flag_that_flips_is_seen_before_the_next_read() {
    let fake = Fake::with(json!({ "share_reused": true })).await;
    let id = fake.seed_keys("cos", true);
    let shared = fake.describe(COS).await.unwrap();
    let payload = fake.current(COS).await.unwrap();
    let reads = fake.reads();
    fake.edit(&id, |secret| secret.reuse = false);
    let version = shared.version.unwrap();
    let error = fake.read(COS, version.as_str()).await.err().unwrap();
    assert_eq!(
        (error.fault, fake.reads()),
        (Fault::Exclusive, reads),
        "{error}"
    );
    assert!(fake.works(&payload), "those who share it still have it");
    let alone = fake.describe(COS).await.unwrap();
    assert_eq!(
        (alone.effect, alone.version),
        (Effect::MintsAndInvalidates, None)
    );
}

#[tokio::test]
async fn a_secret_whose_last_key_ended_makes_another_one() {
    let fake = Fake::start().await;
    let id = fake.seed_keys("cos", false);
    fake.mint(COS).await.unwrap();
    fake.server.clock.advance(Duration::from_secs(1801));
    fake.edit(&id, |secret| secret.state = 3);
    fake.describe(COS).await.unwrap();
    assert!(fake.works(&fake.mint(COS).await.unwrap().payload));
    // Deactivated with a key that has not ended: by somebody.
    let error = fake.describe(COS).await.unwrap_err();
    assert_eq!(error.fault, Fault::Expired, "{error}");
    fake.edit(&id, |secret| secret.state = 5);
    let error = fake.describe(COS).await.unwrap_err();
    assert_eq!(error.fault, Fault::Deleted, "{error}");
}

#[tokio::test]
async fn only_what_makes_keys_is_minted() {
    let fake = Fake::start().await;
    let error = fake.mint("ibm:edge/kv/token").await.err().unwrap();
    assert_eq!(
        (error.fault, fake.given()),
        (Fault::Unsupported, 0),
        "{error}"
    );
    // A name that means another secret now is looked up anew, though its id was just seen.
    let id = fake.seed_keys("cos", false);
    fake.mint(COS).await.unwrap();
    fake.edit(&id, |secret| secret.name = "other".into());
    fake.describe(&format!("ibm:id/{id}")).await.unwrap();
    let error = fake.mint(COS).await.err().unwrap();
    assert_eq!(error.fault, Fault::Missing, "{error}");
    let error = fake
        .mint("ibm:edge/iam_credentials/none")
        .await
        .err()
        .unwrap();
    assert_eq!(error.fault, Fault::Missing, "{error}");
}
