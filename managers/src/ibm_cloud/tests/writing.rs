//! What the hub makes and sets.

use edge_secrets_protocol::FieldName;

use super::*;

fn new() -> NewCredential {
    NewCredential {
        ttl_seconds: 43_200,
        access_groups: vec!["AccessGroupId-1".into()],
        service_id: None,
        reuse: false,
        labels: vec!["edge".into()],
        description: "for edge01".into(),
    }
}

fn payload<'a>(fields: &[(&str, &'a [u8])]) -> Secret {
    let named = |(name, value): &(&str, &'a [u8])| -> (FieldName, &'a [u8]) {
        (name.parse().unwrap(), *value)
    };
    let fields: Vec<_> = fields.iter().map(named).collect();
    Fields::encode(&fields).unwrap()
}

/// One that may write, and make credentials for what [`new`] names and for one service id.
async fn writing() -> Fake {
    Fake::with(json!({
        "write": true, "access_groups": ["AccessGroupId-1"], "service_ids": ["ServiceId-1"],
    }))
    .await
}

async fn create(fake: &Fake, reference: &str, new: &NewCredential) -> Result<(), ManagerError> {
    let (org, reference) = parsed(reference);
    fake.manager.create(target(&org, &reference), new).await
}

async fn write(
    fake: &Fake,
    reference: &str,
    payload: &Secret,
    expected: Option<Option<SecretVersion>>,
) -> Result<SecretVersion, ManagerError> {
    let (org, reference) = parsed(reference);
    fake.manager
        .write(target(&org, &reference), payload, expected)
        .await
}

#[tokio::test]
async fn a_credential_is_made_as_it_was_said() {
    let fake = writing().await;
    let reference = "ibm:edge/iam_credentials/edge01-cos";
    create(&fake, reference, &new()).await.unwrap();
    let made = fake.server.with(|ibm| ibm.secrets.last().unwrap().clone());
    assert_eq!((made.ttl.as_deref(), made.reuse), (Some("43200"), false));
    assert_eq!(
        (made.labels, made.access_groups),
        (new().labels, new().access_groups)
    );
    assert_eq!(
        (made.description, made.group),
        (new().description, fake.group.clone())
    );
    assert!(fake.works(&fake.mint(reference).await.unwrap().payload));
    let error = create(&fake, reference, &new()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Conflict, "{error}");
    let error = create(&fake, "ibm:none/iam_credentials/x1", &new())
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Missing, "{error}");
    assert!(error.detail.contains("none"), "{error}");
    let of_id = NewCredential {
        access_groups: Vec::new(),
        service_id: Some("ServiceId-1".into()),
        reuse: true,
        ..new()
    };
    create(&fake, "ibm:default/iam_credentials/own", &of_id)
        .await
        .unwrap();
    assert!(fake.server.with(|ibm| ibm.secrets.last().unwrap().reuse));
    fake.server.faults.always(Trick::LoseAnswer);
    let error = create(&fake, "ibm:default/iam_credentials/lost", &new())
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::OutcomeUnknown, "{error}");
}

#[tokio::test]
async fn what_the_service_would_refuse_is_not_sent() {
    let fake = writing().await;
    let reference = "ibm:default/iam_credentials/x1";
    let many = |count: usize| vec!["AccessGroupId-1".to_owned(); count];
    for bad in [
        NewCredential {
            ttl_seconds: 59,
            ..new()
        },
        NewCredential {
            ttl_seconds: 90 * 86_400 + 1,
            ..new()
        },
        NewCredential {
            access_groups: Vec::new(),
            ..new()
        },
        NewCredential {
            access_groups: many(11),
            ..new()
        },
        NewCredential {
            service_id: Some("ServiceId-1".into()),
            ..new()
        },
        NewCredential {
            labels: vec!["x".into()],
            ..new()
        },
        NewCredential {
            labels: vec!["xx".into(); 31],
            ..new()
        },
    ] {
        let error = create(&fake, reference, &bad).await.unwrap_err();
        assert_eq!(error.fault, Fault::Invalid, "{error}");
    }
    let error = create(&fake, "ibm:default/kv/x1", &new())
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Invalid, "{error}");
    assert!(fake.server.log.calls().is_empty());
}

#[tokio::test]
async fn nothing_is_written_unless_that_is_said() {
    let fake = Fake::start().await;
    let value = payload(&[("value", b"x")]);
    for error in [
        create(&fake, "ibm:default/iam_credentials/x1", &new())
            .await
            .unwrap_err(),
        write(&fake, "ibm:default/kv/x1", &value, None)
            .await
            .unwrap_err(),
        fake.manager.put_engine("e1", &value).await.unwrap_err(),
    ] {
        assert_eq!(error.fault, Fault::Unsupported, "{error}");
        assert!(error.detail.contains("write: true"), "{error}");
    }
    assert!(fake.server.log.calls().is_empty());
}

#[tokio::test]
async fn values_are_set_with_a_look_at_what_is_there() {
    let fake = writing().await;
    for (reference, fields) in [
        ("ibm:edge/arbitrary/text", vec![("value", &b"plain"[..])]),
        ("ibm:edge/arbitrary/bytes", vec![("value", &[0, 255, 1])]),
        (
            "ibm:edge/arbitrary/uri",
            vec![("value", b"data:x;base64,AAAA")],
        ),
        ("ibm:edge/kv/pair", vec![("a", b"1\"2"), ("b", b"x")]),
    ] {
        let value = payload(&fields);
        let first = write(&fake, reference, &value, Some(None)).await.unwrap();
        let described = fake.describe(reference).await.unwrap();
        assert_eq!(described.version.as_ref(), Some(&first));
        assert!(fake.current(reference).await.unwrap().expose() == value.expose());
        let error = write(&fake, reference, &value, Some(None))
            .await
            .unwrap_err();
        assert_eq!(error.fault, Fault::Conflict, "{error}");
        let expected = Some(Some(first.clone()));
        let second = write(&fake, reference, &value, expected.clone())
            .await
            .unwrap();
        assert_ne!(first, second);
        assert_eq!(
            fake.describe(reference).await.unwrap().version,
            Some(second)
        );
        let error = write(&fake, reference, &value, expected).await.unwrap_err();
        assert_eq!(error.fault, Fault::Conflict, "{error}");
        write(&fake, reference, &value, None).await.unwrap();
    }
    let version = "x".parse::<SecretVersion>().unwrap();
    let value = payload(&[("value", b"x")]);
    let error = write(&fake, "ibm:edge/kv/none", &value, Some(Some(version))).await;
    assert_eq!(error.unwrap_err().fault, Fault::Conflict);
}

#[tokio::test]
async fn what_cannot_be_set_is_refused() {
    let fake = writing().await;
    let two = payload(&[("a", b"canary"), ("b", b"canary")]);
    let bytes = payload(&[("a", &[255])]);
    let id = format!("ibm:id/{TRACE}");
    for (reference, payload, fault) in [
        ("ibm:edge/arbitrary/x1", &two, Fault::Invalid),
        ("ibm:edge/kv/x1", &bytes, Fault::Invalid),
        ("ibm:edge/username_password/x1", &two, Fault::Unsupported),
        (id.as_str(), &two, Fault::Invalid),
    ] {
        let error = write(&fake, reference, payload, None).await.unwrap_err();
        assert_eq!(error.fault, fault, "{reference}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    fake.edit(&fake.token, |secret| secret.locks = vec!["l".into()]);
    let error = write(&fake, "ibm:edge/kv/token", &two, None)
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Locked, "{error}");
}

#[tokio::test]
async fn the_engine_is_made_and_then_changed() {
    let fake = writing().await;
    let key = |text: &str| Secret::new(text.as_bytes().to_vec());
    let put = async |name: &str, text: &str| fake.manager.put_engine(name, &key(text)).await;
    let made = put("iam_config", "one").await.unwrap();
    assert_eq!(made.kind, "iam_credentials_configuration");
    assert!(!made.replaced);
    assert!(put("iam_config", "two").await.unwrap().replaced);
    let engine = fake
        .server
        .with(|ibm| ibm.configurations["iam_config"].clone());
    assert_eq!(engine["config_type"], made.kind);
    assert_eq!(
        (&engine["api_key"], &engine["disabled"]),
        (&json!("two"), &json!(false))
    );
    let calls = fake.server.log.calls().len();
    let long = "x".repeat(129);
    for name in ["", "x", "-x", "x-", "a/b", "a b", long.as_str()] {
        let error = put(name, "canary").await.unwrap_err();
        assert_eq!(error.fault, Fault::Invalid, "{name}: {error}");
    }
    let error = fake.manager.put_engine("e1", &Secret::new(vec![255])).await;
    assert_eq!(error.unwrap_err().fault, Fault::Invalid);
    assert_eq!(fake.server.log.calls().len(), calls, "nothing was sent");
    fake.server
        .with(|ibm| ibm.role = edge_secrets_fakes::ibm::Role::Writer);
    let error = put("iam_config", "canary").await.unwrap_err();
    assert_eq!(error.fault, Fault::Denied, "{error}");
    assert!(!format!("{error:?}").contains("canary"));
    fake.server
        .with(|ibm| ibm.role = edge_secrets_fakes::ibm::Role::Manager);
    fake.server.faults.always(Trick::LoseAnswer);
    let error = put("other", "canary").await.unwrap_err();
    assert_eq!(error.fault, Fault::OutcomeUnknown, "{error}");
}

#[tokio::test]
async fn an_engine_that_is_not_taken_beside_another_says_so() {
    let fake = writing().await;
    let conflict = Response::json(409, &json!({ "errors": [{ "code": "x" }], "trace": TRACE }));
    fake.server.faults.when(
        |call| call.method == "POST" && call.path.ends_with("/configurations"),
        Trick::Answer(conflict),
    );
    let key = Secret::new(b"canary".to_vec());
    let error = fake.manager.put_engine("third", &key).await.unwrap_err();
    assert_eq!(error.fault, Fault::Conflict, "{error}");
    assert!(error.detail.contains("third"), "{error}");
}

#[tokio::test]
async fn credentials_are_made_for_what_is_listed_alone() {
    let reference = "ibm:default/iam_credentials/x1";
    let of_id = NewCredential {
        access_groups: Vec::new(),
        service_id: Some("ServiceId-1".into()),
        ..new()
    };
    let more = NewCredential {
        access_groups: vec!["AccessGroupId-1".into(), "AccessGroupId-2".into()],
        ..new()
    };
    let expect_refused = async |fake: &Fake, new: &NewCredential, named: &str, key: &str| {
        let error = create(fake, reference, new).await.unwrap_err();
        assert_eq!(error.fault, Fault::OutOfPolicy, "{error}");
        assert!(
            error.detail.contains(named) && error.detail.contains(key),
            "{error}"
        );
    };
    // Without a list nothing is, and one list says nothing for the other.
    let crossed = json!({ "write": true, "access_groups": ["ServiceId-1"],
        "service_ids": ["AccessGroupId-1"] });
    for more in [json!({ "write": true }), crossed] {
        let fake = Fake::with(more).await;
        expect_refused(&fake, &new(), "AccessGroupId-1", "`access_groups`").await;
        expect_refused(&fake, &of_id, "ServiceId-1", "`service_ids`").await;
        assert!(fake.server.log.calls().is_empty());
    }
    let fake = writing().await;
    expect_refused(&fake, &more, "AccessGroupId-2", "`access_groups`").await;
    assert!(fake.server.log.calls().is_empty());
    create(&fake, reference, &new()).await.unwrap();
}
