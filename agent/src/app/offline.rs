//! Without a hub: what it said and sent last is gone on with, until that is too old.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_secrets_protocol::binding::{FetchItem, FetchResult};
use edge_secrets_protocol::limits::MAX_BATCH_ITEMS;
use edge_secrets_protocol::status::DeploymentState;
use edge_secrets_protocol::{Code, Sealed};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::agent::{Agent, End};
use crate::cache::{Age, Resealed, SealedCache, Whose};
use crate::clock::{BootMark, Now};
use crate::config::{Cache, Config};
use crate::ends::Desired;
use crate::hub::{Connection, HubError};
use crate::identity::{NodeIdentity, Resealer};
use crate::status::{CacheStatus, HubState};

/// What is kept for times without a hub.
pub(super) struct Offline {
    /// Where the configuration wants one.
    cache: Option<SealedCache>,
    /// What a former life kept, until the hub speaks.
    recalled: Option<Desired>,
    /// What has arrived and is still to be kept.
    fresh: Vec<(FetchItem, Sealed)>,
    /// What the hub has refused when it was asked for to be kept alone.
    refused: BTreeSet<FetchItem>,
    /// Why the last save failed.
    error: Option<String>,
    pub(super) age: Age,
    boot: BootMark,
}

impl Offline {
    /// What a former life kept, of this boot or another one.
    pub(super) fn open(config: &Config, identity: &NodeIdentity, now: Now, boot: BootMark) -> Self {
        let mut offline = Self {
            cache: None,
            recalled: None,
            fresh: Vec::new(),
            refused: BTreeSet::new(),
            error: None,
            age: Age::open(
                &config.state_dir,
                config.offline.max_age.duration(),
                now,
                &boot,
            ),
            boot,
        };
        offline.configure(config, identity, now);
        offline
    }

    /// Switches the cache on or off, as the configuration says. What was kept goes with it.
    pub(super) fn configure(&mut self, config: &Config, identity: &NodeIdentity, now: Now) {
        self.age.may_be(config.offline.max_age.duration());
        match (config.offline.cache, &self.cache) {
            (Cache::Sealed, None) => {
                let (cache, kept) =
                    SealedCache::open(&config.state_dir, whose(identity), now, &self.boot);
                (self.cache, self.recalled) = (Some(cache), kept);
            }
            (Cache::Off, _) => {
                (self.cache, self.recalled, self.error) = (None, None, None);
                self.fresh.clear();
                if let Err(error) = SealedCache::remove(&config.state_dir) {
                    warn!(%error, "The sealed cache is switched off, and not all of it is removed.");
                }
            }
            (Cache::Sealed, Some(_)) => {}
        }
    }

    /// For the status.
    pub(super) fn status(&self, identity: &NodeIdentity) -> Option<CacheStatus> {
        self.cache.as_ref().map(|cache| CacheStatus {
            values: cache.len(),
            sealing_key: identity.custody,
            error: self.error.clone(),
        })
    }

    /// A value has arrived that may be worth keeping.
    pub(super) fn arrived(&mut self, item: &FetchItem, result: &FetchResult) {
        if let (Some(_), FetchResult::Sealed(sealed)) = (&self.cache, result) {
            self.fresh.push((item.clone(), sealed.clone()));
        }
    }

    /// What the hub refused may be asked for again.
    pub(super) fn ask_again(&mut self) {
        self.refused.clear();
    }

    /// Forgets everything, for good.
    pub(super) fn forget(&mut self) {
        self.recalled = None;
        self.fresh.clear();
        let cleared = self.cache.as_ref().map_or(Ok(()), SealedCache::clear);
        self.failed(cleared.err(), RESURFACES);
    }

    /// As [`forget`](Self::forget), and from now on for another enrolment.
    pub(super) fn forget_for(&mut self, identity: &NodeIdentity) {
        self.forget();
        let cleared = self.cache.as_ref();
        let cleared = cleared.map_or(Ok(()), |cache| cache.clear_for(whose(identity)));
        self.failed(cleared.err(), RESURFACES);
    }

    /// Another hub is asked from now on: what this one said is no base for it.
    pub(super) fn forget_words(&mut self) {
        self.recalled = None;
    }

    /// `so` says what that means.
    fn failed(&mut self, error: Option<impl ToString>, so: &str) {
        let error = error.map(|error| format!("{}; {so}", error.to_string()));
        if let Some(error) = error.as_ref().filter(|_| self.error != error) {
            warn!(%error, "The sealed cache is not as it should be.");
        }
        self.error = error;
    }
}

fn whose(identity: &NodeIdentity) -> Whose {
    Whose::new(&identity.org, &identity.node, &identity.enrolment)
}

impl Agent {
    /// Before the hub is reached: goes on with what it said last, unless that is too old.
    pub(super) fn recall(&mut self) {
        let kept = self.offline.recalled.as_ref();
        let kept = kept.map(|desired| desired.bindings().generation);
        self.followed = kept.max(self.reconciler.followed());
        self.grow_old();
        let Some(desired) = &self.offline.recalled else {
            return;
        };
        let generation = desired.bindings().generation;
        if self
            .reconciler
            .newest()
            .is_some_and(|newest| newest > generation)
        {
            info!(%generation, "What is delivered is newer than what is kept; it stays as it is.");
            self.offline.recalled = None;
            return;
        }
        let values = self.offline.cache.as_ref().map_or(0, SealedCache::len);
        info!(%generation, values, "Going on with what is kept until the hub is reached.");
        self.converge_without_hub();
        let pending = |state| state == DeploymentState::Pending;
        if !self
            .reconciler
            .report()
            .deployments
            .iter()
            .any(|d| pending(d.state))
        {
            self.readiness.ready();
        }
    }

    /// Delivers what is kept, where the hub cannot be asked.
    pub(super) fn converge_without_hub(&mut self) {
        if self.board.state() == HubState::Connected {
            return;
        }
        let (Some(cache), Some(desired)) = (
            self.offline.cache.clone(),
            self.desired.as_ref().or(self.offline.recalled.as_ref()),
        ) else {
            return;
        };
        let wanted = self.reconciler.desire(desired, Now::read());
        // A part at a time, so that few values are at hand at once.
        for part in wanted.chunks(PART) {
            let found = part.iter().filter_map(|item| {
                let sealed = cache.find(item)?;
                Some((item.clone(), FetchResult::Sealed(sealed)))
            });
            let found: Vec<_> = found.collect();
            let identity = &self.identity;
            let keys = identity.sealing.all();
            let (org, node) = (&identity.org, &identity.node);
            self.reconciler
                .deliver(org, node, &keys, &found, Now::read());
        }
        for item in self.reconciler.take_unopened() {
            cache.disown(&item);
        }
    }

    /// What the node should not have any more leaves the cache before it is wiped, so that no crash in
    /// between brings it back.
    pub(super) async fn keep_no_longer(&mut self) -> Result<(), End> {
        match self.exceeds() {
            true => self.keep().await,
            false => Ok(()),
        }
    }

    /// Whether something is kept that should not be any more.
    fn exceeds(&self) -> bool {
        let (cache, desired) = (self.offline.cache.as_ref(), self.desired.as_ref());
        cache
            .zip(desired)
            .is_some_and(|(cache, desired)| cache.exceeds(desired))
    }

    /// Keeps what the hub has said and sent. The report that follows says so: what it calls applied, or
    /// wiped, is so after a crash too.
    pub(super) async fn keep(&mut self) -> Result<(), End> {
        let fresh = std::mem::take(&mut self.offline.fresh);
        let (Some(cache), Some(desired)) = (&self.offline.cache, &self.desired) else {
            self.agenda.keep.done();
            return Ok(());
        };
        // What failed may have left something that is superseded.
        if fresh.is_empty() && cache.is_current(desired) && self.offline.error.is_none() {
            self.agenda.keep.done();
            return Ok(());
        }
        let save = cache.save(desired.clone(), fresh, Now::read());
        let saved = self.attend(spawn_blocking(move || save.run())).await?;
        let error = match saved {
            Ok(saved) => saved.err().map(|error| error.to_string()),
            Err(_) => Some(WRITER_ENDED.into()),
        };
        let lacks = |cache: &SealedCache, desired| !cache.lacks(desired).is_empty();
        let complete = match (&self.offline.cache, &self.desired) {
            (Some(cache), Some(desired)) => !lacks(cache, desired),
            _ => true,
        };
        match &error {
            Some(_) => drop(self.agenda.keep.failed(Instant::now())),
            None if complete => self.agenda.keep.done(),
            // What failed was perhaps just the value that is fetched again now: each time later.
            None => self.agenda.keep.rest(),
        }
        let so = if self.exceeds() { RESURFACES } else { LACKS };
        self.offline.failed(error, so);
        self.publish();
        Ok(())
    }

    /// Once more what could not be kept: perhaps there is room now.
    pub(super) async fn keep_again(
        &mut self,
        connection: &Connection,
    ) -> Result<Result<(), HubError>, End> {
        self.keep().await?;
        if self.offline.error.is_none() {
            // The values that were at hand then are not any more.
            return self.fill(connection).await;
        }
        Ok(Ok(()))
    }

    /// Fetches what is delivered and not kept: of a cache that was lost, or is new.
    pub(super) async fn fill(
        &mut self,
        connection: &Connection,
    ) -> Result<Result<(), HubError>, End> {
        loop {
            let (Some(cache), Some(desired)) = (&self.offline.cache, &self.desired) else {
                return Ok(Ok(()));
            };
            let mut lacking = cache.lacks(desired);
            lacking.retain(|item| !self.offline.refused.contains(item));
            lacking.truncate(MAX_BATCH_ITEMS);
            if lacking.is_empty() || self.offline.error.is_some() {
                return Ok(Ok(()));
            }
            let results = match self.attend(connection.secrets(lacking.clone())).await? {
                Ok(results) => results,
                Err(error) => return Ok(Err(error)),
            };
            let mut full = true;
            for (item, result) in lacking.into_iter().zip(results) {
                match &result {
                    FetchResult::Problem(problem) if problem.code == Code::BatchFull => continue,
                    FetchResult::Problem(_) => {
                        self.offline.refused.insert(item);
                    }
                    FetchResult::Sealed(_) => self.offline.arrived(&item, &result),
                }
                full = false;
            }
            if full {
                return Ok(Ok(()));
            }
            self.keep().await?;
        }
    }

    /// Seals whatever was sealed to former keys to the one in use, wherever it is; then, and not before,
    /// those keys go.
    pub(super) async fn retire(&mut self) -> Result<(), End> {
        if self.identity.sealing.has_former() {
            let error = self.reseal().await?.err();
            let failed = error.is_some();
            self.offline.failed(error, LACKS);
            self.publish();
            if failed {
                warn!("Former sealing keys are still needed; trying again.");
                self.agenda.retire.failed(Instant::now());
                return Ok(());
            }
        }
        match self.store.retire() {
            Ok(()) => {
                self.identity.sealing.forget_former();
                self.agenda.retire.done();
            }
            Err(error) => {
                warn!(%error, "A former identity could not be removed; trying again.");
                self.agenda.retire.failed(Instant::now());
            }
        }
        Ok(())
    }

    async fn reseal(&mut self) -> Result<Result<(), String>, End> {
        let identity = &self.identity;
        let resealer = Resealer::new(&identity.org, &identity.node, &identity.sealing);
        let resealer = match resealer {
            Ok(resealer) => Arc::new(resealer),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(cache) = self.offline.cache.clone() {
            let resealer = resealer.clone();
            let work = spawn_blocking(move || cache.reseal(&resealer));
            match self.attend(work).await? {
                Ok(Ok(Resealed { values, lost })) => {
                    info!(values, lost, "Kept values are sealed to the new key.");
                    if lost > 0 {
                        self.agenda.converge.by(Instant::now());
                    }
                }
                Ok(Err(error)) => return Ok(Err(error.to_string())),
                Err(_) => return Ok(Err(WRITER_ENDED.into())),
            }
        }
        for (item, sealed) in &mut self.offline.fresh {
            if let Ok(Some(resealed)) = resealer.reseal(item, sealed) {
                *sealed = resealed;
            }
        }
        self.reconciler.reseal(&resealer);
        Ok(Ok(()))
    }

    /// Wipes everything when the hub was not heard for too long, or has revoked this node in a former life.
    pub(super) fn grow_old(&mut self) {
        let now = Now::read();
        if !self.offline.age.is_over(now) {
            return;
        }
        if self.offline.age.is_revoked() {
            warn!("The hub has revoked this node: everything is wiped until it takes it back.");
        } else {
            warn!(
                "Nothing was heard of the hub for offline.max_age: everything is wiped until it is heard."
            );
        }
        self.desired = None;
        self.reported = None;
        self.offline.forget();
        if let Err(error) = self.reconciler.wipe_all(Timestamp::now()) {
            error!(%error, "Not everything could be wiped; trying again.");
            self.offline.age.again(now);
        }
    }
}

const LACKS: &str =
    "services get their secrets all the same, but a reboot without the hub would not have all";
const RESURFACES: &str =
    "what was undeployed is still there, sealed, and would come back with a reboot without the hub";
const WRITER_ENDED: &str = "the cache cannot be written: its writer ended";
/// How many values are taken from the cache at once.
const PART: usize = 64;
