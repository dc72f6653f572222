//! Key-value secrets of both versions.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_newer_version_is_no_absence_and_a_deletion_is() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    for value in ["one", "two", "three"] {
        bench.act("POST", "secret/data/a", json!({"data": {"v": value}}));
    }
    assert_eq!(
        field(&read(&vault, "vault:a", "1").await.unwrap(), "v"),
        "one"
    );
    bench.act("POST", "secret/destroy/a", json!({"versions": [1]}));
    assert_eq!(fault(read(&vault, "vault:a", "1").await), Fault::Superseded);
    for version in ["9", "h00", "03", "0"] {
        assert_eq!(
            fault(read(&vault, "vault:a", version).await),
            Fault::Superseded
        );
    }
    bench.act("DELETE", "secret/data/a", Value::Null);
    assert_eq!(fault(read(&vault, "vault:a", "3").await), Fault::Deleted);
    assert_eq!(fault(describe(&vault, "vault:a").await), Fault::Deleted);
    bench.act("POST", "secret/undelete/a", json!({"versions": [3]}));
    assert!(read(&vault, "vault:a", "3").await.is_ok());
    let (org, reference) = (org(), "vault:a".parse().unwrap());
    let versions = vault.versions(target(&org, &reference)).await.unwrap();
    let seen: Vec<_> = versions
        .iter()
        .map(|v| (v.version.as_str(), v.gone))
        .collect();
    assert_eq!(seen, [("3", None), ("2", None), ("1", Some("destroyed"))]);
    bench.act("DELETE", "secret/metadata/a", Value::Null);
    assert_eq!(fault(read(&vault, "vault:a", "3").await), Fault::Missing);
    bench.act("POST", "secret/metadata/b", json!({"max_versions": 3}));
    assert_eq!(fault(describe(&vault, "vault:b").await), Fault::Missing);
}

#[tokio::test]
async fn a_description_has_labels_and_a_deletion_to_come() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    let metadata = json!({"custom_metadata": {"owner": "team"}, "delete_version_after": "60s"});
    bench.act("POST", "secret/metadata/a", metadata);
    bench.act("POST", "secret/data/a", json!({"data": {"v": "1"}}));
    let described = describe(&vault, "vault:a").await.unwrap();
    assert_eq!(described.labels, ["owner=team"]);
    assert!(described.expires_at.is_some() && described.updated_at.is_some());
    assert!(read(&vault, "vault:a", "1").await.is_ok());
    assert_eq!(bench.counted().values, 1);
}

#[tokio::test]
async fn a_write_compares_and_needs_leave() {
    let bench = Bench::new().await;
    let (org, reference) = (org(), "vault:a".parse().unwrap());
    let to = target(&org, &reference);
    let payload = Fields::encode(&[("v".parse().unwrap(), b"one".as_slice())]).unwrap();
    assert_eq!(
        fault(bench.vault().write(to, &payload, None).await),
        Fault::Unsupported
    );
    let vault = bench.hub(&bench.config("write: true"));
    let first = vault.write(to, &payload, Some(None)).await.unwrap();
    assert_eq!(first.as_str(), "1");
    assert_eq!(
        fault(vault.write(to, &payload, Some(None)).await),
        Fault::Conflict
    );
    let second = vault
        .write(to, &payload, Some(Some(first.clone())))
        .await
        .unwrap();
    assert_eq!(second.as_str(), "2");
    assert_eq!(
        fault(vault.write(to, &payload, Some(Some(first))).await),
        Fault::Conflict
    );
    assert_eq!(
        field(&read(&vault, "vault:a", "2").await.unwrap(), "v"),
        "one"
    );
    bench.act("POST", "secret/config", json!({"cas_required": true}));
    assert_eq!(
        fault(vault.write(to, &payload, None).await),
        Fault::Conflict
    );
    let bytes = Fields::encode(&[("v".parse().unwrap(), [0xff].as_slice())]).unwrap();
    assert_eq!(
        fault(vault.write(to, &bytes, None).await),
        Fault::Unsupported
    );
    // What it makes credentials with is configured there, and nothing is asked.
    let refused = vault.put_engine("e1", &bytes).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Unsupported);
    assert!(refused.detail.contains("vault"), "{refused}");
    let forbidden = "vault:forbidden/a".parse().unwrap();
    let denied = vault.write(target(&org, &forbidden), &payload, None).await;
    assert_eq!(fault(denied), Fault::Denied);
}

#[tokio::test]
async fn version_1_is_told_apart_by_a_keyed_hash_that_survives_a_restart() {
    let bench = Bench::new().await;
    let vault = bench.hub(&bench.config("write: true"));
    bench.act("POST", "kv1/a", json!({"key": "k", "value": "one"}));
    bench.act("POST", "kv1/b", json!({"key": "k", "value": "one"}));
    let version = describe(&vault, "vault:kv1/a")
        .await
        .unwrap()
        .version
        .unwrap();
    let other = describe(&vault, "vault:kv1/b")
        .await
        .unwrap()
        .version
        .unwrap();
    assert_ne!(version, other, "equal values at two places look different");
    let value = read(&vault, "vault:kv1/a", version.as_str()).await.unwrap();
    assert_eq!(field(&value, "value"), "one");
    let again = describe(&bench.vault(), "vault:kv1/a").await.unwrap();
    assert_eq!(again.version.as_ref(), Some(&version));
    bench.act("POST", "kv1/a", json!({"key": "k", "value": "two"}));
    assert_eq!(
        fault(read(&vault, "vault:kv1/a", version.as_str()).await),
        Fault::Superseded
    );
    let (org, reference) = (org(), "vault:kv1/a".parse().unwrap());
    let to = target(&org, &reference);
    let written = vault.write(to, &value, None).await.unwrap();
    assert_eq!(written, version, "the same value is the same version");
    assert_eq!(
        fault(vault.write(to, &value, Some(None)).await),
        Fault::Unsupported
    );
    bench.act("DELETE", "kv1/a", Value::Null);
    assert_eq!(fault(describe(&vault, "vault:kv1/a").await), Fault::Missing);
}

#[tokio::test]
async fn a_listing_walks_all_mounts_and_shows_only_what_can_be_named() {
    let bench = Bench::new().await;
    let vault = bench.vault();
    for name in ["team/db", "user/alice/tls", "top", "od%64", "kv1/hidden"] {
        bench.act(
            "POST",
            &format!("secret/data/{name}"),
            json!({"data": {"v": "1"}}),
        );
    }
    bench.act("POST", "kv1/a/b", json!({"v": "1"}));
    let names = async |prefix: &str| -> BTreeSet<String> {
        let query = ListQuery {
            prefix: prefix.into(),
            ..ListQuery::default()
        };
        let page = vault.list(&org(), &query).await.unwrap();
        page.entries.into_iter().map(|entry| entry.path).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let top: BTreeSet<String> = set(&["database/", "kv1/", "nowhere/", "team/", "top", "user/"]);
    assert_eq!(names("").await, top);
    assert_eq!(names("user/").await, set(&["user/alice/"]));
    assert_eq!(names("kv1/").await, set(&["kv1/a/"]));
    assert_eq!(names("kv1/a/").await, set(&["kv1/a/b"]));
    assert_eq!(names("database/").await, set(&["database/creds/"]));
    assert_eq!(names("database/creds/").await, set(&["database/creds/app"]));
    assert_eq!(names("nothing/").await, set(&[]));
    let query = ListQuery {
        prefix: "../x".into(),
        ..ListQuery::default()
    };
    assert_eq!(fault(vault.list(&org(), &query).await), Fault::Invalid);
    let refuse_list = edge_secrets_fakes::Response::json(405, &json!({"errors": []}));
    bench.server.faults.when(
        |request| request.method.as_str() == "LIST",
        edge_secrets_fakes::Fault::Answer(refuse_list),
    );
    assert_eq!(names("team/").await, set(&["team/db"]));
}

#[tokio::test]
async fn a_namespace_and_a_root_are_where_they_are_said_to_be() {
    let bench = Bench::new().await;
    let role_id = bench.server.with(|fake| {
        fake.namespace("team/edge");
        fake.mount("team/edge/openhorizon", "kv2");
        fake.enable_auth("team/edge/approle", "approle");
        fake.policy("edge", &[Rule::new("team/edge/openhorizon/*", "read,list")]);
        let role = AppRole {
            policies: vec!["edge".into()],
            ..AppRole::default()
        };
        fake.approle_role("team/edge/approle", "hub", role)
    });
    let made = bench.act(
        "POST",
        "team/edge/auth/approle/role/hub/secret-id",
        json!({}),
    );
    let secret_id = made
        .pointer("/data/secret_id")
        .and_then(Value::as_str)
        .unwrap();
    bench.file("role-id", &role_id);
    bench.file("secret-id", secret_id);
    let data = json!({"data": {"key": "basicauth", "value": "v"}});
    bench.act(
        "POST",
        "team/edge/openhorizon/data/myorg/user/alice/tls",
        data,
    );
    let more = "namespace: team/edge\nmounts: [{path: openhorizon, type: kv2, root: \"{org}\"}]";
    let vault = bench.hub(&bench.config(more));
    let value = read(&vault, "vault:user/alice/tls", "1").await.unwrap();
    assert_eq!(field(&value, "key"), "basicauth");
    vault.health().await.unwrap();
    assert_eq!(
        bench.counted().unmarked,
        0,
        "every request says that it is one"
    );
}
