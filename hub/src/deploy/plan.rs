//! What a change does to the nodes of an organisation: pure, and proportional to the nodes that it
//! touches once they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId, PolicyName, ServiceId};

use super::difference::difference;
use super::model::{Model, NodeModel};
use crate::catalog::records::{Change, NodePlacement, Placed};
use crate::policy::{Definitions, NodeView, Published, check_policy, place};
use crate::wire::DeploymentChange;

/// What a change does.
#[derive(Debug)]
pub struct Plan {
    /// Every node whose deployments differ, with all of its new ones.
    pub placements: Vec<NodePlacement>,
    /// Every deployment that comes, goes or changes, by node.
    pub changes: Vec<DeploymentChange>,
    /// How many nodes keep what they have.
    pub untouched: usize,
    /// The definitions after it.
    pub definitions: Arc<Definitions>,
    /// The node that it makes or changes.
    pub node: Option<(NodeId, NodeModel)>,
}

/// Works out what `change` does.
#[must_use]
pub fn plan(model: &Model, change: &Change) -> Plan {
    let mut plan = Plan {
        placements: Vec::new(),
        changes: Vec::new(),
        untouched: 0,
        definitions: model.definitions_after(change),
        node: model.node_after(change),
    };
    match node_of(change) {
        Some(node) => plan.one_node(model, node, change),
        None => plan.every_node(model, change),
    }
    plan
}

/// What the change breaks: for each policy the faults that it has after it and had not before.
#[must_use]
pub fn new_faults(before: &Definitions, after: &Definitions) -> Vec<(PolicyName, Vec<String>)> {
    let broken = after.policies.iter().filter_map(|(name, published)| {
        let Published { owner, document } = &**published;
        let old = check_policy(document, owner, &before.services).faults;
        let mut new = check_policy(document, owner, &after.services).faults;
        new.retain(|fault| !old.contains(fault));
        (!new.is_empty()).then(|| (name.clone(), new))
    });
    broken.collect()
}

/// The nodes on which a policy could place its service; whether it does, the other policies decide.
#[must_use]
pub fn candidates(model: &Model, policy: &PolicyName) -> Vec<NodeId> {
    let alone = probe(&model.definitions, &Change::RemovePolicy(policy.clone()));
    let nodes = model.nodes.iter().filter(|(_, node)| {
        let view = node.placeable();
        view.is_some_and(|view| !place(&model.org, view, &alone).is_empty())
    });
    nodes.map(|(id, _)| id.clone()).collect()
}

/// On how many nodes each policy deploys.
#[must_use]
pub fn node_counts(model: &Model) -> BTreeMap<PolicyName, usize> {
    let mut counts = BTreeMap::new();
    for node in model.nodes.values() {
        let placed = place_on(&model.org, Some(node), &model.definitions);
        let policies: BTreeSet<_> = placed.into_iter().map(|placed| placed.policy).collect();
        for policy in policies {
            *counts.entry(policy).or_default() += 1;
        }
    }
    counts
}

impl Plan {
    fn one_node(&mut self, model: &Model, node: &NodeId, change: &Change) {
        let before = model.nodes.get(node).map(Arc::as_ref);
        let after = self.node.as_ref().map(|(_, after)| after);
        let old = place_on(&model.org, before, &model.definitions);
        let new = place_on(&model.org, after, &self.definitions);
        self.untouched = model.nodes.len();
        self.changes = difference(node, &old, &new);
        if before.is_some() && !self.changes.is_empty() {
            self.untouched -= 1;
        }
        // Even when nothing differs: the stored placement may be an older hub's. A node that is
        // forgotten has none to store.
        if !matches!(change, Change::RemoveNode(_)) {
            self.placements.push(NodePlacement {
                node: node.clone(),
                deployments: new,
            });
        }
    }

    fn every_node(&mut self, model: &Model, change: &Change) {
        let before = probe(&model.definitions, change);
        let after = probe(&self.definitions, change);
        for (id, node) in &model.nodes {
            let Some(view) = node.placeable() else {
                self.untouched += 1;
                continue;
            };
            // A policy that could place nothing here, alone, neither wins here nor makes another
            // one lose.
            let old = place(&model.org, view, &before);
            let new = place(&model.org, view, &after);
            if old.is_empty() && new.is_empty() {
                self.untouched += 1;
                continue;
            }
            self.whole_node(model, id, view);
        }
    }

    fn whole_node(&mut self, model: &Model, node: &NodeId, view: &NodeView) {
        let old = place(&model.org, view, &model.definitions);
        let new = place(&model.org, view, &self.definitions);
        let changes = difference(node, &old, &new);
        if changes.is_empty() {
            self.untouched += 1;
            return;
        }
        self.changes.extend(changes);
        self.placements.push(NodePlacement {
            node: node.clone(),
            deployments: new,
        });
    }
}

/// What a node gets, as far as anything can be placed on it.
fn place_on(org: &OrgId, node: Option<&NodeModel>, definitions: &Definitions) -> Vec<Placed> {
    let view = node.and_then(NodeModel::placeable);
    view.map_or_else(Vec::new, |view| place(org, view, definitions))
}

/// The node that a change is about, if it is about one.
fn node_of(change: &Change) -> Option<&NodeId> {
    match change {
        Change::Enrol(enrolment) => Some(&enrolment.node),
        Change::PutFacts { node, .. } | Change::RevokeNode(node) | Change::RemoveNode(node) => {
            Some(node)
        }
        Change::PutService(_)
        | Change::RemoveService { .. }
        | Change::PutPolicy(_)
        | Change::RemovePolicy(_)
        | Change::SetDefaultManager(_) => None,
    }
}

/// The definitions narrowed to those policies whose effect `change` can change.
fn probe(definitions: &Definitions, change: &Change) -> Definitions {
    let concerned = |name: &PolicyName, service: &ServiceId| match change {
        Change::PutPolicy(record) => record.name == *name,
        Change::RemovePolicy(removed) => removed == name,
        Change::SetDefaultManager(_) => true,
        Change::PutService(record) => record.url == service.url,
        Change::RemoveService { url, .. } => *url == service.url,
        Change::Enrol(_)
        | Change::PutFacts { .. }
        | Change::RevokeNode(_)
        | Change::RemoveNode(_) => false,
    };
    let policies = definitions.policies.iter();
    let policies = policies.filter(|(name, one)| concerned(name, one.document.service()));
    Definitions {
        services: definitions.services.clone(),
        policies: policies
            .map(|(name, one)| (name.clone(), Arc::clone(one)))
            .collect(),
        default_manager: definitions.default_manager.clone(),
    }
}
