//! Our extensions of a secret's declaration: `optional` and `mode`.

use super::*;

/// `myorg/u` with two containers: `main` can do without `maybe`, `side` as it says.
fn two_containers(side: &Value) -> Service {
    let text = json!({
        "org": "myorg", "url": "u", "version": "1.0.0", "arch": "",
        "deployment": {"services": {
            "main": {"secrets": {"s": {}, "maybe": {"optional": true, "mode": "0440"}}},
            "side": {"secrets": side},
        }},
    });
    service(&text.to_string())
}

/// Every consumer's secrets with their modes, and every binding.
fn shown(services: Vec<Service>, document: &Value) -> Vec<String> {
    let policies = vec![policy("p", "bob", &document.to_string())];
    let placed = super::super::place(&org(), &berlin(), &definitions(services, policies));
    let mut lines = Vec::new();
    for one in &placed {
        for consumer in &one.consumers {
            let secrets = consumer.secrets.iter().map(|secret| match secret.mode {
                Some(mode) => format!("{} {mode}", secret.name),
                None => secret.name.to_string(),
            });
            let secrets = secrets.collect::<Vec<_>>().join(", ");
            lines.push(format!("{}: {secrets}", consumer.name));
        }
        for (name, binding) in &one.bindings {
            let optional = if binding.optional { ", optional" } else { "" };
            lines.push(format!("{name} -> {}{optional}", binding.candidates[0]));
        }
    }
    lines
}

#[test]
fn an_optional_secret_may_be_unbound() {
    let document = plain_policy(&["1.0.0"], "", "x");
    let services = || vec![two_containers(&json!({"maybe": {"optional": true}}))];
    assert_eq!(
        shown(services(), &document),
        ["main: s", "side: ", "s -> x"]
    );
    let policies = vec![policy("p", "bob", &document.to_string())];
    let told = super::super::explain(&org(), &berlin(), &definitions(services(), policies));
    let binding = told[0].rules.iter().find(|rule| rule.rule == "binding");
    assert_eq!(
        binding.unwrap().detail,
        "s to x (secretBinding[0].secrets[0]), maybe to nothing, it is optional"
    );
    let mut bound = document;
    bound["secretBinding"][0]["secrets"] = json!([{"s": "x"}, {"maybe": "y"}]);
    assert_eq!(
        shown(services(), &bound),
        [
            "main: maybe 0440, s",
            "side: maybe",
            "maybe -> y, optional",
            "s -> x"
        ]
    );
}

#[test]
fn a_secret_that_one_container_needs_is_needed() {
    let document = plain_policy(&["1.0.0"], "", "x");
    for side in [json!({"maybe": {}}), json!({"maybe": {"optional": false}})] {
        assert_eq!(shown(vec![two_containers(&side)], &document), [""; 0]);
    }
}

/// Nothing waits for what only optional secrets are bound to.
#[test]
fn references_that_nothing_needs_are_known() {
    let mut document = plain_policy(&["1.0.0"], "", "x");
    document["secretBinding"][0]["secrets"] = json!([{"s": "x"}, {"maybe": "y"}, {"unknown": "z"}]);
    let optional = |document: &Value| {
        let policy = DeploymentPolicy::parse(&document.to_string()).unwrap();
        let services = [two_containers(&json!({}))].into_iter().collect();
        let found = check_policy(&policy, &user("bob"), &services).optional;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(optional(&document), ["y"]);
    document["secretBinding"][0]["secrets"] = json!([{"s": "y"}, {"maybe": "y"}]);
    assert_eq!(optional(&document), [""; 0]);
}

#[test]
fn what_is_no_declaration_is_refused_with_its_place() {
    for (declaration, told) in [
        (
            json!({"optional": "yes"}),
            "optional: expected `true` or `false`, found the text \"yes\"",
        ),
        (
            json!({"mode": "0444"}),
            "mode: mode \"0444\" gives more than reading and writing to owner and group",
        ),
        (
            json!({"mode": 440}),
            "mode: expected a text, found the number 440: put it in quotes",
        ),
        (
            json!({"mode": "440"}),
            "mode: mode \"440\" is not written like 0440",
        ),
    ] {
        let text = json!({
            "org": "o", "url": "u", "version": "1",
            "deployment": {"services": {"main": {"secrets": {"s": declaration}}}},
        });
        let error = ServiceDefinition::parse(&text.to_string()).unwrap_err();
        let error = error.to_string();
        let expected = format!("deployment.services.main.secrets.s.{told} (line 1, column ");
        assert!(error.starts_with(&expected), "{error}");
    }
}
