//! Every field in one JSON object, in order of their names.

use edge_secrets_protocol::Fields;

use super::{RenderError, Room};

/// Builds the object in `out` and says how long it is.
pub(super) fn object(fields: &Fields<'_>, out: &mut [u8]) -> Result<usize, RenderError> {
    let mut room = Room::new(out);
    room.put(b"{");
    for (at, (name, value)) in fields.expose().enumerate() {
        let text = std::str::from_utf8(value).map_err(|_| RenderError::NotText(name.to_owned()))?;
        if at > 0 {
            room.put(b",");
        }
        string(name, |part| room.put(part.as_bytes()));
        room.put(b":");
        string(text, |part| room.put(part.as_bytes()));
    }
    room.put(b"}");
    room.len()
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

const DIGITS: &str = "0123456789abcdef";
