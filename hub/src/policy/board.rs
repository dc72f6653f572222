//! What the policies of a node have claimed there so far: a service runs on a node once, whoever
//! needs it.

use std::collections::BTreeMap;

use edge_secrets_protocol::{PolicyName, SecretName, ServiceId, UserId};

use super::binding::{Chosen, ChosenOne};
use super::closure::Member;
use super::definition::ServiceDefinition;

/// Every service that is claimed.
#[derive(Debug, Default)]
pub(super) struct Board<'a>(BTreeMap<&'a ServiceId, Claim<'a>>);

/// A policy with who published it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) policy: &'a PolicyName,
    pub(super) owner: &'a UserId,
}

/// One service, as the first policy that needed it wants it.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) definition: &'a ServiceDefinition,
    pub(super) bindings: Chosen<'a>,
    pub(super) source: Source<'a>,
    /// The policy whose own service it is.
    pub(super) top: Option<&'a PolicyName>,
    /// Every policy that has it, with the way to it from the policy's own service.
    pub(super) users: Vec<(&'a PolicyName, Vec<&'a ServiceId>)>,
}

/// A service of a policy with the bindings that the policy has for it.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) member: Member<'a>,
    pub(super) bindings: Chosen<'a>,
}

/// A secret that two policies bind differently for a service that runs once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) secret: SecretName,
    /// What is delivered.
    pub(super) first: String,
    /// What the later policy says.
    pub(super) later: String,
}

impl<'a> Board<'a> {
    pub(super) fn get(&self, service: &ServiceId) -> Option<&Claim<'a>> {
        self.0.get(service)
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = (&'a ServiceId, &Claim<'a>)> {
        self.0.iter().map(|(service, claim)| (*service, claim))
    }

    /// Claims all services of a policy, its own first. Where one is claimed already, the earlier
    /// policy's bindings stay.
    pub(super) fn take(&mut self, source: Source<'a>, services: Vec<Wanted<'a>>) {
        for (at, Wanted { member, bindings }) in services.into_iter().enumerate() {
            let claim = self
                .0
                .entry(member.definition.id())
                .or_insert_with(|| Claim {
                    definition: member.definition,
                    bindings,
                    source,
                    top: None,
                    users: Vec::new(),
                });
            if at == 0 {
                claim.top = Some(source.policy);
            }
            claim.users.push((source.policy, member.path));
        }
    }
}

impl<'a> Claim<'a> {
    /// Where a later policy's bindings are others.
    pub(super) fn differences(&self, later: &Chosen<'a>) -> Vec<Difference> {
        let differs = |(name, chosen): (&&SecretName, &ChosenOne<'a>)| {
            let first = self.bindings.get(*name)?;
            let same = first.1.reference == chosen.1.reference
                && first.0.node_level == chosen.0.node_level;
            (!same).then(|| Difference {
                secret: (*name).clone(),
                first: shown(first),
                later: shown(chosen),
            })
        };
        later.iter().filter_map(differs).collect()
    }
}

fn shown((binding, bound): &ChosenOne<'_>) -> String {
    match binding.node_level {
        true => format!("{} with node-level secrets", bound.reference),
        false => bound.reference.to_string(),
    }
}
