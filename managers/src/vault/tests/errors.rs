//! Every status that Vault knows, told apart, and nothing of its answers quoted.

use edge_secrets_fakes::{Fault as Wrong, Response};

use super::*;

const CANARY: &str = "canary-in-an-answer";

#[tokio::test]
async fn every_status_has_its_fault() {
    let bench = Bench::new().await;
    bench.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    let vault = bench.vault();
    vault.tend().await;
    let invalid = "Invalid path for a versioned K/V secrets engine. See the API docs";
    for (status, body, fault) in [
        (400, json!({"errors": [CANARY]}), Fault::Invalid),
        (401, json!({"errors": [CANARY]}), Fault::Unauthenticated),
        (403, json!({"errors": [CANARY]}), Fault::Denied),
        (404, json!({"errors": []}), Fault::Missing),
        (
            404,
            json!({"errors": ["no handler for route \"x\""]}),
            Fault::Invalid,
        ),
        (
            404,
            json!({"errors": [], "warnings": [invalid]}),
            Fault::Invalid,
        ),
        (
            404,
            json!({"data": {"data": null, "metadata": {}}}),
            Fault::Deleted,
        ),
        (404, json!({"message": CANARY}), Fault::Malformed),
        (
            405,
            json!({"errors": ["unsupported operation"]}),
            Fault::Unsupported,
        ),
        (412, json!({"errors": [CANARY]}), Fault::Unavailable),
        (
            413,
            json!({"errors": ["http: request body too large"]}),
            Fault::TooLarge,
        ),
        (429, json!({"errors": [CANARY]}), Fault::RateLimited),
        (472, json!({"errors": [CANARY]}), Fault::Unavailable),
        (473, json!({"errors": [CANARY]}), Fault::Unavailable),
        (500, json!({"errors": [CANARY]}), Fault::Failed),
        (502, json!({"errors": [CANARY]}), Fault::Unavailable),
        (503, json!({"errors": ["Vault is sealed"]}), Fault::Sealed),
        (
            503,
            json!({"errors": ["namespace is sealed"]}),
            Fault::Sealed,
        ),
        (503, json!({"errors": [CANARY]}), Fault::Unavailable),
        (418, json!({"errors": [CANARY]}), Fault::Malformed),
        (302, json!({"errors": [CANARY]}), Fault::Malformed),
    ] {
        let answer = Response::json(status, &body).with("retry-after", "11");
        let metadata = |request: &edge_secrets_fakes::Request| request.path.contains("/metadata/");
        bench.server.faults.when(metadata, Wrong::Answer(answer));
        let error = describe(&vault, "vault:a").await.unwrap_err();
        assert_eq!(error.fault, fault, "{status} {body}: {error}");
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "{error:?}"
        );
        assert_eq!(error.retry_after, Some(Duration::from_secs(11)));
        bench.server.faults.heal();
    }
    // A page of a proxy proves nothing of a secret.
    bench
        .server
        .faults
        .always(Wrong::Answer(Response::text(404, "text/html", "<html>")));
    assert_eq!(fault(read(&vault, "vault:a", "1").await), Fault::Malformed);
}

#[tokio::test]
async fn what_is_configured_wrongly_is_no_absence() {
    let bench = Bench::new().await;
    bench.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    let vault = bench.vault();
    assert_eq!(
        fault(describe(&vault, "vault:nowhere/a").await),
        Fault::Invalid
    );
    bench.server.with(|fake| fake.mount("nowhere", "kv2"));
    bench.act("POST", "nowhere/data/a", json!({"data": {"v": "1"}}));
    let as_kv1 = bench.hub(&bench.config("mounts: [{path: nowhere, type: kv1}]"));
    assert_eq!(fault(describe(&as_kv1, "vault:a").await), Fault::Invalid);
}

#[tokio::test]
async fn a_path_that_is_not_allowed_costs_no_login() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    for _ in 0..3 {
        assert_eq!(
            fault(describe(&vault, "vault:forbidden/a").await),
            Fault::Denied
        );
        assert_eq!(
            fault(read(&vault, "vault:forbidden/a", "1").await),
            Fault::Denied
        );
    }
    assert_eq!(bench.counted().logins, 1);
}

#[tokio::test]
async fn a_standby_redirects_only_to_where_the_configuration_says() {
    let (standby, active) = (Bench::new().await, Bench::new().await);
    active.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    standby
        .server
        .with(|fake| fake.standby = Some(active.server.url()));
    // Both speak with certificates of one authority to the hub.
    let both = [standby.server.pki(), active.server.pki()].map(|pki| pki.certificate().to_owned());
    standby.file("ca.pem", &both.concat());
    for name in ["role-id", "secret-id"] {
        let content = std::fs::read_to_string(active.dir.path().join(name)).unwrap();
        standby.file(name, &content);
    }
    let error = describe(&standby.vault(), "vault:a").await.unwrap_err();
    assert_eq!(error.fault, Fault::Unavailable);
    assert!(error.detail.contains("redirects_to"), "{error}");
    assert_eq!(active.server.log.count(|_| true), 0);

    let more = format!("redirects_to: [\"{}\"]", active.server.url());
    let vault = standby.hub(&standby.config(&more));
    assert!(describe(&vault, "vault:a").await.is_ok());
    assert_eq!(
        field(&read(&vault, "vault:a", "1").await.unwrap(), "v"),
        "1"
    );

    active
        .server
        .with(|fake| fake.standby = Some(standby.server.url()));
    assert_eq!(fault(describe(&vault, "vault:a").await), Fault::Unavailable);
}

#[tokio::test]
async fn health_tells_the_seal_from_a_refused_hub() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    let health = vault.health().await.unwrap();
    assert_eq!(health.version.as_deref(), Some("1.20.0"));
    bench.server.with(|fake| fake.sealed = true);
    assert_eq!(fault(vault.health().await), Fault::Sealed);
    bench.server.with(|fake| fake.sealed = false);
    bench.file("secret-id", "wrong");
    let now = bench.server.clock.now();
    bench.server.with(|fake| fake.end_tokens(now));
    assert_eq!(fault(vault.health().await), Fault::Unauthenticated);
    assert_eq!(bench.counted().values, 0);
}
