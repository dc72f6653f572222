use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::super::fake::Fake;
use super::*;
use crate::app::AbortOnDrop;

type Seen = (String, Presence);

/// What a watch of the units tells.
struct Watched {
    seen: UnboundedReceiver<Observed>,
    _watch: AbortOnDrop,
}

impl Watched {
    fn new(fake: &Fake, units: &[&str]) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let units = units.iter().map(|unit| unit.parse().unwrap()).collect();
        let _watch = fake.manager().watch(units, sender);
        Self { seen, _watch }
    }

    async fn observed(&mut self) -> Observed {
        self.seen.recv().await.unwrap()
    }

    async fn next(&mut self) -> Seen {
        let observed = self.observed().await;
        assert!(observed.presence != Presence::Unknown || observed.reason.is_some());
        let Workload::Unit(unit) = observed.workload else {
            panic!("{:?}", observed.workload);
        };
        (unit.to_string(), observed.presence)
    }

    /// Waits until this is told of the unit.
    async fn until(&mut self, presence: Presence) {
        while self.next().await.1 != presence {}
    }
}

fn present(unit: &str) -> Seen {
    (unit.to_owned(), Presence::Present)
}

fn absent(unit: &str) -> Seen {
    (unit.to_owned(), Presence::Absent)
}

#[tokio::test]
async fn units_are_told_now_and_at_every_change() {
    let fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    fake.put("b.service", "loaded", "inactive");
    let mut watched = Watched::new(&fake, &["a.service", "b.service"]);
    let mut first = [watched.next().await, watched.next().await];
    first.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(first, [present("a.service"), absent("b.service")]);
    for state in ["deactivating", "inactive", "activating", "failed"] {
        fake.set("a.service", state).await;
    }
    // Only the last is sure to be told.
    watched.until(Presence::Absent).await;
    fake.set("b.service", "activating").await;
    while watched.next().await != present("b.service") {}
}

#[tokio::test]
async fn only_the_watched_units_are_asked_of_the_bus() {
    let fake = Fake::start();
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await, absent("a.service"));
    let rules = fake.rules();
    assert_eq!(rules.len(), 4, "{rules:?}");
    let unbound = rules
        .iter()
        .filter(|rule| !rule.contains("path='/") && !rule.contains("arg1path="));
    for rule in unbound {
        assert!(
            rule.contains("'NameOwnerChanged'") || rule.contains("'Reloading'"),
            "{rule}"
        );
    }
}

#[tokio::test]
async fn a_great_many_units_need_few_rules() {
    let fake = Fake::start();
    let units: Vec<String> = (0..300).map(|n| format!("u{n}.service")).collect();
    let names: Vec<&str> = units.iter().map(String::as_str).collect();
    let mut watched = Watched::new(&fake, &names);
    for _ in 0..300 {
        assert_eq!(watched.next().await.1, Presence::Absent);
    }
    assert!(fake.rules().len() < 500);
    fake.set("u299.service", "active").await;
    assert_eq!(watched.next().await, present("u299.service"));
    fake.appear("u298.service", "active").await;
    assert_eq!(watched.next().await, present("u298.service"));
}

#[tokio::test]
async fn a_unit_that_is_not_there_is_told_with_what_to_do_and_seen_when_it_comes() {
    let fake = Fake::start();
    let mut watched = Watched::new(&fake, &["late.service"]);
    let observed = watched.observed().await;
    assert_eq!(observed.presence, Presence::Absent);
    assert!(observed.reason.unwrap().contains("late.service"));
    fake.appear("late.service", "active").await;
    let observed = watched.observed().await;
    assert_eq!(
        (observed.presence, observed.reason),
        (Presence::Present, None)
    );
    fake.disappear("late.service").await;
    let observed = watched.observed().await;
    assert_eq!(
        (observed.presence, observed.reason),
        (Presence::Absent, None)
    );
}

#[tokio::test]
async fn asking_for_a_unit_that_is_not_loaded_does_not_go_on_for_ever() {
    let mut fake = Fake::start();
    fake.put("a.service", "loaded", "inactive");
    fake.put("b.service", "loaded", "active");
    let mut watched = Watched::new(&fake, &["a.service", "b.service"]);
    let _both = [watched.next().await, watched.next().await];
    // Time for a hundred rounds of whatever goes on beside this.
    for _ in 0..100 {
        fake.set("b.service", "failed").await;
        watched.until(Presence::Absent).await;
        fake.set("b.service", "active").await;
        watched.until(Presence::Present).await;
    }
    let mut calls = fake.all_calls();
    calls.retain(|call| call.contains("a.service"));
    assert!(!calls.is_empty());
    assert!(calls.len() < 10, "{calls:?}");
}

#[tokio::test]
async fn the_last_state_of_a_flapping_unit_is_never_lost() {
    let fake = Fake::start();
    fake.put("a.service", "loaded", "inactive");
    fake.put("mark.service", "loaded", "inactive");
    let mut watched = Watched::new(&fake, &["a.service", "mark.service"]);
    let mut last = [watched.next().await, watched.next().await][0].clone();
    assert_eq!(last, absent("a.service"));
    let rounds = [
        ("active", "active"),
        ("inactive", "failed"),
        ("active", "active"),
    ];
    for (state, mark) in rounds {
        for _ in 0..300 {
            fake.set("a.service", "activating").await;
            fake.set("a.service", "failed").await;
        }
        fake.set("a.service", state).await;
        // Said after all of it. Told before it may be what had to be asked for: that a unit which does not run
        // is loaded when it is looked at is news of it.
        fake.set("mark.service", mark).await;
        let telling = async {
            let mut marked = false;
            while !marked || last.1 != presence(state) {
                let told = watched.next().await;
                match told.0 == "mark.service" {
                    true => marked = true,
                    false => last = told,
                }
            }
        };
        let told = timeout(Duration::from_secs(60), telling).await;
        assert!(told.is_ok(), "{state} is lost");
    }
}

#[tokio::test]
async fn a_storm_of_signals_that_change_nothing_tells_and_asks_nothing() {
    let mut fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await, present("a.service"));
    let before = fake.all_calls().len();
    assert!(before > 0);
    for _ in 0..500 {
        fake.changed("a.service", &[("StatusText", "busy")]).await;
        fake.changed("a.service", &[("ActiveState", "reloading")])
            .await;
        fake.set("a.service", "active").await;
    }
    fake.set("a.service", "inactive").await;
    assert_eq!(watched.next().await, absent("a.service"));
    // Of the end alone it was asked why.
    let calls = fake.all_calls();
    assert!(calls.len() < 10, "{calls:?}");
}

#[tokio::test]
async fn what_another_client_says_in_systemds_name_is_not_believed() {
    let fake = Fake::start();
    // Loaded, so that nothing else is asked of it meanwhile.
    fake.put("a.service", "loaded", "failed");
    fake.put("mark.service", "loaded", "failed");
    let mut watched = Watched::new(&fake, &["a.service", "mark.service"]);
    let _both = [watched.next().await, watched.next().await];
    fake.forge("a.service", "active").await;
    fake.set("mark.service", "active").await;
    assert_eq!(watched.next().await, present("mark.service"));
}

#[tokio::test]
async fn a_hanging_systemd_is_unknown_until_it_answers_again() {
    let fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    fake.mute("Get");
    let (sender, seen) = mpsc::unbounded_channel();
    let units = BTreeSet::from(["a.service".parse().unwrap()]);
    let _watch = fake.hasty().watch(units, sender);
    let mut watched = Watched { seen, _watch };
    assert_eq!(watched.next().await.1, Presence::Unknown);
    fake.unmute();
    watched.until(Presence::Present).await;
}

#[tokio::test]
async fn two_names_of_one_unit_are_told_both() {
    let fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    fake.alias("b.service", "a.service");
    let mut watched = Watched::new(&fake, &["a.service", "b.service"]);
    let both = [watched.next().await, watched.next().await];
    assert_eq!(both, [present("a.service"), present("b.service")]);
    fake.set("a.service", "inactive").await;
    let both = [watched.next().await, watched.next().await];
    assert_eq!(both, [absent("a.service"), absent("b.service")]);
}

#[tokio::test]
async fn a_bus_that_goes_is_unknown_and_all_is_told_anew_when_it_is_back() {
    let mut fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await, present("a.service"));
    fake.go_away();
    let observed = watched.observed().await;
    assert_eq!(observed.presence, Presence::Unknown);
    assert!(observed.reason.is_some());
    fake.come_back();
    watched.until(Presence::Present).await;
    fake.set("a.service", "inactive").await;
    watched.until(Presence::Absent).await;
}

#[tokio::test]
async fn a_watch_that_begins_before_the_bus_sees_it_come() {
    let mut fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    fake.go_away();
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await.1, Presence::Unknown);
    fake.come_back();
    watched.until(Presence::Present).await;
}

#[tokio::test]
async fn a_systemd_that_starts_anew_is_subscribed_to_and_read_again() {
    let mut fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await, present("a.service"));
    fake.called("Subscribe").await;
    fake.owner(None).await;
    assert_eq!(watched.next().await.1, Presence::Unknown);
    // It stops while nobody can tell.
    fake.put("a.service", "loaded", "inactive");
    fake.owner(Some(":1.77")).await;
    assert_eq!(watched.next().await, absent("a.service"));
    fake.called("Subscribe").await;
    fake.set("a.service", "active").await;
    assert_eq!(watched.next().await, present("a.service"));
}

#[tokio::test]
async fn after_a_daemon_reload_everything_is_read_again() {
    let fake = Fake::start();
    fake.put("a.service", "loaded", "active");
    let mut watched = Watched::new(&fake, &["a.service"]);
    assert_eq!(watched.next().await, present("a.service"));
    fake.put("a.service", "loaded", "failed");
    fake.reloaded().await;
    assert_eq!(watched.next().await, absent("a.service"));
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens() {
    let mut fake = Fake::start();
    let (sender, seen) = mpsc::unbounded_channel();
    let units = BTreeSet::from(["a.service".parse().unwrap()]);
    let watch = Watch::new(
        Some(fake.address.clone()),
        std::time::Duration::from_secs(10),
        units,
        sender,
    );
    let task = tokio::spawn(watch.run());
    fake.called("Get").await;
    drop(seen);
    task.await.unwrap();
}
