//! What the policies of a node, or its pattern, have claimed there so far: a service runs on a node
//! once, whoever needs it.

use std::collections::BTreeMap;
use std::fmt;

use edge_secrets_protocol::{PatternId, PolicyName, SecretName, ServiceId, Source, UserId};

use super::binding::{Chosen, ChosenOne};
use super::closure::Member;
use super::definition::ServiceDefinition;

/// Every service that is claimed.
#[derive(Debug, Default)]
pub(super) struct Board<'a>(BTreeMap<&'a ServiceId, Claim<'a>>);

/// A policy or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By<'a> {
    Policy(&'a PolicyName),
    Pattern(&'a PatternId),
}

/// A policy or a pattern with who published it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) by: By<'a>,
    /// Absent for another organisation's pattern: whoever that is, they are nobody here.
    pub(super) owner: Option<&'a UserId>,
}

/// One service, as the first policy (or service of a pattern) that needed it wants it.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) definition: &'a ServiceDefinition,
    pub(super) bindings: Chosen<'a>,
    pub(super) asker: Asker<'a>,
    /// The policy or pattern whose own service it is.
    pub(super) top: Option<By<'a>>,
    /// All who have it, with the way to it from their own service.
    pub(super) users: Vec<(By<'a>, Vec<&'a ServiceId>)>,
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

impl By<'_> {
    pub(super) fn to_source(self) -> Source {
        match self {
            Self::Policy(name) => Source::Policy(name.clone()),
            Self::Pattern(id) => Source::Pattern(id.clone()),
        }
    }
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Pattern(id) => write!(f, "pattern {id}"),
        }
    }
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
    pub(super) fn take(&mut self, asker: Asker<'a>, services: Vec<Wanted<'a>>) {
        for (at, Wanted { member, bindings }) in services.into_iter().enumerate() {
            let claim = self
                .0
                .entry(member.definition.id())
                .or_insert_with(|| Claim {
                    definition: member.definition,
                    bindings,
                    asker,
                    top: None,
                    users: Vec::new(),
                });
            if at == 0 {
                claim.top = Some(asker.by);
            }
            claim.users.push((asker.by, member.path));
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
