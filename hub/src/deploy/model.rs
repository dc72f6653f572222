//! One organisation's definitions and nodes, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::{
    NodeId, OrgId, PatternId, PatternName, PolicyName, ServiceId, ServiceUrl, UserId,
};
use tracing::warn;

use super::shelf::Shelf;
use crate::catalog::records::{
    Basis, Belonging, Change, NodeRecord, OrgSnapshot, PatternRecord, PolicyRecord, Revision,
    ServiceRecord,
};
use crate::policy::{
    Definitions, DeploymentPolicy, DocumentError, NodeView, Pattern, Published, ServiceDefinition,
};

/// What names one service definition: url, version and architecture, as written.
pub type ServiceKey = (ServiceUrl, String, String);

/// An organisation at one revision.
///
/// A stored document that does not parse (a newer hub may have written it) stands in the records
/// but not in [`definitions`](Self::definitions): it places nothing and keeps nothing else from
/// being placed.
#[derive(Debug, Clone)]
pub struct Model {
    /// The organisation.
    pub org: OrgId,
    /// Its revision.
    pub revision: Revision,
    /// Every service definition as it was published.
    pub services: BTreeMap<ServiceKey, Arc<ServiceRecord>>,
    /// Every policy as it was published.
    pub policies: BTreeMap<PolicyName, Arc<PolicyRecord>>,
    /// Every pattern as it was published.
    pub patterns: BTreeMap<PatternName, Arc<PatternRecord>>,
    /// What of all three parses, with that of the shelves.
    pub definitions: Arc<Definitions>,
    /// Every node, the revoked ones too.
    pub nodes: BTreeMap<NodeId, Arc<NodeModel>>,
    /// The other organisations on whose patterns nodes are.
    pub publishers: BTreeSet<OrgId>,
    /// What they, and perhaps more, publish.
    pub shelves: BTreeMap<OrgId, Arc<Shelf>>,
}

/// A node as placement sees it.
#[derive(Debug)]
pub struct NodeModel {
    /// Whose it is, and what it is on.
    pub belongs: Belonging,
    /// Whether it was revoked: then nothing is placed on it.
    pub revoked: bool,
    /// Its facts with their types, or why they have none.
    pub view: Result<NodeView, DocumentError>,
    /// What the view was made of.
    pub facts: [u8; 32],
    /// Whether this process placed it: then the same facts again change nothing.
    pub settled: bool,
}

impl NodeModel {
    /// A node with these facts, not yet placed by this process.
    #[must_use]
    pub fn new(org: &OrgId, node: &NodeId, belongs: &Belonging, facts: &NodeFacts) -> Self {
        let view = NodeView::new(node, belongs.owner.as_ref(), facts);
        let view = view.map(|view| view.on(belongs.pattern.clone()));
        if let Err(error) = &view {
            warn!(%org, %node, %error, "The facts of a node do not parse; nothing is placed on it.");
        }
        Self {
            belongs: belongs.clone(),
            revoked: false,
            view,
            facts: fingerprint(facts),
            settled: false,
        }
    }

    /// What can be placed on, if anything can.
    #[must_use]
    pub fn placeable(&self) -> Option<&NodeView> {
        self.view.as_ref().ok().filter(|_| !self.revoked)
    }

    /// Whose pattern it is on, where that is not its own organisation's.
    fn publisher(&self, org: &OrgId) -> Option<&OrgId> {
        let pattern = self.belongs.pattern.as_ref()?;
        Some(&pattern.org).filter(|publisher| *publisher != org)
    }
}

impl Model {
    /// Parses a snapshot. What `earlier` has parsed already is taken from it, and what other
    /// organisations publish as it was known: see [`meet`](Self::meet).
    #[must_use]
    pub fn load(org: &OrgId, snapshot: OrgSnapshot, earlier: Option<&Self>) -> Self {
        let mut definitions = Definitions {
            default_manager: snapshot.default_manager,
            ..Definitions::default()
        };
        let known = Known(earlier);
        let mut services = BTreeMap::new();
        for record in snapshot.services {
            let parsed = known.service(&record);
            if let Some(parsed) = parsed.or_else(|| parse_service(org, &record)) {
                definitions.services.put(parsed);
            }
            services.insert(service_key(&record), Arc::new(record));
        }
        let mut policies = BTreeMap::new();
        for record in snapshot.policies {
            let parsed = known.policy(&record);
            if let Some(parsed) = parsed.or_else(|| parse_policy(org, &record)) {
                definitions.policies.insert(record.name.clone(), parsed);
            }
            policies.insert(record.name.clone(), Arc::new(record));
        }
        let mut patterns = BTreeMap::new();
        for record in snapshot.patterns {
            let id = pattern_id(org, &record.name);
            let parsed = known.pattern(&id, &record);
            if let Some(parsed) = parsed.or_else(|| parse_pattern(&id, &record)) {
                definitions.patterns.insert(id, parsed);
            }
            patterns.insert(record.name.clone(), Arc::new(record));
        }
        let nodes = snapshot.nodes.into_iter().map(|record| {
            let earlier = earlier.and_then(|model| model.nodes.get(&record.node));
            (record.node.clone(), load_node(org, &record, earlier))
        });
        let nodes: BTreeMap<NodeId, Arc<NodeModel>> = nodes.collect();
        let on = nodes.values().filter_map(|node| node.publisher(org));
        let publishers: BTreeSet<OrgId> = on.cloned().collect();
        let known = earlier.map(|model| &model.shelves).into_iter().flatten();
        let known = known.filter(|(publisher, _)| publishers.contains(*publisher));
        let shelves = known.map(|(publisher, shelf)| (publisher.clone(), Arc::clone(shelf)));
        let mut model = Self {
            org: org.clone(),
            revision: snapshot.revision,
            services,
            policies,
            patterns,
            definitions: Arc::new(definitions),
            nodes,
            publishers: publishers.clone(),
            shelves: BTreeMap::new(),
        };
        model.meet(shelves.collect());
        model
    }

    /// Takes what other organisations publish, in the place of what was known of it.
    pub fn meet(&mut self, shelves: BTreeMap<OrgId, Arc<Shelf>>) {
        if shelves.is_empty() && self.shelves.is_empty() {
            return;
        }
        let public = shelves
            .iter()
            .map(|(publisher, shelf)| (publisher.clone(), Arc::clone(&shelf.public)));
        Arc::make_mut(&mut self.definitions).foreign = public.collect();
        self.shelves = shelves;
    }

    /// What the placements of `change` are computed from, where `node` is what
    /// [`node_after`](Self::node_after) gave: of what others publish no more than they look at, so that
    /// who publishes often keeps nobody else's changes waiting.
    #[must_use]
    pub fn basis(&self, change: &Change, node: Option<&NodeModel>) -> Basis {
        let on = node.and_then(|node| node.publisher(&self.org));
        let is_looked_at = |publisher: &OrgId| match change {
            // They place only nodes on policies and on patterns of the organisation's own.
            Change::PutService(_)
            | Change::RemoveService { .. }
            | Change::PutPolicy(_)
            | Change::RemovePolicy(_)
            | Change::PutPattern(_)
            | Change::RemovePattern(_) => false,
            Change::SetDefaultManager(_) => true,
            Change::Follow(followed) => followed == publisher,
            Change::Enrol(_)
            | Change::PutFacts { .. }
            | Change::SetPattern { .. }
            | Change::RevokeNode(_)
            | Change::RemoveNode(_) => on == Some(publisher),
        };
        let looked_at = self.shelves.iter();
        let looked_at = looked_at.filter(|(publisher, _)| is_looked_at(publisher));
        let published = looked_at.map(|(publisher, shelf)| (publisher.clone(), shelf.published));
        Basis {
            revision: self.revision,
            published: published.collect(),
        }
    }

    /// The definitions as `change` would leave them; the same when it changes none.
    #[must_use]
    pub fn definitions_after(&self, change: &Change) -> Arc<Definitions> {
        let mut definitions = Arc::clone(&self.definitions);
        match change {
            Change::PutService(record) => {
                let definitions = Arc::make_mut(&mut definitions);
                let id = self.id_of(&record.url);
                definitions
                    .services
                    .remove(&id, &record.version, &record.arch);
                if let Some(parsed) = parse_service(&self.org, record) {
                    definitions.services.put(parsed);
                }
            }
            Change::RemoveService { url, version, arch } => {
                let definitions = Arc::make_mut(&mut definitions);
                definitions.services.remove(&self.id_of(url), version, arch);
            }
            Change::PutPolicy(record) => {
                let definitions = Arc::make_mut(&mut definitions);
                definitions.policies.remove(&record.name);
                if let Some(parsed) = parse_policy(&self.org, record) {
                    definitions.policies.insert(record.name.clone(), parsed);
                }
            }
            Change::RemovePolicy(removed) => {
                let definitions = Arc::make_mut(&mut definitions);
                definitions.policies.remove(removed);
            }
            Change::PutPattern(record) => {
                let definitions = Arc::make_mut(&mut definitions);
                let id = self.pattern_id(&record.name);
                definitions.patterns.remove(&id);
                if let Some(parsed) = parse_pattern(&id, record) {
                    definitions.patterns.insert(id, parsed);
                }
            }
            Change::RemovePattern(removed) => {
                let definitions = Arc::make_mut(&mut definitions);
                definitions.patterns.remove(&self.pattern_id(removed));
            }
            Change::SetDefaultManager(manager) => {
                Arc::make_mut(&mut definitions).default_manager = manager.clone();
            }
            Change::Enrol(_)
            | Change::PutFacts { .. }
            | Change::SetPattern { .. }
            | Change::Follow(_)
            | Change::RevokeNode(_)
            | Change::RemoveNode(_) => {}
        }
        definitions
    }

    /// The node as `change` would leave it, with its name; `None` when it touches no node or leaves
    /// none.
    #[must_use]
    pub fn node_after(&self, change: &Change) -> Option<(NodeId, NodeModel)> {
        match change {
            Change::Enrol(enrolment) => {
                let (node, belongs) = (&enrolment.node, &enrolment.belongs);
                let after = NodeModel {
                    settled: true,
                    ..NodeModel::new(&self.org, node, belongs, &enrolment.facts)
                };
                Some((node.clone(), after))
            }
            Change::PutFacts { node, facts } => {
                let before = self.nodes.get(node)?;
                let after = NodeModel {
                    revoked: before.revoked,
                    settled: true,
                    ..NodeModel::new(&self.org, node, &before.belongs, facts)
                };
                Some((node.clone(), after))
            }
            Change::SetPattern { node, pattern } => {
                let before = self.nodes.get(node)?;
                let view = before.view.clone();
                let after = NodeModel {
                    belongs: Belonging {
                        pattern: pattern.clone(),
                        ..before.belongs.clone()
                    },
                    revoked: before.revoked,
                    view: view.map(|view| view.on(pattern.clone())),
                    facts: before.facts,
                    settled: true,
                };
                Some((node.clone(), after))
            }
            Change::RevokeNode(node) => {
                let before = self.nodes.get(node)?;
                let after = NodeModel {
                    belongs: before.belongs.clone(),
                    revoked: true,
                    view: before.view.clone(),
                    facts: before.facts,
                    settled: true,
                };
                Some((node.clone(), after))
            }
            Change::PutService(_)
            | Change::RemoveService { .. }
            | Change::PutPolicy(_)
            | Change::RemovePolicy(_)
            | Change::PutPattern(_)
            | Change::RemovePattern(_)
            | Change::SetDefaultManager(_)
            | Change::Follow(_)
            | Change::RemoveNode(_) => None,
        }
    }

    /// Moves on over a change that was committed at `revision`. `definitions` and `node` are what
    /// [`definitions_after`](Self::definitions_after) and [`node_after`](Self::node_after) gave.
    pub fn advance(
        &mut self,
        change: &Change,
        definitions: Arc<Definitions>,
        node: Option<(NodeId, NodeModel)>,
        revision: Revision,
    ) {
        self.revision = revision;
        self.definitions = definitions;
        if let Some((node, after)) = node {
            self.publishers.extend(after.publisher(&self.org).cloned());
            self.nodes.insert(node, Arc::new(after));
        }
        match change {
            Change::PutService(record) => {
                let record = Arc::new(record.clone());
                self.services.insert(service_key(&record), record);
            }
            Change::RemoveService { url, version, arch } => {
                self.services
                    .remove(&(url.clone(), version.clone(), arch.clone()));
            }
            Change::PutPolicy(record) => {
                let record = Arc::new(record.clone());
                self.policies.insert(record.name.clone(), record);
            }
            Change::RemovePolicy(name) => {
                self.policies.remove(name);
            }
            Change::PutPattern(record) => {
                let record = Arc::new(record.clone());
                self.patterns.insert(record.name.clone(), record);
            }
            Change::RemovePattern(name) => {
                self.patterns.remove(name);
            }
            Change::RemoveNode(node) => {
                self.nodes.remove(node);
            }
            Change::Enrol(_)
            | Change::PutFacts { .. }
            | Change::SetPattern { .. }
            | Change::RevokeNode(_)
            | Change::Follow(_)
            | Change::SetDefaultManager(_) => {}
        }
    }

    /// Whether a node's facts are these already and this process placed it with them.
    #[must_use]
    pub fn is_settled(&self, node: &NodeId, facts: &NodeFacts) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| node.settled && node.facts == fingerprint(facts))
    }

    /// A policy that parses, with who published it.
    #[must_use]
    pub fn policy(&self, name: &PolicyName) -> Option<(&UserId, &DeploymentPolicy)> {
        let policy = self.definitions.policies.get(name)?;
        Some((&policy.owner, &policy.document))
    }

    /// A pattern of the organisation's own that parses.
    #[must_use]
    pub fn pattern(&self, name: &PatternName) -> Option<&Pattern> {
        let patterns = &self.definitions.patterns;
        let pattern = patterns.get(&self.pattern_id(name))?;
        Some(&pattern.document)
    }

    /// The pattern of the organisation's own with this name.
    #[must_use]
    pub fn pattern_id(&self, name: &PatternName) -> PatternId {
        pattern_id(&self.org, name)
    }

    /// The service of the organisation's own with this url.
    #[must_use]
    pub fn id_of(&self, url: &ServiceUrl) -> ServiceId {
        ServiceId {
            org: self.org.clone(),
            url: url.clone(),
        }
    }
}

/// What names the definition of a record.
#[must_use]
pub fn service_key(record: &ServiceRecord) -> ServiceKey {
    (
        record.url.clone(),
        record.version.clone(),
        record.arch.clone(),
    )
}

/// What an earlier model has parsed: of a document that is the same, with the same publisher.
struct Known<'a>(Option<&'a Model>);

impl Known<'_> {
    fn service(&self, record: &ServiceRecord) -> Option<Arc<Published<ServiceDefinition>>> {
        let model = self.0?;
        let known = model.services.get(&service_key(record))?;
        let same = known.document == record.document && known.owner == record.owner;
        let services = &model.definitions.services;
        let parsed = services.get(&model.id_of(&record.url), &record.version, &record.arch);
        parsed.filter(|_| same).cloned()
    }

    fn policy(&self, record: &PolicyRecord) -> Option<Arc<Published<DeploymentPolicy>>> {
        let model = self.0?;
        let known = model.policies.get(&record.name)?;
        let same = known.document == record.document && known.owner == record.owner;
        let parsed = model.definitions.policies.get(&record.name);
        parsed.filter(|_| same).cloned()
    }

    fn pattern(&self, id: &PatternId, record: &PatternRecord) -> Option<Arc<Published<Pattern>>> {
        let model = self.0?;
        let known = model.patterns.get(&record.name)?;
        let same = known.document == record.document && known.owner == record.owner;
        let parsed = model.definitions.patterns.get(id);
        parsed.filter(|_| same).cloned()
    }
}

pub(super) fn pattern_id(org: &OrgId, name: &PatternName) -> PatternId {
    PatternId {
        org: org.clone(),
        name: name.clone(),
    }
}

fn load_node(org: &OrgId, record: &NodeRecord, earlier: Option<&Arc<NodeModel>>) -> Arc<NodeModel> {
    let facts = fingerprint(&record.facts);
    let same = earlier.filter(|earlier| {
        let same = earlier.facts == facts && earlier.belongs == record.belongs;
        same && earlier.revoked == record.revoked
    });
    match same {
        Some(same) => Arc::clone(same),
        None => Arc::new(NodeModel {
            revoked: record.revoked,
            ..NodeModel::new(org, &record.node, &record.belongs, &record.facts)
        }),
    }
}

pub(super) fn parse_service(
    org: &OrgId,
    record: &ServiceRecord,
) -> Option<Arc<Published<ServiceDefinition>>> {
    ServiceDefinition::parse(&record.document)
        .inspect_err(|error| {
            let (url, version) = (&record.url, &record.version);
            warn!(%org, %url, version, %error, "A stored service definition does not parse; skipped.");
        })
        .ok()
        .map(|document| published(&record.owner, document))
}

fn parse_policy(org: &OrgId, record: &PolicyRecord) -> Option<Arc<Published<DeploymentPolicy>>> {
    DeploymentPolicy::parse(&record.document)
        .inspect_err(|error| {
            let policy = &record.name;
            warn!(%org, %policy, %error, "A stored deployment policy does not parse; skipped.");
        })
        .ok()
        .map(|document| published(&record.owner, document))
}

pub(super) fn parse_pattern(
    id: &PatternId,
    record: &PatternRecord,
) -> Option<Arc<Published<Pattern>>> {
    Pattern::parse(&record.document)
        .inspect_err(|error| {
            warn!(pattern = %id, %error, "A stored pattern does not parse; skipped.");
        })
        .ok()
        .map(|document| published(&record.owner, document))
}

fn published<T>(owner: &UserId, document: T) -> Arc<Published<T>> {
    let owner = owner.clone();
    Arc::new(Published { owner, document })
}

/// A digest instead of the facts themselves: a large fleet's would fill the memory.
fn fingerprint(facts: &NodeFacts) -> [u8; 32] {
    // Facts come from JSON and go back to it: writing them does not fail.
    let text = serde_json::to_vec(facts).unwrap_or_default();
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, &text).as_ref());
    print
}
