//! Open Horizon's constraint language: what one side demands of the other side's properties.
//!
//! ```text
//! constraint = [ any ]                                        nothing demanded: always true
//! any        = all  { ("OR"  | "||") all }
//! all        = term { ("AND" | "&&") term }                   AND binds tighter than OR
//! term       = "(" any ")" | name operator value
//! operator   = "==" | "=" | "!=" | "<" | ">" | "<=" | ">=" | "in"
//! value      = range | quoted | word { "," word }             range only after "in"
//! range      = ("[" | "(") version "," (version | "INFINITY") ("]" | ")")
//! ```
//!
//! Names are any Unicode text; with spaces or operators in them they stand in quotes, as do such
//! values. Quotes are `"` or `'`, without escapes. Keywords may be written in either case.
//!
//! A comparison with an absent property is false, `!=` included, and so is one that makes no sense
//! for the property's type. Otherwise `!=` is the opposite of `==`.

mod eval;
mod lexer;
mod parser;

use std::fmt;

use super::document::Fault;
use super::field::Field;
use super::property::Properties;

/// A constraint, ready to be evaluated.
#[derive(Debug, Clone)]
pub(super) struct Constraint {
    text: String,
    expression: Expression,
}

impl Constraint {
    /// Compiles a constraint of at most 8 KiB, with parentheses at most 32 deep.
    pub(super) fn parse(text: &str) -> Result<Self, ConstraintError> {
        Ok(Self {
            text: text.to_owned(),
            expression: parser::parse(text)?,
        })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the properties satisfy it.
    pub(super) fn holds(&self, properties: &impl Properties) -> bool {
        self.expression.holds(properties)
    }

    /// The properties that it names, with their values, for people.
    pub(super) fn seen(&self, properties: &impl Properties) -> String {
        let mut names = Vec::new();
        self.expression.names(&mut names);
        names.sort_unstable();
        names.dedup();
        let seen = names.iter().map(|name| match properties.get(name) {
            Some(value) => format!("{name} is {value}"),
            None => format!("{name} is absent"),
        });
        seen.collect::<Vec<_>>().join(", ")
    }
}

/// Reads a list of constraints, all of which must hold; one alone may stand without a list.
pub(super) fn read_constraints(field: Option<Field<'_>>) -> Result<Vec<Constraint>, Fault> {
    let Some(field) = field else {
        return Ok(Vec::new());
    };
    let items = match field.value() {
        serde_json::Value::String(_) => vec![field],
        _ => field.items()?,
    };
    if let Some(excess) = items.get(MAX_CONSTRAINTS) {
        return Err(excess.refuse(format!(
            "is one constraint too many: {MAX_CONSTRAINTS} may be"
        )));
    }
    let compile = |item: &Field<'_>| {
        Constraint::parse(item.text()?).map_err(|error| item.refuse(error.to_string()))
    };
    items.iter().map(compile).collect()
}

/// Why a text is no constraint, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) struct ConstraintError {
    /// Byte offset.
    pub(super) offset: usize,
    /// Counted in characters from 1.
    pub(super) column: usize,
    pub(super) expected: String,
    pub(super) found: String,
}

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            column,
            expected,
            found,
            ..
        } = self;
        write!(
            f,
            "constraint, character {column}: expected {expected}, found {found}"
        )
    }
}

/// A compiled constraint.
#[derive(Debug, Clone, PartialEq)]
enum Expression {
    /// All of them; none demands nothing.
    All(Vec<Self>),
    /// At least one.
    Any(Vec<Self>),
    Compare(Box<eval::Comparison>),
}

impl Expression {
    // Recursion is as deep as the parser lets parentheses be.
    fn holds(&self, properties: &impl Properties) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(properties)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(properties)),
            Self::Compare(comparison) => comparison.holds(properties),
        }
    }

    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.names(names);
                }
            }
            Self::Compare(comparison) => names.push(comparison.name()),
        }
    }
}

const MAX_CONSTRAINTS: usize = 256;

#[cfg(test)]
mod tests;
