use tokio::sync::oneshot;
use tokio::time::sleep;

use super::*;
use crate::status::ActionState;

/// Asks the test how each attempt ends.
struct Asks(mpsc::UnboundedSender<Call>);

struct Call {
    action: Action,
    at: Instant,
    /// Dropped without an answer, the attempt panics.
    reply: oneshot::Sender<Result<(), ActionError>>,
}

impl Perform for Asks {
    async fn perform(&self, action: &Action, _: Duration) -> Result<(), ActionError> {
        let (reply, answer) = oneshot::channel();
        let action = action.clone();
        let at = Instant::now();
        self.0.send(Call { action, at, reply }).ok();
        answer.await.expect("the test wants a panic here")
    }
}

struct World {
    actions: Actions<Asks>,
    calls: mpsc::UnboundedReceiver<Call>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
}

impl World {
    fn new() -> Self {
        let (ask, calls) = mpsc::unbounded_channel();
        let (tell, outcomes) = mpsc::unbounded_channel();
        let actions = Actions::new(Asks(ask), tell);
        Self {
            actions,
            calls,
            outcomes,
        }
    }

    async fn call(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    async fn outcome(&mut self) -> Outcome {
        self.outcomes.recv().await.unwrap()
    }

    fn state(&self, name: &str) -> ActionState {
        self.actions.status(&consumer(name)).unwrap().state
    }

    /// Far longer than any wait: all that was to happen has happened.
    async fn is_at_rest(&mut self) -> bool {
        sleep(Duration::from_secs(100_000)).await;
        let mut running = self.actions.running.values();
        running.all(|running| running.task.is_finished()) && self.calls.try_recv().is_err()
    }
}

fn consumer(name: &str) -> ConsumerId {
    ConsumerId {
        service: "myorg/https://example.com/uplink".parse().unwrap(),
        consumer: name.parse().unwrap(),
    }
}

fn reload(unit: &str) -> OnChange {
    OnChange {
        action: Action::Reload(unit.parse().unwrap()),
        debounce: Duration::from_secs(2),
        timeout: Duration::from_secs(30),
    }
}

fn refused() -> Result<(), ActionError> {
    Err(ActionError("the unit refused".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn several_changes_make_one_action_in_time_after_the_first() {
    let mut world = World::new();
    let start = Instant::now();
    for generation in ["g1", "g2", "g3"] {
        let what = reload("a.service");
        world.actions.changed(&consumer("main"), generation, &what);
        sleep(Duration::from_millis(900)).await;
    }
    assert_eq!(world.state("main"), ActionState::Running);
    let call = world.call().await;
    assert_eq!(call.action, reload("a.service").action);
    // The runtime's timers count milliseconds.
    assert_eq!((call.at - start).as_secs(), 2);
    assert!((call.at - start).subsec_millis() < 5);
    call.reply.send(Ok(())).unwrap();
    let outcome = world.outcome().await;
    assert_eq!(outcome.consumer, consumer("main"));
    assert_eq!(outcome.generation, "g3");
    assert_eq!(outcome.result, Ok(()));
    assert!(world.is_at_rest().await);
    let status = world.actions.status(&consumer("main")).unwrap();
    assert_eq!(status.action, "reload a.service");
    assert_eq!(status.state, ActionState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_action_times_out_and_holds_up_nobody_else() {
    let mut world = World::new();
    let what = reload("hangs.service");
    world.actions.changed(&consumer("hangs"), "g1", &what);
    let mut hanging = world.call().await;
    let what = reload("b.service");
    world.actions.changed(&consumer("other"), "g1", &what);
    world.call().await.reply.send(Ok(())).unwrap();
    let first = world.outcome().await;
    assert_eq!((first.consumer, first.result), (consumer("other"), Ok(())));
    hanging.reply.closed().await;
    let second = world.outcome().await;
    assert_eq!(second.consumer, consumer("hangs"));
    assert!(second.result.unwrap_err().0.contains("within 30s"));
    assert_eq!(world.state("hangs"), ActionState::Failing);
    world.call().await.reply.send(Ok(())).unwrap();
    assert_eq!(world.outcome().await.result, Ok(()));
    assert!(world.is_at_rest().await);
}

#[tokio::test(start_paused = true)]
async fn a_failing_action_is_tried_again_later_each_time_until_it_goes_well() {
    let mut world = World::new();
    let what = reload("a.service");
    world.actions.changed(&consumer("main"), "g1", &what);
    let mut before = Instant::now();
    let mut waits = Vec::new();
    for failures in 1..=14 {
        let call = world.call().await;
        waits.push(call.at - before);
        before = call.at;
        call.reply.send(refused()).unwrap();
        assert_eq!(world.outcome().await.result, refused());
        let status = world.actions.status(&consumer("main")).unwrap();
        assert_eq!(
            (status.state, status.failures),
            (ActionState::Failing, failures)
        );
        assert_eq!(status.error.as_deref(), Some("the unit refused"));
    }
    // From half a second on, each up to twice as long as the one before may have been.
    assert!(waits[1..10].is_sorted(), "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(500));
    assert!(waits[13] >= Duration::from_secs(150) && waits[13] < Duration::from_secs(301));
    world.call().await.reply.send(Ok(())).unwrap();
    assert_eq!(world.outcome().await.result, Ok(()));
    assert!(world.is_at_rest().await);
    let status = world.actions.status(&consumer("main")).unwrap();
    assert_eq!((status.state, status.failures), (ActionState::Done, 0));
    assert_eq!(status.error, None);
}

#[tokio::test(start_paused = true)]
async fn changes_during_an_attempt_make_exactly_one_more_for_the_newest() {
    let mut world = World::new();
    let what = reload("a.service");
    for result in [Ok(()), refused()] {
        world.actions.changed(&consumer("main"), "g1", &what);
        let call = world.call().await;
        for generation in ["g2", "g3", "g4"] {
            world.actions.changed(&consumer("main"), generation, &what);
            sleep(Duration::from_secs(3)).await;
        }
        assert!(world.calls.try_recv().is_err(), "two at a time");
        call.reply.send(result.clone()).unwrap();
        let outcome = world.outcome().await;
        assert_eq!(
            (outcome.generation, outcome.result),
            ("g1".to_owned(), result)
        );
        world.call().await.reply.send(Ok(())).unwrap();
        assert_eq!(world.outcome().await.generation, "g4");
        assert!(world.is_at_rest().await);
        assert_eq!(world.state("main"), ActionState::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_does_not_wait_for_the_backoff_of_the_one_before() {
    let mut world = World::new();
    let what = reload("a.service");
    world.actions.changed(&consumer("main"), "g1", &what);
    for _ in 0..12 {
        world.call().await.reply.send(refused()).unwrap();
        world.outcome().await;
    }
    let changed = Instant::now();
    world.actions.changed(&consumer("main"), "g2", &what);
    assert_eq!(world.state("main"), ActionState::Failing);
    let call = world.call().await;
    assert_eq!((call.at - changed).as_secs(), 2);
    call.reply.send(refused()).unwrap();
    world.outcome().await;
    let retried = world.call().await.at;
    assert!(retried - call.at < Duration::from_millis(1005));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_for_a_generation_is_not_done_again() {
    let mut world = World::new();
    world
        .actions
        .changed(&consumer("main"), "g1", &reload("a.service"));
    world.call().await.reply.send(Ok(())).unwrap();
    world.outcome().await;
    world
        .actions
        .changed(&consumer("main"), "g1", &reload("a.service"));
    world
        .actions
        .changed(&consumer("main"), "g1", &reload("b.service"));
    assert!(world.is_at_rest().await);
    let status = world.actions.status(&consumer("main")).unwrap();
    assert_eq!(status.action, "reload a.service");
    world
        .actions
        .changed(&consumer("main"), "g2", &reload("b.service"));
    assert_eq!(world.call().await.action, reload("b.service").action);
}

#[tokio::test(start_paused = true)]
async fn an_edited_action_takes_the_place_of_one_that_is_undone() {
    let mut world = World::new();
    world
        .actions
        .changed(&consumer("main"), "g1", &reload("a.service"));
    let running = world.call().await;
    world
        .actions
        .changed(&consumer("main"), "g1", &reload("b.service"));
    running.reply.send(refused()).unwrap();
    assert_eq!(world.outcome().await.result, refused());
    let status = world.actions.status(&consumer("main")).unwrap();
    assert_eq!(status.action, "reload b.service");
    assert_eq!((status.state, status.error), (ActionState::Running, None));
    let call = world.call().await;
    assert_eq!(call.action, reload("b.service").action);
    call.reply.send(Ok(())).unwrap();
    assert_eq!(world.outcome().await.result, Ok(()));
    assert!(world.is_at_rest().await);
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_a_consumer_that_is_gone_is_ended() {
    let mut world = World::new();
    let what = reload("a.service");
    for name in ["stays", "goes"] {
        world.actions.changed(&consumer(name), "g1", &what);
    }
    let stays = world.call().await;
    let mut goes = world.call().await;
    world.actions.retain(|kept| *kept == consumer("stays"));
    goes.reply.closed().await;
    assert_eq!(world.actions.status(&consumer("goes")), None);
    stays.reply.send(Ok(())).unwrap();
    assert_eq!(world.outcome().await.consumer, consumer("stays"));
    assert!(world.is_at_rest().await);
    assert!(world.outcomes.try_recv().is_err());

    world.actions.changed(&consumer("stays"), "g2", &what);
    let mut running = world.call().await;
    drop(world.actions);
    running.reply.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_attempt_is_not_the_end_of_the_next_change() {
    let mut world = World::new();
    let what = reload("a.service");
    world.actions.changed(&consumer("main"), "g1", &what);
    drop(world.call().await);
    assert!(world.is_at_rest().await);
    world.actions.changed(&consumer("main"), "g2", &what);
    world.call().await.reply.send(Ok(())).unwrap();
    assert_eq!(world.outcome().await.generation, "g2");
}

#[test]
fn people_read_what_is_done_and_no_arguments() {
    let unit = || "a.service".parse().unwrap();
    let hangup = "HUP".parse().unwrap();
    let argv = vec!["/usr/bin/tell".to_owned(), "--all".to_owned()];
    for (action, said) in [
        (Action::Restart(unit()), "restart a.service"),
        (Action::TryRestart(unit()), "try-restart a.service"),
        (
            Action::SignalUnit(unit(), hangup),
            "send SIGHUP to a.service",
        ),
        (
            Action::SignalContainer("web".parse().unwrap(), hangup),
            "send SIGHUP to container web",
        ),
        (Action::Command { argv, user: None }, "run /usr/bin/tell"),
    ] {
        assert_eq!(describe(&action), said);
    }
}
