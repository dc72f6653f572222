use serde_json::json;

use super::super::understand::Source;
use super::super::variables::Variables;
use super::*;

fn found(files: &[(&str, serde_json::Value)]) -> Found {
    let mut found = Found::default();
    for (file, document) in files {
        let source = Source {
            file: file.into(),
            root: "fleet".into(),
            is_named: false,
            text: document.to_string(),
        };
        if file.ends_with("hzn.json") {
            let dir = source.file.parent().unwrap().to_owned();
            found.configs.insert(dir, source);
        } else {
            found.sources.push(source);
        }
    }
    found
}

fn assembled(files: &[(&str, serde_json::Value)], names: &[(&str, &str)]) -> Assembly {
    let own = |(file, name): &(&str, &str)| ((*file).to_owned(), (*name).to_owned());
    let reading = Reading {
        org: &"myorg".parse().unwrap(),
        variables: &Variables::default(),
        allow_undefined: false,
        names: &names.iter().map(own).collect(),
    };
    assemble(&found(files), &reading, None)
}

fn service(url: &str, requires: &[&str]) -> serde_json::Value {
    let required: Vec<_> = requires
        .iter()
        .map(|url| json!({"url": url, "org": "myorg", "versionRange": "1.0.0"}))
        .collect();
    json!({"url": url, "version": "1.0.0", "arch": "amd64", "requiredServices": required,
           "deployment": {}})
}

fn policy(url: &str) -> serde_json::Value {
    json!({"service": {"name": url, "org": "myorg", "serviceVersions": [{"version": "1.0.0"}]}})
}

fn order(assembly: &Assembly) -> Vec<String> {
    assembly
        .understood
        .iter()
        .map(|one| one.identity().to_string())
        .collect()
}

#[test]
fn what_is_required_is_published_first_and_policies_last() {
    let assembly = assembled(
        &[
            ("fleet/a.policy.json", policy("top")),
            ("fleet/a.json", service("top", &["middle", "elsewhere"])),
            ("fleet/m.json", service("middle", &["zero"])),
            ("fleet/z.json", service("zero", &[])),
        ],
        &[],
    );
    assert_eq!(assembly.refused, []);
    assert_eq!(
        order(&assembly),
        [
            "zero 1.0.0 amd64",
            "middle 1.0.0 amd64",
            "top 1.0.0 amd64",
            "a"
        ]
    );
}

#[test]
fn rings_are_refused() {
    let assembly = assembled(
        &[
            ("fleet/a.json", service("a", &["b"])),
            ("fleet/b.json", service("b", &["a"])),
        ],
        &[],
    );
    let said = assembly.refused[0].to_string();
    assert!(
        said.contains("in a ring: myorg/a -> myorg/b -> myorg/a"),
        "{said}"
    );
}

#[test]
fn a_document_that_stands_twice_is_one_or_a_contradiction() {
    let same = assembled(
        &[
            ("fleet/a.json", service("a", &[])),
            ("fleet/b.json", service("a", &[])),
        ],
        &[],
    );
    assert_eq!(order(&same).len(), 1);
    assert_eq!(same.left[0].reason, "is the same as fleet/a.json");
    let files = [
        ("fleet/x/deployment.policy.json", policy("a")),
        ("fleet/x/horizon/deployment.policy.json", policy("b")),
    ];
    let other = assembled(&files, &[]);
    let said = other.refused[0].to_string();
    assert!(
        said.contains("deployment policy x stands in fleet/x/deployment.policy.json"),
        "{said}"
    );
    let named = assembled(&files, &[("fleet/x/horizon/deployment.policy.json", "y")]);
    assert_eq!(order(&named), ["x", "y"]);
}

#[test]
fn a_name_for_a_file_that_is_not_there_is_refused() {
    let assembly = assembled(&[], &[("fleet/absent.json", "x")]);
    assert!(
        assembly.refused[0].reason.contains("--name"),
        "{:?}",
        assembly.refused
    );
}

#[test]
fn each_project_has_its_own_variables() {
    let named = |name: &str| json!({"MetadataVars": {"NAME": name}});
    let mut with_variable = service("x", &[]);
    with_variable["url"] = "$NAME".into();
    let assembly = assembled(
        &[
            ("fleet/hzn.json", named("general")),
            ("fleet/a/horizon/hzn.json", named("own")),
            ("fleet/a/service.definition.json", with_variable.clone()),
            ("fleet/b/service.definition.json", with_variable),
        ],
        &[],
    );
    assert_eq!(assembly.refused, []);
    assert_eq!(order(&assembly), ["general 1.0.0 amd64", "own 1.0.0 amd64"]);
    let broken = assembled(&[("fleet/hzn.json", json!([]))], &[]);
    assert_eq!(
        broken.refused[0].to_string(),
        "fleet/hzn.json: expected a map"
    );
}
