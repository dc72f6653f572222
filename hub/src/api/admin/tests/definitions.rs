use super::*;
use crate::wire::{ChangeKind, PolicyInfo, Published, ServiceInfo};

fn changes(published: &Published) -> Vec<(String, ChangeKind, Vec<String>)> {
    let one = |change: &crate::wire::DeploymentChange| {
        let secrets = change.secrets.iter().map(|secret| {
            let references: Vec<_> = secret.references.iter().map(ToString::to_string).collect();
            format!("{}={}", secret.name, references.join("|"))
        });
        (change.node.to_string(), change.change, secrets.collect())
    };
    published.changes.iter().map(one).collect()
}

#[tokio::test]
async fn a_dry_run_says_what_publishing_then_does_and_changes_nothing() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.enrol("n1", "berlin", None).await;
    world.enrol("n2", "paris", None).await;
    world
        .post("alice", "services", &service("1.0.0", &["cred"]))
        .await
        .ok();
    let policy = policy("1.0.0", &[("cred", "db")]);
    let before = world.trail("myorg").await;

    let path = "policies/uplink?dry_run=true";
    let asked: Published = world.put("alice", path, &policy).await.json();
    let deploy = (
        "n1".to_owned(),
        ChangeKind::Deploy,
        vec!["cred=db".to_owned()],
    );
    assert_eq!(changes(&asked), std::slice::from_ref(&deploy));
    assert!(asked.dry_run && asked.at.is_none());
    assert_eq!(asked.untouched_nodes, 1);
    assert_eq!(world.trail("myorg").await, before);
    world
        .get("alice", "policies/uplink")
        .await
        .refused(Code::NotFound);

    let done: Published = world.put("alice", "policies/uplink", &policy).await.json();
    assert_eq!(changes(&done), [deploy]);
    assert!(!done.dry_run && done.at.is_some());
    let infos: Vec<PolicyInfo> = world.get("bob", "policies").await.json();
    assert_eq!((infos[0].nodes, &infos[0].owner), (1, &user("alice")));
    let shown: Value = world.get("bob", "policies/uplink").await.json();
    assert_eq!(shown["constraints"], policy["constraints"]);

    let asked: Published = world.delete("alice", path).await.json();
    assert_eq!(changes(&asked)[0].1, ChangeKind::Undeploy);
    world.get("alice", "policies/uplink").await.ok();
    let done: Published = world.delete("alice", "policies/uplink").await.json();
    assert_eq!(changes(&done), changes(&asked));
    world
        .delete("alice", "policies/uplink")
        .await
        .refused(Code::NotFound);
    let expected = [
        "policy.publish policy/uplink ok",
        "policy.remove policy/uplink ok",
    ];
    assert_eq!(world.trail("myorg").await[before.len()..], expected);
}

#[tokio::test]
async fn a_policy_is_refused_with_every_fault_at_once() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.set("bob", "user/bob/key", "x").await.ok();
    let definition = service("1.0.0", &["cred", "tlsKey", "extra"]);
    world.post("alice", "services", &definition).await.ok();
    let refusal = |bindings: &'static [(&'static str, &'static str)]| {
        let world = &world;
        async move {
            let policy = policy("1.0.0", bindings);
            let answer = world.put("alice", "policies/uplink", &policy).await;
            answer.refused(Code::Invalid)
        }
    };
    let detail = refusal(&[("cred", "nope"), ("extra", "nil")]).await;
    assert!(
        detail.starts_with("policy \"uplink\" is refused: "),
        "{detail}"
    );
    for fault in [
        "tlsKey",
        "secretBinding[0].secrets[0]: secret \"nope\" does not exist (line 1, column ",
        "secretBinding[0].secrets[1]: secret \"nil\" does not exist (line 1, column ",
    ] {
        assert!(detail.contains(fault), "{fault}: {detail}");
    }
    let detail = refusal(&[("cred", "vault:db"), ("extra", "db"), ("tlsKey", "db")]).await;
    assert!(detail.contains("\"vault\""), "{detail}");
    // Another's private secret: the same words whether it is there or not.
    let there = refusal(&[("cred", "user/bob/key"), ("extra", "db"), ("tlsKey", "db")]).await;
    let absent = refusal(&[("cred", "user/bob/nil"), ("extra", "db"), ("tlsKey", "db")]).await;
    assert_eq!(there.replace("bob/key", "bob/nil"), absent);
    // And no administrator binds it either.
    let policy = policy(
        "1.0.0",
        &[("cred", "user/bob/key"), ("extra", "db"), ("tlsKey", "db")],
    );
    let answer = world.put("root", "policies/uplink", &policy).await;
    answer.refused(Code::Invalid);
    assert!(
        world
            .get("alice", "policies")
            .await
            .json::<Vec<PolicyInfo>>()
            .is_empty()
    );
}

#[tokio::test]
async fn definitions_are_replaced_and_removed_by_their_publisher_or_an_administrator() {
    let world = World::new().await;
    world.publish_samples().await;
    let (service, policy) = (
        service("1.0.0", &["cred"]),
        policy("1.0.0", &[("cred", "db")]),
    );
    let named = "service?url=com.example.uplink&version=1.0.0&arch=amd64";
    let before = world.trail("myorg").await.len();
    world
        .post("bob", "services", &service)
        .await
        .refused(Code::Denied);
    world
        .put("bob", "policies/uplink", &policy)
        .await
        .refused(Code::Denied);
    world
        .delete("bob", "policies/uplink")
        .await
        .refused(Code::Denied);
    world.delete("bob", named).await.refused(Code::Denied);
    let denied = &world.trail("myorg").await[before..];
    assert_eq!(denied.len(), 4, "{denied:?}");
    assert!(denied.iter().all(|record| record.ends_with(" denied")));

    world.put("alice", "policies/uplink", &policy).await.ok();
    // Who publishes answers for it from then on: an administrator takes no secret of hers along.
    world.put("root", "policies/uplink", &policy).await.ok();
    world
        .put("alice", "policies/uplink", &policy)
        .await
        .refused(Code::Denied);
    world.delete("root", "policies/uplink").await.ok();
    world.delete("alice", named).await.ok();
}

/// A definition decides which containers get what the policies of others bind, and one for exactly
/// the node's architecture, or a newer version, comes before the publisher's own.
#[tokio::test]
async fn nobody_adds_a_definition_to_the_service_of_another() {
    let world = World::new().await;
    world.publish_samples().await;
    let mut siblings = [service("1.0.0", &["cred"]), service("1.0.0", &["cred"])];
    siblings[0]["arch"] = "arm64".into();
    siblings[1]["version"] = "1.0".into();
    for sibling in &siblings {
        for path in ["services?dry_run=true", "services"] {
            world.post("bob", path, sibling).await.refused(Code::Denied);
        }
        // An administrator may, and it stays its first publisher's to go on with.
        world.post("root", "services", sibling).await.ok();
    }
    world
        .post("alice", "services", &service("2.0.0", &["cred"]))
        .await
        .ok();
    let mut own = service("1.0.0", &["cred"]);
    own["url"] = "com.example.other".into();
    world.post("bob", "services", &own).await.ok();
}

#[tokio::test]
async fn a_definition_that_a_policy_needs_stays() {
    let world = World::new().await;
    world.publish_samples().await;
    let named = "service?url=com.example.uplink&version=1.0.0";
    let detail = world.delete("alice", named).await.refused(Code::Conflict);
    assert!(detail.contains("policy \"uplink\""), "{detail}");
    // A version that no policy deploys goes.
    world
        .post("alice", "services", &service("2.0.0", &["cred"]))
        .await
        .ok();
    world
        .delete("alice", "service?url=com.example.uplink")
        .await
        .refused(Code::Conflict);
    world
        .delete("alice", "service?url=com.example.uplink&version=2.0.0")
        .await
        .ok();
    world.delete("alice", "policies/uplink").await.ok();
    world
        .delete("alice", "service?url=com.example.uplink")
        .await
        .ok();
    world.delete("alice", named).await.refused(Code::NotFound);
}

#[tokio::test]
async fn a_new_secret_in_a_deployed_definition_is_warned_of() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("n1", "berlin", None).await;
    let wider = service("1.0.0", &["cred", "tlsKey"]);
    let path = "services?dry_run=true";
    let published: Published = world.post("alice", path, &wider).await.json();
    assert_eq!(published.warnings.len(), 1, "{:?}", published.warnings);
    assert!(published.warnings[0].contains("\"uplink\""));
    assert_eq!(changes(&published)[0].1, ChangeKind::Undeploy);
    let infos: Vec<ServiceInfo> = world.get("bob", "services").await.json();
    assert_eq!(infos[0].secrets, ["cred".parse().unwrap()]);
}

#[tokio::test]
async fn documents_come_as_json_or_yaml_and_are_refused_whole() {
    let world = World::new().await;
    let send = |media_type: &'static str, text: String| {
        let request = Request::post(at("services")).header(header::CONTENT_TYPE, media_type);
        world.request("alice", request.body(Body::from(text)).unwrap())
    };
    let json = service("1.0.0", &["cred"]).to_string();
    let yaml = serde_yaml::to_string(&service("2.0.0", &["cred"])).unwrap();
    send("application/json", json.clone()).await.ok();
    send("application/yaml", yaml.clone()).await.ok();
    send("text/yaml; charset=utf-8", yaml).await.ok();
    send("text/plain", json.clone())
        .await
        .refused(Code::UnsupportedMediaType);
    let large = "x".repeat(edge_secrets_protocol::limits::MAX_ADMIN_REQUEST + 1);
    send("application/json", large)
        .await
        .refused(Code::TooLarge);
    let foreign = json.replace("myorg", "other");
    let detail = send("application/json", foreign)
        .await
        .refused(Code::Invalid);
    assert!(detail.contains("\"other\""), "{detail}");
    let broken = "org: myorg\nurl: [\n".to_owned();
    let detail = send("application/yaml", broken)
        .await
        .refused(Code::Invalid);
    assert!(detail.contains("line "), "{detail}");
    let infos: Vec<ServiceInfo> = world.get("bob", "services").await.json();
    assert_eq!(infos.len(), 2);
    let path = "service?url=com.example.uplink&version=2.0.0&arch=amd64";
    let shown: Value = world.get("bob", path).await.json();
    assert_eq!(shown["version"], "2.0.0");
}

/// `uplink` requires `gps`, which has a secret of its own.
async fn publish_what_requires(world: &World) -> Answer {
    world.set("root", "db", "x").await.ok();
    let mut gps = service("1.2.0", &["token"]);
    gps["url"] = json!("com.example.gps");
    // As in a file of Open Horizon's own: it is of the organisation that it is published in.
    gps.as_object_mut().unwrap().remove("org");
    world.post("alice", "services", &gps).await.ok();
    let mut uplink = service("1.0.0", &["cred"]);
    uplink["requiredServices"] = json!([
        {"url": "com.example.gps", "org": "myorg", "versionRange": "[1.0.0,INFINITY)", "arch": "*"},
    ]);
    world.post("alice", "services", &uplink).await.ok();
    let mut policy = policy("1.0.0", &[("cred", "db")]);
    let mut of_gps = policy["secretBinding"][0].clone();
    of_gps["serviceUrl"] = json!("com.example.gps");
    of_gps["secrets"] = json!([{"token": "gps-token"}]);
    policy["secretBinding"].as_array_mut().unwrap().push(of_gps);
    world
        .put("alice", "policies/uplink?allow_missing=true", &policy)
        .await
}

#[tokio::test]
async fn what_a_service_requires_is_deployed_explained_and_followed_with_it() {
    let world = World::new().await;
    world.enrol("n1", "berlin", None).await;
    let published: Published = publish_what_requires(&world).await.json();
    let warned = published.warnings.iter().any(|w| w.contains("gps-token"));
    assert!(warned, "{:?}", published.warnings);
    assert_eq!(changes(&published).len(), 2);
    let explained: Value = world.get("bob", "nodes/n1/explain").await.json();
    let verdict = &explained["verdicts"][0];
    assert_eq!(
        verdict["deployment"]["service"]["url"],
        "com.example.uplink"
    );
    let required = &verdict["required"][0];
    assert_eq!(required["service"]["url"], "com.example.gps");
    assert_eq!(required["secrets"][0]["state"], "missing");
    let rollout: Value = world.get("bob", "policies/uplink/rollout").await.json();
    let (total, node) = (&rollout["total"], &rollout["nodes"][0]);
    assert_eq!(
        (total, &node["required"][0]["state"]),
        (&json!(1), &json!("blocked"))
    );
    world.set("root", "gps-token", "x").await.ok();
    world.report_applied("n1").await;
    let rollout: Value = world.get("bob", "policies/uplink/rollout").await.json();
    assert_eq!(
        (&rollout["applied"], &rollout["nodes"][0]["state"]),
        (&json!(1), &json!("applied"))
    );
}

#[tokio::test]
async fn services_that_require_each_other_are_refused() {
    let world = World::new().await;
    publish_what_requires(&world).await.ok();
    let mut gps = service("2.0.0", &["token"]);
    gps["url"] = json!("com.example.gps");
    gps["requiredServices"] = json!([{"url": "com.example.uplink", "org": "myorg"}]);
    let detail = world
        .post("alice", "services", &gps)
        .await
        .refused(Code::Invalid);
    assert!(detail.contains("in a ring: "), "{detail}");
    // What nobody has published is a warning for who publishes, and a fault for who deploys.
    let mut lonely = service("3.0.0", &[]);
    lonely["requiredServices"] = json!([{"url": "com.example.gone", "org": "myorg"}]);
    let published: Published = world.post("alice", "services", &lonely).await.json();
    assert!(
        published.warnings[0].contains("com.example.gone"),
        "{:?}",
        published.warnings
    );
    let deploys = policy("3.0.0", &[]);
    let detail = world
        .put("alice", "policies/lonely", &deploys)
        .await
        .refused(Code::Invalid);
    assert!(
        detail.contains("requires myorg/com.example.gone"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_services_own_policy_is_set_kept_and_removed_beside_its_definition() {
    let world = World::new().await;
    world.enrol("n1", "berlin", None).await;
    world.publish_samples().await;
    let path = "service-policy?url=com.example.uplink";
    world.get("bob", path).await.refused(Code::NotFound);
    let own = json!({"constraints": ["site == paris"]});
    let dry = format!("{path}&dry_run=true");
    let asked: Published = world.put("alice", &dry, &own).await.json();
    assert_eq!(changes(&asked)[0].1, ChangeKind::Undeploy);
    world.get("bob", path).await.refused(Code::NotFound);
    world.put("bob", path, &own).await.refused(Code::Denied);
    let done: Published = world.put("alice", path, &own).await.json();
    assert_eq!(changes(&done), changes(&asked));
    let shown: Value = world.get("bob", path).await.json();
    assert_eq!(shown, own);

    // Publishing the definition again leaves it alone, unless the definition brings its own.
    let mut definition = service("1.0.0", &["cred"]);
    let again: Published = world.post("alice", "services", &definition).await.json();
    assert_eq!(changes(&again), []);
    assert_eq!(world.get("bob", path).await.json::<Value>(), own);
    definition["servicePolicy"] = json!({"constraints": ["site == berlin"]});
    let brought: Published = world.post("alice", "services", &definition).await.json();
    assert_eq!(changes(&brought)[0].1, ChangeKind::Deploy);

    let bad = json!({"constraints": ["site ="]});
    let told = world.put("alice", path, &bad).await.refused(Code::Invalid);
    let expected = "The service policy is refused: constraints[0]: constraint, character ";
    assert!(told.starts_with(expected), "{told}");
    world.delete("bob", path).await.refused(Code::Denied);
    world.delete("alice", path).await.ok();
    world.delete("alice", path).await.refused(Code::NotFound);
    world.get("bob", path).await.refused(Code::NotFound);
    let trail = world.trail("myorg").await;
    let of_policy = trail
        .iter()
        .filter(|line| line.starts_with("service.policy."));
    let object = "service/myorg/com.example.uplink 1.0.0 amd64";
    let expected = [
        format!("service.policy.set {object} denied"),
        format!("service.policy.set {object} ok"),
        format!("service.policy.remove {object} denied"),
        format!("service.policy.remove {object} ok"),
    ];
    assert_eq!(of_policy.cloned().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_definition_with_a_slip_is_refused_and_one_with_a_note_is_told() {
    let world = World::new().await;
    let mut slip = service("1.0.0", &["cred"]);
    slip["sharabel"] = json!("singleton");
    let told = world
        .post("alice", "services", &slip)
        .await
        .refused(Code::Invalid);
    assert!(
        told.contains("sharabel: is no field that is known; did you mean `sharable`? (line 1"),
        "{told}"
    );
    let mut note = service("1.0.0", &["cred"]);
    note["ofTomorrow"] = json!(1);
    let published: Published = world.post("alice", "services", &note).await.json();
    assert!(
        published.warnings[0].starts_with("ofTomorrow: is no field"),
        "{published:?}"
    );
}

/// Nothing waits for a secret that nobody needs.
#[tokio::test]
async fn an_optional_secret_may_be_bound_before_it_is_there() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    let mut definition = service("1.0.0", &["cred", "extra"]);
    definition["deployment"]["services"]["uplink"]["secrets"]["extra"] = json!({"optional": true});
    world.post("alice", "services", &definition).await.ok();
    let bound = policy("1.0.0", &[("cred", "db"), ("extra", "later")]);
    let published: Published = world.put("alice", "policies/uplink", &bound).await.json();
    let expected = r#"secretBinding[0].secrets[1]: secret "later" does not exist"#;
    assert_eq!(published.warnings, [expected]);
    let needed = policy("1.0.0", &[("cred", "later"), ("extra", "db")]);
    let told = world
        .put("alice", "policies/uplink", &needed)
        .await
        .refused(Code::Invalid);
    assert!(told.contains(r#"secret "later" does not exist"#), "{told}");
}
