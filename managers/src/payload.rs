//! From what a manager answered to a payload, without a value in any error.

use std::collections::BTreeMap;

use edge_secrets_protocol::secret::PayloadError;
use edge_secrets_protocol::{FieldName, Fields, Secret};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{Fault, ManagerError};

/// A text of an answer that is, or may be, a value: read, encoded, and wiped. It has no `Debug`.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text. Every caller of this name is on the list to audit.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Fields that a manager gave, as a payload.
///
/// # Errors
/// When there is none, one has a name that cannot be a file's, or they are too large.
pub fn from_fields(fields: &[(&str, &[u8])]) -> Result<Secret, ManagerError> {
    let mut named = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        named.push((field_name(name)?, *value));
    }
    Fields::encode(&named).map_err(unfit)
}

/// A JSON object as a payload: texts as they are, everything else as its JSON.
///
/// # Errors
/// As [`from_fields`], and when it is no object.
pub fn from_object(object: &RawValue) -> Result<Secret, ManagerError> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(object.get()).map_err(|_| no_object())?;
    let mut fields = Vec::with_capacity(members.len());
    for (name, value) in &members {
        fields.push((field_name(name)?, text_of(value)?));
    }
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), value.as_bytes()))
        .collect();
    Fields::encode(&fields).map_err(unfit)
}

/// The payload with this one field alone.
///
/// # Errors
/// [`Fault::Missing`] when it has no such field.
pub fn only(payload: &Secret, field: &FieldName) -> Result<Secret, ManagerError> {
    let fields = Fields::decode(payload.expose()).map_err(unfit)?;
    let mut shown = fields.expose();
    let (_, value) = shown
        .find(|(name, _)| *name == field.as_str())
        .ok_or_else(|| {
            let names: Vec<_> = fields.names().collect();
            ManagerError::new(
                Fault::Missing,
                format!(
                    "the secret has no field {field}; it has {}",
                    names.join(", ")
                ),
            )
        })?;
    Fields::encode(&[(field.clone(), value)]).map_err(unfit)
}

/// The bytes of a JSON text, or what else stands there as its JSON.
fn text_of(value: &RawValue) -> Result<Zeroizing<String>, ManagerError> {
    let raw = value.get();
    if !raw.starts_with('"') {
        return Ok(Zeroizing::new(raw.to_owned()));
    }
    serde_json::from_str(raw)
        .map(Zeroizing::new)
        .map_err(|_| no_object())
}

fn field_name(name: &str) -> Result<FieldName, ManagerError> {
    name.parse()
        .map_err(|error| ManagerError::new(Fault::Unsupported, format!("the secret's {error}")))
}

fn unfit(error: PayloadError) -> ManagerError {
    let fault = match error {
        PayloadError::TooLarge => Fault::TooLarge,
        PayloadError::FieldCount | PayloadError::Duplicate => Fault::Unsupported,
        PayloadError::Malformed => Fault::Malformed,
    };
    ManagerError::new(fault, error.to_string())
}

fn no_object() -> ManagerError {
    ManagerError::new(Fault::Malformed, "the secret is no JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &Secret) -> Vec<(String, String)> {
        let fields = Fields::decode(payload.expose()).unwrap();
        let shown = fields.expose();
        shown
            .map(|(name, value)| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap()))
            .collect()
    }

    fn object(json: &str) -> Result<Secret, ManagerError> {
        from_object(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn members_become_fields_and_numbers_keep_their_digits() {
        let payload =
            object(r#"{"key":"a\"b","n":1.10,"big":12345678901234567890123,"o":{"x":[1]}}"#)
                .unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            shown(&payload),
            [
                pair("big", "12345678901234567890123"),
                pair("key", "a\"b"),
                pair("n", "1.10"),
                pair("o", r#"{"x":[1]}"#),
            ]
        );
    }

    #[test]
    fn what_cannot_be_delivered_is_refused_without_its_value() {
        for (json, fault) in [
            ("[\"hunter2\"]", Fault::Malformed),
            ("\"hunter2\"", Fault::Malformed),
            ("{}", Fault::Unsupported),
            (r#"{"a/b":"hunter2"}"#, Fault::Unsupported),
        ] {
            let error = object(json).err().unwrap();
            assert_eq!(error.fault, fault, "{json}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(600 * 1024));
        assert_eq!(object(&large).err().unwrap().fault, Fault::TooLarge);
    }

    #[test]
    fn one_field_alone_keeps_its_name() {
        let payload = object(r#"{"username":"u","password":"p"}"#).unwrap();
        let password = only(&payload, &"password".parse().unwrap()).unwrap();
        assert_eq!(shown(&password), [("password".into(), "p".into())]);
        let error = only(&payload, &"passwd".parse().unwrap()).err().unwrap();
        assert_eq!(error.fault, Fault::Missing);
        assert!(error.detail.contains("password, username"), "{error}");
    }
}
