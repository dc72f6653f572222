//! From paths to secrets, and listings.

use std::collections::BTreeSet;

use edge_secrets_fakes::secret_server::SecretServer as Fake;

use super::{Pim, login, reference, with_one};
use crate::{Fault, ListQuery, SecretManager};

#[tokio::test]
async fn a_path_is_written_exactly_as_there() {
    let mut fake = Fake::new();
    fake.add("BU 44/Team (EU)", "Uplink & co", &login());
    fake.add("BU 44/Team (EU)", "Uplink & company", &login());
    fake.add("", "loose", &login());
    let pim = Pim::start(fake).await;
    for text in ["BU 44/Team (EU)/Uplink & co", "loose"] {
        pim.describe(text).await.unwrap();
        let reference = reference(text);
        assert_eq!(pim.manager.place(pim.target(&reference)).unwrap(), text);
    }
    // The manager does not mind the case; a policy over paths would.
    for text in [
        "BU 44/team (eu)/Uplink & co",
        "BU 44/Team (EU)/uplink & co",
        "BU 44/Team (EU)/Uplink",
        "Team (EU)/Uplink & co",
        "BU 44/Uplink & co",
        "BU 44/Team (EU)",
    ] {
        assert_eq!(
            pim.refusal(text).await.fault,
            Fault::NotFoundOrDenied,
            "{text}"
        );
    }
    assert_eq!(pim.server.with(|fake| fake.values_given), 0);
}

#[tokio::test]
async fn two_secrets_of_one_path_are_told_apart_by_number() {
    let (mut fake, first) = with_one(&login());
    let second = fake.add("Team", "db", &login());
    let pim = Pim::start(fake).await;
    let error = pim.refusal("Team/db").await;
    assert_eq!(error.fault, Fault::Unsupported);
    assert!(error.detail.contains("id/"), "{error}");
    let one = pim.version(&format!("id/{first}")).await;
    let two = pim.version(&format!("id/{second}")).await;
    assert_ne!(one, two);
    let query = ListQuery {
        prefix: "Team/".into(),
        ..ListQuery::default()
    };
    let numbers = [format!("id/{first}"), format!("id/{second}")];
    assert_eq!(pim.list(query).await, numbers);
}

#[tokio::test]
async fn a_secret_that_was_moved_or_renamed_has_its_old_path_no_more() {
    let (mut fake, id) = with_one(&login());
    let other = fake.folder("Other");
    let pim = Pim::start(fake).await;
    let version = pim.version("Team/db").await;
    pim.server.with(|fake| fake.secret(id).folder = other);
    assert_eq!(pim.refusal("Team/db").await.fault, Fault::NotFoundOrDenied);
    assert_eq!(pim.version("Other/db").await, version);
    pim.server.with(|fake| fake.secret(id).name = "db2".into());
    assert_eq!(pim.refusal("Other/db").await.fault, Fault::NotFoundOrDenied);
    // What stands there now is what is meant.
    let new = pim.server.with(|fake| fake.add("Other", "db", &login()));
    assert_ne!(new, id);
    assert_ne!(pim.version("Other/db").await, version);
}

#[tokio::test]
async fn a_known_path_is_not_looked_up_with_each_call() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    for _ in 0..3 {
        pim.describe("Team/db").await.unwrap();
    }
    assert_eq!((pim.calls("/folders/0"), pim.calls("/secrets")), (1, 1));
}

#[tokio::test]
async fn listings_are_whole_and_every_entry_is_a_reference() {
    let mut fake = Fake::new();
    fake.page = 3;
    for at in 0..7 {
        fake.folder(&format!("Team/Sub-{at}"));
        fake.add("Team", &format!("db-{at}"), &login());
    }
    let odd = fake.add("Team", "odd#name", &login());
    fake.folder("Team/odd:folder");
    fake.add("Team/Sub-0", "below", &login());
    fake.folder("Else");
    let pim = Pim::start(fake).await;
    let query = |prefix: &str, search: Option<&str>| ListQuery {
        prefix: prefix.to_owned(),
        search: search.map(str::to_owned),
        ..ListQuery::default()
    };
    assert_eq!(pim.list(query("", None)).await, ["Team/", "Else/"]);
    let listed = pim.list(query("Team/", None)).await;
    let mut expected: BTreeSet<_> = (0..7).map(|at| format!("Team/Sub-{at}/")).collect();
    expected.extend((0..7).map(|at| format!("Team/db-{at}")));
    expected.insert(format!("id/{odd}"));
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), expected);
    for path in listed.iter().filter(|path| !path.ends_with('/')) {
        pim.describe(path).await.unwrap();
    }
    assert_eq!(
        pim.list(query("", Some("BELOW"))).await,
        ["Team/Sub-0/below"]
    );
    assert_eq!(pim.list(query("Team", Some("db-"))).await.len(), 7);
    assert_eq!(pim.list(query("Else/", Some("db-"))).await.len(), 0);
    assert_eq!(pim.server.with(|fake| fake.values_given), 0);
}

#[tokio::test]
async fn a_page_of_another_listing_is_refused() {
    let pim = Pim::start(Fake::new()).await;
    for (search, page) in [
        (None, "found-0"),
        (Some("x"), "folders-0"),
        (None, "7"),
        (None, ""),
    ] {
        let query = ListQuery {
            search: search.map(str::to_owned),
            page: Some(page.to_owned()),
            ..ListQuery::default()
        };
        let error = pim.manager.list(&pim.org, &query).await.unwrap_err();
        assert_eq!(error.fault, Fault::Invalid, "{page}");
    }
}
