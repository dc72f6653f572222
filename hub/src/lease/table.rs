//! The open leases, as the keeper has them in memory: what the catalog holds, with indexes.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::{NodeId, OrgId};

use crate::catalog::records::{LeaseId, LeasePlace, LeaseRecord, LeaseState};
use crate::managers::Effect;
use crate::reference::SecretRef;

/// Open leases by number, node and secret.
#[derive(Debug, Default)]
pub(super) struct Table {
    leases: BTreeMap<LeaseId, LeaseRecord>,
    by_node: BTreeMap<(OrgId, NodeId), BTreeSet<LeaseId>>,
    by_secret: BTreeMap<(OrgId, SecretRef), BTreeSet<LeaseId>>,
    effects: BTreeMap<(OrgId, SecretRef), Effect>,
}

impl Table {
    /// Takes a lease as it is now; one that ended is forgotten.
    pub(super) fn put(&mut self, lease: LeaseRecord) {
        let LeasePlace {
            org,
            node,
            reference,
            ..
        } = lease.place.clone();
        let (node, secret) = ((org.clone(), node), (org, reference));
        if lease.state == LeaseState::Ended {
            self.leases.remove(&lease.id);
            forget(&mut self.by_node, &node, lease.id);
            forget(&mut self.by_secret, &secret, lease.id);
            return;
        }
        self.by_node.entry(node).or_default().insert(lease.id);
        self.by_secret.entry(secret).or_default().insert(lease.id);
        self.leases.insert(lease.id, lease);
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&LeaseRecord> {
        self.leases.get(&id)
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
    pub(super) fn of_secret(
        &self,
        org: &OrgId,
        reference: &SecretRef,
    ) -> impl Iterator<Item = &LeaseRecord> {
        let found = self.by_secret.get(&(org.clone(), reference.clone()));
        let found = found.into_iter().flatten();
        found.filter_map(|id| self.leases.get(id))
    }

    /// Every lease of a place, oldest first.
    pub(super) fn of_place(&self, place: &LeasePlace) -> impl Iterator<Item = &LeaseRecord> {
        self.of_secret(&place.org, &place.reference)
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
        self.of_secret(&place.org, &place.reference)
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
                .of_secret(&place.org, &place.reference)
                .any(|other| other.id != lease.id && takes(other))
    }

    /// Whether nobody but this lease has, gets or waits for the one credential that there is.
    pub(super) fn is_free_but_for(&self, lease: &LeaseRecord) -> bool {
        let place = &lease.place;
        self.of_secret(&place.org, &place.reference)
            .all(|other| other.id == lease.id || other.state == LeaseState::Refused)
    }

    /// Leases of a secret for which a credential is to be made.
    pub(super) fn to_be_made(&self, place: &LeasePlace) -> Vec<LeaseId> {
        self.of_secret(&place.org, &place.reference)
            .filter(|lease| lease.state == LeaseState::Wanted)
            .map(|lease| lease.id)
            .collect()
    }

    /// Leases that wait for the one credential that there is, oldest first.
    pub(super) fn refused(&self, org: &OrgId, reference: &SecretRef) -> Vec<LeaseRecord> {
        let refused = self.of_secret(org, reference);
        refused
            .filter(|lease| lease.state == LeaseState::Refused)
            .cloned()
            .collect()
    }

    pub(super) fn note_effect(&mut self, org: &OrgId, reference: &SecretRef, effect: Effect) {
        let key = (org.clone(), reference.clone());
        self.effects.insert(key, effect);
    }

    /// What reading the secret does; while nobody knows, what is safest.
    pub(super) fn effect(&self, place: &LeasePlace) -> Effect {
        let key = (place.org.clone(), place.reference.clone());
        let known = self.effects.get(&key).copied();
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
