//! The node's side: what its administrator says of services, which of them live, who hears of a
//! change, and which units get credentials. One owner for all of it, so that the agent's loop waits
//! for one thing.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use edge_secrets_protocol::status::{DeploymentError, DeploymentState, StatusReport};
use edge_secrets_protocol::{Code, NodeId, OrgId};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::{AbortOnDrop, facts};
use crate::clock::Now;
use crate::config::Config;
use crate::consumers::credentials::Shelf;
use crate::consumers::lifecycle::{Lifecycles, Observed};
use crate::consumers::names::{ContainerName, UnitName};
use crate::consumers::on_change::perform::{Commands, Host as Performer};
use crate::consumers::on_change::{Actions, Outcome};
use crate::consumers::profile::Workload;
use crate::consumers::profiles::{ProfileStore, Profiles};
use crate::consumers::secrets_api::SecretsApis;
use crate::containers::Engine;
use crate::delivery::ConsumerId;
use crate::metrics::Counters;
use crate::reconcile::Reconciler;
use crate::status::{ActionState, ProfileProblem, ServiceStatus};
use crate::systemd::manager::Manager;

/// All of the node's side.
pub(super) struct Host {
    store: ProfileStore,
    profiles: Arc<Profiles>,
    lifecycles: Lifecycles,
    /// When it was last judged who may have secrets: what ended later is still to be taken.
    judged: Instant,
    actions: Actions<Performer<Manager, Engine>>,
    manager: Manager,
    engine: Engine,
    counters: Arc<Counters>,
    shelf: watch::Sender<Arc<Shelf>>,
    observed: Channel<Observed>,
    outcomes: Channel<Outcome>,
    asked: Channel<ConsumerId>,
    units: Option<(BTreeSet<UnitName>, AbortOnDrop)>,
    containers: Option<(BTreeSet<ContainerName>, AbortOnDrop)>,
    apis: SecretsApis,
}

/// Something that happened on the node.
#[derive(Debug)]
pub(super) enum News {
    /// A unit or container was seen to start, run or stop.
    Observed(Observed),
    /// An attempt at an on-change action has ended.
    Outcome(Outcome),
    /// A unit has asked for a credential of this consumer's.
    Asked(ConsumerId),
    /// A linger is over.
    Time,
}

impl Host {
    pub(super) fn new(config: &Config, counters: Arc<Counters>) -> Self {
        let manager = Manager::new(None);
        let engine = Engine::new(config.containers.socket.clone());
        let outcomes = Channel::new();
        let commands = Commands::of_this_machine();
        let performer = Performer::new(manager.clone(), engine.clone(), commands);
        let apis = SecretsApis::new(facts::measured(), counters.clone());
        let mut host = Self {
            store: ProfileStore::open(&config.services_dir, &config.kept_profiles()),
            profiles: Arc::default(),
            lifecycles: Lifecycles::default(),
            judged: Instant::now(),
            actions: Actions::new(performer, outcomes.sender.clone()),
            manager,
            engine,
            counters,
            shelf: watch::Sender::new(Arc::default()),
            observed: Channel::new(),
            outcomes,
            asked: Channel::new(),
            units: None,
            containers: None,
            apis,
        };
        host.adopt();
        host
    }

    /// What units may get, for whom it gives out.
    pub(super) fn shelf(&self) -> watch::Receiver<Arc<Shelf>> {
        self.shelf.subscribe()
    }

    /// Where it is said that a unit asks for a consumer's credential.
    pub(super) fn asked(&self) -> mpsc::UnboundedSender<ConsumerId> {
        self.asked.sender.clone()
    }

    pub(super) fn manager(&self) -> Manager {
        self.manager.clone()
    }

    pub(super) fn profiles(&self) -> Arc<Profiles> {
        self.profiles.clone()
    }

    pub(super) fn problems(&self) -> &[ProfileProblem] {
        self.store.problems()
    }

    /// Whatever a change of is a reason to [`reload`](Self::reload).
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        self.store.watched()
    }

    /// Reads the profiles again; says whether others are in force. Lingers that are over are over then:
    /// [`apply_lives`](Self::apply_lives) must follow in either case.
    pub(super) fn reload(&mut self) -> bool {
        if !self.store.reload() {
            return false;
        }
        let before = self.profiles.clone();
        self.adopt();
        !Arc::ptr_eq(&before, &self.profiles)
    }

    /// Waits for the next thing that happens.
    pub(super) async fn next(&mut self) -> News {
        // Not from now on: a linger may have ended while something else was done.
        let time = self.lifecycles.next(self.judged);
        let linger = async {
            match time {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            seen = self.observed.next() => News::Observed(seen),
            outcome = self.outcomes.next() => News::Outcome(outcome),
            consumer = self.asked.next() => News::Asked(consumer),
            () = linger => News::Time,
        }
    }

    /// Takes what happened. Says whether somebody's right to have secrets may have changed.
    pub(super) fn take(&mut self, news: News, reconciler: &mut Reconciler) -> bool {
        let now = Instant::now();
        match news {
            News::Observed(seen) => self.lifecycles.observe(seen, now),
            News::Asked(consumer) => {
                let life = self
                    .profiles
                    .of(&consumer)
                    .and_then(|p| p.lifecycle.as_ref());
                if let Some(life) = life {
                    self.lifecycles.starts(&life.workload, now);
                }
            }
            News::Outcome(outcome) => {
                match &outcome.result {
                    Ok(()) => {
                        self.counters.actions_ok.increment();
                        reconciler.announced(&outcome.consumer, &outcome.generation);
                    }
                    Err(_) => self.counters.actions_failed.increment(),
                }
                return false;
            }
            News::Time => {}
        }
        true
    }

    /// Tells the reconciler who may have secrets now, and says whether that has changed.
    pub(super) fn apply_lives(&mut self, reconciler: &mut Reconciler) -> bool {
        let now = Instant::now();
        self.judged = now;
        let tied = self
            .profiles
            .iter()
            .filter(|profile| profile.lifecycle.is_some());
        let living = tied.map(|profile| {
            let key = (profile.service.clone(), profile.consumer.clone());
            (key, self.lifecycles.of_profile(profile, now))
        });
        reconciler.live_by(living.collect(), Now::read())
    }

    /// After something was delivered or wiped: starts the actions that are due, ends those of
    /// consumers that are gone, and shows units what they may get.
    pub(super) fn follow(&mut self, reconciler: &mut Reconciler) {
        for (consumer, generation) in reconciler.unannounced() {
            let profile = self.profiles.of(&consumer);
            match profile.and_then(|profile| profile.on_change.as_ref()) {
                Some(what) => self.actions.changed(&consumer, &generation, what),
                None => reconciler.announced(&consumer, &generation),
            }
        }
        let profiles = &self.profiles;
        self.actions.retain(|consumer| {
            let profile = profiles.of(consumer);
            profile.is_some_and(|p| p.on_change.is_some()) && reconciler.delivers(consumer)
        });
        let wanted = self
            .profiles
            .iter()
            .any(|profile| profile.credentials.is_some());
        let consumers = if wanted {
            reconciler.shelved()
        } else {
            Default::default()
        };
        self.shelf.send_if_modified(|shelf| {
            if shelf.consumers == consumers && Arc::ptr_eq(&shelf.profiles, &self.profiles) {
                return false;
            }
            *shelf = Arc::new(Shelf {
                profiles: self.profiles.clone(),
                consumers,
            });
            true
        });
    }

    /// As [`follow`](Self::follow), for services that ask for their secrets themselves.
    pub(super) fn serve_apis(&mut self, reconciler: &Reconciler, org: &OrgId, node: &NodeId) {
        self.apis.follow(reconciler, org, node);
    }

    /// Adds what is known here to what people are told of services.
    pub(super) fn describe(&self, services: &mut [ServiceStatus], reconciler: &Reconciler) {
        for service in services {
            for consumer in &mut service.consumers {
                let id = ConsumerId {
                    service: service.service.clone(),
                    consumer: consumer.name.clone(),
                };
                let profile = self.profiles.of(&id);
                consumer.profile = profile.map(|profile| profile.file.display().to_string());
                consumer.on_change = self.actions.status(&id);
                consumer.lifecycle = self.lifecycles.status(&self.profiles, &id);
                consumer.secrets_api = self.apis.status(&id, reconciler);
            }
        }
    }

    /// Puts the profiles that are in force into use.
    fn adopt(&mut self) {
        self.profiles = self.store.profiles();
        let profiles = self.profiles.clone();
        self.shelf
            .send_modify(|shelf| Arc::make_mut(shelf).profiles = profiles);
        self.lifecycles.follow(&self.profiles, Instant::now());
        let workloads = self.profiles.workloads();
        let units: BTreeSet<_> = workloads.iter().filter_map(unit).collect();
        let containers: BTreeSet<_> = workloads.iter().filter_map(container).collect();
        if self.units.as_ref().map(|(names, _)| names) != Some(&units) {
            let seen = self.observed.sender.clone();
            let watch = |units: BTreeSet<_>| (units.clone(), self.manager.watch(units, seen));
            self.units = Some(units).filter(|units| !units.is_empty()).map(watch);
        }
        if self.containers.as_ref().map(|(names, _)| names) != Some(&containers) {
            let seen = self.observed.sender.clone();
            let watch = |names: BTreeSet<_>| (names.clone(), self.engine.watch(names, seen));
            self.containers = Some(containers)
                .filter(|names| !names.is_empty())
                .map(watch);
        }
    }
}

/// Adds failing actions, as people are told of them, to what the hub is told: applied, and not heard
/// of. A deployment is looked for only where an action fails.
pub(super) fn report_failing(mut report: StatusReport, services: &[ServiceStatus]) -> StatusReport {
    for service in services {
        let failing = service.consumers.iter().find_map(|consumer| {
            let action = consumer.on_change.as_ref()?;
            (action.state == ActionState::Failing).then_some((consumer, action))
        });
        let Some((consumer, action)) = failing else {
            continue;
        };
        let told = report.deployments.iter_mut();
        let applied = told
            .filter(|told| told.state == DeploymentState::Applied && told.error.is_none())
            .find(|told| told.id == service.deployment);
        if let Some(deployment) = applied {
            deployment.error = Some(DeploymentError {
                code: Code::Failed,
                detail: format!(
                    "applied, but the on-change action of {} ({}) fails: {}",
                    consumer.name,
                    action.action,
                    action.error.as_deref().unwrap_or("no reason is known")
                ),
            });
        }
    }
    report
}

fn unit(workload: &Workload) -> Option<UnitName> {
    match workload {
        Workload::Unit(unit) => Some(unit.clone()),
        Workload::Container(_) => None,
    }
}

fn container(workload: &Workload) -> Option<ContainerName> {
    match workload {
        Workload::Container(container) => Some(container.clone()),
        Workload::Unit(_) => None,
    }
}

/// Both ends, so that it never closes.
struct Channel<T> {
    sender: mpsc::UnboundedSender<T>,
    receiver: mpsc::UnboundedReceiver<T>,
}

impl<T> Channel<T> {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    async fn next(&mut self) -> T {
        match self.receiver.recv().await {
            Some(news) => news,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
