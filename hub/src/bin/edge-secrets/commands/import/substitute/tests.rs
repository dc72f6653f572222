use proptest::prelude::*;

use super::*;

const MOST: usize = 1 << 16;

fn value(name: &str) -> Option<String> {
    match name {
        "ORG" => Some("myorg".to_owned()),
        "A" => Some("$ORG".to_owned()),
        "two words" => Some("2".to_owned()),
        "LINES" => Some("x\ny".to_owned()),
        "BIG" => Some("b".repeat(MOST)),
        _ => None,
    }
}

fn prepared(source: &str) -> Prepared {
    Prepared::new(source, true, Some(&value), MOST).unwrap()
}

#[test]
fn variables_are_replaced_by_the_rules_of_hzn() {
    for (source, text) in [
        ("$ORG", "myorg"),
        ("${ORG}", "myorg"),
        ("\"$ORG/x\"", "\"myorg/x\""),
        ("a$ORG.b", "amyorg.b"),
        ("${ORG}_1", "myorg_1"),
        ("${two words}", "2"),
        // Once, and no deeper.
        ("$A", "$ORG"),
        // No names.
        ("$", "$"),
        ("a$ b$\"$", "a$ b$\"$"),
        ("/$/", "/$/"),
        // Names without a value.
        ("[$ORG_]", "[]"),
        ("[$$]", "[]"),
        ("[$10]", "[0]"),
        ("[${}]", "[]"),
        ("[${ORG]", "[ORG]"),
    ] {
        assert_eq!(prepared(source).text, text, "{source}");
    }
    let as_it_is = Prepared::new("/*x*/$ORG", false, None, MOST).unwrap();
    assert_eq!(as_it_is.text, "/*x*/$ORG");
}

#[test]
fn comments_go_before_variables() {
    for (source, text) in [
        ("/* $NONE\n */{}", "{}"),
        ("{/**/}/* open", "{}/* open"),
        ("/*/ x */{}", "{}"),
        ("$/*x*/ORG", "myorg"),
    ] {
        let prepared = prepared(source);
        assert_eq!(prepared.text, text, "{source}");
        assert_eq!(prepared.undefined, [], "{source}");
    }
}

#[test]
fn what_has_no_value_is_named_with_its_place_in_the_file() {
    let prepared =
        prepared("/* a\n b */ {\"org\": \"$ORG\",\n \"a\": \"$ORG$NONE\", \"b\": \"${x\n");
    let undefined = |name: &str, line, column| Undefined {
        name: name.to_owned(),
        line,
        column,
    };
    assert_eq!(
        prepared.undefined,
        [undefined("NONE", 3, 12), undefined("", 3, 26)]
    );
}

#[test]
fn places_are_found_again_behind_comments_and_variables() {
    let source = "{ /* one\ntwo */ \"a\": \"$LINES\",\n \"b\": $ORG, \"here\": 1 }";
    let prepared = prepared(source);
    let at = prepared.text.find("here").unwrap();
    let (line, column) = Lines::new(&prepared.text).place(at);
    assert_eq!(prepared.place(line, column), (3, 14));
    // Whatever is asked for, it is a place.
    assert_eq!(prepared.place(99, 99).0, 3);
    assert_eq!(prepared.place(0, 0), (1, 1));
}

#[test]
fn a_text_does_not_grow_beyond_its_bound() {
    let most = |source: &str| Prepared::new(source, true, Some(&value), MOST).err();
    assert_eq!(most("$BIG"), None);
    assert_eq!(most("$BIG."), Some(TooLarge));
    assert_eq!(most(&"$BIG".repeat(1000)), Some(TooLarge));
}

/// The rules again, byte by byte and without places.
fn model(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        let name: String = match (bytes[at], next) {
            ('$', Some('{')) => match bytes[at + 2..].iter().position(|c| *c == '}') {
                Some(len) => {
                    at += len + 3;
                    bytes[at - 1 - len..at - 1].iter().collect()
                }
                None => {
                    at += 2;
                    continue;
                }
            },
            ('$', Some(c)) if c.is_ascii_digit() || "*#$@!?-".contains(c) => {
                at += 2;
                c.to_string()
            }
            ('$', Some(c)) if c.is_ascii_alphabetic() || c == '_' => {
                let word = bytes[at + 1..].iter();
                let word: String = word
                    .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
                    .collect();
                at += 1 + word.len();
                word
            }
            (c, _) => {
                out.push(c);
                at += 1;
                continue;
            }
        };
        out.push_str(&value(&name).unwrap_or_default());
    }
    out
}

proptest! {
    #[test]
    fn foreign_text_never_panics_and_is_replaced_as_the_model_does(
        text in "(\\$|\\{|\\}|ORG|A|/\\*|\\*/|\n|\\PC){0,40}"
    ) {
        let prepared = Prepared::new(&text, false, Some(&value), MOST).unwrap();
        prop_assert_eq!(&prepared.text, &model(&text));
        let commented = Prepared::new(&text, true, Some(&value), MOST).unwrap();
        prop_assert!(commented.text.len() <= text.len() * 5);
    }

    #[test]
    fn every_place_of_the_result_is_a_place_of_the_file(
        text in "(\\$ORG|\\$LINES|/\\*|\\*/|\n|x){0,30}", line in 0_usize..40, column in 0_usize..40
    ) {
        let prepared = Prepared::new(&text, true, Some(&value), MOST).unwrap();
        let (found, _) = prepared.place(line, column);
        prop_assert!(found >= 1 && found <= text.lines().count() + 1);
    }

    #[test]
    fn what_is_not_touched_keeps_its_place(
        before in "(\\$ORG|/\\*x\\*/|\n| ){0,10}", after in "(\\$ORG|/\\*x\\*/|\n| ){0,10}"
    ) {
        let text = format!("{before}.HERE.{after}");
        let prepared = Prepared::new(&text, true, Some(&value), MOST).unwrap();
        let place = |text: &str| Lines::new(text).place(text.find("HERE").unwrap());
        let (line, column) = place(&prepared.text);
        prop_assert_eq!(prepared.place(line, column), place(&text));
    }
}
