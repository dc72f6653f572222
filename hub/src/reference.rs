//! Secret references: what the secrets manager calls a secret.
//!
//! `[<manager>:]<path>`, where the path may begin with a scope as in Open Horizon: `name`,
//! `user/<user>/name`, `node/<node>/name`, `user/<user>/node/<node>/name`. The full reference is a
//! secret's identity: two scopes never fall through to one another.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{NameError, NodeId, SecretVersion, UserId};
use serde::{Deserialize, Serialize};

/// A validated reference in canonical form: `Display` gives back what identifies the secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRef {
    manager: Option<String>,
    user: Option<UserId>,
    node: Option<NodeId>,
    name: String,
}

impl SecretRef {
    /// The manager's configured name; the organisation's default when absent.
    #[must_use]
    pub fn manager(&self) -> Option<&str> {
        self.manager.as_deref()
    }

    /// The user whose private secret it is.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// The one node it is for.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.node.as_ref()
    }

    /// The same secret's node-level sibling in the same scope.
    #[must_use]
    pub fn at_node(&self, node: &NodeId) -> Self {
        Self {
            node: Some(node.clone()),
            ..self.clone()
        }
    }

    /// A version of this secret as nodes know it. Managers count each secret for itself, so that
    /// the same version of two references is two values; what a node has of one must not pass for
    /// the other when a binding changes.
    #[must_use]
    pub fn version_at_nodes(&self, version: &SecretVersion) -> SecretVersion {
        let tagged = format!("{version}{TAG}{}", self.tag());
        // A manager's version may be as long as any: then a digest of it stands for it.
        tagged.parse().unwrap_or_else(|_| {
            let digest = HEXLOWER.encode(sha256(version.as_str()).as_ref());
            parsed(&format!("{digest}{TAG}{}", self.tag()))
        })
    }

    /// The manager's version, where `version` is one that a node knows of this reference.
    #[must_use]
    pub fn version_from_node(&self, version: &SecretVersion) -> Option<SecretVersion> {
        let (version, tag) = version.as_str().rsplit_once(TAG)?;
        (tag == self.tag()).then(|| parsed(version))
    }

    fn tag(&self) -> String {
        let digest = sha256(&self.to_string());
        HEXLOWER.encode(digest.as_ref().get(..TAG_BYTES).unwrap_or_default())
    }

    /// The path within the manager, scope included.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        if let Some(user) = &self.user {
            path.push_str(&format!("user/{user}/"));
        }
        if let Some(node) = &self.node {
            path.push_str(&format!("node/{node}/"));
        }
        path.push_str(&self.name);
        path
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manager {
            Some(manager) => f.pad(&format!("{manager}:{}", self.path())),
            None => f.pad(&self.path()),
        }
    }
}

impl FromStr for SecretRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| NameError::new(WHAT, text, reason);
        if text.len() > MAX_LEN {
            return Err(refused("is too long"));
        }
        let (manager, path) = match text.split_once(':') {
            Some((manager, path)) => (Some(manager), path),
            None => (None, text),
        };
        if let Some(manager) = manager {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if manager.is_empty() || manager.len() > 64 || !manager.chars().all(plain) {
                return Err(refused(
                    "has a manager that is not lower-case letters, digits and `-`",
                ));
            }
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Err(refused("is empty"));
        }
        let segments: Vec<&str> = path.split('/').collect();
        for segment in &segments {
            if segment.is_empty() {
                return Err(refused("has an empty part"));
            }
            if matches!(*segment, "." | "..") {
                return Err(refused("has a part `.` or `..`"));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
            if !segment.chars().all(plain) {
                return Err(refused(
                    "has a character other than A-Z a-z 0-9 . _ - @ and `/`",
                ));
            }
        }
        let (user, node, name) = match segments.as_slice() {
            ["openhorizon", ..] => return Err(refused("starts with the reserved `openhorizon`")),
            ["user", user, "node", node, name @ ..] => (Some(*user), Some(*node), name),
            ["user", user, name @ ..] => (Some(*user), None, name),
            ["user"] => return Err(refused("names no user")),
            ["node", node, name @ ..] => (None, Some(*node), name),
            ["node"] => return Err(refused("names no node")),
            name => (None, None, name),
        };
        if name.is_empty() {
            return Err(refused("names a scope but no secret in it"));
        }
        Ok(Self {
            manager: manager.map(str::to_owned),
            user: user.map(str::parse).transpose()?,
            node: node.map(str::parse).transpose()?,
            name: name.join("/"),
        })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

fn sha256(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

#[expect(
    clippy::expect_used,
    reason = "a part of a version, or hexadecimal digits and a tag"
)]
fn parsed(text: &str) -> SecretVersion {
    text.parse().expect("a version")
}

const TAG: char = '+';
const TAG_BYTES: usize = 8;
const WHAT: &str = "secret reference";
const MAX_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> SecretRef {
        text.parse().unwrap()
    }

    #[test]
    fn scopes_are_told_apart() {
        let org = parse("test/more-passwords/password2");
        assert_eq!((org.user(), org.node()), (None, None));
        let both = parse("user/alice/node/edge-01/db");
        assert_eq!(both.user().unwrap().as_str(), "alice");
        assert_eq!(both.node().unwrap().as_str(), "edge-01");
        assert_eq!(parse("vault:team/db").manager(), Some("vault"));
        assert_eq!(
            parse("/cloudServiceXYZSecret").to_string(),
            "cloudServiceXYZSecret"
        );
        let sibling = parse("user/alice/db").at_node(&"edge-01".parse().unwrap());
        assert_eq!(sibling.to_string(), "user/alice/node/edge-01/db");
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for text in [
            "",
            "/",
            "//a",
            "a//b",
            "a/../b",
            ".",
            "user",
            "user/alice",
            "node",
            "node/n",
            "user/alice/node/n",
            "openhorizon/x",
            "a b",
            "a\0",
            "a%2Fb",
            "Vault:x",
            ":x",
            "v:",
            &"x".repeat(513),
        ] {
            assert!(text.parse::<SecretRef>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_version_of_one_reference_is_none_of_another() {
        for version in ["1", "a+b", &"x".repeat(128)] {
            let version: SecretVersion = version.parse().unwrap();
            let (one, two) = (parse("db"), parse("node/edge-01/db"));
            let known = one.version_at_nodes(&version);
            assert_ne!(known, two.version_at_nodes(&version));
            assert_eq!(two.version_from_node(&known), None);
            assert_eq!(one.version_from_node(&version), None);
            let again = one.version_from_node(&known).unwrap();
            assert_eq!(again == version, version.as_str().len() < 100);
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_canonical(text in "(/?([a-z]{1,3}:)?)?((user|node)/)?[a-z./@-]{1,30}") {
            if let Ok(reference) = text.parse::<SecretRef>() {
                let again: SecretRef = reference.to_string().parse().unwrap();
                prop_assert_eq!(&again, &reference);
                prop_assert_eq!(again.to_string(), reference.to_string());
            }
        }
    }
}
