//! Whether policies could be published once their definitions are, as the hub would say.

use std::collections::BTreeSet;

use edge_secrets_hub::policy::{
    Definitions, PolicyCheck, ServiceDefinition, check_pattern, check_policy, unmet,
};
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_protocol::{ServiceId, UserId};

use super::understand::{Document, Understood};

/// Every service that a document needs and that is not among them.
pub(super) fn needed_beyond(understood: &[Understood]) -> BTreeSet<ServiceId> {
    let mut own = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for one in understood {
        match &one.document {
            Document::Service(definition) => {
                own.insert(definition.id().clone());
                needed.extend(definition.required().cloned());
            }
            Document::Policy(_, policy) => {
                needed.insert(policy.service().clone());
            }
            Document::Pattern(_, pattern) => needed.extend(pattern.services().into_iter().cloned()),
        }
    }
    needed
}

/// What the hub's definitions are with these, which `user` publishes.
pub(super) fn with_these(
    hub: Vec<ServiceDefinition>,
    understood: &[Understood],
    user: &UserId,
) -> Definitions {
    let these = understood.iter().filter_map(|one| match &one.document {
        Document::Service(definition) => Some(definition.clone()),
        Document::Policy(..) | Document::Pattern(..) => None,
    });
    // The later one of the same version and architecture stays.
    let all = hub.into_iter().chain(these);
    Definitions {
        services: all.map(|definition| (user.clone(), definition)).collect(),
        ..Definitions::default()
    }
}

/// Checks one document. Of definitions what is odd alone: their faults are the hub's to find.
pub(super) fn check(one: &Understood, user: &UserId, all: &Definitions) -> PolicyCheck {
    match &one.document {
        Document::Policy(_, policy) => check_policy(policy, user, &all.services),
        Document::Pattern(_, pattern) => check_pattern(pattern, user, &all.services),
        Document::Service(definition) => PolicyCheck {
            warnings: definition
                .notes()
                .into_iter()
                .chain(unmet(definition, all))
                .collect(),
            ..PolicyCheck::default()
        },
    }
}

/// Every reference that a document binds.
pub(super) fn references(one: &Understood) -> Vec<SecretRef> {
    match &one.document {
        Document::Policy(_, policy) => policy.references(),
        Document::Pattern(_, pattern) => pattern.references(),
        Document::Service(_) => Vec::new(),
    }
}
