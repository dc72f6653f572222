//! The agent, killed at each of its changes while it delivers, rotates and undeploys.

use edge_secrets_tests::cut::{Act, Kind, Order};
use edge_secrets_tests::wait;
use libtest_mimic::Trial;

use crate::node::{Node, URL, Whole, shows};
use crate::points::{Tally, kills};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_agent_killed_at_any_change_of_a_rotation_leaves_the_old_or_the_new_value,
        an_agent_killed_at_any_change_of_a_rotation_and_cut_off_power_and_hub_has_either_value_whole,
        an_agent_killed_at_any_change_of_a_first_delivery_finishes_it,
        an_agent_killed_at_any_change_of_an_undeployment_finishes_it,
        an_agent_killed_again_while_it_recovers_recovers,
        an_agent_killed_at_any_change_of_a_boot_without_its_hub_boots_the_next_time,
    ]
}

fn an_agent_killed_at_any_change_of_a_rotation_leaves_the_old_or_the_new_value() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let acts = recorded(&mut node, &whole, Node::rotate);
    let mut tally = Tally::new("rotation", acts.len(), "1 3 4 7 8 9 10");
    for order in kills(&acts) {
        let what = killed_at(&mut node, order, &mut tally, Node::rotate);
        node.settle(&whole, &what);
    }
    tally.finish();
}

fn an_agent_killed_at_any_change_of_a_rotation_and_cut_off_power_and_hub_has_either_value_whole() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let acts = recorded(&mut node, &whole, Node::rotate);
    let mut tally = Tally::new(
        "rotation, then no power and no hub",
        acts.len(),
        "1 3 8 9 10",
    );
    for order in kills(&acts) {
        node.cut().order(order);
        node.rotate();
        let end = node.end();
        let what = format!("{order}: {end:?}, without power and hub");
        tally.count(end.is_some());
        if end.is_some() {
            let applied = node.applied();
            node.lose_memory();
            node.run_alone(Order::Count);
            let data = node.agent.consumer(URL, "main").join("b");
            wait::there(&data);
            node.assert_readable(&what);
            if applied {
                node.assert_wanted(&what);
            }
            node.assert_nothing_in_clear(&what);
            node.kill();
            node.run(Order::Count);
        }
        node.settle(&whole, &what);
    }
    tally.finish();
}

fn an_agent_killed_at_any_change_of_a_first_delivery_finishes_it() {
    let (mut node, whole, bare) = withdrawn();
    let acts = recorded(&mut node, &whole, Node::deploy);
    let mut tally = Tally::new("first delivery", acts.len(), "1 3 4 7 8 9 10");
    for order in kills(&acts) {
        node.withdraw();
        node.settle(&bare, "withdrawn");
        let what = killed_at(&mut node, order, &mut tally, Node::deploy);
        node.settle(&whole, &what);
    }
    tally.finish();
}

fn an_agent_killed_at_any_change_of_an_undeployment_finishes_it() {
    let (mut node, whole, bare) = withdrawn();
    node.deploy();
    node.settle(&whole, "deployed again");
    let acts = recorded(&mut node, &bare, Node::withdraw);
    let mut tally = Tally::new("undeployment", acts.len(), "1 3 4 7 8 9 10");
    for order in kills(&acts) {
        node.deploy();
        node.settle(&whole, "deployed again");
        let what = killed_at(&mut node, order, &mut tally, Node::withdraw);
        node.settle(&bare, &what);
    }
    tally.finish();
}

/// Killed with the next generation written and not swapped in, and with the old one half away; then
/// at each change of the start after that.
fn an_agent_killed_again_while_it_recovers_recovers() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let acts = recorded(&mut node, &whole, Node::rotate);
    let swap = acts.iter().position(|act| act.path.ends_with("..data"));
    let wiping = acts.iter().rposition(|act| act.kind == Kind::Remove);
    let mut tally = Tally::new("start after a kill", 0, "1 3 4 7 8 9 10");
    for debris in [swap, wiping].map(|at| Order::Kill(at.expect("a point") + 1)) {
        // At both with a change to be made that came meanwhile.
        let meet = |node: &mut Node| {
            node.cut().order(debris);
            node.rotate();
            assert!(node.end().is_some(), "{debris} is met");
        };
        meet(&mut node);
        node.run(Order::Count);
        node.settle(&whole, "recovered");
        let acts = node.cut().acts();
        tally.add(acts.len());
        for order in kills(&acts) {
            meet(&mut node);
            node.run(order);
            let end = node.end();
            let what = format!("{debris}, then {order}: {end:?}");
            tally.count(end.is_some());
            if end.is_some() {
                node.assert_readable(&what);
                node.assert_nothing_in_clear(&what);
                node.run(Order::Count);
            }
            node.settle(&whole, &what);
        }
    }
    tally.finish();
}

fn an_agent_killed_at_any_change_of_a_boot_without_its_hub_boots_the_next_time() {
    let mut node = deployed();
    node.kill();
    let dir = node.agent.consumer(URL, "main");
    let wanted = node.wanted.clone().expect("a value");
    let booted = |node: &Node, what: &str| {
        wait::until(&dir, what, || shows(&dir, &wanted));
        node.agent.await_log("Hub not reached");
    };
    node.lose_memory();
    node.run_alone(Order::Count);
    booted(&node, "without a kill");
    let whole = Whole::of(&node);
    let acts = node.cut().acts();
    node.kill();
    let mut tally = Tally::new("boot without the hub", acts.len(), "1 3 8 9 10");
    for order in kills(&acts) {
        node.lose_memory();
        node.run_alone(order);
        let end = node.end();
        let what = format!("{order}: {end:?}");
        tally.count(end.is_some());
        if end.is_some() {
            // Nothing, or everything.
            node.assert_partly_booted(&what);
            node.assert_nothing_in_clear(&what);
            node.run_alone(Order::Count);
        }
        booted(&node, &what);
        node.settle_alone(&whole, &what);
        node.kill();
    }
    tally.finish();
}

/// Does it once without a kill.
pub(crate) fn recorded(node: &mut Node, whole: &Whole, change: fn(&mut Node)) -> Vec<Act> {
    node.cut().order(Order::Count);
    change(node);
    node.settle(whole, "without a kill");
    node.cut().acts()
}

/// Lets the agent be killed there, looks at what it left, and starts it again. Says what was killed.
fn killed_at(node: &mut Node, order: Order, tally: &mut Tally, change: fn(&mut Node)) -> String {
    node.cut().order(order);
    change(node);
    let end = node.end();
    let what = format!("{order}: {end:?}");
    tally.count(end.is_some());
    if end.is_some() {
        node.assert_readable(&what);
        node.assert_nothing_in_clear(&what);
        node.run(Order::Count);
    }
    what
}

/// A node whose deployment was withdrawn: what there was before, and what there is now.
pub(crate) fn withdrawn() -> (Node, Whole, Whole) {
    let mut node = deployed();
    let whole = Whole::of(&node);
    node.withdraw();
    let bare = Whole::when_bare(&node);
    (node, whole, bare)
}

/// A node that has its secret, and whose agent runs.
pub(crate) fn deployed() -> Node {
    let mut node = Node::new();
    node.run(Order::Count);
    node.deploy();
    let dir = node.agent.consumer(URL, "main");
    let wanted = node.wanted.clone().expect("a value");
    wait::until(&dir, "the first value", || shows(&dir, &wanted));
    node.hub.await_rollout("pair", 1);
    // The last change of a start, after the report: former identities end.
    node.await_act("identity.lock", "its start is over");
    node
}
