//! Policies that want the same service on the same node: who publishes one of them is told, before and
//! after, where it comes too late and where it takes another's place.

use std::collections::BTreeMap;

use edge_secrets_protocol::{OrgId, PolicyName, ServiceId, Source};

use super::plan::alone;
use crate::catalog::records::{Change, Placed};
use crate::policy::{Definitions, NodeView, place};

/// The others that a changed policy meets, each with the number of nodes.
#[derive(Debug)]
pub(super) struct Rivals {
    policy: PolicyName,
    service: ServiceId,
    /// The changed policy and no other.
    alone: Definitions,
    /// Those that keep the service where the changed one would deploy it too.
    before: BTreeMap<PolicyName, usize>,
    /// Those that lose it to the changed one.
    behind: BTreeMap<PolicyName, usize>,
}

impl Rivals {
    /// Of a change that publishes a policy; other changes have none to tell of.
    pub(super) fn of(change: &Change, after: &Definitions) -> Option<Self> {
        let Change::PutPolicy(record) = change else {
            return None;
        };
        let service = after.policies.get(&record.name)?.document.service().clone();
        Some(Self {
            policy: record.name.clone(),
            service,
            alone: alone(after, &record.name),
            before: BTreeMap::new(),
            behind: BTreeMap::new(),
        })
    }

    /// Looks at one node: what is placed there without the change, and with it.
    pub(super) fn meet(&mut self, org: &OrgId, node: &NodeView, old: &[Placed], new: &[Placed]) {
        let Some(winner) = self.top(new) else {
            return;
        };
        if winner == self.policy {
            let was = self.top(old).filter(|was| *was != self.policy);
            if let Some(other) = was {
                *self.behind.entry(other).or_default() += 1;
            }
        } else if self.top(&place(org, node, &self.alone)).is_some() {
            *self.before.entry(winner).or_default() += 1;
        }
    }

    /// What there is to tell.
    pub(super) fn told(self) -> Vec<String> {
        let (policy, service) = (&self.policy, &self.service);
        let before = self.before.iter().map(|(other, nodes)| {
            format!(
                "{service} stays with policy {other} on {}, which this one matches too: its name comes \
                 before {policy}",
                counted(*nodes)
            )
        });
        let behind = self.behind.iter().map(|(other, nodes)| {
            format!(
                "{service} is taken from policy {other} on {}: its name comes after {policy}",
                counted(*nodes)
            )
        });
        before.chain(behind).collect()
    }

    /// The policy whose own service it is.
    fn top(&self, placed: &[Placed]) -> Option<PolicyName> {
        let found = placed.iter().find(|one| one.service == self.service)?;
        let policy = |source: &Source| match source {
            Source::Policy(name) => Some(name.clone()),
            Source::Pattern(_) => None,
        };
        if found.required_by.is_empty() {
            return policy(&found.policy);
        }
        let own = found.required_by.iter().find(|user| user.path.is_empty());
        own.and_then(|user| policy(&user.policy))
    }
}

fn counted(nodes: usize) -> String {
    match nodes {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    }
}
