//! What bindings want: a lease for each that has none, and an end for each that nobody wants any more.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::{NodeId, OrgId};
use jiff::Timestamp;

use super::{Keeper, audit, note};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    BoundDeployment, LeaseChange, LeaseId, LeasePlace, LeaseRecord, LeaseState, Trouble, Wish,
};
use crate::clock;
use crate::lease::table::Known;
use crate::managers::Fault;

impl Keeper {
    /// Brings a node's leases to what its bindings want now.
    pub(super) async fn sync(&mut self, org: &OrgId, node: &NodeId) -> Result<(), CatalogError> {
        let have = self.table.of_node(org, node);
        let catalog = &self.parts.catalog;
        if have.is_empty() && !catalog.binds_leased(org, node).await? {
            return Ok(());
        }
        let bindings = match catalog.bindings(org, node, None).await {
            Ok(bindings) => bindings.deployments,
            Err(CatalogError::NotFound(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let wanted = wanted(org, node, &bindings);
        for (place, known) in &wanted {
            self.table.note(place, known.clone());
        }
        let enrolled = catalog.node(org, node).await?.map(|node| node.enrolled_at);
        for id in have {
            self.let_go(id, &wanted, enrolled).await?;
        }
        for place in wanted.into_keys() {
            if self.table.current(&place).is_none() {
                self.want(place).await?;
            }
        }
        for id in self.table.of_node(org, node) {
            self.attend(id).await?;
        }
        Ok(())
    }

    /// A lease whose binding is gone is to end, and so is one of a machine that had the node's name
    /// before.
    async fn let_go(
        &mut self,
        id: LeaseId,
        wanted: &BTreeMap<LeasePlace, Known>,
        enrolled: Option<Timestamp>,
    ) -> Result<(), CatalogError> {
        let Some(lease) = self.table.get(id).cloned() else {
            return Ok(());
        };
        let over = matches!(lease.state, LeaseState::Ending | LeaseState::Dropped);
        let another = lease
            .enrolled_at
            .zip(enrolled)
            .is_some_and(|(its, now)| its != now);
        match wanted.contains_key(&lease.place) {
            _ if over => Ok(()),
            true if another => self.finish(lease, "its node enrolled anew").await,
            true => Ok(()),
            false => self.finish(lease, "its binding is gone").await,
        }
    }

    async fn want(&mut self, place: LeasePlace) -> Result<(), CatalogError> {
        let holder = self
            .table
            .effect(&place)
            .is_for_one_node()
            .then(|| self.table.holder(&place))
            .flatten();
        let refused = holder.map(refusal);
        let change = self.wish(place, refused, false);
        self.change(vec![change], Vec::new()).await
    }

    /// A lease to be added.
    pub(super) fn wish(
        &self,
        place: LeasePlace,
        refused: Option<Trouble>,
        beside: bool,
    ) -> LeaseChange {
        let known = self.table.known(&place);
        LeaseChange::Want(Box::new(Wish {
            identity: known.and_then(|known| known.identity.clone()),
            place,
            refused,
            beside,
        }))
    }

    /// Has another credential made beside a live one, which is used until then.
    pub(super) async fn supersede(&mut self, id: LeaseId) -> Result<(), CatalogError> {
        let Some(lease) = self.table.get(id) else {
            return Ok(());
        };
        note(lease, "A credential is to be followed by another one.");
        let change = self.wish(lease.place.clone(), None, true);
        self.change(vec![change], Vec::new()).await
    }

    /// Ends a lease for this reason; where its binding still stands, another one is wanted.
    pub(super) async fn replace(&mut self, id: LeaseId, why: &str) -> Result<(), CatalogError> {
        let Some(lease) = self.table.get(id).cloned() else {
            return Ok(());
        };
        let (place, current) = (lease.place.clone(), lease.current);
        let followed = self.table.successor(&lease).map(|next| next.id);
        self.finish(lease, why).await?;
        if !current {
            return Ok(());
        }
        match followed.and_then(|next| self.table.get(next)).cloned() {
            Some(mut next) => {
                next.current = true;
                self.change(vec![LeaseChange::Set(Box::new(next))], Vec::new())
                    .await
            }
            None => {
                let (org, node) = (place.org, place.node);
                // What the bindings say now decides whether there is to be another one.
                Box::pin(self.sync(&org, &node)).await
            }
        }
    }

    /// A lease is over for its binding: what was made is to be ended at its manager.
    async fn finish(&mut self, mut lease: LeaseRecord, why: &str) -> Result<(), CatalogError> {
        self.values.remove(lease.id);
        if self.busy.contains(&lease.id) && lease.state == LeaseState::Minting {
            // What is being made is ended once it is known.
            lease.current = false;
            lease.state = LeaseState::Dropped;
            return self
                .change(vec![LeaseChange::Set(Box::new(lease))], Vec::new())
                .await;
        }
        if lease.handle.is_none() {
            return self.bury(lease, why).await;
        }
        note(&lease, "A credential is to end.");
        lease.current = false;
        lease.state = LeaseState::Ending;
        lease.attempts = 0;
        lease.trouble = None;
        let record = audit(&lease, "lease.end", "ok", why);
        self.change(vec![LeaseChange::Set(Box::new(lease))], vec![record])
            .await
    }

    /// A lease is dead. Who waits for the one credential that there is may have it now.
    pub(super) async fn bury(
        &mut self,
        mut lease: LeaseRecord,
        why: &str,
    ) -> Result<(), CatalogError> {
        self.values.remove(lease.id);
        self.due.remove(&lease.id);
        lease.current = false;
        let made = lease.handle.is_some();
        lease.state = LeaseState::Ended;
        let records = made.then(|| audit(&lease, "lease.ended", "ok", why));
        let free = self.table.is_free_but_for(&lease);
        let dead = lease.clone();
        let mut changes = vec![LeaseChange::Set(Box::new(lease))];
        let next = self.table.first_refused(&dead).filter(|_| free).cloned();
        if let Some(mut next) = next {
            next.state = LeaseState::Wanted;
            next.trouble = None;
            next.attempts = 0;
            changes.push(LeaseChange::Set(Box::new(next)));
        }
        self.change(changes, records.into_iter().collect()).await?;
        for id in self.table.to_be_made(&dead) {
            Box::pin(self.attend(id)).await?;
        }
        Ok(())
    }
}

/// The places of a node whose bindings resolve to secrets with leases.
fn wanted(
    org: &OrgId,
    node: &NodeId,
    deployments: &[BoundDeployment],
) -> BTreeMap<LeasePlace, Known> {
    let mut wanted = BTreeMap::new();
    for deployment in deployments {
        let absent: BTreeSet<_> = deployment
            .secrets
            .iter()
            .filter(|secret| secret.state == SecretState::Missing)
            .map(|secret| &secret.name)
            .collect();
        for (name, reference) in &deployment.resolved {
            let detail = deployment.details.get(name);
            let effect = detail.and_then(|detail| detail.effect);
            let Some(effect) = effect.filter(|effect| effect.is_leased()) else {
                continue;
            };
            if absent.contains(name) {
                continue;
            }
            let place = LeasePlace {
                org: org.clone(),
                node: node.clone(),
                deployment: deployment.placed.id.clone(),
                reference: reference.secret(),
            };
            let identity = detail.and_then(|detail| detail.identity.clone());
            wanted.insert(place, Known { effect, identity });
        }
    }
    wanted
}

fn refusal(holder: &LeaseRecord) -> Trouble {
    Trouble {
        fault: Fault::Exclusive,
        detail: format!(
            "node {} has the one credential that there is of it: give each node a secret of its own",
            holder.place.node
        ),
        since: clock::now(),
    }
}
