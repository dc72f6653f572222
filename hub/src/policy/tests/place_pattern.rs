//! What a node on a pattern gets.

use super::*;

fn with_pattern(services: Vec<Service>, owner: &str, text: &Value) -> Definitions {
    let document = Pattern::parse(&text.to_string()).unwrap();
    let owner = user(owner);
    let published = Arc::new(Published { owner, document });
    let mut all = uplink();
    for (owner, document) in services {
        all.services.put(Arc::new(Published { owner, document }));
    }
    all.patterns
        .insert("myorg/edge".parse().unwrap(), published);
    all
}

fn offer(url: &str, arch: &str, versions: &[&str]) -> Value {
    let version = |(at, version): (usize, &&str)| {
        json!({"version": version, "priority":
            {"priority_value": at + 1, "retries": 1, "retry_durations": 60}})
    };
    let versions: Vec<_> = versions.iter().enumerate().map(version).collect();
    json!({"serviceOrgid": "myorg", "serviceUrl": url, "serviceArch": arch,
           "serviceVersions": versions})
}

fn binding(url: &str, secret: &str, more: Value) -> Value {
    let mut binding =
        json!({"serviceOrgid": "myorg", "serviceUrl": url, "secrets": [{"s": secret}]});
    let more = more.as_object().cloned().unwrap_or_default();
    binding.as_object_mut().unwrap().extend(more);
    binding
}

fn on(node: NodeView, pattern: &str) -> NodeView {
    node.on(Some(pattern.parse().unwrap()))
}

/// `service version: name -> references, …` of everything placed.
fn placed(node: &NodeView, definitions: &Definitions) -> Vec<String> {
    let placed = super::super::place(&org(), node, definitions);
    let line = |one: &Placed| {
        let bound = one.bindings.values().map(|binding| {
            let references = binding.candidates.iter().map(ToString::to_string);
            let references = references.collect::<Vec<_>>().join(" else ");
            let denied = if binding.denied { " denied" } else { "" };
            format!("{references}{denied}")
        });
        let bound = bound.collect::<Vec<_>>().join(", ");
        format!("{} {}: {bound}", one.service.url, one.service_version)
    };
    let mut lines: Vec<_> = placed.iter().map(line).collect();
    lines.sort();
    lines
}

/// Policies are not asked, nor are their constraints and those of the node.
#[test]
fn a_node_on_a_pattern_has_its_services_and_no_policys() {
    let text = json!({
        "services": [offer("u", "", &["1.0.0"])],
        "secretBinding": [binding("u", "db", json!({}))],
    });
    let definitions = with_pattern(vec![plain_service("1.0.0", "")], "alice", &text);
    let on_policies = placed(&berlin(), &definitions);
    assert_eq!(on_policies.len(), 1, "{on_policies:?}");
    assert!(on_policies[0].starts_with("com.example.uplink"));
    let strict = json!({"site": "berlin", "node policy": {"constraints": ["nothing == here"]}});
    for node in [berlin(), node("n", None, "amd64", strict)] {
        let node = on(node, "myorg/edge");
        assert_eq!(placed(&node, &definitions), ["u 1.0.0: db"]);
        let uplink = &definitions.policies[&"uplink".parse().unwrap()].document;
        assert!(!could_place(&node, uplink));
    }
    for other in ["myorg/nope", "other/edge"] {
        assert_eq!(placed(&on(berlin(), other), &definitions), [""; 0]);
    }
}

#[test]
fn versions_fall_back_by_priority_and_architectures_are_told_apart() {
    let services = vec![
        plain_service("1.0.0", ""),
        plain_service("2.0.0", "arm64"),
        plain_service("1.5.0", "arm64"),
    ];
    let text = json!({
        "services": [offer("u", "amd64", &["2.0.0", "1.0.0"]), offer("u", "arm64", &["2.0.0"])],
        "secretBinding": [
            binding("u", "old", json!({"serviceVersionRange": "[1.0.0,2.0.0)"})),
            binding("u", "any", json!({"enableNodeLevelSecrets": true})),
        ],
    });
    let definitions = with_pattern(services, "alice", &text);
    let amd = on(berlin(), "myorg/edge");
    assert_eq!(placed(&amd, &definitions), ["u 1.0.0: old"]);
    let arm = on(node("n", None, "aarch64", json!({})), "myorg/edge");
    assert_eq!(placed(&arm, &definitions), ["u 2.0.0: node/n/any else any"]);
    let neither = on(node("n", None, "s390x", json!({})), "myorg/edge");
    assert_eq!(placed(&neither, &definitions), [""; 0]);
}

/// Reference, case 25, on a node: a pattern and two services that both run, with what one requires.
#[test]
fn two_services_and_what_they_require_run_once_each() {
    let services = vec![
        requiring("app", "1.0.0", &["dep"], &["s"]),
        requiring("u", "1.0.0", &["dep"], &["s"]),
        requiring("dep", "1.0.0", &[], &["s"]),
    ];
    let text = json!({
        "services": [offer("app", "", &["1.0.0"]), offer("u", "", &["1.0.0"])],
        "secretBinding": [
            binding("app", "a", json!({})), binding("u", "b", json!({})),
            binding("dep", "c", json!({})),
        ],
    });
    let definitions = with_pattern(services, "alice", &text);
    let node = on(berlin(), "myorg/edge");
    let expected = ["app 1.0.0: a", "dep 1.0.0: c", "u 1.0.0: b"];
    assert_eq!(placed(&node, &definitions), expected);
    let all = super::super::place(&org(), &node, &definitions);
    let dependency = all.iter().find(|one| one.service.url.as_str() == "dep");
    let users = &dependency.unwrap().required_by;
    let paths: Vec<_> = users
        .iter()
        .map(|user| format!("{} {}", user.policy, user.path[0]))
        .collect();
    let expected = ["pattern:myorg/edge myorg/app", "pattern:myorg/edge myorg/u"];
    assert_eq!(paths, expected);
}

#[test]
fn a_private_secret_goes_by_the_patterns_own_publisher() {
    let text = json!({
        "services": [offer("u", "", &["1.0.0"])],
        "secretBinding": [binding("u", "user/alice/db", json!({}))],
    });
    let services = || vec![plain_service("1.0.0", "")];
    let hers = on(berlin(), "myorg/edge");
    let denied = ["u 1.0.0: user/alice/db denied"];
    let definitions = with_pattern(services(), "alice", &text);
    assert_eq!(placed(&hers, &definitions), ["u 1.0.0: user/alice/db"]);
    let his = on(node("n", Some("bob"), "amd64", json!({})), "myorg/edge");
    assert_eq!(placed(&his, &definitions), denied);
    assert_eq!(
        placed(&hers, &with_pattern(services(), "bob", &text)),
        denied
    );
    // An alice of another organisation is not this one's.
    let mut foreign = definitions.clone();
    let pattern = foreign.patterns.remove(&"myorg/edge".parse().unwrap());
    foreign
        .patterns
        .insert("other/edge".parse().unwrap(), pattern.unwrap());
    assert_eq!(placed(&on(berlin(), "other/edge"), &foreign), denied);
}

#[test]
fn explain_names_the_pattern_and_each_of_its_services_and_then_the_policies() {
    let text = json!({
        "services": [
            offer("u", "amd64", &["2.0.0", "1.0.0"]), offer("u", "arm64", &["1.0.0"]),
            offer("u", "", &["1.0.0"]),
        ],
        "secretBinding": [binding("u", "db", json!({}))],
    });
    let definitions = with_pattern(vec![plain_service("1.0.0", "")], "alice", &text);
    let verdicts = super::super::explain(&org(), &on(berlin(), "myorg/edge"), &definitions);
    let told = |verdict: &Verdict| {
        let failed = verdict.rules.iter().filter(|rule| !rule.holds);
        let failed = failed.map(|rule| format!("{}: {}", rule.rule, rule.detail));
        let placed = if verdict.placed.is_some() {
            "placed"
        } else {
            "not"
        };
        format!(
            "{} {placed} {}",
            verdict.policy,
            failed.collect::<Vec<_>>().join("; ")
        )
    };
    let told: Vec<_> = verdicts.iter().map(told).collect();
    let expected = [
        "pattern:myorg/edge placed service version: myorg/u 2.0.0 is not published",
        "pattern:myorg/edge not arch: the pattern wants arm64, the node is amd64",
        "pattern:myorg/edge not once in a pattern: services[0] deploys myorg/u here: it comes first",
        "uplink not pattern or policies: the node is on pattern myorg/edge: no policy deploys on it",
    ];
    assert_eq!(told, expected);
    let winner = verdicts[0].rules.last().unwrap();
    assert_eq!(winner.detail, "comes before services[2]");
}

/// An answer that the node would refuse whole would keep from it what is taken back later. Its own
/// organisation's documents are refused when they are published.
#[test]
fn a_pattern_of_others_that_would_overfill_a_node_gives_it_nothing() {
    let secrets: Vec<String> = (0..66).map(|at| format!("s{at}")).collect();
    let urls: Vec<String> = (0..62).map(|at| format!("u{at}")).collect();
    let declared = secrets.iter().map(|name| (name.clone(), json!({})));
    let declared: serde_json::Map<_, _> = declared.collect();
    // Each secret counts once for itself and once for each of its readers.
    let readers = ["a", "b", "c", "d"].map(|name| (name.to_owned(), json!({"secrets": declared})));
    let readers = serde_json::Map::from_iter(readers);
    let services = urls.iter().map(|url| {
        let text = json!({"org": "myorg", "url": url, "version": "1.0.0", "arch": "*",
                          "deployment": {"services": readers}});
        service(&text.to_string())
    });
    let services: Vec<_> = services.collect();
    let bound: Vec<Value> = secrets
        .iter()
        .map(|name| json!({name.as_str(): "db"}))
        .collect();
    let text = |count: usize| {
        let urls = urls.iter().take(count);
        let bindings = urls
            .clone()
            .map(|url| json!({"serviceOrgid": "myorg", "serviceUrl": url, "secrets": bound}));
        json!({"services": urls.map(|url| offer(url, "", &["1.0.0"])).collect::<Vec<_>>(),
               "secretBinding": bindings.collect::<Vec<_>>()})
    };
    let node = on(berlin(), "myorg/edge");
    let elsewhere: OrgId = "elsewhere".parse().unwrap();
    for (count, fits) in [(40, true), (62, false)] {
        let all = with_pattern(services.clone(), "alice", &text(count));
        let theirs = super::super::place(&elsewhere, &node, &all);
        assert_eq!(theirs.len(), if fits { count } else { 0 });
        assert_eq!(super::super::place(&org(), &node, &all).len(), count);
        let told = super::super::explain(&elsewhere, &node, &all);
        let over = told.iter().filter(|verdict| {
            let mut rules = verdict.rules.iter();
            verdict.placed.is_none() && rules.any(|rule| rule.rule == "node bounds")
        });
        assert_eq!(over.count(), if fits { 0 } else { count });
    }
}
