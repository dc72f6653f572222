//! The planner against a world in memory: any schedule of bindings, answers, failures, damage, restarts
//! and ends converges to what is desired once it stops changing, and shows nothing past its end.

use std::time::Duration;

use edge_secrets_protocol::binding::{BoundSecret, Consumer, ConsumerSecret, SecretState};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::clock::Now;
use crate::consumers::profile::{Lifecycle, Profile, Shape, Template, Workload};
use crate::delivery::{FileMark, ManifestFile, ManifestSecret, Origin};
use crate::ends::Desired;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Bindings(Vec<Deployment>),
    /// Bindings that were overtaken by others.
    Outdated(Vec<Deployment>),
    /// Some of what is asked for is answered: `true` is a value.
    Answers(Vec<Answer>),
    /// A delivery goes wrong.
    DeliveryFails,
    /// A wipe goes wrong.
    WipeFails,
    Damage(Index, Index),
    Restart,
    /// The administrator writes other profiles.
    Profiles(Vec<Profile>),
    /// Units start and stop: by service.
    Lives([Verdict; 3]),
    /// So many milliseconds pass.
    Time(u64),
    /// The hub says that nothing has changed.
    Unchanged,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Value,
    Problem(Code),
    None,
}

/// Does with a planner what the reconciler does, with a file system that only counts.
struct Model {
    planner: Planner,
    profiles: Arc<Profiles>,
    lives: [Verdict; 3],
    generation: u64,
    fail_delivery: bool,
    fail_wipe: bool,
    now: BootTime,
    /// Consumers whose wipe went wrong: they can read nothing, and it is tried again.
    half_wiped: BTreeSet<ConsumerId>,
    /// What was taken last.
    pulled: Option<Desired>,
    /// What the hub said last of when a version ends.
    said: BTreeMap<Told, Option<BootTime>>,
}

type Told = (ServiceId, DeploymentId, SecretName, SecretVersion);

impl Model {
    fn new() -> Self {
        Self {
            planner: Planner::default(),
            profiles: Arc::default(),
            lives: [Verdict::Leave; 3],
            generation: 0,
            fail_delivery: false,
            fail_wipe: false,
            now: BootTime::LONG_AGO.after(Duration::from_secs(1)),
            half_wiped: BTreeSet::new(),
            pulled: None,
            said: BTreeMap::new(),
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Bindings(deployments) => {
                self.generation += 1;
                self.desire(deployments, self.generation);
            }
            Event::Unchanged => self.pulled.clone().into_iter().for_each(|it| self.take(it)),
            Event::Time(millis) => {
                self.now = self.now.after(Duration::from_millis(*millis));
                self.planner.pass(self.now);
                self.wipe();
                self.planner.settle();
                self.check();
            }
            Event::Outdated(deployments) => {
                let before = (self.planner.desired().clone(), self.planner.ends.clone());
                if let Some(Generation(newest)) = self.planner.generation() {
                    self.take(self.answer_of(deployments, newest - 1));
                    let after = (self.planner.desired().clone(), self.planner.ends.clone());
                    assert_eq!(after, before);
                }
            }
            Event::Answers(answers) => self.answer(answers.iter().copied()),
            Event::DeliveryFails => self.fail_delivery = true,
            Event::WipeFails => self.fail_wipe = true,
            Event::Damage(consumer, name) => self.damage(consumer, name),
            Event::Restart => {
                let before = std::mem::take(&mut self.planner);
                let actual = before.actual.into_iter();
                let live = actual.map(|(consumer, live)| (consumer, live.manifest));
                self.planner = Planner::new(Former {
                    live: live.collect(),
                    ended: before.ended,
                });
                self.pulled = None;
                self.shape();
            }
            Event::Profiles(profiles) => {
                self.profiles = Arc::new(Profiles::of_these(profiles.clone()));
                self.shape();
            }
            Event::Lives(lives) => {
                self.lives = *lives;
                self.live();
            }
        }
    }

    fn shape(&mut self) {
        self.planner.shape_by(self.profiles.clone());
        self.live();
    }

    fn live(&mut self) {
        let stances = self
            .profiles
            .iter()
            .filter(|p| p.lifecycle.is_some())
            .map(|profile| {
                let key = (profile.service.clone(), profile.consumer.clone());
                (key, self.lives[number(&profile.service)])
            });
        self.planner.pass(self.now);
        self.planner.live_by(stances.collect());
        self.wipe();
        self.apply(false);
        self.check();
    }

    fn desire(&mut self, deployments: &[Deployment], generation: u64) {
        let desired = self.answer_of(deployments, generation);
        for deployment in deployments {
            for secret in &deployment.secrets {
                if let SecretState::Ready { version } = &secret.state {
                    let (service, id) = (deployment.service.clone(), deployment.id.clone());
                    let life = secret.expires_in_ms.map(Duration::from_millis);
                    let end = life.map(|life| self.now.after(life));
                    let told = (service, id, secret.name.clone(), version.clone());
                    self.said.insert(told, end);
                }
            }
        }
        self.pulled = Some(desired.clone());
        self.take(desired);
    }

    fn answer_of(&self, deployments: &[Deployment], generation: u64) -> Desired {
        let bindings = Bindings {
            generation: Generation(generation),
            deployments: deployments.to_vec(),
            ..Bindings::default()
        };
        let asked = Now {
            wall: Timestamp::UNIX_EPOCH,
            boot: self.now,
        };
        Desired::new(bindings, asked)
    }

    fn take(&mut self, desired: Desired) {
        if self.planner.is_outdated(desired.bindings()) {
            return;
        }
        self.planner.pass(self.now);
        self.planner.desire(desired.bindings(), desired.ends());
        for (consumer, manifest) in self.planner.moved() {
            self.planner.noted(&consumer, manifest);
        }
        self.wipe();
        self.apply(false);
        self.check();
    }

    fn answer(&mut self, answers: impl Iterator<Item = Answer>) {
        self.planner.pass(self.now);
        for (item, answer) in self.planner.to_fetch().into_iter().zip(answers) {
            match answer {
                Answer::Value => {
                    assert!(self.planner.arrived(&item), "what is asked for is wanted");
                }
                Answer::Problem(code) => self.planner.refused(&item, &Problem::new(code, "")),
                Answer::None => {}
            }
        }
        self.apply(true);
        self.wipe();
        self.check();
    }

    fn wipe(&mut self) {
        for consumer in self.planner.leftovers() {
            let ending = self.planner.ending(&consumer);
            if std::mem::take(&mut self.fail_wipe) {
                self.planner.half_wiped(&consumer);
                self.half_wiped.insert(consumer);
            } else {
                self.planner.wiped(&consumer);
                self.half_wiped.remove(&consumer);
                if let Some(ended) = ending {
                    self.planner.note_ended(&consumer, ended);
                }
            }
        }
        self.planner.forget_ended();
    }

    fn apply(&mut self, with_values: bool) {
        for (id, work) in self.planner.ready() {
            assert!(work.values.iter().all(|item| self.planner.holds(item)));
            if !with_values && !work.values.is_empty() {
                continue;
            }
            if std::mem::take(&mut self.fail_delivery) {
                let error = DeploymentError {
                    code: Code::Failed,
                    detail: String::new(),
                };
                self.planner.failed(&id, error);
            } else {
                self.deliver(&id, &work);
            }
            self.planner.forget(&work.values);
        }
        self.planner.settle();
    }

    fn deliver(&mut self, id: &DeploymentId, work: &Work) {
        let deployment = self.planner.desired()[id].clone();
        let origin = Origin {
            deployment: id.clone(),
            policy: deployment.policy.clone(),
            service_version: deployment.service_version.clone(),
        };
        for consumer in &work.relabel {
            let mut manifest = self.planner.actual()[consumer].manifest.clone();
            manifest.origin = Some(origin.clone());
            self.planner.delivered(consumer.clone(), manifest);
        }
        for target in &work.targets {
            assert!(!self.planner.withholds(&target.consumer));
            let at_hand = |name: &SecretName| work.values.iter().any(|item| item.name == *name);
            assert!(target.fresh.iter().all(at_hand));
            let shaped = self.planner.shape(&target.consumer);
            let all: BTreeSet<_> = target.secrets.keys().cloned().collect();
            let templates = shaped
                .shape
                .templates
                .iter()
                .enumerate()
                .map(|(at, template)| {
                    let made_of = template.reads.clone().unwrap_or_else(|| all.clone());
                    if target.rendered.contains(&at) {
                        assert!(
                            made_of.iter().all(at_hand),
                            "all that a template reads is at hand"
                        );
                    }
                    let file = ManifestFile {
                        made_of,
                        file: FileMark::default(),
                    };
                    (FileName::from(&template.name), file)
                });
            let templates: Vec<_> = templates.collect();
            let mark = target.mark.clone();
            let live = self.planner.actual().get(&target.consumer);
            let shown = live.map(|live| &live.manifest.secrets);
            let secrets = target.secrets.iter().map(|(name, (version, format))| {
                let secret = ManifestSecret {
                    version: version.clone(),
                    format: *format,
                    since: Timestamp::UNIX_EPOCH,
                    end: match target.fresh.contains(name) {
                        true => self.planner.end(id, name),
                        false => shown.unwrap()[name].end,
                    },
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
                generation: "..g1.test".into(),
                since: Timestamp::UNIX_EPOCH,
                shape: mark,
                unannounced: false,
                boot: None,
                secrets: secrets.collect(),
                files: files.chain(templates).collect(),
            };
            self.planner.delivered(target.consumer.clone(), manifest);
            self.half_wiped.remove(&target.consumer);
        }
    }

    fn damage(&mut self, consumer: &Index, name: &Index) {
        let consumers: Vec<_> = self.planner.actual().keys().cloned().collect();
        if consumers.is_empty() {
            return;
        }
        let consumer = consumer.get(&consumers);
        let live = &self.planner.actual()[consumer];
        let names: Vec<_> = live.manifest.files.keys().cloned().collect();
        if !names.is_empty() {
            let names = BTreeSet::from([name.get(&names).clone()]);
            self.planner.damaged(consumer, names);
        }
    }

    /// What must hold after every event.
    fn check(&self) {
        let planner = &self.planner;
        let fetch = planner.to_fetch();
        for item in &fetch {
            assert!(!planner.holds(item), "what is at hand is not fetched");
            let owner = &planner.desired()[&planner.owners[&item.service]];
            assert!(planner.needs(owner).contains(item));
        }
        for (consumer, live) in planner.actual() {
            // Shown whole or not at all, and only what one deployment declared together.
            assert!(!live.manifest.files.is_empty(), "{consumer} shows nothing");
            assert!(!planner.ended().contains_key(consumer));
            if self.half_wiped.contains(consumer) {
                continue;
            }
            assert!(!planner.has_ended(live), "{consumer} shows the past");
            for (name, shown) in &live.manifest.secrets {
                let deployment = live.manifest.origin.as_ref().unwrap().deployment.clone();
                let (service, version) = (consumer.service.clone(), shown.version.clone());
                let end = self.said[&(service, deployment, name.clone(), version)];
                assert_eq!(end.is_some(), shown.end.is_some(), "{consumer} {name}");
                let over = end.is_some_and(|end| end.after(Duration::from_secs(2)) <= self.now);
                assert!(!over, "{consumer} shows {name} past its end");
            }
        }
        assert!(planner.next_end().is_none_or(|at| at > self.now));
        for item in &planner.held {
            let owner = &planner.owners[&item.service];
            assert!(!planner.is_expired(owner, &item.name), "{item:?} is dead");
        }
        for id in planner.desired().keys() {
            if !planner.unsettled.contains(id) {
                assert_eq!(
                    planner.judgement(id),
                    Judgement::Settled,
                    "{id} was let go too early"
                );
            }
        }
    }

    /// Everything goes well from now on.
    fn calm(&mut self, deployments: &[Deployment]) {
        (self.fail_delivery, self.fail_wipe) = (false, false);
        self.generation += 1;
        for _ in 0..3 {
            self.desire(deployments, self.generation);
            self.answer(std::iter::repeat(Answer::Value));
        }
    }

    fn assert_converged(&self, deployments: &[Deployment]) {
        let planner = &self.planner;
        assert!(planner.to_fetch().is_empty() && planner.ready().is_empty());
        assert!(planner.leftovers().is_empty());
        // Only what a deployment waits with, until the rest of it comes.
        for item in &planner.held {
            let owner = &planner.owners[&item.service];
            assert_eq!(planner.state(owner).0, DeploymentState::Blocked, "{item:?}");
        }
        let mut expected: BTreeMap<ConsumerId, &Deployment> = BTreeMap::new();
        for deployment in deployments {
            let (state, error) = planner.state(&deployment.id);
            let ready = deployment
                .secrets
                .iter()
                .all(|secret| matches!(secret.state, SecretState::Ready { .. }));
            let over = deployment
                .secrets
                .iter()
                .any(|s| s.expires_in_ms == Some(0));
            match state {
                DeploymentState::Applied | DeploymentState::Stopped => assert!(ready),
                DeploymentState::Blocked => assert!(!ready || over),
                DeploymentState::Failed => {
                    let code = error.map(|error| error.code);
                    assert!(
                        matches!(code, Some(Code::Conflict | Code::Invalid)),
                        "{code:?}"
                    );
                    continue;
                }
                other => panic!("{} is {other:?} for ever", deployment.id),
            }
            for consumer in deployment
                .consumers
                .iter()
                .filter(|c| !c.secrets.is_empty())
            {
                let id = ConsumerId {
                    service: deployment.service.clone(),
                    consumer: consumer.name.clone(),
                };
                assert!(
                    expected.insert(id.clone(), deployment).is_none(),
                    "{id} shared"
                );
                if planner.withholds(&id) {
                    assert!(!planner.actual().contains_key(&id), "{id} may have nothing");
                    continue;
                }
                assert_ne!(state, DeploymentState::Stopped, "{id} may have something");
                if state == DeploymentState::Applied {
                    let live = &planner.actual()[&id];
                    let shaped = planner.shape(&id);
                    assert!(live.damaged.is_empty());
                    assert_eq!(live.manifest.shape, shaped.mark_of(consumer));
                    for template in &shaped.shape.templates {
                        let file = FileName::from(&template.name);
                        assert!(live.manifest.files.contains_key(&file));
                    }
                    let origin = live.manifest.origin.as_ref().unwrap();
                    assert_eq!(origin.deployment, deployment.id);
                    assert_eq!(origin.service_version, deployment.service_version);
                    let shown = live.manifest.secrets.iter();
                    let shown: BTreeMap<_, _> =
                        shown.map(|(n, f)| (n, (&f.version, f.format))).collect();
                    assert_eq!(shown, declared(deployment, consumer, shaped));
                }
            }
        }
        for (consumer, live) in planner.actual() {
            let known = deployments
                .iter()
                .any(|d| d.service == consumer.service && reads(d, &consumer.consumer));
            assert!(known, "{consumer} should be wiped: {live:?}");
        }
    }
}

fn declared<'a>(
    deployment: &'a Deployment,
    consumer: &'a Consumer,
    shaped: Shaped<'_>,
) -> BTreeMap<&'a SecretName, (&'a SecretVersion, Format)> {
    let version = |name: &SecretName| -> &'a SecretVersion {
        let secret = deployment
            .secrets
            .iter()
            .find(|secret| secret.name == *name);
        match &secret.unwrap().state {
            SecretState::Ready { version } => version,
            state => panic!("{state:?} is applied"),
        }
    };
    let secrets = consumer.secrets.iter();
    secrets
        .map(|s| {
            (
                &s.name,
                (version(&s.name), shaped.shape.format.unwrap_or(s.format)),
            )
        })
        .collect()
}

fn state() -> impl Strategy<Value = SecretState> {
    prop_oneof![
        8 => (1..4u8).prop_map(|version| SecretState::Ready {
            version: version.to_string().parse().unwrap(),
        }),
        1 => Just(SecretState::Pending),
        1 => Just(SecretState::Denied),
        1 => Just(SecretState::Missing),
    ]
}

/// Far enough apart to be told apart.
fn life() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        5 => Just(None),
        4 => prop::sample::select(vec![3_000, 6_000, 9_000, 60_000]).prop_map(Some),
        1 => Just(Some(0)),
    ]
}

fn deployment(id: usize) -> impl Strategy<Value = Deployment> {
    let secrets = prop::collection::vec((state(), life()), 1..4);
    // A consumer may name a secret that is not declared.
    let reads = prop::collection::btree_map(0..4usize, any::<(bool, bool)>(), 0..4);
    let consumers = prop::collection::btree_map(0..3usize, reads, 1..3);
    (0..3usize, 0..3u8, secrets, consumers).prop_map(
        move |(service, version, secrets, consumers)| {
            let secrets = secrets
                .into_iter()
                .enumerate()
                .map(|(n, state)| BoundSecret {
                    name: format!("n{n}").parse().unwrap(),
                    state: state.0,
                    expires_at: None,
                    expires_in_ms: state.1,
                });
            let consumers = consumers.into_iter().map(|(c, reads)| Consumer {
                name: format!("c{c}").parse().unwrap(),
                secrets: reads
                    .into_iter()
                    .map(|(n, (raw, mode))| ConsumerSecret {
                        name: format!("n{n}").parse().unwrap(),
                        format: if raw { Format::ValueOnly } else { Format::Json },
                        mode: (mode && n % 2 == 0).then(|| "0440".parse().unwrap()),
                    })
                    .collect(),
            });
            Deployment {
                id: format!("d{id}").parse().unwrap(),
                service: format!("o/s{service}").parse().unwrap(),
                service_version: version.to_string(),
                policy: format!("p{id}").parse().unwrap(),
                secrets: secrets.collect(),
                consumers: consumers.collect(),
            }
        },
    )
}

fn deployments() -> impl Strategy<Value = Vec<Deployment>> {
    let all = (
        deployment(0),
        deployment(1),
        deployment(2),
        any::<[bool; 3]>(),
    );
    all.prop_map(|(a, b, c, present)| {
        let all = [a, b, c].into_iter().zip(present);
        all.filter_map(|(deployment, present)| present.then_some(deployment))
            .collect()
    })
}

fn number(service: &ServiceId) -> usize {
    let url = service.url.as_str();
    url.trim_start_matches('s').parse().unwrap()
}

fn profile() -> impl Strategy<Value = Profile> {
    let template = |name: &str, reads: Option<&str>| Template {
        name: name.parse().unwrap(),
        text: String::new(),
        reads: reads.map(|name| BTreeSet::from([name.parse().unwrap()])),
        mode: None,
    };
    let shapes = [
        Shape::default(),
        Shape {
            mode: Some(0o440),
            ..Shape::default()
        },
        Shape {
            format: Some(Format::Env),
            ..Shape::default()
        },
        Shape {
            templates: vec![template("t0", Some("n0")), template("t1", None)],
            ..Shape::default()
        },
        Shape {
            templates: vec![template("n1", Some("n0"))],
            ..Shape::default()
        },
    ];
    let consumer = prop::option::of(0..3usize);
    let shape = prop::sample::select(shapes.to_vec());
    (0..3usize, consumer, shape, any::<bool>()).prop_map(|(service, consumer, shape, lives)| {
        let unit = format!("s{service}.service").parse().unwrap();
        Profile {
            service: format!("o/s{service}").parse().unwrap(),
            consumer: consumer.map(|c| format!("c{c}").parse().unwrap()),
            file: "p.yaml".into(),
            shape,
            on_change: None,
            lifecycle: lives.then_some(Lifecycle {
                workload: Workload::Unit(unit),
                linger: Duration::ZERO,
            }),
            credentials: None,
            secrets_api: None,
        }
    })
}

fn lives() -> impl Strategy<Value = [Verdict; 3]> {
    let one = prop::sample::select(vec![Verdict::Deliver, Verdict::Withhold, Verdict::Leave]);
    prop::array::uniform3(one)
}

fn answer() -> impl Strategy<Value = Answer> {
    let codes = [
        Code::Denied,
        Code::Pending,
        Code::BatchFull,
        Code::Superseded,
        Code::Missing,
    ];
    prop_oneof![
        4 => Just(Answer::Value),
        1 => prop::sample::select(codes.to_vec()).prop_map(Answer::Problem),
        1 => Just(Answer::None),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => deployments().prop_map(Event::Bindings),
        1 => deployments().prop_map(Event::Outdated),
        5 => prop::collection::vec(answer(), 1..8).prop_map(Event::Answers),
        1 => Just(Event::DeliveryFails),
        1 => Just(Event::WipeFails),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(c, n)| Event::Damage(c, n)),
        1 => Just(Event::Restart),
        1 => prop::collection::vec(profile(), 0..4).prop_map(Event::Profiles),
        2 => lives().prop_map(Event::Lives),
        4 => (0..10_000_u64).prop_map(Event::Time),
        1 => Just(Event::Unchanged),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_schedule_converges(
        events in prop::collection::vec(event(), 0..25),
        last in deployments(),
    ) {
        let mut model = Model::new();
        for event in &events {
            model.happens(event);
        }
        model.calm(&last);
        model.assert_converged(&last);

        // Applied once more, there is nothing to do.
        let before = model.planner.actual().clone();
        model.desire(&last, model.generation);
        prop_assert!(model.planner.to_fetch().is_empty());
        prop_assert_eq!(model.planner.actual(), &before);
    }

    #[test]
    fn after_undeploy_nothing_remains(events in prop::collection::vec(event(), 0..25)) {
        let mut model = Model::new();
        for event in &events {
            model.happens(event);
        }
        model.fail_wipe = false;
        model.desire(&[], model.generation + 1);
        prop_assert!(model.planner.actual().is_empty());
        prop_assert!(model.planner.held.is_empty());
        prop_assert!(model.planner.unsettled.is_empty());
        prop_assert!(model.planner.problems.is_empty() && model.planner.failures.is_empty());
        prop_assert!(model.planner.ended.is_empty() && model.planner.ends.is_empty());
        prop_assert_eq!(model.planner.next_end(), None);
    }

    #[test]
    fn what_has_ended_comes_back_with_another_version(
        events in prop::collection::vec(event(), 0..15),
        mut last in deployments(),
    ) {
        let mut model = Model::new();
        for event in &events {
            model.happens(event);
        }
        model.calm(&last);
        // However far apart the ends lie, each is one wake-up.
        let desired = model.planner.ends.values().flat_map(BTreeMap::values).copied();
        let live = model.planner.actual().values();
        let shown = live.flat_map(|live| live.manifest.secrets.values().filter_map(|s| s.end));
        let ends: BTreeSet<_> = desired.chain(shown).map(|end| end.at).collect();
        let mut wakes = 0;
        while let Some(at) = model.planner.next_end() {
            let wait = at.since(model.now).as_millis();
            model.happens(&Event::Time(wait.try_into().unwrap()));
            wakes += 1;
        }
        prop_assert!(wakes <= ends.len());
        for deployment in &mut last {
            for secret in &mut deployment.secrets {
                secret.expires_in_ms = secret.expires_in_ms.map(|_| 5_000);
                if let SecretState::Ready { version } = &mut secret.state {
                    *version = format!("{version}-new").parse().unwrap();
                }
            }
        }
        model.calm(&last);
        model.assert_converged(&last);
    }

    #[test]
    fn trouble_of_one_touches_no_other(good in deployment(0), bad in deployments()) {
        let mut alone = Model::new();
        alone.calm(std::slice::from_ref(&good));
        // Whatever else is placed here, of other services.
        let others = bad.into_iter().filter(|d| d.id != good.id && d.service != good.service);
        let mut all: Vec<_> = others.collect();
        all.insert(0, good.clone());
        let mut among = Model::new();
        among.calm(&all);
        prop_assert_eq!(alone.planner.state(&good.id), among.planner.state(&good.id));
        for (consumer, live) in alone.planner.actual() {
            prop_assert_eq!(&among.planner.actual()[consumer], live);
        }
    }
}
