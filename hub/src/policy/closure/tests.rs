use edge_secrets_protocol::UserId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// `url version [arch] -> url range; url range`
fn services(lines: &[&str]) -> Services {
    let owner: UserId = "dev".parse().unwrap();
    let published = lines.iter().map(|line| (owner.clone(), definition(line)));
    published.collect()
}

fn definition(line: &str) -> ServiceDefinition {
    let (own, required) = line.split_once("->").unwrap_or((line, ""));
    let mut own = own.split_whitespace();
    let (url, version) = (own.next().unwrap(), own.next().unwrap());
    let required: Vec<Value> = required
        .split(';')
        .filter_map(|one| one.trim().split_once(' '))
        .map(|(url, range)| json!({"url": url, "org": "o", "versionRange": range}))
        .collect();
    let text = json!({
        "org": "o", "url": url, "version": version, "arch": own.next().unwrap_or(""),
        "requiredServices": required,
    });
    ServiceDefinition::parse(&text.to_string()).unwrap()
}

fn of(services: &Services, top: &str) -> Result<Vec<String>, String> {
    let amd64 = Arch::new("amd64");
    on(services, top, Whereabouts::Node(Some(&amd64)), None)
}

/// With this version of this service on the node already.
fn on(
    services: &Services,
    top: &str,
    place: Whereabouts<'_>,
    pin: Option<(&str, &str)>,
) -> Result<Vec<String>, String> {
    let top = &services.of(&id(top))[0].document;
    let pins = |service: &ServiceId| {
        let (url, version) = pin.filter(|(url, _)| id(url) == *service)?;
        let found = services.get(&id(url), version, "")?;
        Some((&found.document, "policy p".to_owned()))
    };
    let found = closure(top, place, services, &pins);
    found
        .map(|members| members.iter().map(ToString::to_string).collect())
        .map_err(|fault| fault.to_string())
}

fn id(url: &str) -> ServiceId {
    format!("o/{url}").parse().unwrap()
}

#[test]
fn the_highest_version_in_range_is_taken_through_every_level() {
    let published = services(&[
        "a 1.0.0 -> b [1.0.0,2.0.0); c 1.0.0",
        "b 1.0.0",
        "b 1.9.0 -> d *",
        "b 2.0.0",
        "c 3.0.0 -> d *",
        "d 0.1.0",
    ]);
    let found = of(&published, "a").unwrap();
    assert_eq!(found, ["o/a 1.0.0", "o/b 1.9.0", "o/d 0.1.0", "o/c 3.0.0"]);
}

#[test]
fn all_who_require_a_service_decide_its_version() {
    let published = services(&[
        "a 1.0.0 -> b *; c *",
        "b 1.0.0 -> d [1.0.0,3.0.0)",
        "c 1.0.0 -> d [0.0.0,2.0.0)",
        "d 1.5.0",
        "d 2.5.0",
        "d 4.0.0",
    ]);
    let found = of(&published, "a").unwrap();
    assert_eq!(found, ["o/a 1.0.0", "o/b 1.0.0", "o/d 1.5.0", "o/c 1.0.0"]);
    let apart = services(&[
        "a 1.0.0 -> b *; c *",
        "b 1.0.0 -> d [2.0.0,3.0.0)",
        "c 1.0.0 -> d [0.0.0,2.0.0)",
        "d 1.5.0",
        "d 2.5.0",
    ]);
    assert_eq!(
        of(&apart, "a").unwrap_err(),
        "o/d is required in [0.0.0,2.0.0) by o/c 1.0.0 and in [2.0.0,3.0.0) by o/b 1.0.0, and no \
         published version lies in all of them: 2.5.0 (), 1.5.0 ()"
    );
}

/// `b 3` cannot be had and `b 2` is bound to an old `d`; neither is taken, as `c` wants `b 1`.
#[test]
fn only_what_is_taken_has_a_say() {
    let lines = [
        "a 1.0.0 -> b *; c *",
        "b 1.0.0 -> d *",
        "b 2.0.0 -> d [1.0.0,2.0.0)",
        "c 1.0.0 -> b [1.0.0,2.0.0)",
        "d 1.0.0",
        "d 2.0.0",
    ];
    let taken = ["o/a 1.0.0", "o/b 1.0.0", "o/d 2.0.0", "o/c 1.0.0"];
    assert_eq!(of(&services(&lines), "a").unwrap(), taken);
    let missing = [&lines[..], &["b 3.0.0 -> nowhere *"]].concat();
    assert_eq!(of(&services(&missing), "a").unwrap(), taken);
    let ring = [&lines[..], &["b 3.0.0 -> a *"]].concat();
    assert_eq!(of(&services(&ring), "a").unwrap(), taken);
}

/// `b 2` leads to `c`, which rules `b 2` out; without it nobody asks for `c`.
#[test]
fn what_cannot_be_settled_is_refused() {
    let published = services(&[
        "a 1.0.0 -> b *",
        "b 1.0.0",
        "b 2.0.0 -> c *",
        "c 1.0.0 -> d *",
        "d 1.0.0 -> b [1.0.0,2.0.0)",
    ]);
    assert_eq!(
        of(&published, "a").unwrap_err(),
        "no choice of versions settles what it requires: each rules out another whose requirements led to it"
    );
    let published = services(&[
        "a 1.0.0 -> b *; e *",
        "b 1.0.0",
        "b 2.0.0 -> c *",
        "c 1.0.0",
        "e 1.0.0 -> c *; b *",
        "e 2.0.0 -> b [1.0.0,2.0.0)",
    ]);
    // What leads to nothing that rules it out is settled.
    assert_eq!(
        of(&published, "a").unwrap(),
        ["o/a 1.0.0", "o/b 1.0.0", "o/e 2.0.0"]
    );
}

#[test]
fn what_is_not_published_here_is_named_with_who_requires_it() {
    let published = services(&["a 1.0.0 -> b *", "b 1.0.0 arm64"]);
    assert_eq!(
        of(&published, "a").unwrap_err(),
        "o/a 1.0.0 requires o/b, which is not published for this node; published: 1.0.0 (arm64)"
    );
    let published = services(&["a 1.0.0 -> b *"]);
    assert_eq!(
        of(&published, "a").unwrap_err(),
        "o/a 1.0.0 requires o/b, which is not published"
    );
}

#[test]
fn a_ring_is_found_and_spelt_out() {
    let published = services(&["a 1.0.0 -> b *", "b 1.0.0 -> c *", "c 1.0.0 -> b *"]);
    assert_eq!(
        of(&published, "a").unwrap_err(),
        "the services require each other in a ring: o/b 1.0.0 -> o/c 1.0.0 -> o/b"
    );
}

#[test]
fn what_is_here_already_is_taken_as_it_is() {
    let published = services(&[
        "a 1.0.0 -> b [1.0.0,3.0.0)",
        "b 1.0.0",
        "b 2.0.0",
        "b 3.0.0",
    ]);
    let anywhere = Whereabouts::Anywhere;
    let found = on(&published, "a", anywhere, Some(("b", "1.0.0"))).unwrap();
    assert_eq!(found, ["o/a 1.0.0", "o/b 1.0.0"]);
    assert_eq!(
        on(&published, "a", anywhere, Some(("b", "3.0.0"))).unwrap_err(),
        "o/b 3.0.0 is here for policy p, and [1.0.0,3.0.0) by o/a 1.0.0 is required"
    );
}

#[test]
fn where_nobody_asks_for_a_node_the_architectures_of_all_must_agree() {
    let published = services(&["a 1.0.0 arm64 -> b *", "b 2.0.0 amd64", "b 1.0.0 aarch64"]);
    let found = on(&published, "a", Whereabouts::Anywhere, None).unwrap();
    assert_eq!(found, ["o/a 1.0.0", "o/b 1.0.0"]);
}

#[test]
fn too_many_and_too_deep_are_refused() {
    let chain: Vec<String> = (0..20)
        .map(|at| format!("s{at} 1.0.0 -> s{} *", at + 1))
        .collect();
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    assert!(
        of(&services(&chain), "s0")
            .unwrap_err()
            .contains("more than 64")
    );
}

proptest! {
    /// Whatever is published: an answer in bounded time, and a closure in which everybody has what
    /// they require.
    #[test]
    fn a_closure_is_whole_or_there_is_none(
        required in prop::collection::vec(
            (0..6_usize, 1..4_u8, prop::collection::vec((0..6_usize, 0..4_u8, any::<bool>()), 0..3)),
            1..14,
        ),
    ) {
        let mut lines = vec!["s0 9.0.0 -> s1 *; s2 *".to_owned()];
        for (own, version, wanted) in &required {
            let wanted = wanted.iter().filter(|(other, ..)| other != own);
            let wanted: Vec<_> = wanted
                .map(|(other, low, open)| match open {
                    true => format!("s{other} {low}.0.0"),
                    false => format!("s{other} [{low}.0.0,{low}.5.0]"),
                })
                .collect();
            lines.push(format!("s{own} {version}.0.0 -> {}", wanted.join("; ")));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let published = services(&lines);
        let top = &published.of(&id("s0"))[0].document;
        let Ok(members) = closure(top, Whereabouts::Anywhere, &published, &|_| None) else {
            return Ok(());
        };
        for member in &members {
            let same = members.iter().filter(|m| m.definition.id() == member.definition.id());
            prop_assert_eq!(same.count(), 1);
            for requirement in member.definition.requirements() {
                let mut others = members.iter();
                let found = others.find(|m| *m.definition.id() == requirement.service).unwrap();
                prop_assert!(requirement.range.contains(found.definition.parsed_version()));
            }
        }
    }
}
