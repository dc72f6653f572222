//! Services' own policies, and what services want to be told.

use super::*;

/// `myorg/u` with this policy of its own.
fn with_policy(own: &Value, privileged: bool) -> Result<ServiceDefinition, String> {
    let text = json!({
        "org": "myorg", "url": "u", "version": "1.0.0", "arch": "",
        "deployment": {"services": {"main": {"privileged": privileged, "secrets": {"s": {}}}}},
    });
    let definition = ServiceDefinition::parse(&text.to_string()).unwrap();
    let own = definition.with_policy(Some(&own.to_string()));
    own.map_err(|error| error.to_string())
}

fn verdict(definition: ServiceDefinition, policy_: &Value, node: &NodeView) -> Verdict {
    let definitions = definitions(
        vec![(user("dev"), definition)],
        vec![policy("p", "bob", &policy_.to_string())],
    );
    super::super::explain(&org(), node, &definitions).remove(0)
}

fn failed(verdict: &Verdict) -> Vec<String> {
    let failed = verdict.rules.iter().filter(|rule| !rule.holds);
    failed
        .map(|rule| format!("{}: {}", rule.rule, rule.detail))
        .collect()
}

#[test]
fn a_services_own_constraints_hold_for_every_policy_that_deploys_it() {
    let own = json!({"constraints": ["openhorizon.memory >= 4096"]});
    let verdict = verdict(
        with_policy(&own, false).unwrap(),
        &plain_policy(&["1.0.0"], "", "x"),
        &berlin(),
    );
    assert_eq!(verdict.placed, None);
    assert_eq!(
        failed(&verdict),
        [
            "service constraint: openhorizon.memory >= 4096: openhorizon.memory is 2048 (version 1.0.0)"
        ]
    );
}

/// What the hub knows comes first, then the deployment policy, then the service's own.
#[test]
fn a_nodes_constraints_see_a_services_own_properties() {
    let own = json!({"properties": [
        {"name": "maker", "value": "acme"}, {"name": "tier", "value": "own"},
        {"name": "openhorizon.service.url", "value": "forged"},
    ]});
    let mut document = plain_policy(&["1.0.0"], "", "x");
    document["properties"] = json!([{"name": "tier", "value": "prod"}]);
    let placed = |constraint: &str| {
        let stated = json!({"node policy": {"constraints": [constraint]}});
        let node = node("n", None, "amd64", stated);
        verdict(with_policy(&own, false).unwrap(), &document, &node)
            .placed
            .is_some()
    };
    assert!(placed("maker == acme AND tier == prod"));
    assert!(placed("openhorizon.service.url == u"));
    assert!(!placed("tier == own"));
    assert!(!placed("openhorizon.service.url == forged"));
}

#[test]
fn a_service_is_privileged_by_its_containers_or_its_policy() {
    let says = |value: Value| json!({"properties": [{"name": "openhorizon.allowPrivileged", "value": value}]});
    let on = |own: &Value, privileged: bool, allows: bool| {
        let stated = json!({"node policy": {"properties": [
            {"name": "openhorizon.allowPrivileged", "value": allows}]}});
        let node = node("n", None, "amd64", stated);
        let definition = with_policy(own, privileged).unwrap();
        verdict(definition, &plain_policy(&["1.0.0"], "", "x"), &node)
            .placed
            .is_some()
    };
    for (own, privileged) in [
        (json!({}), true),
        (says(json!(true)), false),
        (says(json!("true")), false),
    ] {
        assert!(on(&own, privileged, true), "{own}");
        assert!(!on(&own, privileged, false), "{own}");
    }
    assert!(on(&says(json!(false)), false, false));
    let error = with_policy(&says(json!(false)), true).unwrap_err();
    assert!(
        error.starts_with("properties[0]: says that openhorizon.allowPrivileged is false"),
        "{error}"
    );
    let error = with_policy(&says(json!(7)), false).unwrap_err();
    assert!(
        error.contains("expected `true` or `false` as the value"),
        "{error}"
    );
}

#[test]
fn a_services_policy_is_set_shown_and_taken_away_and_a_bad_one_is_refused_with_its_place() {
    let own = json!({"constraints": ["a == 1"], "properties": []});
    let definition = with_policy(&own, false).unwrap();
    let kept: Value = serde_json::from_str(&definition.policy_json().unwrap()).unwrap();
    assert_eq!(kept, own);
    let again = ServiceDefinition::parse(&definition.to_json()).unwrap();
    assert_eq!(again.policy_json(), definition.policy_json());
    let without = definition.with_policy(None).unwrap();
    assert_eq!(without.policy_json(), None);
    assert_eq!(without.secret_names(), definition.secret_names());
    for (text, told) in [
        (
            "constraints:\n- a ==\n",
            "constraints[0]: constraint, character 5: expected a value, found the end (line 2, column 3)",
        ),
        (
            "properties:\n- {name: a}\n",
            "properties[0]: needs the field `value` (line 2, column 3)",
        ),
        (
            "constraint: [a]\n",
            "constraint: is no field that is known; did you mean `constraints`? (line 1, column 13)",
        ),
        ("- a\n", "expected a map, found a list of 1"),
    ] {
        assert_eq!(
            definition.with_policy(Some(text)).unwrap_err().to_string(),
            told
        );
    }
}

/// Only the deployed service's own counts.
#[test]
fn the_policies_of_services_that_it_requires_are_not_asked() {
    let (owner, dep) = requiring("dep", "1.0.0", &[], &[]);
    let own = json!({"constraints": ["never == there"]}).to_string();
    let dep = (owner, dep.with_policy(Some(&own)).unwrap());
    let definitions = definitions(
        vec![requiring("u", "1.0.0", &["dep"], &["s"]), dep],
        vec![policy(
            "p",
            "bob",
            &plain_policy(&["1.0.0"], "", "x").to_string(),
        )],
    );
    assert_eq!(
        super::super::place(&org(), &berlin(), &definitions).len(),
        1
    );
}

#[test]
fn inputs_that_nobody_gives_are_told_and_keep_no_secret_back() {
    let text = json!({
        "org": "myorg", "url": "u", "version": "1.0.0", "arch": "",
        "userInput": [
            {"name": "WHO", "type": "string", "defaultValue": ""}, {"name": "HOW", "type": "int"},
            {"name": "WHEN", "type": "string", "defaultValue": "now"},
        ],
        "deployment": {"services": {"main": {"secrets": {"s": {}}}}},
    });
    let services = || vec![service(&text.to_string())];
    let mut document = plain_policy(&["1.0.0"], "", "x");
    let told = |document: &Value| {
        let policy = DeploymentPolicy::parse(&document.to_string()).unwrap();
        check_policy(&policy, &user("bob"), &services().into_iter().collect())
    };
    let check = told(&document);
    assert_eq!(check.faults, [""; 0]);
    assert_eq!(
        check.warnings,
        [
            "userInput: myorg/u 1.0.0 wants [WHO, HOW], which this policy does not give: Open Horizon waits \
             until the node gives them, edge-secrets does not"
        ]
    );
    let policies = vec![policy("p", "bob", &document.to_string())];
    let placed = super::super::place(&org(), &berlin(), &definitions(services(), policies));
    assert_eq!(placed.len(), 1);
    document["userInput"] = json!([
        {"serviceOrgid": "myorg", "serviceUrl": "u", "serviceVersionRange": "[1.0.0,2.0.0)",
         "inputs": [{"name": "WHO", "value": "a"}]},
        {"serviceOrgid": "myorg", "serviceUrl": "u", "serviceArch": "amd64",
         "inputs": [{"name": "HOW", "value": 1}]},
        {"serviceOrgid": "myorg", "serviceUrl": "other", "inputs": []},
    ]);
    assert_eq!(told(&document), PolicyCheck::default());
}
