//! What the hub has checked out, kept over its restarts: a check-out that ended must not give back the
//! one that came after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_secrets_protocol::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::session::Kept;
use crate::{Fault, LeaseHandle, ManagerError};

/// The check-outs of the hub's account, one for each secret.
pub(super) struct Held {
    kept: Arc<dyn Kept>,
    now: Mutex<Option<Checkouts>>,
}

/// One check-out; what a handle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    /// The secret's number.
    pub(super) id: u64,
    /// Which one of that secret it is.
    turn: u64,
}

/// The last turn of each secret that is checked out, and of all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Checkouts {
    last: u64,
    turns: BTreeMap<u64, u64>,
}

impl Lease {
    /// The lease of this handle.
    pub(super) fn of(handle: &LeaseHandle) -> Result<Self, ManagerError> {
        serde_json::from_str(handle.as_str()).map_err(|_| {
            ManagerError::new(Fault::Invalid, "the lease is none of a Secret Server's")
        })
    }

    pub(super) fn handle(self) -> Result<LeaseHandle, ManagerError> {
        LeaseHandle::new(format!(r#"{{"id":{},"turn":{}}}"#, self.id, self.turn))
    }
}

impl Held {
    pub(super) fn new(kept: Arc<dyn Kept>) -> Self {
        Self {
            kept,
            now: Mutex::default(),
        }
    }

    /// Notes a check-out that was just made, or that is there already: what came before is over.
    pub(super) async fn take(&self, id: u64) -> Result<Lease, ManagerError> {
        let mut now = self.now.lock().await;
        let mut checkouts = self.load(&mut now).await?.clone();
        // By the clock: what was kept may be lost, and its turns must not come again.
        let clock = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        let turn = clock.max(checkouts.last.saturating_add(1));
        checkouts.last = turn;
        checkouts.turns.insert(id, turn);
        self.save(&mut now, checkouts).await?;
        Ok(Lease { id, turn })
    }

    /// Whether it can still be the hub's: what nothing is known of can be.
    pub(super) async fn may_hold(&self, lease: Lease) -> Result<bool, ManagerError> {
        let mut now = self.now.lock().await;
        let checkouts = self.load(&mut now).await?;
        Ok(match checkouts.turns.get(&lease.id) {
            Some(turn) => *turn == lease.turn,
            None => lease.turn > checkouts.last,
        })
    }

    /// Notes that it is given back.
    pub(super) async fn give_back(&self, lease: Lease) -> Result<(), ManagerError> {
        let mut now = self.now.lock().await;
        let mut checkouts = self.load(&mut now).await?.clone();
        if checkouts.turns.get(&lease.id) != Some(&lease.turn) {
            return Ok(());
        }
        checkouts.turns.remove(&lease.id);
        self.save(&mut now, checkouts).await
    }

    async fn load<'a>(
        &self,
        now: &'a mut Option<Checkouts>,
    ) -> Result<&'a Checkouts, ManagerError> {
        if now.is_none() {
            let kept = self.kept.load().await?;
            let kept = kept.map(|kept| serde_json::from_slice(kept.expose()));
            *now = Some(
                kept.transpose()
                    .map_err(|_| unreadable())?
                    .unwrap_or_default(),
            );
        }
        now.as_ref().ok_or_else(unreadable)
    }

    async fn save(
        &self,
        now: &mut Option<Checkouts>,
        checkouts: Checkouts,
    ) -> Result<(), ManagerError> {
        let bytes = serde_json::to_vec(&checkouts).map_err(|_| unreadable())?;
        self.kept.save(&Secret::new(bytes)).await?;
        *now = Some(checkouts);
        Ok(())
    }
}

fn unreadable() -> ManagerError {
    ManagerError::new(
        Fault::Failed,
        "what the hub kept of its check-outs cannot be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::InMemory;

    #[tokio::test]
    async fn a_later_check_out_ends_the_earlier_over_restarts() {
        let kept = Arc::new(InMemory::default());
        let held = Held::new(Arc::clone(&kept) as Arc<dyn Kept>);
        let first = held.take(7).await.unwrap();
        assert!(held.may_hold(first).await.unwrap());
        let second = held.take(7).await.unwrap();
        let held = Held::new(kept);
        assert!(!held.may_hold(first).await.unwrap());
        assert!(held.may_hold(second).await.unwrap());
        held.give_back(first).await.unwrap();
        assert!(held.may_hold(second).await.unwrap());
        held.give_back(second).await.unwrap();
        assert!(!held.may_hold(first).await.unwrap());
    }

    #[tokio::test]
    async fn a_lease_is_its_handle() {
        let lease = Held::new(Arc::new(InMemory::default()))
            .take(7)
            .await
            .unwrap();
        assert_eq!(Lease::of(&lease.handle().unwrap()).unwrap(), lease);
        for text in ["x", "{}", r#"{"id":1}"#, r#"{"id":-1,"turn":1}"#] {
            let handle = LeaseHandle::new(text).unwrap();
            assert_eq!(Lease::of(&handle).unwrap_err().fault, Fault::Invalid);
        }
    }
}
