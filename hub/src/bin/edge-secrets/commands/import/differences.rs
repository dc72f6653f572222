//! What stands in a document and has no effect here, each with its reason. The hub keeps it all the
//! same: a document comes back as it was written.

use serde::Serialize;
use serde_json::Value;

use super::recognise::Kind;

/// A field that has no effect here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// The first place where it stands, like `services[0].nodeHealth`.
    pub(super) field: String,
    /// At how many more places it stands.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) more: usize,
    /// Why it has none.
    pub(super) reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Everything in a document that says something and has no effect.
pub(super) fn differences(kind: Kind, root: &Value) -> Vec<Difference> {
    let rules = match kind {
        Kind::Service => SERVICE,
        Kind::Policy => POLICY,
        Kind::Pattern => PATTERN,
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for (path, reason) in rules {
        let mut places = Vec::new();
        let steps: Vec<&str> = path.split('.').collect();
        places_of(root, &steps, String::new(), &mut places);
        if let Some(field) = places.first() {
            found.push(Difference {
                field: field.clone(),
                more: places.len() - 1,
                reason: (*reason).to_owned(),
            });
        }
    }
    found
}

/// Where a path leads to something; `*` is every item of a list and every entry of a map.
fn places_of(value: &Value, steps: &[&str], at: String, places: &mut Vec<String>) {
    let Some((step, rest)) = steps.split_first() else {
        if says_something(value) {
            places.push(at);
        }
        return;
    };
    let dot = if at.is_empty() { "" } else { "." };
    match value {
        Value::Array(items) if *step == "*" => {
            for (index, item) in items.iter().enumerate() {
                places_of(item, rest, format!("{at}[{index}]"), places);
            }
        }
        Value::Object(entries) if *step == "*" => {
            for (key, entry) in entries {
                places_of(entry, rest, format!("{at}{dot}{key}"), places);
            }
        }
        Value::Object(entries) => {
            if let Some(entry) = entries.get(*step) {
                places_of(entry, rest, format!("{at}{dot}{step}"), places);
            }
        }
        _ => {}
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(says_something),
        Value::Object(entries) => entries.values().any(says_something),
    }
}

const STARTED_BY_YOU: &str = "containers are started by you or your units, not by the agent: see \
                              docs/containers.md";
const NO_INPUT: &str = "a service's configuration is not delivered, its secrets are";
const NO_HEARTBEAT: &str = "a deployment does not end when its node is silent: what it has stays until it \
                            ends or the node is revoked";
const NO_UPGRADE: &str =
    "the version is the deployed one; when containers are exchanged is yours to say";
const NO_CLUSTER: &str = "nodes here are machines, not clusters";
const NO_SIGNATURE: &str =
    "who published it is known by certificate, and the container's image is yours";
const NO_RETRIES: &str = "the priority decides which version comes first; a version is not given up after \
                          failures, only where it does not fit";

const SERVICE: &[(&str, &str)] = &[
    (
        "matchHardware",
        "say what hardware is needed by properties and constraints",
    ),
    ("userInput", NO_INPUT),
    ("deploymentSignature", NO_SIGNATURE),
    ("clusterDeployment", NO_CLUSTER),
    ("clusterDeploymentSignature", NO_CLUSTER),
    ("deployment.services.*.image", STARTED_BY_YOU),
];
const POLICY: &[(&str, &str)] = &[
    ("service.clusterNamespace", NO_CLUSTER),
    ("service.nodeHealth", NO_HEARTBEAT),
    ("service.serviceVersions.*.upgradePolicy", NO_UPGRADE),
    ("service.serviceVersions.*.priority.retries", NO_RETRIES),
    ("userInput", NO_INPUT),
];
const PATTERN: &[(&str, &str)] = &[
    ("clusterNamespace", NO_CLUSTER),
    ("services.*.nodeHealth", NO_HEARTBEAT),
    ("services.*.dataVerification", "there is no metering"),
    ("services.*.serviceVersions.*.upgradePolicy", NO_UPGRADE),
    ("services.*.serviceVersions.*.priority.retries", NO_RETRIES),
    (
        "services.*.serviceVersions.*.deployment_overrides",
        STARTED_BY_YOU,
    ),
    (
        "services.*.serviceVersions.*.deployment_overrides_signature",
        NO_SIGNATURE,
    ),
    ("userInput", NO_INPUT),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(kind: Kind, root: &Value) -> Vec<String> {
        differences(kind, root)
            .into_iter()
            .map(|difference| difference.field)
            .collect()
    }

    #[test]
    fn what_says_something_and_has_no_effect_is_named() {
        let policy = json!({
            "label": "x", "userInput": [], "secretBinding": [],
            "service": {
                "name": "a", "nodeHealth": {"missing_heartbeat_interval": 0},
                "serviceVersions": [
                    {"version": "1", "upgradePolicy": {}},
                    {"version": "2", "priority": {"priority_value": 2, "retries": 2}},
                    {"version": "3", "priority": {"priority_value": 3, "retries": 1}},
                ],
            },
        });
        let found = differences(Kind::Policy, &policy);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].field,
            "service.serviceVersions[1].priority.retries"
        );
        assert_eq!(found[0].more, 1);
        let service = json!({
            "url": "a", "matchHardware": {}, "clusterDeployment": "", "deploymentSignature": "abc",
            "deployment": {"services": {"one": {"image": "x"}, "two": {}}},
        });
        assert_eq!(
            fields(Kind::Service, &service),
            ["deploymentSignature", "deployment.services.one.image"]
        );
        let pattern = json!({"services": [{"serviceUrl": "a", "nodeHealth": {"x": 1}}]});
        assert_eq!(fields(Kind::Pattern, &pattern), ["services[0].nodeHealth"]);
    }

    proptest! {
        #[test]
        fn foreign_keys_never_panic(key in "\\PC{0,12}") {
            differences(Kind::Service, &json!({key: [{"x": 1}]}));
        }
    }
}
