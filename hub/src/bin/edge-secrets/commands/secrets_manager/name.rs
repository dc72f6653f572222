//! Names as `hzn secretsmanager` takes them: a secret, or a scope whose secrets are listed.

use edge_secrets_hub::reference::SecretRef;
use edge_secrets_protocol::{NameError, NodeId, UserId};

/// What a name and `-n` mean together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meant {
    /// A scope.
    Scope(Scope),
    /// One secret.
    Secret(SecretRef),
}

/// Whose secrets: the organisation's, a user's, a node's, or a user's for one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) user: Option<UserId>,
    pub(super) node: Option<NodeId>,
}

impl Scope {
    /// What every name in it begins with; empty for the organisation's.
    pub(super) fn prefix(&self) -> String {
        let mut prefix = String::new();
        if let Some(user) = &self.user {
            prefix.push_str(&format!("user/{user}/"));
        }
        if let Some(node) = &self.node {
            prefix.push_str(&format!("node/{node}/"));
        }
        prefix
    }

    /// Whether a secret is in this scope, and in none within it.
    pub(super) fn has(&self, reference: &SecretRef) -> bool {
        reference.user() == self.user.as_ref() && reference.node() == self.node.as_ref()
    }
}

/// Why a name means nothing. Displayed in the words that scripts look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameFault {
    #[error(
        "User must be specified in the API path: \"user\" is followed by its name, as in user/USER/NAME"
    )]
    NoUser,
    #[error(
        "Node must be specified in the API path: \"node\" is followed by its name, as in node/NODE/NAME"
    )]
    NoNode,
    #[error(
        "Incorrect secret name provided: \"{0}\" cannot refer to a secret in the secrets manager."
    )]
    Scope(String),
    #[error("Incorrect secret name provided: \"{name}\" is for node {named}, and -n says {asked}")]
    TwoNodes {
        name: String,
        named: NodeId,
        asked: NodeId,
    },
    #[error("Incorrect secret name provided: {0}")]
    Name(#[from] NameError),
}

impl Meant {
    /// Reads a name. A slash at either end is left out, as `hzn` does; `node` puts a secret at that
    /// node in the scope that it is in, however many parts its name has.
    pub(super) fn read(text: &str, node: Option<&str>) -> Result<Self, NameFault> {
        let text = text.trim();
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let node: Option<NodeId> = match node.map(str::trim).filter(|node| !node.is_empty()) {
            Some(node) => Some(node.parse()?),
            None => None,
        };
        if let Some(mut scope) = scope(text)? {
            scope.node = one_node(text, scope.node.as_ref(), node)?;
            return Ok(Self::Scope(scope));
        }
        let reference: SecretRef = text.parse()?;
        let node = one_node(text, reference.node(), node)?;
        Ok(Self::Secret(match node {
            Some(node) => reference.at_node(&node),
            None => reference,
        }))
    }

    /// The secret that is meant.
    pub(super) fn secret(text: &str, node: Option<&str>) -> Result<SecretRef, NameFault> {
        match Self::read(text, node)? {
            Self::Secret(reference) => Ok(reference),
            Self::Scope(_) => Err(NameFault::Scope(text.to_owned())),
        }
    }
}

/// The scope that a text names, where it names one and nothing in it.
fn scope(text: &str) -> Result<Option<Scope>, NameFault> {
    let parts: Vec<&str> = text.split('/').collect();
    let (user, node) = match parts.as_slice() {
        [""] => (None, None),
        ["user"] => return Err(NameFault::NoUser),
        ["node"] | ["user", _, "node"] => return Err(NameFault::NoNode),
        ["user", user] => (Some(*user), None),
        ["node", node] => (None, Some(*node)),
        ["user", user, "node", node] => (Some(*user), Some(*node)),
        _ => return Ok(None),
    };
    Ok(Some(Scope {
        user: user.map(str::parse).transpose()?,
        node: node.map(str::parse).transpose()?,
    }))
}

fn one_node(
    text: &str,
    named: Option<&NodeId>,
    asked: Option<NodeId>,
) -> Result<Option<NodeId>, NameFault> {
    match (named, asked) {
        (Some(named), Some(asked)) if *named != asked => Err(NameFault::TwoNodes {
            name: text.to_owned(),
            named: named.clone(),
            asked,
        }),
        (Some(named), _) => Ok(Some(named.clone())),
        (None, asked) => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, node: &str) -> String {
        match Meant::read(text, Some(node)) {
            Ok(Meant::Scope(scope)) => format!("[{}]", scope.prefix()),
            Ok(Meant::Secret(reference)) => reference.to_string(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn names_and_scopes_are_told_apart() {
        for (text, node, meant) in [
            ("", "", "[]"),
            ("/", "", "[]"),
            ("db", "", "db"),
            ("/db", "", "db"),
            (
                "test/more-passwords/password2",
                "",
                "test/more-passwords/password2",
            ),
            ("test/", "", "test"),
            ("user/alice", "", "[user/alice/]"),
            ("user/alice/", "", "[user/alice/]"),
            ("node/n1", "", "[node/n1/]"),
            ("user/alice/node/n1", "", "[user/alice/node/n1/]"),
            ("user/alice/db", "", "user/alice/db"),
        ] {
            assert_eq!(read(text, node), meant, "{text}");
        }
    }

    /// `hzn` takes two parts for a user's directory and three for a user's secret.
    #[test]
    fn a_node_goes_into_the_scope_whatever_the_number_of_parts() {
        for (text, meant) in [
            ("", "[node/n1/]"),
            ("db", "node/n1/db"),
            ("test/password1", "node/n1/test/password1"),
            ("a/b/c", "node/n1/a/b/c"),
            ("a/b/c/d", "node/n1/a/b/c/d"),
            ("user/alice", "[user/alice/node/n1/]"),
            ("user/alice/db", "user/alice/node/n1/db"),
            ("user/alice/a/b/c", "user/alice/node/n1/a/b/c"),
            ("node/n1/db", "node/n1/db"),
            ("node/n1", "[node/n1/]"),
            ("user/alice/node/n1/db", "user/alice/node/n1/db"),
            // No scope: the name of a secret that has such a part.
            ("my/node/x", "node/n1/my/node/x"),
        ] {
            assert_eq!(read(text, "n1"), meant, "{text}");
        }
        assert!(read("node/n2/db", "n1").contains("for node n2, and -n says n1"));
    }

    #[test]
    fn what_means_nothing_is_refused_in_the_words_of_the_original() {
        for (text, words) in [
            ("user", "User must be specified"),
            ("node", "Node must be specified"),
            ("user/alice/node", "Node must be specified"),
            ("openhorizon/x", "Incorrect secret name"),
            ("a//b", "Incorrect secret name"),
            ("a b", "Incorrect secret name"),
            ("user/a b", "Incorrect secret name"),
        ] {
            assert!(read(text, "").contains(words), "{text}: {}", read(text, ""));
        }
        for text in ["user/alice", "node/n1", "", "user/alice/node/n1"] {
            let fault = Meant::secret(text, None).unwrap_err();
            assert!(
                fault.to_string().starts_with("Incorrect secret name"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_scope_has_its_own_and_not_those_of_scopes_within() {
        let all = [
            "db",
            "a/b",
            "node/n1/db",
            "user/alice/db",
            "user/alice/node/n1/db",
        ];
        let of = |text: &str| {
            let Ok(Meant::Scope(scope)) = Meant::read(text, None) else {
                panic!("{text}")
            };
            let has = |name: &&str| scope.has(&name.parse().unwrap());
            all.into_iter().filter(has).collect::<Vec<_>>()
        };
        assert_eq!(of(""), ["db", "a/b"]);
        assert_eq!(of("user/alice"), ["user/alice/db"]);
        assert_eq!(of("node/n1"), ["node/n1/db"]);
        assert_eq!(of("user/alice/node/n1"), ["user/alice/node/n1/db"]);
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "(user/|node/|/|[a-z]|\\PC){0,20}", node in "\\PC{0,6}") {
            Meant::read(&text, Some(&node)).ok();
        }

        #[test]
        fn what_is_read_is_a_secret_at_the_node_that_was_asked_for(
            text in "(user/[a-z]{1,3}/)?[a-z]{1,4}(/[a-z]{1,4}){0,4}", node in "[a-z]{1,5}"
        ) {
            if let Ok(Meant::Secret(reference)) = Meant::read(&text, Some(&node)) {
                prop_assert_eq!(reference.node().unwrap().as_str(), node.as_str());
                let plain: SecretRef = text.parse().unwrap();
                prop_assert_eq!(reference.user(), plain.user());
            }
        }
    }
}
