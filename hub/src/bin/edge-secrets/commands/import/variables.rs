//! What variables in files stand for: from flags, from the environment, from `hzn.json`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::substitute::Prepared;

/// Names and their values.
pub(super) type Values = BTreeMap<String, String>;

/// Where values come from, the first that has one decides: `--var`, the environment, `hzn.json` (its
/// own keys before its `MetadataVars`), what `hzn` gives by itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    pub(super) flags: Values,
    pub(super) environment: Values,
    pub(super) defaults: Values,
}

impl Variables {
    /// The value of a variable for a file that this configuration is for. An empty one is none: `hzn`
    /// warns of both alike. Credentials are none either: they have no place in a document.
    pub(super) fn value(&self, name: &str, config: Option<&Config>) -> Option<String> {
        if CREDENTIALS.contains(&name) {
            return None;
        }
        let from = |values: &Values| values.get(name).filter(|value| !value.is_empty()).cloned();
        from(&self.flags)
            .or_else(|| from(&self.environment))
            .or_else(|| config.and_then(|config| from(&config.0)))
            .or_else(|| from(&self.defaults))
    }

    /// Whether variables stay as they are, as `hzn` is told by its environment.
    pub(super) fn stay(&self) -> bool {
        let told = self.environment.get("HZN_DONT_SUBST_ENV_VARS");
        told.is_some_and(|told| told == "1")
    }
}

/// What an `hzn.json` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config(Values);

/// Why an `hzn.json` is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigFault {
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
    pub(super) reason: String,
}

impl Config {
    /// Reads an `hzn.json`: at its top the variables of `hzn` itself, below `MetadataVars` all others.
    /// Its values are taken as they are.
    pub(super) fn read(text: &str) -> Result<Self, ConfigFault> {
        let refused = |reason: String| ConfigFault {
            line: None,
            column: None,
            reason,
        };
        let prepared = Prepared::new(text, true, None, usize::MAX)
            .map_err(|_| refused("is too large".to_owned()))?;
        let read: Value = serde_json::from_str(&prepared.text).map_err(|error| {
            let (line, column) = prepared.place(error.line(), error.column());
            ConfigFault {
                line: Some(line),
                column: Some(column),
                reason: "is not JSON".to_owned(),
            }
        })?;
        let Value::Object(top) = read else {
            return Err(refused("expected a map".to_owned()));
        };
        let mut values = Values::new();
        match top.get(METADATA) {
            None | Some(Value::Null) => {}
            Some(Value::Object(metadata)) => {
                for (name, value) in metadata {
                    let value = value
                        .as_str()
                        .ok_or_else(|| refused(no_text(METADATA, name)))?;
                    values.insert(name.clone(), value.to_owned());
                }
            }
            Some(_) => return Err(refused(format!("{METADATA}: expected a map"))),
        }
        for (name, value) in top.iter().filter(|(name, _)| is_hzns(name)) {
            let value = value.as_str().ok_or_else(|| refused(no_text("", name)))?;
            if !value.is_empty() {
                values.insert(name.clone(), value.to_owned());
            }
        }
        Ok(Self(values))
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Splits `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("expected NAME=VALUE, found {text:?}")),
    }
}

/// This machine's architecture as `hzn` calls it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn is_hzns(name: &str) -> bool {
    name.starts_with("HZN_") || name == "HORIZON_URL"
}

fn no_text(under: &str, name: &str) -> String {
    let dot = if under.is_empty() { "" } else { "." };
    format!("{under}{dot}{name}: expected a text")
}

const METADATA: &str = "MetadataVars";
/// What people and nodes log in with.
pub(super) const CREDENTIALS: [&str; 2] = ["HZN_EXCHANGE_USER_AUTH", "HZN_EXCHANGE_NODE_AUTH"];

#[cfg(test)]
mod tests {
    use super::*;

    const HZN: &str = "/* of the\n project */ {\n  \"HZN_ORG_ID\": \"myorg\", \"HZN_LANG\": \"\",\n  \"other\": 1,\n  \"MetadataVars\": { \"SERVICE_NAME\": \"com.example.uplink\", \"HZN_ORG_ID\": \"meta\", \"raw\": \"$X\" }\n}";

    fn values(pairs: &[(&str, &str)]) -> Values {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn the_first_place_that_has_a_value_decides() {
        let config = Config::read(HZN).unwrap();
        let variables = Variables {
            flags: values(&[("A", "flag"), ("E", "")]),
            environment: values(&[
                ("A", "env"),
                ("B", "env"),
                ("SERVICE_NAME", ""),
                ("HZN_EXCHANGE_USER_AUTH", "a:pw"),
            ]),
            defaults: values(&[("HZN_ORG_ID", "default"), ("ARCH", "amd64")]),
        };
        let value = |name| variables.value(name, Some(&config));
        for (name, wanted) in [
            ("A", Some("flag")),
            ("B", Some("env")),
            ("SERVICE_NAME", Some("com.example.uplink")),
            ("HZN_ORG_ID", Some("myorg")),
            ("raw", Some("$X")),
            ("ARCH", Some("amd64")),
            ("E", None),
            ("other", None),
            ("HZN_LANG", None),
            ("HZN_EXCHANGE_USER_AUTH", None),
        ] {
            assert_eq!(value(name).as_deref(), wanted, "{name}");
        }
        assert_eq!(
            variables.value("HZN_ORG_ID", None).as_deref(),
            Some("default")
        );
        assert!(!variables.stay());
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_place() {
        let refused = |text: &str| Config::read(text).unwrap_err();
        let fault = refused("/*\n*/{\n  \"HZN_ORG_ID\": oops\n}");
        assert_eq!(
            (fault.line, fault.reason.as_str()),
            (Some(3), "is not JSON")
        );
        assert_eq!(refused("[]").reason, "expected a map");
        assert_eq!(
            refused(r#"{"HZN_ORG_ID": 1}"#).reason,
            "HZN_ORG_ID: expected a text"
        );
        let fault = refused(r#"{"MetadataVars": {"a": true}}"#);
        assert_eq!(fault.reason, "MetadataVars.a: expected a text");
        assert_eq!(
            refused(r#"{"MetadataVars": []}"#).reason,
            "MetadataVars: expected a map"
        );
    }

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(pair("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(pair("A=").unwrap().1, "");
        assert!(pair("=b").is_err() && pair("A").is_err());
    }
}
