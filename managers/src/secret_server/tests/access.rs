//! What stands before a secret's values.

use std::time::Duration;

use edge_secrets_fakes::secret_server::{OTHER_USER, SecretServer as Fake, Stored};
use http::Method;

use super::{Allow, PASSWORD, Pim, fault, field, login, reference, with_one};
use crate::{Fault, ListQuery, SecretManager};

async fn with(change: impl FnOnce(&mut Stored), allow: Allow) -> Pim {
    let (mut fake, id) = with_one(&login());
    change(fake.secret(id));
    Pim::allowing(fake, allow).await
}

#[tokio::test]
async fn every_state_has_its_answer() {
    for (name, expected) in [
        ("RequiresApproval", Fault::NeedsApproval),
        ("RequiresDoubleLockPassword", Fault::Unsupported),
        ("CreateDoubleLockPassword", Fault::Unsupported),
        ("DoubleLockNoAccess", Fault::Unsupported),
        ("CannotView", Fault::NotFoundOrDenied),
        ("RequiresUndelete", Fault::NotFoundOrDenied),
        ("RequiresCheckoutPendingRPC", Fault::NeedsCheckout),
        ("RequiresCheckoutAndComment", Fault::NeedsCheckout),
        ("RequiresCheckout", Fault::NeedsCheckout),
        ("RequiresComment", Fault::NeedsComment),
    ] {
        let pim = with(
            |secret| secret.state_override = Some(name),
            Allow::default(),
        )
        .await;
        assert_eq!(pim.refusal("Team/db").await.fault, expected, "{name}");
        assert_eq!(pim.server.with(|fake| fake.values_given), 0, "{name}");
    }
    let pim = with(|secret| secret.wants_approval = true, Allow::default()).await;
    let error = pim.refusal("Team/db").await;
    assert!(error.detail.contains("approver"), "{error}");
    assert_eq!(fault(pim.mint("Team/db").await), Fault::NeedsApproval);
    // Nobody is asked on the hub's behalf.
    assert_eq!(
        pim.server
            .log
            .count(|call| call.path.contains("access-requests")),
        0
    );
}

#[tokio::test]
async fn what_is_absent_and_what_is_denied_have_one_answer() {
    let mut fake = Fake::new();
    let seen = fake.add("Team", "seen", &login());
    let hidden = fake.add("Team", "hidden", &login());
    fake.secret(hidden).visible = false;
    fake.add("Closed", "db", &login());
    let closed = fake.folder("Closed");
    fake.show_folder(closed, false);
    let pim = Pim::start(fake).await;
    let absent = pim.refusal("Team/absent").await;
    assert_eq!(absent.fault, Fault::NotFoundOrDenied);
    assert!(!absent.fault.is_absence() && !absent.fault.is_transient());
    let (hidden, none) = (format!("id/{hidden}"), format!("id/{}", seen + 100));
    for text in [
        "Team/hidden",
        "Closed/db",
        "Absent/db",
        "absent",
        &hidden,
        &none,
    ] {
        assert_eq!(pim.refusal(text).await, absent, "{text}");
    }
    // Also for what was there a moment ago.
    pim.describe("Team/seen").await.unwrap();
    pim.server.with(|fake| fake.secret(seen).visible = false);
    assert_eq!(pim.refusal("Team/seen").await, absent);
}

#[tokio::test]
async fn an_outright_deactivation_is_a_deletion() {
    let (fake, id) = with_one(&login());
    let pim = Pim::start(fake).await;
    pim.describe("Team/db").await.unwrap();
    pim.server.with(|fake| fake.secret(id).active = false);
    for _ in 0..2 {
        assert_eq!(pim.refusal("Team/db").await.fault, Fault::Deleted);
        assert_eq!(pim.refusal(&format!("id/{id}")).await.fault, Fault::Deleted);
    }
    // Another one under its name is another secret.
    pim.server.with(|fake| fake.add("Team", "db", &login()));
    pim.describe("Team/db").await.unwrap();
}

#[tokio::test]
async fn a_comment_is_given_where_one_is_wanted_and_nowhere_else() {
    let allow = || Allow {
        comment: Some("edge delivery"),
        checkout: false,
    };
    let pim = with(|secret| secret.wants_comment = true, Allow::default()).await;
    let error = pim.refusal("Team/db").await;
    assert_eq!(error.fault, Fault::NeedsComment);
    assert!(error.detail.contains("`comment`"), "{error}");

    let hidden =
        |secret: &mut Stored| (secret.wants_comment, secret.hides_passwords) = (true, true);
    let pim = with(hidden, allow()).await;
    let payload = pim.read("Team/db").await.unwrap();
    assert_eq!(field(&payload, "password"), PASSWORD);
    assert_eq!(
        (
            pim.calls("/restricted"),
            pim.calls("/restricted/fields/password")
        ),
        (1, 1)
    );

    let pim = with(|_| {}, allow()).await;
    pim.read("Team/db").await.unwrap();
    assert_eq!(pim.calls("/restricted"), 0);
}

#[tokio::test]
async fn nothing_but_a_check_out_checks_out() {
    let mut fake = Fake::new();
    let plain = fake.add("Team", "plain", &login());
    fake.secret(plain).hides_passwords = true;
    let commented = fake.add("Team", "commented", &login());
    (
        fake.secret(commented).wants_comment,
        fake.secret(commented).hides_passwords,
    ) = (true, true);
    let exclusive = fake.add("Team", "exclusive", &login());
    fake.secret(exclusive).checkout = Some(Duration::from_secs(1800));
    fake.secret(exclusive).hides_passwords = true;
    let allow = Allow {
        comment: Some("edge delivery"),
        checkout: true,
    };
    let pim = Pim::allowing(fake, allow).await;
    pim.manager.health().await.unwrap();
    for text in [
        "Team/plain",
        "Team/commented",
        "Team/exclusive",
        "Team/absent",
    ] {
        let reference = reference(text);
        let target = pim.target(&reference);
        pim.manager.describe(target).await.ok();
        pim.manager.versions(target).await.ok();
        let version = "s0".parse().unwrap();
        pim.manager.read(target, &version).await.err().unwrap();
    }
    pim.read("Team/plain").await.unwrap();
    pim.read("Team/commented").await.unwrap();
    let query = ListQuery {
        prefix: "Team/".into(),
        ..ListQuery::default()
    };
    pim.list(query).await;
    assert_eq!(pim.server.with(|fake| fake.checkouts), 0);
    let minted = pim.mint("Team/exclusive").await.unwrap();
    assert_eq!(pim.server.with(|fake| fake.checkouts), 1);
    pim.manager
        .renew(&minted.handle, Duration::from_secs(3600))
        .await
        .unwrap();
    pim.manager.revoke(&minted.handle).await.unwrap();
    assert_eq!(pim.server.with(|fake| fake.checkouts), 1);

    let mut reads = 0;
    for call in pim.server.log.calls() {
        let parts: Vec<_> = call.path.split('/').skip(4).collect();
        let is_read = match parts.as_slice() {
            ["secrets", id] => id.parse::<u64>().is_ok(),
            ["secrets", _, "restricted", ..] | ["secrets", _, "fields", _] => true,
            _ => false,
        };
        let says = call
            .query
            .contains(&("noAutoCheckout".into(), "true".into()));
        assert_eq!(is_read, says, "{call:?}");
        assert!(
            !call.query.iter().any(|(name, _)| name == "secretPath"),
            "{call:?}"
        );
        assert!(!is_read || call.method == Method::GET || call.path.contains("restricted"));
        reads += usize::from(is_read);
    }
    assert_eq!(reads, 6);
}

#[tokio::test]
async fn what_somebody_else_has_is_busy_until_then() {
    let taken = |secret: &mut Stored| {
        secret.checkout = Some(Duration::from_secs(1800));
        let until = jiff::Timestamp::now() + Duration::from_secs(17 * 60 + 30);
        secret.checked_out = Some((OTHER_USER, until));
    };
    let pim = with(taken, Allow::default()).await;
    assert_eq!(pim.refusal("Team/db").await.fault, Fault::NeedsCheckout);
    let allow = Allow {
        comment: None,
        checkout: true,
    };
    let pim = with(taken, allow).await;
    for error in [
        pim.refusal("Team/db").await,
        pim.mint("Team/db").await.err().unwrap(),
    ] {
        assert_eq!(error.fault, Fault::Busy);
        assert!(error.detail.contains("17 min"), "{error}");
        assert_eq!(error.retry_after, Some(Duration::from_secs(17 * 60)));
    }
    assert_eq!(pim.calls("/check-out"), 0);
}
