//! Credentials with leases.

use edge_secrets_fakes::{Fault as Wrong, Request, Response};

use super::*;

const APP: &str = "vault:database/creds/app";

#[tokio::test]
async fn a_renewal_is_capped_and_a_lease_that_went_is_gone() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    let minted = mint(&vault, APP).await.unwrap();
    assert_eq!(minted.term.duration, Duration::from_secs(3600));
    let day = Duration::from_secs(24 * 3600);
    let term = vault.renew(&minted.handle, 30 * day).await.unwrap();
    assert!(term.duration <= day && term.duration > day / 2, "{term:?}");
    let term = vault
        .renew(&minted.handle, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(term.duration <= Duration::from_secs(60));
    bench.advance(Duration::from_secs(61));
    let renewed = vault.renew(&minted.handle, day).await;
    assert_eq!(fault(renewed), Fault::LeaseGone);
    vault.revoke(&minted.handle).await.unwrap();
    assert_eq!(bench.server.with(|fake| fake.live_leases()), 0);
    for text in [
        "lease not found",
        "invalid lease",
        "1 error occurred:\n\t* lease expired\n\n",
    ] {
        let answer = Response::json(400, &json!({"errors": [text]}));
        bench.server.faults.when(
            |r: &Request| r.path.contains("/sys/leases/"),
            Wrong::Answer(answer),
        );
        assert_eq!(
            fault(vault.renew(&minted.handle, day).await),
            Fault::LeaseGone
        );
        vault.revoke(&minted.handle).await.unwrap();
        bench.server.faults.heal();
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_asked_for_again() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    vault.tend().await;
    let creds = |request: &Request| request.path.contains("/creds/");
    for wrong in [
        Wrong::LoseAnswer,
        Wrong::Truncated,
        Wrong::Answer(Response::text(504, "text/html", "<html>")),
    ] {
        bench.server.faults.next(1, creds, wrong);
        assert_eq!(fault(mint(&vault, APP).await), Fault::OutcomeUnknown);
    }
    assert_eq!(
        bench.server.log.count(|call| call.path.contains("/creds/")),
        3
    );
    assert_eq!(bench.counted().minted, 2);
}

#[tokio::test]
async fn what_cannot_be_had_or_delivered_is_refused() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    bench.server.with(|fake| {
        let role = Role {
            leaseless: true,
            ..Role::default()
        };
        fake.database_role("database", "leaseless", role);
    });
    let refused = mint(&vault, "vault:database/creds/leaseless").await;
    assert_eq!(fault(refused), Fault::Unsupported);
    assert_eq!(
        fault(mint(&vault, "vault:database/creds/no").await),
        Fault::Missing
    );
    assert_eq!(
        fault(describe(&vault, "vault:database/creds/no").await),
        Fault::Missing
    );
    assert_eq!(
        fault(mint(&vault, "vault:team/db").await),
        Fault::Unsupported
    );
    assert_eq!(fault(read(&vault, APP, "1").await), Fault::Unsupported);
    let odd = json!({
        "lease_id": "database/creds/app/1", "lease_duration": 60, "renewable": true,
        "data": {"a/b": "canary"},
    });
    let creds = |request: &Request| request.path.contains("/creds/");
    bench
        .server
        .faults
        .next(1, creds, Wrong::Answer(Response::json(200, &odd)));
    let error = mint(&vault, APP).await.err().unwrap();
    assert_eq!(error.fault, Fault::Unsupported);
    assert!(!format!("{error:?}").contains("canary"));
    let revoked = |call: &edge_secrets_fakes::log::Call| call.path == "/v1/sys/leases/revoke";
    assert_eq!(
        bench.server.log.count(revoked),
        1,
        "nobody can have it, so it is ended"
    );
}

#[tokio::test]
async fn a_role_that_may_not_be_looked_for_is_taken_for_there() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    assert_eq!(
        describe(&vault, APP).await.unwrap().notes,
        Vec::<String>::new()
    );
    bench.server.with(|fake| {
        fake.policy("hub", &[Rule::new("database/creds/*", "read")]);
    });
    let described = describe(&vault, APP).await.unwrap();
    assert_eq!((described.effect, described.version), (Effect::Mints, None));
    assert_eq!(described.notes.len(), 1);
    assert_eq!(bench.counted().minted, 0);
}

#[tokio::test]
async fn leases_end_with_the_token_and_the_epoch_says_so() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    let minted = mint(&vault, APP).await.unwrap();
    let epoch = vault.epoch().unwrap();
    let now = bench.server.clock.now();
    bench.server.with(|fake| fake.end_tokens(now));
    let renewed = vault.renew(&minted.handle, Duration::from_secs(60)).await;
    assert_eq!(fault(renewed), Fault::LeaseGone);
    assert_ne!(vault.epoch().unwrap(), epoch);
}
