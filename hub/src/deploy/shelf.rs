//! What one organisation publishes for others, parsed: shared by all whose nodes are on its patterns.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_secrets_protocol::{OrgId, PatternId, PatternName, ServiceId};

use super::model::{ServiceKey, parse_pattern, parse_service, pattern_id, service_key};
use crate::catalog::records::{PatternRecord, PublicSnapshot, Revision, ServiceRecord};
use crate::policy::{Pattern, Public, Published, ServiceDefinition};

/// An organisation's public documents at one count of their changes.
#[derive(Debug)]
pub struct Shelf {
    /// How often they had changed.
    pub published: Revision,
    /// Every public pattern as it was published.
    pub patterns: BTreeMap<PatternName, Arc<PatternRecord>>,
    /// What parses of all that is public.
    pub public: Arc<Public>,
    services: BTreeMap<ServiceKey, ServiceRecord>,
}

impl Shelf {
    /// Parses a snapshot. What `earlier` has parsed already is taken from it.
    pub(super) fn load(
        publisher: &OrgId,
        snapshot: PublicSnapshot,
        earlier: Option<&Self>,
    ) -> Self {
        let mut public = Public::default();
        let mut services = BTreeMap::new();
        for record in snapshot.services {
            let known = earlier.and_then(|shelf| shelf.parsed_service(publisher, &record));
            if let Some(parsed) = known.or_else(|| parse_service(publisher, &record)) {
                public.services.put(parsed);
            }
            services.insert(service_key(&record), record);
        }
        let mut patterns = BTreeMap::new();
        for record in snapshot.patterns {
            let id = pattern_id(publisher, &record.name);
            let known = earlier.and_then(|shelf| shelf.parsed_pattern(&id, &record));
            if let Some(parsed) = known.or_else(|| parse_pattern(&id, &record)) {
                public.patterns.insert(id, parsed);
            }
            patterns.insert(record.name.clone(), Arc::new(record));
        }
        Self {
            published: snapshot.published,
            patterns,
            public: Arc::new(public),
            services,
        }
    }

    /// Whether there is nothing public.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.services.is_empty()
    }

    fn parsed_service(
        &self,
        publisher: &OrgId,
        record: &ServiceRecord,
    ) -> Option<Arc<Published<ServiceDefinition>>> {
        let known = self.services.get(&service_key(record))?;
        let same = known.document == record.document && known.owner == record.owner;
        let id = ServiceId {
            org: publisher.clone(),
            url: record.url.clone(),
        };
        let parsed = self.public.services.get(&id, &record.version, &record.arch);
        parsed.filter(|_| same).cloned()
    }

    fn parsed_pattern(
        &self,
        id: &PatternId,
        record: &PatternRecord,
    ) -> Option<Arc<Published<Pattern>>> {
        let known = self.patterns.get(&record.name)?;
        let same = known.document == record.document && known.owner == record.owner;
        let parsed = self.public.patterns.get(id);
        parsed.filter(|_| same).cloned()
    }
}
