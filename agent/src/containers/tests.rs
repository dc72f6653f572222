use std::collections::BTreeSet;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use tokio::sync::mpsc;

use super::fake::{FakeEngine, event};
use super::*;
use crate::consumers::lifecycle::Presence;
use crate::consumers::profile::Workload;

fn name(text: &str) -> ContainerName {
    text.parse().expect("a name")
}

fn hup() -> SignalName {
    "HUP".parse().expect("a signal")
}

/// A watch and what it tells.
struct Seen {
    receiver: mpsc::UnboundedReceiver<Observed>,
    _watch: AbortOnDrop,
}

impl Seen {
    fn of(engine: &Engine, names: &[&str]) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let names = names.iter().map(|text| name(text)).collect();
        Self {
            receiver,
            _watch: engine.watch(names, sender),
        }
    }

    async fn next(&mut self) -> Observed {
        let limit = Duration::from_secs(60);
        let seen = tokio::time::timeout(limit, self.receiver.recv()).await;
        seen.expect("something is told").expect("it watches")
    }

    /// The next thing told must be this.
    async fn tells(&mut self, container: &str, presence: Presence) -> Option<String> {
        let seen = self.next().await;
        let wanted = (Workload::Container(name(container)), presence);
        assert_eq!((seen.workload, seen.presence), wanted, "{:?}", seen.reason);
        seen.reason
    }
}

#[tokio::test]
async fn presence_is_told_at_first_and_at_each_change() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    assert_eq!(seen.tells("up", Presence::Present).await, None);
    for (status, presence) in [
        ("exited", Presence::Absent),
        ("restarting", Presence::Present),
        ("dead", Presence::Absent),
        ("created", Presence::Present),
        ("gone", Presence::Absent),
        ("running", Presence::Present),
    ] {
        engine.set("up", status);
        assert_eq!(seen.tells("up", presence).await, None, "{status}");
    }
}

#[tokio::test]
async fn states_that_mean_the_same_are_told_once() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    for status in ["paused", "stopping", "restarting", "created", "running"] {
        let looks = engine.world().looks;
        engine.set("up", status);
        while engine.world().looks == looks {
            tokio::task::yield_now().await;
        }
    }
    engine.set("up", "exited");
    seen.tells("up", Presence::Absent).await;
}

#[tokio::test]
async fn a_container_that_is_made_again_under_its_name_is_seen_and_others_are_not_looked_at() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    engine.set("up", "gone");
    seen.tells("up", Presence::Absent).await;
    let looks = engine.world().looks;
    for _ in 0..100 {
        engine.set("other", "running");
    }
    engine.set("up", "running");
    seen.tells("up", Presence::Present).await;
    // For the container's own changes, and for the stream's opening.
    assert!(engine.world().looks <= looks + 3);
}

#[tokio::test]
async fn a_storm_ends_in_the_last_state_with_few_looks() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "exited");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Absent).await;
    let mut storm = String::new();
    for _ in 0..20_000 {
        storm += &event("die", "up");
        storm += &event("start", "up");
    }
    engine.set_silently("up", "running");
    engine.send(storm);
    seen.tells("up", Presence::Present).await;
    engine.set("up", "exited");
    seen.tells("up", Presence::Absent).await;
    // As many as there were pieces on the way at most, not as many as events.
    assert!(engine.world().looks < 5_000, "{}", engine.world().looks);
}

#[tokio::test]
async fn an_engine_that_answers_with_the_first_event_only_is_not_waited_for() {
    let engine = FakeEngine::start();
    engine.world().late_headers = true;
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    engine.set("up", "exited");
    seen.tells("up", Presence::Absent).await;
}

#[tokio::test]
async fn a_lost_event_is_made_up_for() {
    let engine = FakeEngine::start();
    let client = engine.client_at(Duration::from_secs(10), Duration::from_millis(5));
    let mut seen = Seen::of(&client, &["up"]);
    seen.tells("up", Presence::Absent).await;
    engine.set_silently("up", "running");
    seen.tells("up", Presence::Present).await;
}

#[tokio::test]
async fn events_that_are_not_understood_are_a_reason_to_look() {
    let engine = FakeEngine::start();
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Absent).await;
    for broken in ["{\"Action\":\n", "\u{0}\n", "[1,2]\n", "{}\n"] {
        engine.set_silently("up", "running");
        engine.send(broken);
        seen.tells("up", Presence::Present).await;
        engine.set("up", "exited");
        seen.tells("up", Presence::Absent).await;
    }
    assert_eq!(engine.world().asked, ["events"], "the stream stays open");
}

#[tokio::test]
async fn an_endless_event_ends_the_stream_and_loses_nothing() {
    let engine = FakeEngine::start();
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Absent).await;
    engine.set_silently("up", "running");
    engine.send("x".repeat(1024 * 1024));
    seen.tells("up", Presence::Present).await;
    engine.set("up", "exited");
    seen.tells("up", Presence::Absent).await;
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_and_nobody_notices() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    engine.end_streams();
    engine.set_silently("up", "exited");
    // Not unknown in between.
    seen.tells("up", Presence::Absent).await;
}

#[tokio::test]
async fn an_engine_that_refuses_events_is_still_asked_how_things_stand() {
    let engine = FakeEngine::start();
    engine.world().events_status = 403;
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    engine.set_silently("up", "exited");
    seen.tells("up", Presence::Absent).await;
}

#[tokio::test]
async fn without_an_engine_it_is_unknown_until_one_is_there() {
    let mut engine = FakeEngine::away();
    let mut seen = Seen::of(&engine.client(), &["a", "b"]);
    for container in ["a", "b"] {
        let reason = seen.tells(container, Presence::Unknown).await;
        let reason = reason.expect("a reason");
        assert!(
            reason.contains("systemctl enable --now podman.socket"),
            "{reason}"
        );
    }
    engine.set_silently("a", "running");
    engine.serve();
    let mut told = BTreeSet::new();
    for _ in 0..2 {
        let seen = seen.next().await;
        told.insert(format!("{:?} {:?}", seen.workload, seen.presence));
    }
    let wanted = ["a\")) Present", "b\")) Absent"];
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.ends_with(wanted), "{told}");
    }
}

#[tokio::test]
async fn a_restarting_engine_makes_everything_unknown_and_then_known() {
    let mut engine = FakeEngine::start();
    engine.set_silently("up", "running");
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Present).await;
    engine.stop();
    let reason = seen.tells("up", Presence::Unknown).await;
    assert!(reason.is_some());
    engine.set_silently("up", "exited");
    engine.serve();
    seen.tells("up", Presence::Absent).await;
    engine.set("up", "running");
    seen.tells("up", Presence::Present).await;
}

#[tokio::test]
async fn a_container_that_the_engine_is_silent_about_holds_up_no_other() {
    let engine = FakeEngine::start();
    engine.set_silently("stuck", "running");
    engine.world().hanging.push("stuck".to_owned());
    let client = engine.client_at(Duration::from_secs(10), Duration::from_millis(50));
    let mut seen = Seen::of(&client, &["a", "stuck"]);
    seen.tells("a", Presence::Absent).await;
    engine.set("a", "running");
    seen.tells("a", Presence::Present).await;
    let reason = seen.tells("stuck", Presence::Unknown).await;
    assert!(reason.expect("a reason").contains("has not answered"));
    engine.world().hanging.clear();
    seen.tells("stuck", Presence::Present).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_handle() {
    let engine = FakeEngine::start();
    let mut seen = Seen::of(&engine.client(), &["up"]);
    seen.tells("up", Presence::Absent).await;
    let Seen {
        mut receiver,
        _watch,
    } = seen;
    drop(_watch);
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test]
async fn a_watch_ends_when_nobody_receives() {
    let engine = FakeEngine::start();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let _watch = engine.client().watch(BTreeSet::from([name("up")]), sender);
    receiver.recv().await.expect("it watches");
    while engine.streams() == 0 {
        tokio::task::yield_now().await;
    }
    drop(receiver);
    // The engine notices when it writes to a connection that is closed.
    while engine.streams() > 0 {
        engine.send(event("start", "other"));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_signal_goes_to_the_container_by_its_id() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "running");
    engine
        .client()
        .signal(&name("up"), hup())
        .await
        .expect("sent");
    let wanted = format!("/containers/{}/kill?signal=SIGHUP", fake::id("up"));
    assert_eq!(engine.world().asked, [wanted]);
}

#[tokio::test]
async fn a_container_that_does_not_run_needs_no_signal() {
    let engine = FakeEngine::start();
    for status in ["exited", "created", "restarting", "dead"] {
        engine.set_silently("up", status);
        engine
            .client()
            .signal(&name("up"), hup())
            .await
            .expect(status);
    }
    assert!(engine.world().asked.is_empty());
}

#[tokio::test]
async fn a_container_that_ends_meanwhile_needs_no_signal_however_that_is_said() {
    let engine = FakeEngine::start();
    for (status, state) in [
        (409, "exited"),
        (500, "exited"),
        (404, "gone"),
        (500, "gone"),
    ] {
        engine.set_silently("up", "running");
        engine.world().kills.push_back((status, state));
        let sent = engine.client().signal(&name("up"), hup()).await;
        sent.unwrap_or_else(|error| panic!("{status} {state}: {error}"));
    }
}

#[tokio::test]
async fn a_refused_signal_is_told_in_the_engines_words_made_printable() {
    let engine = FakeEngine::start();
    engine.set_silently("up", "paused");
    engine.world().kills.push_back((500, "paused"));
    let error = engine.client().signal(&name("up"), hup()).await;
    let error = error.expect_err("refused").to_string();
    for part in ["SIGHUP", "container up", "500", "can do"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[tokio::test]
async fn a_signal_to_no_container_says_so_and_hits_no_other() {
    let engine = FakeEngine::start();
    engine.set_silently("other", "running");
    // An engine takes the beginning of an id for a name.
    let prefix = &fake::id("other")[..4];
    for absent in ["up", prefix] {
        let error = engine.client().signal(&name(absent), hup()).await;
        let error = error.expect_err("absent").to_string();
        assert!(
            error.contains(&format!("no container called {absent}")),
            "{error}"
        );
    }
    assert!(engine.world().asked.is_empty());
}

#[tokio::test]
async fn a_signal_to_an_engine_that_never_answers_ends() {
    let engine = FakeEngine::start();
    engine.world().hanging.push("up".to_owned());
    let client = engine.client_at(Duration::from_millis(50), Duration::from_secs(1));
    let error = client.signal(&name("up"), hup()).await.expect_err("silent");
    assert!(matches!(error, EngineError::TooSlow { .. }), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_with_what_to_do() {
    let engine = FakeEngine::away();
    let error = engine.client().signal(&name("up"), hup()).await;
    let error = error.expect_err("nobody there").to_string();
    let socket = engine.socket();
    for part in [
        "podman.socket",
        "containers.socket",
        &socket.display().to_string(),
    ] {
        assert!(error.contains(part), "{error}");
    }
    // A socket that nobody listens at any more.
    drop(StdListener::bind(&socket).expect("a socket"));
    let error = engine.client().signal(&name("up"), hup()).await;
    let error = error.expect_err("nobody listens");
    assert!(matches!(error, EngineError::NotListening { .. }), "{error}");
    assert!(error.to_string().contains("podman.socket"), "{error}");
}

#[tokio::test]
async fn the_first_usual_socket_that_exists_is_used_from_when_it_does() {
    let place = tempfile::tempdir().expect("a place");
    let mut engine = FakeEngine::away();
    engine.set_silently("up", "running");
    let client = Engine {
        sockets: Arc::from([place.path().join("podman.sock"), engine.socket()]),
        pace: PACE,
    };
    let error = client.signal(&name("up"), hup()).await;
    assert!(matches!(error, Err(EngineError::NotThere(tried)) if tried.len() == 2));
    engine.serve();
    client.signal(&name("up"), hup()).await.expect("sent");
}
