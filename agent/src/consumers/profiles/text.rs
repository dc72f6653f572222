//! A profile as it is written: what each value may look like on its own. What may stand beside what
//! is judged in `check`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Component, Path};
use std::str::FromStr;

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{ConsumerName, SecretName, ServiceId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::config::Span;
use crate::consumers::names::{ContainerName, CredentialId, FileName, SignalName, UnitName};
use crate::consumers::profile::Principal;

/// One document of a file.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a profile: keys and values, `service` first"
)]
pub(super) struct Document {
    #[serde(deserialize_with = "word")]
    pub(super) service: ServiceId,
    #[serde(default, deserialize_with = "words")]
    pub(super) consumer: Option<ConsumerName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) owner: Option<Account>,
    #[serde(default, deserialize_with = "words")]
    pub(super) group: Option<Account>,
    #[serde(default, deserialize_with = "words")]
    pub(super) mode: Option<Mode>,
    pub(super) format: Option<Format>,
    #[serde(default)]
    pub(super) secrets: Entries<SecretName, SecretText>,
    #[serde(default)]
    pub(super) templates: Items<TemplateText, MAX_TEMPLATES>,
    #[serde(default = "yes")]
    pub(super) files: bool,
    pub(super) on_change: Option<OnChangeText>,
    pub(super) lifecycle: Option<LifecycleText>,
    pub(super) systemd: Option<SystemdText>,
    pub(super) secrets_api: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "`format` and `mode` of one secret")]
pub(super) struct SecretText {
    pub(super) format: Option<Format>,
    #[serde(default, deserialize_with = "words")]
    pub(super) mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a template: `name`, and `text` or `source`"
)]
pub(super) struct TemplateText {
    #[serde(deserialize_with = "word")]
    pub(super) name: SecretName,
    pub(super) text: Option<String>,
    #[serde(default, deserialize_with = "words")]
    pub(super) source: Option<SourcePath>,
    #[serde(default, deserialize_with = "words")]
    pub(super) mode: Option<Mode>,
}

/// `none`, or what is to be done.
#[derive(Debug)]
pub(super) enum OnChangeText {
    Nothing,
    Something(Box<ActionText>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionText {
    #[serde(default, deserialize_with = "words")]
    pub(super) reload: Option<UnitName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) restart: Option<UnitName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) try_restart: Option<UnitName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) signal: Option<SignalName>,
    pub(super) command: Option<Items<String, MAX_ARGUMENTS>>,
    pub(super) none: Option<bool>,
    #[serde(default, deserialize_with = "words")]
    pub(super) unit: Option<UnitName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) container: Option<ContainerName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) user: Option<Account>,
    #[serde(default, deserialize_with = "words")]
    pub(super) debounce: Option<Span>,
    #[serde(default, deserialize_with = "words")]
    pub(super) timeout: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "`unit` or `container`, and `linger`")]
pub(super) struct LifecycleText {
    #[serde(default, deserialize_with = "words")]
    pub(super) unit: Option<UnitName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) container: Option<ContainerName>,
    #[serde(default, deserialize_with = "words")]
    pub(super) linger: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "`units`, `wait` and `credentials`")]
pub(super) struct SystemdText {
    pub(super) units: Items<Word<UnitName>, MAX_UNITS>,
    #[serde(default, deserialize_with = "words")]
    pub(super) wait: Option<Span>,
    #[serde(default)]
    pub(super) credentials: Entries<CredentialId, Word<FileName>>,
}

/// A user or group.
#[derive(Debug)]
pub(super) struct Account(pub(super) Principal);

/// The mode of a file: never executable, its owner can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

/// A file below the directory of the profiles.
#[derive(Debug, Clone)]
pub(super) struct SourcePath(pub(super) String);

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = |what: &str| Err(format!("{text:?} is not a user's or group's {what}"));
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            let padded = text.len() > 1 && text.starts_with('0');
            // The last one means "leave it as it is" to chown(2).
            return match text.parse() {
                Ok(id) if id != u32::MAX && !padded => Ok(Self(Principal::Id(id))),
                _ => fail("number: 0 to 4294967294 without leading zeros"),
            };
        }
        let allowed = |c: char| c.is_alphanumeric() || "_.-$@\\".contains(c);
        if text.is_empty()
            || text.len() > 256
            || text.starts_with('-')
            || !text.chars().all(allowed)
        {
            return fail("name or number");
        }
        Ok(Self(Principal::Name(text.to_owned())))
    }
}

impl FromStr for Mode {
    type Err = String;

    /// The parser gives a plain scalar as it was written, so that 0440 and 440 are two things here.
    fn from_str(text: &str) -> Result<Self, String> {
        let octal = |text: &str| {
            let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            (digits && (1..=4).contains(&text.len())).then(|| u32::from_str_radix(text, 8).ok())?
        };
        let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
        let Some(mode) = digits.and_then(octal) else {
            return Err(match octal(text) {
                Some(mode) if mode > 0 => {
                    format!("{text} does not show that it is octal: write 0{text}")
                }
                _ => format!("{text:?} is not a mode: write it in octal, like 0440"),
            });
        };
        if mode > 0o777 {
            return Err(format!("{text} is not a mode from 0000 to 0777"));
        }
        if mode & 0o111 != 0 {
            return Err(format!(
                "{text} makes a secret executable: drop those bits, like 0440"
            ));
        }
        if mode & 0o400 == 0 {
            return Err(format!(
                "{text} does not let the owner read: add that bit, like 0440"
            ));
        }
        Ok(Self(mode))
    }
}

impl FromStr for SourcePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let below = |part| matches!(part, Component::Normal(_));
        let fits = !text.is_empty() && text.len() <= 1024 && !text.contains('\0');
        if fits && Path::new(text).components().all(below) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is not the path of a file below the directory of the profiles, \
                 like templates/uplink.conf.j2"
            ))
        }
    }
}

impl<'de> Deserialize<'de> for OnChangeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = OnChangeText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, or an action like { reload: uplink.service }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OnChangeText, E> {
                if text == "none" {
                    Ok(OnChangeText::Nothing)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnChangeText, A::Error> {
                let action = ActionText::deserialize(MapAccessDeserializer::new(map))?;
                Ok(OnChangeText::Something(Box::new(action)))
            }
        }

        from.deserialize_any(Choice)
    }
}

/// One word, parsed while it is read, so that an error names its own line.
#[derive(Debug)]
pub(super) struct Word<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Reader<T> {
            type Value = Word<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one word")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word<T>, E> {
                text.parse().map(Word).map_err(E::custom)
            }
        }

        from.deserialize_str(Reader(PhantomData))
    }
}

fn word<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    Word::deserialize(from).map(|word| word.0)
}

fn words<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    Option::<Word<T>>::deserialize(from).map(|word| word.map(|word| word.0))
}

/// A list that is refused as soon as it is longer than `MAX`: what a file holds by anchors may be
/// much more than its size.
#[derive(Debug)]
pub(super) struct Items<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for Items<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Items<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Items<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MAX {
                        return Err(A::Error::custom(format!("the list has more than {MAX}")));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }

        from.deserialize_seq(List(PhantomData))
    }
}

/// Keys with values, bounded like a list; no key stands there twice.
#[derive(Debug)]
pub(super) struct Entries<K, V>(pub(super) BTreeMap<K, V>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, K, V> Deserialize<'de> for Entries<K, V>
where
    K: FromStr<Err: fmt::Display> + Ord,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table<K, V>(PhantomData<(K, V)>);

        impl<'de, K, V> Visitor<'de> for Table<K, V>
        where
            K: FromStr<Err: fmt::Display> + Ord,
            V: Deserialize<'de>,
        {
            type Value = Entries<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key_seed(FreshKey(&entries))? {
                    entries.insert(key, map.next_value()?);
                }
                Ok(Entries(entries))
            }
        }

        from.deserialize_map(Table(PhantomData))
    }
}

/// Reads a key that is not there yet. Complains while the key is read, so that its line is named.
struct FreshKey<'m, K, V>(&'m BTreeMap<K, V>);

impl<'de, K: FromStr<Err: fmt::Display> + Ord, V> DeserializeSeed<'de> for FreshKey<'_, K, V> {
    type Value = K;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<K, D::Error> {
        from.deserialize_str(self)
    }
}

impl<K: FromStr<Err: fmt::Display> + Ord, V> Visitor<'_> for FreshKey<'_, K, V> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<K, E> {
        let key = text.parse().map_err(E::custom)?;
        if self.0.contains_key(&key) {
            return Err(E::custom(format!("`{text}` is there twice")));
        }
        if self.0.len() == MAX_ENTRIES {
            return Err(E::custom(format!("there are more than {MAX_ENTRIES} keys")));
        }
        Ok(key)
    }
}

fn yes() -> bool {
    true
}

pub(super) const MAX_TEMPLATES: usize = 32;
const MAX_ARGUMENTS: usize = 64;
const MAX_UNITS: usize = 64;
const MAX_ENTRIES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(yaml: &str) -> Result<Mode, String> {
        serde_yaml::from_str::<Word<Mode>>(yaml)
            .map(|word| word.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn modes_are_octal_as_people_write_them() {
        for text in ["0440", "\"0440\"", "'0440'", "0o440"] {
            assert_eq!(mode(text), Ok(Mode(0o440)), "{text}");
        }
        assert_eq!(mode("0600"), Ok(Mode(0o600)));
        for (text, reason) in [
            ("440", "write 0440"),
            ("\"440\"", "write 0440"),
            ("288", "not a mode"),
            ("0x120", "not a mode"),
            ("u=r", "not a mode"),
            ("-0440", "not a mode"),
            ("04440", "0777"),
            ("0550", "executable"),
            ("0441", "executable"),
            ("0040", "owner"),
            ("0", "not a mode"),
            ("00", "owner"),
            ("[0440]", "invalid type"),
        ] {
            let error = mode(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        let account = |text: &str| text.parse().map(|Account(principal)| principal);
        assert_eq!(account("1000"), Ok(Principal::Id(1000)));
        assert_eq!(account("0"), Ok(Principal::Id(0)));
        for name in ["uplink", "_apt", "x-1.y$", "user@example.com", "grün"] {
            assert_eq!(account(name), Ok(Principal::Name(name.to_owned())));
        }
        for wrong in [
            "",
            "-1",
            "4294967295",
            "99999999999",
            "007",
            "a b",
            "a:b",
            "a/b",
            "a\n",
        ] {
            assert!(account(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_source_never_leaves_the_directory() {
        let source = |text: &str| text.parse::<SourcePath>();
        for right in ["a.j2", "templates/uplink.conf.j2"] {
            assert!(source(right).is_ok(), "{right}");
        }
        for wrong in ["", "/etc/passwd", "../a", "a/../../b", ".", "./a", "a\0"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }
}
