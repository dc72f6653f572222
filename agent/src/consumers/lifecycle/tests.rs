use proptest::prelude::*;

use super::*;

fn profile(unit: Option<&str>, linger: u64) -> Profile {
    Profile {
        service: "myorg/https://example.com/uplink".parse().unwrap(),
        consumer: None,
        file: "uplink.yaml".into(),
        shape: crate::consumers::profile::Shape::default(),
        on_change: None,
        lifecycle: unit.map(|unit| Lifecycle {
            workload: Workload::Unit(unit.parse().unwrap()),
            linger: seconds(linger),
        }),
        credentials: None,
        secrets_api: None,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A unit with a linger of ten seconds, and a time that the test moves.
struct World {
    lifecycles: Lifecycles,
    profile: Profile,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            lifecycles: Lifecycles::default(),
            profile: profile(Some("uplink.service"), 10),
            now: Instant::now(),
        };
        world.follow(10);
        world
    }

    fn follow(&mut self, linger: u64) {
        self.profile = profile(Some("uplink.service"), linger);
        let profiles = [&self.profile].into_iter();
        self.lifecycles.follow_each(profiles, self.now);
    }

    fn see(&mut self, presence: Presence) {
        let reason = (presence == Presence::Unknown).then(|| "D-Bus is away".to_owned());
        let observed = Observed {
            workload: Workload::Unit("uplink.service".parse().unwrap()),
            presence,
            reason,
        };
        self.lifecycles.observe(observed, self.now);
    }

    fn starts(&mut self) {
        let workload = Workload::Unit("uplink.service".parse().unwrap());
        self.lifecycles.starts(&workload, self.now);
    }

    fn pass(&mut self, time: u64) -> Verdict {
        self.now += seconds(time);
        self.verdict()
    }

    fn verdict(&self) -> Verdict {
        self.lifecycles.judge(Some(&self.profile), self.now)
    }
}

#[test]
fn a_consumer_without_a_lifecycle_always_has_its_secrets() {
    let lifecycles = Lifecycles::default();
    let now = Instant::now();
    assert_eq!(lifecycles.judge(None, now), Verdict::Deliver);
    let plain = profile(None, 0);
    assert_eq!(lifecycles.judge(Some(&plain), now), Verdict::Deliver);
    assert_eq!(lifecycles.describe(Some(&plain)), None);
}

#[test]
fn what_was_never_seen_is_left_as_it_is() {
    let mut world = World::new();
    assert_eq!(world.pass(1000), Verdict::Leave);
    world.see(Presence::Unknown);
    assert_eq!(world.pass(1000), Verdict::Leave);
    assert_eq!(world.lifecycles.next(world.now), None);
    let unfollowed = profile(Some("other.service"), 0);
    let verdict = world.lifecycles.judge(Some(&unfollowed), world.now);
    assert_eq!(verdict, Verdict::Leave);
}

#[test]
fn what_had_stopped_before_the_agent_started_is_given_nothing() {
    let mut world = World::new();
    world.see(Presence::Absent);
    assert_eq!(world.verdict(), Verdict::Leave);
    assert_eq!(world.pass(9), Verdict::Leave);
    assert_eq!(world.pass(1), Verdict::Withhold);
}

#[test]
fn coming_and_going_within_the_linger_changes_nothing() {
    let mut world = World::new();
    world.see(Presence::Present);
    for _ in 0..100 {
        world.see(Presence::Absent);
        assert_eq!(world.pass(9), Verdict::Deliver);
        world.see(Presence::Present);
        assert_eq!(world.verdict(), Verdict::Deliver);
    }
}

#[test]
fn absence_that_is_told_again_and_again_still_ends() {
    let mut world = World::new();
    world.see(Presence::Present);
    for _ in 0..10 {
        world.see(Presence::Absent);
        assert_eq!(world.verdict(), Verdict::Deliver);
        world.pass(1);
    }
    assert_eq!(world.verdict(), Verdict::Withhold);
}

#[test]
fn a_linger_does_not_run_out_while_nobody_can_tell() {
    let mut world = World::new();
    world.see(Presence::Present);
    world.see(Presence::Absent);
    world.pass(9);
    world.see(Presence::Unknown);
    assert_eq!(world.pass(1000), Verdict::Deliver);
    world.see(Presence::Absent);
    assert_eq!(world.pass(9), Verdict::Deliver);
    assert_eq!(world.pass(1), Verdict::Withhold);
}

#[test]
fn what_has_stopped_stays_stopped_while_nobody_can_tell() {
    let mut world = World::new();
    world.see(Presence::Absent);
    world.pass(10);
    world.see(Presence::Unknown);
    assert_eq!(world.verdict(), Verdict::Withhold);
    world.see(Presence::Absent);
    assert_eq!(world.verdict(), Verdict::Withhold);
    world.see(Presence::Present);
    assert_eq!(world.verdict(), Verdict::Deliver);
}

#[test]
fn a_unit_that_asks_for_a_credential_may_have_it_at_once() {
    let mut world = World::new();
    world.see(Presence::Absent);
    assert_eq!(world.pass(10), Verdict::Withhold);
    world.starts();
    world.see(Presence::Present);
    assert_eq!(world.pass(1000), Verdict::Deliver);
    world.see(Presence::Absent);
    assert_eq!(world.pass(9), Verdict::Deliver);
    assert_eq!(world.pass(1), Verdict::Withhold);
}

#[test]
fn what_asked_for_a_credential_and_was_never_seen_to_run_has_stopped() {
    let mut world = World::new();
    world.see(Presence::Absent);
    assert_eq!(world.pass(10), Verdict::Withhold);
    world.starts();
    assert_eq!(world.pass(69), Verdict::Deliver);
    assert_eq!(world.pass(1), Verdict::Withhold);
    world.see(Presence::Unknown);
    world.starts();
    assert_eq!(world.pass(1000), Verdict::Deliver, "nobody can tell");
}

#[test]
fn an_edited_linger_brings_nothing_back_that_has_stopped() {
    let mut world = World::new();
    world.see(Presence::Present);
    world.see(Presence::Absent);
    assert_eq!(world.pass(10), Verdict::Withhold);
    world.follow(1000);
    assert_eq!(world.verdict(), Verdict::Withhold);

    let mut world = World::new();
    world.see(Presence::Present);
    world.see(Presence::Absent);
    world.pass(5);
    world.follow(1000);
    assert_eq!(world.pass(994), Verdict::Deliver);
    assert_eq!(world.pass(1), Verdict::Withhold);
}

#[test]
fn the_longest_linger_counts_and_unnamed_workloads_are_forgotten() {
    let mut world = World::new();
    let longer = profile(Some("uplink.service"), 20);
    let now = world.now;
    let both = [&longer, &world.profile].into_iter();
    world.lifecycles.follow_each(both, now);
    world.see(Presence::Present);
    world.see(Presence::Absent);
    assert_eq!(world.pass(19), Verdict::Deliver);
    assert_eq!(world.pass(1), Verdict::Withhold);
    world.lifecycles.follow_each([].into_iter(), now);
    assert!(world.lifecycles.known.is_empty());
    world.see(Presence::Present);
    world.starts();
    assert!(world.lifecycles.known.is_empty());
}

#[test]
fn people_are_told_what_was_seen_and_why_nothing_is() {
    let mut world = World::new();
    let told = |world: &World| world.lifecycles.describe(Some(&world.profile)).unwrap();
    assert_eq!(told(&world).presence, "unknown");
    assert!(told(&world).reason.is_some());
    world.see(Presence::Present);
    assert_eq!(
        told(&world),
        LifecycleStatus {
            workload: "unit uplink.service".to_owned(),
            presence: "present".to_owned(),
            reason: None,
        }
    );
    world.see(Presence::Absent);
    assert_eq!(told(&world).presence, "absent");
    world.see(Presence::Unknown);
    assert_eq!(told(&world).presence, "unknown");
    assert_eq!(told(&world).reason.unwrap(), "D-Bus is away");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    See(Presence),
    Starts,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::See(Presence::Present)),
        Just(Step::See(Presence::Absent)),
        Just(Step::See(Presence::Unknown)),
        Just(Step::Starts),
        (0..25_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Judged by what the rules promise, not by how the verdict is reached.
    #[test]
    fn nothing_is_withheld_before_its_linger_is_over_and_all_is_after(
        steps in prop::collection::vec(step(), 0..40),
        linger in 0..30_u64,
    ) {
        let mut world = World::new();
        world.follow(linger);
        // Since when every word has been that it is absent.
        let mut absent: Option<Instant> = None;
        let mut last = None;
        for step in steps {
            let before = world.verdict();
            match step {
                Step::See(Presence::Absent) => {
                    world.see(Presence::Absent);
                    absent = Some(absent.map_or(world.now, |since| since.min(world.now)));
                    last = Some(Presence::Absent);
                }
                Step::See(presence) => {
                    world.see(presence);
                    absent = None;
                    last = Some(presence);
                }
                Step::Starts => {
                    world.starts();
                    let seen_absent = last == Some(Presence::Absent);
                    absent = seen_absent.then(|| world.now + STARTS);
                }
                Step::Pass(time) => {
                    world.pass(time);
                }
            }
            let lingered = absent.is_some_and(|since| world.now >= since + seconds(linger));
            match step {
                Step::See(Presence::Present) | Step::Starts => {
                    prop_assert_eq!(world.verdict(), Verdict::Deliver);
                }
                Step::See(Presence::Unknown) => prop_assert_eq!(world.verdict(), before),
                Step::See(Presence::Absent) | Step::Pass(_) if !lingered => {
                    prop_assert_eq!(world.verdict(), before);
                }
                _ => {}
            }
            if lingered {
                prop_assert_eq!(world.verdict(), Verdict::Withhold);
            }
        }
        world.see(Presence::Absent);
        prop_assert_eq!(world.pass(linger), Verdict::Withhold);
    }

    #[test]
    fn the_next_moment_is_the_first_at_which_a_verdict_changes(
        steps in prop::collection::vec((0..2_usize, step()), 0..40),
        lingers in prop::array::uniform2(0..30_u64),
    ) {
        let profiles = [
            profile(Some("a.service"), lingers[0]),
            profile(Some("b.service"), lingers[1]),
        ];
        let mut lifecycles = Lifecycles::default();
        let mut now = Instant::now();
        lifecycles.follow_each(profiles.iter(), now);
        for (which, step) in steps {
            let workload = profiles[which].lifecycle.as_ref().unwrap().workload.clone();
            match step {
                Step::See(presence) => {
                    let observed = Observed { workload, presence, reason: None };
                    lifecycles.observe(observed, now);
                }
                Step::Starts => lifecycles.starts(&workload, now),
                Step::Pass(time) => now += seconds(time),
            }
            let at = |then: Instant| {
                [0, 1].map(|i| lifecycles.judge(Some(&profiles[i]), then))
            };
            match lifecycles.next(now) {
                Some(next) => {
                    prop_assert!(next > now);
                    prop_assert_eq!(at(next - Duration::from_nanos(1)), at(now));
                    prop_assert_ne!(at(next), at(now));
                }
                None => prop_assert_eq!(at(now + seconds(1_000_000)), at(now)),
            }
        }
    }
}
