use std::collections::BTreeMap;

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::binding::BoundSecret;
use proptest::prelude::*;

use super::*;
use crate::catalog::records::{Placed, PlacedBinding};

fn ready(version: &str) -> SecretState {
    SecretState::Ready {
        version: version.parse().unwrap(),
    }
}

/// A deployment with the secrets `a`, `b`, … in these states.
fn bound(id: &str, states: &[SecretState]) -> BoundDeployment {
    let names = ('a'..).map(|name| name.to_string().parse().unwrap());
    let secrets = states.iter().zip(names).map(|(state, name)| BoundSecret {
        name,
        state: state.clone(),
        expires_at: None,
        expires_in_ms: None,
    });
    let secrets: Vec<BoundSecret> = secrets.collect();
    let resolved = secrets.iter().filter_map(|secret| {
        let exists = matches!(secret.state, SecretState::Ready { .. });
        exists.then(|| (secret.name.clone(), "org-secret".parse().unwrap()))
    });
    BoundDeployment {
        details: [].into(),
        placed: Placed {
            id: id.parse().unwrap(),
            policy: "uplink".parse().unwrap(),
            service: "myorg/com.example.uplink".parse().unwrap(),
            service_version: "1.0.0".into(),
            consumers: vec![],
            required_by: Vec::new(),
            bindings: BTreeMap::new(),
        },
        resolved: resolved.collect(),
        secrets,
    }
}

fn wanted(deployments: Vec<BoundDeployment>) -> NodeBindings {
    NodeBindings {
        generation: Generation(5),
        deployments,
        unchanged: vec![],
    }
}

fn reported(id: &str, state: DeploymentState, applied: &[(&str, &str)]) -> DeploymentStatus {
    let applied = applied
        .iter()
        .map(|(name, version)| (name.parse().unwrap(), version.parse().unwrap()));
    let error = (state == DeploymentState::Failed).then(|| DeploymentError {
        code: Code::Failed,
        detail: "no room".into(),
    });
    DeploymentStatus {
        id: id.parse().unwrap(),
        service: "myorg/com.example.uplink".parse().unwrap(),
        state,
        applied: applied.collect(),
        error,
    }
}

fn report(generation: u64, deployments: Vec<DeploymentStatus>) -> StatusReport {
    StatusReport {
        generation: Generation(generation),
        deployments,
    }
}

fn state_of(states: &[SecretState], report: Option<&StatusReport>) -> DeploymentState {
    standing(&wanted(vec![bound("d", states)]), report)[0].state
}

#[test]
fn applied_needs_every_wanted_version() {
    let states = [ready("2"), ready("7")];
    let applied = DeploymentState::Applied;
    let all = report(5, vec![reported("d", applied, &[("a", "2"), ("b", "7")])]);
    assert_eq!(state_of(&states, Some(&all)), DeploymentState::Applied);
    for too_little in [
        vec![("a", "2"), ("b", "6")],
        vec![("a", "2")],
        vec![("a", "7"), ("b", "2")],
        vec![],
    ] {
        let report = report(5, vec![reported("d", applied, &too_little)]);
        let state = state_of(&states, Some(&report));
        assert_eq!(state, DeploymentState::Pending, "{too_little:?}");
    }
}

/// The node is told of none, so that having none of it is all that it should have.
#[test]
fn an_optional_secret_that_is_missing_blocks_nothing() {
    let with = |state: SecretState| {
        let mut bound = bound("d", &[ready("2"), state]);
        let binding = PlacedBinding {
            candidates: vec!["x".parse().unwrap()],
            denied: false,
            optional: true,
        };
        let name = bound.secrets[1].name.clone();
        bound.placed.bindings.insert(name, binding);
        bound
    };
    let state = |secret: SecretState, applied: &[(&str, &str)]| {
        let report = report(5, vec![reported("d", DeploymentState::Applied, applied)]);
        standing(&wanted(vec![with(secret)]), Some(&report))[0].state
    };
    let missing = || SecretState::Missing;
    assert_eq!(state(missing(), &[("a", "2")]), DeploymentState::Applied);
    let kept = state(missing(), &[("a", "2"), ("b", "1")]);
    assert_eq!(kept, DeploymentState::Pending, "it is to be wiped");
    // What is there is needed like every other, and what is denied or fails is a fault.
    assert_eq!(state(ready("1"), &[("a", "2")]), DeploymentState::Pending);
    for fault in [SecretState::Denied, SecretState::Failed] {
        assert_eq!(state(fault, &[("a", "2")]), DeploymentState::Blocked);
    }
    assert_eq!(with(missing()).absent_optional().len(), 1);
    assert_eq!(with(SecretState::Denied).absent_optional().len(), 0);
}

#[test]
fn a_node_that_never_reported_is_pending() {
    assert_eq!(state_of(&[ready("1")], None), DeploymentState::Pending);
    let other = report(5, vec![reported("other", DeploymentState::Applied, &[])]);
    assert_eq!(
        state_of(&[ready("1")], Some(&other)),
        DeploymentState::Pending
    );
}

#[test]
fn what_the_hub_cannot_give_blocks_and_says_why() {
    for (state, code) in [
        (SecretState::Missing, Code::Missing),
        (SecretState::Denied, Code::Denied),
        (SecretState::Failed, Code::Failed),
    ] {
        let bindings = wanted(vec![bound("d", &[ready("1"), state])]);
        let deployment = &standing(&bindings, None)[0];
        assert_eq!(deployment.state, DeploymentState::Blocked);
        let error = deployment.error.as_ref().unwrap();
        assert_eq!(error.code, code);
        assert!(error.detail.contains("\"b\""), "{}", error.detail);
        assert_eq!(
            deployment.secrets[0].reference,
            Some("org-secret".parse().unwrap())
        );
        assert_eq!(deployment.secrets[1].reference, None);
    }
}

#[test]
fn a_failure_counts_only_for_the_present_generation() {
    let failed = |generation| {
        report(
            generation,
            vec![reported("d", DeploymentState::Failed, &[])],
        )
    };
    let states = [ready("1")];
    assert_eq!(state_of(&states, Some(&failed(5))), DeploymentState::Failed);
    assert_eq!(
        state_of(&states, Some(&failed(4))),
        DeploymentState::Pending
    );
    let bindings = wanted(vec![bound("d", &states)]);
    let error = standing(&bindings, Some(&failed(5)))[0].error.clone();
    assert_eq!(error.unwrap().detail, "no room");
}

#[test]
fn what_is_not_wanted_any_more_leaves_until_it_is_wiped() {
    let bindings = wanted(vec![bound("kept", &[ready("1")])]);
    let mut report = report(
        4,
        vec![
            reported("kept", DeploymentState::Applied, &[("a", "1")]),
            reported("gone", DeploymentState::Applied, &[("x", "1")]),
        ],
    );
    let left = leaving(&bindings, Some(&report));
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id.as_str(), "gone");
    assert_eq!(left[0].secrets, ["x".parse().unwrap()]);

    report.deployments[1].state = DeploymentState::Wiped;
    assert_eq!(leaving(&bindings, Some(&report)), []);
    assert_eq!(leaving(&bindings, None), []);
}

fn any_state() -> impl Strategy<Value = SecretState> {
    prop_oneof![
        3 => "[123]".prop_map(|version| ready(&version)),
        1 => Just(SecretState::Pending),
        1 => Just(SecretState::Missing),
        1 => Just(SecretState::Denied),
        1 => Just(SecretState::Failed),
    ]
}

fn any_reported_state() -> impl Strategy<Value = DeploymentState> {
    prop_oneof![
        3 => Just(DeploymentState::Applied),
        1 => Just(DeploymentState::Blocked),
        1 => Just(DeploymentState::Failed),
        1 => Just(DeploymentState::Pending),
        1 => Just(DeploymentState::Wiped),
    ]
}

proptest! {
    /// Invariant 7, from the hub's side: nothing is called applied that is not.
    #[test]
    fn nothing_is_called_applied_that_is_not(
        states in prop::collection::vec(any_state(), 0..4),
        state in any_reported_state(),
        applied in prop::collection::btree_map("[a-d]", "[123]", 0..4),
        generation in 4u64..7,
    ) {
        let applied: Vec<_> = applied.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let report = report(generation, vec![reported("d", state, &applied)]);
        let all_there = states.iter().zip('a'..).all(|(state, name)| match state {
            SecretState::Ready { version } => {
                applied.contains(&(name.to_string().as_str(), version.as_str()))
            }
            _ => false,
        });
        let expected = state == DeploymentState::Applied && all_there;
        prop_assert_eq!(
            state_of(&states, Some(&report)) == DeploymentState::Applied,
            expected
        );
    }
}
