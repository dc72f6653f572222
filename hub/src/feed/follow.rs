//! From the catalog's feed to those who watch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, error};

use super::Feed;
use crate::catalog::records::{FeedEntry, FeedEvent};
use crate::catalog::{Catalog, CatalogError};

/// Reads what came after `seq` whenever the catalog's bell rings, and announces it. Runs until the
/// catalog is dropped; cancel it by dropping it.
pub async fn follow(feed: Feed, catalog: Arc<dyn Catalog>, mut seq: u64) {
    let mut bell = catalog.bell();
    loop {
        match catch_up(&*catalog, &mut seq).await {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => {
                let spread_ms = spread(&entries);
                debug!(seq, entries = entries.len(), spread_ms, "News announced.");
                feed.announce(&entries, spread_ms);
            }
            Err(error) => {
                // Nothing is lost: `seq` stays, and nodes pull at their slow resync meanwhile.
                error!(%error, "The change feed cannot be read; trying again.");
                sleep(RETRY).await;
                continue;
            }
        }
        if bell.changed().await.is_err() {
            return;
        }
    }
}

/// All there is after `seq`, which moves on with it. An entry takes some 100 bytes, so that even a
/// change that touches every node of a large fleet fits.
async fn catch_up(catalog: &dyn Catalog, seq: &mut u64) -> Result<Vec<FeedEntry>, CatalogError> {
    let mut entries: Vec<FeedEntry> = Vec::new();
    loop {
        let page = catalog.feed(*seq, PAGE).await?;
        let full = page.len() >= PAGE as usize;
        *seq = page.last().map_or(*seq, |last| last.seq);
        entries.extend(page);
        if !full {
            return Ok(entries);
        }
    }
}

/// Over how many milliseconds the touched nodes should spread their pulls: none for few nodes, else
/// so that about [`PULLS_PER_SECOND`] come at a time.
fn spread(entries: &[FeedEntry]) -> u32 {
    let touched: HashSet<_> = entries
        .iter()
        .filter(|entry| matches!(entry.event, FeedEvent::Bindings(_)))
        .map(|entry| (&entry.org, &entry.node))
        .collect();
    if touched.len() <= AT_ONCE {
        return 0;
    }
    u32::try_from(touched.len() * 1000 / PULLS_PER_SECOND).unwrap_or(u32::MAX)
}

/// So many nodes may pull at the same instant.
const AT_ONCE: usize = 1_000;
/// What a hub takes without making operators wait.
const PULLS_PER_SECOND: usize = 2_000;
const PAGE: u32 = 4_096;
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::Generation;

    use super::*;

    fn entries(nodes: usize, event: FeedEvent) -> Vec<FeedEntry> {
        (0..nodes)
            .map(|at| FeedEntry {
                seq: at as u64,
                org: "myorg".parse().unwrap(),
                node: format!("n{at}").parse().unwrap(),
                event,
            })
            .collect()
    }

    #[test]
    fn the_spread_grows_with_the_nodes_that_a_change_touches() {
        let event = FeedEvent::Bindings(Generation(2));
        assert_eq!(spread(&entries(1, event)), 0);
        assert_eq!(spread(&entries(1_000, event)), 0);
        assert_eq!(spread(&entries(2_000, event)), 1_000);
        assert_eq!(spread(&entries(100_000, event)), 50_000);
    }

    #[test]
    fn reports_and_repeated_changes_of_one_node_do_not_spread_anybody() {
        assert_eq!(spread(&entries(5_000, FeedEvent::Status)), 0);
        let mut same = entries(5_000, FeedEvent::Bindings(Generation(2)));
        for entry in &mut same {
            entry.node = "edge-01".parse().unwrap();
        }
        assert_eq!(spread(&same), 0);
    }
}
