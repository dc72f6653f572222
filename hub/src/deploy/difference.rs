//! What one placement of a node changes against another.

use std::collections::BTreeMap;

use edge_secrets_protocol::{NodeId, SecretName};

use crate::catalog::records::Placed;
use crate::reference::SecretRef;
use crate::wire::{BoundName, ChangeKind, DeploymentChange};

/// Every deployment that comes, goes or changes on `node`, by deployment id.
#[must_use]
pub fn difference(node: &NodeId, old: &[Placed], new: &[Placed]) -> Vec<DeploymentChange> {
    let mut by_id: BTreeMap<_, (Option<&Placed>, Option<&Placed>)> = BTreeMap::new();
    for placed in old {
        by_id.entry(&placed.id).or_default().0 = Some(placed);
    }
    for placed in new {
        by_id.entry(&placed.id).or_default().1 = Some(placed);
    }
    by_id
        .into_values()
        .filter_map(|pair| {
            let (change, placed, was) = match pair {
                (Some(old), Some(new)) if old == new => return None,
                (Some(old), Some(new)) => (ChangeKind::Update, new, Some(old)),
                (None, Some(new)) => (ChangeKind::Deploy, new, None),
                (Some(old), None) => (ChangeKind::Undeploy, old, None),
                (None, None) => return None,
            };
            Some(describe(node, change, placed, was))
        })
        .collect()
}

fn describe(
    node: &NodeId,
    change: ChangeKind,
    placed: &Placed,
    was: Option<&Placed>,
) -> DeploymentChange {
    let mut secrets: Vec<_> = placed
        .bindings
        .iter()
        .map(|(name, binding)| BoundName {
            name: name.clone(),
            references: binding.candidates.clone(),
            was: was.and_then(|was| moved_from(was, name, &binding.candidates)),
        })
        .collect();
    // What the service has no more.
    let gone = was.into_iter().flat_map(|was| &was.bindings);
    let gone = gone.filter(|(name, _)| !placed.bindings.contains_key(*name));
    secrets.extend(gone.map(|(name, binding)| BoundName {
        name: name.clone(),
        references: Vec::new(),
        was: Some(binding.candidates.clone()),
    }));
    let was_version = was.map(|was| &was.service_version);
    DeploymentChange {
        node: node.clone(),
        service: placed.service.clone(),
        service_version: placed.service_version.clone(),
        was_version: was_version
            .filter(|version| **version != placed.service_version)
            .cloned(),
        policy: placed.policy.clone(),
        change,
        secrets,
    }
}

/// What the name was bound to, where that is another now.
fn moved_from(was: &Placed, name: &SecretName, now: &[SecretRef]) -> Option<Vec<SecretRef>> {
    let before = was.bindings.get(name);
    let before = before.map_or_else(Vec::new, |binding| binding.candidates.clone());
    (before != now).then_some(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::records::PlacedBinding;

    fn placed(id: &str, version: &str, reference: &str) -> Placed {
        let binding = PlacedBinding {
            candidates: vec![reference.parse().unwrap()],
            denied: false,
            optional: false,
        };
        Placed {
            id: id.parse().unwrap(),
            policy: "uplink".parse().unwrap(),
            service: "myorg/com.example.uplink".parse().unwrap(),
            service_version: version.into(),
            consumers: vec![],
            required_by: Vec::new(),
            bindings: BTreeMap::from([("cred".parse().unwrap(), binding)]),
        }
    }

    fn kinds(old: &[Placed], new: &[Placed]) -> Vec<(ChangeKind, String, String)> {
        difference(&"n1".parse().unwrap(), old, new)
            .into_iter()
            .map(|c| {
                let reference = c.secrets[0].references[0].to_string();
                (c.change, c.service_version, reference)
            })
            .collect()
    }

    #[test]
    fn what_comes_goes_and_changes_is_told_apart() {
        let (old, new) = (placed("a", "1", "x"), placed("a", "2", "y"));
        let text = |kind, version: &str, reference: &str| (kind, version.into(), reference.into());
        assert_eq!(
            kinds(&[], std::slice::from_ref(&new)),
            [text(ChangeKind::Deploy, "2", "y")]
        );
        assert_eq!(
            kinds(std::slice::from_ref(&old), &[new]),
            [text(ChangeKind::Update, "2", "y")]
        );
        assert_eq!(
            kinds(std::slice::from_ref(&old), &[]),
            [text(ChangeKind::Undeploy, "1", "x")]
        );
        let same = std::slice::from_ref(&old);
        assert_eq!(kinds(same, same), []);
    }

    #[test]
    fn another_reference_alone_is_an_update() {
        let changes = kinds(&[placed("a", "1", "x")], &[placed("a", "1", "y")]);
        assert_eq!(changes, [(ChangeKind::Update, "1".into(), "y".into())]);
    }

    /// From which reference to which, and what the service gets and has no more.
    #[test]
    fn the_secrets_that_move_are_told_with_where_they_come_from() {
        let (mut old, mut new) = (placed("a", "1", "x"), placed("a", "2", "y"));
        let more = |one: &mut Placed, name: &str| {
            let binding = one.bindings.values().next().unwrap().clone();
            one.bindings.insert(name.parse().unwrap(), binding);
        };
        more(&mut old, "gone");
        more(&mut new, "fresh");
        let change = difference(&"n1".parse().unwrap(), &[old.clone()], &[new]).remove(0);
        let told = serde_json::to_value(&change.secrets).unwrap();
        assert_eq!(
            told,
            serde_json::json!([
                {"name": "cred", "references": ["y"], "was": ["x"]},
                {"name": "fresh", "references": ["y"], "was": []},
                {"name": "gone", "references": [], "was": ["x"]},
            ])
        );
        assert_eq!(change.was_version.as_deref(), Some("1"));
        let mut relabelled = old.clone();
        relabelled.policy = "other".parse().unwrap();
        let change = difference(&"n1".parse().unwrap(), &[old], &[relabelled]).remove(0);
        assert!(change.secrets.iter().all(|secret| secret.was.is_none()));
        assert_eq!(change.was_version, None);
    }

    fn any_placement() -> impl Strategy<Value = Vec<Placed>> {
        prop::collection::btree_map("[a-e]", ("[12]", "[xy]"), 0..5).prop_map(|by_id| {
            let placed = |(id, (version, reference)): (String, (String, String))| {
                placed(&id, &version, &reference)
            };
            by_id.into_iter().map(placed).collect()
        })
    }

    proptest! {
        #[test]
        fn counts_add_up_and_nothing_changes_against_itself(
            old in any_placement(), new in any_placement(),
        ) {
            prop_assert!(kinds(&old, &old).is_empty());
            let changes = kinds(&old, &new);
            let count = |kind| changes.iter().filter(|c| c.0 == kind).count();
            let (come, go) = (count(ChangeKind::Deploy), count(ChangeKind::Undeploy));
            prop_assert_eq!(old.len() + come, new.len() + go);
            prop_assert_eq!(changes.is_empty(), old == new);
        }
    }
}
