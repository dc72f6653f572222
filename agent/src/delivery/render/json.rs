//! Every field in one JSON object, in order of their names.

use std::collections::BTreeMap;

use edge_secrets_protocol::Fields;
use edge_secrets_protocol::secret::VALUE_FIELD;
use zeroize::Zeroizing;

use super::{RenderError, Room};

/// Builds the object in `out` and says how long it is.
pub(super) fn object(fields: &Fields<'_>, out: &mut [u8]) -> Result<usize, RenderError> {
    let mut room = Room::new(out);
    put(fields.expose(), &mut room)?;
    room.len()
}

/// The object that Open Horizon's secrets API answers with, made of a payload: every field, `key` even
/// where the secret has none, and `value` wherever `value_only` knows what that is.
///
/// # Errors
/// When the payload is malformed, or a field is not text.
pub(crate) fn secret_object(payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let fields = Fields::decode(payload).map_err(|_| RenderError::Malformed)?;
    let mut shown: BTreeMap<&str, &[u8]> = fields.expose().collect();
    shown.entry(KEY_FIELD).or_default();
    if let Some(value) = fields.expose_value() {
        shown.entry(VALUE_FIELD).or_insert(value);
    }
    let pairs = || shown.iter().map(|(name, value)| (*name, *value));
    // Measured first: a growing vector would leave copies behind.
    let mut measure = Room::new(&mut []);
    put(pairs(), &mut measure)?;
    let mut object = Zeroizing::new(vec![0; measure.at]);
    put(pairs(), &mut Room::new(&mut object))?;
    Ok(object)
}

fn put<'f>(
    fields: impl Iterator<Item = (&'f str, &'f [u8])>,
    room: &mut Room<'_>,
) -> Result<(), RenderError> {
    room.put(b"{");
    for (at, (name, value)) in fields.enumerate() {
        let text = std::str::from_utf8(value).map_err(|_| RenderError::NotText(name.to_owned()))?;
        if at > 0 {
            room.put(b",");
        }
        string(name, |part| room.put(part.as_bytes()));
        room.put(b":");
        string(text, |part| room.put(part.as_bytes()));
    }
    room.put(b"}");
    Ok(())
}

/// A JSON string (RFC 8259 §7), part by part: only what must be escaped is.
pub(in crate::delivery) fn string(text: &str, mut put: impl FnMut(&str)) {
    put("\"");
    let mut plain = text;
    while let Some(at) = plain.find(must_escape) {
        let (head, tail) = plain.split_at(at);
        put(head);
        let mut tail = tail.chars();
        match tail.next() {
            Some('"') => put("\\\""),
            Some('\\') => put("\\\\"),
            Some('\n') => put("\\n"),
            Some('\r') => put("\\r"),
            Some('\t') => put("\\t"),
            Some(control) => {
                put("\\u00");
                put(digit(u32::from(control) >> 4));
                put(digit(u32::from(control) & 15));
            }
            None => {}
        }
        plain = tail.as_str();
    }
    put(plain);
    put("\"");
}

fn must_escape(c: char) -> bool {
    c < ' ' || c == '"' || c == '\\'
}

fn digit(digit: u32) -> &'static str {
    usize::try_from(digit)
        .ok()
        .and_then(|at| DIGITS.get(at..=at))
        .unwrap_or_default()
}

/// The field that Open Horizon's secrets have beside their value.
const KEY_FIELD: &str = "key";
const DIGITS: &str = "0123456789abcdef";
