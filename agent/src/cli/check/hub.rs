//! Whether the hub answers this node, with the very identity that the agent uses.

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::hub::Connection;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let url = &patient.config.hub.url;
    let Ok(Some(identity)) = &patient.identity else {
        return vec![Finding::skipped(
            HUB,
            "without an identity it cannot be asked",
        )];
    };
    let call = async {
        let connection = Connection::open(url, identity.tls.clone()).await?;
        connection.bindings(None).await
    };
    vec![match call.await {
        Ok(_) => Finding::ok(HUB, format!("{url} answers")),
        Err(error) if error.code().is_some() || error.refuses_identity() => Finding::failed(
            HUB,
            Exit::Denied,
            error.to_string(),
            "look at `edge-secrets node show NODE`; if the node is not known there, enrol again",
        ),
        Err(error) => Finding::failed(
            HUB,
            Exit::Unavailable,
            error.to_string(),
            "what was delivered stays meanwhile; look at hub.url, name resolution, and firewalls",
        ),
    }]
}

const HUB: &str = "hub";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;
    use crate::hub::fake::FakeHub;
    use crate::identity::{NodeIdentity, Store};

    #[tokio::test]
    async fn a_hub_that_answers_and_one_that_is_not_there() {
        let hub = FakeHub::start().await;
        let (_root, mut patient) = fabricated::patient();
        assert_eq!(check(&patient).await[0].verdict, Verdict::Skipped);
        let store = Store::new(&patient.config.state_dir);
        store.install(&hub.issue("myorg", "edge-01")).unwrap();
        patient.identity = NodeIdentity::load(&store);
        // Nobody listens on port 1.
        assert_eq!(check(&patient).await[0].verdict, Verdict::Failed);
        patient.config.hub.url = hub.url();
        let found = check(&patient).await;
        assert_eq!(found[0].verdict, Verdict::Ok, "{found:?}");
    }
}
