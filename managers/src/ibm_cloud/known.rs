//! What was seen of the instance, so that it need not be asked again: never a value, always bounded,
//! and never believed where the service says otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::place::Named;
use super::wire::{Metadata, VersionMetadata};

/// The memory.
#[derive(Default)]
pub(super) struct Known(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    ids: HashMap<Named, String>,
    seen: HashMap<String, Seen>,
    groups: Option<(Instant, Arc<GroupIds>)>,
}

/// Groups' ids by their names.
pub(super) type GroupIds = HashMap<String, String>;

#[derive(Clone)]
struct Seen {
    metadata: Arc<Metadata>,
    at: Instant,
    /// Its current version when it looked like this.
    current: Option<(Stamp, Option<VersionMetadata>)>,
}

/// What moves with every rotation. Edits of labels move it too.
type Stamp = (Option<Timestamp>, Option<u64>);

impl Known {
    pub(super) fn id(&self, named: &Named) -> Option<String> {
        self.lock().ids.get(named).cloned()
    }

    pub(super) fn learn_id(&self, named: &Named, id: &str) {
        let mut memory = self.lock();
        bound(&mut memory.ids);
        memory.ids.insert(named.clone(), id.to_owned());
    }

    pub(super) fn forget_id(&self, named: &Named) {
        self.lock().ids.remove(named);
    }

    /// Takes in what the service says of a secret now.
    pub(super) fn learn(&self, metadata: &Arc<Metadata>) {
        let mut memory = self.lock();
        bound(&mut memory.seen);
        let current = memory.seen.remove(&metadata.id).and_then(|s| s.current);
        let seen = Seen {
            metadata: Arc::clone(metadata),
            at: Instant::now(),
            current,
        };
        memory.seen.insert(metadata.id.clone(), seen);
    }

    /// The current version, where nothing moved since it was asked for.
    pub(super) fn current(&self, metadata: &Metadata) -> Option<Option<VersionMetadata>> {
        let memory = self.lock();
        let (stamp, current) = memory.seen.get(&metadata.id)?.current.as_ref()?;
        (metadata.updated_at.is_some() && *stamp == stamp_of(metadata)).then(|| current.clone())
    }

    pub(super) fn learn_current(&self, metadata: &Metadata, current: Option<&VersionMetadata>) {
        if let Some(seen) = self.lock().seen.get_mut(&metadata.id) {
            seen.current = Some((stamp_of(metadata), current.cloned()));
        }
    }

    /// What was said of a secret, if that is at most so long ago.
    pub(super) fn seen(&self, id: &str, within: Duration) -> Option<Arc<Metadata>> {
        let memory = self.lock();
        let seen = memory.seen.get(id)?;
        (seen.at.elapsed() <= within).then(|| Arc::clone(&seen.metadata))
    }

    pub(super) fn forget(&self, id: &str) {
        self.lock().seen.remove(id);
    }

    pub(super) fn groups(&self, within: Duration) -> Option<Arc<GroupIds>> {
        let memory = self.lock();
        let (at, groups) = memory.groups.as_ref()?;
        (at.elapsed() <= within).then(|| Arc::clone(groups))
    }

    /// Takes in the groups that there are. When one is called otherwise now, no name is believed.
    pub(super) fn learn_groups(&self, groups: &Arc<GroupIds>) {
        let mut memory = self.lock();
        if memory
            .groups
            .as_ref()
            .is_some_and(|(_, known)| known != groups)
        {
            memory.ids.clear();
        }
        memory.groups = Some((Instant::now(), Arc::clone(groups)));
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    (metadata.updated_at, metadata.versions_total)
}

/// A memory that is full begins anew: it is no more than calls that are spared.
fn bound<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MOST {
        map.clear();
    }
}

const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ibm_cloud::place::SecretType;

    fn named(name: &str) -> Named {
        Named {
            group: "edge".into(),
            kind: SecretType::Kv,
            name: name.into(),
        }
    }

    #[test]
    fn a_group_that_is_called_otherwise_ends_all_names() {
        let known = Known::default();
        let groups = |name: &str| Arc::new(GroupIds::from([(name.to_owned(), "1".to_owned())]));
        known.learn_groups(&groups("edge"));
        known.learn_id(&named("token"), "2");
        known.learn_groups(&groups("edge"));
        assert_eq!(known.id(&named("token")).as_deref(), Some("2"));
        known.learn_groups(&groups("renamed"));
        assert_eq!(known.id(&named("token")), None);
    }

    #[test]
    fn the_memory_has_a_bound() {
        let known = Known::default();
        for n in 0..=MOST {
            known.learn_id(&named(&n.to_string()), "1");
        }
        assert_eq!(known.lock().ids.len(), 1);
    }
}
