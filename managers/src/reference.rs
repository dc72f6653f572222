//! Secret references: what the secrets manager calls a secret.
//!
//! `[<manager>:]<path>[#<field>]`, where the path may begin with a scope as in Open Horizon: `name`,
//! `user/<user>/name`, `node/<node>/name`, `user/<user>/node/<node>/name`. The full reference is a
//! secret's identity: two scopes never fall through to one another.
//!
//! As people write it, a reference without a manager means the organisation's default one, and
//! `embedded:` the hub's own. [`SecretRef::resolved`] makes that the one form which the hub keeps and
//! compares: there, no manager is the hub's own.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{FieldName, NameError, NodeId, SecretVersion, UserId};
use serde::{Deserialize, Serialize};

use crate::ManagerName;

/// A validated reference in canonical form: `Display` gives back what identifies the secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRef {
    manager: Option<ManagerName>,
    user: Option<UserId>,
    node: Option<NodeId>,
    name: String,
    field: Option<FieldName>,
}

impl SecretRef {
    /// The manager's configured name. Absent, it is the organisation's default as people write it,
    /// and the hub's own once [`resolved`](Self::resolved).
    #[must_use]
    pub fn manager(&self) -> Option<&ManagerName> {
        self.manager.as_ref()
    }

    /// The one field of the secret that is meant; all of them when absent.
    #[must_use]
    pub fn field(&self) -> Option<&FieldName> {
        self.field.as_ref()
    }

    /// The secret as its manager knows it: without the field.
    #[must_use]
    pub fn secret(&self) -> Self {
        Self {
            field: None,
            ..self.clone()
        }
    }

    /// The same reference with this field, or with none.
    #[must_use]
    pub fn with_field(&self, field: Option<FieldName>) -> Self {
        Self {
            field,
            ..self.clone()
        }
    }

    /// The form that the hub keeps, where `default` is the organisation's default manager: absent,
    /// that is the hub's own.
    #[must_use]
    pub fn resolved(&self, default: Option<&ManagerName>) -> Self {
        let manager = match &self.manager {
            None => default.cloned(),
            Some(named) => Some(named.clone()),
        };
        Self {
            manager: manager.filter(|manager| !manager.is_embedded()),
            ..self.clone()
        }
    }

    /// A resolved reference as people of an organisation with this default manager write it.
    #[must_use]
    pub fn written(&self, default: Option<&ManagerName>) -> Self {
        let foreign = default.is_some_and(|default| !default.is_embedded());
        match &self.manager {
            None if foreign => Self {
                manager: Some(ManagerName::embedded()),
                ..self.clone()
            },
            _ => self.clone(),
        }
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
        let mut text = self.path();
        if let Some(manager) = &self.manager {
            text.insert_str(0, &format!("{manager}:"));
        }
        if let Some(field) = &self.field {
            text.push_str(&format!("#{field}"));
        }
        f.pad(&text)
    }
}

impl FromStr for SecretRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| NameError::new(WHAT, text, reason);
        if text.len() > MAX_LEN {
            return Err(refused("is too long"));
        }
        let (rest, field) = match text.split_once('#') {
            Some((rest, field)) => (rest, Some(field)),
            None => (text, None),
        };
        let (manager, path) = match rest.split_once(':') {
            Some((manager, path)) => (Some(manager.parse::<ManagerName>()?), path),
            None => (None, rest),
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Err(refused("is empty"));
        }
        let segments: Vec<&str> = path.split('/').collect();
        for segment in &segments {
            check_segment(segment, manager.as_ref()).map_err(refused)?;
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
            manager,
            user: user.map(str::parse).transpose()?,
            node: node.map(str::parse).transpose()?,
            name: name.join("/"),
            field: field.map(str::parse).transpose()?,
        })
    }
}

/// The hub's own secrets have plain names. What people already run has others: with a manager's name
/// in front, spaces and some punctuation may stand inside a part. Never what a path or a URL gives a
/// meaning to (`/ \ # ? % :`), so that no part can become another.
fn check_segment(segment: &str, manager: Option<&ManagerName>) -> Result<(), &'static str> {
    if segment.is_empty() {
        return Err("has an empty part");
    }
    if matches!(segment, "." | "..") {
        return Err("has a part `.` or `..`");
    }
    if manager.is_none_or(ManagerName::is_embedded) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if !segment.chars().all(plain) {
            return Err("has a character other than A-Z a-z 0-9 . _ - @ and `/`");
        }
        return Ok(());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "._-@ ()&,+='!$~".contains(c);
    if !segment.chars().all(known) {
        return Err("has a character that no reference may have");
    }
    if segment.trim() != segment || segment.ends_with('.') {
        return Err("has a part that begins or ends with a space, or ends with a dot");
    }
    Ok(())
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
        assert_eq!(parse("vault:team/db").manager().unwrap().as_str(), "vault");
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
            "a#",
            "a#b#c",
            "a#b/c",
            "#a",
            "v:a%2Fb",
            "v:a?b",
            "v: a",
            "v:a /b",
            "v:a./b",
            "v:a\\b",
            "v:user/alice/..",
            "v:a:b",
            "embedded:a b",
            &"x".repeat(513),
        ] {
            assert!(text.parse::<SecretRef>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_field_is_of_the_secret_and_not_of_its_path() {
        let field = parse("vault:database/creds/app#password");
        assert_eq!(field.path(), "database/creds/app");
        assert_eq!(field.field().unwrap().as_str(), "password");
        assert_eq!(field.secret(), parse("vault:database/creds/app"));
        let version: SecretVersion = "1".parse().unwrap();
        assert_ne!(
            field.version_at_nodes(&version),
            field.secret().version_at_nodes(&version)
        );
        assert_eq!(
            parse("pim:BU 44/Team (EU)/Uplink & co#password").path(),
            "BU 44/Team (EU)/Uplink & co"
        );
    }

    #[test]
    fn the_default_manager_is_meant_where_none_is_named() {
        let vault: ManagerName = "vault".parse().unwrap();
        let own = ManagerName::embedded();
        for (written, default, resolved) in [
            ("db", None, "db"),
            ("embedded:db", None, "db"),
            ("vault:db", None, "vault:db"),
            ("db", Some(&vault), "vault:db"),
            ("embedded:db", Some(&vault), "db"),
            ("other:db", Some(&vault), "other:db"),
            ("db", Some(&own), "db"),
        ] {
            let reference = parse(written).resolved(default);
            assert_eq!(reference.to_string(), resolved, "{written}");
            // What people read means the same when they write it.
            assert_eq!(reference.written(default).resolved(default), reference);
        }
        assert_eq!(parse("db").written(Some(&vault)).to_string(), "embedded:db");
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
        fn what_parses_is_canonical(text in "(/?([a-z]{1,3}:)?)?((user|node)/)?[a-z./@ -]{1,30}(#[a-z.]{0,3})?") {
            if let Ok(reference) = text.parse::<SecretRef>() {
                let again: SecretRef = reference.to_string().parse().unwrap();
                prop_assert_eq!(&again, &reference);
                prop_assert_eq!(again.to_string(), reference.to_string());
            }
        }
    }
}
