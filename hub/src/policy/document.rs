//! Reading a JSON or YAML document within bounds, and finding the place of a fault in it again.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::DocumentError;

/// One step of the way from a document's root to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// What is wrong, and where; the line is looked up when somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) steps: Vec<Step>,
    pub(super) reason: String,
}

impl Fault {
    /// For a document whose text is not at hand.
    pub(super) fn without_text(self) -> DocumentError {
        DocumentError {
            path: path(&self.steps),
            line: None,
            column: None,
            reason: self.reason,
        }
    }

    /// With line and column in `text`, the document that the fault is in.
    pub(super) fn in_text(self, text: &str) -> DocumentError {
        let (line, column) = locate(text, &self.steps).unzip();
        DocumentError {
            line,
            column,
            ..self.without_text()
        }
    }
}

/// Reads a document: JSON when it starts with `{`, else YAML. A key that stands twice in a map,
/// more than 1 MiB of text, nesting deeper than 64 and aliases that unfold to too much are refused,
/// and so is YAML with very many brackets that close late or seem to.
///
/// # Errors
/// The first fault, with its place.
pub fn read(text: &str) -> Result<Value, DocumentError> {
    let whole = |reason: String| DocumentError {
        path: String::new(),
        line: None,
        column: None,
        reason,
    };
    if text.len() > MAX_BYTES {
        return Err(whole(format!(
            "expected at most {MAX_BYTES} bytes, found {}",
            text.len()
        )));
    }
    let budget = Cell::new(BUDGET);
    let fault = RefCell::new(None);
    let strict = Strict {
        depth: 0,
        budget: &budget,
        fault: &fault,
    };
    if !is_json(text) && open_brackets(text) > MAX_OPEN {
        return Err(whole(format!(
            "opens more than {MAX_OPEN} brackets whose end is not plain to see: write lists and \
             maps on lines of their own, or the whole as JSON"
        )));
    }
    let read = if is_json(text) {
        let mut reader = serde_json::Deserializer::from_str(text);
        strict
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value))
            .map_err(|error| {
                let place = (error.line() > 0).then(|| (error.line(), error.column()));
                (error.to_string(), place)
            })
    } else {
        strict
            .deserialize(serde_yaml::Deserializer::from_str(text))
            .map_err(|error| {
                let place = error.location().map(|at| (at.line(), at.column()));
                (error.to_string(), place)
            })
    };
    let (message, place) = match read {
        Ok(value @ Value::Object(_)) => return Ok(value),
        Ok(other) => return Err(whole(format!("expected a map, found {}", describe(&other)))),
        Err(error) => error,
    };
    let (line, column) = place.unzip();
    let (path, reason) = match fault.into_inner() {
        Some(fault) => (path(&fault.steps), fault.reason),
        None => (String::new(), without_place(&message, place)),
    };
    Err(DocumentError {
        path,
        line,
        column,
        reason,
    })
}

/// The document as JSON that [`read`] takes again.
pub(super) fn write(value: &Value) -> Result<String, DocumentError> {
    let json = value.to_string();
    if json.len() > MAX_BYTES {
        return Err(DocumentError {
            path: String::new(),
            line: None,
            column: None,
            reason: format!("is longer than {MAX_BYTES} bytes when written as JSON"),
        });
    }
    Ok(json)
}

/// A value for people: its kind, and itself where it is short.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(entries) => format!("a map of {}", entries.len()),
    }
}

/// A text in quotes, escaped, shortened.
pub(super) fn quote(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{:?}", shown + more)
}

/// A way as people write it: `secretBinding[0].secrets[1]`.
pub(super) fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(at) => path.push_str(&format!("[{at}]")),
            Step::Key(key) => {
                let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                if key.is_empty() || key.len() > SHOWN_CHARS || !key.chars().all(plain) {
                    path.push_str(&format!("[{}]", quote(key)));
                } else {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
            }
        }
    }
    path
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// At least as many `[` and `{` as ever stand open at once: the YAML reader takes time for every
/// open one at every word, and has read most of them before it hears of our bound on depth.
///
/// Which of them are text is for the reader to say. So all are counted, and one is taken for closed
/// only where nothing between it and its end could turn the end into text.
fn open_brackets(text: &str) -> usize {
    let (mut most, mut open, mut plain) = (0, 0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => {
                (open, plain) = (open + 1, plain + 1);
                most = most.max(open);
            }
            b']' | b'}' if plain > 0 => (open, plain) = (open - 1, plain - 1),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b' ' | b'_' | b'-' | b'.' | b',' | b':' | b'/' | b'@' | b'(' | b')' => {}
            _ => plain = 0,
        }
    }
    most
}

fn without_place(message: &str, place: Option<(usize, usize)>) -> String {
    let Some((line, column)) = place else {
        return message.to_owned();
    };
    let suffix = format!(" at line {line} column {column}");
    message.strip_suffix(&suffix).unwrap_or(message).to_owned()
}

/// Builds a JSON value, refusing what JSON parsers usually let pass.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    budget: &'a Cell<usize>,
    fault: &'a RefCell<Option<Fault>>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(self, reason: String) -> E {
        let error = E::custom(&reason);
        self.fault.replace(Some(Fault {
            steps: Vec::new(),
            reason,
        }));
        error
    }

    fn spend<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        match self.budget.get().checked_sub(bytes) {
            Some(rest) => {
                self.budget.set(rest);
                Ok(())
            }
            None => Err(self.refuse("holds too much; are aliases unfolding?".to_owned())),
        }
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.refuse(format!("is nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    /// A fault further down learns which way led to it.
    fn came_by(self, step: impl FnOnce() -> Step) {
        if let Some(fault) = self.fault.borrow_mut().as_mut() {
            fault.steps.insert(0, step());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.spend(VALUE_COST)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, list, text, number, `true`, `false` or nothing")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        match serde_json::Number::from_f64(number) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(self.refuse(format!("expected a finite number, found {number}"))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.spend(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = list
            .next_element_seed(inner)
            .inspect_err(|_| self.came_by(|| Step::Index(items.len())))?
        {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.spend(key.len())?;
            if entries.contains_key(&key) {
                return Err(self.refuse(format!("has the key {} twice", quote(&key))));
            }
            let value = map
                .next_value_seed(inner)
                .inspect_err(|_| self.came_by(|| Step::Key(key.clone())))?;
            entries.insert(key, value);
        }
        Ok(Value::Object(entries))
    }
}

/// Line and column, counted from 1, of the value that `steps` lead to, or of the last one on the
/// way that exists: reads the text again up to there and lets the parser say where it stands.
fn locate(text: &str, steps: &[Step]) -> Option<(usize, usize)> {
    if is_json(text) {
        if steps.is_empty() {
            return Some(next_token(text, 1, 0));
        }
        // Failing before the value is touched leaves the parser right before it.
        let find = Find {
            steps,
            touch: false,
        };
        let mut reader = serde_json::Deserializer::from_str(text);
        let error = find.deserialize(&mut reader).err()?;
        (error.line() > 0).then(|| next_token(text, error.line(), error.column()))
    } else {
        // YAML marks the event that was read last.
        let find = Find { steps, touch: true };
        let error = find
            .deserialize(serde_yaml::Deserializer::from_str(text))
            .err()?;
        error.location().map(|at| (at.line(), at.column()))
    }
}

/// The first place after `consumed` bytes of `line` that is no white space or colon.
fn next_token(text: &str, line: usize, consumed: usize) -> (usize, usize) {
    let (mut line, mut column) = (line, 1);
    let start: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    for (at, c) in text[start..].char_indices() {
        if at >= consumed && !c.is_whitespace() && c != ':' {
            break;
        }
        column += 1;
        if c == '\n' {
            (line, column) = (line + 1, 1);
        }
    }
    (line, column)
}

#[derive(Clone, Copy)]
struct Find<'a> {
    steps: &'a [Step],
    touch: bool,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() && !self.touch {
            return Err(de::Error::custom("here"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    // Whatever is not overridden fails: the way ends here.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the way")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), steps)) = self.steps.split_first() {
            for _ in 0..*wanted {
                if list.next_element::<de::IgnoredAny>()?.is_none() {
                    break;
                }
            }
            list.next_element_seed(Find { steps, ..self })?;
        }
        Err(de::Error::custom("here"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), steps)) = self.steps.split_first() {
            while let Some(key) = map.next_key::<String>()? {
                if key == *wanted {
                    map.next_value_seed(Find { steps, ..self })?;
                } else {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        Err(de::Error::custom("here"))
    }
}

const MAX_BYTES: usize = 1024 * 1024;
const MAX_DEPTH: usize = 64;
/// Far above [`MAX_DEPTH`], for texts such as half-open ranges of versions count.
const MAX_OPEN: usize = 1024;
/// Bytes of text in all, plus [`VALUE_COST`] for every value.
const BUDGET: usize = 4 * MAX_BYTES;
const VALUE_COST: usize = 16;
const SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod tests;
