//! Everything that can be wrong with a secret at its manager: operators read each by its own code, no
//! other secret is held up, and what nodes have stays what they are to have while that may be.

use edge_secrets_protocol::binding::SecretState;
use tokio::task::JoinSet;

use super::managed::{A_MOMENT, CANARY, Scene};
use super::*;
use crate::managers::Fault;
use crate::managers::shelf::LONG;
use crate::observe::Hint;

/// What a node that has the secret hears of it from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The version that it has.
    Same,
    /// That it is not there.
    Missing,
    /// That it may not have it.
    Denied,
}

const FAULTS: [(Fault, Then); 23] = [
    (Fault::Busy, Then::Same),
    (Fault::Deleted, Then::Missing),
    (Fault::Denied, Then::Same),
    (Fault::Expired, Then::Missing),
    (Fault::Failed, Then::Same),
    (Fault::Invalid, Then::Same),
    (Fault::Locked, Then::Same),
    (Fault::Malformed, Then::Same),
    (Fault::Missing, Then::Missing),
    (Fault::NeedsApproval, Then::Same),
    (Fault::NeedsCheckout, Then::Same),
    (Fault::NeedsComment, Then::Same),
    (Fault::NotFoundOrDenied, Then::Same),
    (Fault::OutOfPolicy, Then::Denied),
    (Fault::OutcomeUnknown, Then::Same),
    (Fault::RateLimited, Then::Same),
    (Fault::Sealed, Then::Same),
    (Fault::TimedOut, Then::Same),
    (Fault::TooLarge, Then::Same),
    (Fault::Unauthenticated, Then::Same),
    (Fault::Unavailable, Then::Same),
    (Fault::Unreachable, Then::Same),
    (Fault::Unsupported, Then::Same),
];

impl Scene {
    /// A node whose deployment binds a secret, another one of the same manager, and one of the hub's
    /// own; all of them are there.
    async fn deployed() -> Self {
        let scene = Self::new().await;
        scene.vault.put("team/a", &[("value", CANARY)]);
        scene.vault.put("team/b", &[("value", CANARY)]);
        let world = &scene.world;
        world.set("root", "db", CANARY).await.ok();
        let service = service("1.0.0", &["a", "b", "own"]);
        world.post("alice", "services", &service).await.ok();
        let bindings = [("a", "vault:team/a"), ("b", "vault:team/b"), ("own", "db")];
        let policy = policy("1.0.0", &bindings);
        world.put("alice", "policies/p", &policy).await.ok();
        world.enrol("n1", "berlin", None).await;
        scene
            .stands("all are there", |states, _| {
                states
                    .iter()
                    .all(|state| matches!(state, SecretState::Ready { .. }))
            })
            .await;
        scene
    }

    /// What the node is told of the three, and what operators read of each.
    async fn standing(&self) -> (Vec<SecretState>, Vec<Value>) {
        let rollout: Value = self.get("bob", "policies/p/rollout").await.json();
        let secrets = rollout["nodes"][0]["secrets"].as_array().unwrap();
        let read = secrets
            .iter()
            .map(|secret| secret["trouble"]["fault"].clone())
            .collect();
        // Afterwards: what operators read is what nodes hear by now.
        let (org, node) = ("myorg".parse().unwrap(), "n1".parse().unwrap());
        let catalog = &self.world.hub.catalog;
        let bindings = catalog.bindings(&org, &node, None).await.unwrap();
        let secrets = &bindings.deployments[0].secrets;
        let states = secrets.iter().map(|secret| secret.state.clone()).collect();
        (states, read)
    }

    async fn stands(
        &self,
        what: &str,
        wanted: impl Fn(&[SecretState], &[Value]) -> bool,
    ) -> (Vec<SecretState>, Vec<Value>) {
        let waiting = async {
            loop {
                let (states, read) = self.standing().await;
                if wanted(&states, &read) {
                    return (states, read);
                }
                // Hints are followed once in a while: the next one is too, then.
                let vault = "vault".parse().unwrap();
                let _watched = self.world.hub.hints.give(&vault, Hint::All);
                tokio::time::sleep(A_MOMENT * 20).await;
            }
        };
        match tokio::time::timeout(LONG, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}: {:?}", self.standing().await),
        }
    }

    async fn suffers(&self, fault: Fault, then: Then) {
        let (before, _) = self.standing().await;
        if fault.is_of_the_manager() {
            self.vault.suffer(Some(fault), None);
        } else {
            self.vault.fail("team/a", fault, None);
        }
        let code = Value::String(fault.to_string());
        let (states, read) = self
            .stands(&format!("{fault} is read"), |_, read| read[0] == code)
            .await;
        match then {
            Then::Same => assert_eq!(states[0], before[0], "{fault}"),
            Then::Missing => assert_eq!(states[0], SecretState::Missing, "{fault}"),
            Then::Denied => assert_eq!(states[0], SecretState::Denied, "{fault}"),
        }
        // Nothing else is held up by it: of the manager as a whole it is all of the manager's.
        assert_eq!(states[1..], before[1..], "{fault}");
        assert_eq!(read[2], Value::Null, "{fault}");
        if !fault.is_of_the_manager() {
            assert_eq!(read[1], Value::Null, "{fault}");
        }
        let explained: Value = self.get("bob", "nodes/n1/explain").await.json();
        assert!(
            explained.to_string().contains(fault.as_str()),
            "{explained}"
        );

        self.vault.suffer(None, None);
        self.vault.heal("team/a");
        let (after, _) = self
            .stands(&format!("{fault} is over"), |states, read| {
                read.iter().all(Value::is_null) && matches!(states[0], SecretState::Ready { .. })
            })
            .await;
        assert_eq!(after, before, "{fault}");
        self.expect_no_value().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_code_blocks_its_secret_alone_and_takes_nothing_away() {
    let mut all = JoinSet::new();
    for (fault, then) in FAULTS {
        all.spawn(async move {
            Scene::deployed().await.suffers(fault, then).await;
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}
