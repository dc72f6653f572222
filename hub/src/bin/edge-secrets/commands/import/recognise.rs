//! What a document is, by its shape, and where shapes are alike by its file's name.

use serde::Serialize;
use serde_json::{Map, Value};

/// The documents of Open Horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// `service.definition.json`
    Service,
    /// `deployment.policy.json`
    Policy,
    /// `pattern.json`
    Pattern,
    /// `service.policy.json`
    ServicePolicy,
    /// `node.policy.json`
    NodePolicy,
    /// `userinput.json`
    UserInput,
    /// `hzn.json`
    Config,
    /// A model or file of the model management system.
    Object,
    /// What nodes' agents are upgraded by.
    ManagementPolicy,
    /// Nodes that are upgraded one after another.
    HaGroup,
}

impl Kind {
    /// For people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service definition",
            Self::Policy => "deployment policy",
            Self::Pattern => "pattern",
            Self::ServicePolicy => "service policy",
            Self::NodePolicy => "node policy",
            Self::UserInput => "user input",
            Self::Config => "hzn configuration",
            Self::Object => "model management object",
            Self::ManagementPolicy => "node management policy",
            Self::HaGroup => "HA group",
        }
    }

    /// What a file of this name is in projects of `hzn`.
    pub(super) fn by_name(file: &str) -> Option<Self> {
        let name = file.to_lowercase().replace(['-', '_', ' '], ".");
        let has = |word: &str| name.contains(word);
        if name == "hzn.json" {
            Some(Self::Config)
        } else if has("userinput") || has("user.input") || has("node.ui.") {
            Some(Self::UserInput)
        } else if has("service.definition") || has("service.def.") {
            Some(Self::Service)
        } else if has("service.policy") {
            Some(Self::ServicePolicy)
        } else if has("node.policy") {
            Some(Self::NodePolicy)
        } else if has("deployment.policy") || has("business.policy") || has("business.pol.") {
            Some(Self::Policy)
        } else if has("object.policy") {
            Some(Self::Object)
        } else if has("pattern") {
            Some(Self::Pattern)
        } else {
            None
        }
    }

    /// What a document of this shape is; `Err` where it could be a node's policy or a service's.
    fn by_shape(root: &Map<String, Value>) -> Option<Result<Self, ()>> {
        let has = |key: &str| root.contains_key(key);
        let is_map = |key: &str| root.get(key).is_some_and(Value::is_object);
        let items = |key: &str| root.get(key).and_then(Value::as_array);
        if is_map("service") {
            return Some(Ok(Self::Policy));
        }
        if let Some(services) = items("services") {
            let one = |key: &str| services.iter().any(|service| service.get(key).is_some());
            if one("serviceUrl") || one("serviceVersions") {
                return Some(Ok(Self::Pattern));
            }
            if one("variables") || has("global") {
                return Some(Ok(Self::UserInput));
            }
        }
        let deployed = has("deployment") || has("clusterDeployment") || has("requiredServices");
        if has("url") && (has("version") || deployed) {
            return Some(Ok(Self::Service));
        }
        if has("objectID") || has("objectType") {
            return Some(Ok(Self::Object));
        }
        if has("agentUpgradePolicy") {
            return Some(Ok(Self::ManagementPolicy));
        }
        if has("members") && has("name") {
            return Some(Ok(Self::HaGroup));
        }
        if has("HZN_ORG_ID") || has("MetadataVars") || has("HZN_EXCHANGE_URL") {
            return Some(Ok(Self::Config));
        }
        let ruled = |key: &str| {
            let section = root.get(key).and_then(Value::as_object);
            section.is_some_and(|section| {
                section.contains_key("properties") || section.contains_key("constraints")
            })
        };
        if ruled("deployment") || ruled("management") {
            return Some(Ok(Self::NodePolicy));
        }
        (has("properties") || has("constraints")).then_some(Err(()))
    }
}

/// What is in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Recognised {
    /// One document.
    One(Kind),
    /// Documents by `ORG/NAME`, as the Exchange lists them; each must be of this kind.
    Listed(Kind),
    /// Properties and constraints alone: a node's or a service's, and the name does not say whose.
    Unclear,
    /// Nothing that Open Horizon has.
    Nothing,
}

/// Recognises the document of a file. Its shape comes first: a file of any name may hold anything.
pub(super) fn recognise(file: &str, root: &Value) -> Recognised {
    let named = Kind::by_name(file);
    let Value::Object(root) = root else {
        let inputs =
            |item: &Value| item.get("serviceUrl").is_some() && item.get("inputs").is_some();
        let is_input = root
            .as_array()
            .is_some_and(|items| items.iter().any(inputs));
        return match named {
            Some(kind) => Recognised::One(kind),
            None if is_input => Recognised::One(Kind::UserInput),
            None => Recognised::Nothing,
        };
    };
    match (Kind::by_shape(root), named) {
        (Some(Ok(kind)), _) => Recognised::One(kind),
        (Some(Err(())), Some(kind @ (Kind::NodePolicy | Kind::ServicePolicy))) => {
            Recognised::One(kind)
        }
        // A part that is missing or misspelt: the reader of that kind says which.
        (Some(Err(())), Some(kind @ (Kind::Policy | Kind::Object))) => Recognised::One(kind),
        (Some(Err(())), _) => Recognised::Unclear,
        (None, named) => match (listed(root), named) {
            (Some(kind), _) => Recognised::Listed(kind),
            (None, Some(kind)) => Recognised::One(kind),
            (None, None) => Recognised::Nothing,
        },
    }
}

/// The one kind of the documents that stand below keys `ORG/NAME`.
fn listed(root: &Map<String, Value>) -> Option<Kind> {
    let mut entries = root.iter();
    let kind = |(key, value): (&String, &Value)| {
        let document = value.as_object().filter(|_| key.contains('/'))?;
        Kind::by_shape(document)?.ok()
    };
    let first = kind(entries.next()?)?;
    let known = matches!(first, Kind::Service | Kind::Policy | Kind::Pattern);
    (known && entries.all(|entry| kind(entry) == Some(first))).then_some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn shapes_come_before_names() {
        let rules = json!({"properties": [], "constraints": []});
        for (file, document, kind) in [
            (
                "x.json",
                json!({"url": "a", "version": "1.0.0", "deployment": {}}),
                Kind::Service,
            ),
            (
                "pattern.json",
                json!({"url": "a", "requiredServices": []}),
                Kind::Service,
            ),
            (
                "x.json",
                json!({"service": {"name": "a"}, "constraints": []}),
                Kind::Policy,
            ),
            (
                "x.json",
                json!({"services": [{"serviceUrl": "a"}]}),
                Kind::Pattern,
            ),
            (
                "x.json",
                json!({"services": [{"variables": {}}]}),
                Kind::UserInput,
            ),
            (
                "x.json",
                json!({"global": [], "services": []}),
                Kind::UserInput,
            ),
            (
                "x.json",
                json!([{"serviceUrl": "a", "inputs": []}]),
                Kind::UserInput,
            ),
            (
                "x.json",
                json!({"deployment": {"properties": []}}),
                Kind::NodePolicy,
            ),
            ("x.json", json!({"HZN_ORG_ID": "a"}), Kind::Config),
            (
                "x.json",
                json!({"objectID": "a", "objectType": "b"}),
                Kind::Object,
            ),
            (
                "x.json",
                json!({"agentUpgradePolicy": {}, "constraints": []}),
                Kind::ManagementPolicy,
            ),
            ("x.json", json!({"name": "a", "members": []}), Kind::HaGroup),
            ("node.policy.json", rules.clone(), Kind::NodePolicy),
            ("my-service_policy.json", rules.clone(), Kind::ServicePolicy),
            // A part is missing, the name says what it was to be.
            ("deployment.policy.json", rules.clone(), Kind::Policy),
            (
                "service.definition.json",
                json!({"urll": "a"}),
                Kind::Service,
            ),
            ("service.definition.json", json!([]), Kind::Service),
            ("hzn.json", json!({}), Kind::Config),
        ] {
            assert_eq!(
                recognise(file, &document),
                Recognised::One(kind),
                "{file} {document}"
            );
        }
        assert_eq!(recognise("policy.json", &rules), Recognised::Unclear);
        assert_eq!(
            recognise("package.json", &json!({"name": "a", "version": "1"})),
            Recognised::Nothing
        );
        assert_eq!(recognise("x.json", &json!([1])), Recognised::Nothing);
    }

    #[test]
    fn listings_of_the_exchange_are_documents_by_their_names() {
        let policy = json!({"service": {"name": "a"}});
        let listing = json!({"myorg/one": policy, "myorg/two": policy});
        assert_eq!(
            recognise("x.json", &listing),
            Recognised::Listed(Kind::Policy)
        );
        let mixed = json!({"myorg/one": policy, "myorg/two": {"url": "a", "version": "1"}});
        assert_eq!(recognise("x.json", &mixed), Recognised::Nothing);
        assert_eq!(
            recognise("x.json", &json!({"one": policy})),
            Recognised::Nothing
        );
        assert_eq!(recognise("x.json", &json!({})), Recognised::Nothing);
    }

    proptest! {
        #[test]
        fn foreign_names_and_documents_never_panic(
            file in "\\PC{0,20}", keys in prop::collection::vec("(service|services|url|version|a/b|\\PC{0,5})", 0..4)
        ) {
            let root: Map<String, Value> = keys.into_iter().map(|key| (key, json!([{}]))).collect();
            recognise(&file, &Value::Object(root));
        }
    }
}
