use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::{Code, SealingKey};

use super::*;
use crate::config::Config;
use crate::hub::Connection;
use crate::hub::fake::{FakeHub, Seen, now};

fn config(hub: &FakeHub, dir: &Path) -> Config {
    let path = dir.join("agent.yaml");
    fs::write(&path, format!("hub: {{ url: \"{}\" }}\n", hub.url())).unwrap();
    let mut config = Config::load(&path).unwrap();
    config.state_dir = dir.join("state");
    config
}

#[tokio::test]
async fn enrolment_stores_an_identity_that_connects() {
    let mut hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&hub, dir.path());
    let store = Store::new(&config.state_dir);
    assert!(NodeIdentity::load(&store).unwrap().is_none());

    let token = hub.token("myorg", "edge-01");
    let facts = NodeFacts {
        agent_version: "0".into(),
        ..NodeFacts::default()
    };
    enrol(&config, &store, token, facts.clone(), false)
        .await
        .unwrap();
    assert_eq!(hub.asked_so_far(), [Seen::Enroll(facts)]);

    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    assert_eq!(identity.node.as_str(), "edge-01");
    let connection = Connection::open(&config.hub.url, identity.tls.clone())
        .await
        .unwrap();
    connection.put_node(&NodeFacts::default()).await.unwrap();

    let mode = |path: &str| {
        fs::metadata(config.state_dir.join(path))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("") & 0o777, 0o700);
    assert_eq!(mode("identity/node.key") & 0o777, 0o600);
    assert_eq!(mode("identity/sealing.key") & 0o777, 0o600);

    // An identity is not overwritten unless that is asked for.
    let again = enrol(
        &config,
        &store,
        hub.token("myorg", "edge-01"),
        NodeFacts::default(),
        false,
    );
    assert!(matches!(again.await, Err(EnrolError::Enrolled(who)) if who == "myorg/edge-01"));
    let forced = enrol(
        &config,
        &store,
        hub.token("myorg", "edge-01"),
        NodeFacts::default(),
        true,
    );
    assert!(forced.await.unwrap().set > identity.set);
}

#[tokio::test]
async fn a_token_goes_to_no_hub_but_the_one_it_names() {
    let mut hub = FakeHub::start().await;
    let other = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&hub, dir.path());
    let store = Store::new(&config.state_dir);
    let token = other.token("myorg", "edge-01");
    let error = enrol(&config, &store, token, NodeFacts::default(), false)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, EnrolError::OtherHub(_)), "{error}");
    assert_eq!(hub.asked_so_far(), []);
    assert!(NodeIdentity::load(&store).unwrap().is_none());
}

#[tokio::test]
async fn a_refused_token_and_another_node_are_named() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&hub, dir.path());
    let store = Store::new(&config.state_dir);
    let token = hub.token("myorg", "edge-01");
    hub.answers().token = None;
    let error = enrol(&config, &store, token, NodeFacts::default(), false)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, EnrolError::Refused(_)), "{error}");

    config.node.id = Some("edge-02".parse().unwrap());
    let token = hub.token("myorg", "edge-01");
    let error = enrol(&config, &store, token, NodeFacts::default(), false)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("myorg/edge-02"), "{error}");
    assert!(hub.answers().token.is_some(), "the token is not used up");
}

fn public(stored: &store::Stored) -> PublicKey {
    stored.sealing.key.as_ref().unwrap().public()
}

#[tokio::test]
async fn renewal_takes_a_new_key_and_keeps_the_old_one_until_retired() {
    let hub = FakeHub::start().await;
    hub.answers().validity = Some((now() - 60, now() + 60));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let old = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let (_, before) = store.load().unwrap().unwrap();
    let identity = NodeIdentity::load(&store).unwrap().unwrap();

    hub.answers().validity = None;
    let connection = Connection::open(&hub.url(), identity.tls.clone())
        .await
        .unwrap();
    let renewed = renew(connection, store.clone(), identity.set)
        .await
        .unwrap();
    assert!(renewed.validity.not_after > identity.validity.not_after);
    let (set, after) = store.load().unwrap().unwrap();
    assert_eq!(set, renewed.set);
    assert!(*before.key != *after.key);
    assert!(public(&before) != public(&after));
    assert!(before.enrolment == after.enrolment);
    assert_eq!(hub.answers().sealing_key, Some(public(&after)));
    assert!(renewed.sealing.has_former(), "values on their way open");

    // Until retired one can go back, and then no more.
    assert_eq!(store.roll_back(renewed.set).unwrap(), Some(old));
    assert_eq!(store.current().unwrap(), Some(old));
    store.retire().unwrap();
    assert_eq!(store.roll_back(old).unwrap(), None);
}

#[tokio::test]
async fn a_renewal_for_another_node_is_refused() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let set = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    hub.answers().renew_as = Some("edge-02".parse().unwrap());
    let connection = Connection::open(&hub.url(), identity.tls.clone())
        .await
        .unwrap();
    let renewed = renew(connection, store.clone(), set).await;
    assert!(
        renewed
            .err()
            .unwrap()
            .to_string()
            .contains("of another node")
    );
    assert_eq!(store.current().unwrap(), Some(set));
}

#[tokio::test]
async fn one_goes_back_to_a_set_that_is_whole() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let first = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    // A kill, or a full disk, while a set was written.
    let half = dir.path().join("identity-2");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("node.key"), "half").unwrap();

    let fresh = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    assert_eq!(store.roll_back(fresh).unwrap(), Some(first));
    assert!(NodeIdentity::load(&store).unwrap().is_some());
}

#[tokio::test]
async fn a_set_that_cannot_be_written_leaves_no_key_behind() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let first = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    // In the way of the link, so that the new set cannot be swapped in.
    let way = dir.path().join("identity.new");
    fs::create_dir(&way).unwrap();
    assert!(store.install(&hub.issue("myorg", "edge-01")).is_err());
    assert_eq!(store.current().unwrap(), Some(first));
    assert!(!dir.path().join("identity-2").exists());
}

#[tokio::test]
async fn a_refused_renewal_changes_nothing() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let set = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    let problem = edge_secrets_protocol::Problem::new(Code::NotEnrolled, "not known");
    hub.answers()
        .refuse
        .insert(edge_secrets_protocol::routes::RENEW, problem);
    let connection = Connection::open(&hub.url(), identity.tls.clone())
        .await
        .unwrap();
    assert!(renew(connection, store.clone(), set).await.is_err());
    assert_eq!(store.current().unwrap(), Some(set));
}

#[tokio::test]
async fn a_crash_while_writing_leaves_the_set_in_use() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let first = store.install(&hub.issue("myorg", "edge-01")).unwrap();

    // What a crash can leave: a half-written set, and a fresh link that was not renamed.
    let half = dir.path().join("identity-2");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("node.key"), "half").unwrap();
    std::os::unix::fs::symlink("identity-2", dir.path().join("identity.new")).unwrap();
    assert_eq!(NodeIdentity::load(&store).unwrap().unwrap().set, first);

    let next = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    assert_eq!(NodeIdentity::load(&store).unwrap().unwrap().set, next);
    store.retire().unwrap();
    assert!(!half.exists());
    let sets = fs::read_dir(dir.path()).unwrap().filter_map(Result::ok);
    let sets = sets.filter(|e| e.file_name().to_string_lossy().starts_with("identity-"));
    assert_eq!(sets.count(), 1);
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_certificate_is_refused() {
    let hub = FakeHub::start().await;
    let mut material = hub.issue("myorg", "edge-01");
    material.key = hub.issue("myorg", "edge-01").key;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.install(&material).unwrap();
    let error = NodeIdentity::load(&store).err().unwrap();
    assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("node.key"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let names = ["node.key", "node.crt", "ca.crt", "sealing.key", "enrolment"];
    let enrolment = NodeIdentity::load(&store).unwrap().unwrap().enrolment;
    for file in names {
        let path = dir.path().join("identity").join(file);
        let kept = fs::read(&path).unwrap();
        fs::write(&path, "no").unwrap();
        match (file, NodeIdentity::load(&store)) {
            // Another one comes with the next renewal.
            ("sealing.key", loaded) => {
                let identity = loaded.unwrap().unwrap();
                assert!(identity.sealing.all().is_empty());
                assert!(identity.enrolment == enrolment);
                let lost = identity.sealing_lost.unwrap();
                assert!(lost.contains("sealing.key: it is damaged"), "{lost}");
            }
            ("enrolment", loaded) => assert!(loaded.unwrap().is_some()),
            (_, loaded) => {
                let error = loaded.err().unwrap().to_string();
                assert!(
                    error.contains(file) && error.contains("enroll --force"),
                    "{error}"
                );
            }
        }
        fs::write(&path, kept).unwrap();
    }
    // Nothing says any more whose it is.
    for file in ["sealing.key", "enrolment"] {
        fs::write(dir.path().join("identity").join(file), "no").unwrap();
    }
    let error = NodeIdentity::load(&store).err().unwrap().to_string();
    assert!(error.contains("enrolment"), "{error}");
    store.install(&hub.issue("myorg", "edge-01")).unwrap();
    assert!(NodeIdentity::load(&store).unwrap().is_some());
}

#[tokio::test]
async fn the_next_sealing_key_is_the_same_until_it_is_in_use() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let set = store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let next = store.next_sealing_key(set).unwrap().public();
    // Cut off before or while it was written: it was told to nobody.
    let kept = dir.path().join("identity-1/sealing.next");
    let bytes = fs::read(&kept).unwrap();
    fs::write(dir.path().join("identity-1/sealing.next.new"), "half").unwrap();
    assert!(store.next_sealing_key(set).unwrap().public() == next);
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    assert!(!identity.sealing.has_former());
    let publics: Vec<_> = identity.sealing.all().iter().map(|k| k.public()).collect();
    assert!(publics.len() == 2 && publics[1] == next);

    // In use, it is that of the set, and what was before it is there until it is retired.
    let mut material = hub.issue("myorg", "edge-01");
    let former = identity.sealing.current().unwrap().public();
    material.sealing_key = SealingKey::from_bytes(&bytes).unwrap();
    let renewed = store.install(&material).unwrap();
    assert!(store.next_sealing_key(set).is_err(), "of a set not in use");
    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    let publics: Vec<_> = identity.sealing.all().iter().map(|k| k.public()).collect();
    assert!(publics == [next, former]);
    // A kill while the former set is wiped.
    fs::write(dir.path().join("identity-1/sealing.key"), [0; 32]).unwrap();
    let identity = NodeIdentity::load(&store).unwrap().unwrap();
    assert!(!identity.sealing.has_former());
    store.retire().unwrap();
    assert_eq!(store.current().unwrap(), Some(renewed));
}

#[tokio::test]
async fn a_set_of_a_time_before_sealing_keys_changed_is_its_own_enrolment() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.install(&hub.issue("myorg", "edge-01")).unwrap();
    let before = NodeIdentity::load(&store).unwrap().unwrap();
    fs::remove_file(dir.path().join("identity/enrolment")).unwrap();
    let after = NodeIdentity::load(&store).unwrap().unwrap();
    assert!(after.enrolment == before.enrolment);
    assert!(after.enrolment == after.sealing.current().unwrap().public());
}
