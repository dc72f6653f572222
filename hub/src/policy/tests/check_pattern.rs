//! What patterns may be published.

use super::*;

const EDGE: &str = include_str!("../fixtures/edge.pattern.json");

fn definition(url: &str, version: &str, arch: &str, secrets: &[&str]) -> Service {
    let declared: serde_json::Map<_, _> = secrets
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect();
    let text = json!({
        "org": "myorg", "url": url, "version": version, "arch": arch, "public": true,
        "deployment": {"services": {"main": {"secrets": declared}}},
    });
    service(&text.to_string())
}

fn edge_services() -> Vec<Service> {
    vec![
        definition("com.example.uplink", "1.1.0", "amd64", &["cred"]),
        definition("com.example.uplink", "1.0.0", "amd64", &["cred"]),
        definition("com.example.uplink", "1.0.0", "arm64", &["cred"]),
        definition("com.example.gps", "2.0.3", "*", &["token"]),
        definition("com.example.cpu", "1.0.0", "*", &[]),
    ]
}

fn check(text: &Value, services: &[Service]) -> PolicyCheck {
    let pattern = Pattern::parse(&text.to_string()).unwrap();
    let services = services.iter().cloned().collect();
    check_pattern(&pattern, &user("alice"), &services)
}

fn edge() -> Value {
    serde_json::from_str(EDGE).unwrap()
}

/// Reference, case 25: a pattern and two services are compatible.
#[test]
fn a_pattern_with_two_services_may_be_published() {
    let told = check(&edge(), &edge_services());
    assert_eq!(told.faults, Vec::<String>::new());
    assert_eq!(
        told.warnings,
        [
            "services[3]: myorg/com.example.cpu runs without an agreement (`agreementLess`), and so \
             takes no secret bindings: nothing is delivered to it"
        ]
    );
}

#[test]
fn of_each_service_something_must_be_deployable() {
    let mut services = edge_services();
    services.remove(3);
    services.remove(0);
    let told = check(&edge(), &services);
    let fault = "services[2]: myorg/com.example.gps is not published: publish its definition first";
    assert_eq!(told.faults.len(), 1);
    assert!(told.faults[0].starts_with(fault), "{}", told.faults[0]);
    // The next version stands in for the first.
    let warning = &told.warnings[0];
    assert!(
        warning.starts_with("services[0].serviceVersions[0]: myorg/com.example.uplink 1.1.0 is"),
        "{warning}"
    );
    let mut text = edge();
    text["secretBinding"].as_array_mut().unwrap().pop();
    let told = check(&text, &edge_services());
    assert_eq!(
        told.faults,
        [
            "secretBinding: myorg/com.example.gps 2.0.3 (*): No secret binding found for the \
             following service secrets: [token]; bind them in secretBinding"
        ]
    );
}

/// As in Open Horizon: a mismatch of types is ignored unless all mismatch.
#[test]
fn services_for_clusters_stand_beside_others_and_not_alone() {
    let cluster = json!({
        "org": "myorg", "url": "com.example.gps", "version": "2.0.3", "public": true,
        "clusterDeployment": {"operatorYamlArchive": "x"},
    });
    let mut services = edge_services();
    services[3] = service(&cluster.to_string());
    let told = check(&edge(), &services);
    assert_eq!(told.faults, Vec::<String>::new());
    let warning =
        "services[2]: myorg/com.example.gps 2.0.3 () is for clusters alone; it would be skipped";
    assert_eq!(told.warnings[0], warning);
    let mut text = edge();
    let gps = text["services"][2].take();
    text["services"] = json!([gps]);
    assert_eq!(check(&text, &services).faults.len(), 1);
}

#[test]
fn a_service_without_an_agreement_takes_no_bindings() {
    let mut services = edge_services();
    services[4] = definition("com.example.cpu", "1.0.0", "*", &["key"]);
    let mut text = edge();
    let binding = json!({"serviceOrgid": "myorg", "serviceUrl": "com.example.cpu",
                         "secrets": [{"key": "x"}]});
    text["secretBinding"].as_array_mut().unwrap().push(binding);
    let told = check(&text, &services);
    assert_eq!(told.faults, Vec::<String>::new());
    let warned = |text: &str| told.warnings.iter().any(|warning| warning.contains(text));
    assert!(warned(
        "secretBinding[2]: The following secret bindings are not required"
    ));
    assert!(
        warned("nothing is delivered to it; it declares [key]"),
        "{told:#?}"
    );
}

#[test]
fn what_others_do_not_get_of_a_public_pattern_is_told() {
    let mut text = edge();
    text["secretBinding"][1]["secrets"] = json!([{"token": "user/alice/gps"}]);
    let mut services = edge_services();
    let private = json!({
        "org": "myorg", "url": "com.example.gps", "version": "2.0.3",
        "deployment": {"services": {"main": {"secrets": {"token": {}}}}},
    });
    services[3] = service(&private.to_string());
    let warnings = check(&text, &services).warnings;
    let strangers = "public: these services are not public, so that nodes of other organisations do \
                     not get them: [myorg/com.example.gps]";
    assert!(warnings.contains(&strangers.to_owned()), "{warnings:#?}");
    let denied = "secretBinding[1].secrets[0]: user/alice/gps is private; nodes of other \
                  organisations are denied it";
    assert!(warnings.contains(&denied.to_owned()), "{warnings:#?}");
    text["public"] = json!(false);
    let warnings = check(&text, &services).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    text["secretBinding"][1]["secrets"] = json!([{"token": "user/bob/gps"}]);
    let faults = check(&text, &services).faults;
    assert!(
        faults[0].ends_with("only a pattern that bob publishes can bind it"),
        "{faults:?}"
    );
}

/// As of a policy.
#[test]
fn a_patterns_slips_are_refused_and_what_has_no_effect_is_told() {
    let mut text = edge();
    text["secretBindings"] = text["secretBinding"].take();
    text["services"][0]["serviceVersion"] = json!([]);
    let told = check(&text, &edge_services());
    let slips: Vec<_> = told
        .faults
        .iter()
        .filter(|one| one.contains("is no field"))
        .collect();
    assert_eq!(slips.len(), 1, "{told:#?}");
    assert!(
        slips[0].starts_with(
            "secretBindings: is no field that is known; did you mean `secretBinding`?"
        )
    );
    let mut text = edge();
    text["ofTomorrow"] = json!(1);
    text["services"][0]["serviceVersions"][0]["upgradePolicy"] = json!({"lifecycle": "never"});
    let warnings = check(&text, &edge_services()).warnings;
    assert!(
        warnings
            .iter()
            .any(|one| one.starts_with("ofTomorrow: is no field")),
        "{warnings:#?}"
    );
    let lifecycle = "services[0].serviceVersions[0].upgradePolicy.lifecycle: `never` has no effect here: a \
                     change is delivered at once";
    assert!(warnings.iter().any(|one| one == lifecycle), "{warnings:#?}");
}
