//! The deployment policies of one organisation, found by what a node must be like for them.

use std::collections::btree_map::{self, BTreeMap};
use std::collections::{BTreeSet, HashMap};
use std::ops::Index;
use std::sync::Arc;

use edge_secrets_protocol::PolicyName;

use super::constraint::Mark;
use super::node::NodeView;
use super::{DeploymentPolicy, Published};

/// Policies by name. Clones share the documents.
///
/// Most policies demand that some property has some value (`site == berlin`). Such a policy is filed
/// under one of its demands, so that a node meets only those that it could satisfy, and the others
/// that demand nothing of the kind: not every policy of the organisation.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    by_name: BTreeMap<PolicyName, Arc<Published<DeploymentPolicy>>>,
    /// By property and value.
    filed: BTreeMap<String, HashMap<Mark, BTreeSet<PolicyName>>>,
    /// Those that are filed under nothing.
    others: BTreeSet<PolicyName>,
}

type Entry<'a> = (&'a PolicyName, &'a Arc<Published<DeploymentPolicy>>);

impl Policies {
    /// The policy of that name.
    #[must_use]
    pub fn get(&self, name: &PolicyName) -> Option<&Arc<Published<DeploymentPolicy>>> {
        self.by_name.get(name)
    }

    /// Every policy, by name.
    pub fn iter(&self) -> btree_map::Iter<'_, PolicyName, Arc<Published<DeploymentPolicy>>> {
        self.by_name.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a policy, in the place of the one of that name.
    pub fn insert(&mut self, name: PolicyName, policy: Arc<Published<DeploymentPolicy>>) {
        self.remove(&name);
        match self.narrowest(&policy.document) {
            Some((property, marks)) => {
                let of_property = self.filed.entry(property).or_default();
                for mark in marks {
                    of_property.entry(mark).or_default().insert(name.clone());
                }
            }
            None => {
                self.others.insert(name.clone());
            }
        }
        self.by_name.insert(name, policy);
    }

    /// Removes the policy of that name.
    pub fn remove(&mut self, name: &PolicyName) {
        let Some(policy) = self.by_name.remove(name) else {
            return;
        };
        self.others.remove(name);
        // It is filed under one of its demands; which one, the others decided when it came.
        for (property, marks) in demands(&policy.document) {
            let Some(of_property) = self.filed.get_mut(&property) else {
                continue;
            };
            for mark in marks {
                if let Some(names) = of_property.get_mut(&mark) {
                    names.remove(name);
                    if names.is_empty() {
                        of_property.remove(&mark);
                    }
                }
            }
            if of_property.is_empty() {
                self.filed.remove(&property);
            }
        }
    }

    /// The policies of which these are.
    #[must_use]
    pub fn only(&self, mut wanted: impl FnMut(&DeploymentPolicy) -> bool) -> Self {
        let of_them = self.iter().filter(|(_, one)| wanted(&one.document));
        of_them
            .map(|(name, one)| (name.clone(), Arc::clone(one)))
            .collect()
    }

    /// All that could place anything on the node, and perhaps some that could not; by name.
    pub(super) fn for_node(&self, node: &NodeView) -> Vec<Entry<'_>> {
        let mut names: Vec<&PolicyName> = self.others.iter().collect();
        for (property, value) in node.properties().iter() {
            let Some(of_property) = self.filed.get(property) else {
                continue;
            };
            let found = value.marks().into_iter();
            names.extend(found.filter_map(|mark| of_property.get(&mark)).flatten());
        }
        names.sort_unstable();
        names.dedup();
        let entry = |name| self.by_name.get_key_value(name);
        names.into_iter().filter_map(entry).collect()
    }

    /// The demand under which the fewest others are filed.
    fn narrowest(&self, policy: &DeploymentPolicy) -> Option<(String, Vec<Mark>)> {
        demands(policy).min_by_key(|(property, marks)| {
            let of_property = self.filed.get(property);
            let filed = marks.iter().filter_map(|mark| of_property?.get(mark));
            filed.map(BTreeSet::len).sum::<usize>()
        })
    }
}

/// The properties that a node must have for the policy, each with the values of which it must have one.
fn demands(policy: &DeploymentPolicy) -> impl Iterator<Item = (String, Vec<Mark>)> {
    let demanded = policy.constraints().iter().flat_map(|one| one.demands());
    demanded.filter_map(|comparison| Some((comparison.name().to_owned(), comparison.marks()?)))
}

impl Index<&PolicyName> for Policies {
    type Output = Arc<Published<DeploymentPolicy>>;

    fn index(&self, name: &PolicyName) -> &Self::Output {
        &self.by_name[name]
    }
}

impl<'a> IntoIterator for &'a Policies {
    type Item = Entry<'a>;
    type IntoIter = btree_map::Iter<'a, PolicyName, Arc<Published<DeploymentPolicy>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(PolicyName, Arc<Published<DeploymentPolicy>>)> for Policies {
    fn from_iter<I>(policies: I) -> Self
    where
        I: IntoIterator<Item = (PolicyName, Arc<Published<DeploymentPolicy>>)>,
    {
        let mut all = Self::default();
        for (name, policy) in policies {
            all.insert(name, policy);
        }
        all
    }
}
