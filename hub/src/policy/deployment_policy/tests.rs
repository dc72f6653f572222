use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::definition::tests::any_document;

fn parse(text: &str) -> DeploymentPolicy {
    DeploymentPolicy::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn minimal() -> Value {
    json!({"service": {"name": "u", "org": "o", "serviceVersions": [{"version": "1.0.0"}]}})
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut document = minimal();
    change(&mut document);
    let error = DeploymentPolicy::parse(&document.to_string()).unwrap_err();
    let mut without_place = error;
    without_place.line = None;
    without_place.to_string()
}

#[test]
fn a_policy_of_open_horizon_is_taken_unchanged() {
    let text = include_str!("../fixtures/uplink.policy.json");
    let policy = parse(text);
    assert_eq!(policy.service().to_string(), "myorg/com.example.uplink");
    let references: Vec<_> = policy
        .references()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        references,
        ["cloudServiceXYZSecret", "user/alice/uplink-tls-key"]
    );
    let kept: Value = serde_json::from_str(&policy.to_json()).unwrap();
    assert_eq!(kept, serde_json::from_str::<Value>(text).unwrap());
    parse(include_str!("../fixtures/weltweit.policy.json"));
    parse(include_str!("../fixtures/hello-secret.policy.yaml"));
    assert_eq!(
        parse(include_str!("../fixtures/camera.policy.yaml"))
            .constraints()
            .len(),
        1
    );
}

#[test]
fn versions_are_tried_by_priority_and_those_without_one_last() {
    let mut document = minimal();
    let with = |version: &str, value: u64| {
        let priority = json!({"priority_value": value, "retries": value, "retry_durations": value});
        json!({"version": version, "priority": priority})
    };
    document["service"]["serviceVersions"] =
        json!([with("4", 0), with("3", 9), {"version": "5"}, with("1", 1), with("2", 1)]);
    let policy = parse(&document.to_string());
    let order: Vec<&str> = policy
        .offer
        .versions
        .iter()
        .map(|v| v.text.as_str())
        .collect();
    assert_eq!(order, ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_priority_is_whole_or_absent() {
    for priority in [
        json!({"priority_value": 1}),
        json!({"priority_value": 1, "retries": 1}),
        json!({"retries": 1}),
        json!({"priority_value": 0, "retry_durations": 5}),
    ] {
        let error = refused(|d| d["service"]["serviceVersions"][0]["priority"] = priority);
        assert!(
            error.starts_with("service.serviceVersions[0].priority: expected"),
            "{error}"
        );
    }
    let error = refused(|d| {
        d["service"]["serviceVersions"][0]["priority"] = json!({"priority_value": -1});
    });
    assert!(error.contains("priority_value: expected a whole number from 0, found the number -1"));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let missing = refused(|d| d["service"]["serviceVersions"] = json!([]));
    assert_eq!(
        missing,
        "service.serviceVersions: expected at least one version"
    );
    let missing = refused(|d| d["service"] = json!({"org": "o", "serviceVersions": []}));
    assert_eq!(missing, "service: needs the field `name`");
    let wrong = refused(|d| d["constraints"] = json!(["a == 1", "a = "]));
    assert_eq!(
        wrong,
        "constraints[1]: constraint, character 5: expected a value, found the end"
    );
    let wrong = refused(|d| d["properties"] = json!([{"name": "a", "value": 1, "type": "in"}]));
    assert!(
        wrong.starts_with("properties[0].type: has the unknown type \"in\""),
        "{wrong}"
    );
    assert!(wrong.ends_with("did you mean `int`?"), "{wrong}");
}

#[test]
fn a_single_constraint_may_stand_without_a_list() {
    let mut document = minimal();
    document["constraints"] = json!("a == 1");
    assert_eq!(parse(&document.to_string()).constraints().len(), 1);
}

proptest! {
    #[test]
    fn no_document_makes_it_panic_and_what_is_read_is_read_again(
        document in any_document(), bindings in any_document(), constraints in any_document(),
        has in any::<bool>(),
    ) {
        let mut document = document;
        if has {
            document = minimal();
            let entry = json!({"serviceOrgid": "o", "serviceUrl": "u", "secrets": bindings});
            document["secretBinding"] = json!([entry]);
            document["constraints"] = constraints;
        }
        if let Ok(policy) = DeploymentPolicy::parse(&document.to_string()) {
            let again = DeploymentPolicy::parse(&policy.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), policy.to_json());
            prop_assert_eq!(again.references(), policy.references());
        }
    }
}
