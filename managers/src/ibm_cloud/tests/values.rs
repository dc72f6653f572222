//! Values that stand there: fields by type, versions, states, names.

use super::*;

#[tokio::test]
async fn every_type_has_its_fields() {
    let fake = Fake::start().await;
    for (body, fields) in [
        (
            json!({ "secret_type": "arbitrary", "payload": "p" }),
            vec![("value", "p")],
        ),
        (
            json!({ "secret_type": "arbitrary", "payload": "data:text/plain;base64,YWJj" }),
            vec![("value", "abc")],
        ),
        (
            json!({ "secret_type": "kv", "data": { "a": "b", "n": 1.5, "o": { "x": [1] } } }),
            vec![("a", "b"), ("n", "1.5"), ("o", r#"{"x":[1]}"#)],
        ),
        (
            json!({ "secret_type": "username_password", "username": "u", "password": "p" }),
            vec![("password", "p"), ("username", "u")],
        ),
        (
            json!({ "secret_type": "imported_cert", "certificate": "c", "private_key": "k" }),
            vec![("certificate", "c"), ("private_key", "k")],
        ),
        (
            json!({ "secret_type": "public_cert", "certificate": "c", "intermediate": "i",
                "private_key": "k" }),
            vec![
                ("certificate", "c"),
                ("intermediate", "i"),
                ("private_key", "k"),
            ],
        ),
        (
            json!({ "secret_type": "private_cert", "certificate": "c", "issuing_ca": "i",
                "private_key": "k" }),
            vec![
                ("certificate", "c"),
                ("issuing_ca", "i"),
                ("private_key", "k"),
            ],
        ),
        (
            json!({ "secret_type": "service_credentials", "credentials": { "apikey": "k" } }),
            vec![("apikey", "k")],
        ),
        (
            json!({ "secret_type": "custom_credentials", "credentials_content": { "u": "x" } }),
            vec![("u", "x")],
        ),
    ] {
        let mut body = body;
        let name = format!("s{}", fake.server.with(|ibm| ibm.secrets.len()));
        body["name"] = name.clone().into();
        let id = fake.seed(body.clone());
        let kind = body["secret_type"].as_str().unwrap();
        for reference in [format!("ibm:edge/{kind}/{name}"), format!("ibm:id/{id}")] {
            let described = fake.describe(&reference).await.unwrap();
            assert_eq!(described.effect, Effect::Pure);
            let payload = fake.current(&reference).await.unwrap();
            let read = Fields::decode(payload.expose()).unwrap();
            let shown: Vec<_> = read
                .expose()
                .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
                .collect();
            assert_eq!(shown, fields, "{reference}");
            let names: Vec<_> = read.names().collect();
            assert!(
                described.fields.is_empty() || described.fields == names,
                "{reference}"
            );
        }
    }
}

#[tokio::test]
async fn bytes_stay_bytes() {
    let fake = Fake::start().await;
    let payload = "data:application/octet-stream;base64,AP8B";
    fake.seed(json!({ "secret_type": "arbitrary", "name": "file", "payload": payload }));
    let payload = fake.current("ibm:edge/arbitrary/file").await.unwrap();
    let fields = Fields::decode(payload.expose()).unwrap();
    assert_eq!(fields.expose_value(), Some(&[0, 255, 1][..]));
}

#[tokio::test]
async fn an_edit_is_no_new_version_and_old_ones_go() {
    let fake = Fake::start().await;
    let reference = "ibm:edge/kv/token";
    let before = fake.describe(reference).await.unwrap();
    fake.server.clock.advance(Duration::from_secs(1));
    fake.edit(&fake.token, |secret| secret.labels = vec!["edge".into()]);
    let after = fake.describe(reference).await.unwrap();
    assert_eq!(after.version, before.version);
    assert_eq!(after.labels, ["edge"]);
    assert_ne!(after.updated_at, before.updated_at);
    for value in ["canary-2", "canary-3"] {
        fake.rotate(value).await;
    }
    // Of three versions the first one's value is gone.
    let first = before.version.unwrap();
    let error = fake.read(reference, first.as_str()).await.err().unwrap();
    assert_eq!(error.fault, Fault::Superseded, "{error}");
    let (org, parsed) = parsed(reference);
    let versions = fake.manager.versions(target(&org, &parsed)).await.unwrap();
    let gone: Vec<_> = versions.iter().map(|version| version.gone).collect();
    assert_eq!(gone, [None, None, Some("deleted")]);
    assert_eq!(versions[2].version, first);
}

#[tokio::test]
async fn what_has_ended_says_how() {
    let fake = Fake::start().await;
    let reference = "ibm:edge/kv/token";
    for (state, fault) in [(3, Fault::Expired), (5, Fault::Deleted)] {
        fake.edit(&fake.token, |secret| secret.state = state);
        let error = fake.describe(reference).await.unwrap_err();
        assert_eq!(error.fault, fault, "{error}");
    }
    fake.edit(&fake.token, |secret| secret.state = 2);
    let suspended = fake.describe(reference).await.unwrap();
    assert!(suspended.notes[0].contains("suspended"));
    let end = fake.server.clock.now() + Duration::from_secs(60);
    fake.edit(&fake.token, |secret| secret.expiration = Some(end));
    let described = fake.describe(reference).await.unwrap();
    assert_eq!(
        described.expires_at.unwrap().as_millisecond(),
        end.as_millisecond()
    );
    fake.server.clock.advance(Duration::from_secs(61));
    let error = fake.describe(reference).await.unwrap_err();
    assert_eq!(error.fault, Fault::Expired, "{error}");
    fake.edit(&fake.token, |secret| {
        secret.expiration = None;
        secret.versions[0].data = None;
    });
    let error = fake.describe(reference).await.unwrap_err();
    assert_eq!(error.fault, Fault::Deleted, "{error}");
}

#[tokio::test]
async fn a_name_means_what_has_it_now() {
    let fake = Fake::start().await;
    let reference = "ibm:edge/kv/token";
    fake.describe(reference).await.unwrap();
    // Renamed: the id still answers, but not to this name.
    fake.edit(&fake.token, |secret| secret.name = "other".into());
    let error = fake.describe(reference).await.unwrap_err();
    assert_eq!(error.fault, Fault::Missing, "{error}");
    let by_id = fake.describe(&format!("ibm:id/{}", fake.token)).await;
    assert_eq!(
        by_id.unwrap(),
        fake.describe("ibm:edge/kv/other").await.unwrap()
    );
    // Another one under the name.
    let another = json!({ "secret_type": "kv", "name": "token", "data": { "value": "new" } });
    fake.seed(another.clone());
    assert_eq!(
        field(&fake.current(reference).await.unwrap(), "value"),
        "new"
    );
    // Deleted and made again.
    fake.server
        .with(|ibm| ibm.secrets.retain(|secret| secret.name != "token"));
    fake.seed(another);
    assert_eq!(
        field(&fake.current(reference).await.unwrap(), "value"),
        "new"
    );
}

#[tokio::test]
async fn the_endpoint_that_takes_names_is_never_used() {
    let fake = Fake::start().await;
    fake.seed_keys("cos", false);
    fake.current("ibm:edge/kv/token").await.unwrap();
    fake.mint("ibm:edge/iam_credentials/cos").await.unwrap();
    assert_eq!(
        fake.server
            .log
            .count(|call| call.path.contains("secret_types")),
        0
    );
}

#[tokio::test]
async fn listings_are_of_folders_labels_and_texts() {
    let fake = Fake::with(json!({ "share_reused": true })).await;
    fake.seed(
        json!({ "secret_type": "arbitrary", "name": "plain", "payload": "x",
        "secret_group_id": "default", "labels": ["edge", "x"] }),
    );
    fake.seed_keys("cos", false);
    fake.seed_keys("shared", true);
    let odd = fake.server.with(|ibm| ibm.add_group("a/b"));
    let odd = fake.seed(
        json!({ "secret_type": "kv", "name": "odd", "data": { "a": "b" },
        "secret_group_id": odd }),
    );
    let org = "myorg".parse().unwrap();
    let list = async |query: ListQuery| {
        let page = fake.manager.list(&org, &query).await.unwrap();
        assert_eq!(page.next, None);
        let entries = page.entries.into_iter();
        entries
            .map(|entry| (entry.path, entry.effect.unwrap()))
            .collect::<Vec<_>>()
    };
    let all = [
        ("default/arbitrary/plain".to_owned(), Effect::Pure),
        ("edge/kv/token".to_owned(), Effect::Pure),
        (
            "edge/iam_credentials/cos".to_owned(),
            Effect::MintsAndInvalidates,
        ),
        ("edge/iam_credentials/shared".to_owned(), Effect::Pure),
        (format!("id/{odd}"), Effect::Pure),
    ];
    let paths = |found: Vec<(String, Effect)>| -> Vec<String> {
        found.into_iter().map(|(path, _)| path).collect()
    };
    let query = ListQuery::default();
    let found = list(query.clone()).await;
    assert_eq!(found.len(), all.len());
    assert!(all.iter().all(|entry| found.contains(entry)), "{found:?}");
    for (prefix, count) in [("edge/", 3), ("edge/kv/", 1), ("default/", 1), ("none/", 0)] {
        let prefix = prefix.into();
        assert_eq!(
            list(ListQuery {
                prefix,
                ..query.clone()
            })
            .await
            .len(),
            count
        );
    }
    let labels = vec!["x".into(), "edge".into()];
    let found = list(ListQuery {
        labels,
        ..query.clone()
    })
    .await;
    assert_eq!(paths(found), ["default/arbitrary/plain"]);
    let search = Some("toke".into());
    let found = list(ListQuery {
        search,
        ..query.clone()
    })
    .await;
    assert_eq!(paths(found), ["edge/kv/token"]);
    for bad in [
        ListQuery {
            prefix: "edge/kv/x/".into(),
            ..query.clone()
        },
        ListQuery {
            prefix: "edge/nonsense/".into(),
            ..query.clone()
        },
        ListQuery {
            labels: vec!["a,b".into()],
            ..query.clone()
        },
        ListQuery {
            page: Some("x".into()),
            ..query
        },
    ] {
        let error = fake.manager.list(&org, &bad).await.unwrap_err();
        assert_eq!(error.fault, Fault::Invalid, "{error}");
    }
}
