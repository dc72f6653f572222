use proptest::prelude::*;
use serde_json::json;

use super::*;

fn definition(arch: &str, version: &str, names: &[&str]) -> ServiceDefinition {
    let secrets: Value = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect();
    let text = json!({
        "org": "o", "url": "u", "version": version, "arch": arch,
        "deployment": {"services": {"main": {"secrets": secrets}}},
    });
    ServiceDefinition::parse(&text.to_string()).unwrap()
}

fn entry(arch: &str, range: &str, secrets: Value) -> Value {
    json!({
        "serviceOrgid": "o", "serviceUrl": "u", "serviceArch": arch,
        "serviceVersionRange": range, "secrets": secrets,
    })
}

fn bindings(list: Value) -> Vec<Binding> {
    Binding::read_all(&Field::root(&list).items().unwrap()).unwrap()
}

fn refused(entry: Value) -> String {
    let list = json!([entry]);
    let fault = Binding::read_all(&Field::root(&list).items().unwrap()).unwrap_err();
    format!("{}: {}", path(&fault.steps), fault.reason)
}

/// What every secret is bound to.
fn chosen(list: Value, definition: &ServiceDefinition) -> Result<Vec<String>, String> {
    let bindings = bindings(list);
    let chosen = choose(&bindings, definition).map_err(|fault| fault.to_string())?;
    Ok(chosen
        .values()
        .map(|(_, bound)| bound.reference.to_string())
        .collect())
}

/// Open Horizon reads the first entry of the map, in random order.
#[test]
fn a_map_of_several_entries_is_refused_with_its_place() {
    let error = refused(entry("", "", json!([{"a": "x"}, {"b": "y", "c": "z"}])));
    assert_eq!(error, "[0].secrets[1]: expected one entry, found 2");
    assert!(refused(entry("", "", json!([{}]))).contains("expected one entry, found 0"));
    assert!(refused(entry("", "", json!({"a": "x"}))).contains("expected a list, found a map"));
    assert!(refused(entry("", "", json!(["a"]))).contains("expected one entry such as"));
}

/// What a policy binds is weighed on every node, and entries against each other.
#[test]
fn entries_and_what_they_bind_are_bounded_in_number() {
    let read = |list: &Value| {
        let read = Binding::read_all(&Field::root(list).items().unwrap());
        read.map(|_| ()).map_err(|fault| fault.reason)
    };
    let entries =
        |count: usize, secrets: &Value| Value::from(vec![entry("", "", secrets.clone()); count]);
    let one = json!([{"a": "x"}]);
    assert_eq!(read(&entries(MAX_BINDINGS, &one)), Ok(()));
    let refused = read(&entries(MAX_BINDINGS + 1, &one)).unwrap_err();
    assert!(refused.contains("too many"), "{refused}");
    let many: Vec<_> = (0..MAX_SECRETS)
        .map(|at| json!({format!("s{at}"): "x"}))
        .collect();
    let many = Value::from(many);
    assert_eq!(read(&entries(MAX_BOUND / MAX_SECRETS, &many)), Ok(()));
    let refused = read(&entries(MAX_BOUND / MAX_SECRETS + 1, &many)).unwrap_err();
    assert!(refused.contains("more than"), "{refused}");
}

#[test]
fn a_name_bound_twice_in_one_entry_is_refused_naming_both_places() {
    let error = refused(entry("", "", json!([{"a": "x"}, {"a": "y"}])));
    assert_eq!(
        error,
        "[0].secrets[1]: binds a to y, but [0].secrets[0] binds it to x"
    );
    bindings(json!([entry("", "", json!([{"a": "x"}, {"a": "x"}]))]));
}

#[test]
fn bad_names_references_and_ranges_are_refused() {
    assert!(
        refused(entry("", "", json!([{"../a": "x"}]))).starts_with("[0].secrets[0]: secret name")
    );
    assert!(
        refused(entry("", "", json!([{"a": "x/../y"}])))
            .starts_with("[0].secrets[0].a: secret reference")
    );
    assert!(
        refused(entry("", "[1", json!([]))).starts_with("[0].serviceVersionRange: version range")
    );
    let no_url = json!({"serviceOrgid": "o", "secrets": []});
    assert_eq!(refused(no_url), "[0]: needs the field `serviceUrl`");
}

#[test]
fn the_most_specific_entry_decides_and_others_fill_in() {
    let one = definition("amd64", "1.5.0", &["a", "b"]);
    let any = || entry("*", "", json!([{"a": "any"}, {"b": "any-b"}]));
    let arch = || entry("x86_64", "", json!([{"a": "arch"}]));
    let range = || entry("", "[1.0.0,2.0.0)", json!([{"a": "range"}]));
    let narrow = || entry("", "[1.5.0,1.5.0]", json!([{"a": "narrow"}]));
    assert_eq!(chosen(json!([any()]), &one).unwrap(), ["any", "any-b"]);
    assert_eq!(
        chosen(json!([any(), range()]), &one).unwrap(),
        ["range", "any-b"]
    );
    assert_eq!(
        chosen(json!([range(), narrow(), any()]), &one).unwrap(),
        ["narrow", "any-b"]
    );
    let all = json!([any(), range(), narrow(), arch()]);
    assert_eq!(chosen(all, &one).unwrap(), ["arch", "any-b"]);
}

#[test]
fn entries_for_other_services_archs_and_versions_are_left_aside() {
    let one = definition("arm64", "1.5.0", &["a"]);
    let mut other = entry("", "", json!([{"a": "other"}]));
    other["serviceUrl"] = json!("u2");
    for list in [
        json!([]),
        json!([other]),
        json!([entry("amd64", "", json!([{"a": "x"}]))]),
        json!([entry("", "[2.0.0,3.0.0)", json!([{"a": "x"}]))]),
        json!([entry("", "1.6.0", json!([{"a": "x"}]))]),
    ] {
        let fault = chosen(list, &one).unwrap_err();
        assert_eq!(
            fault,
            "No secret binding found for the following service secrets: [a]"
        );
    }
    let later = json!([entry("aarch64", "1.4.0", json!([{"a": "x"}]))]);
    assert_eq!(chosen(later, &one).unwrap(), ["x"]);
}

#[test]
fn equal_entries_that_differ_are_a_contradiction_naming_both_places() {
    let one = definition("", "1.5.0", &["a", "b"]);
    let first = entry("", "[1,2]", json!([{"b": "b"}, {"a": "x"}]));
    let overlapping = entry("*", "[1.5,3]", json!([{"a": "y"}]));
    let fault = chosen(json!([first, overlapping]), &one).unwrap_err();
    assert!(
        fault.starts_with(
            "secret a is bound twice: [0].secrets[1] and [1].secrets[0] apply equally"
        ),
        "{fault}"
    );
    let same = entry("*", "[1.5,3]", json!([{"a": "x"}]));
    assert_eq!(
        chosen(json!([first.clone(), same]), &one).unwrap(),
        ["x", "b"]
    );
    let mut node_level = entry("", "[1,2]", json!([{"a": "x"}]));
    node_level["enableNodeLevelSecrets"] = json!(true);
    assert!(chosen(json!([first, node_level]), &one).is_err());
}

/// Open Horizon overwrites what is needed per container, so that only the last one counts.
#[test]
fn the_secrets_of_every_container_must_be_bound() {
    let text = include_str!("../fixtures/camera.service.yaml");
    let mut definition = ServiceDefinition::parse(text).unwrap();
    for missing in ["brokerPassword", "modelLicence"] {
        let all = [("brokerPassword", "x"), ("modelLicence", "y")];
        let kept = all.iter().filter(|(name, _)| *name != missing);
        let pairs: Vec<Value> = kept.map(|(name, to)| json!({*name: to})).collect();
        let service = json!({"serviceOrgid": "myorg", "serviceUrl": "com.example.camera"});
        let mut list = json!([service]);
        list[0]["secrets"] = Value::from(pairs);
        let fault = chosen(list, &definition).unwrap_err();
        assert!(
            fault.ends_with(&format!("service secrets: [{missing}]")),
            "{fault}"
        );
    }
    definition = ServiceDefinition::parse(&definition.to_json()).unwrap();
    let fault = chosen(json!([]), &definition).unwrap_err();
    assert!(fault.ends_with("[brokerPassword, modelLicence]"), "{fault}");
}

proptest! {
    #[test]
    fn the_order_of_entries_never_matters(
        entries in prop::collection::vec(
            (prop::sample::select(&["", "amd64", "arm64"][..]),
             prop::sample::select(&["", "1.0.0", "[1,2]", "[1,3]", "[1.5,2]", "[2,3]"][..]),
             prop::collection::vec(
                 (prop::sample::select(&["a", "b"][..]), prop::sample::select(&["x", "y"][..])),
                 1..3)),
            0..6),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let of = |at: usize| entries.get(at).map(|(arch, range, pairs)| {
            let mut pairs = pairs.clone();
            pairs.sort_unstable();
            pairs.dedup_by_key(|pair| pair.0);
            let pairs: Vec<Value> = pairs.iter().map(|(name, to)| json!({*name: to})).collect();
            entry(arch, range, Value::from(pairs))
        });
        let definition = definition("amd64", "1.7.0", &["a", "b"]);
        let straight: Vec<Value> = (0..6).filter_map(of).collect();
        let shuffled: Vec<Value> = order.iter().filter_map(|at| of(*at)).collect();
        let one = chosen(Value::from(straight), &definition);
        let other = chosen(Value::from(shuffled), &definition);
        match (one, other) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }
}
