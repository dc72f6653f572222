//! The hub is held to `protocol/openapi.yaml`, and the other way round.

use std::collections::BTreeSet;

use super::*;
use crate::api::node::calls;

const DESCRIPTION: &str = include_str!("../../../../../protocol/openapi.yaml");

fn description() -> Value {
    serde_yaml::from_str(DESCRIPTION).unwrap()
}

/// Every operation: method, path, and what is said of it.
fn operations(description: &Value) -> Vec<(String, String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.clone(), path.clone(), operation));
        }
    }
    operations
}

/// What a `$ref` leads to.
fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => description.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

#[test]
fn the_router_has_every_call_described_and_no_other() {
    let description = description();
    let described: BTreeSet<_> = operations(&description)
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let routed: BTreeSet<_> = calls()
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(described, routed);
    assert_eq!(routed.len(), 7);
}

#[tokio::test]
async fn every_path_answers_its_own_method_and_refuses_the_others() {
    let world = World::new().await;
    let routed = calls();
    for (_, path, _) in &routed {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = world.send(&anonymous(), method, path, &json!({})).await;
            let problem = answer.problem();
            let lower = method.to_lowercase();
            let known = routed.iter().any(|(m, p, _)| *m == lower && p == path);
            // Without a certificate and with an empty body every known call is refused by itself.
            let expected: &[Code] = if known {
                &[Code::Denied, Code::BadRequest]
            } else {
                &[Code::MethodNotAllowed]
            };
            assert!(
                expected.contains(&problem.code),
                "{method} {path}: {problem}"
            );
        }
    }
    let elsewhere = world.get(&anonymous(), "/v1/enroll/x").await.problem();
    assert_eq!(elsewhere.code, Code::NotFound);
}

#[test]
fn every_error_is_described_as_a_problem_with_a_code_of_that_status() {
    let description = description();
    let codes: Vec<Code> = serde_json::from_value(
        description["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone(),
    )
    .unwrap();
    assert!(
        !codes.contains(&Code::Unknown),
        "a described code is not one"
    );
    for (method, path, operation) in operations(&description) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let number: u16 = status.parse().unwrap();
            let response = resolve(&description, response);
            if number < 400 {
                continue;
            }
            let content = response["content"].as_object().unwrap();
            let types: Vec<_> = content.keys().map(String::as_str).collect();
            assert_eq!(types, [CONTENT_TYPE], "{method} {path} {status}");
            let said = response["description"].as_str().unwrap();
            let named: Vec<_> = codes
                .iter()
                .filter(|code| said.contains(&format!("`{code}`")))
                .collect();
            assert!(!named.is_empty(), "{method} {path} {status}: {said}");
            for code in named {
                assert_eq!(code.status(), number, "{method} {path}: {code}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(description: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                resolve(description, value);
                map.values().for_each(|value| walk(description, value));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(description, value)),
            _ => {}
        }
    }
    let description = description();
    walk(&description, &description);
}

/// What the types write stands in the description, and what it requires is written.
#[tokio::test]
async fn answers_have_the_fields_that_are_described() {
    let (world, node) = World::deployed().await;
    let description = description();
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let conforms = |schema: &str, value: &Value| {
        let schema = &description["components"]["schemas"][schema];
        let described = keys(&schema["properties"]);
        let written = keys(value);
        assert!(written.is_subset(&described), "{written:?} {described:?}");
        for required in schema["required"].as_array().unwrap() {
            assert!(
                written.contains(required.as_str().unwrap()),
                "{required} {written:?}"
            );
        }
    };
    conforms("Identity", &serde_json::to_value(&node.identity).unwrap());
    let bindings: Value = world
        .get(&node.connected, routes::BINDINGS)
        .await
        .ok()
        .json();
    conforms("Bindings", &bindings);
    let deployment = &bindings["deployments"][0];
    conforms("Deployment", deployment);
    conforms("BoundSecret", &deployment["secrets"][0]);
    conforms("Consumer", &deployment["consumers"][0]);
    let version = &deployment["secrets"][0]["version"];
    let item = json!({"service": deployment["service"], "name": "cred", "version": version});
    let wanted = json!({ "items": [item] });
    let fetched = world
        .send(&node.connected, "POST", routes::SECRETS, &wanted)
        .await;
    let fetched: Value = fetched.ok().json();
    conforms("FetchResponse", &fetched);
    conforms("Sealed", &fetched["items"][0]["sealed"]);
    let refused = world.get(&anonymous(), routes::BINDINGS).await.problem();
    conforms("Problem", &serde_json::to_value(refused).unwrap());
}
