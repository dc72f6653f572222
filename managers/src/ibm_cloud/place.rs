//! What a reference means here: `<group>/<type>/<name>`, or `id/<uuid>`.

use std::fmt;

use serde::Deserialize;

use crate::{Fault, ManagerError, SecretRef};

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// By its UUID, whatever it is called.
    Id(String),
    /// By what people call it.
    Named(Named),
}

/// A name of one type in one group: there is one such secret at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Named {
    pub(super) group: String,
    pub(super) kind: SecretType,
    pub(super) name: String,
}

/// The types that are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SecretType {
    Arbitrary,
    Kv,
    UsernamePassword,
    IamCredentials,
    ServiceCredentials,
    ImportedCert,
    PublicCert,
    PrivateCert,
    CustomCredentials,
    /// Of a newer service: never delivered, and left out of lists.
    #[serde(other)]
    Unknown,
}

impl Place {
    /// What the reference means.
    pub(super) fn of(reference: &SecretRef) -> Result<Self, ManagerError> {
        let path = reference.path();
        let refused = |why: String| {
            ManagerError::new(
                Fault::Invalid,
                format!(
                    "{reference} {why}: a secret here is written <group>/<type>/<name> or id/<uuid>"
                ),
            )
        };
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["id", id] if is_uuid(id) => Ok(Self::Id((*id).to_owned())),
            ["id", id] if is_uuid(&id.to_ascii_lowercase()) => Err(refused(format!(
                "has a UUID in upper case, write id/{}",
                id.to_ascii_lowercase()
            ))),
            ["id", _] => Err(refused("has no UUID behind id/".into())),
            [group, kind, name] => {
                let Some(known) = SecretType::named(kind) else {
                    let why = format!(
                        "has the unknown type {kind:?}, nearest is {}",
                        SecretType::nearest(kind)
                    );
                    return Err(refused(why));
                };
                if !is_name(name) {
                    return Err(refused(
                        "has a name other than 2 to 256 of A-Z a-z 0-9 . _ -".into(),
                    ));
                }
                if !(2..=64).contains(&group.len()) {
                    return Err(refused(
                        "has a group's name that is not 2 to 64 long".into(),
                    ));
                }
                Ok(Self::Named(Named {
                    group: (*group).to_owned(),
                    kind: known,
                    name: (*name).to_owned(),
                }))
            }
            parts => Err(refused(format!("has {} parts", parts.len()))),
        }
    }
}

impl SecretType {
    const ALL: [Self; 9] = [
        Self::Arbitrary,
        Self::Kv,
        Self::UsernamePassword,
        Self::IamCredentials,
        Self::ServiceCredentials,
        Self::ImportedCert,
        Self::PublicCert,
        Self::PrivateCert,
        Self::CustomCredentials,
    ];

    /// The type that is called so.
    pub(super) fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Arbitrary => "arbitrary",
            Self::Kv => "kv",
            Self::UsernamePassword => "username_password",
            Self::IamCredentials => "iam_credentials",
            Self::ServiceCredentials => "service_credentials",
            Self::ImportedCert => "imported_cert",
            Self::PublicCert => "public_cert",
            Self::PrivateCert => "private_cert",
            Self::CustomCredentials => "custom_credentials",
            Self::Unknown => "unknown",
        }
    }

    fn nearest(text: &str) -> &'static str {
        let written = text.to_ascii_lowercase().replace('-', "_");
        let names = Self::ALL.into_iter().map(Self::as_str);
        names
            .min_by_key(|name| (!name.starts_with(&written), distance(name, &written)))
            .unwrap_or_default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id/{id}"),
            Self::Named(named) => named.fmt(f),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.kind.as_str(), self.name)
    }
}

/// A UUID in its one form: lower-case, with hyphens.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    (2..=256).contains(&text.len())
        && text.starts_with(|c| edge(c) || c == '_')
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || "._-".contains(c))
}

/// How many letters are to be added, removed or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (above, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let changed = diagonal + usize::from(a != b);
            diagonal = *above;
            left = changed.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(path: &str) -> Result<Place, ManagerError> {
        Place::of(&format!("ibm:{path}").parse().unwrap())
    }

    #[test]
    fn places_are_names_or_ids() {
        let id = "id/0b5571f7-21e6-42b7-91c5-3f5ac9793a46";
        for path in [
            "default/arbitrary/token",
            "Edge sites (EU)/iam_credentials/edge01-cos",
            "default/kv/a.b_c-9",
            "id/kv/named",
            id,
        ] {
            assert_eq!(of(path).unwrap().to_string(), path);
        }
        assert!(matches!(of(id).unwrap(), Place::Id(_)));
    }

    #[test]
    fn what_is_no_place_says_what_to_write() {
        for (path, word) in [
            ("token", "1 parts"),
            ("default/token", "2 parts"),
            ("default/arbitrary/a/b", "4 parts"),
            ("default/iam-credentials/x1", "iam_credentials"),
            ("default/arbitary/x1", "arbitrary"),
            ("default/username/x1", "username_password"),
            ("default/arbitrary/x", "2 to 256"),
            ("default/arbitrary/-x", "2 to 256"),
            ("default/arbitrary/x y", "2 to 256"),
            ("d/arbitrary/xy", "2 to 64"),
            ("id/token", "UUID"),
            (
                "id/0B5571F7-21e6-42b7-91c5-3f5ac9793a46",
                "id/0b5571f7-21e6-42b7-91c5-3f5ac9793a46",
            ),
        ] {
            let error = of(path).unwrap_err();
            assert_eq!(error.fault, Fault::Invalid, "{path}");
            assert!(error.detail.contains(word), "{path}: {error}");
        }
    }

    #[test]
    fn types_have_the_names_that_they_are_parsed_from() {
        for kind in SecretType::ALL {
            let json = format!("\"{}\"", kind.as_str());
            assert_eq!(serde_json::from_str::<SecretType>(&json).unwrap(), kind);
            assert_eq!(SecretType::named(kind.as_str()), Some(kind));
        }
    }

    proptest! {
        #[test]
        fn a_place_is_written_as_its_path(text in "[a-z/_]{1,40}") {
            if let Ok(reference) = format!("ibm:{text}").parse::<SecretRef>()
                && let Ok(place) = Place::of(&reference)
            {
                prop_assert_eq!(place.to_string(), reference.path());
            }
        }

        #[test]
        fn a_distance_is_one_per_letter(text in "[a-z]{0,12}", more in "[a-z]{0,4}") {
            prop_assert_eq!(distance(&text, &text), 0);
            prop_assert_eq!(distance(&text, &format!("{text}{more}")), more.len());
        }
    }
}
