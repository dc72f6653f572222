//! Whose turn it is at each manager: some calls for leases at once, the others in the order of their
//! need. So ten thousand nodes that come at once wait here, not at the manager's gate, where a long
//! wait is a failure. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::catalog::records::{LeaseId, LeaseRecord, LeaseState};
use crate::managers::ManagerName;

/// The turns of all managers.
#[derive(Debug, Default)]
pub(super) struct Turns {
    under_way: BTreeMap<LeaseId, ManagerName>,
    queues: BTreeMap<ManagerName, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    under_way: usize,
    waiting: BTreeSet<(Need, LeaseId)>,
    needs: BTreeMap<LeaseId, Need>,
}

/// What goes first: credentials that are to die, then what ends or was wanted first.
type Need = (bool, Timestamp);

impl Turns {
    /// Whether a call for this lease may be made now, of so many at once; else it waits until
    /// [`next`](Self::next) says that its turn has come.
    pub(super) fn begin(
        &mut self,
        lease: &LeaseRecord,
        manager: &ManagerName,
        most: usize,
    ) -> bool {
        let queue = self.queues.entry(manager.clone()).or_default();
        queue.forget(lease.id);
        if queue.under_way < most {
            queue.under_way += 1;
            self.under_way.insert(lease.id, manager.clone());
            return true;
        }
        let need = (
            lease.state != LeaseState::Ending,
            lease.ends_at.unwrap_or(lease.created_at),
        );
        queue.needs.insert(lease.id, need);
        queue.waiting.insert((need, lease.id));
        false
    }

    /// The call for a lease is over, if there was one. Says at which manager another one may begin.
    pub(super) fn end(&mut self, lease: LeaseId) -> Option<ManagerName> {
        let manager = self.under_way.remove(&lease)?;
        if let Some(queue) = self.queues.get_mut(&manager) {
            queue.under_way -= 1;
        }
        Some(manager)
    }

    /// The lease whose turn it is at a manager. It waits no more: it is to be attended.
    pub(super) fn next(&mut self, manager: &ManagerName, most: usize) -> Option<LeaseId> {
        let queue = self.queues.get_mut(manager)?;
        if queue.under_way >= most {
            return None;
        }
        let Some((_, next)) = queue.waiting.pop_first() else {
            if queue.under_way == 0 {
                self.queues.remove(manager);
            }
            return None;
        };
        queue.needs.remove(&next);
        Some(next)
    }
}

impl Queue {
    fn forget(&mut self, lease: LeaseId) {
        if let Some(need) = self.needs.remove(&lease) {
            self.waiting.remove(&(need, lease));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::records::LeasePlace;

    fn lease(id: u64, state: LeaseState, ends: Option<i64>) -> LeaseRecord {
        LeaseRecord {
            id: LeaseId(id),
            place: LeasePlace {
                org: "o".parse().unwrap(),
                node: "n".parse().unwrap(),
                deployment: "d".parse().unwrap(),
                reference: "v:x".parse().unwrap(),
            },
            identity: None,
            enrolled_at: None,
            current: true,
            state,
            handle: None,
            epoch: None,
            renewable: true,
            granted_at: None,
            ends_at: ends.map(|second| Timestamp::from_second(second).unwrap()),
            attempts: 0,
            trouble: None,
            created_at: Timestamp::from_second(1_000).unwrap(),
        }
    }

    #[test]
    fn some_at_once_and_the_neediest_next() {
        let manager: ManagerName = "v".parse().unwrap();
        let mut turns = Turns::default();
        assert!(turns.begin(&lease(1, LeaseState::Wanted, None), &manager, 1));
        for waiting in [
            lease(2, LeaseState::Live, Some(3_000)),
            lease(3, LeaseState::Wanted, None),
            lease(4, LeaseState::Ending, Some(4_000)),
            lease(5, LeaseState::Live, Some(2_000)),
        ] {
            assert!(!turns.begin(&waiting, &manager, 1));
            // Asked again it stands in the queue once.
            assert!(!turns.begin(&waiting, &manager, 1));
        }
        assert_eq!(turns.next(&manager, 1), None, "none is free");
        assert_eq!(turns.end(LeaseId(3)), None, "it was not its turn");
        assert_eq!(turns.end(LeaseId(1)), Some(manager.clone()));
        // What does not take its turn passes it on.
        let order: Vec<_> = std::iter::from_fn(|| turns.next(&manager, 1)).collect();
        assert_eq!(order, [4, 3, 5, 2].map(LeaseId));
        assert!(turns.queues.is_empty() && turns.under_way.is_empty());
    }
}
