use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::definition::tests::any_document;

fn parse(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn minimal() -> Value {
    json!({"services": [{
        "serviceUrl": "u", "serviceOrgid": "o", "serviceVersions": [{"version": "1.0.0"}],
    }]})
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut document = minimal();
    change(&mut document);
    let mut error = Pattern::parse(&document.to_string()).unwrap_err();
    error.line = None;
    error.to_string()
}

#[test]
fn a_pattern_of_open_horizon_is_taken_unchanged() {
    let text = include_str!("../fixtures/edge.pattern.json");
    let pattern = parse(text);
    assert_eq!(pattern.name().map(PatternName::as_str), Some("edge"));
    assert!(pattern.is_public());
    let services: Vec<_> = pattern.services().iter().map(ToString::to_string).collect();
    assert_eq!(
        services,
        ["myorg/com.example.uplink", "myorg/com.example.gps"]
    );
    let references: Vec<_> = pattern
        .references()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(references, ["cloudServiceXYZSecret", "gpsToken"]);
    assert_eq!(pattern.agreement_less()[0].place, "services[3]");
    // Of one service for two architectures there are two entries.
    let places: Vec<_> = pattern
        .terms()
        .map(|terms| terms.offer.place.clone())
        .collect();
    assert_eq!(places, ["services[0]", "services[1]", "services[2]"]);
    let kept: Value = serde_json::from_str(&pattern.to_json()).unwrap();
    assert_eq!(kept, serde_json::from_str::<Value>(text).unwrap());
    parse(include_str!("../../../../examples/uplink/pattern.json"));
}

#[test]
fn yaml_is_read_with_the_line_and_column_of_a_fault() {
    let text = "services:\n  - serviceUrl: u\n    serviceOrgid: o\n    serviceVersions:\n      - version: one\n";
    let error = Pattern::parse(text).unwrap_err();
    assert_eq!(error.path, "services[0].serviceVersions[0].version");
    assert_eq!(error.line, Some(5), "{error}");
    assert_eq!(parse(&text.replace("one", "1.0.0")).services().len(), 1);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    assert_eq!(refused(|d| *d = json!({})), "needs the field `services`");
    assert_eq!(
        refused(|d| d["services"] = json!([])),
        "services: expected at least one service"
    );
    let many = vec![minimal()["services"][0].clone(); 257];
    assert_eq!(
        refused(|d| d["services"] = many.into()),
        "services[256]: is one service too many: 256 may be"
    );
    let wrong: [(&str, Value, &str); 9] = [
        (
            "serviceUrl",
            Value::Null,
            "services[0]: needs the field `serviceUrl`",
        ),
        ("serviceOrgid", json!("a b"), "services[0].serviceOrgid: "),
        (
            "serviceArch",
            json!(1),
            "services[0].serviceArch: expected a text",
        ),
        (
            "serviceVersions",
            json!([]),
            "services[0].serviceVersions: expected at least one",
        ),
        (
            "serviceVersions",
            json!([{"version": "1", "priority": {"priority_value": 1}}]),
            "services[0].serviceVersions[0].priority: expected",
        ),
        (
            "agreementLess",
            json!("no"),
            "services[0].agreementLess: expected `true` or `false`",
        ),
        (
            "nodeHealth",
            json!({"missing_heartbeat_interval": -1}),
            "services[0].nodeHealth.",
        ),
        (
            "dataVerification",
            json!({"enabled": 1}),
            "services[0].dataVerification.enabled: ",
        ),
        (
            "dataVerification",
            json!([]),
            "services[0].dataVerification: expected a map",
        ),
    ];
    for (name, value, expected) in wrong {
        let error = refused(|d| d["services"][0][name] = value);
        assert!(error.starts_with(expected), "{error}");
    }
    let wrong: [(&str, Value, &str); 8] = [
        ("name", json!("a/b"), "name: pattern \"a/b\""),
        ("org", json!("a b"), "org: organisation"),
        (
            "public",
            json!("true"),
            "public: expected `true` or `false`",
        ),
        ("label", json!([]), "label: expected a text"),
        (
            "clusterNamespace",
            json!(3),
            "clusterNamespace: expected a text",
        ),
        (
            "agreementProtocols",
            json!([{"name": "Basik"}]),
            "agreementProtocols[0].name: expected",
        ),
        (
            "userInput",
            json!([{"serviceUrl": "u"}]),
            "userInput[0]: needs the field",
        ),
        (
            "secretBinding",
            json!([{"serviceOrgid": "o", "serviceUrl": "u", "secrets": [{"a": "x"}, {"a": "y"}]}]),
            "secretBinding[0].secrets[1]: binds a to y",
        ),
    ];
    for (name, value, expected) in wrong {
        let error = refused(|d| d[name] = value);
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(
        refused(|d| d["agreementProtocols"] = json!([{"name": "Basik"}])).contains("did you mean")
    );
}

proptest! {
    #[test]
    fn no_document_makes_it_panic_and_what_is_read_is_read_again(
        document in any_document(), bindings in any_document(), service in any_document(),
        has in any::<bool>(),
    ) {
        let mut document = document;
        if has {
            document = minimal();
            let entry = json!({"serviceOrgid": "o", "serviceUrl": "u", "secrets": bindings});
            document["secretBinding"] = json!([entry]);
            document["services"][0]["nodeHealth"] = service;
        }
        if let Ok(pattern) = Pattern::parse(&document.to_string()) {
            let again = Pattern::parse(&pattern.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), pattern.to_json());
            prop_assert_eq!(again.references(), pattern.references());
            prop_assert_eq!(again.services(), pattern.services());
        }
    }
}
