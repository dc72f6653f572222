use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::definition::tests::any_document;

fn property(name: &str, value: Value) -> Property {
    Property {
        name: name.to_owned(),
        value,
        kind: None,
    }
}

fn view(facts: &NodeFacts) -> NodeView {
    NodeView::new(&"edge-01".parse().unwrap(), None, facts).unwrap_or_else(|e| panic!("{e}"))
}

fn shown(view: &NodeView, name: &str) -> Option<String> {
    view.properties().get(name).map(ToString::to_string)
}

fn with_policy(text: &str) -> NodeFacts {
    NodeFacts {
        policy: Some(serde_json::from_str(text).unwrap()),
        ..NodeFacts::default()
    }
}

#[test]
fn the_flat_form_is_the_deployment_section() {
    let view = view(&with_policy(include_str!(
        "../fixtures/edge.node-policy.json"
    )));
    assert_eq!(shown(&view, "site").as_deref(), Some("\"berlin\""));
    assert_eq!(shown(&view, ALLOW_PRIVILEGED).as_deref(), Some("true"));
    assert_eq!(view.constraints().len(), 1);
    assert_eq!(view.constraints()[0].text(), "tier == prod");
}

#[test]
fn a_sections_properties_come_first_and_its_constraints_replace() {
    let view = view(&with_policy(include_str!(
        "../fixtures/sections.node-policy.json"
    )));
    assert_eq!(shown(&view, "site").as_deref(), Some("\"berlin\""));
    assert_eq!(shown(&view, "rack").as_deref(), Some("7"));
    assert_eq!(view.constraints().len(), 1);
    assert!(view.constraints()[0].text().starts_with("tier == prod OR"));
}

#[test]
fn a_section_without_constraints_leaves_the_top_level_ones() {
    let facts = with_policy(r#"{"constraints": ["a == 1"], "deployment": {"properties": []}}"#);
    assert_eq!(view(&facts).constraints().len(), 1);
}

#[test]
fn the_agents_configuration_decides_before_the_policy_file() {
    let mut facts = with_policy(include_str!("../fixtures/edge.node-policy.json"));
    facts.properties = vec![property("site", json!("munich"))];
    assert_eq!(shown(&view(&facts), "site").as_deref(), Some("\"munich\""));
}

#[test]
fn nobody_but_the_agent_says_what_was_measured() {
    let facts = NodeFacts {
        properties: vec![
            property("openhorizon.arch", json!("s390x")),
            property("openhorizon.invented", json!(1)),
        ],
        built_in: vec![
            property("openhorizon.arch", json!("aarch64")),
            property("openhorizon.allowPrivileged", json!(false)),
            property("site", json!("forged")),
        ],
        policy: Some(json!({"properties": [
            {"name": "openhorizon.memory", "value": 9},
            {"name": "openhorizon.allowPrivileged", "value": true},
        ]})),
        ..NodeFacts::default()
    };
    let view = view(&facts);
    assert_eq!(view.arch().unwrap().as_str(), "aarch64");
    assert_eq!(shown(&view, "openhorizon.memory"), None);
    assert_eq!(shown(&view, "openhorizon.invented"), None);
    assert_eq!(shown(&view, "site"), None);
    assert_eq!(shown(&view, ALLOW_PRIVILEGED).as_deref(), Some("true"));
    let ignored = [
        "openhorizon.arch",
        "openhorizon.invented",
        "openhorizon.memory",
    ];
    assert_eq!(view.ignored(), ignored);
}

#[test]
fn a_fault_is_named_with_its_place_in_the_facts() {
    let node = "edge-01".parse().unwrap();
    let refused = |facts: NodeFacts| NodeView::new(&node, None, &facts).unwrap_err().to_string();
    let error = refused(NodeFacts {
        properties: vec![property("a", json!(1)), property("b", json!({}))],
        ..NodeFacts::default()
    });
    assert!(
        error.starts_with("properties[1]: expected a string, number"),
        "{error}"
    );
    let error = refused(with_policy(r#"{"deployment": {"constraints": ["a =="]}}"#));
    assert!(
        error.starts_with("policy.deployment.constraints[0]: constraint, character 5"),
        "{error}"
    );
    let error = refused(with_policy(r#"{"management": {"constraints": ["("]}}"#));
    assert!(
        error.starts_with("policy.management.constraints[0]"),
        "{error}"
    );
    let error = refused(with_policy("[]"));
    assert_eq!(error, "policy: expected a map, found a list of 0");
}

/// Agents send the file as it is.
#[test]
fn a_policy_that_comes_as_its_text_has_lines() {
    let with = |text: &str| NodeFacts {
        policy: Some(text.into()),
        ..NodeFacts::default()
    };
    let text = "properties:\n- {name: site, value: berlin}\nconstraints:\n- tier == prod\n";
    let seen = view(&with(text));
    assert_eq!(shown(&seen, "site").as_deref(), Some("\"berlin\""));
    assert_eq!(seen.constraints().len(), 1);
    assert_eq!(seen.notes(), [""; 0]);
    let sections = view(&with(include_str!("../fixtures/sections.node-policy.json")));
    assert_eq!(shown(&sections, "rack").as_deref(), Some("7"));
    let slip = view(&with("constraint:\n- tier == prod\n"));
    assert_eq!(
        slip.notes(),
        [
            "policy.constraint: is no field that is known; did you mean `constraints`? (line 2, column 1)"
        ]
    );
    let node = "edge-01".parse().unwrap();
    for (text, told) in [
        (
            "properties: []\nconstraints:\n- a ==\n",
            "policy.constraints[0]: constraint, character 5: expected a value, found the end (line 3, column 3)",
        ),
        (
            "{\n \"properties\": [{\"value\": 1}]\n}",
            "policy.properties[0]: needs the field `name` (line 2, column 17)",
        ),
        (
            "properties: []\nproperties: []\n",
            "policy: has the key \"properties\" twice (line 1, column 1)",
        ),
        ("[]", "policy: expected a map, found a list of 0"),
    ] {
        let error = NodeView::new(&node, None, &with(text)).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}

proptest! {
    #[test]
    fn no_facts_make_it_panic(
        policy in any_document(), values in prop::collection::vec(any_document(), 0..4),
    ) {
        let facts = NodeFacts {
            properties: values.iter().map(|value| property("x", value.clone())).collect(),
            policy: Some(policy),
            ..NodeFacts::default()
        };
        if let Err(error) = NodeView::new(&"n".parse().unwrap(), None, &facts) {
            prop_assert!(!error.path.is_empty());
        }
    }
}
