use proptest::prelude::*;
use serde_json::json;

use super::*;

fn error(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

/// The YAML reader looks at every level that is open for every word: a megabyte of brackets would
/// keep a thread for minutes.
#[test]
fn brackets_that_are_never_closed_are_refused_before_the_reader_sees_them() {
    for text in [
        format!("a: {}", "[".repeat(4_000)),
        format!("a: {}", "[a, ".repeat(4_000)),
        format!("a: {}", "{a: ".repeat(4_000)),
        format!("a: {}", "[a,b),".repeat(4_000)),
        // Ends that are text.
        format!("a: {}", "[\"]\", ".repeat(4_000)),
        format!("a: {}", "[']', ".repeat(4_000)),
        format!("a: {}", "[ #]\n ".repeat(4_000)),
        format!("a: {}", "[!<x]> ".repeat(4_000)),
    ] {
        let refused = error(&text);
        assert!(refused.contains("not plain to see"), "{refused}");
    }
    let pairs = "- {myCred: team/db, other: [x, y]}\n".repeat(2_000);
    assert!(read(&format!("a:\n{pairs}")).is_ok());
    // Half-open ranges of versions are ordinary text.
    let ranges = "- \"[1.0.0,2.0.0)\"\n".repeat(256);
    assert!(read(&format!("a:\n{ranges}")).is_ok());
    // JSON knows its own bound, and a text in it may hold anything.
    let text = format!(r#"{{"a": "{}"}}"#, "[".repeat(4_000));
    assert!(read(&text).is_ok());
}

#[test]
fn json_and_yaml_of_one_document_are_read_alike() {
    let json = read(r#"{"a": [1, -2, 2.5, true, null, "x"], "b": {}}"#).unwrap();
    let yaml = read("# note\na: [1, -2, 2.5, true, null, x]\nb: {}\n").unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json, json!({"a": [1, -2, 2.5, true, null, "x"], "b": {}}));
}

#[test]
fn a_key_that_stands_twice_is_refused_with_its_place() {
    let expected = r#"a.b[0]: has the key "x" twice (line 2, column "#;
    let json = error("{\"a\": {\"b\": [\n {\"x\": 1, \"x\": 2}]}}");
    assert!(json.starts_with(expected), "{json}");
    let yaml = error("a: { b: [\n  { x: 1, x: 2 } ] }");
    assert!(yaml.starts_with(expected), "{yaml}");
}

#[test]
fn broken_text_is_refused_with_line_and_column() {
    assert!(
        error("{\"a\": 1,\n  }").ends_with("(line 2, column 3)"),
        "{}",
        error("{\"a\": 1,\n  }")
    );
    assert!(
        error("{\"a\": 1} x").contains("trailing"),
        "{}",
        error("{} x")
    );
    assert!(
        error("a: [1,\nb: }").contains("line "),
        "{}",
        error("a: [1,\nb: }")
    );
    assert_eq!(error("[1]"), "expected a map, found a list of 1");
    assert!(read("").is_err());
    assert!(read("a: 1\n---\nb: 2").is_err());
    assert!(read("a: !tag x").is_err());
    assert!(read("a: .nan").is_err());
}

#[test]
fn nesting_size_and_unfolding_are_bounded() {
    let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&deep(MAX_DEPTH - 1)).is_ok());
    assert!(error(&deep(MAX_DEPTH)).contains("nested deeper"));
    assert!(read(&deep(100_000)).is_err());
    assert!(read(&deep(100_000).replace("{\"a\": ", "- ")).is_err());

    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_BYTES));
    assert!(error(&large).contains("at most 1048576 bytes"));

    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let inner = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(read(&bomb).is_err());

    let text = "y".repeat(100_000);
    let fat = format!("a: &a {text}\nb: [{}]\n", vec!["*a"; 1000].join(","));
    assert!(error(&fat).contains("aliases"), "{}", error(&fat));
}

#[test]
fn the_place_of_a_value_is_found_again() {
    let steps = [key("a"), Step::Index(1), key("ü")];
    let json = "{\"z\": [{}],\n \"a\": [\"]\",\n  {\"b\": 1, \"ü\":\n    7}]}";
    assert_eq!(locate(json, &steps), Some((4, 5)));
    assert_eq!(locate(json, &steps[..2]), Some((3, 3)));
    assert_eq!(locate(json, &[]), Some((1, 1)));
    let yaml = "z: [{}]\na:\n  - ']'\n  - b: 1\n    ü: 7\n";
    let (line, _) = locate(yaml, &steps).unwrap();
    assert_eq!(line, 5);
    assert_eq!(locate(yaml, &steps[..2]), Some((4, 5)));
}

#[test]
fn a_way_is_written_as_people_write_it() {
    let steps = [
        key("secretBinding"),
        Step::Index(0),
        key("a b"),
        key("größe"),
        key(""),
    ];
    assert_eq!(path(&steps), r#"secretBinding[0]["a b"].größe[""]"#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Found by fuzzing: the last bit of a long number was lost, and it was equal to nothing that was written the same.
#[test]
fn a_number_is_the_one_that_is_written() {
    for text in [
        "52.544444444444444",
        "0.1",
        "1.7976931348623157e308",
        "9007199254740993.5",
    ] {
        let read = read(&format!("{{\"a\": {text}}}")).unwrap();
        let number = read["a"].as_f64().unwrap();
        assert_eq!(
            number.to_bits(),
            text.parse::<f64>().unwrap().to_bits(),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        map in prop::collection::btree_map("\\PC{0,6}", any_json(), 0..5),
    ) {
        let value = Value::Object(map.into_iter().collect());
        prop_assert_eq!(&read(&write(&value).unwrap()).unwrap(), &value);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(&read(&pretty).unwrap(), &value);
    }

    #[test]
    fn every_value_is_found_where_it_begins(
        items in prop::collection::vec("[a-z]{0,3}", 1..6),
        gaps in prop::collection::vec("[ \n\t]{0,3}", 7),
        wanted in any::<prop::sample::Index>(),
    ) {
        let wanted = wanted.index(items.len());
        let mut text = "{\"list\":".to_owned() + &gaps[6] + "[";
        let mut at = 0;
        for (index, item) in items.iter().enumerate() {
            text += if index == 0 { "" } else { "," };
            text += &gaps[index];
            if index == wanted {
                at = text.len();
            }
            text += &format!("\"{item}\"{}", gaps[index]);
        }
        text += "]}";
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().len() + 1;
        let found = locate(&text, &[key("list"), Step::Index(wanted)]);
        prop_assert_eq!(found, Some((line, column)), "{}", text);
    }

    #[test]
    fn no_text_makes_reading_panic(
        text in any::<String>(), likely in "[{}\\[\\]:,\"a&*!|>%#'? \n-]{0,40}",
    ) {
        for text in [text, likely] {
            let outcome = read(&text);
            if let Err(error) = outcome {
                prop_assert!(!error.reason.is_empty());
            }
            locate(&text, &[key("a"), Step::Index(0)]);
        }
    }
}
