//! Disks and tmpfs that are full, read-only or broken from a change on while something begins or ends: a first
//! delivery, an undeployment, the start of the agent, the start of the hub.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use edge_secrets_tests::cut::{Cut, Order};
use edge_secrets_tests::wait;
use libtest_mimic::Trial;
use nix::libc;

use crate::changes::{deployed, recorded, withdrawn};
use crate::full::{ERRORS, failing, in_cache};
use crate::node::{Node, URL, Whole, shows};
use crate::points::Tally;
use crate::store::Store;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_agent_without_room_at_any_change_of_a_first_delivery_shows_nothing_half_and_finishes_it,
        an_agent_without_room_at_any_change_of_an_undeployment_finishes_it,
        an_agent_that_starts_with_a_disk_that_fails_at_any_change_delivers_all_the_same,
        an_agent_that_starts_with_a_full_tmpfs_at_any_change_shows_nothing_half_and_recovers,
        a_hub_that_starts_with_a_disk_that_fails_at_any_change_says_so_and_starts_later,
    ]
}

fn an_agent_without_room_at_any_change_of_a_first_delivery_shows_nothing_half_and_finishes_it() {
    let (mut node, whole, bare) = withdrawn();
    let acts = recorded(&mut node, &whole, Node::deploy);
    let runtime = fs::canonicalize(node.agent.runtime_dir()).expect("a directory");
    let mut tally = Tally::new("no room, first delivery", acts.len(), "1 3 4 6 7 8 9");
    for (round, (at, act)) in failing(&acts).into_iter().enumerate() {
        node.withdraw();
        node.settle(&bare, "withdrawn");
        let (errno, on_tmpfs, on_disk) = ERRORS[round % ERRORS.len()];
        let what = format!("change {at}, {act}: {on_disk}");
        node.cut().order(Order::FailFrom(at, errno));
        node.deploy();
        let (act, swapped) = node.await_failing(at, &what);
        let what = format!("change {at}, {act}: {on_disk}");
        tally.count(true);
        if !swapped && act.path.starts_with(&runtime) {
            node.await_failed(on_tmpfs, &what);
            node.assert_before(&what);
        }
        node.assert_readable(&what);
        node.assert_nothing_in_clear(&what);
        node.cut().order(Order::Count);
        node.settle(&whole, &what);
    }
    tally.finish();
}

fn an_agent_without_room_at_any_change_of_an_undeployment_finishes_it() {
    let (mut node, whole, bare) = withdrawn();
    node.deploy();
    node.settle(&whole, "deployed again");
    let acts = recorded(&mut node, &bare, Node::withdraw);
    let mut tally = Tally::new("no room, undeployment", acts.len(), "1 3 4 6 7 8 9");
    let mut patient = true;
    for (round, (at, act)) in failing(&acts).into_iter().enumerate() {
        node.deploy();
        node.settle(&whole, "deployed again");
        let (errno, _, on_disk) = ERRORS[round % ERRORS.len()];
        let what = format!("change {at}, {act}: {on_disk}");
        fs::write(node.agent.log(), "").expect("an empty log");
        node.cut().order(Order::FailFrom(at, errno));
        node.withdraw();
        tally.count(true);
        // From there on nothing more can be written.
        node.await_failing(at, &what);
        // What can be taken away without room is.
        let data = node.agent.consumer(URL, "main").join("..data");
        if matches!(errno, libc::ENOSPC | libc::EDQUOT) {
            wait::gone(&data);
        }
        node.assert_readable(&what);
        node.assert_nothing_in_clear(&what);
        node.cut().order(Order::Count);
        // By itself it tries again every ten seconds, which is waited for once.
        let unwiped = node.agent.log_text().contains("not all is wiped yet");
        if unwiped && !std::mem::take(&mut patient) {
            assert_eq!(node.agent.ended(&["refresh"]).code, 0, "{what}");
        }
        node.settle(&bare, &what);
    }
    tally.finish();
}

/// The state directory fails from a change of the start on, from its first one too: as where it is mounted
/// read-only. Meanwhile there is a newer value.
fn an_agent_that_starts_with_a_disk_that_fails_at_any_change_delivers_all_the_same() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let dir = node.agent.consumer(URL, "main");
    let state = node.agent.state_dir();
    node.kill();
    node.rotate();
    node.run_counting(&state, Order::Count);
    node.settle(&whole, "without a fault");
    let acts = node.cut().acts();
    node.kill();
    let mut tally = Tally::new("no room, agent's start", acts.len(), "1 3 4 6 7 8 9 10");
    for (round, (at, act)) in failing(&acts).into_iter().enumerate() {
        let (errno, _, on_disk) = ERRORS[round % ERRORS.len()];
        let what = format!("change {at}, {act}: {on_disk}");
        node.rotate();
        node.run_counting(&state, Order::FailFrom(at, errno));
        tally.count(true);
        let wanted = node.wanted.clone().expect("a value");
        wait::until(&dir, &what, || shows(&dir, &wanted));
        if in_cache(act) {
            node.await_cache_error(on_disk, &what);
        }
        node.assert_nothing_in_clear(&what);
        node.cut().order(Order::Count);
        node.settle(&whole, &what);
        node.kill();
    }
    tally.finish();
}

/// With what a kill has left, and a newer value. Where the agent cannot begin at all it says why, and the
/// service manager starts it again.
fn an_agent_that_starts_with_a_full_tmpfs_at_any_change_shows_nothing_half_and_recovers() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let acts = recorded(&mut node, &whole, Node::rotate);
    let swap = acts.iter().position(|act| act.path.ends_with("..data"));
    let debris = Order::Kill(swap.expect("a swap") + 1);
    let meet = |node: &mut Node| {
        node.cut().order(debris);
        node.rotate();
        assert!(node.end().is_some(), "{debris} is met");
    };
    let runtime = node.agent.runtime_dir().to_owned();
    meet(&mut node);
    node.run_counting(&runtime, Order::Count);
    node.settle(&whole, "recovered");
    let acts = node.cut().acts();
    node.kill();
    node.run(Order::Count);
    let mut tally = Tally::new("tmpfs full, agent's start", acts.len(), "1 3 4 6 7 8 9 10");
    for (at, act) in failing(&acts) {
        node.settle(&whole, "before");
        let what = format!("change {at}, {act}");
        meet(&mut node);
        node.run_counting(&runtime, Order::FailFrom(at, libc::ENOSPC));
        tally.count(true);
        let log = node.agent.log();
        let told = |text: &str| text.contains("tmpfs is full") || text.contains("No space left");
        // Whatever needs no room is done meanwhile, or it ends.
        let mut ended = false;
        wait::until(&log, &what, || {
            ended = node.cut().end(Duration::ZERO).is_some();
            ended || node.agent.log_text().contains("Connected.")
        });
        node.assert_readable(&what);
        node.assert_nothing_in_clear(&what);
        if ended {
            let text = node.agent.log_text();
            assert!(told(&text), "{what}: {text}");
            node.agent.kill();
            node.cut = None;
            node.run(Order::Count);
        } else {
            node.cut().order(Order::Count);
        }
        node.settle(&whole, &what);
        node.kill();
        node.run(Order::Count);
    }
    tally.finish();
}

/// The service manager starts it again for as long as its exit code says that this may help.
fn a_hub_that_starts_with_a_disk_that_fails_at_any_change_says_so_and_starts_later() {
    let mut store = Store::new();
    // What a kill leaves: the start has the log to bring into the database.
    let killed = |store: &mut Store, value: &str| {
        store.hub.operator().set("pair", value);
        store.cut().kill();
        store.hub.kill();
    };
    killed(&mut store, "recorded");
    store.serve(Order::Count);
    let acts = store.cut().acts();
    store.stop();
    let data = store.hub.data_dir();
    let data = data.to_str().expect("a plain path");
    let mut tally = Tally::new("no room, hub's start", acts.len(), "3 6 7");
    for (at, act) in failing(&acts) {
        for (errno, _, on_disk) in ERRORS {
            let what = format!("change {at}, {act}: {on_disk}");
            store.serve(Order::Count);
            let value = format!("set before {at}");
            killed(&mut store, &value);
            tally.count(true);
            if let Some((code, said)) = refusal(&store, Order::FailFrom(at, errno)) {
                assert_eq!(code, Some(1), "{what}: {said}");
                assert!(
                    said.contains(data) && said.contains("make room"),
                    "{what}: {said}"
                );
            }
            store.serve(Order::Count);
            let operator = store.hub.operator();
            let shown = operator.ok(&["secret", "show", "pair", "--reveal"], "");
            assert_eq!(shown.trim_end(), value, "{what}");
            store.stop();
        }
    }
    tally.finish();
}

/// Starts the hub: its exit code and last words where it does not come to serve.
fn refusal(store: &Store, order: Order) -> Option<(Option<i32>, String)> {
    let data = store.hub.data_dir();
    let program = store.hub.command();
    let (cut, mut command) = Cut::command(store.hub.place(), &[&data], order, &program);
    let log = store.hub.place().join("start.log");
    let stderr = File::create(&log).expect("a log");
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
    let mut child = child.expect("the tracer");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let serves = line.starts_with("listening");
    if serves {
        cut.order(Order::Count);
        cut.kill();
    }
    let status = child.wait().expect("its end");
    let said = fs::read_to_string(&log).expect("a log");
    // What its libraries still log may come after it.
    let said = said
        .lines()
        .rfind(|line| line.starts_with("edge-secrets-hub: "));
    let said = said.unwrap_or_default().to_owned();
    (!serves).then(|| (status.code(), said))
}
