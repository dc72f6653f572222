use serde_json::{Value, json};

use crate::policy::{DeploymentPolicy, ServiceDefinition, Services, check_policy};

fn definition() -> Value {
    json!({
        "org": "o", "url": "u", "version": "1.0.0", "arch": "",
        "deployment": {"services": {"main": {"image": "x", "secrets": {"s": {}}}}},
    })
}

fn policy() -> Value {
    json!({
        "service": {"name": "u", "org": "o", "serviceVersions": [{"version": "1.0.0"}]},
        "secretBinding": [{"serviceOrgid": "o", "serviceUrl": "u", "secrets": [{"s": "x"}]}],
    })
}

fn checked(policy: &Value) -> (Vec<String>, Vec<String>) {
    let text = serde_json::to_string_pretty(policy).unwrap();
    let policy = DeploymentPolicy::parse(&text).unwrap();
    let published = ServiceDefinition::parse(&definition().to_string()).unwrap();
    let services: Services = [("dev".parse().unwrap(), published)].into_iter().collect();
    let check = check_policy(&policy, &"bob".parse().unwrap(), &services);
    (check.faults, check.warnings)
}

#[test]
fn a_field_that_is_nearly_a_known_one_keeps_a_policy_from_being_published() {
    let mut slips = policy();
    slips["secretBinding"][0]["enableNodeLevelSecret"] = json!(true);
    slips["constraint"] = json!(["site == berlin"]);
    slips["service"]["nodehealth"] = json!({});
    let (faults, warnings) = checked(&slips);
    assert_eq!(
        faults,
        [
            "constraint: is no field that is known; did you mean `constraints`? (line 2, column 17)",
            "secretBinding[0].enableNodeLevelSecret: is no field that is known; did you mean \
             `enableNodeLevelSecrets`? (line 7, column 32)",
            "service.nodehealth: is no field that is known; did you mean `nodeHealth`? (line 19, column 19)",
        ]
    );
    assert_eq!(warnings, [""; 0]);
}

/// As in Open Horizon; but it is told.
#[test]
fn a_field_that_is_like_no_other_is_kept_and_told() {
    let mut text = policy();
    text["ofTomorrow"] = json!({"constraint": 1});
    let (faults, warnings) = checked(&text);
    assert_eq!(faults, [""; 0]);
    assert_eq!(
        warnings,
        ["ofTomorrow: is no field that is known, and has no effect here (line 2, column 17)"]
    );
    // Beside the right one a similar one is somebody's note, unless it is the same but for its case:
    // others read either.
    let mut text = policy();
    text["SecretBinding"] = json!([]);
    let (faults, _) = checked(&text);
    assert!(
        faults[0]
            .starts_with("SecretBinding: is no field that is known; did you mean `secretBinding`?")
    );
    let mut text = policy();
    text["secretBindings"] = json!("see the wiki");
    assert_eq!(checked(&text).0, [""; 0]);
}

#[test]
fn a_definitions_slips_are_told_with_their_place_also_in_a_deployment_that_is_a_text() {
    let slip = |document: &Value| {
        let text = serde_json::to_string_pretty(document).unwrap();
        let definition = ServiceDefinition::parse(&text).unwrap();
        definition.slip().map(ToString::to_string)
    };
    assert_eq!(slip(&definition()), None);
    let mut document = definition();
    document["requiredService"] = json!([]);
    assert_eq!(
        slip(&document).unwrap(),
        "requiredService: is no field that is known; did you mean `requiredServices`? (line 14, column 22)"
    );
    let deployment = json!({"services": {"main": {"secret": {"s": {}}, "privilegd": true}}});
    for text in [deployment.clone(), deployment.to_string().into()] {
        let mut document = definition();
        document["deployment"] = text;
        let told = slip(&document).unwrap();
        // Of what else containers have nothing is known, and nothing is said.
        let expected = "deployment.services.main.secret: is no field that is known; did you mean \
                        `secrets`? (line ";
        assert!(told.starts_with(expected), "{told}");
    }
    let mut document = definition();
    document["deployment"]["services"]["main"]["secrets"]["s"] = json!({"fromat": "value_only"});
    assert!(slip(&document).unwrap().contains("did you mean `format`?"));
}

#[test]
fn what_does_not_matter_here_must_hold_what_it_is_for_all_the_same() {
    for (path, value, told) in [
        (
            "/label",
            json!(5),
            "label: expected a text, found the number 5: put it in quotes",
        ),
        (
            "/service/nodeHealth",
            json!({"missing_heartbeat_interval": -1}),
            "service.nodeHealth.missing_heartbeat_interval: expected a whole number from 0 to 2147483647, \
             found the number -1",
        ),
        (
            "/service/nodeHealth",
            json!({"check_agreement_status": "120"}),
            "service.nodeHealth.check_agreement_status: expected a whole number from 0 to 2147483647, \
             found the text \"120\"",
        ),
        (
            "/service/serviceVersions/0/upgradePolicy",
            json!({"lifecycle": "imediate"}),
            "service.serviceVersions[0].upgradePolicy.lifecycle: expected `immediate` or `never` or \
             `agreement`, found the text \"imediate\"; did you mean `immediate`?",
        ),
        (
            "/userInput",
            json!([{"serviceOrgid": "o", "serviceUrl": "u", "inputs": {"a": 1}}]),
            "userInput[0].inputs: expected a list, found a map of 1",
        ),
    ] {
        let mut text = policy();
        let (parent, key) = path.rsplit_once('/').unwrap();
        text.pointer_mut(parent).unwrap()[key] = value;
        let error = DeploymentPolicy::parse(&text.to_string())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("{told} (line 1, column ")),
            "{error}"
        );
    }
    let mut text = definition();
    text["public"] = json!("yes");
    let error = ServiceDefinition::parse(&text.to_string())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("public: expected `true` or `false`, found the text \"yes\""),
        "{error}"
    );
}

/// Somebody who reads so many goes and looks.
#[test]
fn not_more_is_told_than_somebody_reads() {
    let mut text = policy();
    for at in 0..100 {
        text[format!("note {at}")] = json!(at);
    }
    assert_eq!(checked(&text).1.len(), super::MAX_TOLD);
}
