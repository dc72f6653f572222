use proptest::prelude::*;

use super::*;
use crate::policy::property::{PropertySet, PropertyValue};

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

#[test]
fn people_see_the_values_that_decided() {
    let constraint = Constraint::parse("site == x AND (site == y OR tier == z)").unwrap();
    assert_eq!(
        constraint.seen(&edge()),
        "site is \"berlin\", tier is absent"
    );
}

/// The language once more, as an independent and naive model: what a tree means, told by plain
/// comparisons of plain values.
#[derive(Debug, Clone)]
enum Tree {
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Leaf(usize, usize, Plain),
}

#[derive(Debug, Clone, PartialEq)]
enum Plain {
    Word(&'static str),
    Number(i32),
    Flag(bool),
    /// Minor versions of `1.x.0`.
    Version(u32),
    Range(u32, u32, bool, bool),
    Words(Vec<&'static str>),
}

const NAMES: [&str; 6] = ["p", "größe", "ein name", "in", "openhorizon.x", "和"];
const OPERATORS: [&str; 7] = ["==", "!=", "<", ">", "<=", ">=", "in"];
const WORDS: [&str; 5] = ["red", "blue", "bleu ciel", "緑", "and"];

fn typed(plain: &Plain) -> PropertyValue {
    match plain {
        Plain::Word(word) => PropertyValue::text(word),
        Plain::Number(number) => PropertyValue::Number(f64::from(*number)),
        Plain::Flag(flag) => PropertyValue::Boolean(*flag),
        Plain::Version(minor) | Plain::Range(minor, ..) => {
            PropertyValue::Version(format!("1.{minor}").parse().unwrap())
        }
        Plain::Words(words) => PropertyValue::List(words.iter().map(|w| (*w).to_owned()).collect()),
    }
}

fn model(tree: &Tree, has: &[Option<Plain>]) -> bool {
    let (name, operator, value) = match tree {
        Tree::And(a, b) => return model(a, has) & model(b, has),
        Tree::Or(a, b) => return model(a, has) | model(b, has),
        Tree::Leaf(name, operator, value) => (*name, OPERATORS[*operator], value),
    };
    let Some(own) = &has[name] else { return false };
    let by = |order: std::cmp::Ordering| match operator {
        "==" => order.is_eq(),
        "!=" => !order.is_eq(),
        "<" => order.is_lt(),
        ">" => order.is_gt(),
        "<=" => !order.is_gt(),
        ">=" => !order.is_lt(),
        _ => order.is_eq(),
    };
    match (own, value) {
        (Plain::Number(a), Plain::Number(b)) => by(a.cmp(b)),
        (Plain::Flag(a), Plain::Flag(b)) if "== != in".contains(operator) => by(a.cmp(b)),
        (Plain::Version(a), Plain::Version(b)) if operator == "in" => a >= b,
        (Plain::Version(a), Plain::Version(b)) => by(a.cmp(b)),
        // A whole number is also a version; the property's type decides.
        (Plain::Version(a), Plain::Number(b)) if *b >= 0 => {
            let order = (1, i64::from(*a)).cmp(&(i64::from(*b), 0));
            if operator == "in" {
                order.is_ge()
            } else {
                by(order)
            }
        }
        (Plain::Version(v), Plain::Range(low, high, open, close)) if operator == "in" => {
            (v > low || (v == low && !open)) && (v < high || (v == high && *close))
        }
        (Plain::Word(a), other) => {
            let listed = match other {
                Plain::Word(b) => a == b,
                Plain::Words(b) => b.contains(a),
                _ => false,
            };
            match operator {
                "==" | "in" => listed,
                "!=" => !listed,
                _ => false,
            }
        }
        (Plain::Words(a), other) => {
            let (one, all) = match other {
                Plain::Word(b) => (a.contains(b), a == &vec![*b]),
                Plain::Words(b) => (a.iter().any(|x| b.contains(x)), a == b),
                _ => (false, false),
            };
            match (operator, other) {
                ("in", _) => one,
                ("==", Plain::Word(_)) => one,
                ("==", _) => all,
                ("!=", Plain::Word(_)) => !one,
                ("!=", _) => !all,
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether the parser takes it: ranges stand after `in` only, order needs numbers or versions.
fn is_legal(operator: usize, value: &Plain) -> bool {
    match (OPERATORS[operator], value) {
        ("in", _) => true,
        (_, Plain::Range(..)) => false,
        ("<" | ">" | "<=" | ">=", value) => matches!(value, Plain::Number(_) | Plain::Version(_)),
        _ => true,
    }
}

fn plain(for_property: bool) -> BoxedStrategy<Plain> {
    let version = (0..4_u32).prop_map(Plain::Version);
    let word = prop::sample::select(&WORDS[..]).prop_map(Plain::Word);
    let number = (-2..3_i32).prop_map(Plain::Number);
    let flag = any::<bool>().prop_map(Plain::Flag);
    let words = prop::sample::subsequence(&WORDS[..], 2..=4).prop_map(Plain::Words);
    let range = (0..3_u32, 1..4_u32, any::<bool>(), any::<bool>())
        .prop_map(|(low, more, open, close)| Plain::Range(low, low + more, open, close));
    if for_property {
        prop_oneof![word, number, flag, version, words].boxed()
    } else {
        prop_oneof![word, number, flag, version, words, range].boxed()
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (0..NAMES.len(), 0..OPERATORS.len(), plain(false))
        .prop_filter("a comparison that is refused", |(_, operator, value)| {
            is_legal(*operator, value)
        })
        .prop_map(|(name, operator, value)| Tree::Leaf(name, operator, value));
    leaf.prop_recursive(5, 24, 2, |inner| {
        let pair = (inner.clone(), inner);
        prop_oneof![
            pair.clone()
                .prop_map(|(a, b)| Tree::And(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Tree::Or(Box::new(a), Box::new(b))),
        ]
    })
}

/// Writes a tree in one of its many spellings; `pick` chooses.
fn write(tree: &Tree, pick: &mut impl FnMut(usize) -> usize) -> String {
    let extra = pick(4) == 0;
    let text = match tree {
        Tree::And(a, b) | Tree::Or(a, b) => {
            let spellings = match tree {
                Tree::And(..) => [" AND ", "&&", " && ", " and\n"],
                _ => [" OR ", "||", " || ", "\tor "],
            };
            let mut side = |side: &Tree| {
                let text = write(side, pick);
                let weaker = matches!((tree, side), (Tree::And(..), Tree::Or(..)));
                if weaker { format!("({text})") } else { text }
            };
            let (a, b) = (side(a), side(b));
            // A word directly before `&&` is no problem, `x AND(` neither.
            format!("{a}{}{b}", spellings[pick(4)])
        }
        Tree::Leaf(name, operator, value) => {
            let name = match NAMES[*name] {
                name if name.contains(' ') || pick(3) == 0 => quoted(name, pick),
                name => name.to_owned(),
            };
            let (operator, tight) = match OPERATORS[*operator] {
                "==" => (["==", "="][pick(2)], pick(2) == 0),
                "in" => (["in", "IN"][pick(2)], false),
                other => (other, pick(2) == 0),
            };
            let gap = if tight {
                ""
            } else {
                [" ", "  ", "\t"][pick(3)]
            };
            format!("{name}{gap}{operator}{gap}{}", write_value(value, pick))
        }
    };
    if extra { format!("( {text} )") } else { text }
}

fn write_value(value: &Plain, pick: &mut impl FnMut(usize) -> usize) -> String {
    let text = match value {
        Plain::Word(word) => (*word).to_owned(),
        Plain::Number(number) => [number.to_string(), format!("{number}.0")][pick(2)].clone(),
        Plain::Flag(flag) => [flag.to_string(), flag.to_string().to_uppercase()][pick(2)].clone(),
        Plain::Version(minor) => {
            [format!("1.{minor}.0"), format!("1.{minor}.0.0")][pick(2)].clone()
        }
        Plain::Range(low, high, open, close) => {
            let text = format!(
                "{}1.{low}{}1.{high}{}",
                if *open { '(' } else { '[' },
                [",", " , "][pick(2)],
                if *close { ']' } else { ')' }
            );
            return if pick(2) == 0 {
                quoted(&text, pick)
            } else {
                text
            };
        }
        Plain::Words(words) => words.join([",", ", "][pick(2)]),
    };
    let list_of_plain_words =
        matches!(value, Plain::Words(words) if words.iter().all(|w| !w.contains(' ')));
    match text.contains(' ') && !list_of_plain_words {
        true => quoted(&text, pick),
        false if pick(3) == 0 => quoted(&text, pick),
        false => text,
    }
}

fn quoted(text: &str, pick: &mut impl FnMut(usize) -> usize) -> String {
    let mark = ['"', '\''][pick(2)];
    format!("{mark}{text}{mark}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_constraint_means_what_the_naive_model_says(
        tree in tree(),
        has in prop::collection::vec(prop::option::of(plain(true)), NAMES.len()),
        picks in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut at = 0;
        let text = write(&tree, &mut |choices| {
            at += 1;
            usize::from(picks[at % picks.len()]) % choices
        });
        let set = PropertySet::new(
            NAMES.iter().zip(&has).filter_map(|(name, value)| {
                value.as_ref().map(|value| ((*name).to_owned(), typed(value)))
            }),
        );
        let constraint = Constraint::parse(&text);
        prop_assert!(constraint.is_ok(), "{}: {}", text, constraint.unwrap_err());
        prop_assert_eq!(constraint.unwrap().holds(&set), model(&tree, &has), "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        text in any::<String>(), likely in "([(ü=!<>&|,'\" )]|a|1\\.0|in|AND|OR|\\[1,2\\)){0,24}",
    ) {
        for text in [text, likely] {
            match Constraint::parse(&text) {
                Ok(constraint) => {
                    constraint.holds(&edge());
                    constraint.seen(&edge());
                }
                Err(error) => {
                    prop_assert!(text.is_char_boundary(error.offset));
                    prop_assert_eq!(text[..error.offset].chars().count() + 1, error.column);
                }
            }
        }
    }
}
