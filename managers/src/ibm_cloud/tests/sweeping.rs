//! What a poll of many secrets costs.

use super::*;

async fn describe_all(fake: &Fake, names: &[String]) -> Vec<Result<Description, ManagerError>> {
    let org = "myorg".parse().unwrap();
    let references: Vec<SecretRef> = names.iter().map(|name| name.parse().unwrap()).collect();
    let targets: Vec<_> = references.iter().map(|r| target(&org, r)).collect();
    fake.manager.describe_all(&targets).await
}

fn seed_many(fake: &Fake, count: usize) -> Vec<String> {
    let seed = |n: usize| {
        let name = format!("s{n:04}");
        fake.seed(json!({ "secret_type": "arbitrary", "name": name, "payload": "x" }));
        format!("ibm:edge/arbitrary/{name}")
    };
    (0..count).map(seed).collect()
}

#[tokio::test]
async fn a_poll_costs_a_page_and_what_moved() {
    let fake = Fake::start().await;
    let names = seed_many(&fake, 40);
    let first = describe_all(&fake, &names).await;
    fake.server.log.clear();
    assert_eq!(describe_all(&fake, &names).await, first);
    assert_eq!(
        fake.server.log.calls().len(),
        1,
        "{:?}",
        fake.server.log.calls()
    );
    // Two rotated, one edited.
    let now = fake.server.clock.now() + Duration::from_secs(1);
    fake.server.clock.advance(Duration::from_secs(1));
    for (at, rotated) in [(3, true), (4, true), (5, false)] {
        let find = |ibm: &mut Ibm| {
            let name = format!("s{at:04}");
            let mut secrets = ibm.secrets.iter();
            secrets
                .find(|secret| secret.name == name)
                .unwrap()
                .id
                .clone()
        };
        let id = fake.server.with(find);
        match rotated {
            true => fake
                .server
                .with(|ibm| ibm.rotate(&id, &json!({ "payload": "y" }), now)),
            false => fake.edit(&id, |secret| secret.labels = vec!["new".into()]),
        }
    }
    fake.server.log.clear();
    let second = describe_all(&fake, &names).await;
    assert_eq!(fake.server.log.calls().len(), 1 + 3);
    let version = |d: &Result<Description, ManagerError>| d.as_ref().unwrap().version.clone();
    for (at, (before, after)) in first.iter().zip(&second).enumerate() {
        assert_eq!(
            version(before) != version(after),
            matches!(at, 3 | 4),
            "{at}"
        );
    }
    assert_eq!(fake.given(), 0);
}

#[tokio::test]
async fn a_thousand_and_more_come_in_pages_whatever_the_links_point_to() {
    let fake = Fake::start().await;
    let names = seed_many(&fake, 1100);
    // With keys alone no version is asked for.
    let asked = [names[0].clone(), names[1099].clone()];
    let found = describe_all(&fake, &asked).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    let pages = fake.server.log.count(|call| call.path == "/api/v2/secrets");
    assert_eq!(pages, 2);
    let org = "myorg".parse().unwrap();
    let mut query = ListQuery::default();
    let mut seen = BTreeSet::new();
    loop {
        let page = fake.manager.list(&org, &query).await.unwrap();
        seen.extend(page.entries.into_iter().map(|entry| entry.path));
        query.page = page.next;
        if query.page.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 1101);
}

#[tokio::test]
async fn keys_are_swept_without_a_call_more() {
    let fake = Fake::start().await;
    let names: Vec<_> = (0..20)
        .map(|n| {
            fake.seed_keys(&format!("k{n:02}"), n % 2 == 0);
            format!("ibm:edge/iam_credentials/k{n:02}")
        })
        .collect();
    let made = fake.minted();
    let found = describe_all(&fake, &names).await;
    assert!(found.iter().all(Result::is_ok));
    // Groups, and one page.
    let calls = fake.server.log.count(|call| call.path.starts_with("/api/"));
    assert_eq!((calls, fake.minted(), fake.given()), (2, made, 0));
}

#[tokio::test]
async fn each_has_its_own_answer_in_order() {
    let fake = Fake::start().await;
    let mut names = seed_many(&fake, 2);
    names.insert(1, "ibm:edge/arbitrary/none".into());
    names.insert(0, "ibm:nonsense".into());
    names.push(format!("ibm:id/{}", fake.token));
    names.push("ibm:default/kv/elsewhere".into());
    for _ in 0..2 {
        let found = describe_all(&fake, &names).await;
        let faults: Vec<_> = found
            .iter()
            .map(|f| f.as_ref().err().map(|e| e.fault))
            .collect();
        assert_eq!(
            faults,
            [
                Some(Fault::Invalid),
                None,
                Some(Fault::Missing),
                None,
                None,
                Some(Fault::NotFoundOrDenied),
            ]
        );
    }
}

#[tokio::test]
async fn trouble_is_met_once() {
    let fake = Fake::start().await;
    let names = seed_many(&fake, 30);
    describe_all(&fake, &names[..2]).await;
    let metadata = |request: &edge_secrets_fakes::Request| request.path.ends_with("/metadata");
    fake.server
        .faults
        .when(metadata, Trick::Answer(container(429)));
    fake.server.log.clear();
    let found = describe_all(&fake, &names).await;
    let limited = |f: &Result<Description, ManagerError>| {
        f.as_ref()
            .is_err_and(|error| error.fault == Fault::RateLimited)
    };
    assert!(found[..2].iter().all(Result::is_ok));
    assert!(found[2..].iter().all(limited));
    assert_eq!(fake.server.log.calls().len(), 2);
    // A list that is too large is asked for in smaller parts.
    fake.server.faults.heal();
    let large = |request: &edge_secrets_fakes::Request| request.query("limit") == Some("1000");
    fake.server.faults.when(large, Trick::Huge);
    assert!(describe_all(&fake, &names).await.iter().all(Result::is_ok));
}
