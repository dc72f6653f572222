//! A hub, a network and a node in memory, against a simple model: random schedules of publishing,
//! rotating, withdrawing, refusing and revoking, with answers that are late, lost, doubled and reordered,
//! connections that break, agents that are killed between any two of their steps, and reboots.
//!
//! What decides is the real thing: the planner, and what the cache remembers. The rest does what the
//! session does, in its order. Time here is the number of steps.
//!
//! `EDGE_SECRETS_SEED=N` replays one schedule; `EDGE_SECRETS_SCHEDULES=N` runs more of them.

mod disk;
mod hub;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use edge_secrets_protocol::binding::{Bindings, FetchItem, SecretState};
use edge_secrets_protocol::{Code, DeploymentId, Generation, Problem, SecretName};
use jiff::Timestamp;

use self::disk::Disk;
use self::hub::{Hub, NAMES, SERVICES, Shown, service_id};
use self::random::Random;
use super::plan::{Planner, Work};
use crate::cache::ready_items as ready;
use crate::clock::{BootTime, Now};
use crate::consumers::names::FileName;
use crate::delivery::{
    ConsumerId, FileMark, Former, Manifest, ManifestFile, ManifestSecret, Origin,
};
use crate::ends::Desired;

#[derive(Clone)]
enum Message {
    Bindings(Bindings),
    Revoked,
    Secrets(Vec<(FetchItem, Result<(), Code>)>),
}

/// What comes next in the one task, after an answer.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Idle,
    KeepNoLonger,
    Desire,
    Ask,
    Waiting,
    Keep,
    Fill,
    Report,
}

#[derive(Clone, Copy, PartialEq)]
enum Refusal {
    None,
    Forgotten,
    Gone,
}

struct Agent {
    planner: Planner,
    step: Step,
    desired: Option<Desired>,
    fresh: BTreeSet<FetchItem>,
}

struct World {
    random: Random,
    hub: Hub,
    disk: Disk,
    tmpfs: BTreeMap<ConsumerId, Manifest>,
    agent: Agent,
    connected: bool,
    wire: Vec<Message>,
    /// The newest generation that each service has shown, or has been taken away at, in this boot.
    seen: [u64; SERVICES],
    /// What was reported as applied, and what has been taken away for good, by generation.
    reported: [Option<Shown>; SERVICES],
    gone: [u64; SERVICES],
    /// What no reboot brings back.
    forgotten: [u64; SERVICES],
    steps: u64,
    /// How often something was fetched for the cache.
    fetched: u64,
    log: String,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            hub: Hub::default(),
            disk: Disk::default(),
            tmpfs: BTreeMap::new(),
            agent: Agent {
                planner: Planner::default(),
                step: Step::Idle,
                desired: None,
                fresh: BTreeSet::new(),
            },
            connected: false,
            wire: Vec::new(),
            seen: [0; SERVICES],
            reported: Default::default(),
            gone: [0; SERVICES],
            forgotten: [0; SERVICES],
            steps: 0,
            fetched: 0,
            log: String::new(),
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(100) {
            0..=14 => {
                self.hub.change(&mut self.random);
                self.told("the hub changes");
            }
            15..=24 => self.pull(),
            25..=49 => self.receive(),
            50..=84 => self.advance(),
            85..=88 => self.part(),
            89..=94 => self.meet(),
            95..=96 => self.die(),
            97 => self.reboot(),
            98 => self.lose(),
            _ => self.double(),
        }
        self.check();
    }

    fn told(&mut self, what: &str) {
        writeln!(
            self.log,
            "{:5} {what} (hub {})",
            self.steps, self.hub.generation
        )
        .unwrap();
    }

    /// The hub answers a pull as it is now; the answer may be long on its way.
    fn pull(&mut self) {
        if self.connected {
            self.wire.push(match self.hub.revoked {
                true => Message::Revoked,
                false => Message::Bindings(self.hub.bindings()),
            });
        }
    }

    fn receive(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        // Streams of one connection overtake each other.
        let message = self.wire.remove(self.random.below(self.wire.len()));
        match message {
            // The one task takes an answer when it has done with the last one.
            Message::Bindings(bindings)
                if matches!(self.agent.step, Step::Idle | Step::Waiting) =>
            {
                self.take(bindings);
            }
            Message::Secrets(results) if self.agent.step == Step::Waiting => self.arrive(&results),
            Message::Revoked => self.revoked(),
            Message::Bindings(_) | Message::Secrets(_) => {}
        }
    }

    fn take(&mut self, bindings: Bindings) {
        let before = self.agent.desired.as_ref().map(|d| d.bindings().generation);
        if before.is_none() {
            self.agent.planner.start_over();
        }
        if before.is_some_and(|before| bindings.generation < before) {
            return;
        }
        self.told(&format!("bindings of {} are taken", bindings.generation.0));
        self.agent.desired = Some(Desired::new(bindings, now()));
        self.agent.step = Step::KeepNoLonger;
    }

    /// One step of the one task: it can be killed between any two.
    fn advance(&mut self) {
        let Some(desired) = self.agent.desired.clone() else {
            return;
        };
        self.agent.step = match self.agent.step {
            Step::Idle | Step::Waiting => return,
            Step::KeepNoLonger => {
                if self.disk.exceeds(&desired) {
                    self.disk.save(&desired, &mut self.agent.fresh);
                }
                self.forgets(&desired);
                Step::Desire
            }
            Step::Desire => {
                self.agent
                    .planner
                    .desire(desired.bindings(), desired.ends());
                self.apply();
                self.heard(&desired);
                Step::Ask
            }
            Step::Ask => {
                let items = self.agent.planner.to_fetch();
                if items.is_empty() || !self.connected {
                    Step::Keep
                } else {
                    let results = items.into_iter().map(|item| {
                        let result = self.hub.fetch(&item);
                        (item, result)
                    });
                    self.wire.push(Message::Secrets(results.collect()));
                    Step::Waiting
                }
            }
            Step::Keep => {
                self.disk.save(&desired, &mut self.agent.fresh);
                if self.connected {
                    Step::Fill
                } else {
                    Step::Idle
                }
            }
            Step::Fill => {
                // What a killed agent had delivered and not kept is fetched for the cache alone, one by one.
                let mut refused = BTreeSet::new();
                loop {
                    let ready = desired.bindings().deployments.iter().flat_map(ready);
                    let mut lacking = ready
                        .filter(|item| !self.disk.sealed.contains(item) && !refused.contains(item));
                    let Some(item) = lacking.next() else {
                        break;
                    };
                    match self.hub.fetch(&item) {
                        Ok(()) => assert!(self.agent.fresh.insert(item.clone())),
                        Err(_) => assert!(refused.insert(item)),
                    }
                    self.disk.save(&desired, &mut self.agent.fresh);
                    self.fetched += 1;
                    assert!(self.fetched < 100_000, "the same is fetched for ever");
                }
                Step::Report
            }
            Step::Report => {
                self.report();
                Step::Idle
            }
        };
    }

    fn arrive(&mut self, results: &[(FetchItem, Result<(), Code>)]) {
        for (item, result) in results {
            match result {
                // An answer may be one of several, or to a question of before.
                Ok(()) => {
                    if self.agent.planner.arrived(item) {
                        self.agent.fresh.insert(item.clone());
                    }
                }
                Err(code) => self.agent.planner.refused(item, &Problem::new(*code, "")),
            }
        }
        self.told("values arrive");
        let before: [_; SERVICES] = std::array::from_fn(|service| self.shown(service));
        self.apply();
        for (service, before) in before.into_iter().enumerate() {
            if before.is_some() && self.shown(service).is_none() {
                // Refused when it was asked for, before the bindings say so, what a service had of another
                // deployment is wiped. Killed now, an agent without its hub goes on with what is kept, and
                // that may be older than what was wiped: nothing on the tmpfs tells of it any more.
                self.seen[service] = 0;
            }
        }
        self.agent.step = Step::Keep;
    }

    /// Wipes what is to be wiped, and delivers what can be.
    fn apply(&mut self) {
        for consumer in self.agent.planner.leftovers() {
            self.agent.planner.wiped(&consumer);
            self.tmpfs.remove(&consumer);
        }
        for (id, work) in self.agent.planner.ready() {
            self.deliver(&id, &work);
            self.agent.planner.forget(&work.values);
        }
        for consumer in self.agent.planner.leftovers() {
            self.agent.planner.wiped(&consumer);
            self.tmpfs.remove(&consumer);
        }
        self.agent.planner.settle();
    }

    fn deliver(&mut self, id: &DeploymentId, work: &Work) {
        let generation = self.agent.planner.generation().unwrap();
        let deployment = self.agent.planner.desired()[id].clone();
        let origin = Origin {
            deployment: id.clone(),
            policy: deployment.policy.clone(),
            service_version: deployment.service_version.clone(),
        };
        for target in &work.targets {
            let secrets = target.secrets.iter().map(|(name, (version, format))| {
                let secret = ManifestSecret {
                    version: version.clone(),
                    format: *format,
                    since: Timestamp::UNIX_EPOCH,
                    end: None,
                };
                (name.clone(), secret)
            });
            let files = target.secrets.keys().map(|name| {
                let file = ManifestFile {
                    made_of: BTreeSet::from([name.clone()]),
                    file: FileMark::default(),
                };
                (FileName::from(name), file)
            });
            let manifest = Manifest {
                origin: Some(origin.clone()),
                generation: format!("..g{}.test", generation.0),
                since: Timestamp::UNIX_EPOCH,
                shape: target.mark.clone(),
                unannounced: false,
                boot: None,
                secrets: secrets.collect(),
                files: files.collect(),
            };
            self.tmpfs.insert(target.consumer.clone(), manifest.clone());
            self.agent
                .planner
                .delivered(target.consumer.clone(), manifest);
        }
        for consumer in &work.relabel {
            let manifest = self.tmpfs.get_mut(consumer).unwrap();
            manifest.origin = Some(origin.clone());
            let manifest = manifest.clone();
            self.agent.planner.delivered(consumer.clone(), manifest);
        }
    }

    /// What the hub says is not to be had.
    fn refused(desired: &Desired) -> [Refusal; SERVICES] {
        std::array::from_fn(|service| {
            let id = service_id(service);
            let mut placed = desired.bindings().deployments.iter();
            let lost = |state: &_| matches!(state, SecretState::Denied | SecretState::Missing);
            match placed.find(|deployment| deployment.service == id) {
                None => Refusal::Gone,
                // What a service reads stays while it runs; what is kept for a reboot goes.
                Some(d) if d.secrets.iter().any(|s| lost(&s.state)) => Refusal::Forgotten,
                Some(_) => Refusal::None,
            }
        })
    }

    /// The cache forgets first, so that no crash brings anything back.
    fn forgets(&mut self, desired: &Desired) {
        let Generation(generation) = desired.bindings().generation;
        for (service, refusal) in Self::refused(desired).into_iter().enumerate() {
            if refusal != Refusal::None {
                self.forgotten[service] = self.forgotten[service].max(generation);
                self.reported[service] = None;
            }
        }
    }

    /// What is gone is gone for good, once the agent has done with the hub's words.
    fn heard(&mut self, desired: &Desired) {
        let Generation(generation) = desired.bindings().generation;
        for (service, refusal) in Self::refused(desired).into_iter().enumerate() {
            if refusal == Refusal::Gone {
                self.gone[service] = self.gone[service].max(generation);
            }
        }
    }

    fn report(&mut self) {
        for service in 0..SERVICES {
            let index = self.disk.index.iter();
            let named: BTreeSet<_> = index
                .flat_map(|index| &index.bindings().deployments)
                .flat_map(ready)
                .filter(|item| self.disk.sealed.contains(item))
                .collect();
            let sealed = |shown: &Shown| {
                NAMES.iter().zip(*shown).all(|(name, version)| {
                    named.contains(&FetchItem {
                        service: service_id(service),
                        name: name.parse().unwrap(),
                        version: version.to_string().parse().unwrap(),
                    })
                })
            };
            if let Some(shown) = self.shown(service).filter(sealed) {
                self.reported[service] = Some(shown);
            }
        }
    }

    fn revoked(&mut self) {
        self.told("it hears that it is revoked");
        self.disk = Disk::default();
        self.agent.planner.clear();
        self.tmpfs.clear();
        self.agent.fresh.clear();
        self.agent.desired = None;
        self.agent.step = Step::Idle;
        self.reported = Default::default();
        self.gone = [self.hub.generation; SERVICES];
        self.wire.clear();
    }

    fn part(&mut self) {
        self.connected = false;
        self.wire.clear();
        if self.agent.step == Step::Waiting {
            self.agent.step = Step::Keep;
        }
    }

    fn meet(&mut self) {
        if !self.connected {
            self.connected = true;
            if self.hub.revoked && self.random.one_in(3) {
                // Somebody has it enrolled again.
                self.hub.revoked = false;
                self.hub.generation += 1;
                self.hub.note();
            }
        }
    }

    fn die(&mut self) {
        self.told("the agent is killed");
        self.begin();
    }

    fn reboot(&mut self) {
        self.told("the machine starts anew");
        self.tmpfs.clear();
        self.seen = [0; SERVICES];
        for (gone, forgotten) in self.gone.iter_mut().zip(self.forgotten) {
            *gone = forgotten.max(*gone);
        }
        self.begin();
        for service in 0..SERVICES {
            if let Some(reported) = &self.reported[service] {
                let shown = self.shown(service).unwrap_or_else(|| {
                    panic!("service {service} was reported with {reported:?} and is not there");
                });
                let (then, now) = (
                    self.offered_at(service, reported),
                    self.offered_at(service, &shown),
                );
                assert!(
                    now >= then,
                    "service {service}: {shown:?} is older than {reported:?}"
                );
            }
        }
    }

    /// Another life: with what lies there, and what is kept.
    fn begin(&mut self) {
        self.part();
        self.agent = Agent {
            planner: Planner::new(Former {
                live: self.tmpfs.clone(),
                ended: BTreeMap::new(),
            }),
            step: Step::Idle,
            desired: None,
            fresh: BTreeSet::new(),
        };
        let Some(recalled) = self.disk.index.clone() else {
            return;
        };
        // What the index does not name is removed when it is read.
        let named: BTreeSet<_> = recalled
            .bindings()
            .deployments
            .iter()
            .flat_map(ready)
            .collect();
        self.disk.sealed.retain(|item| named.contains(item));
        let newest = self.tmpfs.values().filter_map(Manifest::number).max();
        if newest.is_some_and(|newest| newest > recalled.bindings().generation) {
            return;
        }
        self.agent
            .planner
            .desire(recalled.bindings(), recalled.ends());
        self.apply();
        for item in self.agent.planner.to_fetch() {
            if self.disk.sealed.contains(&item) {
                assert!(self.agent.planner.arrived(&item));
            }
        }
        self.apply();
    }

    fn lose(&mut self) {
        if !self.wire.is_empty() {
            self.wire.remove(self.random.below(self.wire.len()));
            if self.agent.step == Step::Waiting {
                // The call ends with an error, and the connection with it.
                self.part();
            }
        }
    }

    fn double(&mut self) {
        if !self.wire.is_empty() {
            let again = self.wire[self.random.below(self.wire.len())].clone();
            self.wire.push(again);
        }
    }

    fn shown(&self, service: usize) -> Option<Shown> {
        let manifest = self.tmpfs.get(&consumer(service))?;
        let version = |name: &str| {
            let name: SecretName = name.parse().unwrap();
            manifest.secrets[&name].version.as_str().parse().unwrap()
        };
        Some(NAMES.map(version))
    }

    fn offered_at(&self, service: usize, shown: &Shown) -> u64 {
        let offered = self.hub.offered.get(&(service, *shown));
        *offered.unwrap_or_else(|| panic!("service {service} shows {shown:?}, which never was"))
    }

    fn check(&mut self) {
        for service in 0..SERVICES {
            let Some(shown) = self.shown(service) else {
                continue;
            };
            // One moment's versions together, and none that has been superseded or taken away.
            let offered = self.offered_at(service, &shown);
            assert!(
                offered >= self.seen[service],
                "service {service} goes back to {shown:?}"
            );
            assert!(
                offered > self.gone[service],
                "service {service}: {shown:?} has come back"
            );
            // What may still be offered is no news.
            let first = self.hub.wants(service).is_none_or(|wanted| wanted != shown);
            if first {
                self.seen[service] = offered;
            }
        }
    }

    /// Everything goes well from now on.
    fn calm(&mut self) {
        self.hub.revoked = false;
        self.hub.generation += 1;
        self.hub.note();
        for _ in 0..3 {
            self.part();
            self.connected = true;
            self.pull();
            while !self.wire.is_empty() || self.agent.step != Step::Idle {
                self.receive();
                self.advance();
                self.check();
            }
        }
        for service in 0..SERVICES {
            let wanted = self.hub.wants(service);
            let shown = self.shown(service);
            match &wanted {
                Some(_) => assert_eq!(shown, wanted, "service {service} has not converged"),
                None if self.hub.placed[service].is_none() => assert_eq!(shown, None),
                // What is missing or denied takes nothing away from a service that runs.
                None => {}
            }
        }
    }
}

fn now() -> Now {
    Now {
        wall: Timestamp::UNIX_EPOCH,
        boot: BootTime::LONG_AGO,
    }
}

fn consumer(service: usize) -> ConsumerId {
    ConsumerId {
        service: service_id(service),
        consumer: "c".parse().unwrap(),
    }
}

fn run(seed: u64) -> u64 {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.step();
            }
            world.calm();
        }));
        if held.is_err() {
            let tail: Vec<_> = world.log.lines().rev().take(40).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            eprintln!("{}\nfailing: EDGE_SECRETS_SEED={seed}", tail.join("\n"));
        }
        held.is_ok()
    });
    assert!(outcome.unwrap_or(false), "EDGE_SECRETS_SEED={seed} fails");
    STEPS
}

const STEPS: u64 = 500;

#[test]
fn any_schedule_keeps_to_the_model_and_converges() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("EDGE_SECRETS_SEED") {
        run(seed);
        return;
    }
    let schedules: u64 = number("EDGE_SECRETS_SCHEDULES").unwrap_or(600);
    let steps: u64 = (0..schedules).map(run).sum();
    println!("{schedules} schedules, {steps} steps, every one kept to the model");
}
