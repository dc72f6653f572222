use proptest::prelude::*;
use serde_json::json;

use super::*;

const SERVICE: &str = r#"{
  "org": "$HZN_ORG_ID", "url": "$SERVICE_NAME", "version": "1.0.0", "arch": "$ARCH",
  "deployment": { "services": { "main": { "secrets": { "cred": {} } } } }
}"#;

fn variables() -> Variables {
    let values = |pairs: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    };
    Variables {
        flags: values(&[("SERVICE_NAME", "com.example.uplink")]),
        environment: values(&[("HZN_EXCHANGE_USER_AUTH", "alice:canary")]),
        defaults: values(&[("ARCH", "amd64"), ("HZN_ORG_ID", "myorg")]),
    }
}

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.into(),
        root: "fleet".into(),
        is_named: false,
        text: text.to_owned(),
    }
}

fn understand(source: &Source, allow_undefined: bool) -> Outcome {
    let reading = Reading {
        org: &"myorg".parse().unwrap(),
        variables: &variables(),
        allow_undefined,
        names: &[("fleet/named.json".to_owned(), "given".to_owned())].into(),
    };
    reading.understand(source, None)
}

fn documents(file: &str, text: &str) -> Vec<String> {
    match understand(&source(file, text), false) {
        Outcome::Understood(some) => some.iter().map(|one| one.identity().to_string()).collect(),
        other => panic!("{file}: {other:?}"),
    }
}

fn refusals(file: &str, text: &str) -> Vec<String> {
    match understand(&source(file, text), false) {
        Outcome::Refused(some) => some.iter().map(ToString::to_string).collect(),
        other => panic!("{file}: {other:?}"),
    }
}

fn left(file: &str, text: &str) -> Left {
    match understand(&source(file, text), false) {
        Outcome::Left(left) => left,
        other => panic!("{file}: {other:?}"),
    }
}

fn policy(name: &str) -> Value {
    json!({"service": {"name": name, "org": "myorg", "serviceVersions": [{"version": "1.0.0"}]}})
}

#[test]
fn a_definition_is_read_with_its_variables() {
    assert_eq!(
        documents("fleet/service.definition.json", SERVICE),
        ["com.example.uplink 1.0.0 amd64"]
    );
    let yaml = "url: ${SERVICE_NAME}\nversion: 1.0.0\narch: $ARCH\ndeployment: {}\n";
    assert_eq!(
        documents("fleet/any.yaml", yaml),
        ["com.example.uplink 1.0.0 amd64"]
    );
}

#[test]
fn policies_are_called_as_told_else_by_their_file() {
    let text = policy("a").to_string();
    assert_eq!(documents("fleet/named.json", &text), ["given"]);
    assert_eq!(documents("fleet/uplink.policy.json", &text), ["uplink"]);
    let listing = json!({"myorg/one": policy("a"), "myorg/two": policy("b")}).to_string();
    assert_eq!(documents("fleet/x.json", &listing), ["one", "two"]);
}

#[test]
fn listed_definitions_are_of_the_organisation_in_their_key() {
    let definition = json!({"url": "a", "version": "1.0.0", "arch": "amd64",
        "deployment": "{\"services\":{\"m\":{\"secrets\":{\"cred\":{}}}}}", "deploymentSignature": "x"});
    let listing = json!({"myorg/a_1.0.0_amd64": definition}).to_string();
    assert_eq!(documents("fleet/x.json", &listing), ["a 1.0.0 amd64"]);
    let listing = json!({"IBM/a_1.0.0_amd64": definition}).to_string();
    let said = refusals("fleet/x.json", &listing);
    assert!(
        said[0].starts_with("fleet/x.json:1:2: [\"IBM/a_1.0.0_amd64\"] org: it is of IBM"),
        "{said:?}"
    );
}

#[test]
fn variables_without_a_value_are_named_with_file_line_and_column() {
    let text = SERVICE.replace("1.0.0", "$VERSION").replace("main", "${}");
    assert_eq!(
        refusals("fleet/service.definition.json", &text),
        [
            "fleet/service.definition.json:2:61: the variable `VERSION` has no value: give it with \
             --var, in the environment or in hzn.json",
            "fleet/service.definition.json:3:34: `${` is not closed, or has no name in it",
        ]
    );
    let credential = SERVICE
        .replace("com.example", "x")
        .replace("$ARCH", "$HZN_EXCHANGE_USER_AUTH");
    let said = refusals("fleet/service.definition.json", &credential);
    assert!(
        said[0].contains("logs in with") && !said[0].contains("canary"),
        "{said:?}"
    );
    let text = SERVICE.replace("$ARCH", "$NONE");
    let allowed = understand(&source("fleet/service.definition.json", &text), true);
    assert!(matches!(allowed, Outcome::Understood(_)), "{allowed:?}");
    // Whatever is in files that are for nobody here.
    let other = left("fleet/package.json", r#"{"name": "$NONE"}"#);
    assert_eq!(other.kind, None);
}

#[test]
fn faults_stand_where_they_are_in_the_file() {
    let broken = "/* one\n   two */\n{ \"org\": \"$HZN_ORG_ID\", \"url\": oops }";
    let said = refusals("fleet/service.definition.json", broken);
    assert!(
        said[0].starts_with("fleet/service.definition.json:3:"),
        "{said:?}"
    );
    let wrong = SERVICE.replace(
        "\"deployment\"",
        "/* x\n */ \"sharable\": \"singelton\", \"deployment\"",
    );
    let said = refusals("fleet/service.definition.json", &wrong);
    assert!(
        said[0].starts_with("fleet/service.definition.json:4:17: sharable: expected `singleton`")
            && said[0].contains("did you mean `singleton`"),
        "{said:?}"
    );
    let said = refusals("fleet/service.definition.json", r#"{"urll": "a"}"#);
    assert!(
        said[0].contains("`url`") && said[0].contains("`urll`"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_for_the_hub_is_left_with_its_reason() {
    for (file, text, kind, word) in [
        (
            "node.policy.json",
            r#"{"properties": [{"name": "openhorizon.cpu", "value": 4}]}"#,
            Some(Kind::NodePolicy),
            "agent.yaml",
        ),
        (
            "userinput.json",
            r#"[{"serviceUrl": "a", "inputs": []}]"#,
            Some(Kind::UserInput),
            "configuration",
        ),
        (
            "object.json",
            r#"{"objectID": "a"}"#,
            Some(Kind::Object),
            "models",
        ),
        (
            "nmp.json",
            r#"{"agentUpgradePolicy": {}}"#,
            Some(Kind::ManagementPolicy),
            "upgraded",
        ),
        (
            "rules.json",
            r#"{"constraints": []}"#,
            None,
            "node.policy.json",
        ),
        ("other.json", r#"{"a": 1}"#, None, "no document"),
        ("other.json", "{", None, "cannot be read"),
        ("k8s.yaml", "a: 1\n---\nb: 2\n", None, "cannot be read"),
    ] {
        let left = left(&format!("fleet/{file}"), text);
        assert_eq!(left.kind, kind, "{file}");
        assert!(left.reason.contains(word), "{file}: {}", left.reason);
    }
}

#[test]
fn what_should_be_a_document_and_is_none_is_refused() {
    let said = refusals("fleet/node.policy.json", r#"{"constraints": ["a = = b"]}"#);
    assert!(said[0].contains("constraints[0]"), "{said:?}");
    let mut named = source("other.json", r#"{"a": 1}"#);
    named.is_named = true;
    assert!(matches!(understand(&named, false), Outcome::Refused(_)));
    assert!(refusals("fleet/pattern.json", "{")[0].starts_with("fleet/pattern.json:1:"));
}

proptest! {
    #[test]
    fn foreign_files_never_panic(
        file in "(fleet/)?(service.definition.json|deployment.policy.json|node.policy.json|x.yaml|\\PC{0,8})",
        text in "(\\{|\\}|\\[|\\]|\"|:|,|\\$|url|version|service|properties|\n|\\PC){0,30}",
        allow in any::<bool>()
    ) {
        understand(&source(&file, &text), allow);
    }
}
