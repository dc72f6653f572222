//! Results as Open Horizon writes them: indented JSON, where no other format was asked for.

use edge_secrets_protocol::{Fields, Secret};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use zeroize::Zeroizing;

use super::Format;
use super::secret::AsText;
use crate::error::Error;

/// A value in the format that was asked for.
pub(super) fn bytes<T: Serialize>(
    value: &T,
    format: Option<Format>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    // The serialisers' errors could quote a value.
    let bytes = match format {
        Some(Format::Yaml) => serde_yaml::to_string(value).ok().map(String::into_bytes),
        _ => serde_json::to_vec_pretty(value).ok().map(|mut json| {
            json.push(b'\n');
            json
        }),
    };
    let unwritable = || Error::Failed("the result cannot be written".to_owned());
    bytes.map(Zeroizing::new).ok_or_else(unwritable)
}

/// A secret as `{"key": …, "value": …}`. One that was set otherwise has an empty `key`, and its other
/// fields behind.
pub(super) fn details(
    payload: &Secret,
    format: Option<Format>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fields =
        Fields::decode(payload.expose()).map_err(|error| Error::Failed(error.to_string()))?;
    bytes(&Details(&fields), format)
}

struct Details<'a>(&'a Fields<'a>);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for name in THEIRS {
            let mut fields = self.0.expose();
            match fields.find(|(known, _)| *known == name) {
                Some((_, value)) => object.serialize_entry(name, &AsText(value))?,
                None => object.serialize_entry(name, "")?,
            }
        }
        for (name, value) in self.0.expose() {
            if !THEIRS.contains(&name) {
                object.serialize_entry(name, &AsText(value))?;
            }
        }
        object.end()
    }
}

const THEIRS: [&str; 2] = ["key", "value"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fields: &[(&str, &[u8])], format: Option<Format>) -> String {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), *value))
            .collect();
        let payload = Fields::encode(&fields).unwrap();
        String::from_utf8(details(&payload, format).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn key_and_value_are_always_there_and_first() {
        assert_eq!(
            shown(&[("value", b"u:p"), ("key", b"basicauth")], None),
            "{\n  \"key\": \"basicauth\",\n  \"value\": \"u:p\"\n}\n"
        );
        assert_eq!(
            shown(&[("pin", b"\xff"), ("value", b"v")], Some(Format::Json)),
            "{\n  \"key\": \"\",\n  \"value\": \"v\",\n  \"pin\": {\n    \"base64\": \"/w==\"\n  }\n}\n"
        );
        assert_eq!(
            shown(&[("key", b"k"), ("value", b"v")], Some(Format::Yaml)),
            "key: k\nvalue: v\n"
        );
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(*bytes(&Vec::<String>::new(), None).unwrap(), b"[]\n");
    }
}
