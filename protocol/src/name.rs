//! Names as validated types: once one exists, it is safe as an identifier, and where it says so as
//! a file name. `Display` gives back exactly what `FromStr` took.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted kind. Shows the text, shortened and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {reason}")]
pub struct NameError {
    what: &'static str,
    text: String,
    reason: &'static str,
}

impl NameError {
    /// Says that `text` is not a `what`, because `reason`.
    #[must_use]
    pub fn new(what: &'static str, text: &str, reason: &'static str) -> Self {
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self {
            what,
            text: shown,
            reason,
        }
    }
}

/// A generation of what a node should have: it grows with every change.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation as an HTTP entity tag (RFC 9110 §8.8.3), quotes included.
    #[must_use]
    pub fn etag(self) -> String {
        format!("\"{}\"", self.0)
    }

    /// Reads what [`etag`](Self::etag) wrote.
    #[must_use]
    pub fn from_etag(tag: &str) -> Option<Self> {
        tag.trim()
            .strip_prefix('"')?
            .strip_suffix('"')?
            .parse()
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $Name:ident: $what:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(Arc<str>);

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
                    Ok(()) => Ok(Self(text.into())),
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
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )*};
}

names! {
    /// An organisation: 1 to 64 of `A-Z a-z 0-9 . _ - @`, not starting with a dot. `@` stands in
    /// organisations of existing Open Horizon installations; it is legal in a URI path, though
    /// outside SPIFFE's narrower set.
    OrgId: "organisation", |t| identifier(t, 64, "._-@");
    /// A node: 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
    NodeId: "node", |t| identifier(t, 128, "._-");
    /// A person or program that operates the hub: 1 to 128 of `A-Z a-z 0-9 . _ - @`.
    UserId: "user", |t| identifier(t, 128, "._-@");
    /// A deployment policy's name within its organisation: 1 to 128 of `A-Z a-z 0-9 . _ -`.
    PolicyName: "policy", |t| identifier(t, 128, "._-");
    /// A pattern's name within its organisation: 1 to 128 of `A-Z a-z 0-9 . _ -`.
    PatternName: "pattern", |t| identifier(t, 128, "._-");
    /// One container or unit of a service: 1 to 128 of `A-Z a-z 0-9 . _ -`. A directory's name.
    ConsumerName: "consumer", |t| identifier(t, 128, "._-");
    /// One field of a secret: 1 to 128 of `A-Z a-z 0-9 . _ -`. Can be a file name.
    FieldName: "field", |t| identifier(t, 128, "._-");
    /// A deployment's identity, given by the hub: 1 to 64 of `A-Z a-z 0-9 -`.
    DeploymentId: "deployment", |t| identifier(t, 64, "-");
    /// A version of a secret's value, opaque: 1 to 128 of `A-Z a-z 0-9 . _ : + / = -`.
    SecretVersion: "version", |t| identifier(t, 128, "._:+/=-");
    /// What a service calls a secret. It becomes a file name: 1 to 200 bytes, no `/`, no control
    /// character, and not starting with `..` (reserved for generations), nor just `.`.
    SecretName: "secret name", secret_name;
    /// A service's url as Open Horizon writes it (`com.example.uplink`, or an old one like
    /// `https://example.com/services/gps`): 1 to 200 visible ASCII characters.
    ServiceUrl: "service url", service_url;
}

impl ServiceUrl {
    /// The url as one directory name: every byte outside `A-Z a-z 0-9 . _ -`, and a leading dot, as
    /// `%XX`. Two urls never share a directory name.
    #[must_use]
    pub fn dir_name(&self) -> String {
        let mut dir = String::with_capacity(self.0.len());
        for (at, byte) in self.0.bytes().enumerate() {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if plain && !(at == 0 && byte == b'.') {
                dir.push(char::from(byte));
            } else {
                dir.push_str(&format!("%{byte:02X}"));
            }
        }
        dir
    }
}

/// A service's identity: the organisation that owns its definition, and its url.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    /// The organisation that owns the definition.
    pub org: OrgId,
    /// The url, unique within the organisation.
    pub url: ServiceUrl,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.url)
    }
}

impl FromStr for ServiceId {
    type Err = NameError;

    /// Reads `ORG/URL`; the url may hold slashes of its own.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (org, url) = text
            .split_once('/')
            .ok_or_else(|| NameError::new("service", text, "is not written ORG/URL"))?;
        Ok(Self {
            org: org.parse()?,
            url: url.parse()?,
        })
    }
}

/// A pattern's identity: the organisation that owns it, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatternId {
    /// The organisation that owns it.
    pub org: OrgId,
    /// The name, unique within the organisation.
    pub name: PatternName,
}

impl fmt::Display for PatternId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)
    }
}

impl FromStr for PatternId {
    type Err = NameError;

    /// Reads `ORG/NAME`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (org, name) = text
            .split_once('/')
            .ok_or_else(|| NameError::new("pattern", text, "is not written ORG/NAME"))?;
        Ok(Self {
            org: org.parse()?,
            name: name.parse()?,
        })
    }
}

impl TryFrom<String> for PatternId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PatternId> for String {
    fn from(pattern: PatternId) -> Self {
        pattern.to_string()
    }
}

/// A pattern as people write it: `NAME` for one of their own organisation, `ORG/NAME` for one of any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatternChoice {
    /// The organisation that owns it; the node's own when absent.
    pub org: Option<OrgId>,
    /// The name.
    pub name: PatternName,
}

impl PatternChoice {
    /// What it means for a node of `org`.
    #[must_use]
    pub fn of(&self, org: &OrgId) -> PatternId {
        PatternId {
            org: self.org.as_ref().unwrap_or(org).clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for PatternChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.org {
            Some(org) => write!(f, "{org}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for PatternChoice {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((org, name)) => Ok(Self {
                org: Some(org.parse()?),
                name: name.parse()?,
            }),
            None => Ok(Self {
                org: None,
                name: text.parse()?,
            }),
        }
    }
}

impl TryFrom<String> for PatternChoice {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PatternChoice> for String {
    fn from(choice: PatternChoice) -> Self {
        choice.to_string()
    }
}

fn identifier(text: &str, max: usize, punctuation: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > max {
        return Err("is too long");
    }
    if text.starts_with('.') {
        return Err("starts with a dot");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c))
    {
        return Err("has a character other than ASCII letters, digits and the punctuation allowed");
    }
    Ok(())
}

fn secret_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > 200 {
        return Err("is longer than 200 bytes");
    }
    if text == "." || text.starts_with("..") {
        return Err("is reserved");
    }
    if text.contains('/') {
        return Err("has a slash");
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    Ok(())
}

fn service_url(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    // The directory name is at most three times as long and must fit a file name; long urls with
    // many escapes are refused here rather than at delivery.
    let escaped = text.bytes().filter(|b| !b.is_ascii_alphanumeric()).count();
    if text.len() > 200 || text.len() + 2 * escaped > 255 {
        return Err("is too long");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("has a character other than visible ASCII");
    }
    Ok(())
}

const SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod tests;
