//! One write: a transaction that carries its audit records and feed entries.

use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId};
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::watch;

use super::{audit, feed};
use crate::catalog::CatalogError;
use crate::catalog::records::{FeedEvent, NewAudit};
use crate::clock;

/// A write that is not durable yet. Dropped, it never happened.
pub(super) struct Write {
    tx: Transaction<'static, Sqlite>,
    bell: Arc<watch::Sender<u64>>,
    behind_bell: Arc<watch::Sender<u64>>,
    /// The newest feed entry of this write.
    announced: Option<u64>,
    leaves_behind: bool,
}

impl Write {
    pub(super) fn new(
        tx: Transaction<'static, Sqlite>,
        bell: Arc<watch::Sender<u64>>,
        behind_bell: Arc<watch::Sender<u64>>,
    ) -> Self {
        Self {
            tx,
            bell,
            behind_bell,
            announced: None,
            leaves_behind: false,
        }
    }

    /// Others have nodes to be placed anew because of this write.
    pub(super) fn leaves_behind(&mut self) {
        self.leaves_behind = true;
    }

    /// What statements run on.
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// Adds an audit record.
    pub(super) async fn audit(&mut self, record: &NewAudit) -> Result<(), CatalogError> {
        audit::insert(&mut self.tx, record).await
    }

    /// Adds feed entries.
    pub(super) async fn announce(
        &mut self,
        org: &OrgId,
        news: &[(NodeId, FeedEvent)],
    ) -> Result<(), CatalogError> {
        if news.is_empty() {
            return Ok(());
        }
        let newest = feed::insert(&mut self.tx, org, news).await?;
        feed::prune(&mut self.tx, newest).await?;
        self.announced = Some(newest);
        Ok(())
    }

    /// Makes it durable and rings the bells. From here on it happens even if the caller goes away:
    /// a committed entry without its bell would wait for the next one.
    pub(super) async fn commit(self) -> Result<Timestamp, CatalogError> {
        let Self {
            tx,
            bell,
            behind_bell,
            announced,
            leaves_behind,
        } = self;
        let finish = tokio::spawn(async move {
            tx.commit().await?;
            if let Some(newest) = announced {
                bell.send_if_modified(|seq| {
                    let rings = newest > *seq;
                    *seq = newest.max(*seq);
                    rings
                });
            }
            if leaves_behind {
                behind_bell.send_modify(|rung| *rung += 1);
            }
            Ok(clock::now())
        });
        finish
            .await
            .map_err(|_| CatalogError::Storage("the write was broken off".into()))?
    }
}
