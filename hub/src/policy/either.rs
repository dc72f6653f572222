//! A node is on a pattern or on policies, never both.

use serde_json::Value;

/// Where a node policy says something about deployments; `None` when it says nothing of the kind, as one
/// that is only for the node's management.
pub(super) fn place(policy: &Value) -> Option<String> {
    let says = |section: &Value, key: &str| match section.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    let deployment = policy.get("deployment").unwrap_or(&Value::Null);
    let found = |section, path: &str| {
        let mut keys = ["properties", "constraints"].into_iter();
        let key = keys.find(|key| says(section, key))?;
        Some(format!("{path}.{key}"))
    };
    found(policy, "policy").or_else(|| found(deployment, "policy.deployment"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_about_deployments_is_told_from_what_is_not() {
        let property = json!([{"name": "site", "value": "berlin"}]);
        for (policy, expected) in [
            (json!(null), None),
            (json!({}), None),
            (json!({"properties": [], "constraints": ""}), None),
            (json!({"management": {"constraints": ["a == 1"]}}), None),
            (json!({"deployment": {"properties": null}}), None),
            (
                json!({"constraints": ["a == 1"]}),
                Some("policy.constraints"),
            ),
            (json!({"constraints": "a == 1"}), Some("policy.constraints")),
            (json!({"properties": property}), Some("policy.properties")),
            (
                json!({"deployment": {"constraints": ["a == 1"]}}),
                Some("policy.deployment.constraints"),
            ),
        ] {
            assert_eq!(place(&policy).as_deref(), expected, "{policy}");
        }
    }
}
