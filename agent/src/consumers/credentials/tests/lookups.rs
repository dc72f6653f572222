//! Which file a request means.

use proptest::prelude::*;

use super::system::{cred, profile};
use super::*;
use crate::consumers::credentials::address::Request;
use crate::consumers::credentials::lookup::{Found, Refusal, look, named};
use crate::consumers::profile::Profile;

const WAIT: Duration = Duration::from_secs(60);

fn consumer(name: &str) -> ConsumerId {
    ConsumerId {
        service: "myorg/uplink".parse().unwrap(),
        consumer: name.parse().unwrap(),
    }
}

fn shelf(profiles: Vec<Profile>, consumers: &[(&str, &[&str])]) -> Shelf {
    let shelved = |(name, files): &(&str, &[&str])| {
        let shelved = Shelved {
            generation: format!("/run/{name}").into(),
            files: files.iter().map(|file| file.parse().unwrap()).collect(),
        };
        (consumer(name), shelved)
    };
    Shelf {
        profiles: Arc::new(Profiles::of_these(profiles)),
        consumers: consumers.iter().map(shelved).collect(),
    }
}

fn request(unit: &str, credential: &str) -> Request {
    Request {
        unit: unit.parse().unwrap(),
        credential: credential.parse().unwrap(),
    }
}

/// Consumer and file; none when it is not there yet.
fn meant(shelf: &Shelf, unit: &str, credential: &str) -> Result<Option<(String, String)>, Refusal> {
    match look(shelf, &request(unit, credential)) {
        Found::File {
            consumer,
            generation,
            file,
            wait,
        } => {
            assert_eq!(wait, WAIT);
            assert_eq!(generation, shelf.consumers[consumer].generation);
            Ok(Some((consumer.consumer.to_string(), file.to_string())))
        }
        Found::NotYet { wait } => {
            assert_eq!(wait, WAIT);
            Ok(None)
        }
        Found::Refused(refusal) => Err(refusal),
    }
}

fn file(consumer: &str, file: &str) -> Result<Option<(String, String)>, Refusal> {
    Ok(Some((consumer.to_owned(), file.to_owned())))
}

/// A profile for all consumers of the service.
fn for_all(unit: &str) -> Profile {
    Profile {
        consumer: None,
        ..profile(unit)
    }
}

#[test]
fn a_template_stands_for_its_instances_and_an_instance_for_itself() {
    let other = Profile {
        consumer: Some("berlin".parse().unwrap()),
        ..profile("uplink@berlin.service")
    };
    let shelf = shelf(
        vec![profile("uplink@.service"), other],
        &[("main", &["x"]), ("berlin", &["x"])],
    );
    assert_eq!(
        meant(&shelf, "uplink@paris.service", "x"),
        file("main", "x")
    );
    assert_eq!(
        meant(&shelf, "uplink@berlin.service", "x"),
        file("berlin", "x")
    );
    assert_eq!(
        meant(&shelf, "uplink.service", "x"),
        Err(Refusal::UnknownUnit)
    );
}

#[test]
fn an_id_is_its_file_unless_the_profile_says_which() {
    let mapped = cred(profile("a.service"), |given| {
        given
            .ids
            .insert("pw".parse().unwrap(), "db/password".parse().unwrap());
        given
            .ids
            .insert("+odd+".parse().unwrap(), "x".parse().unwrap());
    });
    let shelf = shelf(vec![mapped], &[("main", &["x", "pw", "db/password"])]);
    assert_eq!(meant(&shelf, "a.service", "x"), file("main", "x"));
    assert_eq!(
        meant(&shelf, "a.service", "pw"),
        file("main", "db/password")
    );
    assert_eq!(meant(&shelf, "a.service", "+odd+"), file("main", "x"));
    assert_eq!(meant(&shelf, "a.service", "later"), Ok(None));
    let refused = meant(&shelf, "a.service", "..hidden").unwrap_err();
    assert!(
        refused.to_string().contains("systemd.credentials"),
        "{refused}"
    );
}

#[test]
fn a_profile_for_all_consumers_takes_the_one_that_has_the_file() {
    let shelf = shelf(
        vec![for_all("a.service")],
        &[("one", &["x", "both"]), ("two", &["y", "both"])],
    );
    assert_eq!(meant(&shelf, "a.service", "x"), file("one", "x"));
    assert_eq!(meant(&shelf, "a.service", "y"), file("two", "y"));
    let refused = meant(&shelf, "a.service", "both").unwrap_err().to_string();
    for said in ["one, two", "`consumer:`", "services.d/uplink.yaml"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(named(&shelf, &request("a.service", "x")), None);
}

#[test]
fn a_consumer_with_a_profile_of_its_own_is_not_meant_by_the_others() {
    let shelf = shelf(
        vec![for_all("a.service"), profile("b.service")],
        &[("main", &["x"]), ("other", &["x"])],
    );
    assert_eq!(meant(&shelf, "a.service", "x"), file("other", "x"));
    assert_eq!(meant(&shelf, "b.service", "x"), file("main", "x"));
    assert_eq!(
        named(&shelf, &request("b.service", "x")),
        Some(consumer("main"))
    );
}

#[test]
fn another_services_files_are_never_given() {
    let mut shelf = shelf(vec![for_all("a.service")], &[("main", &["y"])]);
    let foreign = ConsumerId {
        service: "myorg/other".parse().unwrap(),
        consumer: "main".parse().unwrap(),
    };
    let shelved = Shelved {
        generation: "/run/other".into(),
        files: BTreeSet::from(["x".parse().unwrap()]),
    };
    shelf.consumers.insert(foreign, shelved);
    assert_eq!(meant(&shelf, "a.service", "x"), Ok(None));
}

proptest! {
    #[test]
    fn what_is_given_is_of_the_profiles_service_and_consumer_and_is_there(
        names in proptest::collection::vec(("[ab]", "[xyz]"), 0..6),
        all in any::<bool>(),
        own in proptest::option::of("[ab]"),
        credential in "[xyz]",
    ) {
        let mut held: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, file) in &names {
            held.entry(name).or_default().push(file);
        }
        let held: Vec<_> = held.iter().map(|(name, files)| (*name, files.as_slice())).collect();
        let named = own.as_ref().map(|name| Profile {
            consumer: Some(name.parse().unwrap()),
            ..profile("own.service")
        });
        let profiles = named.into_iter().chain(all.then(|| for_all("all.service")));
        let shelf = shelf(profiles.collect(), &held);
        for unit in ["own.service", "all.service"] {
            let holders = held.iter().filter(|(name, files)| {
                let meant = match unit {
                    "own.service" => own.as_deref() == Some(*name),
                    _ => all && own.as_deref() != Some(*name),
                };
                meant && files.contains(&credential.as_str())
            });
            let holders: Vec<_> = holders.map(|(name, _)| *name).collect();
            match (meant(&shelf, unit, &credential), holders.as_slice()) {
                (Ok(Some((consumer, file))), [holder]) => {
                    prop_assert_eq!(consumer, *holder);
                    prop_assert_eq!(file, credential.clone());
                }
                (Ok(None), []) => {}
                (Err(Refusal::Ambiguous { .. }), [_, _, ..]) => {}
                (Err(Refusal::UnknownUnit), []) => {}
                (other, holders) => prop_assert!(false, "{other:?} for {holders:?}"),
            }
        }
    }
}
