//! What a node says of itself in its configuration.

use std::fmt;

use edge_secrets_protocol::node::Property;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// A map of names to strings, numbers, booleans and lists of strings, in the file's order. A name
/// that stands twice is an error, where YAML would let the last one win.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(Vec<Property>);

impl Properties {
    /// The properties, in the file's order.
    #[must_use]
    pub fn as_slice(&self) -> &[Property] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PropertiesVisitor)
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = Properties;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of property names to values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
        let mut properties: Vec<Property> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if properties.iter().any(|p| p.name == name) {
                return Err(A::Error::custom(format_args!(
                    "property {name:?} stands here twice"
                )));
            }
            check(&name, &value)
                .map_err(|reason| A::Error::custom(format_args!("property {name:?} {reason}")))?;
            if properties.len() == MAX_PROPERTIES {
                return Err(A::Error::custom("there are more than 256 properties"));
            }
            properties.push(Property {
                name,
                value,
                kind: None,
            });
        }
        Ok(Properties(properties))
    }
}

fn check(name: &str, value: &Value) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("has a name that is empty or longer than 256 bytes");
    }
    if name.starts_with("openhorizon.") && name != WRITABLE {
        return Err("is a measured one and cannot be configured");
    }
    let fits = match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Null | Value::Object(_) => false,
    };
    if fits {
        Ok(())
    } else {
        Err("is not a string, number, boolean or list of strings")
    }
}

/// The one built-in that Open Horizon lets a node's owner set.
const WRITABLE: &str = "openhorizon.allowPrivileged";
const MAX_NAME: usize = 256;
const MAX_PROPERTIES: usize = 256;
