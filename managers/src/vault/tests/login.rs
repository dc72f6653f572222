//! The hub's token: one login for all, renewed, kept, and never shown.

use edge_secrets_fakes::vault::{CertRole, NewToken};

use super::*;

const WRAPPED: &str = "auth: {approle: {role_id: role-id, wrapped_secret_id: wrapped}}";

impl Bench {
    /// A wrapped answer to an operator's request; the token that gives it once.
    async fn wrap(&self, path: &str, body: &Value) -> String {
        let wire = Wire::new(&self.config(""), Duration::from_secs(5)).unwrap();
        let root = self.server.with(|fake| fake.root_token().to_owned());
        let ask = Ask::post(at("/v1/{*path}", &[path]), body).unwrap();
        let ask = ask.wrapped();
        let reply = wire
            .ask(&ask, Some(&Secret::new(root.into_bytes())))
            .await
            .unwrap();
        let answer: Value = reply.json().unwrap();
        answer["wrap_info"]["token"].as_str().unwrap().to_owned()
    }

    fn end_tokens(&self) {
        let now = self.server.clock.now();
        self.server.with(|fake| fake.end_tokens(now));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_login() {
    let bench = Bench::new().await;
    bench.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    let vault = Arc::new(bench.vault());
    let all = async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let vault = Arc::clone(&vault);
            calls.spawn(async move { describe(&vault, "vault:a").await.map(drop) });
        }
        calls.join_all().await
    };
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(bench.counted().logins, 1);
    bench.end_tokens();
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(bench.counted().logins, 2);
    bench.file("secret-id", "guessed-secret-id");
    bench.end_tokens();
    assert!(all().await.iter().all(Result::is_err));
    assert_eq!(
        bench.counted().refused_logins,
        1,
        "a refused login is not repeated at once"
    );
    let error = describe(&vault, "vault:a").await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(!format!("{error:?}").contains("guessed"), "{error:?}");
    assert_eq!(bench.counted().refused_logins, 1);
    bench.advance(Duration::from_secs(2));
    describe(&vault, "vault:a").await.unwrap_err();
    assert_eq!(bench.counted().refused_logins, 2);
}

#[tokio::test]
async fn a_restarted_hub_goes_on_with_its_token() {
    let bench = Bench::new().await;
    let first = bench.vault();
    let minted = mint(&first, "vault:database/creds/app").await.unwrap();
    let epoch = first.epoch();
    drop(first);
    let second = bench.vault();
    assert_eq!(second.epoch(), None, "not known before it was asked");
    second.tend().await;
    assert!(epoch.is_some() && second.epoch() == epoch);
    assert_eq!(bench.counted().logins, 1);
    let minute = Duration::from_secs(60);
    second.renew(&minted.handle, minute).await.unwrap();
    // Another role's session is not taken for its own.
    let other = "auth: {approle: {role_id: other-id, secret_id: secret-id}}";
    let role_id = std::fs::read_to_string(bench.dir.path().join("role-id")).unwrap();
    bench.file("other-id", &role_id);
    let other = bench.hub(&bench.config_with(other, ""));
    other.tend().await;
    assert_ne!(other.epoch(), epoch);
    assert_eq!(bench.counted().logins, 2);
}

#[tokio::test]
async fn a_token_is_renewed_at_two_thirds_also_while_nobody_asks() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    vault.tend().await;
    let epoch = vault.epoch();
    bench.advance(Duration::from_secs(2300));
    vault.tend().await;
    assert_eq!(bench.counted().token_renewals, 0);
    for (renewals, wait) in [(1, 150), (2, 2450), (3, 2450)] {
        bench.advance(Duration::from_secs(wait));
        vault.tend().await;
        vault.tend().await;
        assert_eq!(bench.counted().token_renewals, renewals);
    }
    assert_eq!(vault.epoch(), epoch);
    assert_eq!(bench.counted().logins, 1);
}

#[tokio::test]
async fn a_token_at_its_longest_is_replaced_before_it_ends() {
    let bench = Bench::with_role(AppRole {
        policies: vec!["hub".into()],
        ttl: Some(3600),
        max_ttl: Some(4000),
        ..AppRole::default()
    })
    .await;
    let vault = bench.vault();
    vault.tend().await;
    let epoch = vault.epoch();
    for _ in 0..5 {
        bench.advance(Duration::from_secs(600));
        vault.tend().await;
    }
    assert_eq!(vault.epoch(), epoch);
    for _ in 0..5 {
        bench.advance(Duration::from_secs(180));
        vault.tend().await;
    }
    assert_ne!(vault.epoch(), epoch);
    assert_eq!(bench.counted().logins, 2);
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_serves_for_later_logins() {
    let bench = Bench::new().await;
    let token = bench
        .wrap("auth/approle/role/hub/secret-id", &json!({}))
        .await;
    bench.file("wrapped", &token);
    let config = bench.config_with(WRAPPED, "");
    let vault = bench.hub(&config);
    vault.health().await.unwrap();
    bench.end_tokens();
    let restarted = bench.hub(&config);
    restarted.health().await.unwrap();
    std::fs::remove_file(bench.dir.path().join("wrapped")).unwrap();
    bench.end_tokens();
    restarted.health().await.unwrap();
    let counted = bench.counted();
    assert_eq!((counted.unwrapped, counted.logins), (1, 3));
}

#[tokio::test]
async fn a_wrapping_token_of_another_thing_or_another_hand_is_refused() {
    let bench = Bench::new().await;
    let token = bench
        .wrap("sys/wrapping/wrap", &json!({"secret_id": "x"}))
        .await;
    bench.file("wrapped", &token);
    let config = bench.config_with(WRAPPED, "");
    let error = bench.hub(&config).health().await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(error.detail.contains("exchanged"), "{error}");
    assert_eq!(bench.counted().unwrapped, 0);

    let token = bench
        .wrap("auth/approle/role/hub/secret-id", &json!({}))
        .await;
    bench.act("POST", "sys/wrapping/unwrap", json!({"token": token}));
    bench.file("wrapped", &token);
    let error = bench.hub(&config).health().await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(error.detail.contains("ALARM"), "{error}");
    assert!(!format!("{error:?}").contains(&token));
}

#[tokio::test]
async fn a_token_of_a_file_is_read_again_when_it_ends() {
    let bench = Bench::new().await;
    let token = || {
        let new = NewToken {
            policies: vec!["hub".into()],
            ttl: Some(3600),
            ..NewToken::default()
        };
        let now = bench.server.clock.now();
        bench.server.with(|fake| fake.token(new, now))
    };
    bench.file("token", &token());
    let config = bench.config_with("auth: {token: token}", "");
    let vault = bench.hub(&config);
    vault.health().await.unwrap();
    bench.end_tokens();
    let error = vault.health().await.unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(error.detail.contains("put a new one"), "{error}");
    bench.file("token", &token());
    bench.advance(Duration::from_secs(2));
    vault.health().await.unwrap();
}

#[tokio::test]
async fn a_certificate_lets_the_hub_in() {
    let bench = Bench::new().await;
    let (certificate, key) = bench.server.pki().issue(&["hub.example.com"]);
    bench.file("hub.pem", &certificate);
    bench.file("hub-key.pem", &key);
    let role = CertRole {
        certificate: Some(certificate),
        policies: vec!["hub".into()],
        ttl: Some(3600),
    };
    bench
        .server
        .with(|fake| fake.cert_role("cert", "hub", role));
    let auth = "auth: {cert: {certificate: hub.pem, key: hub-key.pem, role: hub}}";
    let vault = bench.hub(&bench.config_with(auth, ""));
    vault.health().await.unwrap();
    let auth = "auth: {cert: {certificate: hub.pem, key: hub-key.pem, role: other}}";
    let error = bench
        .hub(&bench.config_with(auth, ""))
        .health()
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert!(error.detail.contains("no role takes"), "{error}");
}

#[tokio::test]
async fn a_batch_token_has_an_epoch_and_is_replaced() {
    let bench = Bench::with_role(AppRole {
        policies: vec!["hub".into()],
        ttl: Some(600),
        batch: true,
        ..AppRole::default()
    })
    .await;
    let vault = bench.vault();
    vault.tend().await;
    let epoch = vault.epoch().unwrap();
    bench.advance(Duration::from_secs(450));
    vault.tend().await;
    assert_ne!(vault.epoch().unwrap(), epoch);
    let counted = bench.counted();
    assert_eq!((counted.token_renewals, counted.logins), (0, 2));
}

/// Keeps nothing: its disk is full.
struct Full;

#[async_trait]
impl Kept for Full {
    async fn load(&self) -> Result<Option<Secret>, ManagerError> {
        Ok(None)
    }

    async fn save(&self, _: &Secret) -> Result<(), ManagerError> {
        Err(ManagerError::new(Fault::Failed, "the disk is full"))
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_kept_is_not_made_again_with_every_call() {
    let bench = Bench::new().await;
    let config = bench.config("");
    let vault = Vault::new(&config, Duration::from_secs(5), Arc::new(Full)).unwrap();
    for _ in 0..5 {
        assert_eq!(fault(vault.health().await), Fault::Failed);
    }
    assert!(bench.counted().logins < 5);
}
