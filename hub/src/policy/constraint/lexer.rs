//! The words of a constraint. What a character means depends on what may stand there, so the parser
//! asks for the kind of word that it needs.

use super::ConstraintError;
use super::eval::Operator;
use crate::policy::document::quote;
use crate::policy::nearest::nearest;

/// Reads a constraint from left to right.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// What stands between comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    And,
    Or,
    Close,
    End,
}

/// What a property is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// In quotes, without them.
    Quoted(&'a str),
    /// One word, or several with commas between them.
    Bare(&'a str),
    /// With its brackets.
    Range(&'a str),
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte offset of the next word.
    pub(super) fn offset(&mut self) -> usize {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.at
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.offset() == self.text.len()
    }

    /// Takes an opening parenthesis, if there is one.
    pub(super) fn open(&mut self) -> bool {
        self.take("(")
    }

    /// A property name.
    pub(super) fn name(&mut self) -> Result<&'a str, ConstraintError> {
        let at = self.offset();
        if let Some(name) = self.quoted()? {
            return Ok(name);
        }
        let ends = |c: char| c.is_whitespace() || "()\",=<>!&|".contains(c);
        let name = self.until(ends);
        if name.is_empty() || is_word(name, "AND") || is_word(name, "OR") {
            return Err(self.error_at(at, "a property name or `(`"));
        }
        Ok(name)
    }

    /// A comparison operator.
    pub(super) fn operator(&mut self) -> Result<Operator, ConstraintError> {
        let at = self.offset();
        if let Some((_, meant)) = OTHER_SIGNS
            .iter()
            .find(|sign| self.rest().starts_with(sign.0))
        {
            return Err(self.error_at(at, AN_OPERATOR).meaning(meant));
        }
        for (spelling, operator) in OPERATORS {
            if self.take(spelling) {
                return Ok(*operator);
            }
        }
        let ends = |c: char| c.is_whitespace() || "[(\"'".contains(c);
        let word = self.until(ends);
        if is_word(word, "in") {
            return Ok(Operator::In);
        }
        let error = self.error_at(at, AN_OPERATOR);
        let known = OTHER_WORDS.iter().find(|other| is_word(word, other.0));
        let meant = known.map(|known| known.1);
        Err(match meant.or_else(|| nearest(word, ["in"])) {
            Some(meant) => error.meaning(meant),
            None => error,
        })
    }

    /// A value.
    pub(super) fn value(&mut self) -> Result<Value<'a>, ConstraintError> {
        let at = self.offset();
        if let Some(text) = self.quoted()? {
            return Ok(Value::Quoted(text));
        }
        if self.rest().starts_with(['[', '(']) {
            let Some(end) = self.rest().find([']', ')']) else {
                return Err(self.error_at(at, "a version range that ends with `]` or `)`"));
            };
            self.at += end + 1;
            return Ok(Value::Range(&self.text[at..self.at]));
        }
        if self.rest().starts_with(['=', '<', '>', '!', '&', '|', ',']) {
            return Err(self.error_at(at, "a value"));
        }
        self.bare_word();
        if self.at == at {
            return Err(self.error_at(at, "a value"));
        }
        // Spaces around a comma belong to the list.
        let mut end = self.at;
        loop {
            let comma_before = self.text[..end].ends_with(',');
            self.offset();
            if !comma_before && !self.rest().starts_with(',') {
                break;
            }
            let before = self.at;
            self.bare_word();
            if self.at == before {
                return Err(self.error_at(before, "another value after the comma"));
            }
            end = self.at;
        }
        self.at = end;
        Ok(Value::Bare(&self.text[at..end]))
    }

    /// What comes after a comparison.
    pub(super) fn connector(&mut self) -> Result<Connector, ConstraintError> {
        let at = self.offset();
        if self.is_at_end() {
            return Ok(Connector::End);
        }
        let symbols = [
            ("&&", Connector::And),
            ("||", Connector::Or),
            (")", Connector::Close),
        ];
        for (symbol, connector) in symbols {
            if self.take(symbol) {
                return Ok(connector);
            }
        }
        let word = self.until(|c| c.is_whitespace() || "()\"'".contains(c));
        if is_word(word, "AND") {
            Ok(Connector::And)
        } else if is_word(word, "OR") {
            Ok(Connector::Or)
        } else {
            let error = self.error_at(at, "`AND`, `OR`, `)` or the end");
            let meant = match word {
                "&" => Some("&&"),
                "|" => Some("||"),
                word => nearest(word, ["AND", "OR"]),
            };
            Err(match meant {
                Some(meant) => error.meaning(meant),
                None => error,
            })
        }
    }

    /// That something else was expected at `offset`.
    pub(super) fn error_at(&self, offset: usize, expected: &str) -> ConstraintError {
        let rest = &self.text[offset..];
        let word = rest.split(char::is_whitespace).next().unwrap_or(rest);
        ConstraintError {
            offset,
            column: self.text[..offset].chars().count() + 1,
            expected: expected.to_owned(),
            found: if rest.is_empty() {
                "the end".to_owned()
            } else {
                quote(word)
            },
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, spelling: &str) -> bool {
        self.offset();
        let found = self.rest().starts_with(spelling);
        if found {
            self.at += spelling.len();
        }
        found
    }

    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A word of a value may hold single `&` and `|`, `=` and the like; pairs are connectors.
    fn bare_word(&mut self) {
        let rest = self.rest();
        let ends = |at: &(usize, char)| {
            at.1.is_whitespace()
                || "()\"".contains(at.1)
                || ["&&", "||"]
                    .iter()
                    .any(|pair| rest[at.0..].starts_with(pair))
        };
        let length = rest
            .char_indices()
            .find(ends)
            .map_or(rest.len(), |(at, _)| at);
        self.at += length;
    }

    fn quoted(&mut self) -> Result<Option<&'a str>, ConstraintError> {
        let at = self.offset();
        let Some(mark) = self
            .rest()
            .chars()
            .next()
            .filter(|c| matches!(c, '"' | '\''))
        else {
            return Ok(None);
        };
        let inner = &self.rest()[1..];
        let Some(end) = inner.find(mark) else {
            return Err(self.error_at(at, &format!("a text that ends with {mark}")));
        };
        self.at += end + 2;
        Ok(Some(&inner[..end]))
    }
}

fn is_word(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

const AN_OPERATOR: &str = "an operator (== = != < > <= >= in)";

/// What other languages write, with what it is here; longer ones first.
const OTHER_SIGNS: &[(&str, &str)] = &[
    ("!==", "!="),
    ("===", "=="),
    ("=>", ">="),
    ("=<", "<="),
    ("<>", "!="),
    ("><", "!="),
    ("=!", "!="),
    ("=~", "in"),
    (":=", "=="),
    ("~=", "=="),
    (":", "=="),
];

const OTHER_WORDS: &[(&str, &str)] = &[
    ("is", "=="),
    ("eq", "=="),
    ("equals", "=="),
    ("contains", "=="),
    ("has", "=="),
    ("ne", "!="),
    ("neq", "!="),
    ("lt", "<"),
    ("gt", ">"),
    ("le", "<="),
    ("lte", "<="),
    ("ge", ">="),
    ("gte", ">="),
    ("within", "in"),
];

/// Longer spellings before those that they begin with.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];
