//! What a change does to the nodes of an organisation: pure, and proportional to the nodes that it
//! touches once they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId, PatternId, PatternName, PolicyName, ServiceId, Source};

use super::difference::difference;
use super::model::{Model, NodeModel, ServiceKey, service_key};
use super::rivals::Rivals;
use crate::catalog::records::{Change, NodePlacement, PatternRecord, Placed, PolicyRecord};
use crate::policy::{
    Definitions, DeploymentPolicy, NodeView, PolicyCheck, Published, Services, check_pattern,
    check_policy, could_place, place,
};
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
    /// Of a policy, which others want its service on the same nodes, and who has it.
    pub rivals: Vec<String>,
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
        rivals: Vec::new(),
    };
    match (change, node_of(change)) {
        (Change::Follow(publisher), _) => plan.followers(model, publisher),
        (_, Some(node)) => plan.one_node(model, node, change),
        (_, None) => plan.every_node(model, change),
    }
    plan
}

/// What a change of definitions of `service` breaks: for each policy and pattern of its organisation
/// that deploys it, or what requires it, the faults that it has after the change and had not before.
#[must_use]
pub fn new_faults(
    service: &ServiceId,
    before: &Definitions,
    after: &Definitions,
) -> Vec<(Source, Vec<String>)> {
    let mut concerned = BTreeSet::from([service.clone()]);
    before.services.add_dependents(&mut concerned);
    after.services.add_dependents(&mut concerned);
    let new = |check: &dyn Fn(&Services) -> PolicyCheck| {
        let old = check(&before.services).faults;
        let mut new = check(&after.services).faults;
        new.retain(|fault| !old.contains(fault));
        (!new.is_empty()).then_some(new)
    };
    let policies = after.policies.iter().filter_map(|(name, published)| {
        let Published { owner, document } = &**published;
        let is_concerned = concerned.contains(document.service());
        let faults = is_concerned
            .then(|| new(&|services| check_policy(document, owner, services)))
            .flatten()?;
        Some((Source::Policy(name.clone()), faults))
    });
    let patterns = after.patterns.iter().filter_map(|(id, published)| {
        let Published { owner, document } = &**published;
        let mut deployed = document.services().into_iter();
        let is_concerned =
            id.org == service.org && deployed.any(|service| concerned.contains(service));
        let faults = is_concerned
            .then(|| new(&|services| check_pattern(document, owner, services)))
            .flatten()?;
        Some((Source::Pattern(id.clone()), faults))
    });
    policies.chain(patterns).collect()
}

/// The nodes on which a policy could place its service; whether it does, the other policies decide. The
/// nodes that are on a pattern and on which it places something.
#[must_use]
pub fn candidates(model: &Model, source: &Source) -> Vec<NodeId> {
    let alone = match source {
        Source::Policy(policy) => &alone(&model.definitions, policy),
        Source::Pattern(_) => &*model.definitions,
    };
    let could = |view: &NodeView| match source {
        Source::Policy(_) => view.pattern().is_none(),
        Source::Pattern(pattern) => view.pattern() == Some(pattern),
    };
    let nodes = model.nodes.iter().filter(|(_, node)| {
        let view = node.placeable().filter(|view| could(view));
        view.is_some_and(|view| !place(&model.org, view, alone).is_empty())
    });
    nodes.map(|(id, _)| id.clone()).collect()
}

/// On how many nodes each policy and each pattern deploys.
#[must_use]
pub fn node_counts(model: &Model) -> BTreeMap<Source, usize> {
    let mut counts = BTreeMap::new();
    for node in model.nodes.values() {
        let placed = place_on(&model.org, Some(node), &model.definitions);
        let sources: BTreeSet<_> = placed.iter().flat_map(Placed::sources).collect();
        for source in sources {
            *counts.entry(source.clone()).or_default() += 1;
        }
    }
    counts
}

/// The organisation's own patterns whose nodes in other organisations `change` may concern: none, unless
/// what it changes is public before or afterwards.
#[must_use]
pub fn shared_patterns(model: &Model, change: &Change) -> Vec<PatternName> {
    let is_public = |key: &ServiceKey| model.services.get(key).is_some_and(|one| one.public);
    let shared = match change {
        Change::PutService(record) => record.public || is_public(&service_key(record)),
        Change::RemoveService { url, version, arch } => {
            is_public(&(url.clone(), version.clone(), arch.clone()))
        }
        Change::PutPattern(_) | Change::RemovePattern(_) => true,
        _ => false,
    };
    if !shared {
        return Vec::new();
    }
    let after = model.definitions_after(change);
    let definitions = [&*model.definitions, &*after];
    let concerned = Concerned::by(&model.org, change, definitions).patterns;
    let public = |id: &PatternId| {
        let mut both = definitions.iter().filter_map(|one| one.patterns.get(id));
        both.any(|pattern| pattern.document.is_public())
    };
    let public = concerned.into_iter().filter(public);
    public.map(|id| id.name).collect()
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

    /// What the nodes have is not known here: they were placed after what was published then. The
    /// catalog compares.
    fn followers(&mut self, model: &Model, publisher: &OrgId) {
        for (id, node) in &model.nodes {
            let on = node.belongs.pattern.as_ref();
            if on.is_some_and(|pattern| pattern.org == *publisher) {
                self.placements.push(NodePlacement {
                    node: id.clone(),
                    deployments: place_on(&model.org, Some(node), &self.definitions),
                });
            } else {
                self.untouched += 1;
            }
        }
    }

    fn every_node(&mut self, model: &Model, change: &Change) {
        let after = Arc::clone(&self.definitions);
        let concerned = Concerned::by(&model.org, change, [&model.definitions, &after]);
        // What else stands on a node neither changes nor is met by what can change.
        let [before, related] = related(change, [&model.definitions, &after]);
        let mut rivals = Rivals::of(change, &after);
        for (id, node) in &model.nodes {
            // Where a policy could place nothing, it neither wins nor makes another one lose.
            let Some(view) = node.placeable().filter(|view| concerned.reach(view)) else {
                self.untouched += 1;
                continue;
            };
            let old = place(&model.org, view, &before);
            let new = place(&model.org, view, &related);
            if let Some(rivals) = &mut rivals {
                rivals.meet(&model.org, view, &old, &new);
            }
            let changes = difference(id, &old, &new);
            if changes.is_empty() {
                self.untouched += 1;
                continue;
            }
            self.changes.extend(changes);
            self.placements.push(NodePlacement {
                node: id.clone(),
                deployments: place(&model.org, view, &after),
            });
        }
        self.rivals = rivals.map_or_else(Vec::new, Rivals::told);
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
        Change::PutFacts { node, .. }
        | Change::SetPattern { node, .. }
        | Change::RevokeNode(node)
        | Change::RemoveNode(node) => Some(node),
        Change::PutService(_)
        | Change::RemoveService { .. }
        | Change::PutPolicy(_)
        | Change::RemovePolicy(_)
        | Change::PutPattern(_)
        | Change::RemovePattern(_)
        | Change::Follow(_)
        | Change::SetDefaultManager(_) => None,
    }
}

/// What a change can change the effect of: policies, as they were and as they will be, and patterns.
struct Concerned<'a> {
    policies: Vec<&'a DeploymentPolicy>,
    patterns: BTreeSet<PatternId>,
}

impl<'a> Concerned<'a> {
    fn by(org: &OrgId, change: &Change, definitions: [&'a Definitions; 2]) -> Self {
        let of_both = definitions.into_iter().flat_map(|definitions| {
            let services = services_of(change, definitions);
            let policies = definitions.policies.iter();
            policies.filter(move |(name, one)| match change {
                Change::PutPolicy(record) => record.name == **name,
                Change::RemovePolicy(removed) => removed == *name,
                Change::SetDefaultManager(_) => true,
                _ => services.contains(one.document.service()),
            })
        });
        let policies = of_both.map(|(_, one)| &one.document).collect();
        let mut patterns = BTreeSet::new();
        match change {
            Change::PutPattern(PatternRecord { name, .. }) | Change::RemovePattern(name) => {
                let (org, name) = (org.clone(), name.clone());
                patterns.insert(PatternId { org, name });
            }
            // Of other organisations' patterns too: references are looked up in the nodes' own.
            Change::SetDefaultManager(_) => {
                for one in definitions {
                    let foreign = one.foreign.values();
                    let foreign = foreign.flat_map(|public| public.patterns.keys());
                    patterns.extend(one.patterns.keys().chain(foreign).cloned());
                }
            }
            _ => {
                for one in definitions {
                    let services = services_of(change, one);
                    let concerned = one.patterns.iter().filter(|(_, pattern)| {
                        let mut own = pattern.document.services().into_iter();
                        own.any(|service| services.contains(service))
                    });
                    patterns.extend(concerned.map(|(id, _)| id.clone()));
                }
            }
        }
        Self { policies, patterns }
    }

    fn reach(&self, node: &NodeView) -> bool {
        match node.pattern() {
            Some(pattern) => self.patterns.contains(pattern),
            None => self.policies.iter().any(|policy| could_place(node, policy)),
        }
    }
}

/// Both definitions with those policies alone whose services a change can change, or can meet there.
fn related(change: &Change, definitions: [&Definitions; 2]) -> [Definitions; 2] {
    let mut services: BTreeSet<ServiceId> = match change {
        Change::SetDefaultManager(_) => return definitions.map(Clone::clone),
        Change::PutPolicy(PolicyRecord { name, .. }) | Change::RemovePolicy(name) => {
            let of_both = definitions.iter().filter_map(|one| one.policies.get(name));
            let services = of_both.map(|policy| policy.document.service().clone());
            services.collect()
        }
        _ => {
            let of_both = definitions.iter();
            of_both.flat_map(|one| services_of(change, one)).collect()
        }
    };
    // What one of them relates can be related further by the other.
    let mut known = usize::MAX;
    while services.len() != known {
        known = services.len();
        for one in definitions {
            one.services.add_related(&mut services);
        }
    }
    definitions.map(|definitions| Definitions {
        policies: (definitions.policies).only(|policy| services.contains(policy.service())),
        ..definitions.clone()
    })
}

/// The service whose definition is changed, and all that require it.
fn services_of(change: &Change, definitions: &Definitions) -> BTreeSet<ServiceId> {
    let url = match change {
        Change::PutService(record) => &record.url,
        Change::RemoveService { url, .. } => url,
        _ => return BTreeSet::new(),
    };
    let changed = definitions.services.ids().filter(|id| id.url == *url);
    let mut found: BTreeSet<ServiceId> = changed.cloned().collect();
    definitions.services.add_dependents(&mut found);
    found
}

/// The definitions with this one policy alone.
pub(super) fn alone(definitions: &Definitions, policy: &PolicyName) -> Definitions {
    let only = definitions.policies.get(policy);
    Definitions {
        policies: only
            .map(|one| (policy.clone(), Arc::clone(one)))
            .into_iter()
            .collect(),
        ..definitions.clone()
    }
}
