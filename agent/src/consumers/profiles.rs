//! `services.d/*.yaml`: read, checked, remembered, and looked up.
//!
//! ```text
//! disk: only what root or the agent wrote --> text: each value --> check: what stands beside what
//!                                                                             |
//! kept: good versions, over reboots <-- in force <-- claims: files against each other
//! ```
//!
//! What is right on disk now goes first, in order of the files' names; the good versions of refused
//! files come after it, where they still fit. So no refused file takes anything from a good one.

mod actions;
mod check;
mod claims;
mod disk;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod kept;
mod locate;
mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_secrets_protocol::{ConsumerName, ServiceId};
use tracing::{info, warn};

use self::check::{Checked, MAX_TEMPLATE, Parsed, Wrong, shorten};
use self::claims::Claims;
use self::kept::Kept;
use super::names::UnitName;
use super::profile::{Profile, Workload};
use crate::delivery::ConsumerId;
use crate::status::{ProfileEffect, ProfileProblem};

/// The profiles in force. Never contradict each other: at most one for a service's consumer (and one
/// for all of its others), and at most one for a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profiles {
    by_consumer: BTreeMap<(ServiceId, Option<ConsumerName>), Arc<Profile>>,
    by_unit: BTreeMap<UnitName, Arc<Profile>>,
}

impl Profiles {
    /// The consumer's own profile, else the one for all consumers of its service.
    pub(crate) fn of(&self, consumer: &ConsumerId) -> Option<&Arc<Profile>> {
        let own = (consumer.service.clone(), Some(consumer.consumer.clone()));
        let all = (consumer.service.clone(), None);
        self.by_consumer
            .get(&own)
            .or_else(|| self.by_consumer.get(&all))
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
    kept: Kept,
    kept_dir: PathBuf,
    files: BTreeMap<OsString, ProfileFile>,
    profiles: Arc<Profiles>,
    problems: Vec<ProfileProblem>,
}

/// One file of the directory.
#[derive(Debug, Default)]
struct ProfileFile {
    /// What was read last; none when it must be judged anew whatever it says.
    seen: Option<Seen>,
    /// What came of it; none when the whole directory is refused.
    current: Option<Result<Arc<Checked>, Wrong>>,
    /// The last version that was in force.
    good: Option<Arc<Checked>>,
}

/// A file's text, and its templates' sources, or why they cannot be read.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    text: Result<String, String>,
    sources: BTreeMap<String, Result<String, String>>,
}

impl ProfileStore {
    /// Reads `dir` for the first time. `kept` is a directory of the agent's own where the last good
    /// version of each file is remembered over restarts and reboots.
    pub(crate) fn open(dir: &Path, kept: &Path) -> Self {
        let mut store = Self {
            dir: dir.to_owned(),
            kept: Kept::open(kept),
            kept_dir: kept.to_owned(),
            files: BTreeMap::new(),
            profiles: Arc::default(),
            problems: Vec::new(),
        };
        for (name, version) in store.kept.versions() {
            let read = |source: &str| {
                let text = version.sources.get(source).cloned();
                text.ok_or_else(|| "was not remembered".to_owned())
            };
            let file = dir.join(name);
            let parsed = Parsed::new(&version.text);
            let checked = parsed.and_then(|parsed| parsed.check(&file, &version.text, read));
            // Another agent's version may have taken what this one does not.
            if let Ok(checked) = checked {
                let file = ProfileFile {
                    good: Some(Arc::new(checked)),
                    ..ProfileFile::default()
                };
                store.files.insert(name.clone(), file);
            }
        }
        store.reload();
        store
    }

    /// Reads the directory again; says whether the profiles in force, or what is wrong with the
    /// files, are others than before. Judges only files that have changed.
    pub(crate) fn reload(&mut self) -> bool {
        let refused = self.look();
        let (profiles, mut problems) = self.merge();
        if let Some(reason) = refused {
            let remembered = self.files.values().any(|file| file.good.is_some());
            let wrong = Wrong { line: None, reason };
            problems.insert(0, problem(&self.dir, &wrong, effect(remembered)));
        }
        let good = self.files.iter();
        let good = good.filter_map(|(name, file)| Some((name, &**file.good.as_ref()?)));
        if let Err(error) = self.kept.keep(good) {
            let wrong = Wrong {
                line: None,
                reason: format!(
                    "good profiles cannot be remembered over a restart: {error}; \
                     make room there, and let the agent write"
                ),
            };
            problems.push(problem(&self.kept_dir, &wrong, ProfileEffect::Warning));
        }
        let changed = *self.profiles != profiles || self.problems != problems;
        for new in problems.iter().filter(|new| !self.problems.contains(new)) {
            let (file, line, reason) = (&new.file, new.line, &new.reason);
            match new.effect {
                ProfileEffect::FormerStays => {
                    warn!(%file, line, %reason, "Profiles refused; the former ones stay.");
                }
                ProfileEffect::Ignored => warn!(%file, line, %reason, "Profiles refused."),
                ProfileEffect::Warning => warn!(%file, line, %reason, "Profiles are doubtful."),
            }
        }
        if *self.profiles != profiles {
            info!(profiles = profiles.iter().count(), "Profiles read.");
            self.profiles = Arc::new(profiles);
        }
        self.problems = problems;
        changed
    }

    /// What is in force.
    pub(crate) fn profiles(&self) -> Arc<Profiles> {
        self.profiles.clone()
    }

    /// What is wrong with the files, and what is doubtful in them.
    pub(crate) fn problems(&self) -> &[ProfileProblem] {
        &self.problems
    }

    /// Every file and directory whose change is a reason to [`reload`](Self::reload): the directory,
    /// which may not be there yet, files that are links, and sources of templates.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let mut watched = BTreeSet::from([self.dir.clone()]);
        for (name, file) in &self.files {
            let path = self.dir.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
                watched.insert(path);
            }
            let sources = file.seen.iter().flat_map(|seen| seen.sources.keys());
            watched.extend(sources.map(|source| self.dir.join(source)));
        }
        watched.into_iter().collect()
    }

    /// Reads every file; says why the whole directory is refused, if it is.
    fn look(&mut self) -> Option<String> {
        let names = match disk::list(&self.dir) {
            Ok(names) => names,
            Err(reason) => {
                for file in self.files.values_mut() {
                    (file.seen, file.current) = (None, None);
                }
                return Some(reason);
            }
        };
        let listed: BTreeSet<&OsString> = names.iter().collect();
        self.files.retain(|name, _| listed.contains(name));
        for (at, name) in names.iter().enumerate() {
            let file = self.files.entry(name.clone()).or_default();
            if at < MAX_FILES {
                file.look(&self.dir, name);
            } else {
                let reason = format!("is one of more than {MAX_FILES} files: merge some");
                let wrong = Wrong { line: None, reason };
                (file.seen, file.current) = (None, Some(Err(wrong)));
            }
        }
        None
    }

    fn merge(&mut self) -> (Profiles, Vec<ProfileProblem>) {
        let mut claims = Claims::default();
        let mut refused = BTreeMap::new();
        let mut problems = BTreeMap::new();
        for (name, file) in &mut self.files {
            let name = name.clone();
            let taken = match &file.current {
                Some(Ok(current)) => claims.take(current).map(|()| current),
                Some(Err(wrong)) => Err(wrong.clone()),
                None => {
                    refused.insert(name, None);
                    continue;
                }
            };
            match taken {
                Ok(current) => {
                    let warnings = current.warnings.iter();
                    let warnings = warnings
                        .map(|warning| problem(&current.file, warning, ProfileEffect::Warning));
                    problems.insert(name, warnings.collect::<Vec<_>>());
                    file.good = Some(current.clone());
                }
                Err(wrong) => {
                    refused.insert(name, Some(wrong));
                }
            }
        }
        for (name, wrong) in refused {
            let good = self.files.get(&name).and_then(|file| file.good.as_ref());
            let former = good.map(|good| claims.take(good));
            let Some(mut wrong) = wrong else {
                continue;
            };
            if let Some(Err(clash)) = &former
                && clash.reason != wrong.reason
            {
                let reason = format!("; nor can its former version stay: {}", clash.reason);
                wrong.reason.push_str(&reason);
            }
            let effect = effect(matches!(former, Some(Ok(()))));
            let file = self.dir.join(&name);
            problems.insert(name, vec![problem(&file, &wrong, effect)]);
        }
        let problems = problems.into_values().flatten().collect();
        (claims.into_profiles(), problems)
    }
}

impl ProfileFile {
    /// Reads the file and judges it if it, or a template's source, is not what it was.
    fn look(&mut self, dir: &Path, name: &OsStr) {
        let path = dir.join(name);
        let text = disk::read(&path, MAX_FILE);
        let read = |source: &str| disk::read(&dir.join(source), MAX_TEMPLATE);
        let all = |sources: &mut dyn Iterator<Item = String>| {
            sources
                .map(|source| {
                    let text = read(&source);
                    (source, text)
                })
                .collect()
        };
        if let Some(seen) = &self.seen
            && seen.text == text
            && seen.sources == all(&mut seen.sources.keys().cloned())
        {
            return;
        }
        let mut seen = Seen {
            text,
            sources: BTreeMap::new(),
        };
        let current = match &seen.text {
            Ok(text) => Parsed::new(text).and_then(|parsed| {
                seen.sources = all(&mut parsed.sources().into_iter());
                parsed.check(&path, text, |source| match seen.sources.get(source) {
                    Some(text) => text.clone(),
                    None => Err("was not read".to_owned()),
                })
            }),
            Err(reason) => Err(Wrong {
                line: None,
                reason: reason.clone(),
            }),
        };
        self.seen = Some(seen);
        self.current = Some(current.map(Arc::new));
    }
}

fn effect(former_stays: bool) -> ProfileEffect {
    if former_stays {
        ProfileEffect::FormerStays
    } else {
        ProfileEffect::Ignored
    }
}

fn problem(file: &Path, wrong: &Wrong, effect: ProfileEffect) -> ProfileProblem {
    ProfileProblem {
        file: shorten(&file.display().to_string()),
        line: wrong.line,
        reason: wrong.reason.clone(),
        effect,
    }
}

const MAX_FILES: usize = 256;
/// In bytes.
const MAX_FILE: u64 = 256 * 1024;

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
