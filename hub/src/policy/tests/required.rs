//! Services that require others, and services that run once for several policies.

use super::*;

/// A policy for `myorg/URL` that binds `secret` of `service` to `reference` for each line
/// `service/secret reference`.
fn policy_for(name: &str, url: &str, versions: &[&str], bound: &[&str]) -> Policy {
    let mut text = plain_policy(versions, "", "x");
    text["service"]["name"] = json!(url);
    let binding = |line: &&str| {
        let (what, reference) = line.split_once(' ').unwrap();
        let (service, secret) = what.split_once('/').unwrap();
        json!({"serviceOrgid": "myorg", "serviceUrl": service, "secrets": [{secret: reference}]})
    };
    text["secretBinding"] = bound.iter().map(binding).collect();
    policy(name, "bob", &text.to_string())
}

/// `service version: secret -> reference (users)`, for each placed service.
fn shown(definitions: &Definitions) -> Vec<String> {
    let placed = super::super::place(&org(), &berlin(), definitions);
    let mut lines: Vec<_> = placed
        .iter()
        .map(|one| {
            let bound = one
                .bindings
                .iter()
                .map(|(name, binding)| format!("{name} -> {}", binding.candidates[0]));
            let users = one.sources().map(ToString::to_string);
            let (bound, users): (Vec<_>, Vec<_>) = (bound.collect(), users.collect());
            let (url, version) = (&one.service.url, &one.service_version);
            format!(
                "{url} {version}: {} ({})",
                bound.join(", "),
                users.join(", ")
            )
        })
        .collect();
    lines.sort();
    lines
}

fn rules(definitions: &Definitions, policy: &str, rule: &str) -> Vec<(bool, String)> {
    let verdicts = super::super::explain(&org(), &berlin(), definitions);
    let of_policy = verdicts
        .into_iter()
        .find(|v| v.policy.to_string() == policy);
    let rules = of_policy.unwrap().rules.into_iter();
    rules
        .filter(|r| r.rule == rule)
        .map(|r| (r.holds, r.detail))
        .collect()
}

#[test]
fn what_a_service_requires_is_placed_with_its_own_bindings() {
    let services = || {
        vec![
            requiring("a", "1.0.0", &["b [1.0.0,2.0.0)"], &[]),
            requiring("b", "1.5.0", &["c"], &["token"]),
            requiring("b", "2.0.0", &[], &["token"]),
            requiring("c", "1.0.0", &[], &["key"]),
        ]
    };
    let bound = ["b/token secret-b", "c/key secret-c"];
    let whole = definitions(services(), vec![policy_for("p", "a", &["1.0.0"], &bound)]);
    assert_eq!(
        shown(&whole),
        [
            "a 1.0.0:  (p)",
            "b 1.5.0: token -> secret-b (p)",
            "c 1.0.0: key -> secret-c (p)",
        ]
    );
    assert_eq!(
        rules(&whole, "p", "required services"),
        [(true, "myorg/b 1.5.0, myorg/c 1.0.0".to_owned())]
    );
    // One secret that is not bound, however deep, and the version is not compatible.
    let partly = definitions(
        services(),
        vec![policy_for("p", "a", &["1.0.0"], &bound[..1])],
    );
    assert_eq!(shown(&partly), [""; 0]);
    let failed = rules(&partly, "p", "binding");
    assert_eq!(
        failed.last().unwrap(),
        &(
            false,
            "No secret binding found for the following service secrets: [key] (myorg/c 1.0.0)"
                .to_owned()
        )
    );
}

#[test]
fn the_next_version_is_tried_when_what_one_requires_is_not_there() {
    let services = vec![
        requiring("a", "2.0.0", &["gone"], &[]),
        requiring("a", "1.0.0", &[], &[]),
    ];
    let both = definitions(
        services,
        vec![policy_for("p", "a", &["2.0.0", "1.0.0"], &[])],
    );
    assert_eq!(shown(&both), ["a 1.0.0:  (p)"]);
    let failed = rules(&both, "p", "required services");
    assert_eq!(
        failed[0],
        (
            false,
            "myorg/a 2.0.0 requires myorg/gone, which is not published (version 2.0.0)".to_owned()
        )
    );
}

/// Open Horizon's §7.1-28 and §5.2-6: the second policy's values are ignored without a word there, and
/// its additional secrets never arrive.
#[test]
fn a_singleton_runs_once_as_the_first_policy_wants_it_and_both_say_so() {
    let services = || {
        vec![
            requiring("a", "1.0.0", &["dep"], &[]),
            requiring("z", "1.0.0", &["dep"], &[]),
            requiring("dep", "1.0.0", &[], &["one", "two"]),
        ]
    };
    let one = policy_for("p1", "a", &["1.0.0"], &["dep/one x", "dep/two y"]);
    let same = policy_for("p2", "z", &["1.0.0"], &["dep/one x", "dep/two y"]);
    let shared = definitions(services(), vec![one.clone(), same.clone()]);
    assert_eq!(
        shown(&shared),
        [
            "a 1.0.0:  (p1)",
            "dep 1.0.0: one -> x, two -> y (p1, p2)",
            "z 1.0.0:  (p2)"
        ]
    );
    // Without one of them the other's deployment is the same one: nothing is wiped for a moment.
    let id = |definitions: &Definitions| {
        let placed = super::super::place(&org(), &berlin(), definitions);
        placed
            .into_iter()
            .find(|one| one.service.url.as_str() == "dep")
            .unwrap()
            .id
    };
    let alone = definitions(services(), vec![same]);
    assert_eq!(id(&shared), id(&alone));
    assert_eq!(
        shown(&alone),
        ["dep 1.0.0: one -> x, two -> y (p2)", "z 1.0.0:  (p2)"]
    );
    let other = policy_for("p2", "z", &["1.0.0"], &["dep/one other", "dep/two y"]);
    let differ = definitions(services(), vec![one, other]);
    assert_eq!(
        shown(&differ),
        [
            "a 1.0.0:  (p1)",
            "dep 1.0.0: one -> x, two -> y (p1, p2)",
            "z 1.0.0:  (p2)"
        ]
    );
    let loser = rules(&differ, "p2", "shared service");
    assert_eq!(
        loser,
        [(
            false,
            "myorg/dep 1.0.0 is here for policy p1, whose name comes first: one is x there and \
                  other here; the first is delivered"
                .to_owned()
        )]
    );
    let winner = rules(&differ, "p1", "shared service");
    assert_eq!(
        winner,
        [(
            true,
            "myorg/dep is as this policy wants it, also for p2".to_owned()
        )]
    );
}

#[test]
fn the_version_that_runs_already_decides_for_those_who_come_later() {
    let services = vec![
        requiring("a", "1.0.0", &["dep [1.0.0,2.0.0)"], &[]),
        requiring("z", "2.0.0", &["dep [2.0.0,3.0.0)"], &[]),
        requiring("z", "1.0.0", &["dep [1.0.0,3.0.0)"], &[]),
        requiring("dep", "1.0.0", &[], &["s"]),
        requiring("dep", "2.0.0", &[], &["s"]),
    ];
    let policies = vec![
        policy_for("p1", "a", &["1.0.0"], &["dep/s x"]),
        policy_for("p2", "z", &["2.0.0", "1.0.0"], &["dep/s x"]),
    ];
    let both = definitions(services, policies);
    assert_eq!(
        shown(&both),
        [
            "a 1.0.0:  (p1)",
            "dep 1.0.0: s -> x (p1, p2)",
            "z 1.0.0:  (p2)"
        ]
    );
    let failed = rules(&both, "p2", "required services");
    assert!(
        failed[0]
            .1
            .starts_with("myorg/dep 1.0.0 is here for policy p1"),
        "{failed:?}"
    );
}

#[test]
fn one_for_each_who_needs_it_is_shared_only_where_both_want_the_same() {
    let (owner, dep) = requiring("dep", "1.0.0", &[], &["s"]);
    let text = dep.to_json().replace("singleton", "multiple");
    let multiple = (owner, ServiceDefinition::parse(&text).unwrap());
    let services = vec![
        requiring("a", "1.0.0", &["dep"], &[]),
        requiring("z", "1.0.0", &["dep"], &[]),
        multiple,
    ];
    let on = |reference: &str| {
        let bound = format!("dep/s {reference}");
        definitions(
            services.clone(),
            vec![
                policy_for("p1", "a", &["1.0.0"], &["dep/s x"]),
                policy_for("p2", "z", &["1.0.0"], &[&bound]),
            ],
        )
    };
    assert_eq!(shown(&on("x")).len(), 3);
    assert_eq!(
        shown(&on("y")),
        ["a 1.0.0:  (p1)", "dep 1.0.0: s -> x (p1)"]
    );
    let why = rules(&on("y"), "p2", "shared service");
    assert!(!why[0].0 && why[0].1.contains("bound otherwise"), "{why:?}");
}

#[test]
fn a_service_that_is_required_and_deployed_keeps_the_id_of_its_policy() {
    let services = vec![
        requiring("a", "1.0.0", &["dep"], &[]),
        requiring("dep", "1.0.0", &[], &["s"]),
    ];
    let own = policy_for("own", "dep", &["1.0.0"], &["dep/s x"]);
    let id = |policies: Vec<Policy>| {
        let definitions = definitions(services.clone(), policies);
        let placed = super::super::place(&org(), &berlin(), &definitions);
        placed
            .into_iter()
            .find(|one| one.service.url.as_str() == "dep")
            .unwrap()
            .id
    };
    let requires = policy_for("a-first", "a", &["1.0.0"], &["dep/s x"]);
    assert_eq!(id(vec![own.clone()]), id(vec![own, requires]));
}

#[test]
fn privileges_are_asked_of_the_node_for_all_that_runs() {
    let (owner, dep) = requiring("dep", "1.0.0", &[], &["s"]);
    let text = dep
        .to_json()
        .replace("\"secrets\"", "\"privileged\":true,\"secrets\"");
    let privileged = (owner, ServiceDefinition::parse(&text).unwrap());
    let all = definitions(
        vec![requiring("a", "1.0.0", &["dep"], &[]), privileged],
        vec![policy_for("p", "a", &["1.0.0"], &["dep/s x"])],
    );
    let on = |allowed: Value| {
        let stated = json!({"openhorizon.allowPrivileged": allowed});
        let node = node("n", None, "amd64", stated);
        super::super::place(&org(), &node, &all).len()
    };
    assert_eq!(
        (on(json!(false)), on(json!(true)), on(json!("true"))),
        (0, 2, 2)
    );
    assert_eq!(shown(&all), [""; 0], "a node that does not say so does not");
}
