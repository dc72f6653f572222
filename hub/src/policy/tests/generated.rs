//! Placement over generated organisations.

use super::*;

/// An organisation with a few services, versions, architectures and policies that get in each
/// other's way, and a node.
fn world() -> impl Strategy<Value = (Definitions, NodeView)> {
    let version = || prop::sample::select(&["1.0.0", "1.5.0", "2.0.0"][..]);
    let arch = || prop::sample::select(&["", "amd64", "arm64"][..]);
    let constraint =
        || prop::sample::select(&["", "site == berlin", "site != berlin", "rack > 1"][..]);
    let services = prop::collection::btree_set((0..3_usize, version(), arch()), 0..8);
    let policies = prop::collection::btree_map(
        "[a-d]",
        (
            0..3_usize,
            prop::collection::vec(version(), 1..3),
            arch(),
            constraint(),
            prop::sample::select(&["", "[1,2)", "1.5"][..]),
            any::<bool>(),
        ),
        0..5,
    );
    let facts = (
        arch(),
        prop::option::of(0..4_u8),
        any::<bool>(),
        prop::sample::select(&["", "tier == a", "openhorizon.service.version < 2"][..]),
    );
    (services, policies, facts).prop_map(|(services, policies, (arch, rack, berlin, own))| {
        let service = |(url, version, arch): (usize, &str, &str)| {
            service(
                &json!({
                    "org": "myorg", "url": format!("u{url}"), "version": version, "arch": arch,
                    "deployment": {"services": {"main": {"secrets": {"s": {}}}}},
                })
                .to_string(),
            )
        };
        let policy = |(name, (url, versions, arch, constraint, range, tier)): (String, _)| {
            let versions: &Vec<&str> = &versions;
            let mut text = plain_policy(versions, range, "x");
            text["service"]["name"] = json!(format!("u{url}"));
            text["service"]["arch"] = json!(arch);
            text["secretBinding"][0]["serviceUrl"] = json!(format!("u{url}"));
            text["constraints"] = json!([constraint]);
            text["properties"] = json!([{"name": "tier", "value": if tier { "a" } else { "b" }}]);
            policy(&name, "bob", &text.to_string())
        };
        let definitions = definitions(
            services.into_iter().map(service).collect(),
            policies.into_iter().map(policy).collect(),
        );
        let stated = json!({
            "site": if berlin { "berlin" } else { "paris" },
            "rack": rack.map_or_else(|| json!("none"), |rack| json!(rack)),
            "node policy": {"constraints": [own]},
        });
        (definitions, node("n", None, arch, stated))
    })
}

proptest! {
    #[test]
    fn place_is_the_same_whatever_the_order(
        (definitions, node) in world(), turn in any::<prop::sample::Index>(), back in any::<bool>(),
    ) {
        let mut published: Vec<_> = definitions.services.iter().cloned().collect();
        if back {
            published.reverse();
        }
        let by = turn.index(published.len().max(1));
        published.rotate_left(by);
        let mut other = Definitions { services: Services::default(), ..definitions.clone() };
        published.into_iter().for_each(|one| other.services.put(one));
        prop_assert_eq!(
            super::super::place(&org(), &node, &definitions),
            super::super::place(&org(), &node, &other)
        );
        prop_assert_eq!(
            super::super::explain(&org(), &node, &definitions),
            super::super::explain(&org(), &node, &other)
        );
    }

    #[test]
    fn explain_and_place_agree((definitions, node) in world()) {
        let placed = super::super::place(&org(), &node, &definitions);
        let verdicts = super::super::explain(&org(), &node, &definitions);
        prop_assert_eq!(verdicts.len(), definitions.policies.len());
        let mut explained: Vec<_> = verdicts.iter().filter_map(|v| v.placed.clone()).collect();
        explained.sort_by(|a, b| a.id.cmp(&b.id));
        prop_assert_eq!(&placed, &explained);
        for verdict in &verdicts {
            let fails = verdict.rules.iter().any(|rule| !rule.holds);
            prop_assert!(verdict.placed.is_some() || fails, "{:#?}", verdict);
        }
    }

    #[test]
    fn one_service_is_placed_once_completely_and_only_where_it_could_be(
        (definitions, node) in world(),
    ) {
        let placed = super::super::place(&org(), &node, &definitions);
        prop_assert!(placed.is_sorted_by(|a, b| a.id < b.id));
        for one in &placed {
            prop_assert_eq!(placed.iter().filter(|other| other.service == one.service).count(), 1);
            let Source::Policy(name) = &one.policy else {
                panic!("{one:?}");
            };
            let policy = &definitions.policies[name].document;
            prop_assert!(could_place(&node, policy));
            prop_assert_eq!(policy.service(), &one.service);
            for consumer in &one.consumers {
                prop_assert!(consumer.secrets.iter().all(|s| one.bindings.contains_key(&s.name)));
            }
        }
    }

    #[test]
    fn a_policy_that_could_not_place_changes_nothing((definitions, node) in world()) {
        let mut fewer = definitions.clone();
        fewer.policies = fewer.policies.only(|policy| could_place(&node, policy));
        prop_assert_eq!(
            super::super::place(&org(), &node, &definitions),
            super::super::place(&org(), &node, &fewer)
        );
    }

    /// Whatever policies came and went before, a node meets all that could place something on it.
    #[test]
    fn what_could_be_placed_is_found_by_its_demands(
        (definitions, node) in world(), gone in prop::collection::vec("[a-d]", 0..4),
    ) {
        let mut policies = definitions.policies.clone();
        for name in gone {
            policies.remove(&name.parse().unwrap());
        }
        let found: Vec<_> = policies.for_node(&node).into_iter().map(|(name, _)| name).collect();
        prop_assert!(found.is_sorted());
        for (name, one) in &policies {
            prop_assert!(found.contains(&name) || !could_place(&node, &one.document), "{}", name);
        }
        let anew: Policies = policies.iter().map(|(name, one)| (name.clone(), one.clone())).collect();
        prop_assert_eq!(anew.len(), policies.len());
        for name in anew.iter().map(|(name, _)| name) {
            policies.remove(name);
        }
        prop_assert!(policies.for_node(&node).is_empty());
    }
}
