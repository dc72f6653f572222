//! How a secret's file looks: from the payload in the locked buffer to the file's bytes in the same
//! buffer, without a copy elsewhere.

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{Fields, SecretName};

use crate::consumers::names::FileName;

/// Why a payload cannot be written in a format. Names a field at most, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// The payload is not one.
    #[error("its content is malformed; set it again")]
    Malformed,
    /// `value_only` does not know which field to write.
    #[error(
        "it has several fields and none is called `value`, so `format: value_only` does not know \
         which to write; set it with one field, or drop the format from the service definition"
    )]
    Ambiguous,
    /// JSON holds text alone.
    #[error(
        "its field `{0}` is not UTF-8 text, and JSON holds text alone; \
         use `format: value_only` for binary content"
    )]
    NotText(String),
}

/// Shows `write` every file of a secret.
pub(crate) fn render<E: From<RenderError>>(
    name: &SecretName,
    payload: &[u8],
    format: Format,
    out: &mut [u8],
    write: &mut dyn FnMut(&FileName, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let len = render_one(payload, format, out)?;
    write(&FileName::from(name), out.get(..len).unwrap_or_default())
}

fn render_one(payload: &[u8], format: Format, out: &mut [u8]) -> Result<usize, RenderError> {
    let mut room = Room { out, at: 0 };
    write(payload, format, &mut room)?;
    if room.at > room.out.len() {
        return Err(RenderError::Malformed);
    }
    Ok(room.at)
}

/// The largest file that a payload of `len` bytes can become: every byte as `\u00XX`.
pub(crate) fn bound(len: usize) -> usize {
    len.saturating_mul(6).saturating_add(16)
}

fn write(payload: &[u8], format: Format, out: &mut Room<'_>) -> Result<(), RenderError> {
    let fields = Fields::decode(payload).map_err(|_| RenderError::Malformed)?;
    match format {
        Format::ValueOnly => out.put(fields.expose_value().ok_or(RenderError::Ambiguous)?),
        Format::Json => {
            out.put(b"{");
            for (at, (name, value)) in fields.expose().enumerate() {
                let text = std::str::from_utf8(value)
                    .map_err(|_| RenderError::NotText(name.to_owned()))?;
                if at > 0 {
                    out.put(b",");
                }
                string(name, out);
                out.put(b":");
                string(text, out);
            }
            out.put(b"}");
        }
        Format::Env | Format::Fields => return Err(RenderError::Malformed),
    }
    Ok(())
}

/// A JSON string (RFC 8259 §7): only what must be escaped is.
fn string(text: &str, out: &mut Room<'_>) {
    out.put(b"\"");
    let mut plain = text.as_bytes();
    while let Some(at) = plain.iter().position(|byte| must_escape(*byte)) {
        let (head, tail) = plain.split_at(at);
        out.put(head);
        let Some((byte, rest)) = tail.split_first() else {
            break;
        };
        match byte {
            b'"' => out.put(b"\\\""),
            b'\\' => out.put(b"\\\\"),
            b'\n' => out.put(b"\\n"),
            b'\r' => out.put(b"\\r"),
            b'\t' => out.put(b"\\t"),
            _ => {
                out.put(b"\\u00");
                out.put(&[hex(byte >> 4), hex(byte & 15)]);
            }
        }
        plain = rest;
    }
    out.put(plain);
    out.put(b"\"");
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn hex(digit: u8) -> u8 {
    match digit {
        0..=9 => b'0' + digit,
        _ => b'a' + (digit - 10),
    }
}

/// Counts on past the end and writes nothing there.
struct Room<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Room<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(room) = self.out.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edge_secrets_protocol::{FieldName, Secret};
    use proptest::prelude::*;

    use super::*;

    fn payload(fields: &[(&str, &[u8])]) -> Secret {
        let fields: Vec<(FieldName, &[u8])> = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), *value))
            .collect();
        Fields::encode(&fields).unwrap()
    }

    fn rendered(payload: &Secret, format: Format) -> Result<Vec<u8>, RenderError> {
        let mut out = vec![0; bound(payload.len())];
        let len = render_one(payload.expose(), format, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    #[test]
    fn json_is_one_object_with_ascending_keys() {
        let payload = payload(&[("value", b"user:\"pw\"\n\x01"), ("key", b"basicauth")]);
        assert_eq!(
            rendered(&payload, Format::Json).unwrap(),
            br#"{"key":"basicauth","value":"user:\"pw\"\n\u0001"}"#
        );
    }

    #[test]
    fn value_only_is_the_raw_bytes() {
        let one = payload(&[("pem", b"\xff\x00\n")]);
        assert_eq!(rendered(&one, Format::ValueOnly).unwrap(), b"\xff\x00\n");
        let named = payload(&[("key", b"x"), ("value", b"y")]);
        assert_eq!(rendered(&named, Format::ValueOnly).unwrap(), b"y");
    }

    #[test]
    fn what_does_not_fit_the_format_is_named_without_the_value() {
        let several = payload(&[("a", b"hunter2"), ("b", b"y")]);
        let error = rendered(&several, Format::ValueOnly).unwrap_err();
        assert_eq!(error, RenderError::Ambiguous);
        let binary = payload(&[("tls_key", b"hunter2\xff")]);
        let error = rendered(&binary, Format::Json).unwrap_err().to_string();
        assert!(
            error.contains("tls_key") && !error.contains("hunter2"),
            "{error}"
        );
        let foreign = render_one(b"hunter2", Format::Json, &mut [0; 64]).unwrap_err();
        assert_eq!(foreign, RenderError::Malformed);
    }

    #[test]
    fn too_little_room_is_an_error_and_no_panic() {
        let payload = payload(&[("value", b"hunter2")]);
        assert!(render_one(payload.expose(), Format::ValueOnly, &mut [0; 3]).is_err());
    }

    proptest! {
        #[test]
        fn json_reads_back_as_the_fields(
            fields in prop::collection::btree_map("[a-zA-Z0-9_-]{1,20}", any::<String>(), 1..8)
        ) {
            let input: Vec<_> =
                fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            let out = rendered(&payload(&input), Format::Json).unwrap();
            let back: BTreeMap<String, String> = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, fields);
        }
    }
}
