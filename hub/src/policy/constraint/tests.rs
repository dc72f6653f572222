use proptest::prelude::*;

use super::*;
use crate::policy::property::{PropertySet, PropertyValue};

mod model;

fn properties(list: &[(&str, PropertyValue)]) -> PropertySet {
    PropertySet::new(
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    )
}

fn edge() -> PropertySet {
    let text = PropertyValue::text;
    properties(&[
        ("site", text("berlin")),
        ("memory", PropertyValue::Number(2048.0)),
        ("gpu", PropertyValue::Boolean(true)),
        ("firmware", PropertyValue::Version("1.4.2".parse().unwrap())),
        ("os", text("1.4.2")),
        ("zones", text("a, b")),
        (
            "roles",
            PropertyValue::List(vec!["cam".into(), "gate way".into()]),
        ),
        ("地域", text("東京")),
        ("größe", text("groß & breit")),
        ("in", text("x")),
        ("my prop", PropertyValue::Number(-1.5)),
    ])
}

#[track_caller]
fn holds(text: &str) -> bool {
    Constraint::parse(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .holds(&edge())
}

#[test]
fn every_operator_works_on_every_type_that_has_it() {
    for text in [
        "",
        "  ",
        "site == berlin",
        "site=berlin",
        "site != paris",
        "site == \"berlin\"",
        "site in berlin,paris",
        "site in 'paris, berlin'",
        "site == \"paris,berlin\"",
        "memory = 2048",
        "memory == 2048.0",
        "memory != 1",
        "memory > 2e3",
        "memory >= 2048",
        "memory <= 2048",
        "memory < 4096",
        "memory in 1024,2048",
        "memory == \"2048\"",
        "gpu == true",
        "gpu = TRUE",
        "gpu != false",
        "gpu in true",
        "firmware == 1.4.2",
        "firmware == 1.4.2.0",
        "firmware != 1.4",
        "firmware > 1.4",
        "firmware < 1.10",
        "firmware <= 1.4.2",
        "firmware >= 1.4.2",
        "firmware in [1.0,2.0)",
        "firmware in (1.4.1,1.4.2]",
        "firmware in 1.4",
        "firmware in \"[1.0, INFINITY)\"",
        "firmware in 1.4.2,1.5.0",
        "os in [1.0.0,2.0.0)",
        "os in 1.0.0",
        "os == 1.4.2",
        "zones == a",
        "zones == b",
        "zones == \"a, b\"",
        "zones != c",
        "roles in cam",
        "roles in \"x,gate way\"",
        "roles == cam",
        "roles != x",
        "roles == \"cam,gate way\"",
        "地域 == 東京",
        "größe == \"groß & breit\"",
        "in == x",
        "in in x",
        "\"my prop\" < 0",
        "'my prop' = -1.5",
        "site == berlin&&gpu==true",
        "site==berlin||a==b",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "site == paris",
        "site != berlin",
        "memory < 2048",
        "memory > 2048",
        "memory != 2048",
        "memory in 1,2",
        "gpu == false",
        "gpu != true",
        "firmware in (1.4.2,2]",
        "firmware in 1.5",
        "firmware > 1.4.2",
        "os in [2.0.0,3.0.0)",
        "zones != a",
        "zones in a",
        "roles != cam",
        "roles in x,y",
        "地域 == 大阪",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn an_absent_property_satisfies_nothing_not_even_unequal() {
    for operator in ["==", "=", "!=", "<", ">", "<=", ">=", "in"] {
        assert!(!holds(&format!("absent {operator} 1")), "{operator}");
    }
}

#[test]
fn a_comparison_that_makes_no_sense_for_the_type_is_false() {
    for text in [
        "site < 5",
        "site >= 1.0",
        "memory == much",
        "memory != much",
        "gpu == 1",
        "gpu != maybe",
        "gpu > 0",
        "roles > 1",
        "firmware == new",
        "firmware != new",
        "os > 1.0.0",
        "memory in [1,5000]",
        "site in [1,2]",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn and_binds_tighter_than_or() {
    assert!(holds("site == berlin OR gpu == false AND gpu == false"));
    assert!(!holds("(site == berlin OR gpu == false) AND gpu == false"));
    assert!(holds("gpu == false and gpu == false or site == berlin"));
    assert!(holds("((site == berlin)) && (memory > 1||(gpu == false))"));
}

#[test]
fn the_language_of_existing_policies_is_read() {
    for text in [
        "openhorizon.memory >= 512 AND openhorizon.arch == amd64",
        "iame2edev == true && cpu == 3 || memory <= 32",
        "purpose == network-testing",
        "version in \"[1.1.1,INFINITY)\" OR USDBC == something",
        "location == \"Building 12, floor 3\"",
        "eggs == \"truckload\" AND certification in \"USDA, Organic\"",
        "state == OR",
        "label == l'atelier",
        "url == https://example.com/?a=b&c=d",
    ] {
        Constraint::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

#[test]
fn an_error_says_where_what_was_found_and_what_was_expected() {
    for (text, message) in [
        (
            "site",
            "character 5: expected an operator (== = != < > <= >= in), found the end",
        ),
        (
            "site ~ x",
            "character 6: expected an operator (== = != < > <= >= in), found \"~\"",
        ),
        ("größe == ", "character 10: expected a value, found the end"),
        (
            "a == 1 AND",
            "character 11: expected a property name or `(`, found the end",
        ),
        (
            "a == 1 b == 2",
            "character 8: expected `AND`, `OR`, `)` or the end, found \"b\"",
        ),
        (
            "a == 1)",
            "character 7: expected `AND`, `OR` or the end, found \")\"",
        ),
        ("(a == 1", "character 8: expected `)`, found the end"),
        (
            "()",
            "character 2: expected a property name or `(`, found \")\"",
        ),
        (
            "AND == 1",
            "character 1: expected a property name or `(`, found \"AND\"",
        ),
        (
            "a == \"b",
            "character 6: expected a text that ends with \", found \"\\\"b\"",
        ),
        (
            "a in [1,2",
            "character 6: expected a version range that ends with `]` or `)`, found \"[1,2\"",
        ),
        (
            "a in [2,1]",
            "character 6: expected a version range such as [1.0.0,2.0.0), found \"[2,1]\"",
        ),
        (
            "a == [1,2]",
            "character 6: expected `in` before a version range, found \"[1,2]\"",
        ),
        (
            "a < b",
            "character 5: expected a number or version, found \"b\"",
        ),
        (
            "a in b, ",
            "character 9: expected another value after the comma, found the end",
        ),
        ("a == = b", "character 6: expected a value, found \"=\""),
        (
            "a => 1",
            "character 3: expected an operator (== = != < > <= >= in), found \"=>\"; did you mean `>=`?",
        ),
        (
            "a <> 1 AND b == 2",
            "character 3: expected an operator (== = != < > <= >= in), found \"<>\"; did you mean `!=`?",
        ),
        (
            "a eq 1",
            "character 3: expected an operator (== = != < > <= >= in), found \"eq\"; did you mean `==`?",
        ),
        (
            "a im [1,2)",
            "character 3: expected an operator (== = != < > <= >= in), found \"im\"; did you mean `in`?",
        ),
        (
            "a == 1 & b == 2",
            "character 8: expected `AND`, `OR`, `)` or the end, found \"&\"; did you mean `&&`?",
        ),
        (
            "a == 1 ADN b == 2",
            "character 8: expected `AND`, `OR`, `)` or the end, found \"ADN\"; did you mean `AND`?",
        ),
        (
            "NOT a == b",
            "character 5: expected an operator (== = != < > <= >= in); there is no NOT, only !=, found \"a\"",
        ),
    ] {
        let error = Constraint::parse(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("constraint, {message}"),
            "{text}"
        );
        assert!(text.is_char_boundary(error.offset), "{text}");
        assert_eq!(
            text[..error.offset].chars().count() + 1,
            error.column,
            "{text}"
        );
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}a == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Constraint::parse(&nested(32)).is_ok());
    assert!(Constraint::parse(&nested(33)).is_err());
    assert!(Constraint::parse(&"(".repeat(8000)).is_err());
    let long = vec!["a == 1"; 700].join(" OR ");
    assert!(Constraint::parse(&long).is_ok());
    assert!(Constraint::parse(&long.repeat(2)).is_err());
    assert!(Constraint::parse(&"ü".repeat(5000)).is_err());
}

#[track_caller]
fn explained(text: &str) -> String {
    let constraint = Constraint::parse(text).unwrap();
    let told = constraint.explained(&edge());
    told.strip_prefix(text).unwrap().to_owned()
}

#[test]
fn people_see_the_values_that_decided() {
    for (text, told) in [
        ("", ""),
        ("site == berlin", ": site is \"berlin\""),
        (
            "site == berlin AND (memory > 1 OR tier == z)",
            ": memory is 2048, site is \"berlin\", tier is absent",
        ),
        ("tier != z", ": tier is absent"),
        (
            "site < 5",
            ": site is \"berlin\", a string, which has no order",
        ),
    ] {
        assert_eq!(explained(text), told, "{text}");
    }
}

/// Down to the comparison that failed and what it saw; those that hold are nobody's concern.
#[test]
fn people_see_which_term_failed() {
    for (text, told) in [
        (
            "site == berlin AND memory >= 4096",
            ": memory >= 4096 fails, memory is 2048",
        ),
        (
            "site == x AND (site == y OR tier == z)",
            ": site == x fails, site is \"berlin\"; none of the alternatives holds: site == y fails, site \
             is \"berlin\", tier == z fails, tier is absent",
        ),
        (
            "gpu == false AND memory > 1 OR firmware in [2,3) AND site != paris",
            ": none of the alternatives holds: (gpu == false fails, gpu is true), (firmware in [2,3) \
             fails, firmware is version 1.4.2)",
        ),
        (
            "gpu == true AND 'my prop' == \"a b\"",
            ": \"my prop\" == \"a b\" fails, my prop is -1.5",
        ),
        (
            "gpu == true AND roles in 'x,y'",
            ": roles in \"x,y\" fails, roles is [\"cam\", \"gate way\"]",
        ),
    ] {
        assert_eq!(explained(text), told, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        text in any::<String>(), likely in "([(ü=!<>&|,'\" )]|a|1\\.0|in|AND|OR|\\[1,2\\)){0,24}",
    ) {
        for text in [text, likely] {
            match Constraint::parse(&text) {
                Ok(constraint) => {
                    constraint.holds(&edge());
                    constraint.explained(&edge());
                }
                Err(error) => {
                    prop_assert!(text.is_char_boundary(error.offset));
                    prop_assert_eq!(text[..error.offset].chars().count() + 1, error.column);
                }
            }
        }
    }
}
