//! What a comparison asks for and what a property offers, as marks that can be looked up: where they
//! have none in common, the comparison does not hold.

use super::eval::{Comparison, Operator};
use crate::policy::property::{PropertyValue, parse_number};
use crate::policy::version::Version;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::policy) enum Mark {
    /// A text, or one of a list.
    Text(String),
    /// The bits of a number.
    Number(u64),
    /// A boolean.
    Flag(bool),
    /// A version.
    Version(Version),
}

impl Mark {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn number(number: f64) -> Self {
        // So that both zeros are one.
        Self::Number((number + 0.0).to_bits())
    }
}

impl Comparison {
    /// The marks of which the property must have one; none where that cannot be told.
    pub(in crate::policy) fn marks(&self) -> Option<Vec<Mark>> {
        let literal = &self.literal;
        let tells = match self.operator {
            // An empty list is equal to an empty list, which has no mark.
            Operator::Equal => !literal.items.is_empty(),
            // What lies in a range is not listed.
            Operator::In => literal.range.is_none() && !literal.items.is_empty(),
            _ => false,
        };
        if !tells {
            return None;
        }
        let items = || literal.items.iter();
        let mut marks = vec![Mark::text(&literal.text)];
        marks.extend(items().map(|item| Mark::text(item)));
        let numbers = items().filter_map(|item| parse_number(item));
        marks.extend(numbers.chain(literal.number).map(Mark::number));
        marks.extend(literal.boolean.map(Mark::Flag));
        let versions = items().filter_map(|item| item.parse().ok());
        marks.extend(versions.chain(literal.version.clone()).map(Mark::Version));
        Some(marks)
    }
}

impl PropertyValue {
    /// The marks that it has.
    pub(in crate::policy) fn marks(&self) -> Vec<Mark> {
        match self {
            Self::Text(own) => {
                let items = own.items.iter().map(|item| Mark::text(item));
                items.chain([Mark::text(&own.text)]).collect()
            }
            Self::Number(number) => vec![Mark::number(*number)],
            Self::Boolean(flag) => vec![Mark::Flag(*flag)],
            Self::Version(version) => vec![Mark::Version(version.clone())],
            Self::List(items) => items.iter().map(|item| Mark::text(item)).collect(),
        }
    }
}
