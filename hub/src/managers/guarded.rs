//! A manager as the hub uses it: within its path policy and its bounds, and counted.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::cache::{Answer, Cache, Life};
use super::gate::{Gate, Limits};
use super::policy::PathPolicy;
use super::{
    Description, Engine, Fault, Health, Kind, LeaseHandle, ListQuery, ManagerError, ManagerName,
    Minted, NewCredential, Page, SecretManager, SecretRef, Target, Term, Version,
};

/// What the hub's configuration says of a manager, whatever its kind.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which organisation may reach what there.
    pub paths: PathPolicy,
    /// How much it is asked.
    pub limits: Limits,
    /// How often secrets are looked at, while the limits allow it.
    pub poll: Duration,
    /// How long values are kept in the hub's memory.
    pub cache: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            paths: PathPolicy::default(),
            limits: Limits {
                concurrent: 8,
                per_second: 20,
            },
            poll: Duration::from_secs(10),
            cache: Duration::from_secs(300),
        }
    }
}

/// What a manager is asked to do, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// What there is, without a value.
    Describe,
    /// Whether it is well.
    Health,
    /// What there is, by name.
    List,
    /// A new credential.
    Mint,
    /// A value.
    Read,
    /// A longer life for a lease.
    Renew,
    /// The end of a lease.
    Revoke,
    /// A new value or secret.
    Write,
}

impl Call {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Health => "health",
            Self::List => "list",
            Self::Mint => "mint",
            Self::Read => "read",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Write => "write",
        }
    }
}

/// How often something was asked, and how long it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How often.
    pub calls: u64,
    /// Altogether.
    pub time: Duration,
}

/// By what was asked and what came of it: `ok`, or a fault's code.
pub type Counts = BTreeMap<(Call, &'static str), Count>;

/// A manager behind its gate.
pub struct Guarded {
    /// What it is called.
    pub name: ManagerName,
    /// What the configuration says of it.
    pub settings: Settings,
    manager: Arc<dyn SecretManager>,
    gate: Gate,
    values: Arc<Cache>,
    counts: Mutex<Counts>,
    last_trouble: Mutex<Option<ManagerError>>,
}

impl Guarded {
    /// Puts a gate before a manager.
    #[must_use]
    pub fn new(name: ManagerName, manager: Arc<dyn SecretManager>, settings: Settings) -> Self {
        Self {
            name,
            gate: Gate::new(settings.limits),
            settings,
            manager,
            values: Arc::default(),
            counts: Mutex::default(),
            last_trouble: Mutex::default(),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.manager.kind()
    }

    /// See [`SecretManager::epoch`].
    #[must_use]
    pub fn epoch(&self) -> Option<String> {
        self.manager.epoch()
    }

    /// What was asked of it so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many credentials were asked for of which nobody knows whether they were made.
    #[must_use]
    pub fn unknown_outcomes(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = (Call::Mint, Fault::OutcomeUnknown.as_str());
        counts.get(&unknown).map_or(0, |count| count.calls)
    }

    /// How many values are kept.
    #[must_use]
    pub fn kept_values(&self) -> usize {
        self.values.len()
    }

    /// What is wrong with the manager as a whole, since it last went well.
    #[must_use]
    pub fn trouble(&self) -> Option<ManagerError> {
        self.last_trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// For how long still the manager is left alone, because it is in trouble.
    #[must_use]
    pub fn left_alone(&self) -> Option<Duration> {
        self.gate.is_open().map(|(left, _)| left)
    }

    /// What a call would hear now without the manager being asked, because it is left alone.
    #[must_use]
    pub fn held_back(&self) -> Option<ManagerError> {
        let (left, error) = self.gate.is_open()?;
        Some(error.after(Some(left)).unasked())
    }

    /// Whether the organisation may have this secret of this manager at all.
    ///
    /// # Errors
    /// [`Fault::Invalid`] when the reference is none of this manager's, [`Fault::OutOfPolicy`] when the
    /// path policy does not give it.
    pub fn admit(&self, target: Target<'_>) -> Result<(), ManagerError> {
        let place = self.manager.place(target)?;
        if self.settings.paths.allows(target.org, &place) {
            return Ok(());
        }
        let (org, name) = (target.org, &self.name);
        Err(ManagerError::new(
            Fault::OutOfPolicy,
            format!("{place} at {name} is not for {org}: the hub's configuration says what is"),
        ))
    }

    /// See [`SecretManager::health`]. It is asked whatever the gate says; when it is well the gate opens.
    ///
    /// # Errors
    /// Its own.
    pub async fn health(&self) -> Result<Health, ManagerError> {
        // Somebody wants to know now, whatever was wrong before.
        let began = Instant::now();
        let result = self.manager.health().await;
        if result.is_ok() {
            self.gate.found_well();
        }
        self.count(Call::Health, began, &result);
        result
    }

    /// See [`SecretManager::describe`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        self.admit(target)?;
        self.pass(Call::Describe, self.manager.describe(target))
            .await
    }

    /// See [`SecretManager::describe_all`]: one turn for all of them.
    pub async fn describe_all(
        &self,
        targets: &[Target<'_>],
    ) -> Vec<Result<Description, ManagerError>> {
        let admitted: Vec<_> = targets.iter().map(|target| self.admit(*target)).collect();
        let asked: Vec<_> = targets
            .iter()
            .zip(&admitted)
            .filter(|(_, admitted)| admitted.is_ok())
            .map(|(target, _)| *target)
            .collect();
        let answers = self.ask(&asked).await;
        let mut answers = answers.into_iter();
        let unanswered = || {
            Err(ManagerError::new(
                Fault::Failed,
                "the backend left it unanswered",
            ))
        };
        admitted
            .into_iter()
            .map(|admitted| match admitted {
                Ok(()) => answers.next().unwrap_or_else(unanswered),
                Err(error) => Err(error),
            })
            .collect()
    }

    async fn ask(&self, targets: &[Target<'_>]) -> Vec<Result<Description, ManagerError>> {
        if targets.is_empty() {
            return Vec::new();
        }
        if !self.manager.describes_together() {
            // A turn for each: so they keep the pace, and none waits for a manager that does not answer.
            let all: Vec<_> = targets
                .iter()
                .map(|target| self.pass(Call::Describe, self.manager.describe(*target)))
                .collect();
            return stream::iter(all)
                .buffered(self.settings.limits.concurrent)
                .collect()
                .await;
        }
        let entered = match self.gate.enter().await {
            Ok(entered) => entered,
            Err(error) => return vec![Err(error); targets.len()],
        };
        let began = Instant::now();
        let answers = self.manager.describe_all(targets).await;
        // One that is in trouble as a whole speaks for all.
        let of_all = answers
            .iter()
            .find(|answer| {
                answer
                    .as_ref()
                    .is_err_and(|error| error.fault.is_of_the_manager())
            })
            .cloned()
            .map_or(Ok(()), |answer| answer.map(|_| ()));
        entered.leave(&of_all);
        self.count(Call::Describe, began, &of_all);
        answers
    }

    /// Whether the organisation may use it for anything at all.
    #[must_use]
    pub fn is_for(&self, org: &OrgId) -> bool {
        self.settings.paths.leads(org, "")
    }

    /// See [`SecretManager::list`]. What the path policy does not give is left out, and so are folders
    /// that lead to nothing it gives.
    ///
    /// # Errors
    /// Its own, and the gate's; [`Fault::OutOfPolicy`] for such a folder itself; [`Fault::Unsupported`]
    /// when it is to look for labels and its listings tell none, or for a text and it cannot.
    pub async fn list(&self, org: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        let folder = match query.prefix.trim_end_matches('/') {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        if !self.leads(org, &folder) {
            let name = &self.name;
            return Err(ManagerError::new(
                Fault::OutOfPolicy,
                format!(
                    "nothing in {name}:{folder} is for {org}: the hub's configuration says what is"
                ),
            ));
        }
        if !query.labels.is_empty() && !self.manager.lists_labels() {
            return Err(ManagerError::new(
                Fault::Unsupported,
                format!(
                    "the listings of {} tell no labels, so nothing can be listed by them: leave them \
                     out",
                    self.name
                ),
            ));
        }
        if query.search.is_some() && !self.manager.searches() {
            return Err(ManagerError::new(
                Fault::Unsupported,
                format!(
                    "{} cannot be searched: list a folder of it instead",
                    self.name
                ),
            ));
        }
        let mut page = self.pass(Call::List, self.manager.list(org, query)).await?;
        page.entries
            .retain(|entry| self.is_listed(org, &entry.path));
        Ok(page)
    }

    fn is_listed(&self, org: &OrgId, path: &str) -> bool {
        if path.ends_with('/') {
            return self.leads(org, path);
        }
        // A name that no reference can have can be reached by its id, where it has one.
        let reference = format!("{}:{path}", self.name).parse();
        reference.is_ok_and(|reference| {
            let target = Target {
                org,
                reference: &reference,
            };
            self.admit(target).is_ok()
        })
    }

    /// Whether a folder, as a listing has it, may lead to what the path policy gives. A policy is of
    /// places, as the manager names them: that of a folder is told from what could be in it.
    fn leads(&self, org: &OrgId, folder: &str) -> bool {
        let paths = &self.settings.paths;
        if folder.is_empty() {
            return paths.leads(org, folder);
        }
        let Some((reference, inside)) = self.inside(folder) else {
            return false;
        };
        let target = Target {
            org,
            reference: &reference,
        };
        let place = self.manager.place(target).ok();
        let place = place
            .as_deref()
            .and_then(|place| place.strip_suffix(inside));
        paths.leads(org, place.unwrap_or(folder))
    }

    /// A reference of something that could be in a folder, as a listing has it, and what stands in it
    /// behind the folder; none where no reference can be written so.
    #[must_use]
    pub fn inside(&self, folder: &str) -> Option<(SecretRef, &'static str)> {
        // The folders of users and of nodes are no place for secrets themselves.
        ["xx", "xx/xx"].into_iter().find_map(|inside| {
            let reference = format!("{}:{folder}{inside}", self.name).parse().ok()?;
            Some((reference, inside))
        })
    }

    /// See [`SecretManager::versions`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        self.admit(target)?;
        self.pass(Call::List, self.manager.versions(target)).await
    }

    /// The payload of a version: read once, whoever asks for it and how many, and kept for a while.
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn read(self: &Arc<Self>, target: Target<'_>, version: &SecretVersion) -> Answer {
        self.admit(target)?;
        let (org, reference) = (target.org.clone(), target.reference.clone());
        let key = (org.clone(), reference.clone(), version.clone());
        let life = Life {
            value: self.settings.cache,
            refusal: REFUSAL,
        };
        let (guarded, version) = (Arc::clone(self), version.clone());
        let read = async move {
            let target = Target {
                org: &org,
                reference: &reference,
            };
            let read = guarded.manager.read(target, &version);
            guarded.pass(Call::Read, read).await
        };
        self.values.get(key, life, read).await
    }

    /// Forgets the values that are kept of a secret.
    pub fn forget(&self, target: Target<'_>) {
        self.values.forget(target.org, target.reference);
    }

    /// See [`SecretManager::mint`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        self.admit(target)?;
        self.pass(Call::Mint, self.manager.mint(target)).await
    }

    /// See [`SecretManager::renew`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        self.pass(Call::Renew, self.manager.renew(handle, want))
            .await
    }

    /// See [`SecretManager::revoke`]. What was given may always be taken back, whatever the path policy
    /// says by now.
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        self.pass(Call::Revoke, self.manager.revoke(handle)).await
    }

    /// See [`SecretManager::write`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn write(
        &self,
        target: Target<'_>,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        self.admit(target)?;
        let write = self.manager.write(target, payload, expected);
        let written = self.pass(Call::Write, write).await;
        self.forget(target);
        written
    }

    /// See [`SecretManager::create`].
    ///
    /// # Errors
    /// Its own, and the gate's.
    pub async fn create(
        &self,
        target: Target<'_>,
        new: &NewCredential,
    ) -> Result<(), ManagerError> {
        self.admit(target)?;
        self.pass(Call::Write, self.manager.create(target, new))
            .await
    }

    /// See [`SecretManager::put_engine`]: for an organisation that shares the manager's engine with none,
    /// or may have everything there.
    ///
    /// # Errors
    /// Its own, and the gate's; [`Fault::OutOfPolicy`] for any other organisation.
    pub async fn put_engine(
        &self,
        org: &OrgId,
        name: &str,
        key: &Secret,
    ) -> Result<Engine, ManagerError> {
        if !self.settings.paths.governs(org) {
            return Err(ManagerError::new(
                Fault::OutOfPolicy,
                format!(
                    "the engine of {} makes the credentials of other organisations too: one that may \
                     reach everything there (`*`) configures it",
                    self.name
                ),
            ));
        }
        self.pass(Call::Write, self.manager.put_engine(name, key))
            .await
    }

    /// See [`SecretManager::tend`].
    pub async fn tend(&self) {
        self.values.purge();
        self.manager.tend().await;
    }

    async fn pass<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, ManagerError>>,
    ) -> Result<T, ManagerError> {
        let entered = self.gate.enter().await?;
        let began = Instant::now();
        let result = work.await;
        entered.leave(&result);
        self.count(call, began, &result);
        result
    }

    fn count<T>(&self, call: Call, began: Instant, result: &Result<T, ManagerError>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) => error.fault.as_str(),
        };
        let mut trouble = self
            .last_trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match result {
            Err(error) if error.fault.is_of_the_manager() => *trouble = Some(error.clone()),
            _ => *trouble = None,
        }
        drop(trouble);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((call, outcome)).or_default();
        count.calls += 1;
        count.time += began.elapsed();
    }
}

/// How long it is believed that a secret cannot be had.
const REFUSAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
