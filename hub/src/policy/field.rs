//! Walking through a document: every value knows the way to it, so that every fault has a place.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use super::document::{Fault, Step, describe};
use super::nearest::hint;

/// A value in a document.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    value: &'a Value,
    steps: Vec<Step>,
}

impl<'a> Field<'a> {
    /// The document itself.
    pub(super) fn root(value: &'a Value) -> Self {
        Self::at(value, Vec::new())
    }

    /// A value that stands at `steps` of a larger document.
    pub(super) fn at(value: &'a Value, steps: Vec<Step>) -> Self {
        Self { value, steps }
    }

    /// The value itself.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// The way to it.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A fault at this place.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Fault {
        Fault {
            steps: self.steps.clone(),
            reason: reason.into(),
        }
    }

    /// The field of that name; absent and null are the same.
    pub(super) fn get(&self, name: &str) -> Result<Option<Self>, Fault> {
        let Value::Object(entries) = self.value else {
            return Err(self.expected("a map"));
        };
        let value = entries.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| self.child(value, Step::Key(name.to_owned()))))
    }

    /// The field of that name, which must be there.
    pub(super) fn require(&self, name: &str) -> Result<Self, Fault> {
        if let Some(field) = self.get(name)? {
            return Ok(field);
        }
        let keys: Vec<&str> = match self.value {
            Value::Object(entries) => entries.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let hint = super::nearest::nearest(name, keys)
            .map_or_else(String::new, |found| format!("; found `{found}` instead"));
        Err(self.refuse(format!("needs the field `{name}`{hint}")))
    }

    /// Every entry of a map.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Fault> {
        let Value::Object(entries) = self.value else {
            return Err(self.expected("a map"));
        };
        let entry = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), self.child(value, Step::Key(key.clone())))
        };
        Ok(entries.iter().map(entry).collect())
    }

    /// Every item of a list.
    pub(super) fn items(&self) -> Result<Vec<Self>, Fault> {
        let Value::Array(items) = self.value else {
            return Err(self.expected("a list"));
        };
        let item = |(at, value): (usize, &'a Value)| self.child(value, Step::Index(at));
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Every item of the list of that name; none when it is absent.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Self>, Fault> {
        self.get(name)?
            .map_or_else(|| Ok(Vec::new()), |field| field.items())
    }

    /// A text.
    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        match self.value {
            Value::String(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) => Err(self.refuse(format!(
                "expected a text, found {}: put it in quotes",
                describe(self.value)
            ))),
            _ => Err(self.expected("a text")),
        }
    }

    /// The text of that name; empty when it is absent.
    pub(super) fn text_or_empty(&self, name: &str) -> Result<&'a str, Fault> {
        self.get(name)?.map_or(Ok(""), |field| field.text())
    }

    /// The flag of that name; false when it is absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.get(name)? {
            None => Ok(false),
            Some(field) => field
                .value
                .as_bool()
                .ok_or_else(|| field.expected("`true` or `false`")),
        }
    }

    /// The whole number of that name, from 0; 0 when it is absent.
    pub(super) fn count(&self, name: &str) -> Result<u64, Fault> {
        match self.get(name)? {
            None => Ok(0),
            Some(field) => field
                .value
                .as_u64()
                .ok_or_else(|| field.expected("a whole number from 0")),
        }
    }

    /// A text that is a `T`.
    pub(super) fn parse<T>(&self) -> Result<T, Fault>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?
            .parse()
            .map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    /// One of the words of `known`.
    pub(super) fn word(&self, known: &[&str]) -> Result<&'a str, Fault> {
        let text = self.text()?;
        if known.contains(&text) {
            return Ok(text);
        }
        let known_words: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
        Err(self.refuse(format!(
            "expected {}, found {}{}",
            known_words.join(" or "),
            describe(self.value),
            hint(text, known.iter().copied())
        )))
    }

    /// A fault that says what was expected and what is here.
    pub(super) fn expected(&self, what: &str) -> Fault {
        self.refuse(format!("expected {what}, found {}", describe(self.value)))
    }

    fn child(&self, value: &'a Value, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { value, steps }
    }
}
