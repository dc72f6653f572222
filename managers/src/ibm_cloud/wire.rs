//! What the service answers, as far as it is read. Nothing here has a field for a value but [`Held`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::place::SecretType;
use crate::payload::SecretText;
use crate::{Fault, ManagerError};

/// A secret without its value.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) secret_type: SecretType,
    pub(super) secret_group_id: String,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    pub(super) updated_at: Option<Timestamp>,
    pub(super) versions_total: Option<u64>,
    pub(super) locks_total: Option<u64>,
    pub(super) state: Option<u64>,
    pub(super) expiration_date: Option<Timestamp>,
    #[serde(default, deserialize_with = "ttl")]
    pub(super) ttl: Option<Duration>,
    /// Off when it is not said: that is the service's default, and the careful side.
    #[serde(default)]
    pub(super) reuse_api_key: bool,
    pub(super) api_key_id: Option<String>,
}

/// A version without its value.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct VersionMetadata {
    pub(super) id: String,
    pub(super) alias: Option<String>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) payload_available: Option<bool>,
    pub(super) expiration_date: Option<Timestamp>,
    pub(super) api_key_id: Option<String>,
}

/// All versions that are known.
#[derive(Debug, Deserialize)]
pub(super) struct Versions {
    pub(super) versions: Vec<VersionMetadata>,
}

/// The id of what was made.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub(super) id: String,
}

/// A part of a list.
#[derive(Deserialize)]
pub(super) struct ListPage<'a> {
    #[serde(borrow)]
    secrets: Vec<&'a RawValue>,
    pub(super) total_count: u64,
    next: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

/// Groups, all at once: there are at most 200.
#[derive(Debug, Deserialize)]
pub(super) struct Groups {
    pub(super) secret_groups: Vec<Group>,
}

/// A group.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) name: String,
}

/// What a read gave: of a version, or of a secret that makes keys. It has no `Debug`.
#[derive(Deserialize)]
pub(super) struct Held<'a> {
    pub(super) id: String,
    pub(super) payload_available: Option<bool>,
    pub(super) payload: Option<SecretText>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) username: Option<SecretText>,
    pub(super) password: Option<SecretText>,
    pub(super) certificate: Option<SecretText>,
    pub(super) intermediate: Option<SecretText>,
    pub(super) private_key: Option<SecretText>,
    pub(super) issuing_ca: Option<SecretText>,
    #[serde(borrow)]
    pub(super) credentials: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) credentials_content: Option<&'a RawValue>,
    pub(super) api_key: Option<SecretText>,
    pub(super) api_key_id: Option<String>,
    pub(super) reuse_api_key: Option<bool>,
    pub(super) expiration_date: Option<Timestamp>,
    #[serde(default, deserialize_with = "ttl")]
    pub(super) ttl: Option<Duration>,
}

impl ListPage<'_> {
    /// Its secrets; those of types that are not known here are left out.
    pub(super) fn secrets(&self) -> Result<Vec<Metadata>, ManagerError> {
        #[derive(Deserialize)]
        struct Typed {
            secret_type: SecretType,
        }
        let mut secrets = Vec::with_capacity(self.secrets.len());
        for secret in &self.secrets {
            let typed: Typed = serde_json::from_str(secret.get()).map_err(|_| malformed())?;
            if typed.secret_type != SecretType::Unknown {
                secrets.push(serde_json::from_str(secret.get()).map_err(|_| malformed())?);
            }
        }
        Ok(secrets)
    }

    /// Where the next page begins. Of the link only the number is read: where it points to is not
    /// the hub's way.
    pub(super) fn next(&self, offset: u64) -> Result<Option<u64>, ManagerError> {
        let Some(link) = &self.next else {
            return Ok(None);
        };
        let query = link.href.split_once('?').map_or("", |(_, query)| query);
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("offset=")?.parse().ok())
            .filter(|next| (offset + 1..=MOST).contains(next) && !self.secrets.is_empty())
            .map(Some)
            .ok_or_else(malformed)
    }
}

/// Seconds as a number or a text, or with a unit: `1800`, `30m`, `24h`, `90d`.
fn ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(u64),
        Text(String),
    }
    let seconds = match Option::<Written>::deserialize(deserializer)? {
        None => None,
        Some(Written::Seconds(seconds)) => Some(seconds),
        Some(Written::Text(text)) => Some(
            seconds(&text)
                .ok_or_else(|| serde::de::Error::custom("a ttl is not what it should"))?,
        ),
    };
    Ok(seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs))
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn malformed() -> ManagerError {
    ManagerError::new(
        Fault::Malformed,
        "its list has not the shape that it should: is `url` the instance's address?",
    )
}

/// Most secrets of a list that are looked at.
const MOST: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_read_in_every_spelling() {
        for (text, expected) in [
            ("1800", Some(1800)),
            ("30m", Some(1800)),
            ("24h", Some(86_400)),
            ("90d", Some(7_776_000)),
            ("", None),
            ("1w", None),
            ("h", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn of_a_link_only_the_number_counts_and_it_goes_forward() {
        let page = |href: &str| {
            let json = format!(
                r#"{{"secrets":[{{"secret_type":"quantum","x":1}}],"total_count":1,"next":{{"href":"{href}"}}}}"#
            );
            let page: ListPage<'_> = serde_json::from_str(&json).unwrap();
            assert!(
                page.secrets().unwrap().is_empty(),
                "an unknown type is left out"
            );
            page.next(200)
        };
        assert_eq!(
            page("https://elsewhere.invalid/x?limit=2&offset=400").unwrap(),
            Some(400)
        );
        for href in ["", "https://h/x", "https://h/x?offset=200", "?offset=x"] {
            assert_eq!(page(href).unwrap_err().fault, Fault::Malformed, "{href}");
        }
    }
}
