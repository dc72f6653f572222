//! From what the node should have to what lies on tmpfs.
//!
//! # How to drive it
//!
//! ```text
//! start        open                                services read what they read before
//! bindings     desire -> items; while there are some: fetch them, deliver, items = again()
//! at a retry   desire with the same bindings       asks again for what was refused, and tries again
//!                                                  what could not be written
//! slow resync  verify, then pull and desire        finds what was tampered with
//! after each   report -> hub, then report_sent; tick until it gives None; expire at next_end
//! revoked      wipe_all
//! ```
//!
//! Items may be fetched in several batches with a `deliver` for each: sealed values wait here, as
//! ciphertext, until their deployment is complete.

mod apply;
mod plan;
#[cfg(test)]
mod simulation;
mod standing;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_secrets_protocol::binding::{FetchItem, FetchResult};
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{
    Generation, NodeId, OrgId, PublicKey, Sealed, SealingKey, SecretName, SecretVersion,
};
use jiff::Timestamp;
use tracing::{info, warn};

use self::apply::Opener;
use self::plan::{Planner, Stances};
use self::standing::Standings;
use crate::clock::{BootMark, BootTime, Now};
use crate::consumers::credentials::Shelved;
use crate::consumers::names::FileName;
use crate::consumers::profile::Principal;
use crate::consumers::profiles::Profiles;
use crate::delivery::{ConsumerId, Delivery, Manifest, Origin, VALUE_FILE};
use crate::ends::Desired;
use crate::identity::Resealer;
use crate::memory::LockedBuffer;
use crate::metrics::Counters;
use crate::status::ServiceStatus;

/// Where and how values are delivered.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The runtime directory.
    pub dir: PathBuf,
    /// Mount a tmpfs there when it is none and that is allowed; else require that it is one. Where
    /// it is tmpfs already, one of its own is mounted only to keep values out of an active swap.
    pub mount: bool,
    /// The tmpfs's size in bytes, where it is mounted here.
    pub size: u64,
    /// How long a superseded generation waits for its readers before it is wiped all the same.
    pub grace: Duration,
}

/// Keeps what lies on tmpfs as the bindings want it. Synchronous: tmpfs does not block, and the one
/// locked buffer is used by one delivery at a time.
#[derive(Debug)]
pub struct Reconciler {
    delivery: Delivery,
    buffer: LockedBuffer,
    planner: Planner,
    /// Values at hand: exactly those that the planner counts on.
    sealed: BTreeMap<FetchItem, Sealed>,
    standings: Standings,
    /// Consumers of which it could not be noted when what they read ends.
    unnoted: BTreeSet<ConsumerId>,
    /// The generation that is worked through.
    worked: Generation,
    /// Whether something that should not be there could not be wiped.
    unwiped: bool,
    /// Values that no key here opens.
    unopened: BTreeSet<FetchItem>,
    counters: Arc<Counters>,
}

/// What a consumer's own secrets API tells, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where it is read; none when nothing can be read any more.
    pub(crate) generation: Option<PathBuf>,
    /// What stands there.
    pub(crate) secrets: BTreeMap<SecretName, SecretVersion>,
    /// The deployment that it is of.
    pub(crate) origin: Origin,
    /// Whom the consumer's files belong to.
    pub(crate) owner: Option<Principal>,
    pub(crate) group: Option<Principal>,
    /// The mode of its files.
    pub(crate) mode: u32,
}

/// Why the runtime directory cannot be used at all. Says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

impl Reconciler {
    /// Takes the runtime directory over: mounts or checks it, locks it against a second agent,
    /// sweeps what a former life left, and reads what is delivered. Changes nothing that services
    /// read: what ended meanwhile is wiped by the first [`expire`](Self::expire).
    ///
    /// # Errors
    /// When the directory is not, and cannot be made, a tmpfs or ramfs of this user's own, or
    /// another agent uses it.
    pub fn open(options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        let (delivery, former) = Delivery::open(options)?;
        let buffer = LockedBuffer::new().map_err(|error| RuntimeError(error.to_string()))?;
        let planner = Planner::new(former);
        let mut reconciler = Self {
            delivery,
            buffer,
            standings: Standings::of_former_life(&planner),
            planner,
            sealed: BTreeMap::new(),
            unnoted: BTreeSet::new(),
            worked: Generation::default(),
            unwiped: false,
            unopened: BTreeSet::new(),
            counters: Arc::default(),
        };
        reconciler.verify();
        Ok(reconciler)
    }

    /// Takes what the node should have, wipes at once what it should not have any more, and gives
    /// the values to fetch (none that is delivered already, each once).
    ///
    /// Bindings older than those taken last are ignored: an answer that was overtaken, or replayed.
    /// The same ones again ask again for what was refused. Costs what has changed; files that no
    /// change concerns are not looked at.
    pub fn desire(&mut self, desired: &Desired, now: Now) -> Vec<FetchItem> {
        let bindings = desired.bindings();
        if self.planner.is_outdated(bindings) {
            warn!(
                generation = %bindings.generation,
                "Outdated bindings are ignored."
            );
            return self.planner.to_fetch();
        }
        self.planner.pass(now.boot);
        // What failed may have stopped half way.
        for consumer in self.planner.suspects() {
            self.verify_consumer(&consumer);
        }
        self.planner.desire(bindings, desired.ends());
        self.sealed.retain(|item, _| self.planner.holds(item));
        let touched = self.planner.unsettled();
        // Before anything is wiped: what has got a longer life stays.
        self.note_ends();
        self.wipe_leftovers();
        self.reserve();
        // What needs no value is done without waiting for the hub.
        self.apply(None, now.wall);
        self.standings.update(&self.planner, touched, now.wall);
        let fetch = self.planner.to_fetch();
        if fetch.is_empty() {
            self.worked = bindings.generation;
        }
        fetch
    }

    /// Delivers what was fetched: every consumer whose values are complete gets its next generation;
    /// a deployment that lacks one stays as it was. What fails is in the report.
    ///
    /// Of `keys`, each is tried: while a key is rotated there are two.
    pub fn deliver(
        &mut self,
        org: &OrgId,
        node: &NodeId,
        keys: &[&SealingKey],
        fetched: &[(FetchItem, FetchResult)],
        now: Now,
    ) {
        self.planner.pass(now.boot);
        for (item, result) in fetched {
            match result {
                FetchResult::Sealed(sealed) => {
                    if self.planner.arrived(item) {
                        self.sealed.insert(item.clone(), sealed.clone());
                    }
                }
                FetchResult::Problem(problem) => self.planner.refused(item, problem),
            }
        }
        self.sealed.retain(|item, _| self.planner.holds(item));
        let touched = self.planner.unsettled();
        // First, so that a successor that came in time leaves no gap.
        self.apply(Some(Opener { org, node, keys }), now.wall);
        self.wipe_leftovers();
        self.standings.update(&self.planner, touched, now.wall);
        self.buffer.shrink();
        if self.again().is_empty() {
            self.worked = self.planner.generation().unwrap_or_default();
        }
    }

    /// What tells this boot's notes from those of others.
    pub(crate) fn boot_mark(&self) -> &BootMark {
        self.delivery.boot_mark()
    }

    /// The values that came since this was asked last and that no key here opens.
    pub(crate) fn take_unopened(&mut self) -> BTreeSet<FetchItem> {
        std::mem::take(&mut self.unopened)
    }

    /// The newest generation that anything delivered is of.
    pub(crate) fn newest(&self) -> Option<Generation> {
        let live = self.planner.actual().values();
        live.filter_map(|live| live.manifest.number()).max()
    }

    /// The newest generation that anything delivered for this enrolment is of.
    pub(crate) fn followed(&self) -> Option<Generation> {
        let live = self.planner.actual().values();
        let own = live.filter(|live| live.manifest.origin.is_some());
        own.filter_map(|live| live.manifest.number()).max()
    }

    /// What to fetch at once after a [`deliver`](Self::deliver): values that a full batch left out,
    /// or that turned out to be needed because a delivered file was damaged. What the hub refused is
    /// not among them: [`desire`](Self::desire) asks for that again, at the caller's pace.
    #[must_use]
    pub fn again(&self) -> Vec<FetchItem> {
        self.planner.to_fetch_again()
    }

    /// Looks at every file and link that is delivered. Mends links at once; what is missing or is
    /// not what was written is among the items of the next [`desire`](Self::desire). Gives the
    /// number of such files. For the slow resync.
    pub fn verify(&mut self) -> usize {
        let all: Vec<_> = self.planner.actual().keys().cloned().collect();
        all.iter()
            .map(|consumer| self.verify_consumer(consumer))
            .sum()
    }

    /// Wipes what has ended by now, whether or not there is a hub, and forgets values at hand that have.
    /// Says whether there was any. To be called at [`next_end`](Self::next_end), and at the start.
    pub fn expire(&mut self, now: Now) -> bool {
        // What could not be wiped when it was undeployed waits for no word of the hub.
        if !self.planner.pass(now.boot) && !self.unwiped {
            return false;
        }
        self.sealed.retain(|item, _| self.planner.holds(item));
        let touched = self.planner.unsettled();
        self.wipe_leftovers();
        self.planner.settle();
        self.standings.update(&self.planner, touched, now.wall);
        true
    }

    /// When to call [`expire`](Self::expire): at the next end, or to try again what could not be wiped.
    #[must_use]
    pub fn next_end(&self, now: Now) -> Option<BootTime> {
        let left = self.unwiped || self.planner.outlives();
        let again = left.then(|| now.boot.after(WIPE_AGAIN));
        [self.planner.next_end(), again].into_iter().flatten().min()
    }

    /// Counts deliveries and wipes there.
    pub(crate) fn count_in(&mut self, counters: Arc<Counters>) {
        self.counters = counters;
    }

    /// Takes what the node's administrator says of services. What should look otherwise is among the
    /// work of the next [`desire`](Self::desire).
    pub(crate) fn shape_by(&mut self, profiles: Arc<Profiles>) {
        self.planner.shape_by(profiles);
    }

    /// Takes whether the consumers of each profile with a lifecycle may have anything now, and wipes at
    /// once what they may not. What is to be delivered again is among the work of the next
    /// [`desire`](Self::desire). Says whether anything has changed.
    pub(crate) fn live_by(&mut self, stances: Stances, now: Now) -> bool {
        let ended = self.planner.pass(now.boot);
        if !self.planner.live_by(stances) && !ended {
            return false;
        }
        self.sealed.retain(|item, _| self.planner.holds(item));
        let touched = self.planner.unsettled();
        self.wipe_leftovers();
        self.reserve();
        self.apply(None, now.wall);
        self.standings.update(&self.planner, touched, now.wall);
        true
    }

    /// The consumers that read a generation, or whose generation has ended, of which somebody is still
    /// to hear, and its name.
    pub(crate) fn unannounced(&self) -> Vec<(ConsumerId, String)> {
        let live = self.planner.actual().iter();
        live.map(|(consumer, live)| (consumer, &live.manifest))
            .chain(self.planner.ended())
            .filter(|(_, manifest)| manifest.unannounced)
            .map(|(consumer, manifest)| (consumer.clone(), manifest.generation.clone()))
            .collect()
    }

    /// Who should have heard of this generation has.
    pub(crate) fn announced(&mut self, consumer: &ConsumerId, generation: &str) {
        let live = self.planner.actual().get(consumer);
        let ended = self.planner.ended().get(consumer);
        let Some(manifest) = live.map(|live| &live.manifest).or(ended) else {
            return;
        };
        if manifest.generation != generation || !manifest.unannounced {
            return;
        }
        let is_live = live.is_some();
        let mut manifest = manifest.clone();
        manifest.unannounced = false;
        let noted = match is_live {
            true => self.delivery.rewrite_manifest(consumer, &manifest),
            false => self.delivery.note_end(consumer, &manifest),
        };
        // Unwritten, it is done once more after a restart, which is better than never.
        if let Err(error) = noted {
            warn!(%consumer, %error, "It cannot be noted that an on-change action is done.");
        }
        self.planner.announced(consumer);
    }

    /// Whether the consumer has something to read, or had until it ended.
    pub(crate) fn delivers(&self, consumer: &ConsumerId) -> bool {
        self.planner.actual().contains_key(consumer) || self.planner.ended().contains_key(consumer)
    }

    /// Takes whether consumers have a secrets API where no profile says otherwise. As with
    /// [`shape_by`](Self::shape_by), what follows is among the work of the next
    /// [`desire`](Self::desire).
    pub(crate) fn serve_apis(&mut self, apis: bool) {
        self.planner.serve_apis(apis);
    }

    /// The consumers that have a secrets API of their own, with what it tells: those that should have
    /// something to read, also while they have nothing, and those that have.
    pub(crate) fn told(&self) -> BTreeMap<ConsumerId, Told> {
        let mut told = BTreeMap::new();
        if !self.planner.has_apis() {
            return told;
        }
        for (consumer, origin) in self.planner.placed() {
            if self.has_api(&consumer) {
                let nothing = self.tell(&consumer, origin, None);
                told.insert(consumer, nothing);
            }
        }
        let ended = self.planner.ended().iter();
        let ended = ended.map(|(consumer, manifest)| (consumer, manifest, false));
        let live = self.planner.actual().iter().map(|(consumer, live)| {
            let readable = !self.planner.has_ended(live);
            (consumer, &live.manifest, readable)
        });
        for (consumer, manifest, readable) in ended.chain(live) {
            if let Some(origin) = &manifest.origin
                && self.has_api(consumer)
            {
                let told_of = self.tell(
                    consumer,
                    origin.clone(),
                    Some(manifest).filter(|_| readable),
                );
                told.insert(consumer.clone(), told_of);
            }
        }
        told
    }

    /// Whether the consumer has a secrets API of its own, once it is deployed.
    pub(crate) fn has_api(&self, consumer: &ConsumerId) -> bool {
        self.planner.shape(consumer).api
    }

    /// Whether it is known what the node should have. Until then nothing is known to be too much.
    pub(crate) fn is_told(&self) -> bool {
        self.planner.is_told()
    }

    fn tell(&self, consumer: &ConsumerId, origin: Origin, live: Option<&Manifest>) -> Told {
        let shape = self.planner.shape(consumer).shape;
        // What was delivered before there was an API cannot be told, and is delivered once more.
        let live = live.filter(|manifest| {
            let mut names = manifest.secrets.keys();
            names.all(|name| manifest.files.contains_key(&FileName::hidden(name)))
        });
        let secrets = live.iter().flat_map(|manifest| &manifest.secrets);
        Told {
            generation: live.map(|manifest| {
                let directory = self.delivery.directory(consumer);
                directory.join(&manifest.generation)
            }),
            secrets: secrets
                .map(|(name, secret)| (name.clone(), secret.version.clone()))
                .collect(),
            origin,
            owner: shape.owner.clone(),
            group: shape.group.clone(),
            mode: shape.mode.unwrap_or(VALUE_FILE),
        }
    }

    /// Where consumers' APIs stand.
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Every consumer's live generation, as units may get it.
    pub(crate) fn shelved(&self) -> BTreeMap<ConsumerId, Shelved> {
        let live = self.planner.actual().iter();
        live.filter(|(_, live)| live.manifest.origin.is_some() && !self.planner.has_ended(live))
            .map(|(consumer, live)| {
                let directory = self.delivery.directory(consumer);
                let shelved = Shelved {
                    generation: directory.join(&live.manifest.generation),
                    files: shown(&live.manifest),
                };
                (consumer.clone(), shelved)
            })
            .collect()
    }

    /// What to tell the hub: every deployment that it wants here, those still to be replaced, and
    /// those wiped since [`report_sent`](Self::report_sent).
    #[must_use]
    pub fn report(&self) -> StatusReport {
        StatusReport {
            generation: self.worked,
            deployments: self.standings.report(),
        }
    }

    /// The hub has taken this report: what it called wiped need not be said again.
    pub fn report_sent(&mut self, report: &StatusReport) {
        self.standings.report_sent(report);
    }

    /// What to tell people.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.standings.services(&self.delivery)
    }

    /// Takes the next bindings whatever their generation: whoever calls this has found that they are not
    /// older than any before. What is delivered stays until they say otherwise.
    pub fn start_over(&mut self) {
        self.planner.start_over();
    }

    /// Seals the values at hand to the node's key in use. What cannot be stays, and is fetched again when
    /// it does not open.
    pub(crate) fn reseal(&mut self, resealer: &Resealer) {
        for (item, sealed) in &mut self.sealed {
            if let Ok(Some(resealed)) = resealer.reseal(item, sealed) {
                *sealed = resealed;
            }
        }
    }

    /// Says which enrolment values are delivered for; its first sealing key stands for it. What was delivered for another one stays until it is replaced or wiped, and none
    /// of it is kept: for another hub, or after one was set up anew, an equal version need not be
    /// the same value. Remembered over restarts.
    pub fn deliver_as(&mut self, enrolment: &PublicKey) {
        let mark = enrolment.to_bytes();
        if self.delivery.mark().is_some_and(|before| before == mark) {
            return;
        }
        self.sealed.clear();
        self.planner.distrust();
        let mut result = Ok(());
        for (consumer, live) in self.planner.actual() {
            let written = self.delivery.rewrite_manifest(consumer, &live.manifest);
            result = result.and(written);
        }
        // Last, so that a kill before it makes the next start do all of this again.
        if let Err(error) = result.and_then(|()| self.delivery.set_mark(&mark)) {
            warn!(%error, "It cannot be noted which enrolment values are delivered for.");
        }
    }

    /// Wipes superseded generations whose readers are gone or whose grace is over, and says when to
    /// look again. The first call after a rotation starts its grace: call it after every
    /// [`desire`](Self::desire), [`deliver`](Self::deliver) and [`open`](Self::open).
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        self.delivery.tick(now)
    }

    /// Wipes everything, tries every file, and says what could not be wiped. Forgets the bindings
    /// and their generation too: a node that is enrolled anew starts from nothing.
    ///
    /// # Errors
    /// When something is left; the rest is wiped.
    pub fn wipe_all(&mut self, now: Timestamp) -> Result<(), RuntimeError> {
        self.sealed.clear();
        self.planner.clear();
        self.wipe_leftovers();
        let errors = self.delivery.wipe_everything();
        self.standings.update(&self.planner, Vec::new(), now);
        self.worked = Generation::default();
        if errors.is_empty() {
            info!("Everything is wiped.");
            return Ok(());
        }
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Err(RuntimeError(format!(
            "could not wipe everything: {}. Unmount the runtime directory, or restart the machine",
            all.join("; ")
        )))
    }

    /// How the runtime directory is kept out of swap, for people.
    #[must_use]
    pub fn protection(&self) -> String {
        self.delivery.protection().to_owned()
    }

    /// How the buffer that values are opened in is kept out of swap and dumps, for people.
    #[must_use]
    pub fn memory_protection(&self) -> String {
        self.buffer.protection().to_string()
    }

    /// Makes the directories of consumers that may have nothing now: a container starts only where its
    /// mount is there, and gets its secrets because it starts.
    fn reserve(&self) {
        let withheld = self
            .planner
            .readers()
            .filter(|id| self.planner.withholds(id));
        for consumer in withheld {
            let private = self.planner.shape(&consumer).shape.private;
            if let Err(error) = self.delivery.reserve(&consumer, private) {
                warn!(%consumer, %error, "The directory of a consumer cannot be made.");
            }
        }
    }

    fn verify_consumer(&mut self, consumer: &ConsumerId) -> usize {
        let Some(live) = self.planner.actual().get(consumer) else {
            return 0;
        };
        let damaged = match self.delivery.verify(consumer, &live.manifest) {
            Ok(damaged) => damaged,
            Err(error) => {
                warn!(%consumer, %error, "What is delivered cannot be looked at.");
                live.manifest.files.keys().cloned().collect()
            }
        };
        let count = damaged.len();
        if count > 0 {
            warn!(%consumer, files = count, "Delivered files are not what was written.");
        }
        self.planner.damaged(consumer, damaged);
        count
    }
}

/// What the service can see of a generation.
fn shown(manifest: &Manifest) -> BTreeSet<FileName> {
    let files = manifest.files.keys().filter(|file| !file.is_hidden());
    files.cloned().collect()
}

/// What could not be wiped when it ended is tried again after this.
const WIPE_AGAIN: Duration = Duration::from_secs(10);
