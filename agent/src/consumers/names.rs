//! Names of the host's things as validated types.

use std::fmt;
use std::str::FromStr;

use edge_secrets_protocol::SecretName;
use edge_secrets_protocol::name::NameError;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

macro_rules! host_names {
    ($($(#[$doc:meta])* $Name:ident: $what:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(String);

        impl $Name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $Name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(reason) => Err(NameError::new($what, text, reason)),
                }
            }
        }

        impl TryFrom<String> for $Name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$Name> for String {
            fn from(name: $Name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

host_names! {
    /// A systemd unit with its suffix (systemd.unit(5)): `uplink.service`, `uplink@berlin.service`,
    /// or the template `uplink@.service`. 4 to 255 of `A-Z a-z 0-9 : - _ . \ @`.
    UnitName: "unit", unit_name;
    /// A container's name, as podman and Docker write it: 1 to 128 of `A-Z a-z 0-9 _ . -`, starting
    /// with a letter or digit.
    ContainerName: "container", container_name;
    /// The id of a systemd credential (systemd.exec(5)): 1 to 255 visible ASCII characters without
    /// `/` and `:`, not `.` or `..`.
    CredentialId: "credential", credential_id;
    /// A file in a consumer's directory: a [`SecretName`], or, with the format `fields`, that and a
    /// field's name below it (`db/password`); or a [hidden](FileName::hidden) one.
    FileName: "file", file_name;
}

impl UnitName {
    /// The template that the unit is an instance of: `uplink@.service` of `uplink@berlin.service`.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        let (prefix, rest) = self.0.split_once('@')?;
        let (instance, suffix) = rest.rsplit_once('.')?;
        (!instance.is_empty()).then(|| Self(format!("{prefix}@.{suffix}")))
    }

    /// Whether it is a template, of which no unit runs.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.0.contains("@.")
    }
}

impl FileName {
    /// The file with all fields of a secret, which is for the agent alone: it answers the service's
    /// own secrets API from it. No secret's name begins like the directory that it stands in.
    #[must_use]
    pub fn hidden(secret: &SecretName) -> Self {
        Self(format!("{HIDDEN}/{secret}"))
    }

    /// Whether it is for the agent alone.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.top() == HIDDEN
    }

    /// What it is called after: the secret, where it is the file of one.
    #[must_use]
    pub fn stem(&self) -> &str {
        match self.below() {
            Some(secret) if self.is_hidden() => secret,
            _ => self.top(),
        }
    }

    /// The first component: what stands in the consumer's directory itself.
    #[must_use]
    pub fn top(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(top, _)| top)
    }

    /// The second component, where there is one.
    #[must_use]
    pub fn below(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, below)| below)
    }
}

impl From<&SecretName> for FileName {
    fn from(name: &SecretName) -> Self {
        Self(name.as_str().to_owned())
    }
}

/// A signal by its name, with or without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignalName(Signal);

impl SignalName {
    /// The signal.
    #[must_use]
    pub fn signal(self) -> Signal {
        self.0
    }
}

impl FromStr for SignalName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        full.parse().map(Self).map_err(|_| {
            NameError::new("signal", text, "is not one of signal(7), like HUP or USR1")
        })
    }
}

impl TryFrom<String> for SignalName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SignalName> for String {
    fn from(name: SignalName) -> Self {
        name.0.as_str().to_owned()
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_str())
    }
}

fn unit_name(text: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if text.len() > 255 || !text.chars().all(allowed) {
        return Err("is not a unit's name (systemd.unit(5))");
    }
    match text.rsplit_once('.') {
        Some((name, suffix))
            if !name.is_empty() && !name.starts_with('@') && UNIT_SUFFIXES.contains(&suffix) =>
        {
            Ok(())
        }
        _ => Err("lacks its suffix: write it whole, like uplink.service"),
    }
}

fn container_name(text: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.len() <= 128 && text.chars().all(allowed) {
        Ok(())
    } else {
        Err("is not a container's name: letters, digits, and `_.-` after the first")
    }
}

fn credential_id(text: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    let dots = text == "." || text == "..";
    if !text.is_empty() && text.len() <= 255 && !dots && text.chars().all(allowed) {
        Ok(())
    } else {
        Err("is not a credential's id (systemd.exec(5))")
    }
}

fn file_name(text: &str) -> Result<(), &'static str> {
    let (top, below) = match text.split_once('/') {
        Some((top, below)) => (top, Some(below)),
        None => (text, None),
    };
    let hidden = top == HIDDEN && below.is_some_and(|below| below.parse::<SecretName>().is_ok());
    let fits = top.parse::<SecretName>().is_ok()
        && below.is_none_or(|below| below.parse::<edge_secrets_protocol::FieldName>().is_ok());
    if fits || hidden {
        Ok(())
    } else {
        Err("is not a file's name, or one below a secret's")
    }
}

const HIDDEN: &str = "..api";
const UNIT_SUFFIXES: &[&str] = &[
    "service", "socket", "target", "timer", "path", "mount", "scope", "slice",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_a_suffix_and_instances_a_template() {
        let unit: UnitName = "uplink@berlin.service".parse().unwrap();
        assert_eq!(unit.template().unwrap().as_str(), "uplink@.service");
        let template: UnitName = "uplink@.service".parse().unwrap();
        assert!(template.is_template() && template.template().is_none());
        assert!(
            "a.b.service"
                .parse::<UnitName>()
                .unwrap()
                .template()
                .is_none()
        );
        for wrong in [
            "uplink",
            ".service",
            "a b.service",
            "../x.service",
            "@x.service",
            "",
        ] {
            assert!(wrong.parse::<UnitName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_stands_at_most_one_level_down() {
        let file: FileName = "db/password".parse().unwrap();
        assert_eq!((file.top(), file.below()), ("db", Some("password")));
        for wrong in ["", "/a", "a/", "a/b/c", "..a", "../a", "a/..", "a/.b"] {
            assert!(wrong.parse::<FileName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hidden_file_is_no_secrets_and_knows_its_own() {
        let secret: SecretName = "tls key".parse().unwrap();
        let hidden = FileName::hidden(&secret);
        assert_eq!(hidden.as_str().parse::<FileName>().unwrap(), hidden);
        assert!(hidden.is_hidden() && !FileName::from(&secret).is_hidden());
        assert_eq!(hidden.stem(), "tls key");
        let field: FileName = "db/password".parse().unwrap();
        assert_eq!((field.stem(), field.is_hidden()), ("db", false));
        for wrong in ["..api", "..api/", "..api/..x", "..api/a/b", "..apis/a"] {
            assert!(wrong.parse::<FileName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn signals_go_with_and_without_their_prefix() {
        for name in ["HUP", "sighup", "SIGHUP"] {
            assert_eq!(name.parse::<SignalName>().unwrap().signal(), Signal::SIGHUP);
        }
        assert!("SIGNAL".parse::<SignalName>().is_err());
    }

    #[test]
    fn credentials_and_containers_are_one_word() {
        assert!("myCloudServiceCred".parse::<CredentialId>().is_ok());
        for wrong in ["", "a/b", "a:b", "..", "a b"] {
            assert!(wrong.parse::<CredentialId>().is_err(), "{wrong}");
        }
        assert!("uplink-1".parse::<ContainerName>().is_ok());
        for wrong in ["", "-a", "a/b", "a b"] {
            assert!(wrong.parse::<ContainerName>().is_err(), "{wrong}");
        }
    }
}
