//! What is placed where.

use super::*;
use crate::catalog::records::Placed;

fn placed(node: &NodeView, definitions: &Definitions) -> Vec<Placed> {
    super::super::place(&org(), node, definitions)
}

fn candidates(placed: &Placed, name: &str) -> (Vec<String>, bool) {
    let binding = &placed.bindings[&name.parse().unwrap()];
    let candidates = binding.candidates.iter().map(ToString::to_string).collect();
    (candidates, binding.denied)
}

/// The one deployment of a policy for `myorg/u` on a node.
fn plain(node: &NodeView, owner: &str, secret: &str) -> Placed {
    let text = plain_policy(&["1.0.0"], "", secret).to_string();
    let definitions = definitions(
        vec![plain_service("1.0.0", "")],
        vec![policy("p", owner, &text)],
    );
    let mut placed = placed(node, &definitions);
    assert_eq!(placed.len(), 1);
    placed.remove(0)
}

#[test]
fn the_sample_reaches_a_node_that_matches_and_no_other() {
    let on_berlin = placed(&berlin(), &uplink());
    assert_eq!(on_berlin.len(), 1);
    let uplink_here = &on_berlin[0];
    assert_eq!(uplink_here.service.to_string(), "myorg/com.example.uplink");
    assert_eq!(uplink_here.service_version, "1.0.0");
    let names: Vec<_> = uplink_here
        .bindings
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["myCloudServiceCred", "tlsKey"]);
    let cred = [
        "node/edge-01/cloudServiceXYZSecret",
        "cloudServiceXYZSecret",
    ];
    assert_eq!(
        candidates(uplink_here, "myCloudServiceCred"),
        (cred.map(str::to_owned).into(), false)
    );
    let key = [
        "user/alice/node/edge-01/uplink-tls-key",
        "user/alice/uplink-tls-key",
    ];
    assert_eq!(
        candidates(uplink_here, "tlsKey"),
        (key.map(str::to_owned).into(), false)
    );

    let elsewhere = json!({"site": "paris"});
    let refusing = json!({"site": "berlin", "node policy": {"constraints": ["tier == test"]}});
    for other in [
        node("n", None, "amd64", elsewhere),
        node("n", None, "arm64", json!({"site": "berlin"})),
        node("n", None, "amd64", json!({})),
        node("n", None, "amd64", refusing),
    ] {
        assert_eq!(placed(&other, &uplink()), []);
    }
}

#[test]
fn both_sides_constraints_count() {
    let accepting = |constraint: &str| {
        let policy = json!({"constraints": [constraint]});
        let stated = json!({"site": "berlin", "node policy": policy});
        !placed(&node("n", None, "amd64", stated), &uplink()).is_empty()
    };
    assert!(accepting("tier == prod"));
    assert!(accepting("openhorizon.service.url == com.example.uplink"));
    assert!(accepting(
        "openhorizon.service.name == com.example.uplink AND openhorizon.service.org == myorg"
    ));
    assert!(accepting(
        "openhorizon.service.version in [1.0.0,2.0.0) AND openhorizon.service.arch == amd64"
    ));
    assert!(!accepting("openhorizon.service.version < 1.0.0"));
    // What the node itself states is nothing to its own constraints.
    assert!(!accepting("site == berlin"));
}

#[test]
fn a_policy_cannot_claim_to_be_another_service() {
    let mut text: Value = serde_json::from_str(UPLINK_POLICY).unwrap();
    text["properties"] =
        json!([{"name": "openhorizon.service.url", "value": "com.example.trusted"}]);
    let altered = policy("uplink", "alice", &text.to_string());
    let definitions = definitions(vec![service(UPLINK)], vec![altered]);
    let wanted = json!({"constraints": ["openhorizon.service.url == com.example.trusted"]});
    let stated = json!({"site": "berlin", "node policy": wanted});
    assert_eq!(placed(&node("n", None, "amd64", stated), &definitions), []);
}

/// Open Horizon counts only the secrets of the container that it happens to see last.
#[test]
fn every_container_gets_its_secrets_in_its_format() {
    let definitions = definitions(
        vec![
            service(include_str!("../fixtures/camera.service.yaml")),
            requiring("com.example.gps", "1.2.0", &[], &[]),
        ],
        vec![policy(
            "camera",
            "bob",
            include_str!("../fixtures/camera.policy.yaml"),
        )],
    );
    let node = node("n", None, "aarch64", json!({"camera": true}));
    let camera = placed(&node, &definitions).remove(0);
    let consumers: Vec<_> = camera
        .consumers
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.secrets
                    .iter()
                    .map(|s| (s.name.as_str(), s.format))
                    .collect(),
            )
        })
        .collect();
    let expected: Vec<(&str, Vec<(&str, Format)>)> = vec![
        ("capture", vec![("brokerPassword", Format::ValueOnly)]),
        (
            "recognise",
            vec![
                ("brokerPassword", Format::Json),
                ("modelLicence", Format::Json),
            ],
        ),
    ];
    assert_eq!(consumers, expected);
    assert_eq!(candidates(&camera, "brokerPassword").0, ["team/broker"]);
    assert_eq!(
        candidates(&camera, "modelLicence").0,
        ["vault:licences/recogniser"]
    );
}

#[test]
fn names_and_values_of_any_script_match() {
    let definitions = definitions(
        vec![service(include_str!(
            "../fixtures/hello-secret.service.json"
        ))],
        vec![policy(
            "p",
            "bob",
            include_str!("../fixtures/weltweit.policy.json"),
        )],
    );
    let stated = |region: &str| {
        json!({
            "지역": region, "fläche_m²": 21, "type de nœud": ["caméra", "autre"],
            "node policy": {"constraints": ["größe == groß"]},
        })
    };
    let on = |region| placed(&node("n", None, "riscv64", stated(region)), &definitions).len();
    assert_eq!((on("서울 강남"), on("부산")), (1, 0));
}

#[test]
fn the_next_version_is_tried_when_one_does_not_fit() {
    let versions = ["3.0.0", "2.0.0", "1.0.0"];
    let text = plain_policy(&versions, "[1.0.0,2.0.0)", "x").to_string();
    let on = |services: Vec<_>, node: &NodeView| {
        let policies = vec![policy("p", "bob", &text)];
        let placed = placed(node, &definitions(services, policies));
        placed.first().map(|placed| placed.service_version.clone())
    };
    let any = |version| plain_service(version, "");
    // 3.0.0 is not published, 2.0.0 has no binding.
    assert_eq!(
        on(vec![any("2.0.0"), any("1.0.0")], &berlin()).as_deref(),
        Some("1.0.0")
    );
    assert_eq!(on(vec![any("2.0.0")], &berlin()), None);
    // 1.0.0 runs on another architecture only.
    assert_eq!(on(vec![plain_service("1.0.0", "arm64")], &berlin()), None);
    // The node refuses what is later than 1.0.0.
    let text = plain_policy(&versions, "", "x").to_string();
    let older = json!({"node policy": {"constraints": ["openhorizon.service.version <= 1.0.0"]}});
    let definitions = definitions(
        vec![any("3.0.0"), any("2.0.0"), any("1.0.0")],
        vec![policy("p", "bob", &text)],
    );
    let version = |node: &NodeView| placed(node, &definitions)[0].service_version.clone();
    assert_eq!(version(&node("n", None, "amd64", older)), "1.0.0");
    assert_eq!(version(&berlin()), "3.0.0");
}

#[test]
fn the_definition_for_the_nodes_own_architecture_is_preferred() {
    let text = plain_policy(&["1.0"], "", "x").to_string();
    let definitions = definitions(
        vec![
            plain_service("1.0", "*"),
            plain_service("1.0.0", "x86_64"),
            plain_service("1.0", "arm"),
        ],
        vec![policy("p", "bob", &text)],
    );
    let version = |arch: &str| {
        let node = node("n", None, arch, json!({}));
        placed(&node, &definitions)[0].service_version.clone()
    };
    // Only the one for amd64 is written 1.0.0.
    assert_eq!(version("amd64"), "1.0.0");
    assert_eq!(version("s390x"), "1.0");
}

/// Open Horizon's hub reads any user's secret for whoever names it.
#[test]
fn a_users_secret_goes_only_from_the_user_to_the_user() {
    let denied = |policy_owner: &str, node_owner: Option<&str>| {
        let node = node("n", node_owner, "amd64", json!({}));
        candidates(&plain(&node, policy_owner, "user/alice/db"), "s").1
    };
    assert!(!denied("alice", Some("alice")));
    assert!(denied("mallory", Some("mallory")));
    assert!(denied("mallory", Some("alice")));
    assert!(denied("alice", Some("mallory")));
    assert!(denied("alice", None));
    assert!(!candidates(&plain(&berlin(), "mallory", "db"), "s").1);
}

/// Open Horizon drops the node from an explicit reference and reads the organisation's secret.
#[test]
fn a_nodes_secret_goes_to_that_node_alone() {
    let on = |name: &str, secret: &str| {
        let node = node(name, Some("alice"), "amd64", json!({}));
        candidates(&plain(&node, "alice", secret), "s")
    };
    assert_eq!(
        on("edge-01", "node/edge-01/x"),
        (vec!["node/edge-01/x".into()], false)
    );
    assert_eq!(
        on("edge-02", "node/edge-01/x"),
        (vec!["node/edge-01/x".into()], true)
    );
    assert!(!on("edge-01", "user/alice/node/edge-01/x").1);
    assert!(on("edge-02", "user/alice/node/edge-01/x").1);
}

#[test]
fn the_same_short_name_in_two_scopes_stays_two_secrets() {
    let text = json!({
        "org": "myorg", "url": "u", "version": "1.0.0",
        "deployment": {"services": {"main": {"secrets": {"one": {}, "two": {}}}}},
    });
    let mut bindings = plain_policy(&["1.0.0"], "", "x");
    bindings["secretBinding"][0]["secrets"] = json!([{"one": "db"}, {"two": "user/alice/db"}]);
    let definitions = definitions(
        vec![service(&text.to_string())],
        vec![policy("p", "alice", &bindings.to_string())],
    );
    let here = placed(&berlin(), &definitions).remove(0);
    assert_eq!(candidates(&here, "one").0, ["db"]);
    assert_eq!(candidates(&here, "two").0, ["user/alice/db"]);
}

#[test]
fn a_deployment_keeps_its_id_across_versions_bindings_and_nodes() {
    let first = plain(&berlin(), "alice", "x");
    let text = plain_policy(&["2.0.0"], "", "y").to_string();
    let definitions = definitions(
        vec![plain_service("2.0.0", "amd64")],
        vec![policy("p", "bob", &text)],
    );
    let second = placed(&berlin(), &definitions).remove(0);
    assert_eq!(first.id, second.id);
    assert_eq!(first.id.as_str(), "34a0467ba5c9f611bcb04cf5fab99aa2");
    let (name, owner, document) = policy("q", "bob", &text);
    let renamed = Definitions {
        policies: [(name, Arc::new(Published { owner, document }))]
            .into_iter()
            .collect(),
        ..definitions.clone()
    };
    assert_ne!(placed(&berlin(), &renamed)[0].id, first.id);
    let other_org = super::super::place(&"other".parse().unwrap(), &berlin(), &definitions);
    assert_ne!(other_org[0].id, first.id);
}

#[test]
fn a_service_of_another_organisation_is_another_service() {
    let mut text = plain_policy(&["1.0.0"], "", "x");
    text["service"]["org"] = json!("theirs");
    let definitions = definitions(
        vec![plain_service("1.0.0", "")],
        vec![policy("p", "bob", &text.to_string())],
    );
    assert_eq!(placed(&berlin(), &definitions), []);
}
