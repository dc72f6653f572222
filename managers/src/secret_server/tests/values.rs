//! Values and their versions.

use std::sync::atomic::{AtomicUsize, Ordering};

use edge_secrets_fakes::secret_server::{Item, ItemKind, SecretServer as Fake};
use edge_secrets_fakes::{Fault as Trick, Request, Response};
use serde_json::json;

use super::{PASSWORD, Pim, fault, field, login, reference, shown, with_one};
use crate::{Fault, SecretManager};

#[tokio::test]
async fn all_fields_are_given_by_their_slugs() {
    let (mut fake, id) = with_one(&[
        Item::text("username", "svc"),
        Item::password("password", PASSWORD),
        Item::text("notes", ""),
        Item::file("private-key", b"\x00\xffkey"),
        Item::new("public-key", b"", ItemKind::NoFile),
    ]);
    fake.secret(id).hides_passwords = true;
    let pim = Pim::start(fake).await;
    let payload = pim.read("Team/db").await.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        shown(&payload),
        [
            pair("notes", ""),
            pair("password", PASSWORD),
            pair("private-key", "\0\u{fffd}key"),
            pair("username", "svc"),
        ]
    );
    let by_number = pim.read(&format!("id/{id}")).await.unwrap();
    assert!(by_number.expose() == payload.expose());
}

#[tokio::test]
async fn a_slug_that_can_be_no_field_is_named() {
    for slug in ["a b", "..", "x/y", ""] {
        let (fake, _) = with_one(&[Item::file(slug, PASSWORD.as_bytes())]);
        let pim = Pim::start(fake).await;
        let error = pim.read("Team/db").await.err().unwrap();
        assert_eq!(error.fault, Fault::Unsupported, "{slug}");
        assert!(
            error.detail.contains(slug) && !error.detail.contains("canary"),
            "{error}"
        );
        // It never stood in an address.
        assert_eq!(
            pim.server.log.count(|call| call.path.contains("/fields/")),
            0
        );
    }
}

#[tokio::test]
async fn a_newer_server_without_the_old_call_is_read_too() {
    let (mut fake, _) = with_one(&login());
    fake.has_v1_read = false;
    let pim = Pim::start(fake).await;
    let payload = pim.read("Team/db").await.unwrap();
    assert_eq!(field(&payload, "password"), PASSWORD);
}

#[tokio::test]
async fn an_edit_by_hand_is_a_new_version_and_a_look_is_none() {
    let (fake, id) = with_one(&login());
    let pim = Pim::start(fake).await;
    let first = pim.version("Team/db").await;
    for action in ["VIEW", "LAUNCH", "HEARTBEAT", "CHECK OUT"] {
        let now = pim.server.clock.now();
        pim.server.with(|fake| fake.note(id, action, now));
        assert_eq!(pim.version("Team/db").await, first, "{action}");
    }
    for _ in 0..3 {
        pim.read("Team/db").await.unwrap();
    }
    assert_eq!(pim.version("Team/db").await, first);
    let now = pim.server.clock.now();
    pim.server
        .with(|fake| fake.edit(id, "password", "canary-second", now));
    let second = pim.version("Team/db").await;
    assert_ne!(second, first);
    assert_eq!(
        field(&pim.read("Team/db").await.unwrap(), "password"),
        "canary-second"
    );
    let reference = reference("Team/db");
    let old = pim.manager.read(pim.target(&reference), &first).await;
    assert_eq!(fault(old), Fault::Superseded);
}

#[tokio::test]
async fn an_edit_is_found_under_many_looks_and_only_what_is_new_is_read() {
    let (mut fake, id) = with_one(&login());
    let now = jiff::Timestamp::now();
    fake.page = 100;
    fake.edit(id, "password", "canary-second", now);
    for _ in 0..450 {
        fake.note(id, "VIEW", now);
    }
    let pim = Pim::start(fake).await;
    let first = pim.version("Team/db").await;
    assert_eq!(pim.calls("/audits"), 5);
    assert_eq!(pim.version("Team/db").await, first);
    assert_eq!(pim.calls("/audits"), 6);
    // Another hub, which has seen nothing yet, says the same; so does one that sees them unsorted.
    let unsorted = |request: &Request| request.query("sortBy[0].direction").is_some();
    let other = Pim::start({
        let mut fake = Fake::new();
        fake.add("Team", "db", &login());
        fake.edit(id, "password", "canary-second", now);
        fake
    })
    .await;
    assert_eq!(other.version("Team/db").await, first);
    let page = json!({"records": [{"id": 2, "action": "EDIT"}, {"id": 3, "action": "VIEW"}],
        "hasNext": false, "nextSkip": 0});
    let third = Pim::start(with_one(&login()).0).await;
    third
        .server
        .faults
        .when(unsorted, Trick::Answer(Response::json(200, &page)));
    assert_eq!(third.version("Team/db").await, first);
}

#[tokio::test]
async fn without_the_audit_only_the_managers_own_changes_are_seen() {
    let (mut fake, id) = with_one(&login());
    fake.audits_permitted = false;
    let pim = Pim::start(fake).await;
    let described = pim.describe("Team/db").await.unwrap();
    assert!(
        described.notes.iter().any(|note| note.contains("audit")),
        "{described:?}"
    );
    let first = described.version.unwrap();
    let now = pim.server.clock.now();
    pim.server
        .with(|fake| fake.edit(id, "password", "canary-second", now));
    assert_eq!(pim.version("Team/db").await, first);
    pim.server
        .with(|fake| fake.rotate(id, "password", "canary-third", now));
    assert_ne!(pim.version("Team/db").await, first);
    // It is not asked for again and again.
    assert_eq!(pim.calls("/audits"), 1);
    // An empty one is one that may not be seen.
    let pim = Pim::start(with_one(&login()).0).await;
    let described = pim.describe("Team/db").await.unwrap();
    assert!(described.notes.is_empty(), "{described:?}");
    let pim = Pim::start(with_one(&login()).0).await;
    let audits = |request: &Request| request.path.ends_with("/audits");
    let empty = Response::json(200, &json!({"records": [], "hasNext": false}));
    pim.server.faults.when(audits, Trick::Answer(empty));
    let unseen = pim.describe("Team/db").await.unwrap();
    assert!(!unseen.notes.is_empty());
    assert_eq!(unseen.version, described.version);
}

#[tokio::test]
async fn what_changes_while_it_is_read_is_superseded() {
    let (fake, id) = with_one(&login());
    let pim = Pim::start(fake).await;
    let version = pim.version("Team/db").await;
    let looks = AtomicUsize::new(0);
    let second = move |request: &Request| {
        request.path.ends_with("/summary") && looks.fetch_add(1, Ordering::SeqCst) == 1
    };
    let moved = json!({"id": id, "name": "db", "folderId": 100, "active": true,
        "lastPasswordChangeAttempt": "2026-01-02T03:04:05.678"});
    pim.server
        .faults
        .when(second, Trick::Answer(Response::json(200, &moved)));
    let reference = reference("Team/db");
    let read = pim.manager.read(pim.target(&reference), &version).await;
    assert_eq!(fault(read), Fault::Superseded);
    assert_eq!(pim.server.with(|fake| fake.values_given), 1);
}

#[tokio::test]
async fn the_answer_for_another_secret_is_none() {
    let (fake, id) = with_one(&login());
    let pim = Pim::start(fake).await;
    let body = json!({"id": id + 1, "items": [{"slug": "password", "itemValue": PASSWORD}]});
    let whole = move |request: &Request| request.path.ends_with(&format!("/secrets/{id}"));
    pim.server
        .faults
        .when(whole, Trick::Answer(Response::json(200, &body)));
    assert_eq!(fault(pim.read("Team/db").await), Fault::Malformed);
}
