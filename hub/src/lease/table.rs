//! The open leases, as the keeper has them in memory: what the catalog holds, with indexes.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::{NodeId, OrgId};

use crate::catalog::records::{LeaseId, LeasePlace, LeaseRecord, LeaseState};
use crate::managers::{Effect, LeaseHandle, ManagerName};
use crate::reference::SecretRef;

/// Open leases by number, node and secret.
#[derive(Debug, Default)]
pub(super) struct Table {
    leases: BTreeMap<LeaseId, LeaseRecord>,
    by_node: BTreeMap<(OrgId, NodeId), BTreeSet<LeaseId>>,
    by_claim: BTreeMap<Claim, BTreeSet<LeaseId>>,
    known: BTreeMap<(OrgId, SecretRef), Known>,
}

/// What bindings say of a secret.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What reading it does.
    pub(super) effect: Effect,
    /// The manager's own name of it.
    pub(super) identity: Option<String>,
}

/// What leases may be of together: a secret, whatever it is called where, in whichever organisation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Identity(ManagerName, String),
    Reference(OrgId, SecretRef),
}

impl Claim {
    fn of(place: &LeasePlace, identity: Option<&str>) -> Self {
        match (place.reference.manager(), identity) {
            (Some(manager), Some(identity)) => Self::Identity(manager.clone(), identity.to_owned()),
            _ => Self::Reference(place.org.clone(), place.reference.clone()),
        }
    }

    fn of_lease(lease: &LeaseRecord) -> Self {
        Self::of(&lease.place, lease.identity.as_deref())
    }
}

impl Table {
    /// Takes a lease as it is now; one that ended is forgotten.
    pub(super) fn put(&mut self, lease: LeaseRecord) {
        let LeasePlace { org, node, .. } = lease.place.clone();
        let (node, claim) = ((org, node), Claim::of_lease(&lease));
        if lease.state == LeaseState::Ended {
            self.leases.remove(&lease.id);
            forget(&mut self.by_node, &node, lease.id);
            forget(&mut self.by_claim, &claim, lease.id);
            return;
        }
        self.by_node.entry(node).or_default().insert(lease.id);
        self.by_claim.entry(claim).or_default().insert(lease.id);
        self.leases.insert(lease.id, lease);
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&LeaseRecord> {
        self.leases.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.values()
    }

    /// The node's leases, oldest first.
    pub(super) fn of_node(&self, org: &OrgId, node: &NodeId) -> Vec<LeaseId> {
        let found = self.by_node.get(&(org.clone(), node.clone()));
        found.into_iter().flatten().copied().collect()
    }

    /// The leases of a secret, oldest first.
    fn of_claim(&self, claim: &Claim) -> impl Iterator<Item = &LeaseRecord> {
        let found = self.by_claim.get(claim).into_iter().flatten();
        found.filter_map(|id| self.leases.get(id))
    }

    /// Every lease of a place, oldest first.
    pub(super) fn of_place(&self, place: &LeasePlace) -> impl Iterator<Item = &LeaseRecord> {
        let node = (place.org.clone(), place.node.clone());
        let found = self.by_node.get(&node).into_iter().flatten();
        found
            .filter_map(|id| self.leases.get(id))
            .filter(move |lease| lease.place == *place)
    }

    /// The one that the place's binding resolves to.
    pub(super) fn current(&self, place: &LeasePlace) -> Option<&LeaseRecord> {
        self.of_place(place).find(|lease| lease.current)
    }

    /// Another one of the place that is wanted, being made or live, and newer.
    pub(super) fn successor(&self, lease: &LeaseRecord) -> Option<&LeaseRecord> {
        let follows = |other: &&LeaseRecord| {
            other.id > lease.id
                && matches!(
                    other.state,
                    LeaseState::Wanted | LeaseState::Minting | LeaseState::Live
                )
        };
        self.of_place(&lease.place).filter(follows).last()
    }

    /// Who has the one credential that there is of a secret, if anybody else does.
    pub(super) fn holder(&self, place: &LeasePlace) -> Option<&LeaseRecord> {
        let identity = self
            .known(place)
            .and_then(|known| known.identity.as_deref());
        self.of_claim(&Claim::of(place, identity))
            .find(|lease| lease.place != *place && lease.state != LeaseState::Refused)
    }

    /// Whether there is one credential at a time of the secret, and another one is being made, has not
    /// died yet, or is somebody else's.
    pub(super) fn is_taken(&self, lease: &LeaseRecord) -> bool {
        let place = &lease.place;
        let takes = |other: &LeaseRecord| match other.state {
            LeaseState::Minting | LeaseState::Dropped | LeaseState::Ending => true,
            // The same place's is followed by this one.
            LeaseState::Live => other.place != *place,
            LeaseState::Wanted | LeaseState::Ended | LeaseState::Refused => false,
        };
        self.effect(place).is_for_one_node()
            && self
                .of_claim(&Claim::of_lease(lease))
                .any(|other| other.id != lease.id && takes(other))
    }

    /// Whether nobody but this lease has, gets or waits for the one credential that there is.
    pub(super) fn is_free_but_for(&self, lease: &LeaseRecord) -> bool {
        self.of_claim(&Claim::of_lease(lease))
            .all(|other| other.id == lease.id || other.state == LeaseState::Refused)
    }

    /// Leases of the same secret for which a credential is to be made.
    pub(super) fn to_be_made(&self, lease: &LeaseRecord) -> Vec<LeaseId> {
        self.of_claim(&Claim::of_lease(lease))
            .filter(|lease| lease.state == LeaseState::Wanted)
            .map(|lease| lease.id)
            .collect()
    }

    /// The lease that waits longest for the one credential that there is.
    pub(super) fn first_refused(&self, lease: &LeaseRecord) -> Option<&LeaseRecord> {
        self.of_claim(&Claim::of_lease(lease))
            .find(|lease| lease.state == LeaseState::Refused)
    }

    /// The live lease of the same place that has this handle at its manager already.
    pub(super) fn with_handle(&self, lease: &LeaseRecord, handle: &LeaseHandle) -> Option<LeaseId> {
        self.of_place(&lease.place)
            .find(|other| other.state == LeaseState::Live && other.handle.as_ref() == Some(handle))
            .map(|other| other.id)
    }

    pub(super) fn note(&mut self, place: &LeasePlace, known: Known) {
        let key = (place.org.clone(), place.reference.clone());
        self.known.insert(key, known);
    }

    /// Forgets what is known of secrets that no lease is of, once that is most of it: bindings say it
    /// again.
    pub(super) fn forget_unused(&mut self) {
        if self.known.len() <= 2 * self.leases.len() + FEW {
            return;
        }
        let used = |lease: &LeaseRecord| (lease.place.org.clone(), lease.place.reference.clone());
        let used: BTreeSet<_> = self.leases.values().map(used).collect();
        self.known.retain(|secret, _| used.contains(secret));
    }

    /// What bindings said of the secret last.
    pub(super) fn known(&self, place: &LeasePlace) -> Option<&Known> {
        let key = (place.org.clone(), place.reference.clone());
        self.known.get(&key)
    }

    /// What reading the secret does; while nobody knows, what is safest.
    pub(super) fn effect(&self, place: &LeasePlace) -> Effect {
        let known = self.known(place).map(|known| known.effect);
        known.unwrap_or(Effect::MintsAndInvalidates)
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<LeaseId>>, key: &K, id: LeaseId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// So many are not worth a look.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn place(reference: &str) -> LeasePlace {
        LeasePlace {
            org: "o".parse().unwrap(),
            node: "n".parse().unwrap(),
            deployment: "d".parse().unwrap(),
            reference: reference.parse().unwrap(),
        }
    }

    #[test]
    fn what_is_known_of_secrets_does_not_grow_without_end() {
        let mut table = Table::default();
        let used = place("v:database/creds/used");
        table.put(LeaseRecord {
            id: LeaseId(1),
            place: used.clone(),
            identity: None,
            enrolled_at: None,
            current: true,
            state: LeaseState::Wanted,
            handle: None,
            epoch: None,
            renewable: true,
            granted_at: None,
            ends_at: None,
            attempts: 0,
            trouble: None,
            created_at: Timestamp::UNIX_EPOCH,
        });
        let known = || Known {
            effect: Effect::Mints,
            identity: None,
        };
        table.note(&used, known());
        for number in 0..1_000 {
            table.note(&place(&format!("v:database/creds/{number}")), known());
            table.forget_unused();
            assert!(table.known.len() <= 2 + FEW, "{}", table.known.len());
        }
        assert_eq!(table.effect(&used), Effect::Mints);
    }
}
