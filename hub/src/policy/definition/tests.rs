use edge_secrets_protocol::binding::Format;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> ServiceDefinition {
    ServiceDefinition::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    ServiceDefinition::parse(text).unwrap_err().to_string()
}

fn names(definition: &ServiceDefinition) -> Vec<String> {
    let names = definition.secret_names();
    names.iter().map(ToString::to_string).collect()
}

fn formats(definition: &ServiceDefinition) -> Vec<(&str, &str, Format)> {
    let mut formats = Vec::new();
    for consumer in definition.consumers() {
        for secret in &consumer.secrets {
            formats.push((consumer.name.as_str(), secret.name.as_str(), secret.format));
        }
    }
    formats
}

#[test]
fn a_definition_of_open_horizon_is_taken_unchanged() {
    let text = include_str!("../fixtures/uplink.service.json");
    let definition = parse(text);
    assert_eq!(definition.id().to_string(), "myorg/com.example.uplink");
    assert_eq!(
        (definition.version(), definition.arch()),
        ("1.0.0", "amd64")
    );
    assert_eq!(names(&definition), ["myCloudServiceCred", "tlsKey"]);
    let uplink = [
        ("uplink", "myCloudServiceCred", Format::Json),
        ("uplink", "tlsKey", Format::ValueOnly),
    ];
    assert_eq!(formats(&definition), uplink);
    let kept: Value = serde_json::from_str(&definition.to_json()).unwrap();
    let original: Value = serde_json::from_str(text).unwrap();
    assert_eq!(kept, original);
}

/// Open Horizon's formats of a shared secret depend on the order of a hash map.
#[test]
fn each_container_reads_a_shared_secret_in_its_own_format() {
    let definition = parse(include_str!("../fixtures/camera.service.yaml"));
    assert_eq!(names(&definition), ["brokerPassword", "modelLicence"]);
    let camera = [
        ("capture", "brokerPassword", Format::ValueOnly),
        ("recognise", "brokerPassword", Format::Json),
        ("recognise", "modelLicence", Format::Json),
    ];
    assert_eq!(formats(&definition), camera);
}

#[test]
fn a_deployment_that_is_a_string_is_read_through() {
    let text = include_str!("../fixtures/signed-string.service.json");
    let definition = parse(text);
    assert_eq!(
        formats(&definition),
        [("signed", "token", Format::ValueOnly)]
    );
    assert!(
        definition
            .to_json()
            .contains(r#""ofTomorrow":{"kept":[1,2.5,null]}"#)
    );
    for nothing in [r#""""#, "null", "{}", r#"" ""#, r#"{"services":{}}"#] {
        let text = format!(r#"{{"org":"o","url":"u","version":"1","deployment":{nothing}}}"#);
        assert_eq!(names(&parse(&text)), [""; 0]);
    }
    let broken = r#"{"org":"o","url":"u","version":"1","deployment":"{"}"#;
    assert!(refused(broken).starts_with("deployment: expected the text of a JSON object"));
}

#[test]
fn a_bad_name_is_refused_with_its_path() {
    let with = |container: &str, secret: &str| {
        let deployment = json!({"services": {container: {"secrets": {secret: {}}}}});
        json!({"org": "o", "url": "u", "version": "1", "deployment": deployment}).to_string()
    };
    for secret in ["../x", "", "a/b", "..", "a\0b", &"x".repeat(201)] {
        let error = refused(&with("main", secret));
        assert!(
            error.starts_with("deployment.services.main.secrets"),
            "{error}"
        );
        assert!(error.contains("secret name"), "{error}");
    }
    let error = refused(&with("..", "a"));
    assert!(
        error.starts_with(r#"deployment.services[".."]: consumer"#),
        "{error}"
    );
    let error = refused("org: a b\nurl: u\nversion: '1'\n");
    assert!(
        error.starts_with("org: organisation \"a b\" has a character"),
        "{error}"
    );
    assert!(error.ends_with("(line 1, column 6)"), "{error}");
}

#[test]
fn a_slip_is_answered_with_the_right_spelling() {
    let text = include_str!("../fixtures/uplink.service.json").replace("value_only", "valueOnly");
    assert_eq!(
        refused(&text),
        "deployment.services.uplink.secrets.tlsKey.format: expected `value_only` or `json`, found \
         the text \"valueOnly\"; did you mean `value_only`? (line 24, column 86)"
    );
    let error = refused("{\"org\": \"o\", \"uri\": \"u\", \"version\": \"1\"}");
    assert_eq!(
        error,
        "needs the field `url`; found `uri` instead (line 1, column 1)"
    );
    let error = refused("org: o\nurl: u\nversion: 1.0\n");
    assert!(
        error.contains("found the number 1.0: put it in quotes (line 3"),
        "{error}"
    );
}

#[test]
fn more_secrets_than_a_node_could_take_are_refused() {
    let secrets: Vec<String> = (0..600).map(|at| format!("\"s{at}\":{{}}")).collect();
    let secrets = format!("{{{}}}", secrets.join(","));
    let deployment = format!(r#"{{"services":{{"c":{{"secrets":{secrets}}}}}}}"#);
    let text = format!(r#"{{"org":"o","url":"u","version":"1","deployment":{deployment}}}"#);
    assert!(refused(&text).contains("declares 600 secrets, more than 512"));
}

pub(crate) fn any_document() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(&KEYS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..5_i64).prop_map(Value::from),
        prop::sample::select(
            &[
                "", "*", "1.0.0", "[1,2)", "a == 1", "x", "../x", "{}", "user/a/b"
            ][..]
        )
        .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const KEYS: [&str; 24] = [
    "org",
    "url",
    "version",
    "arch",
    "deployment",
    "services",
    "secrets",
    "format",
    "service",
    "name",
    "serviceVersions",
    "priority",
    "priority_value",
    "properties",
    "constraints",
    "secretBinding",
    "serviceOrgid",
    "serviceUrl",
    "serviceVersionRange",
    "value",
    "type",
    "management",
    "enableNodeLevelSecrets",
    "größe",
];

proptest! {
    #[test]
    fn no_document_makes_it_panic_and_what_is_read_is_read_again(
        document in any_document(), has in any::<bool>(),
    ) {
        let mut document = document;
        if has && let Value::Object(map) = &mut document {
            map.insert("org".into(), "o".into());
            map.insert("url".into(), "u".into());
            map.insert("version".into(), "1.0".into());
        }
        if let Ok(definition) = ServiceDefinition::parse(&document.to_string()) {
            let again = ServiceDefinition::parse(&definition.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), definition.to_json());
            prop_assert_eq!(again.consumers(), definition.consumers());
        }
    }
}
