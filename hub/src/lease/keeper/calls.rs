//! Calls of managers for leases, and what comes of them.

use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::Secret;
use jiff::Timestamp;
use tracing::warn;

use super::{Keeper, Outcome, audit, note};
use crate::catalog::CatalogError;
use crate::catalog::records::{LeaseChange, LeaseId, LeaseRecord, LeaseState};
use crate::clock;
use crate::lease::Event;
use crate::lease::decide::after;
use crate::managers::guarded::Guarded;
use crate::managers::{Effect, Fault, ManagerError, Minted, Target, Term};

impl Keeper {
    /// Has a credential made. That it is being made is durable first.
    pub(super) async fn mint(
        &mut self,
        mut lease: LeaseRecord,
        manager: Arc<Guarded>,
    ) -> Result<(), CatalogError> {
        lease.state = LeaseState::Minting;
        let (id, place) = (lease.id, lease.place.clone());
        // Before the change is seen: a look at the lease must not make another one.
        self.busy.insert(id);
        let noted = self.change(vec![LeaseChange::Set(Box::new(lease))], Vec::new());
        if let Err(error) = noted.await {
            self.busy.remove(&id);
            return Err(error);
        }
        self.spawn(id, async move {
            let asked = clock::now();
            // Of before the call: with a login in between it is replaced rather than believed.
            let epoch = manager.epoch();
            let target = Target {
                org: &place.org,
                reference: &place.reference,
            };
            Outcome::Minted(asked, epoch, manager.mint(target).await)
        });
        Ok(())
    }

    pub(super) fn renew(&mut self, lease: LeaseRecord, manager: Arc<Guarded>) {
        let (Some(handle), Some(granted), Some(ends)) =
            (lease.handle, lease.granted_at, lease.ends_at)
        else {
            return;
        };
        let want = Duration::try_from(ends.duration_since(granted)).unwrap_or_default();
        self.busy.insert(lease.id);
        self.spawn(lease.id, async move {
            let asked = clock::now();
            Outcome::Renewed(asked, want, manager.renew(&handle, want).await)
        });
    }

    pub(super) async fn end(
        &mut self,
        mut lease: LeaseRecord,
        manager: Arc<Guarded>,
    ) -> Result<(), CatalogError> {
        let Some(handle) = lease.handle.clone() else {
            return self.bury(lease, "it was never made").await;
        };
        let id = lease.id;
        self.busy.insert(id);
        if lease.state != LeaseState::Ending {
            lease.state = LeaseState::Ending;
            lease.attempts = 0;
            lease.trouble = None;
            self.values.remove(id);
            let record = audit(&lease, "lease.end", "ok", "another one follows it");
            let noted = self.change(vec![LeaseChange::Set(Box::new(lease))], vec![record]);
            if let Err(error) = noted.await {
                self.busy.remove(&id);
                return Err(error);
            }
        }
        self.spawn(id, async move {
            Outcome::Revoked(manager.revoke(&handle).await)
        });
        Ok(())
    }

    /// Takes what came of a call.
    pub(super) async fn settle(
        &mut self,
        id: LeaseId,
        outcome: Outcome,
    ) -> Result<(), CatalogError> {
        let Some(lease) = self.table.get(id).cloned() else {
            return Ok(());
        };
        match outcome {
            Outcome::Minted(asked, epoch, Ok(minted)) => {
                self.minted(lease, asked, epoch, minted).await
            }
            Outcome::Minted(_, _, Err(error)) => self.not_minted(lease, error).await,
            Outcome::Usable(value) => self.live(lease, value).await,
            Outcome::Renewed(asked, want, Ok(term)) => self.renewed(lease, asked, want, term).await,
            Outcome::Renewed(_, _, Err(error)) => self.not_renewed(lease, error).await,
            Outcome::Revoked(Ok(())) => {
                note(&lease, "A credential is dead.");
                self.bury(lease, "revoked").await
            }
            Outcome::Revoked(Err(error)) => {
                self.note_failure(&lease, "lease.end", &error).await?;
                self.failed(lease, error).await
            }
        }
    }

    /// The handle is durable before anybody can have the value.
    async fn minted(
        &mut self,
        mut lease: LeaseRecord,
        asked: Timestamp,
        epoch: Option<String>,
        minted: Minted,
    ) -> Result<(), CatalogError> {
        let Minted {
            payload,
            handle,
            term,
            usable_after,
        } = minted;
        self.pace.made(&lease.place, asked);
        if let Some(same) = self.table.with_handle(&lease, &handle) {
            return self.same_again(lease, same, asked, (payload, term)).await;
        }
        lease.handle = Some(handle.clone());
        lease.granted_at = Some(asked);
        lease.ends_at = Some(after(asked, term.duration));
        lease.renewable = term.renewable;
        let manager = self.manager_of(&lease);
        // A first login is made by the call itself.
        lease.epoch = epoch.or_else(|| manager.as_ref().and_then(|manager| manager.epoch()));
        let id = lease.id;
        let record = audit(&lease, "lease.mint", "ok", "");
        let kept = self.change(vec![LeaseChange::Set(Box::new(lease))], vec![record]);
        if let Err(error) = kept.await {
            // What nobody can find again must not live.
            if let Some(manager) = manager {
                tokio::spawn(async move {
                    if let Err(error) = manager.revoke(&handle).await {
                        warn!(%error, "A credential that could not be kept was not revoked.");
                    }
                });
            }
            return Err(error);
        }
        self.busy.insert(id);
        self.spawn(id, async move {
            tokio::time::sleep(usable_after).await;
            Outcome::Usable(payload)
        });
        Ok(())
    }

    /// The manager gave the credential that the node has already: it stays what it is called, and
    /// lives as long as is said now.
    async fn same_again(
        &mut self,
        mut lease: LeaseRecord,
        same: LeaseId,
        asked: Timestamp,
        (payload, term): (Secret, Term),
    ) -> Result<(), CatalogError> {
        let Some(mut same) = self.table.get(same).cloned() else {
            return Ok(());
        };
        let dropped = lease.state == LeaseState::Dropped;
        lease.state = LeaseState::Ended;
        lease.current = false;
        same.granted_at = Some(asked);
        same.ends_at = Some(after(asked, term.duration));
        same.renewable = term.renewable;
        same.current |= !dropped;
        same.attempts = 0;
        same.trouble = None;
        self.values.put(same.id, payload);
        let record = audit(&same, "lease.mint", "ok", "the same credential again");
        let changes = [lease, same].map(|lease| LeaseChange::Set(Box::new(lease)));
        self.change(changes.into(), vec![record]).await
    }

    /// From now on the binding resolves to it.
    async fn live(&mut self, mut lease: LeaseRecord, value: Secret) -> Result<(), CatalogError> {
        if lease.state == LeaseState::Dropped {
            lease.state = LeaseState::Ending;
            lease.attempts = 0;
            lease.trouble = None;
            return self
                .change(vec![LeaseChange::Set(Box::new(lease))], Vec::new())
                .await;
        }
        let before = self.table.of_place(&lease.place);
        let before = before.filter(|other| other.current && other.id != lease.id);
        let mut changes: Vec<_> = before
            .map(|other| {
                let mut other = other.clone();
                other.current = false;
                LeaseChange::Set(Box::new(other))
            })
            .collect();
        note(&lease, "A credential is made.");
        let invalidates = !self.table.effect(&lease.place).makes_before_breaking();
        if invalidates {
            for change in &mut changes {
                if let LeaseChange::Set(other) = change {
                    // It died when this one was made.
                    other.state = LeaseState::Ended;
                }
            }
        }
        self.values.put(lease.id, value);
        lease.state = LeaseState::Live;
        lease.current = true;
        lease.attempts = 0;
        lease.trouble = None;
        let others: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                LeaseChange::Set(other) => Some(other.id),
                LeaseChange::Want(_) => None,
            })
            .collect();
        changes.push(LeaseChange::Set(Box::new(lease)));
        self.change(changes, Vec::new()).await?;
        for other in others {
            // Nobody fetches it any more.
            self.values.remove(other);
            Box::pin(self.attend(other)).await?;
        }
        Ok(())
    }

    async fn not_minted(
        &mut self,
        mut lease: LeaseRecord,
        error: ManagerError,
    ) -> Result<(), CatalogError> {
        self.note_failure(&lease, "lease.mint", &error).await?;
        if lease.state == LeaseState::Dropped {
            return self.bury(lease, "it was never made").await;
        }
        lease.state = LeaseState::Wanted;
        self.failed(lease, error).await
    }

    async fn renewed(
        &mut self,
        mut lease: LeaseRecord,
        asked: Timestamp,
        want: Duration,
        term: Term,
    ) -> Result<(), CatalogError> {
        if !matches!(lease.state, LeaseState::Live | LeaseState::Ending) {
            return Ok(());
        }
        lease.granted_at = Some(asked);
        lease.ends_at = Some(after(asked, term.duration));
        lease.renewable = term.renewable;
        if lease.state == LeaseState::Ending {
            // It was to end meanwhile, and lives longer now: so long its end is tried.
            let change = vec![LeaseChange::Set(Box::new(lease))];
            return self.change(change, Vec::new()).await;
        }
        lease.attempts = 0;
        lease.trouble = None;
        let id = lease.id;
        let taken = self.table.effect(&lease.place) == Effect::Exclusive;
        let record = audit(&lease, "lease.renew", "ok", "");
        self.change(vec![LeaseChange::Set(Box::new(lease))], vec![record])
            .await?;
        // It comes near the end of what the manager allows.
        let followed = self
            .table
            .get(id)
            .and_then(|lease| self.table.successor(lease));
        if term.duration < want / 2 && followed.is_none() && !taken {
            self.supersede(id).await?;
        }
        Ok(())
    }

    async fn not_renewed(
        &mut self,
        mut lease: LeaseRecord,
        error: ManagerError,
    ) -> Result<(), CatalogError> {
        if lease.state != LeaseState::Live {
            return Ok(());
        }
        self.note_failure(&lease, "lease.renew", &error).await?;
        match error.fault {
            Fault::LeaseGone => {
                // It is dead already, whatever its end was to be.
                lease.ends_at = Some(clock::now());
                let id = lease.id;
                self.change(vec![LeaseChange::Set(Box::new(lease))], Vec::new())
                    .await?;
                self.replace(id, "the manager ended it").await
            }
            Fault::Unsupported => {
                lease.renewable = false;
                self.change(vec![LeaseChange::Set(Box::new(lease))], Vec::new())
                    .await
            }
            _ => self.failed(lease, error).await,
        }
    }

    /// The trail hears of a failure once, however often it is met in a row.
    async fn note_failure(
        &self,
        lease: &LeaseRecord,
        action: &str,
        error: &ManagerError,
    ) -> Result<(), CatalogError> {
        let known = lease.trouble.as_ref().map(|trouble| trouble.fault);
        if known == Some(error.fault) {
            return Ok(());
        }
        let record = audit(lease, action, error.fault.as_str(), &error.detail);
        self.parts.catalog.append_audit(vec![record]).await
    }

    fn spawn(&self, id: LeaseId, call: impl Future<Output = Outcome> + Send + 'static) {
        let events = self.events.clone();
        let call = tokio::spawn(call);
        tokio::spawn(async move {
            let event = match call.await {
                Ok(outcome) => Event::Done(id, outcome),
                Err(error) => Event::Broken(id, error.to_string()),
            };
            // A keeper that has gone away has nothing to settle: the next one begins from the catalog.
            events.send(event).ok();
        });
    }
}
