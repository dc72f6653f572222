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
mod mark;
mod parser;

use std::fmt;

pub(super) use self::mark::Mark;
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
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the properties satisfy it.
    pub(super) fn holds(&self, properties: &impl Properties) -> bool {
        self.expression.holds(properties)
    }

    /// It with the values that decided it, for people: where it holds, every property that it names;
    /// where it does not, the terms that fail, down to the comparison and the property it saw.
    pub(super) fn explained(&self, properties: &impl Properties) -> String {
        let told = match (&self.expression, self.holds(properties)) {
            (_, true) => self.seen(properties),
            // There is no other term than the whole.
            (Expression::Compare(comparison), false) => comparison.seen(properties),
            (expression, false) => expression.failing(properties),
        };
        match told.is_empty() {
            true => self.text.clone(),
            false => format!("{}: {told}", self.text),
        }
    }

    /// What it demands in any case: the node has to satisfy every one of these.
    pub(super) fn demands(&self) -> impl Iterator<Item = &eval::Comparison> {
        let (one, all) = match &self.expression {
            Expression::All(parts) => (None, parts.as_slice()),
            one => (Some(one), [].as_slice()),
        };
        all.iter().chain(one).filter_map(|part| match part {
            Expression::Compare(comparison) => Some(&**comparison),
            _ => None,
        })
    }

    fn seen(&self, properties: &impl Properties) -> String {
        let mut comparisons = Vec::new();
        self.expression.comparisons(&mut comparisons);
        comparisons.sort_unstable_by_key(|comparison| comparison.name());
        comparisons.dedup_by_key(|comparison| comparison.name());
        let seen = comparisons.iter().map(|one| one.seen(properties));
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

impl ConstraintError {
    /// With what was probably meant.
    fn meaning(mut self, meant: &str) -> Self {
        self.found.push_str(&format!("; did you mean `{meant}`?"));
        self
    }
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

    fn comparisons<'a>(&'a self, found: &mut Vec<&'a eval::Comparison>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.comparisons(found);
                }
            }
            Self::Compare(comparison) => found.push(comparison),
        }
    }

    /// Of what does not hold: why.
    fn failing(&self, properties: &impl Properties) -> String {
        match self {
            Self::All(parts) => {
                let failing = parts.iter().filter(|part| !part.holds(properties));
                let told = failing.map(|part| part.failing(properties));
                told.collect::<Vec<_>>().join("; ")
            }
            Self::Any(parts) => {
                let told = parts.iter().map(|part| match part {
                    Self::Compare(_) => part.failing(properties),
                    _ => format!("({})", part.failing(properties)),
                });
                let told = told.collect::<Vec<_>>().join(", ");
                format!("none of the alternatives holds: {told}")
            }
            Self::Compare(one) => format!("{one} fails, {}", one.seen(properties)),
        }
    }
}

const MAX_CONSTRAINTS: usize = 256;

#[cfg(test)]
mod tests;
