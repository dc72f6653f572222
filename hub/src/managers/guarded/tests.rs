use super::*;
use crate::managers::shelf::Shelf;

const HOUR: Duration = Duration::from_secs(3600);

fn guarded(shelf: &Arc<Shelf>) -> Arc<Guarded> {
    Arc::new(shelf.guarded("v", "{o: [team, 'shared/db-*'], p: ['*']}", HOUR))
}

fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}

fn reference(path: &str) -> crate::reference::SecretRef {
    format!("v:{path}").parse().unwrap()
}

fn version(number: u64) -> SecretVersion {
    number.to_string().parse().unwrap()
}

#[tokio::test]
async fn what_the_policy_does_not_give_is_refused_without_a_call() {
    let shelf = Shelf::new();
    shelf.put("other/db", &[("value", "x")]);
    let guarded = guarded(&shelf);
    let (o, q, of) = (org("o"), org("q"), reference("other/db"));
    let new = NewCredential {
        ttl_seconds: 60,
        access_groups: Vec::new(),
        service_id: None,
        reuse: false,
        labels: Vec::new(),
        description: String::new(),
    };
    let payload = Secret::new(b"x".to_vec());
    for org in [&o, &q] {
        let target = Target {
            org,
            reference: &of,
        };
        let refusals = [
            guarded.admit(target).err(),
            guarded.describe(target).await.err(),
            guarded.describe_all(&[target]).await.remove(0).err(),
            guarded.versions(target).await.err(),
            guarded.read(target, &version(1)).await.err(),
            guarded.mint(target).await.err(),
            guarded.write(target, &payload, None).await.err(),
            guarded.create(target, &new).await.err(),
        ];
        for (at, refused) in refusals.into_iter().enumerate() {
            let refused = refused.unwrap();
            assert_eq!(refused.fault, Fault::OutOfPolicy, "{at}");
            let said = refused.to_string();
            assert!(
                said.contains("other/db") && said.contains(org.as_str()),
                "{said}"
            );
        }
    }
    assert!(shelf.calls().is_empty(), "{:?}", shelf.calls());
    assert!(guarded.counts().is_empty());
}

#[tokio::test]
async fn some_that_are_refused_do_not_disturb_the_order_of_the_others() {
    let shelf = Shelf::new();
    for path in ["team/a", "team/b", "shared/db-1"] {
        shelf.put(path, &[("value", "x")]);
    }
    shelf.put("team/b", &[("value", "y")]);
    let guarded = guarded(&shelf);
    let o = org("o");
    let paths = [
        "other/x",
        "team/b",
        "team2/x",
        "shared/db-1",
        "team/none",
        "team/a",
    ];
    let references = paths.map(reference);
    let targets = references
        .each_ref()
        .map(|reference| Target { org: &o, reference });
    let answers: Vec<_> = guarded
        .describe_all(&targets)
        .await
        .into_iter()
        .map(|answer| match answer {
            Ok(said) => said.version.unwrap().to_string(),
            Err(error) => error.fault.to_string(),
        })
        .collect();
    assert_eq!(
        answers,
        ["out_of_policy", "2", "out_of_policy", "1", "missing", "1"]
    );
    // A turn for each that may be asked, and none for the others.
    let counts = guarded.counts();
    let described: u64 = counts.values().map(|count| count.calls).sum();
    assert_eq!(described, 4);
}

#[tokio::test]
async fn a_listing_shows_what_the_policy_gives_and_the_way_there() {
    let shelf = Shelf::new();
    for path in [
        "team/db",
        "team/sub/db",
        "shared/db-1",
        "shared/other",
        "secret-customer/db",
        "top",
        "user/alice/db",
    ] {
        shelf.put(path, &[("value", "x")]);
    }
    let guarded = guarded(&shelf);
    let listed = async |org: &str, prefix: &str| {
        let query = ListQuery {
            prefix: prefix.into(),
            ..ListQuery::default()
        };
        let org: OrgId = org.parse().unwrap();
        let page = guarded.list(&org, &query).await;
        page.map(|page| {
            let entries = page.entries.into_iter();
            entries.map(|entry| entry.path).collect::<Vec<_>>()
        })
    };
    // Another's folders are not even named.
    assert_eq!(listed("o", "").await.unwrap(), ["shared/", "team/"]);
    assert_eq!(
        listed("o", "team/").await.unwrap(),
        ["team/db", "team/sub/"]
    );
    assert_eq!(listed("o", "team/sub/").await.unwrap(), ["team/sub/db"]);
    assert_eq!(listed("o", "shared/").await.unwrap(), ["shared/db-1"]);
    // Scopes are folders like others.
    assert_eq!(
        listed("p", "").await.unwrap(),
        ["secret-customer/", "shared/", "team/", "top", "user/"]
    );
    assert_eq!(listed("p", "user/").await.unwrap(), ["user/alice/"]);
    assert_eq!(listed("p", "user/alice/").await.unwrap(), ["user/alice/db"]);
    let calls = shelf.calls().len();
    for (org, prefix) in [("o", "secret-customer/"), ("o", "user/alice/"), ("q", "")] {
        let refused = listed(org, prefix).await.unwrap_err();
        assert_eq!(refused.fault, Fault::OutOfPolicy, "{org} {prefix}");
    }
    assert_eq!(shelf.calls().len(), calls, "nobody was asked");
}

#[tokio::test]
async fn many_readers_of_a_version_are_one_read() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "x")]);
    let guarded = guarded(&shelf);
    shelf.hang(true);
    let readers: Vec<_> = (0..500)
        .map(|_| {
            let guarded = Arc::clone(&guarded);
            tokio::spawn(async move {
                let (o, db) = (org("o"), reference("team/db"));
                let target = Target {
                    org: &o,
                    reference: &db,
                };
                guarded
                    .read(target, &version(1))
                    .await
                    .map(|value| value.len())
            })
        })
        .collect();
    shelf.until(|shelf| shelf.count("read team/db") == 1).await;
    shelf.hang(false);
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() > 0);
    }
    // A rotation is one more.
    shelf.put("team/db", &[("value", "y")]);
    let (o, db) = (org("o"), reference("team/db"));
    let target = Target {
        org: &o,
        reference: &db,
    };
    for _ in 0..10 {
        guarded.read(target, &version(2)).await.unwrap();
    }
    assert_eq!(shelf.count("read team/db"), 2);
    assert_eq!(guarded.counts()[&(Call::Read, "ok")].calls, 2);
    assert_eq!(guarded.kept_values(), 2);
    guarded.forget(target);
    assert_eq!(guarded.kept_values(), 0);
}

#[tokio::test]
async fn calls_are_counted_by_what_came_of_them_and_trouble_is_remembered() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "x")]);
    let guarded = guarded(&shelf);
    let (o, db, none) = (org("o"), reference("team/db"), reference("team/none"));
    let target = |reference| Target { org: &o, reference };
    guarded.describe(target(&db)).await.unwrap();
    guarded.describe(target(&none)).await.unwrap_err();
    assert_eq!(guarded.trouble(), None, "of one secret, not of the manager");
    shelf.suffer(Some(Fault::Sealed), Some(HOUR));
    guarded.describe(target(&db)).await.unwrap_err();
    assert_eq!(guarded.trouble().unwrap().fault, Fault::Sealed);
    assert!(guarded.left_alone().is_some());
    // Left alone: who asks hears why, and nothing is counted, for nobody was asked.
    let refused = guarded.read(target(&db), &version(1)).await.err().unwrap();
    assert_eq!(refused.fault, Fault::Sealed);
    let counts: Vec<_> = guarded
        .counts()
        .into_iter()
        .map(|((call, result), count)| (call.as_str(), result, count.calls))
        .collect();
    assert_eq!(
        counts,
        [
            ("describe", "missing", 1),
            ("describe", "ok", 1),
            ("describe", "sealed", 1),
        ]
    );
    // Who asks for its health asks it, whatever was wrong.
    guarded.health().await.unwrap_err();
    assert!(guarded.left_alone().is_some());
    shelf.suffer(None, None);
    guarded.health().await.unwrap();
    assert_eq!(guarded.trouble(), None);
    // And who hears that it is well need not wait any more.
    assert_eq!(guarded.left_alone(), None);
    guarded.describe(target(&db)).await.unwrap();
}

#[tokio::test]
async fn credentials_that_nobody_knows_of_are_counted() {
    let shelf = Shelf::new();
    shelf.leased("team/creds", crate::managers::Effect::Mints);
    let guarded = guarded(&shelf);
    let (o, creds) = (org("o"), reference("team/creds"));
    let target = Target {
        org: &o,
        reference: &creds,
    };
    guarded.mint(target).await.unwrap();
    shelf.fail("team/creds", Fault::Denied, Some(1));
    guarded.mint(target).await.err().unwrap();
    assert_eq!(guarded.unknown_outcomes(), 0);
    shelf.fail("team/creds", Fault::OutcomeUnknown, Some(3));
    // Nothing is made by a look, whatever becomes of it.
    guarded.describe(target).await.unwrap_err();
    for _ in 0..2 {
        guarded.mint(target).await.err().unwrap();
    }
    assert_eq!(guarded.unknown_outcomes(), 2);
}

#[tokio::test]
async fn labels_that_a_listing_does_not_tell_are_refused_and_not_ignored() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "x")]);
    let guarded = guarded(&shelf);
    let mut query = ListQuery {
        prefix: "team/".into(),
        labels: vec!["prod".into()],
        ..ListQuery::default()
    };
    let refused = guarded.list(&org("o"), &query).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Unsupported);
    assert!(refused.detail.contains("labels"), "{refused}");
    assert!(shelf.calls().is_empty());
    shelf.tells_labels();
    guarded.list(&org("o"), &query).await.unwrap();
    query.labels.clear();
    guarded.list(&org("o"), &query).await.unwrap();
    assert_eq!(shelf.count("list team/ by prod"), 1);
    assert_eq!(shelf.count("list team/"), 1);
}

#[tokio::test]
async fn a_search_that_a_manager_cannot_make_is_refused_and_not_ignored() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "x")]);
    let guarded = guarded(&shelf);
    let query = ListQuery {
        prefix: "team/".into(),
        search: Some("db".into()),
        ..ListQuery::default()
    };
    let refused = guarded.list(&org("o"), &query).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Unsupported);
    assert!(refused.detail.contains("searched"), "{refused}");
    assert!(shelf.calls().is_empty());
    shelf.can_search();
    guarded.list(&org("o"), &query).await.unwrap();
    assert_eq!(shelf.calls(), ["list team/ for db"]);
}

#[tokio::test]
async fn an_engine_is_for_who_has_all_of_the_manager() {
    let shelf = Shelf::new();
    let guarded = guarded(&shelf);
    let key = Secret::new(b"key".to_vec());
    for stranger in ["o", "q"] {
        let refused = guarded.put_engine(&org(stranger), "e", &key).await;
        assert_eq!(refused.unwrap_err().fault, Fault::OutOfPolicy, "{stranger}");
    }
    assert!(shelf.calls().is_empty());
    let put = async || guarded.put_engine(&org("p"), "e", &key).await.unwrap();
    assert!(!put().await.replaced);
    assert!(put().await.replaced);
}
