use proptest::prelude::*;

use super::super::super::profile::Action;
use super::*;

#[derive(Debug, Clone, Copy)]
enum Event {
    Change,
    Edit,
    Pass(u64),
    End(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Change),
        Just(Event::Edit),
        (0..3000_u64).prop_map(Event::Pass),
        any::<bool>().prop_map(Event::End),
    ]
}

fn reload(unit: usize) -> OnChange {
    OnChange {
        action: Action::Reload(format!("unit-{unit}.service").parse().unwrap()),
        debounce: DEBOUNCE,
        timeout: Duration::from_secs(30),
    }
}

fn failed() -> Result<(), ActionError> {
    Err(ActionError("no".to_owned()))
}

/// The one who carries it out, and all that happens to the consumer.
struct World {
    work: Work,
    now: Instant,
    generation: usize,
    edits: usize,
    /// The first change since an attempt began.
    uncovered: Option<Instant>,
    running: Option<Attempt>,
    /// Successes of exactly what is wanted.
    done: usize,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            work: Work::new("g0", &reload(0), now),
            now,
            generation: 0,
            edits: 0,
            uncovered: Some(now),
            running: None,
            done: 0,
        }
    }

    fn wanted(&self) -> Attempt {
        Attempt {
            generation: format!("g{}", self.generation),
            what: reload(self.edits),
        }
    }

    fn change(&mut self) {
        let wanted = self.wanted();
        if self
            .work
            .changed(&wanted.generation, &wanted.what, self.now)
        {
            self.uncovered = self.uncovered.or(Some(self.now));
            self.done = 0;
            self.work.wake();
        }
    }

    fn end(&mut self, well: bool) {
        let Some(attempt) = self.running.take() else {
            return;
        };
        let result = if well { Ok(()) } else { failed() };
        self.work.ended(&attempt, &result, self.now, u64::MAX);
        if well && attempt == self.wanted() {
            self.done += 1;
        }
    }

    /// Whatever is to be done now. Says when to come again.
    fn step(&mut self) -> Result<Option<Instant>, TestCaseError> {
        if self.running.is_some() {
            return Ok(None);
        }
        Ok(match self.work.step(self.now) {
            Step::Rest => {
                prop_assert_eq!(self.work.status().state, ActionState::Done);
                None
            }
            Step::Wait(until) => {
                prop_assert!(until > self.now);
                if let Some(first) = self.uncovered {
                    prop_assert_eq!(until, first + DEBOUNCE);
                }
                Some(until)
            }
            Step::Attempt(attempt) => {
                prop_assert_eq!(&attempt, &self.wanted());
                if let Some(first) = self.uncovered.take() {
                    prop_assert!(self.now >= first + DEBOUNCE);
                }
                self.running = Some(attempt);
                None
            }
        })
    }
}

proptest! {
    #[test]
    fn every_change_is_followed_by_one_success_for_the_newest(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Change => {
                    world.generation += 1;
                    world.change();
                }
                // Of what is done an edit is no change, and is only seen with the next one.
                Event::Edit if world.done == 0 => {
                    world.edits += 1;
                    world.change();
                }
                Event::Edit => {}
                Event::Pass(millis) => world.now += Duration::from_millis(millis),
                Event::End(well) => world.end(well),
            }
            world.step()?;
        }
        // From now on nothing changes and all goes well.
        for _ in 0..10 {
            world.end(true);
            if let Some(until) = world.step()? {
                world.now = until;
            }
        }
        prop_assert_eq!(world.done, 1);
        prop_assert!(world.running.is_none());
        prop_assert!(world.work.wake());
    }

    #[test]
    fn waits_grow_from_half_a_second_to_five_minutes(failures in 0..100_u32, random in any::<u64>()) {
        let longest = wait(failures, u64::MAX);
        prop_assert!(wait(failures, random) >= longest / 2);
        prop_assert!(wait(failures, random) <= longest);
        let seconds = 1_u64.checked_shl(failures).map_or(300, |all| all.min(300));
        prop_assert_eq!(longest, Duration::from_secs(seconds));
    }
}

#[test]
fn an_edited_time_limit_holds_from_the_next_attempt_on() {
    let now = Instant::now();
    let mut work = Work::new("g0", &reload(0), now);
    let mut edited = reload(0);
    edited.timeout = Duration::from_secs(5);
    assert!(!work.changed("g0", &edited, now));
    let Step::Attempt(attempt) = work.step(now + DEBOUNCE) else {
        panic!("it is due");
    };
    assert_eq!(attempt.what, edited);
}

const DEBOUNCE: Duration = Duration::from_secs(2);
