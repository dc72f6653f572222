//! Connections that are cut, silent, slow or changed at any byte: nothing is lost, nothing is torn, and the
//! agent finds its way back by itself.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};

use edge_secrets_protocol::routes;
use edge_secrets_tests::reader::Reader;
use edge_secrets_tests::relay::{Direction, Fault, Relay};
use edge_secrets_tests::{Client, TestAgent, TestHub, is_root, wait};
use libtest_mimic::Trial;
use nix::unistd::Pid;
use serde_json::json;

use crate::delivery::{URL, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_connection_that_is_cut_at_any_byte_loses_nothing,
        bytes_that_are_changed_on_the_way_are_noticed_and_cost_a_connection,
        a_hub_that_falls_silent_is_given_up_and_found_again,
        a_partition_is_survived_and_healed,
        a_thousand_connections_at_once_are_served,
        a_thousand_reconnects_in_storms_leave_the_hub_as_it_was,
    ]
}

/// An agent that reaches its hub through a relay, with the one secret.
fn relayed() -> (TestHub, Relay, TestAgent) {
    let hub = TestHub::start();
    let relay = Relay::start(hub.port());
    let mut agent = TestAgent::new(&hub, "edge-01", &[("site", json!("berlin"))]);
    agent.reconfigure(|config| config["hub"]["url"] = relay.url().into());
    let enrolled = agent.enrol(&hub.token("edge-01"));
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    agent.run();
    publish_uplink(&hub.operator(), "value-0");
    wait::content(&file(&agent), b"value-0");
    (hub, relay, agent)
}

fn file(agent: &TestAgent) -> std::path::PathBuf {
    agent.consumer(URL, "main").join("myCloudServiceCred")
}

/// Rotates while this happens at that byte, and waits for the new value. Says whether it happened.
fn rotate(
    (hub, relay, agent): (&TestHub, &Relay, &TestAgent),
    number: usize,
    (direction, after, fault): (Direction, u64, Fault),
) -> bool {
    let value = format!("value-{number}");
    relay.plan(direction, after, fault);
    hub.admin().set("cloudServiceXYZSecret", value.as_bytes());
    wait::content(&file(agent), value.as_bytes());
    relay.happened()
}

/// A reader that must never see anything but a whole value, and no older one than before.
pub(crate) fn reader(agent: &TestAgent) -> Reader {
    let last = AtomicUsize::new(0);
    let dir = agent.consumer(URL, "main");
    Reader::start(&dir, &["myCloudServiceCred"], move |contents| {
        let text = std::str::from_utf8(&contents[0]).unwrap_or("");
        let number = text.strip_prefix("value-").and_then(|n| n.parse().ok());
        let number: usize = number.ok_or_else(|| format!("torn: {text:?}"))?;
        let before = last.fetch_max(number, Ordering::SeqCst);
        (number >= before)
            .then_some(())
            .ok_or_else(|| format!("{number} after {before}"))
    })
}

/// Each of these befalls an agent of its own, one after the other: a connection that broke several times within
/// moments is tried again at a growing distance.
fn suffer(faults: &[(Direction, u64, Fault)]) -> usize {
    let (hub, relay, agent) = relayed();
    let reader = reader(&agent);
    let mut happened = 0;
    for (number, fault) in (1..).zip(faults) {
        happened += usize::from(rotate((&hub, &relay, &agent), number, *fault));
    }
    hub.await_rollout("uplink", 1);
    reader.finish();
    happened
}

/// Spread over agents, two of them at a time.
fn spread(faults: &[(Direction, u64, Fault)]) -> usize {
    let agents: Vec<_> = faults.chunks(5).collect();
    let mut happened = 0;
    for pair in agents.chunks(2) {
        thread::scope(|scope| {
            let each = pair.iter().map(|faults| scope.spawn(|| suffer(faults)));
            let each: Vec<_> = each.collect();
            happened += each
                .into_iter()
                .map(|one| one.join().expect("it held"))
                .sum::<usize>();
        });
    }
    happened
}

fn a_connection_that_is_cut_at_any_byte_loses_nothing() {
    // A whole rotation, with the TLS handshake after a cut, is some kilobytes in each direction: the news, the
    // bindings, the fetch, its answer, the report. Steps of a prime, so that they fall everywhere.
    let mut faults = Vec::new();
    for (direction, reach) in [(Direction::Down, 151), (Direction::Up, 61)] {
        for at in 0..10 {
            let fault = if at % 2 == 0 {
                Fault::Close
            } else {
                Fault::Reset
            };
            faults.push((direction, at * reach, fault));
        }
    }
    let cuts = spread(&faults);
    println!("{cuts} connections cut in {} rotations", faults.len());
    assert!(cuts > faults.len() / 2, "{cuts} of {}", faults.len());
}

fn bytes_that_are_changed_on_the_way_are_noticed_and_cost_a_connection() {
    let mut faults = Vec::new();
    for direction in [Direction::Down, Direction::Up] {
        for at in [0, 40, 300] {
            for fault in [
                Fault::Flip,
                Fault::Repeat,
                Fault::Reorder,
                Fault::Delay(Duration::from_millis(200)),
            ] {
                faults.push((direction, at, fault));
            }
        }
    }
    let changed = spread(&faults);
    assert!(changed > faults.len() / 2, "{changed} of {}", faults.len());
}

/// Found by pings, within half a minute.
fn a_hub_that_falls_silent_is_given_up_and_found_again() {
    let (hub, relay, agent) = relayed();
    let happened = rotate(
        (&hub, &relay, &agent),
        1,
        (Direction::Down, 0, Fault::Silence),
    );
    assert!(happened);
    agent.await_hub("connected");
    hub.await_rollout("uplink", 1);
}

fn a_partition_is_survived_and_healed() {
    let (mut hub, relay, agent) = relayed();
    let reader = reader(&agent);
    for number in 1..6 {
        relay.part();
        agent.await_hub("disconnected");
        // Any number of changes, and a hub that starts anew meanwhile.
        for _ in 0..3 {
            hub.admin().set("cloudServiceXYZSecret", b"value-1000");
        }
        let value = format!("value-{}", 1000 + number);
        hub.admin().set("cloudServiceXYZSecret", value.as_bytes());
        hub.kill();
        hub.serve();
        assert!(file(&agent).exists(), "nothing is taken away");
        relay.heal();
        wait::content(&file(&agent), value.as_bytes());
        hub.await_rollout("uplink", 1);
    }
    // Withdrawn while it could not hear of it, it is wiped when it does.
    relay.part();
    agent.await_hub("disconnected");
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    assert!(file(&agent).exists());
    reader.finish();
    relay.heal();
    wait::gone(&file(&agent));
}

/// As after a hub's restart: every node comes back at once, again and again, and those that are served meanwhile
/// are served.
fn a_thousand_reconnects_in_storms_leave_the_hub_as_it_was() {
    const STORMS: usize = 50;
    const NODES: usize = 20;
    let (hub, _relay, agent) = relayed();
    let node = hub.raw_node("edge-02", &[]).credentials;
    let at_rest = sockets(hub.pid());
    let storm = Relay::start(hub.port());
    let (port, ca) = (storm.port(), hub.ca());
    let together = Barrier::new(NODES + 1);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..NODES {
            scope.spawn(|| {
                for _ in 0..STORMS {
                    together.wait();
                    let connected = Client::connect(port, Some(&ca), Some(&node));
                    let answer = connected.and_then(|mut client| {
                        let answer = client.get(routes::BINDINGS)?;
                        Ok((client, answer))
                    });
                    if answer
                        .as_ref()
                        .is_ok_and(|(_, answer)| answer.status == 200)
                    {
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                    // Connected until all are cut.
                    together.wait();
                }
            });
        }
        for number in 0..STORMS {
            together.wait();
            if number % 2 == 1 {
                // Whatever each has got to.
                storm.cut();
            }
            together.wait();
            storm.cut();
        }
    });
    let served = served.into_inner();
    // But for a handshake here and there that a busy machine did not end in time.
    assert!(served >= STORMS / 2 * NODES * 9 / 10, "{served} answers");
    hub.admin().set("cloudServiceXYZSecret", b"value-1");
    wait::content(&file(&agent), b"value-1");
    wait::until(&hub.log(), "the hub has let go of every connection", || {
        sockets(hub.pid()) <= at_rest
    });
}

/// How many sockets a process has. Whoever is not root cannot see those of a process that hides its memory.
fn sockets(of: Pid) -> usize {
    if !is_root() {
        return 0;
    }
    let entries = fs::read_dir(format!("/proc/{of}/fd")).expect("its descriptors");
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

fn a_thousand_connections_at_once_are_served() {
    let (hub, _relay, agent) = relayed();
    let node = hub.raw_node("edge-02", &[]);
    let (port, ca) = (hub.port(), hub.ca());
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let client = Client::connect(port, Some(&ca), Some(&node.credentials));
                    let mut client = client.expect("a connection");
                    let answer = client.get(routes::BINDINGS).expect("an answer");
                    assert_eq!(answer.status, 200, "{answer}");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        hub.admin().set("cloudServiceXYZSecret", b"value-1");
        wait::content(&file(&agent), b"value-1");
    });
    assert_eq!(served.into_inner(), 1000);
}
