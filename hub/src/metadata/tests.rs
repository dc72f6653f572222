use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn change(json: Value) -> Result<MetaChange, serde_json::Error> {
    serde_json::from_value(json)
}

#[test]
fn labels_are_bounded_and_each_is_there_once() {
    for good in ["ab", "team/eu:db-1", "cost centre 7", &"x".repeat(64)] {
        assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
    }
    for bad in [
        "",
        "a",
        &"x".repeat(65),
        " ab",
        "ab ",
        "a,b",
        "a\nb",
        "ä1",
        "a\0b",
    ] {
        assert!(bad.parse::<Label>().is_err(), "{bad:?}");
    }
    let labels: Labels = "prod,db,prod".parse().unwrap();
    assert_eq!(labels.to_string(), "db,prod");
    assert!(labels.hold(&"db".parse().unwrap()) && labels.hold(&Labels::default()));
    assert!(!labels.hold(&"db,dev".parse().unwrap()));
    let many = |count| -> Vec<Label> {
        let names = (0..count).map(|n| format!("l{n}"));
        names.map(|name| name.parse().unwrap()).collect()
    };
    assert!(Labels::try_from(many(30)).is_ok());
    let refused = Labels::try_from(many(31)).unwrap_err();
    assert!(refused.to_string().contains("more than 30"), "{refused}");
}

#[test]
fn the_other_bounds_are_kept_and_said() {
    assert!("ü".repeat(1024).parse::<Description>().is_ok());
    for bad in ["x".repeat(1025), "a\u{1b}[2J".into(), "a\nb".into()] {
        let refused = bad.parse::<Description>().unwrap_err();
        assert!(refused.to_string().contains("1024"), "{refused}");
    }
    for (text, fits) in [
        ("1", true),
        ("1000", true),
        ("0", false),
        ("1001", false),
        ("x", false),
    ] {
        assert_eq!(text.parse::<MaxVersions>().is_ok(), fits, "{text}");
    }
    let every = |seconds| RotateEvery::try_from(Duration::from_secs(seconds));
    assert!(every(60).is_ok() && every(3660 * DAY).is_ok());
    assert!(every(59).is_err() && every(3660 * DAY + 1).is_err());
    assert_eq!(every(90 * DAY).unwrap().to_string(), "90d");
    assert_eq!(every(DAY + 3600 + 61).unwrap().to_string(), "1d1h1m1s");
}

#[test]
fn what_a_change_leaves_out_stays_and_null_takes_away() {
    let all = json!({
        "labels": ["prod"], "description": "the database", "max_versions": 3,
        "expires_at": "2026-03-01T12:00:00Z", "rotate_every_seconds": 3600,
    });
    let meta = change(all.clone())
        .unwrap()
        .applied_to(&SecretMeta::default());
    assert_eq!(serde_json::to_value(&meta).unwrap(), all);
    let nothing = change(json!({})).unwrap();
    assert!(nothing.is_empty());
    assert_eq!(
        (nothing.applied_to(&meta), nothing.to_string()),
        (meta.clone(), String::new())
    );
    let undo = json!({
        "labels": [], "description": "", "max_versions": null,
        "expires_at": null, "rotate_every_seconds": null,
    });
    let undo = change(undo.clone()).inspect(|change| {
        assert_eq!(serde_json::to_value(change).unwrap(), undo);
    });
    let undo = undo.unwrap();
    assert_eq!(undo.applied_to(&meta), SecretMeta::default());
    let words = "no labels, no description, expires never, keeps all versions, no rotation";
    assert_eq!(undo.to_string(), words);
    let words = "labels prod, another description, expires 2026-03-01T12:00:00Z, \
                 keeps 3 versions, rotation every 1h";
    assert_eq!(change(all).unwrap().to_string(), words);
}

#[test]
fn an_end_and_a_reminder_are_at_their_time() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let end = at("2026-03-01T12:00:00Z");
    let meta = SecretMeta {
        expires_at: Some(end),
        rotate_every: Some(RotateEvery::try_from(DAY).unwrap()),
        ..SecretMeta::default()
    };
    assert!(meta.has_ended(end) && !meta.has_ended(at("2026-03-01T11:59:59Z")));
    assert_eq!(meta.rotation_due_at(end), Some(at("2026-03-02T12:00:00Z")));
    assert_eq!(meta.rotation_due_at(Timestamp::MAX), Some(Timestamp::MAX));
    assert_eq!(SecretMeta::default().rotation_due_at(end), None);
    assert!(!SecretMeta::default().has_ended(end));
}

proptest! {
    #[test]
    fn foreign_text_never_panics(text in "\\PC{0,80}") {
        if let Ok(labels) = text.parse::<Labels>() {
            let again: Labels = labels.to_string().parse().unwrap();
            prop_assert_eq!(labels, again);
        }
        text.parse::<Description>().ok();
        text.parse::<MaxVersions>().ok();
    }
}
