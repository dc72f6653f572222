//! What is to be wiped, fetched and delivered: desired against actual. Pure: no clock (time is an
//! argument), no file, no socket, so that it can be tested with thousands of schedules.
//!
//! # Rules
//!
//! - A deployment is delivered as a whole: one that lacks a secret stays as it was, and says why.
//! - One deployment's trouble touches no other.
//! - What the bindings do not name is wiped: deployments, and consumers of a deployment.
//! - Two deployments of one service would share directories: the one that is delivered keeps them,
//!   else the smaller id; the other says `conflict`.
//! - When another deployment takes a service over (a policy was swapped), the old values stay until
//!   the new ones are there, so that the service never stands without. They go at once when the new
//!   deployment cannot have its own: `denied`, `missing`, or malformed. Nothing of the old is kept
//!   for the new: an equal version of another deployment need not be the same value.
//! - What is delivered in another shape than the profiles say is delivered anew. A consumer that is
//!   withheld (what it is for does not run) has nothing, and its deployment goes on for the others.
//! - A value that has ended is shown by nobody: the whole generation that shows it goes, as templates
//!   may be made of it and all names change together; consumers of the deployment that do not show it
//!   keep what they have. The deployment says `expired`, and nothing is fetched for it, until the hub
//!   offers another version or a later end. A later end of what is shown holds at once, whatever else
//!   the deployment lacks.
//! - An answer older than one already taken is ignored: within the life of the agent a node's
//!   generation only grows. A hub restored from a backup must raise the generation above what the
//!   nodes report; what a restarted agent takes first, the session decides.

mod judge;
mod lives;
mod shapes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_secrets_protocol::binding::{Bindings, Consumer, Deployment, FetchItem, Format};
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{
    Code, ConsumerName, DeploymentId, Generation, Problem, SecretName, SecretVersion, ServiceId,
};

pub(super) use self::judge::EXPIRED;
pub(super) use self::shapes::Shaped;
use self::shapes::Shapes;
use crate::clock::BootTime;
use crate::consumers::lifecycle::Verdict;
use crate::consumers::names::FileName;
use crate::consumers::profiles::Profiles;
use crate::delivery::{ConsumerId, Former, Manifest, Origin};
use crate::ends::Ends;

/// What a consumer can read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) manifest: Manifest,
    /// Files that are missing or not what was written.
    pub(super) damaged: BTreeSet<FileName>,
}

impl Live {
    /// Whether a file that shows something of the secret is damaged.
    pub(super) fn damages(&self, name: &SecretName) -> bool {
        let made_of = |file| self.manifest.files.get(file).map(|file| &file.made_of);
        let mut damaged = self.damaged.iter().filter_map(made_of);
        damaged.any(|made_of| made_of.contains(name))
    }
}

/// Where a deployment stands and what is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing is to be done.
    Settled,
    /// Everything needed is at hand.
    Ready(Work),
    /// Values have been asked for, or are to be.
    Waiting(BTreeSet<FetchItem>),
    /// A secret is missing, denied or not there yet. What can be fetched all the same is named.
    Blocked(DeploymentError, BTreeSet<FetchItem>),
    /// It makes no sense, or contradicts another one.
    Refused(DeploymentError),
}

/// What brings a deployment to what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    /// Consumers that get a new generation.
    pub(super) targets: Vec<Target>,
    /// Consumers whose files stay and whose manifest names an old policy or service version.
    pub(super) relabel: Vec<ConsumerId>,
    /// The values to write.
    pub(super) values: BTreeSet<FetchItem>,
}

/// One consumer's next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) consumer: ConsumerId,
    /// Every secret, as its own files show it.
    pub(super) secrets: BTreeMap<SecretName, (SecretVersion, Format)>,
    /// Those whose files are written; the others' are taken over from the live generation.
    pub(super) fresh: BTreeSet<SecretName>,
    /// The templates that are rendered, by their places in the shape; likewise.
    pub(super) rendered: Vec<usize>,
    /// The modes that the service definition asks for and that stand.
    pub(super) modes: BTreeMap<SecretName, u32>,
    /// Equal for equal looks of all files.
    pub(super) mark: String,
}

/// Desired and actual, and what is known of the way from one to the other.
#[derive(Debug, Default)]
pub(super) struct Planner {
    generation: Option<Generation>,
    /// Whether it was ever said what the node should have. Until then nothing is known to be too much.
    told: bool,
    desired: BTreeMap<DeploymentId, Deployment>,
    /// Which deployment may use a service's directories.
    owners: BTreeMap<ServiceId, DeploymentId>,
    actual: BTreeMap<ConsumerId, Live>,
    /// Values at hand, sealed.
    held: BTreeSet<FetchItem>,
    problems: BTreeMap<FetchItem, Problem>,
    /// What went wrong with a deployment last, until it goes well.
    failures: BTreeMap<DeploymentId, DeploymentError>,
    /// Failed since the bindings were taken last; the next ones try again.
    given_up: BTreeSet<DeploymentId>,
    /// Deployments that may have something to do; the others cost nothing.
    unsettled: BTreeSet<DeploymentId>,
    shapes: Shapes,
    /// Whether the consumers of a profile with a lifecycle may have anything now.
    stances: Stances,
    /// How late it is; until that is said, nothing has ended.
    now: Option<BootTime>,
    /// When the desired versions end.
    ends: BTreeMap<DeploymentId, Ends>,
    /// What was wiped because it had ended, until there is a successor or none is needed.
    ended: BTreeMap<ConsumerId, Manifest>,
}

/// By service, and the consumer where the profile names one.
pub(super) type Stances = BTreeMap<(ServiceId, Option<ConsumerName>), Verdict>;

impl Planner {
    pub(super) fn new(former: Former) -> Self {
        let actual = former.live.into_iter().map(|(consumer, manifest)| {
            let damaged = BTreeSet::new();
            (consumer, Live { manifest, damaged })
        });
        Self {
            actual: actual.collect(),
            ended: former.ended,
            ..Self::default()
        }
    }

    /// Takes what the node's administrator says. What is delivered in another shape than it should
    /// be is to be delivered anew.
    pub(super) fn shape_by(&mut self, profiles: Arc<Profiles>) {
        self.shapes = Shapes::new(profiles, self.shapes.apis());
        self.unsettled.extend(self.desired.keys().cloned());
    }

    /// Takes whether consumers have a secrets API where no profile says otherwise.
    pub(super) fn serve_apis(&mut self, apis: bool) {
        self.shapes = self.shapes.with_apis(apis);
        self.unsettled.extend(self.desired.keys().cloned());
    }

    /// Whether any consumer may have a secrets API.
    pub(super) fn has_apis(&self) -> bool {
        self.shapes.has_apis()
    }

    /// How the consumer's files look.
    pub(super) fn shape(&self, consumer: &ConsumerId) -> Shaped<'_> {
        self.shapes.of(consumer)
    }

    /// Whether somebody is to hear of what is about to be delivered. A unit or container that gets its
    /// first secrets because it starts hears of them by that.
    pub(super) fn announces(&self, consumer: &ConsumerId) -> bool {
        let Some(profile) = self.shapes.profiles.of(consumer) else {
            return false;
        };
        let Some(on_change) = &profile.on_change else {
            return false;
        };
        self.actual.contains_key(consumer)
            || self.ended.contains_key(consumer)
            || !profile.starts_with(&on_change.action)
    }

    /// Takes which consumers may have anything now. Says whether that has changed.
    pub(super) fn live_by(&mut self, stances: Stances) -> bool {
        let before = std::mem::replace(&mut self.stances, stances);
        if before == self.stances {
            return false;
        }
        let keys: BTreeSet<_> = before.keys().chain(self.stances.keys()).collect();
        let changed = keys
            .into_iter()
            .filter(|key| before.get(key) != self.stances.get(key));
        let services: Vec<_> = changed.map(|(service, _)| service.clone()).collect();
        for service in &services {
            self.touch(service);
        }
        true
    }

    /// Whether the consumer may have nothing now, whatever the bindings say.
    pub(super) fn withholds(&self, consumer: &ConsumerId) -> bool {
        let Some(profile) = self.shapes.profiles.of(consumer) else {
            return false;
        };
        if profile.lifecycle.is_none() {
            return false;
        }
        let key = (profile.service.clone(), profile.consumer.clone());
        match self.stances.get(&key) {
            Some(Verdict::Deliver) => false,
            Some(Verdict::Withhold) => true,
            // Nobody knows: what is there stays, and nothing new comes. What has ended was there.
            Some(Verdict::Leave) | None => {
                !self.actual.contains_key(consumer) && !self.ended.contains_key(consumer)
            }
        }
    }

    /// Every consumer that should have something to read, now or once it runs.
    pub(super) fn readers(&self) -> impl Iterator<Item = ConsumerId> {
        self.desired.values().flat_map(readers)
    }

    /// Every consumer that should have something to read, with whose it is.
    pub(super) fn placed(&self) -> impl Iterator<Item = (ConsumerId, Origin)> {
        let owners = self.owners.values();
        let owners = owners.filter_map(|id| self.desired.get(id));
        owners.flat_map(|deployment| {
            readers(deployment).map(|consumer| {
                let origin = Origin {
                    deployment: deployment.id.clone(),
                    policy: deployment.policy.clone(),
                    service_version: deployment.service_version.clone(),
                };
                (consumer, origin)
            })
        })
    }

    /// Whether it was ever said what the node should have.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// The generation of the bindings taken last.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The next bindings are taken whatever their generation.
    pub(super) fn start_over(&mut self) {
        self.generation = None;
    }

    /// As [`start_over`](Self::start_over), and what is at hand or delivered is of nobody's known:
    /// it stays until it is replaced or wiped, and nothing of it is kept.
    pub(super) fn distrust(&mut self) {
        self.start_over();
        self.held.clear();
        self.problems.clear();
        for live in self.actual.values_mut() {
            live.manifest.origin = None;
        }
        self.given_up.clear();
        self.unsettled.extend(self.desired.keys().cloned());
    }

    pub(super) fn desired(&self) -> &BTreeMap<DeploymentId, Deployment> {
        &self.desired
    }

    pub(super) fn actual(&self) -> &BTreeMap<ConsumerId, Live> {
        &self.actual
    }

    /// The deployment that what the consumer reads came from.
    pub(super) fn origin(&self, consumer: &ConsumerId) -> Option<DeploymentId> {
        let origin = self.actual.get(consumer)?.manifest.origin.as_ref()?;
        Some(origin.deployment.clone())
    }

    pub(super) fn failure(&self, id: &DeploymentId) -> Option<&DeploymentError> {
        self.failures.get(id)
    }

    pub(super) fn problem(&self, item: &FetchItem) -> Option<&Problem> {
        self.problems.get(item)
    }

    pub(super) fn unsettled(&self) -> Vec<DeploymentId> {
        self.unsettled.iter().cloned().collect()
    }

    /// Whether newer bindings have been taken already.
    pub(super) fn is_outdated(&self, bindings: &Bindings) -> bool {
        self.generation
            .is_some_and(|newest| bindings.generation < newest)
    }

    /// The consumers of deployments that failed since the bindings were taken last.
    pub(super) fn suspects(&self) -> Vec<ConsumerId> {
        if self.given_up.is_empty() {
            return Vec::new();
        }
        let of_failed = self.actual.keys().filter(|consumer| {
            let origin = self.origin(consumer);
            origin.is_some_and(|id| self.given_up.contains(&id))
        });
        of_failed.cloned().collect()
    }

    /// Takes what the node should have, unless it is outdated. What failed before may be tried
    /// again, and values at hand that could have been used and were not are forgotten, so that they
    /// are fetched again.
    pub(super) fn desire(&mut self, bindings: &Bindings, ends: &BTreeMap<DeploymentId, Ends>) {
        if self.is_outdated(bindings) {
            return;
        }
        self.take_ends(bindings, ends);
        self.generation = Some(bindings.generation);
        self.told = true;
        let mut reshaped = false;
        let mut gone: BTreeSet<DeploymentId> = self.desired.keys().cloned().collect();
        for deployment in &bindings.deployments {
            gone.remove(&deployment.id);
            let before = self.desired.get(&deployment.id);
            if before == Some(deployment) {
                continue;
            }
            reshaped |= before.is_none_or(|before| before.service != deployment.service);
            self.failures.remove(&deployment.id);
            self.unsettled.insert(deployment.id.clone());
            self.desired
                .insert(deployment.id.clone(), deployment.clone());
        }
        reshaped |= !gone.is_empty();
        for id in gone {
            self.desired.remove(&id);
            self.ends.remove(&id);
            self.unsettled.remove(&id);
            self.failures.remove(&id);
        }
        if reshaped {
            self.choose_owners();
            self.unsettled.extend(self.desired.keys().cloned());
        }
        self.given_up.clear();
        let usable: Vec<_> = self.unsettled.iter().map(|id| self.judgement(id)).collect();
        for judgement in usable {
            if let Judgement::Ready(work) = judgement {
                self.held.retain(|item| !work.values.contains(item));
            }
        }
        self.drop_unwanted();
    }

    /// The consumers whose values are to be wiped now. What a former life delivered stays until
    /// bindings speak of it, unless its workload has stopped or it has ended.
    pub(super) fn leftovers(&self) -> Vec<ConsumerId> {
        let left = self.actual.iter().filter(|(consumer, live)| {
            self.has_ended(live) || self.is_stale(consumer, live.manifest.origin.as_ref())
        });
        left.map(|(consumer, _)| consumer.clone()).collect()
    }

    /// Whether the consumer should not have this, were it to live for ever.
    fn is_stale(&self, consumer: &ConsumerId, origin: Option<&Origin>) -> bool {
        if !self.told {
            return self.withholds(consumer);
        }
        let origin = origin.map(|origin| &origin.deployment);
        let owner = self.owners.get(&consumer.service);
        match owner.and_then(|id| self.desired.get(id)) {
            Some(own) if origin == Some(&own.id) => {
                self.withholds(consumer) || !reads(own, &consumer.consumer)
            }
            Some(successor) => !self.succeeds(successor, consumer),
            None => true,
        }
    }

    pub(super) fn judgement(&self, id: &DeploymentId) -> Judgement {
        match self.desired.get(id) {
            Some(deployment) => self.judge(deployment),
            None => Judgement::Settled,
        }
    }

    /// The values to ask for: everything needed that is not at hand.
    pub(super) fn to_fetch(&self) -> Vec<FetchItem> {
        let mut fetch = BTreeSet::new();
        for id in self.unsettled.difference(&self.given_up) {
            if let Judgement::Waiting(items) | Judgement::Blocked(_, items) = self.judgement(id) {
                fetch.extend(items);
            }
        }
        fetch.into_iter().collect()
    }

    /// The part of [`to_fetch`](Self::to_fetch) that nobody has refused: worth asking for at once.
    pub(super) fn to_fetch_again(&self) -> Vec<FetchItem> {
        let mut fetch = self.to_fetch();
        fetch.retain(|item| !self.problems.contains_key(item));
        fetch
    }

    /// What could be done now with the values at hand.
    pub(super) fn ready(&self) -> Vec<(DeploymentId, Work)> {
        self.unsettled
            .difference(&self.given_up)
            .filter_map(|id| match self.judgement(id) {
                Judgement::Ready(work) => Some((id.clone(), work)),
                _ => None,
            })
            .collect()
    }

    /// A value came. `false` when nobody wants it: it must not be kept.
    pub(super) fn arrived(&mut self, item: &FetchItem) -> bool {
        let wanted = self.wants(item);
        if wanted {
            self.problems.remove(item);
            self.held.insert(item.clone());
        }
        wanted
    }

    /// A value did not come.
    pub(super) fn refused(&mut self, item: &FetchItem, problem: &Problem) {
        if problem.code == Code::BatchFull {
            // It was just not its turn.
            self.problems.remove(item);
        } else if self.wants(item) {
            self.problems.insert(item.clone(), problem.clone());
        }
    }

    /// The consumer can read this now.
    pub(super) fn delivered(&mut self, consumer: ConsumerId, manifest: Manifest) {
        self.ended.remove(&consumer);
        let damaged = BTreeSet::new();
        self.actual.insert(consumer, Live { manifest, damaged });
    }

    /// Who should hear of what the consumer reads has heard.
    pub(super) fn announced(&mut self, consumer: &ConsumerId) {
        if let Some(live) = self.actual.get_mut(consumer) {
            live.manifest.unannounced = false;
        } else if let Some(ended) = self.ended.get_mut(consumer) {
            ended.unannounced = false;
        }
    }

    /// The consumer can read nothing any more, and nothing is left.
    pub(super) fn wiped(&mut self, consumer: &ConsumerId) {
        if self.actual.remove(consumer).is_some() {
            self.touch(&consumer.service);
        }
    }

    /// The consumer can read nothing any more; something is left that could not be wiped.
    pub(super) fn half_wiped(&mut self, consumer: &ConsumerId) {
        if let Some(live) = self.actual.get_mut(consumer) {
            live.damaged = live.manifest.files.keys().cloned().collect();
            self.touch(&consumer.service);
        }
    }

    /// These files are not what was written.
    pub(super) fn damaged(&mut self, consumer: &ConsumerId, names: BTreeSet<FileName>) {
        if let Some(live) = self.actual.get_mut(consumer)
            && live.damaged != names
        {
            live.damaged = names;
            self.touch(&consumer.service);
        }
    }

    /// The deployment's values could not be delivered; it is tried again with the next bindings.
    pub(super) fn failed(&mut self, id: &DeploymentId, error: DeploymentError) {
        self.failures.insert(id.clone(), error);
        self.given_up.insert(id.clone());
        self.unsettled.insert(id.clone());
    }

    /// The values of a deployment at hand are used up, or of no use.
    pub(super) fn forget(&mut self, items: &BTreeSet<FetchItem>) {
        self.held.retain(|item| !items.contains(item));
    }

    pub(super) fn holds(&self, item: &FetchItem) -> bool {
        self.held.contains(item)
    }

    /// Lets go of deployments with nothing left to do.
    pub(super) fn settle(&mut self) {
        let settled: Vec<_> = self
            .unsettled
            .difference(&self.given_up)
            .filter(|id| self.judgement(id) == Judgement::Settled)
            .cloned()
            .collect();
        for id in settled {
            self.failures.remove(&id);
            self.unsettled.remove(&id);
        }
    }

    /// Where the deployment stands, for the hub and for people.
    pub(super) fn state(&self, id: &DeploymentId) -> (DeploymentState, Option<DeploymentError>) {
        if let Some(error) = self.failures.get(id) {
            return (DeploymentState::Failed, Some(error.clone()));
        }
        match self.judgement(id) {
            Judgement::Settled if self.is_stopped(id) => (DeploymentState::Stopped, None),
            Judgement::Settled => (DeploymentState::Applied, None),
            Judgement::Ready(_) | Judgement::Waiting(_) => (DeploymentState::Pending, None),
            Judgement::Blocked(error, _) => (DeploymentState::Blocked, Some(error)),
            Judgement::Refused(error) => (DeploymentState::Failed, Some(error)),
        }
    }

    /// Forgets everything that is desired, and the generation with it: the node should have nothing.
    pub(super) fn clear(&mut self) {
        *self = Self {
            told: true,
            actual: std::mem::take(&mut self.actual),
            shapes: std::mem::take(&mut self.shapes),
            stances: std::mem::take(&mut self.stances),
            now: self.now,
            ..Self::default()
        };
    }

    /// Whether there is something to read, and nobody may read it now.
    fn is_stopped(&self, id: &DeploymentId) -> bool {
        let Some(deployment) = self.desired.get(id) else {
            return false;
        };
        let mut reading = readers(deployment).peekable();
        reading.peek().is_some() && reading.all(|consumer| self.withholds(&consumer))
    }

    fn touch(&mut self, service: &ServiceId) {
        if let Some(owner) = self.owners.get(service) {
            self.unsettled.insert(owner.clone());
        }
    }

    fn choose_owners(&mut self) {
        let mut owners: BTreeMap<ServiceId, DeploymentId> = BTreeMap::new();
        // What is delivered keeps its place.
        for (consumer, live) in &self.actual {
            let origin = live.manifest.origin.as_ref().map(|o| &o.deployment);
            if let Some(own) = origin.and_then(|id| self.desired.get(id))
                && own.service == consumer.service
            {
                owners
                    .entry(own.service.clone())
                    .or_insert_with(|| own.id.clone());
            }
        }
        // Ascending, so that the smallest id comes first.
        for deployment in self.desired.values() {
            owners
                .entry(deployment.service.clone())
                .or_insert_with(|| deployment.id.clone());
        }
        self.owners = owners;
    }

    /// Whether the deployment is about to replace what the consumer reads of another one.
    fn succeeds(&self, successor: &Deployment, consumer: &ConsumerId) -> bool {
        if !reads(successor, &consumer.consumer) || self.withholds(consumer) {
            return false;
        }
        match self.judge(successor) {
            Judgement::Refused(_) => false,
            Judgement::Blocked(error, _) => !matches!(error.code, Code::Denied | Code::Missing),
            Judgement::Settled | Judgement::Ready(_) | Judgement::Waiting(_) => true,
        }
    }

    /// Forgets values at hand, and what was said of values, that nobody wants any more.
    fn drop_unwanted(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.held = held.into_iter().filter(|item| self.wants(item)).collect();
        let mut problems = std::mem::take(&mut self.problems);
        problems.retain(|item, _| self.wants(item));
        self.problems = problems;
    }

    fn wants(&self, item: &FetchItem) -> bool {
        let owner = self.owners.get(&item.service);
        let owner = owner.and_then(|id| self.desired.get(id));
        owner.is_some_and(|deployment| self.needs(deployment).contains(item))
    }
}

/// The deployment's consumers that have something to read.
pub(super) fn readers(deployment: &Deployment) -> impl Iterator<Item = ConsumerId> {
    let reading = deployment.consumers.iter();
    let reading = reading.filter(|consumer| !consumer.secrets.is_empty());
    reading.map(|consumer| consumer_id(deployment, consumer))
}

pub(super) fn consumer_id(deployment: &Deployment, consumer: &Consumer) -> ConsumerId {
    ConsumerId {
        service: deployment.service.clone(),
        consumer: consumer.name.clone(),
    }
}

/// Whether the deployment gives the consumer anything to read.
fn reads(deployment: &Deployment, consumer: &ConsumerName) -> bool {
    let mut consumers = deployment.consumers.iter();
    consumers.any(|c| c.name == *consumer && !c.secrets.is_empty())
}
