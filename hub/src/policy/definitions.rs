//! The definitions of one organisation, found by what they are asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_secrets_protocol::{OrgId, PatternId, ServiceId, UserId};

use super::{Pattern, Policies, ServiceDefinition};
use crate::managers::ManagerName;

/// A document with who published it.
#[derive(Debug)]
pub struct Published<T> {
    /// Who.
    pub owner: UserId,
    /// What.
    pub document: T,
}

/// Everything that decides what nodes get. Clones share the documents.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Every service definition.
    pub services: Services,
    /// Every deployment policy, by name.
    pub policies: Policies,
    /// Every pattern of the organisation's own.
    pub patterns: BTreeMap<PatternId, Arc<Published<Pattern>>>,
    /// What other organisations publish for all, as far as nodes of this one are on their patterns.
    pub foreign: BTreeMap<OrgId, Arc<Public>>,
    /// The secrets manager that references without one mean; the hub's own when absent.
    pub default_manager: Option<ManagerName>,
}

/// What an organisation publishes for others.
#[derive(Debug, Clone, Default)]
pub struct Public {
    /// Its public service definitions.
    pub services: Services,
    /// Its public patterns.
    pub patterns: BTreeMap<PatternId, Arc<Published<Pattern>>>,
}

impl Definitions {
    /// A pattern of the organisation's own, or a public one of another.
    #[must_use]
    pub fn pattern(&self, id: &PatternId) -> Option<&Arc<Published<Pattern>>> {
        self.pattern_entry(id).map(|(_, pattern)| pattern)
    }

    /// The same, with the name as it stands here.
    pub(super) fn pattern_entry(
        &self,
        id: &PatternId,
    ) -> Option<(&PatternId, &Arc<Published<Pattern>>)> {
        let foreign = || self.foreign.get(&id.org)?.patterns.get_key_value(id);
        self.patterns.get_key_value(id).or_else(foreign)
    }

    /// The service definitions that count on a node which is on this pattern, or on policies: those of
    /// the pattern's organisation and no others, so that neither organisation's definitions take the
    /// place of the other's.
    pub(super) fn services_on(&self, pattern: Option<&PatternId>) -> &Services {
        let foreign = pattern.and_then(|id| self.foreign.get(&id.org));
        foreign.map_or(&self.services, |public| &public.services)
    }
}

/// Service definitions by service: of each the highest version first, then those for a named
/// architecture, then by how they are written.
#[derive(Debug, Clone, Default)]
pub struct Services(BTreeMap<ServiceId, Vec<Arc<Published<ServiceDefinition>>>>);

impl Services {
    /// The definitions of a service.
    #[must_use]
    pub fn of(&self, service: &ServiceId) -> &[Arc<Published<ServiceDefinition>>] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }

    /// The definition with this version and architecture, as written.
    #[must_use]
    pub fn get(
        &self,
        service: &ServiceId,
        version: &str,
        arch: &str,
    ) -> Option<&Arc<Published<ServiceDefinition>>> {
        let mut found = self.of(service).iter();
        found.find(|one| one.document.version() == version && one.document.arch() == arch)
    }

    /// Adds a definition, in the place of the one with the same version and architecture.
    pub fn put(&mut self, definition: Arc<Published<ServiceDefinition>>) {
        let own = &definition.document;
        self.remove(own.id(), own.version(), own.arch());
        let of_service = self.0.entry(own.id().clone()).or_default();
        of_service.push(definition);
        of_service.sort_by(|a, b| order(&a.document).cmp(&order(&b.document)));
    }

    /// Removes the definition with this version and architecture, as written.
    pub fn remove(&mut self, service: &ServiceId, version: &str, arch: &str) {
        if let Some(of_service) = self.0.get_mut(service) {
            of_service
                .retain(|one| one.document.version() != version || one.document.arch() != arch);
            if of_service.is_empty() {
                self.0.remove(service);
            }
        }
    }

    /// Every definition.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Published<ServiceDefinition>>> {
        self.0.values().flatten()
    }

    /// Adds every service that requires one of these, directly or through others.
    pub fn add_dependents(&self, services: &mut BTreeSet<ServiceId>) {
        loop {
            let requires = |one: &&Arc<Published<ServiceDefinition>>| {
                let mut required = one.document.requirements().iter();
                !services.contains(one.document.id())
                    && required.any(|requirement| services.contains(&requirement.service))
            };
            let more: Vec<_> = self
                .iter()
                .filter(requires)
                .map(|one| one.document.id().clone())
                .collect();
            if more.is_empty() {
                return;
            }
            services.extend(more);
        }
    }

    /// Adds every service that can stand on a node because of these or beside these: what requires one
    /// of them, what one of them requires, and so on. Policies for other services never meet those for
    /// these.
    pub fn add_related(&self, services: &mut BTreeSet<ServiceId>) {
        loop {
            let known = services.len();
            for one in self.iter().map(|one| &one.document) {
                let required = one.requirements().iter().map(|required| &required.service);
                let mut both = required.clone().chain([one.id()]);
                if both.any(|service| services.contains(service)) {
                    services.extend(required.chain([one.id()]).cloned());
                }
            }
            if services.len() == known {
                return;
            }
        }
    }

    /// Every service.
    pub fn ids(&self) -> impl Iterator<Item = &ServiceId> {
        self.0.keys()
    }
}

fn order(definition: &ServiceDefinition) -> impl Ord + '_ {
    (
        Reverse(definition.parsed_version()),
        !definition.parsed_arch().is_named(),
        definition.version(),
        definition.arch(),
    )
}

impl FromIterator<(UserId, ServiceDefinition)> for Services {
    fn from_iter<I: IntoIterator<Item = (UserId, ServiceDefinition)>>(definitions: I) -> Self {
        let mut services = Self::default();
        for (owner, document) in definitions {
            services.put(Arc::new(Published { owner, document }));
        }
        services
    }
}
