//! What one placement of a node changes against another.

use std::collections::BTreeMap;

use edge_secrets_protocol::NodeId;

use crate::catalog::records::Placed;
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
    let change = |kind, placed| Some(describe(node, kind, placed));
    by_id
        .into_values()
        .filter_map(|pair| match pair {
            (Some(old), Some(new)) if old == new => None,
            (Some(_), Some(new)) => change(ChangeKind::Update, new),
            (None, Some(new)) => change(ChangeKind::Deploy, new),
            (Some(old), None) => change(ChangeKind::Undeploy, old),
            (None, None) => None,
        })
        .collect()
}

fn describe(node: &NodeId, change: ChangeKind, placed: &Placed) -> DeploymentChange {
    let secrets = placed.bindings.iter().map(|(name, binding)| BoundName {
        name: name.clone(),
        references: binding.candidates.clone(),
    });
    DeploymentChange {
        node: node.clone(),
        service: placed.service.clone(),
        service_version: placed.service_version.clone(),
        policy: placed.policy.clone(),
        change,
        secrets: secrets.collect(),
    }
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
