//! The filters: what a value needs to stand in a file of some language. No others are there.

use std::sync::Arc;

use data_encoding::BASE64;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::context::Binary;
use crate::delivery::render::json_string;

/// What a filter cannot work on. Says nothing of values, so it can be shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(String);

/// Every filter's name, for people and for [`check`](super::check).
pub(super) const NAMES: [&str; 6] = ["b64encode", "indent", "json", "sh", "trim", "urlencode"];

/// Makes the filters known.
pub(super) fn add_to(env: &mut Environment<'_>) {
    env.add_filter("b64encode", |value: &Value| {
        Ok::<_, Error>(made(BASE64.encode(bytes("b64encode", value)?)))
    });
    env.add_filter("indent", indent);
    env.add_filter("json", |value: &Value| {
        let text = text("json", value)?;
        let mut quoted = String::with_capacity(text.len() + 2);
        json_string(text, |part| quoted.push_str(part));
        Ok::<_, Error>(made(quoted))
    });
    env.add_filter("sh", sh);
    env.add_filter("trim", |value: &Value| {
        text("trim", value).map(|text| made(text.trim().to_owned()))
    });
    env.add_filter("urlencode", urlencode);
}

/// Every line but the first begins with `width` blanks; empty ones stay empty.
fn indent(value: &Value, width: usize) -> Result<Value, Error> {
    let text = text("indent", value)?;
    if width > MAX_INDENT {
        return Err(refused(format!("`indent` takes at most {MAX_INDENT}")));
    }
    let blanks = " ".repeat(width);
    let mut indented = String::with_capacity(text.len());
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if at > 0 && !matches!(line, "\n" | "\r\n") {
            indented.push_str(&blanks);
        }
        indented.push_str(line);
    }
    Ok(made(indented))
}

/// One word for a POSIX shell: single-quoted, which keeps everything but a single quote as it is.
fn sh(value: &Value) -> Result<Value, Error> {
    let text = text("sh", value)?;
    if text.contains('\0') {
        return Err(refused(
            "`sh` takes no NUL: no shell can hold it".to_owned(),
        ));
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for part in text.split_inclusive('\'') {
        match part.strip_suffix('\'') {
            Some(head) => {
                quoted.push_str(head);
                quoted.push_str("'\\''");
            }
            None => quoted.push_str(part),
        }
    }
    quoted.push('\'');
    Ok(made(quoted))
}

/// Percent-encodes every byte but the unreserved ones of RFC 3986, `/` too: the value is one part of
/// a URL, such as a password.
fn urlencode(value: &Value) -> Result<Value, Error> {
    let bytes = bytes("urlencode", value)?;
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or_default();
                encoded.push(digit.to_ascii_uppercase());
            }
        }
    }
    Ok(made(encoded))
}

fn text<'a>(filter: &str, value: &'a Value) -> Result<&'a str, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    if let Some(binary) = value.downcast_object_ref::<Binary>() {
        return Err(refused(binary.no_text()));
    }
    value
        .as_str()
        .ok_or_else(|| refused(format!("`{filter}` takes text, like secrets.NAME.FIELD")))
}

fn bytes<'a>(filter: &str, value: &'a Value) -> Result<&'a [u8], Error> {
    match value.downcast_object_ref::<Binary>() {
        Some(binary) => Ok(&binary.content),
        None => text(filter, value).map(str::as_bytes),
    }
}

/// Never the engine's short text, which would stand on the stack.
fn made(text: String) -> Value {
    Value::from(Arc::<str>::from(text))
}

fn refused(reason: String) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Refusal(reason))
}

const MAX_INDENT: usize = 64;
