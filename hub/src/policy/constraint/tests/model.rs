//! The language once more, as an independent and naive model: what a tree means, told by plain
//! comparisons of plain values. Trees are written in their many spellings and read back.

use proptest::prelude::*;

use crate::policy::constraint::Constraint;
use crate::policy::property::{Properties as _, PropertySet, PropertyValue};

#[derive(Debug, Clone)]
enum Tree {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
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
const IN: usize = 6;
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
    let leaf =
        (0..NAMES.len(), 0..OPERATORS.len(), plain(false)).prop_map(|(name, operator, value)| {
            let operator = if is_legal(operator, &value) {
                operator
            } else {
                IN
            };
            Tree::Leaf(name, operator, value)
        });
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
        let constraint = constraint.unwrap();
        prop_assert_eq!(constraint.holds(&set), model(&tree, &has), "{}", text);
        // What is looked up by its marks is found wherever it holds.
        for demand in constraint.demands() {
            let value = set.get(demand.name());
            if let (Some(value), Some(marks)) = (value, demand.marks())
                && demand.holds(&set)
            {
                prop_assert!(value.marks().iter().any(|one| marks.contains(one)), "{}", demand);
            }
            prop_assert!(demand.holds(&set) || !constraint.holds(&set), "{} of {}", demand, text);
        }
    }
}
