//! The agent ends, in order or not, while units wait or read.

use super::system::{Node, Outcome, Store, profile};
use super::*;

#[tokio::test]
async fn a_unit_that_waits_over_a_restart_or_a_kill_gets_its_value_from_the_next_life() {
    for killed in [false, true] {
        let mut node = Node::new(vec![profile("a.service")]);
        let asked = node.ask("a.service", "password");
        node.keeper.stored("credential-").await;
        if killed {
            node.kill().await;
        } else {
            node.end(Ending::Restart).await;
        }
        assert_eq!(node.keeper.names().len(), 1);
        // Between two lives: others stand in the queue of the socket.
        let second = node.ask("a.service", "password");
        node.start(|server| server);
        node.deliver(&[("password", b"hunter2")]);
        for asked in [asked, second] {
            assert!(
                asked.read().await == Outcome::Value(b"hunter2".to_vec()),
                "{killed}"
            );
        }
        node.keeper.emptied().await;
    }
}

#[tokio::test]
async fn a_unit_that_had_read_a_part_when_the_agent_was_killed_fails() {
    let mut node = Node::new(vec![profile("a.service")]);
    let value = vec![1; 900_000];
    node.deliver(&[("password", &value)]);
    let asked = node.ask("a.service", "password");
    asked.readable().await;
    node.kill().await;
    assert_eq!(node.keeper.names().len(), 2);
    node.start(|server| server);
    assert!(asked.read().await == Outcome::Fails);
    node.keeper.emptied().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_fails_in_the_next_life() {
    let mut node = Node::new(vec![profile("a.service")]);
    let asked = node.ask("a.service", "password");
    node.keeper.stored("credential-").await;
    node.deliver(&[("password", b"hunter2")]);
    asked.readable().await;
    node.end(Ending::Restart).await;
    node.start(|server| server);
    assert!(asked.read().await == Outcome::Fails);
    node.keeper.emptied().await;
}

#[tokio::test]
async fn an_answer_that_is_being_read_is_finished_before_a_restart() {
    let mut node = Node::new(vec![profile("a.service")]);
    let value = vec![1; 900_000];
    node.deliver(&[("password", &value)]);
    let asked = node.ask("a.service", "password");
    asked.readable().await;
    let (got, ()) = tokio::join!(asked.read(), node.end(Ending::Restart));
    assert!(got == Outcome::Value(value));
    assert!(node.keeper.names().is_empty());
}

#[tokio::test]
async fn a_stop_fails_whoever_waits() {
    for (keeps, ending) in [
        (true, Ending::Stop),
        (false, Ending::Stop),
        (false, Ending::Restart),
    ] {
        let mut node = Node::new(vec![profile("a.service")]);
        node.kill().await;
        node.keeper = Store::new(keeps);
        node.start(|server| server);
        let asked = node.ask("a.service", "password");
        assert_eq!(node.asked.recv().await.unwrap(), node.consumer("main"));
        let (got, ()) = tokio::join!(asked.read(), node.end(ending));
        assert!(got == Outcome::Fails, "{keeps} {ending:?}");
        assert!(node.keeper.names().is_empty());
    }
}

#[tokio::test]
async fn a_life_that_ends_at_its_start_fails_whoever_waited_since_the_last() {
    let mut node = Node::new(vec![profile("a.service")]);
    let asked = node.ask("a.service", "password");
    node.keeper.stored("credential-").await;
    node.kill().await;
    node.publish(|shelf| *shelf = Shelf::default());
    node.start(|server| server);
    let (got, ()) = tokio::join!(asked.read(), node.end(Ending::Stop));
    assert!(got == Outcome::Fails);
    assert!(node.keeper.names().is_empty());
}

#[tokio::test]
async fn a_mark_without_its_connection_and_a_strangers_descriptor_do_no_harm() {
    let mut node = Node::new(vec![profile("a.service")]);
    node.kill().await;
    for name in ["credential-sending-1", "something"] {
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        node.keeper.store(name, std::os::fd::AsFd::as_fd(&other));
    }
    // Not a connection at all.
    let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
    node.keeper
        .store("credential-2", std::os::fd::AsFd::as_fd(&other));
    node.start(|server| server);
    assert_eq!(node.keeper.names(), ["something"]);
    node.deliver(&[("password", b"x")]);
    assert!(node.ask("a.service", "password").read().await == Outcome::Value(b"x".to_vec()));
}

#[tokio::test]
async fn no_connection_is_taken_and_left_to_itself() {
    let mut node = Node::new(vec![profile("a.service")]);
    node.kill().await;
    let server = node.server();
    let mut serving = std::pin::pin!(server.serve(node.ending.subscribe()));
    let _asked = node.ask("a.service", "password");
    // Step by step, and no other task between a step and the look at what it has done.
    while node.queued() {
        tokio::task::yield_now().await;
        assert!(serving.as_mut().now_or_never().is_none());
    }
    assert_eq!(node.keeper.names().len(), 1);
}
