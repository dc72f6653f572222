//! What may be published.

use super::*;

fn check(text: &Value, publisher: &str, services: &[Service]) -> PolicyCheck {
    let policy = DeploymentPolicy::parse(&text.to_string()).unwrap();
    let services = services.iter().cloned().collect();
    check_policy(&policy, &user(publisher), &services)
}

fn sample() -> Value {
    serde_json::from_str(UPLINK_POLICY).unwrap()
}

#[test]
fn the_sample_may_be_published_by_alice() {
    assert_eq!(
        check(&sample(), "alice", &[service(UPLINK)]),
        PolicyCheck::default()
    );
}

#[test]
fn another_users_private_secret_cannot_be_bound() {
    let check = check(&sample(), "mallory", &[service(UPLINK)]);
    assert_eq!(
        check.faults,
        [
            "secretBinding[0].secrets[1]: user/alice/uplink-tls-key is private to user alice; only a \
          policy that alice publishes can bind it"
        ]
    );
}

#[test]
fn every_unbound_secret_is_named() {
    let mut text = sample();
    text["secretBinding"][0]["secrets"] = json!([]);
    let faults = check(&text, "alice", &[service(UPLINK)]).faults;
    assert_eq!(
        faults,
        [
            "secretBinding: myorg/com.example.uplink 1.0.0 (amd64): No secret binding found for the \
          following service secrets: [myCloudServiceCred, tlsKey]; bind them in secretBinding"
        ]
    );
}

/// Open Horizon's own sample is published for several architectures and bound for one of them.
#[test]
fn what_the_bindings_leave_out_is_skipped_and_told() {
    let mut text = plain_policy(&["1.0.0"], "", "x");
    text["secretBinding"][0]["serviceArch"] = json!("amd64");
    let services = [
        plain_service("1.0.0", "amd64"),
        plain_service("1.0.0", "arm64"),
    ];
    let told = check(&text, "bob", &services);
    assert_eq!((told.faults.len(), told.warnings.len()), (0, 1));
    let warning = &told.warnings[0];
    assert!(warning.contains("myorg/u 1.0.0 (arm64)"), "{warning}");
    assert!(warning.ends_with("it would be skipped"), "{warning}");
    text["service"]["arch"] = json!("x86_64");
    assert_eq!(check(&text, "bob", &services), PolicyCheck::default());
    text["service"]["arch"] = json!("arm64");
    let refused = check(&text, "bob", &services);
    assert_eq!(refused.faults.len(), 1, "{refused:#?}");
}

#[test]
fn an_unknown_service_or_version_is_a_fault_with_what_is_known() {
    let text = plain_policy(&["1.0.0", "3.0.0"], "", "x");
    let told = check(&text, "bob", &[plain_service("1.0.0", "amd64")]);
    assert_eq!(
        told.warnings,
        [
            "service.serviceVersions[1]: myorg/u 3.0.0 is not published; published: 1.0.0 (amd64); it \
          would be skipped"
        ]
    );
    let faults = check(&text, "bob", &[plain_service("2.0.0", "amd64")]).faults;
    assert_eq!(faults.len(), 2, "{faults:#?}");
    let mut text = sample();
    text["service"]["name"] = json!("com.example.uplnik");
    let faults = check(&text, "alice", &[service(UPLINK)]).faults;
    assert_eq!(
        faults,
        [
            "service: myorg/com.example.uplnik is not published: publish its definition first; did \
          you mean `myorg/com.example.uplink`?"
        ]
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let mut text = plain_policy(&["1.0.0", "2.0.0", "3.0.0"], "[1,1]", "user/alice/x");
    let second = json!({"serviceOrgid": "myorg", "serviceUrl": "u",
        "serviceVersionRange": "[1,1]", "secrets": [{"s": "y"}]});
    text["secretBinding"] = json!([text["secretBinding"][0], second]);
    let services = [plain_service("1.0.0", ""), plain_service("2.0.0", "")];
    let faults = check(&text, "bob", &services).faults;
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(faults[0].contains("myorg/u 2.0.0") && faults[0].contains("[s]"));
    assert!(faults[1].contains("3.0.0 is not published"));
    assert!(faults[2].contains("secretBinding[0].secrets[0] and secretBinding[1].secrets[0]"));
    assert!(faults[3].contains("private to user alice"));
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let mut text = plain_policy(&["1.0.0"], "", "node/edge-01/x");
    text["secretBinding"][0]["allowNodeLevelSecrets"] = json!(true);
    text["secretBinding"][0]["secrets"] = json!([{"s": "node/edge-01/x"}, {"t": "y"}]);
    text["properties"] = json!([
        {"name": "openhorizon.service.url", "value": "x"},
        {"name": "openhorizon.allowPrivileged", "value": true},
    ]);
    let check = check(&text, "bob", &[plain_service("1.0.0", "")]);
    assert_eq!(check.faults, [""; 0]);
    assert_eq!(check.warnings.len(), 4, "{:#?}", check.warnings);
    assert!(check.warnings[0].contains("for node edge-01 alone"));
    assert!(check.warnings[1].ends_with("not required by any services: [t]"));
    assert!(check.warnings[2].contains("did you mean `enableNodeLevelSecrets`?"));
    assert!(check.warnings[3].contains("openhorizon.service.url"));
}

#[test]
fn what_a_service_requires_must_be_published_and_bound_too() {
    let text = plain_policy(&["1.0.0"], "", "x");
    let top = requiring("u", "1.0.0", &["dep [1.0.0,2.0.0)"], &["s"]);
    let faults = check(&text, "bob", std::slice::from_ref(&top)).faults;
    assert_eq!(
        faults,
        ["service: myorg/u 1.0.0 requires myorg/dep, which is not published"]
    );
    let services = [top.clone(), requiring("dep", "1.1.0", &[], &["token"])];
    let faults = check(&text, "bob", &services).faults;
    assert!(faults[0].contains("myorg/dep 1.1.0"), "{faults:?}");
    assert!(faults[0].contains("No secret binding found"), "{faults:?}");
    let mut bound = text.clone();
    bound["secretBinding"] = json!([bound["secretBinding"][0], {
        "serviceOrgid": "myorg", "serviceUrl": "dep", "secrets": [{"token": "t"}],
    }]);
    assert_eq!(check(&bound, "bob", &services), PolicyCheck::default());
    // Nobody requires it: the same words as for any binding without need.
    let alone = [requiring("u", "1.0.0", &[], &["s"]), services[1].clone()];
    let warnings = check(&bound, "bob", &alone).warnings;
    assert!(
        warnings[0].ends_with("not required by any services: [token]"),
        "{warnings:?}"
    );
}

#[test]
fn a_service_for_clusters_alone_is_not_for_these_nodes() {
    let definition = json!({
        "org": "myorg", "url": "u", "version": "1.0.0", "arch": "",
        "clusterDeployment": {"operatorYamlArchive": "x", "secrets": {"s": {}}},
    });
    let (owner, definition) = service(&definition.to_string());
    assert!(
        definition.notes()[1].contains("[s] are understood"),
        "{:?}",
        definition.notes()
    );
    let text = plain_policy(&["1.0.0"], "", "x");
    let faults = check(&text, "bob", &[(owner, definition)]).faults;
    assert_eq!(faults, ["service: myorg/u 1.0.0 () is for clusters alone"]);
}
