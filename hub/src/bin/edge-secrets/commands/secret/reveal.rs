//! A value on its way out, for the one who asked for it and nobody else.

use std::fmt::Write as _;

use data_encoding::BASE64;
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{RevealSecret, SecretRevealed, paths};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::secret::VALUE_FIELD;
use edge_secrets_protocol::{Fields, SealingKey, Secret, SecretVersion};
use http::Method;
use serde::ser::{Serialize, SerializeMap, Serializer};
use zeroize::Zeroizing;

use super::{Session, route};
use crate::error::Error;
use crate::output::{Format, Ui};

/// Fetches a value and writes it out.
///
/// # Errors
/// When it is denied, or what comes is not what was asked for.
pub(super) async fn run(
    name: &SecretRef,
    version: Option<SecretVersion>,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let payload = fetch(name, version, session).await?;
    write(&payload, session.ui)
}

/// Fetches a value, sealed to a key that lives as long as this call.
pub(super) async fn fetch(
    name: &SecretRef,
    version: Option<SecretVersion>,
    session: &mut Session<'_>,
) -> Result<Secret, Error> {
    let info = session.hub_info().await?;
    let key = SealingKey::generate();
    let request = RevealSecret {
        seal_to: key.public(),
        version,
    };
    let target = route(paths::SECRET_REVEAL, name, session);
    let answer: SecretRevealed = session.client.send(Method::POST, target, &request).await?;
    if request
        .version
        .is_some_and(|wanted| wanted != answer.version)
    {
        return Err(Error::Failed(format!(
            "the hub answered with version {} instead",
            answer.version
        )));
    }
    let reference = name.to_string();
    let place = Place::Reveal {
        org: &info.org,
        user: &info.user,
        reference: &reference,
        version: &answer.version,
    };
    answer
        .sealed
        .open(&key, &place)
        .map_err(|error| Error::Failed(error.to_string()))
}

fn write(payload: &Secret, ui: &mut Ui) -> Result<(), Error> {
    let fields =
        Fields::decode(payload.expose()).map_err(|error| Error::Failed(error.to_string()))?;
    let shape = Shape::of(&fields, ui.format(), ui.out_is_terminal());
    let bytes = match shape {
        Shape::Raw => {
            return ui.raw(fields.expose_value().unwrap_or_default());
        }
        Shape::Lines => return ui.print(&lines(&fields)),
        // The serialisers' errors could quote a value.
        Shape::Json => serde_json::to_vec_pretty(&Object(&fields))
            .ok()
            .map(|mut json| {
                json.push(b'\n');
                json
            }),
        Shape::Yaml => serde_yaml::to_string(&Object(&fields))
            .ok()
            .map(String::into_bytes),
    };
    let bytes = bytes.map(Zeroizing::new);
    let bytes = bytes.ok_or_else(|| Error::Failed("the value cannot be written".to_owned()))?;
    ui.raw(&bytes)?;
    for (name, value) in fields.expose() {
        if std::str::from_utf8(value).is_err() {
            ui.note(&format!(
                "note: the field `{name}` is not text and stands as base64"
            ));
        }
    }
    Ok(())
}

/// How a value is written.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Json,
    Lines,
    Raw,
    Yaml,
}

impl Shape {
    fn of(fields: &Fields<'_>, format: Option<Format>, terminal: bool) -> Self {
        let mut names = fields.names();
        let one_value = names.next() == Some(VALUE_FIELD) && names.next().is_none();
        match format {
            Some(Format::Json) => Self::Json,
            Some(Format::Yaml) => Self::Yaml,
            Some(Format::Table) => Self::Lines,
            None if terminal => Self::Lines,
            None if one_value => Self::Raw,
            None => Self::Json,
        }
    }
}

/// `field: value`, for people.
fn lines(fields: &Fields<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (name, value) in fields.expose() {
        let written = match std::str::from_utf8(value) {
            Ok(value) if value.contains('\n') => {
                writeln!(text, "{name}:\n{}", value.trim_end_matches('\n'))
            }
            Ok(value) => writeln!(text, "{name}: {value}"),
            Err(_) => writeln!(text, "{name} (base64): {}", BASE64.encode(value)),
        };
        // Writing to a string cannot fail.
        written.ok();
    }
    text
}

/// The fields as an object of strings; what is no text stands as `{"base64": "…"}`.
struct Object<'a>(&'a Fields<'a>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.expose();
        let mut object = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            object.serialize_entry(name, &AsText(value))?;
        }
        object.end()
    }
}

/// A field's value: a string, or `{"base64": "…"}` for what is no text.
pub(in crate::commands) struct AsText<'a>(pub(in crate::commands) &'a [u8]);

impl Serialize for AsText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Bytes(self.0).serialize(serializer),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(1))?;
        object.serialize_entry("base64", &*Zeroizing::new(BASE64.encode(self.0)))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::TestUi;

    fn payload(fields: &[(&str, &[u8])]) -> Secret {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), *value))
            .collect();
        Fields::encode(&fields).unwrap()
    }

    fn written(fields: &[(&str, &[u8])], mut test: TestUi) -> (Vec<u8>, String) {
        write(&payload(fields), &mut test.ui).unwrap();
        (test.out_bytes(), test.err())
    }

    #[test]
    fn a_pipe_gets_the_raw_bytes_of_one_value() {
        let (out, err) = written(&[("value", b"\xff\x00\n")], TestUi::new(None, b""));
        assert_eq!((out.as_slice(), err.as_str()), (&b"\xff\x00\n"[..], ""));
    }

    #[test]
    fn a_pipe_gets_an_object_of_several_fields() {
        let fields: [(&str, &[u8]); 2] = [("key", b"k"), ("pin", b"\xff")];
        for format in [None, Some(Format::Json)] {
            let (out, err) = written(&fields, TestUi::new(format, b""));
            let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(
                out,
                serde_json::json!({"key": "k", "pin": {"base64": "/w=="}})
            );
            assert!(err.contains("`pin`") && err.contains("base64"), "{err}");
        }
        let (out, _) = written(&fields, TestUi::new(Some(Format::Yaml), b""));
        assert_eq!(out, b"key: k\npin:\n  base64: /w==\n");
    }

    #[test]
    fn a_terminal_gets_lines_that_cannot_drive_it() {
        let fields: [(&str, &[u8]); 3] = [
            ("a", b"x\x1b[2J"),
            ("pem", b"BEGIN\nEND\n"),
            ("pin", b"\xff"),
        ];
        let (out, _) = written(&fields, TestUi::new(None, b"").on_terminal());
        let wanted = "a: x\\u{1b}[2J\npem:\nBEGIN\nEND\npin (base64): /w==\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
