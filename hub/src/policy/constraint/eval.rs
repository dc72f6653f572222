//! What a comparison means, by the type of the property.

use std::cmp::Ordering;
use std::fmt;

use crate::policy::property::{Properties, PropertyValue, parse_boolean, parse_number, split_list};
use crate::policy::version::{Version, VersionRange};

/// How a property is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    In,
}

impl Operator {
    /// Whether it asks which of two comes first.
    pub(super) fn is_order(self) -> bool {
        use Operator::{Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Less | Greater | LessOrEqual | GreaterOrEqual)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::LessOrEqual => "<=",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
        }
    }

    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal | Self::In => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::Greater => ordering.is_gt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// What a property is compared with, in every way in which it can be read: which one counts is for
/// the property's type to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    pub(super) text: String,
    /// Its parts; itself, when it has no comma.
    pub(super) items: Vec<String>,
    pub(super) number: Option<f64>,
    pub(super) boolean: Option<bool>,
    pub(super) version: Option<Version>,
    pub(super) range: Option<VersionRange>,
}

impl Literal {
    /// A word or a text in quotes, which can also be a list, or a range.
    pub(super) fn text(text: &str) -> Self {
        let text = text.trim();
        let version: Option<Version> = text.parse().ok();
        let range = match &version {
            Some(version) => Some(VersionRange::from_version(version.clone())),
            None if text.starts_with(['[', '(']) => text.parse().ok(),
            None => None,
        };
        Self {
            text: text.to_owned(),
            items: split_list(text),
            number: parse_number(text),
            boolean: parse_boolean(text),
            version,
            range,
        }
    }

    /// A range without quotes.
    pub(super) fn range(text: &str, range: VersionRange) -> Self {
        Self {
            text: text.to_owned(),
            items: Vec::new(),
            number: None,
            boolean: None,
            version: None,
            range: Some(range),
        }
    }

    /// Whether something can be less than it.
    pub(super) fn has_order(&self) -> bool {
        self.number.is_some() || self.version.is_some()
    }

    fn lists(&self, item: &str) -> bool {
        self.items.iter().any(|own| own == item)
    }
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::policy) struct Comparison {
    name: String,
    pub(super) operator: Operator,
    pub(super) literal: Literal,
}

impl Comparison {
    pub(super) fn new(name: &str, operator: Operator, literal: Literal) -> Self {
        Self {
            name: name.to_owned(),
            operator,
            literal,
        }
    }

    /// The property's name.
    pub(in crate::policy) fn name(&self) -> &str {
        &self.name
    }

    /// The property as it is, for people; also why it cannot be compared so, where that is the reason.
    pub(super) fn seen(&self, properties: &impl Properties) -> String {
        let name = &self.name;
        let Some(value) = properties.get(name) else {
            return format!("{name} is absent");
        };
        let kind = match value {
            PropertyValue::Text(_) => "a string",
            PropertyValue::List(_) => "a list",
            PropertyValue::Boolean(_) => "true or false",
            PropertyValue::Number(_) | PropertyValue::Version(_) => "",
        };
        let unordered = self.operator.is_order() && !kind.is_empty();
        match unordered {
            true => format!("{name} is {value}, {kind}, which has no order"),
            false => format!("{name} is {value}"),
        }
    }

    /// False when the property is absent or of a type that cannot be compared so.
    pub(super) fn holds(&self, properties: &impl Properties) -> bool {
        let literal = &self.literal;
        match properties.get(&self.name) {
            None => false,
            Some(PropertyValue::Number(number)) => self.number_holds(*number),
            Some(PropertyValue::Boolean(flag)) => match (self.operator, literal.boolean) {
                (Operator::Equal | Operator::In, Some(wanted)) => *flag == wanted,
                (Operator::NotEqual, Some(wanted)) => *flag != wanted,
                _ => false,
            },
            Some(PropertyValue::Version(version)) => self.version_holds(version),
            Some(PropertyValue::Text(own)) => {
                let equal = || {
                    own.text == literal.text
                        || own.items.contains(&literal.text)
                        || literal.lists(&own.text)
                };
                match self.operator {
                    Operator::Equal => equal(),
                    Operator::NotEqual => !equal(),
                    Operator::In => match (&own.version, &literal.range) {
                        (Some(version), Some(range)) => range.contains(version),
                        _ => own.text == literal.text || literal.lists(&own.text),
                    },
                    _ => false,
                }
            }
            Some(PropertyValue::List(own)) => {
                let equal = || own.contains(&literal.text) || *own == literal.items;
                match self.operator {
                    Operator::Equal => equal(),
                    Operator::NotEqual => !equal(),
                    Operator::In => own.iter().any(|item| literal.lists(item)),
                    _ => false,
                }
            }
        }
    }

    fn number_holds(&self, number: f64) -> bool {
        if self.operator == Operator::In {
            let items = self.literal.items.iter();
            return items
                .filter_map(|item| parse_number(item))
                .any(|item| item == number);
        }
        let wanted = self.literal.number;
        let ordering = wanted.and_then(|wanted| number.partial_cmp(&wanted));
        ordering.is_some_and(|ordering| self.operator.accepts(ordering))
    }

    fn version_holds(&self, version: &Version) -> bool {
        let literal = &self.literal;
        match (self.operator, &literal.range, &literal.version) {
            (Operator::In, Some(range), _) => range.contains(version),
            (Operator::In, None, _) => {
                let mut items = literal.items.iter();
                items.any(|item| item.parse::<Version>().is_ok_and(|item| item == *version))
            }
            (operator, _, Some(wanted)) => operator.accepts(version.cmp(wanted)),
            (_, _, None) => false,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(f, &self.name)?;
        write!(f, " {} ", self.operator.as_str())?;
        match &self.literal.range {
            // A range stands without quotes.
            Some(_) if self.literal.text.starts_with(['[', '(']) => f.write_str(&self.literal.text),
            _ => word(f, &self.literal.text),
        }
    }
}

/// In quotes where it could not stand without them.
fn word(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| !c.is_whitespace() && !"()\"'=<>!&|,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => f.write_str(text),
        false if text.contains('"') => write!(f, "'{text}'"),
        false => write!(f, "\"{text}\""),
    }
}
