//! Sealing a batch in its order, a few values at a time, so that neither many plaintexts are in
//! memory at once nor other connections wait for a large batch.

use std::mem;
use std::sync::Arc;

use edge_secrets_protocol::binding::{FetchItem, FetchResult};
use edge_secrets_protocol::sealed::{self as protocol, Place};
use edge_secrets_protocol::{Code, NodeId, OrgId, Problem, Secret};

use crate::api::peer::NodePeer;
use crate::api::problem::ApiError;

/// Seals values to one node.
pub(super) struct Sealer {
    org: OrgId,
    node: NodeId,
    sealer: protocol::Sealer,
    results: Vec<FetchResult>,
    waiting: Vec<Waiting>,
    bytes: usize,
}

/// A result still to be.
enum Waiting {
    Value(FetchItem, Arc<Secret>),
    Problem(Problem),
}

impl Sealer {
    pub(super) fn new(peer: &NodePeer, sealer: protocol::Sealer) -> Self {
        Self {
            org: peer.org.clone(),
            node: peer.node.clone(),
            sealer,
            results: Vec::new(),
            waiting: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes the next value over.
    pub(super) async fn seal(
        &mut self,
        item: FetchItem,
        value: Arc<Secret>,
    ) -> Result<(), ApiError> {
        self.bytes += value.len();
        self.waiting.push(Waiting::Value(item, value));
        if self.waiting.len() >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES {
            self.work().await?;
        }
        Ok(())
    }

    /// Takes the next answer that is no value.
    pub(super) fn refuse(&mut self, problem: Problem) {
        self.waiting.push(Waiting::Problem(problem));
    }

    /// Every result, in the order in which they were taken.
    pub(super) async fn finish(mut self) -> Result<Vec<FetchResult>, ApiError> {
        self.work().await?;
        Ok(self.results)
    }

    async fn work(&mut self) -> Result<(), ApiError> {
        let waiting = mem::take(&mut self.waiting);
        let bytes = mem::take(&mut self.bytes);
        let values = waiting
            .iter()
            .filter(|waiting| matches!(waiting, Waiting::Value(..)))
            .count();
        let (org, node, sealer) = (self.org.clone(), self.node.clone(), self.sealer.clone());
        let work = move || -> Vec<FetchResult> {
            waiting
                .into_iter()
                .map(|waiting| waiting.seal(&org, &node, &sealer))
                .collect()
        };
        // A hand-over to another thread costs more than sealing some small values.
        let sealed = if values <= INLINE && bytes <= INLINE_BYTES {
            work()
        } else {
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| ApiError::internal(&error))?
        };
        self.results.extend(sealed);
        Ok(())
    }
}

impl Waiting {
    fn seal(self, org: &OrgId, node: &NodeId, sealer: &protocol::Sealer) -> FetchResult {
        let (item, value) = match self {
            Self::Value(item, value) => (item, value),
            Self::Problem(problem) => return FetchResult::Problem(problem),
        };
        let place = Place::Node {
            org,
            node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        match sealer.seal(&place, &value) {
            Ok(sealed) => FetchResult::Sealed(sealed),
            Err(error) => {
                FetchResult::Problem(Problem::new(Code::Failed, format!("Not sealed: {error}.")))
            }
        }
    }
}

/// How many bytes of an answer the value will take, about.
pub(super) fn wire_estimate(value: &Secret) -> usize {
    value.len().div_ceil(3) * 4 + SEALED_OVERHEAD
}

/// The encapsulated key (1,120 bytes as base64), the tag, the suite's name and the JSON around.
const SEALED_OVERHEAD: usize = 1_800;
const MAX_WAITING: usize = 32;
const MAX_WAITING_BYTES: usize = 1024 * 1024;
const INLINE: usize = 16;
const INLINE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::SealingKey;

    use super::*;

    fn peer() -> NodePeer {
        NodePeer {
            org: "myorg".parse().unwrap(),
            node: "edge-01".parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn item(name: &str) -> FetchItem {
        FetchItem {
            service: "myorg/com.example.uplink".parse().unwrap(),
            name: name.parse().unwrap(),
            version: "1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn results_keep_the_order_of_a_large_batch_and_open_at_their_place_alone() {
        let (peer, key) = (peer(), SealingKey::generate());
        let mut sealer = Sealer::new(&peer, key.public().sealer().unwrap());
        for number in 0..40 {
            if number % 3 == 0 {
                sealer.refuse(Problem::new(Code::Missing, number.to_string()));
            } else {
                let value = Secret::new(number.to_string().into_bytes());
                sealer
                    .seal(item(&number.to_string()), Arc::new(value))
                    .await
                    .unwrap();
            }
        }
        let results = sealer.finish().await.unwrap();
        assert_eq!(results.len(), 40);
        for (number, result) in results.into_iter().enumerate() {
            let name = number.to_string();
            match result {
                FetchResult::Problem(problem) => assert_eq!(problem.detail, name),
                FetchResult::Sealed(sealed) => {
                    let item = item(&name);
                    let place = Place::Node {
                        org: &peer.org,
                        node: &peer.node,
                        service: &item.service,
                        name: &item.name,
                        version: &item.version,
                    };
                    assert_eq!(sealed.open(&key, &place).unwrap().expose(), name.as_bytes());
                }
            }
        }
    }

    #[test]
    fn the_estimate_of_a_sealed_value_is_not_below_what_it_takes() {
        let (peer, key) = (peer(), SealingKey::generate());
        for len in [0, 1, 2, 3, 100, 5_000] {
            let item = item("x");
            let value = Waiting::Value(item, Arc::new(Secret::zeroed(len)));
            let sealed = value.seal(&peer.org, &peer.node, &key.public().sealer().unwrap());
            let json = serde_json::to_string(&sealed).unwrap();
            let estimate = wire_estimate(&Secret::zeroed(len));
            assert!(json.len() <= estimate, "{len}: {} > {estimate}", json.len());
        }
    }
}
