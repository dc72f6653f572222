//! The server against a client that asks as systemd does: it binds the address that systemd binds,
//! shuts its own direction down, and reads to the end with systemd's limit.

mod lookups;
mod restarts;
mod system;

use std::fs;

use self::system::{Limit, Node, Outcome, cred, profile};
use super::places::{MAX_OF_UNIT, MAX_OPEN, MAX_WAITING};
use super::*;

#[tokio::test]
async fn a_value_arrives_byte_for_byte() {
    let node = Node::new(vec![profile("a.service")]);
    let binary: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = (0..900_000_u32).map(|at| (at % 251) as u8).collect();
    for value in [b"hunter2".to_vec(), binary, vec![], vec![0; 1], long] {
        node.deliver(&[("password", &value)]);
        let got = node.ask("a.service", "password").read().await;
        assert!(got == Outcome::Value(value));
    }
}

#[tokio::test]
async fn a_field_below_a_secret_is_reached_by_its_mapped_name() {
    let node = Node::new(vec![cred(profile("a.service"), |given| {
        given
            .ids
            .insert("pw".parse().unwrap(), "db/password".parse().unwrap());
    })]);
    node.deliver(&[("db/password", b"x"), ("pw", b"not this")]);
    assert!(node.ask("a.service", "pw").read().await == Outcome::Value(b"x".to_vec()));
}

#[tokio::test]
async fn a_unit_waits_until_its_credential_is_there_and_its_consumer_is_told() {
    let mut node = Node::new(vec![profile("a.service")]);
    let asked = node.ask("a.service", "password");
    node.keeper.stored("credential-").await;
    assert_eq!(node.asked.recv().await.unwrap(), node.consumer("main"));
    node.deliver(&[("other", b"not this")]);
    node.deliver(&[("other", b"not this"), ("password", b"hunter2")]);
    assert!(asked.read().await == Outcome::Value(b"hunter2".to_vec()));
    assert!(node.asked.try_recv().is_err());
    node.keeper.emptied().await;
}

#[tokio::test]
async fn what_does_not_come_in_time_makes_the_unit_fail() {
    let node = Node::new(vec![cred(profile("a.service"), |given| {
        given.wait = Duration::from_millis(30);
    })]);
    assert!(node.ask("a.service", "password").read().await == Outcome::Fails);
    node.keeper.emptied().await;
}

#[tokio::test]
async fn a_unit_that_no_profile_names_fails_unless_one_is_read_just_then() {
    let node = Node::new(vec![profile("a.service")]);
    node.deliver(&[("password", b"hunter2")]);
    assert!(node.ask("b.service", "password").read().await == Outcome::Fails);
    let early = node.ask("b.service", "password");
    node.keeper.stored("credential-").await;
    node.publish(|shelf| {
        shelf.profiles = Arc::new(Profiles::of_these([
            profile("a.service"),
            profile("b.service"),
        ]));
    });
    assert!(early.read().await == Outcome::Value(b"hunter2".to_vec()));
    // And one that loses its profile while it waits.
    let asked = node.ask("a.service", "later");
    node.keeper.stored("credential-").await;
    node.publish(|shelf| shelf.profiles = Arc::default());
    assert!(asked.read().await == Outcome::Fails);
}

#[tokio::test]
async fn an_address_that_names_nothing_makes_whoever_it_is_fail() {
    let node = Node::new(vec![profile("a.service")]);
    node.deliver(&[("password", b"hunter2")]);
    let long = format!("1/unit/{}.service/x", "a".repeat(80));
    let wrong: [&[u8]; 6] = [
        b"nothing",
        b"1/unit/a.service",
        b"1/unit/a.service/password/",
        b"1/unit/a.service/\xff\xfe",
        b"\x00/unit/a.service/password",
        long.as_bytes(),
    ];
    for address in wrong {
        let asked = node.connect(Some(address));
        assert!(
            asked.read().await == Outcome::Fails,
            "{}",
            address.escape_ascii()
        );
    }
    assert!(node.connect(None).read().await == Outcome::Fails);
    let path = node.dir.path().join("client.sock");
    assert!(node.connect_from_path(&path).read().await == Outcome::Fails);
}

#[tokio::test]
async fn another_users_process_learns_nothing() {
    let node = Node::with(vec![profile("a.service")], CredentialServer::trust_nobody);
    node.deliver(&[("password", b"hunter2")]);
    assert!(node.ask("a.service", "password").read().await == Outcome::Fails);
}

#[tokio::test]
async fn a_flood_of_other_users_is_closed_and_holds_up_nobody() {
    let node = Node::with(vec![profile("a.service")], CredentialServer::trust_nobody);
    let flood: Vec<_> = (0..2 * MAX_OPEN)
        .map(|_| node.ask("a.service", "x"))
        .collect();
    // Most are closed with no answer, though nobody reads.
    let mut closed = 0;
    for asked in flood {
        closed += usize::from(asked.read().await == Outcome::Value(vec![]));
    }
    assert!(closed >= 2 * MAX_OPEN - 100, "{closed}");
}

#[tokio::test]
async fn a_value_rotated_away_between_two_looks_is_given_in_its_next_version() {
    let node = Node::new(vec![cred(profile("a.service"), |given| {
        given.wait = Duration::ZERO;
    })]);
    node.deliver(&[("password", b"old")]);
    fs::remove_dir_all(node.generation("main")).unwrap();
    let asked = node.ask("a.service", "password");
    node.keeper.stored("credential-").await;
    node.deliver(&[("password", b"new")]);
    assert!(asked.read().await == Outcome::Value(b"new".to_vec()));
}

#[tokio::test]
async fn a_link_or_a_directory_in_a_files_place_is_not_followed() {
    let node = Node::new(vec![profile("a.service")]);
    node.deliver(&[("password", b"x"), ("other", b"y")]);
    let generation = node.generation("main");
    fs::write(node.dir.path().join("outside"), "outside").unwrap();
    for name in ["password", "other"] {
        fs::remove_file(generation.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(node.dir.path().join("outside"), generation.join("password"))
        .unwrap();
    fs::create_dir(generation.join("other")).unwrap();
    for name in ["password", "other"] {
        assert!(
            node.ask("a.service", name).read().await == Outcome::Fails,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_value_wiped_while_it_is_read_makes_the_unit_fail() {
    for gone in [false, true] {
        let node = Node::new(vec![profile("a.service")]);
        let value = vec![7; 900_000];
        node.deliver(&[("password", &value)]);
        let file = node.generation("main").join("password");
        let asked = node.ask("a.service", "password");
        asked.readable().await;
        // As the wiper does: overwritten in place, and removed where it is undeployed.
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|file| std::os::unix::fs::FileExt::write_all_at(&file, &[0; 900_000], 0))
            .unwrap();
        if gone {
            fs::remove_file(&file).unwrap();
        }
        assert!(asked.read().await == Outcome::Fails, "{gone}");
    }
}

#[tokio::test]
async fn a_small_value_wiped_before_it_is_read_makes_the_unit_fail() {
    let node = Node::new(vec![profile("a.service")]);
    node.deliver(&[("password", b"hunter2")]);
    let file = node.generation("main").join("password");
    let asked = node.ask("a.service", "password");
    asked.readable().await;
    fs::write(&file, [0; 7]).unwrap();
    assert!(asked.read().await == Outcome::Fails);
}

#[tokio::test]
async fn three_hundred_units_at_once_get_theirs() {
    let units = (0..300).map(|at| format!("u{at}.service"));
    let units: Vec<String> = units.collect();
    let node = Node::new(vec![cred(profile("a.service"), |given| {
        given.units = units.iter().map(|unit| unit.parse().unwrap()).collect();
    })]);
    node.deliver(&[("password", b"hunter2")]);
    let asked: Vec<_> = units
        .iter()
        .map(|unit| node.ask(unit, "password"))
        .collect();
    for asked in asked {
        assert!(asked.read().await == Outcome::Value(b"hunter2".to_vec()));
    }
}

#[tokio::test]
async fn those_who_wait_and_those_who_do_not_read_hold_up_nobody() {
    let node = Node::new(vec![cred(profile("a@.service"), |given| {
        given.units.push("b.service".parse().unwrap());
    })]);
    let large = vec![1; 900_000];
    node.deliver(&[("large", &large), ("password", b"hunter2")]);
    let slow: Vec<_> = (0..20).map(|_| node.ask("b.service", "large")).collect();
    for asked in &slow {
        asked.readable().await;
    }
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|at| node.ask(&format!("a@{at}.service"), "later"))
        .collect();
    for _ in &waiting {
        node.keeper.stored("credential-").await;
    }
    // One more that would have to wait is refused; what is there is given.
    assert!(node.ask("a@last.service", "later").read().await == Outcome::Fails);
    let now = node.ask("b.service", "password").read().await;
    assert!(now == Outcome::Value(b"hunter2".to_vec()));
    for asked in slow {
        assert!(asked.read().await == Outcome::Value(large.clone()));
    }
    node.deliver(&[("later", b"at last")]);
    for asked in waiting {
        assert!(asked.read().await == Outcome::Value(b"at last".to_vec()));
    }
    node.keeper.emptied().await;
}

#[tokio::test]
async fn a_unit_that_asks_without_end_is_refused_and_others_are_not() {
    let mut a = profile("a.service");
    a = cred(a, |given| given.units.push("b.service".parse().unwrap()));
    let node = Node::new(vec![a]);
    let waiting: Vec<_> = (0..MAX_OF_UNIT)
        .map(|_| node.ask("a.service", "later"))
        .collect();
    for _ in &waiting {
        node.keeper.stored("credential-").await;
    }
    assert!(node.ask("a.service", "later").read().await == Outcome::Fails);
    let other = node.ask("b.service", "later");
    node.keeper.stored("credential-").await;
    node.deliver(&[("later", b"x")]);
    assert!(other.read().await == Outcome::Value(b"x".to_vec()));
}

#[tokio::test]
async fn who_goes_away_while_waiting_leaves_nothing() {
    let node = Node::new(vec![profile("a.service")]);
    let asked = node.ask("a.service", "later");
    node.keeper.stored("credential-").await;
    drop(asked);
    node.keeper.emptied().await;
}

#[tokio::test]
async fn a_value_that_systemd_does_not_take_makes_the_unit_fail() {
    let node = Node::new(vec![profile("a.service")]);
    let huge = vec![1; Limit::SYSTEMD + 1];
    node.deliver(&[("huge", &huge)]);
    assert!(node.ask("a.service", "huge").read().await == Outcome::Fails);
    node.keeper.emptied().await;
}
