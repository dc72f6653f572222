//! Typed properties: what constraints are evaluated against.

use std::fmt;

use serde_json::Value;

use super::document::{Fault, describe};
use super::field::Field;
use super::nearest::hint;
use super::version::Version;

/// Anything that constraints can be evaluated against.
pub(super) trait Properties {
    /// The property of that name.
    fn get(&self, name: &str) -> Option<&PropertyValue>;
}

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PropertyValue {
    /// `string`
    Text(Text),
    /// `int` and `float`: Open Horizon compares both as 64-bit floating point.
    Number(f64),
    /// `boolean`
    Boolean(bool),
    /// `version`
    Version(Version),
    /// `list of strings`
    List(Vec<String>),
}

/// A text, with what it can also be read as.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    /// Its parts, when it has commas.
    pub(super) items: Vec<String>,
    pub(super) version: Option<Version>,
}

impl PropertyValue {
    /// A `string`.
    pub(super) fn text(text: &str) -> Self {
        let text = text.trim();
        Self::Text(Text {
            text: text.to_owned(),
            items: if text.contains(',') {
                split_list(text)
            } else {
                Vec::new()
            },
            version: text.parse().ok(),
        })
    }

    /// Gives a value its type: the one that is named, or the one that it has by itself.
    ///
    /// # Errors
    /// What was expected and found.
    pub(super) fn new(value: &Value, kind: Option<&str>) -> Result<Self, String> {
        let expected = |what: &str| Err(format!("expected {what}, found {}", describe(value)));
        match kind {
            None | Some("") => match value {
                Value::String(text) => Ok(Self::text(text)),
                Value::Number(number) => Ok(Self::Number(number.as_f64().unwrap_or(f64::NAN))),
                Value::Bool(flag) => Ok(Self::Boolean(*flag)),
                Value::Array(_) => match strings(value) {
                    Some(items) => Ok(Self::List(items)),
                    None => expected("a list of strings"),
                },
                _ => expected("a string, number, boolean or list of strings"),
            },
            Some("string") => match value {
                Value::String(text) => Ok(Self::text(text)),
                _ => expected("a string"),
            },
            Some("int") => match number(value).filter(|number| number.fract() == 0.0) {
                Some(number) => Ok(Self::Number(number)),
                None => expected("a whole number"),
            },
            Some("float") => match number(value) {
                Some(number) => Ok(Self::Number(number)),
                None => expected("a number"),
            },
            Some("boolean") => match value {
                Value::Bool(flag) => Ok(Self::Boolean(*flag)),
                Value::String(text) => parse_boolean(text).map_or_else(
                    || expected("`true` or `false`"),
                    |flag| Ok(Self::Boolean(flag)),
                ),
                _ => expected("`true` or `false`"),
            },
            Some("version") => match value {
                Value::String(text) => match text.trim().parse() {
                    Ok(version) => Ok(Self::Version(version)),
                    Err(error) => Err(error.to_string()),
                },
                _ => expected("a version in quotes"),
            },
            Some("list of strings" | "list of string") => match value {
                Value::String(text) => Ok(Self::List(split_list(text))),
                _ => match strings(value) {
                    Some(items) => Ok(Self::List(items)),
                    None => expected("a list of strings"),
                },
            },
            Some(other) => Err(format!(
                "has the unknown type {other:?}; expected one of {}{}",
                TYPES.join(", "),
                hint(other, TYPES.iter().copied())
            )),
        }
    }
}

impl PropertyValue {
    /// `true` or `false`, also as a text.
    pub(super) fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Boolean(flag) => Some(*flag),
            Self::Text(text) => parse_boolean(&text.text),
            _ => None,
        }
    }
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", text.text),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::Version(version) => write!(f, "version {version}"),
            Self::List(items) => write!(f, "{items:?}"),
        }
    }
}

/// Properties by name. The first with a name decides.
#[derive(Debug, Clone, Default)]
pub(super) struct PropertySet {
    // Sorted by name: sets are small, are read often, and never change once built.
    entries: Vec<(String, PropertyValue)>,
}

impl PropertySet {
    /// Of several with one name, the first is taken.
    pub(super) fn new(properties: impl IntoIterator<Item = (String, PropertyValue)>) -> Self {
        let mut entries: Vec<_> = properties.into_iter().collect();
        // Both keep the order of what is equal, so the first stays the first.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, earlier| later.0 == earlier.0);
        Self { entries }
    }

    /// Every property, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        let entries = self.entries.iter();
        entries.map(|(name, value)| (name.as_str(), value))
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }
}

impl Properties for PropertySet {
    fn get(&self, name: &str) -> Option<&PropertyValue> {
        let at = self
            .entries
            .binary_search_by(|(own, _)| own.as_str().cmp(name));
        at.ok().map(|at| &self.entries[at].1)
    }
}

/// Reads `[{name, value, type}]`.
pub(super) fn read_properties(list: &[Field<'_>]) -> Result<Vec<(String, PropertyValue)>, Fault> {
    let read = |field: &Field<'_>| {
        let name_field = field.require("name")?;
        let name = name_field.text()?;
        check_name(name).map_err(|reason| name_field.refuse(reason))?;
        let kind_field = field.get("type")?;
        let kind = kind_field.as_ref().map(Field::text).transpose()?;
        let value = field.require("value")?;
        // Of the two the one that is wrong: a type that nobody knows is no fault of the value.
        let at = match (&kind_field, kind) {
            (Some(field), Some(kind)) if !is_type(kind) => field,
            _ => &value,
        };
        let typed = PropertyValue::new(value.value(), kind).map_err(|reason| at.refuse(reason))?;
        Ok((name.to_owned(), typed))
    };
    list.iter().map(read).collect()
}

/// Whether a type of that name is known; an empty one is left to be found out.
fn is_type(kind: &str) -> bool {
    matches!(kind, "" | "list of string") || TYPES.contains(&kind)
}

/// Says why a text is no property name.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("expected a property name, found an empty text");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("is too long for a property name");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character, which no property name has");
    }
    Ok(())
}

/// The parts between commas, without spaces and quotes around them; empty ones are left out.
pub(super) fn split_list(text: &str) -> Vec<String> {
    let bare = |item: &str| {
        let item = item.trim();
        let unquoted = item
            .strip_prefix('"')
            .and_then(|item| item.strip_suffix('"'));
        unquoted.unwrap_or(item).to_owned()
    };
    let items = text.split(',').map(bare);
    items.filter(|item| !item.is_empty()).collect()
}

/// A finite number, as people write it.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    // Rust also reads `inf`, `nan` and their like, which are words here.
    let numeric = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let number: f64 = text.chars().all(numeric).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

/// `true` or `false`, in either case.
pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    let text = |item: &Value| item.as_str().map(|text| text.trim().to_owned());
    value.as_array()?.iter().map(text).collect()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_number(text.trim()),
        _ => None,
    }
}

const TYPES: &[&str] = &[
    "string",
    "int",
    "float",
    "boolean",
    "version",
    "list of strings",
];
const MAX_NAME_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_inferred_when_it_is_left_out() {
        let typed = |value| PropertyValue::new(&value, None).unwrap();
        assert_eq!(typed(json!("a")), PropertyValue::text("a"));
        assert_eq!(typed(json!(3)), PropertyValue::Number(3.0));
        assert_eq!(typed(json!(3.5)), PropertyValue::Number(3.5));
        assert_eq!(typed(json!(true)), PropertyValue::Boolean(true));
        let list = PropertyValue::List(vec!["a".into(), "b".into()]);
        assert_eq!(typed(json!(["a", " b "])), list);
        assert!(PropertyValue::new(&json!({}), None).is_err());
        assert!(PropertyValue::new(&json!(null), None).is_err());
        assert!(PropertyValue::new(&json!([1]), None).is_err());
    }

    #[test]
    fn of_a_type_and_a_value_the_one_that_is_wrong_is_named() {
        for (kind, expected) in [
            (
                "integer",
                "[0].type: has the unknown type \"integer\"; expected one of ",
            ),
            (
                "int",
                "[0].value: expected a whole number, found the text \"x\"",
            ),
        ] {
            let root = json!([{"name": "a", "type": kind, "value": "x"}]);
            let list = Field::root(&root).items().unwrap();
            let error = read_properties(&list).unwrap_err().without_text();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_its_type_is_refused() {
        let list = PropertyValue::List(vec!["a".into(), "b".into()]);
        assert_eq!(
            PropertyValue::new(&json!("a, \"b\""), Some("list of strings")),
            Ok(list)
        );
        assert_eq!(
            PropertyValue::new(&json!("5"), Some("int")),
            Ok(PropertyValue::Number(5.0))
        );
        assert!(PropertyValue::new(&json!("1.2"), Some("version")).is_ok());
        for (value, kind) in [
            (json!(5), "string"),
            (json!(5.5), "int"),
            (json!("inf"), "float"),
            (json!("yes"), "boolean"),
            (json!(1), "boolean"),
            (json!("1.x"), "version"),
            (json!(1.0), "version"),
            (json!(3), "list of strings"),
        ] {
            assert!(
                PropertyValue::new(&value, Some(kind)).is_err(),
                "{value} {kind}"
            );
        }
        let error = PropertyValue::new(&json!("a"), Some("strng")).unwrap_err();
        assert!(error.ends_with("; did you mean `string`?"), "{error}");
    }

    #[test]
    fn the_first_property_with_a_name_decides() {
        let pair = |name: &str, value| (name.to_owned(), PropertyValue::Number(value));
        let set = PropertySet::new([pair("b", 1.0), pair("a", 2.0), pair("b", 3.0)]);
        assert_eq!(set.get("b"), Some(&PropertyValue::Number(1.0)));
        assert_eq!(set.get("c"), None);
    }

    proptest! {
        #[test]
        fn the_set_finds_what_a_list_would(
            names in prop::collection::vec("[a-e]{1,2}", 0..12), wanted in "[a-e]{1,2}",
        ) {
            let pairs: Vec<_> = names.iter().enumerate()
                .map(|(at, name)| (name.clone(), PropertyValue::Number(at as f64))).collect();
            let first = pairs.iter().find(|(name, _)| *name == wanted);
            let first = first.map(|(_, value)| value.clone());
            prop_assert_eq!(PropertySet::new(pairs).get(&wanted).cloned(), first);
        }
    }
}
