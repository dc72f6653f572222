//! `services.d/*.yaml`: read, checked, remembered, and looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_secrets_protocol::{ConsumerName, ServiceId};

use super::names::UnitName;
use super::profile::{Profile, Shape, Workload};
use crate::delivery::ConsumerId;
use crate::status::ProfileProblem;

/// The profiles in force. Never contradict each other: at most one for a service's consumer (and one
/// for all of its others), and at most one for a unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profiles {
    by_consumer: BTreeMap<(ServiceId, Option<ConsumerName>), Arc<Profile>>,
    by_unit: BTreeMap<UnitName, Arc<Profile>>,
}

impl Profiles {
    /// The last of those for one service and consumer counts.
    #[cfg(test)]
    pub(crate) fn of_list(list: Vec<Profile>) -> Self {
        let by_consumer = list.into_iter().map(|profile| {
            let key = (profile.service.clone(), profile.consumer.clone());
            (key, Arc::new(profile))
        });
        Self {
            by_consumer: by_consumer.collect(),
            by_unit: BTreeMap::new(),
        }
    }

    /// The consumer's own profile, else the one for all consumers of its service.
    pub(crate) fn of(&self, consumer: &ConsumerId) -> Option<&Arc<Profile>> {
        let own = (consumer.service.clone(), Some(consumer.consumer.clone()));
        let all = (consumer.service.clone(), None);
        self.by_consumer
            .get(&own)
            .or_else(|| self.by_consumer.get(&all))
    }

    /// How the consumer's files look; the default shape where no profile says anything.
    pub(crate) fn shape(&self, consumer: &ConsumerId) -> Shape {
        self.of(consumer)
            .map(|profile| profile.shape.clone())
            .unwrap_or_default()
    }

    /// The profile that gives the unit its credentials: by its own name, else by its template's.
    pub(crate) fn of_unit(&self, unit: &UnitName) -> Option<&Arc<Profile>> {
        let template = unit.template();
        self.by_unit
            .get(unit)
            .or_else(|| self.by_unit.get(&template?))
    }

    /// Every unit and container that some consumer's life hangs on.
    pub(crate) fn workloads(&self) -> BTreeSet<Workload> {
        let lifecycles = self.iter().filter_map(|profile| profile.lifecycle.as_ref());
        lifecycles.map(|life| life.workload.clone()).collect()
    }

    /// Every profile, once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.by_consumer.values()
    }
}

/// The directory, what was read of it last, and what was good before.
#[derive(Debug)]
pub(crate) struct ProfileStore {
    dir: PathBuf,
    kept: PathBuf,
    profiles: Arc<Profiles>,
    problems: Vec<ProfileProblem>,
}

impl ProfileStore {
    /// Reads `dir` for the first time. `kept` is a directory of the agent's own where the last good
    /// version of each file is remembered over restarts and reboots.
    pub(crate) fn open(dir: &Path, kept: &Path) -> Self {
        let mut store = Self {
            dir: dir.to_owned(),
            kept: kept.to_owned(),
            profiles: Arc::default(),
            problems: Vec::new(),
        };
        store.reload();
        store
    }

    /// Reads the directory again; says whether the profiles in force, or what is wrong with the
    /// files, are others than before.
    pub(crate) fn reload(&mut self) -> bool {
        let _ = (&self.dir, &self.kept);
        false
    }

    /// What is in force.
    pub(crate) fn profiles(&self) -> Arc<Profiles> {
        self.profiles.clone()
    }

    /// What is wrong with the files, and what is doubtful in them.
    pub(crate) fn problems(&self) -> &[ProfileProblem] {
        &self.problems
    }

    /// Every file and directory whose change is a reason to [`reload`](Self::reload).
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        vec![self.dir.clone()]
    }
}

#[cfg(test)]
impl Profiles {
    /// Profiles as if they had been read from files.
    pub(crate) fn of_these(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let mut all = Self::default();
        for profile in profiles.into_iter().map(Arc::new) {
            let units = profile.credentials.iter().flat_map(|given| &given.units);
            let units = units.map(|unit| (unit.clone(), profile.clone()));
            all.by_unit.extend(units);
            let key = (profile.service.clone(), profile.consumer.clone());
            all.by_consumer.insert(key, profile);
        }
        all
    }
}
