//! The rows of Vault's contract with the exact texts that its source has, call by call.

use edge_secrets_fakes::{Fault as Wrong, Request, Response};

use super::*;

const APP: &str = "vault:database/creds/app";

impl Bench {
    /// Calls to this path are answered so from now on.
    fn answer(&self, path: &'static str, status: u16, texts: &[&str]) {
        self.server.faults.heal();
        let answer = Response::json(status, &json!({ "errors": texts }));
        let to = move |request: &Request| request.path.contains(path);
        self.server.faults.when(to, Wrong::Answer(answer));
    }
}

#[tokio::test]
async fn what_a_login_is_refused_with_says_what_to_look_at() {
    let bench = Bench::new().await;
    for (status, text, word) in [
        (400, "invalid role or secret ID", "secret id"),
        (
            400,
            "invalid certificate or no client certificate supplied",
            "TLS must end at Vault",
        ),
        (
            400,
            "no chain matching all constraints could be found for this login certificate",
            "no role takes",
        ),
        (400, "missing role_id", "status 400"),
        (403, "permission denied", "status 403"),
        (404, "no handler for route \"auth/approle/login\"", "mount"),
        (405, "unsupported operation", "mount"),
    ] {
        bench.answer("/login", status, &[text]);
        let error = bench.vault().health().await.unwrap_err();
        assert_eq!(error.fault, Fault::Unauthenticated, "{text}: {error}");
        assert!(error.detail.contains(word), "{text}: {error}");
    }
    // What is of the server is not the credential's fault.
    for (status, text, fault) in [
        (429, "rate limit quota exceeded", Fault::RateLimited),
        (500, "internal error", Fault::Failed),
        (502, "upstream rate limited", Fault::Unavailable),
        (503, "Vault is sealed", Fault::Sealed),
    ] {
        bench.answer("/login", status, &[text]);
        let error = bench.vault().health().await.unwrap_err();
        assert_eq!(error.fault, fault, "{text}: {error}");
    }
}

#[tokio::test]
async fn what_a_lease_is_refused_with_is_told_apart() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    let handle = mint(&vault, APP).await.unwrap().handle;
    let minute = Duration::from_secs(60);
    for (status, text, fault) in [
        (400, "lease not found", Fault::LeaseGone),
        (400, "invalid lease", Fault::LeaseGone),
        (400, "lease expired", Fault::LeaseGone),
        (400, "lease is not renewable", Fault::Unsupported),
        (400, "lease_id must be specified", Fault::Invalid),
        (
            400,
            "tokens cannot be renewed through this endpoint",
            Fault::Invalid,
        ),
        (403, "permission denied", Fault::Denied),
        (
            429,
            "request path \"sys/leases/renew\": rate limit quota exceeded",
            Fault::RateLimited,
        ),
        (500, "failed to revoke entry", Fault::Failed),
        (503, "Vault is sealed", Fault::Sealed),
    ] {
        bench.answer("/sys/leases/", status, &[text]);
        let renewed = vault.renew(&handle, minute).await;
        assert_eq!(self::fault(renewed), fault, "renew: {text}");
        let revoked = vault.revoke(&handle).await;
        match fault {
            Fault::LeaseGone => revoked.unwrap(),
            // Of the whole answer only what is said of renewals is another thing here.
            Fault::Unsupported => assert_eq!(self::fault(revoked), Fault::Invalid, "{text}"),
            fault => assert_eq!(self::fault(revoked), fault, "revoke: {text}"),
        }
    }
    // Queued rather than done is a success too.
    for status in [200, 202, 204] {
        bench.answer("/sys/leases/revoke", status, &[]);
        vault.revoke(&handle).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_credential_is_refused_with_makes_none_believe_in_one() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    vault.tend().await;
    for (status, text, fault) in [
        (400, "unknown role: app", Fault::Missing),
        (
            403,
            "1 error occurred:\n\t* permission denied\n\n",
            Fault::Denied,
        ),
        (404, "no handler for route \"database/\"", Fault::Invalid),
        (429, "lease count quota exceeded", Fault::RateLimited),
        (500, "connection refused by the database", Fault::Failed),
        (503, "Vault is sealed", Fault::Sealed),
        (502, "upstream error", Fault::OutcomeUnknown),
        (504, "", Fault::OutcomeUnknown),
    ] {
        bench.answer("/creds/", status, &[text]);
        let error = mint(&vault, APP).await.err().unwrap();
        assert_eq!(error.fault, fault, "{text}: {error}");
    }
    // Made, and known by no name that it could be ended by.
    bench.server.faults.heal();
    for lease in ["x\n".to_owned(), "x".repeat(2000)] {
        let answer = Response::json(
            200,
            &json!({ "lease_id": lease, "lease_duration": 60, "data": { "password": "canary" } }),
        );
        let creds = |request: &Request| request.path.contains("/creds/");
        bench.server.faults.next(1, creds, Wrong::Answer(answer));
        let error = mint(&vault, APP).await.err().unwrap();
        assert_eq!(error.fault, Fault::OutcomeUnknown, "{error}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_write_that_meets_another_version_is_a_conflict() {
    let bench = Bench::new().await;
    let vault = bench.hub(&bench.config("write: true"));
    let (org, reference) = (org(), "vault:a".parse().unwrap());
    let payload = Fields::encode(&[("v".parse().unwrap(), &b"canary"[..])]).unwrap();
    for (status, text, fault) in [
        (
            400,
            "check-and-set parameter did not match the current version",
            Fault::Conflict,
        ),
        (
            400,
            "check-and-set parameter required for this call",
            Fault::Conflict,
        ),
        (413, "http: request body too large", Fault::TooLarge),
        (403, "permission denied", Fault::Denied),
        (503, "Vault is sealed", Fault::Sealed),
    ] {
        bench.answer("/secret/data/", status, &[text]);
        let error = vault.write(target(&org, &reference), &payload, None).await;
        let error = error.unwrap_err();
        assert_eq!(error.fault, fault, "{text}: {error}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_quota_without_headers_says_no_time() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    vault.tend().await;
    for text in [
        "request path \"secret/metadata/a\": rate limit quota exceeded",
        "lease count quota exceeded",
    ] {
        bench.answer("/metadata/", 429, &[text]);
        let error = describe(&vault, "vault:a").await.unwrap_err();
        assert_eq!(
            (error.fault, error.retry_after),
            (Fault::RateLimited, None),
            "{text}"
        );
    }
    // Nodes that serve nobody, as any call may meet them.
    for (status, fault) in [
        (472, Fault::Unavailable),
        (473, Fault::Unavailable),
        (474, Fault::Unavailable),
        (530, Fault::Unavailable),
        (501, Fault::Sealed),
        (504, Fault::Unavailable),
    ] {
        bench.answer("/metadata/", status, &[]);
        let described = describe(&vault, "vault:a").await;
        assert_eq!(self::fault(described), fault, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_is_the_tokens_or_the_policies() {
    let bench = Bench::new().await;
    bench.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    let vault = bench.vault();
    vault.tend().await;
    for text in [
        "permission denied",
        "1 error occurred:\n\t* permission denied\n\n",
        "bad token",
        "invalid token",
    ] {
        // The token is alive, so it is what its policies say.
        bench.answer("/metadata/", 403, &[text]);
        let described = describe(&vault, "vault:a").await;
        assert_eq!(fault(described), Fault::Denied, "{text}");
        bench.server.faults.heal();
        // It is dead, so another one is made, once.
        let now = bench.server.clock.now();
        bench.server.with(|fake| fake.end_tokens(now));
        let before = bench.counted().logins;
        describe(&vault, "vault:a").await.unwrap();
        assert_eq!(bench.counted().logins, before + 1, "{text}");
    }
}

#[tokio::test]
async fn every_state_of_a_server_is_told_by_its_health() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    vault.health().await.unwrap();
    for (status, fault) in [
        (429, Fault::RateLimited),
        (472, Fault::Unavailable),
        (473, Fault::Unavailable),
        (474, Fault::Unavailable),
        (501, Fault::Sealed),
        (503, Fault::Sealed),
        (530, Fault::Unavailable),
        (404, Fault::Malformed),
    ] {
        let body = json!({ "initialized": true, "sealed": false, "version": "1.20.0" });
        bench.server.faults.heal();
        let health = |request: &Request| request.path == "/v1/sys/health";
        let answer = Response::json(status, &body);
        bench.server.faults.when(health, Wrong::Answer(answer));
        assert_eq!(self::fault(vault.health().await), fault, "{status}");
    }
    assert_eq!(bench.counted().values, 0);
}
