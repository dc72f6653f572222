//! The task that keeps leases: it brings what there is to what bindings want.

mod calls;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::Secret;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::decide::{Situation, Step, after, decide};
use super::pace::Pace;
use super::table::Table;
use super::turns::Turns;
use super::values::Values;
use super::{Event, Parts};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Actor, FeedEvent, LeaseChange, LeaseId, LeaseQuery, LeaseRecord, LeaseState, NewAudit,
};
use crate::clock::{self, Setback};
use crate::managers::guarded::Guarded;
use crate::managers::{Fault, ManagerError, ManagerName, Minted, Term};
use crate::observe::trouble;

/// What came of a call of a manager.
pub(super) enum Outcome {
    /// A credential was to be made. The time before the manager was asked.
    /// And what leases hung on then.
    Minted(Timestamp, Option<String>, Result<Minted, ManagerError>),
    /// A new credential may be used by now.
    Usable(Secret),
    /// A lease was to live longer; for how long, and the time before the manager was asked.
    Renewed(Timestamp, Duration, Result<Term, ManagerError>),
    /// A lease was to end.
    Revoked(Result<(), ManagerError>),
}

pub(super) struct Keeper {
    parts: Parts,
    values: Values,
    events: mpsc::UnboundedSender<Event>,
    table: Table,
    /// Leases with something under way.
    busy: BTreeSet<LeaseId>,
    /// Whose turn it is at the managers.
    turns: Turns,
    /// How often credentials are made.
    pace: Pace,
    /// When to look at a lease again.
    due: BTreeMap<LeaseId, Timestamp>,
    /// Leases that are not to be attended before: their managers said so.
    not_before: BTreeMap<LeaseId, Timestamp>,
    /// What leases hung on at each manager when that was looked at last.
    epochs: BTreeMap<ManagerName, String>,
    /// Whether the clock that ends are told by was set back.
    setback: Setback,
    /// The newest feed entry that was taken.
    seq: u64,
}

impl Keeper {
    pub(super) fn new(parts: Parts, values: Values, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            parts,
            values,
            events,
            table: Table::default(),
            busy: BTreeSet::new(),
            turns: Turns::default(),
            pace: Pace::default(),
            due: BTreeMap::new(),
            not_before: BTreeMap::new(),
            epochs: BTreeMap::new(),
            setback: Setback::watch(),
            seq: 0,
        }
    }

    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut bell = self.parts.catalog.bell();
        self.seq = *bell.borrow_and_update();
        while let Err(error) = self.start().await {
            error!(%error, "Leases cannot be read; trying again.");
            tokio::time::sleep(RETRY).await;
        }
        loop {
            let wait = self.until_due();
            let turn = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                rung = bell.changed() => match rung {
                    Ok(()) => self.catch_up().await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => self.look().await,
            };
            let turn = match turn {
                Ok(()) => self.look_at_clock().await,
                Err(error) => Err(error),
            };
            if let Err(error) = turn {
                // Nothing is lost: everything open is looked at again.
                error!(%error, "A change of leases was not kept; trying again.");
                tokio::time::sleep(RETRY).await;
                while let Err(error) = self.start().await {
                    error!(%error, "Leases cannot be read; trying again.");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes all that is open from the catalog. A credential whose making was cut off may exist: where
    /// its handle is known it is ended, else it dies by its own end.
    async fn start(&mut self) -> Result<(), CatalogError> {
        let open = self.parts.catalog.leases(&LeaseQuery::default()).await?;
        let mut table = Table::default();
        let in_making = |lease: &&LeaseRecord| {
            matches!(lease.state, LeaseState::Minting | LeaseState::Dropped)
                && !self.busy.contains(&lease.id)
        };
        let cut_off: Vec<_> = open.iter().filter(in_making).cloned().collect();
        for lease in open {
            table.put(lease);
        }
        // Whole before anything is changed by it.
        self.table = table;
        for lease in cut_off {
            self.cut_off(lease).await?;
        }
        self.look_at_epochs();
        for (org, node) in self.parts.catalog.leasing_nodes().await? {
            self.sync(&org, &node).await?;
        }
        self.look_at_all().await
    }

    async fn cut_off(&mut self, lease: LeaseRecord) -> Result<(), CatalogError> {
        warn!(lease = %lease.id, secret = %lease.place.reference, node = %lease.place.node,
            "A credential was being made when the hub stopped; nobody has it.");
        let unknown = ManagerError::new(
            Fault::OutcomeUnknown,
            "the hub stopped while it was made: one may exist until its own end",
        );
        let mut next = lease.clone();
        next.trouble = Some(trouble(unknown, None, clock::now()));
        next.attempts += 1;
        next.state = match next.handle {
            Some(_) => LeaseState::Ending,
            None if lease.state == LeaseState::Dropped => LeaseState::Ended,
            None => LeaseState::Wanted,
        };
        let mut changes = Vec::new();
        if next.state == LeaseState::Ending {
            next.attempts = 0;
            next.current = false;
        }
        changes.push(LeaseChange::Set(Box::new(next)));
        if lease.handle.is_some() && lease.current {
            changes.push(self.wish(lease.place.clone(), None, false));
        }
        self.change(
            changes,
            vec![audit(
                &lease,
                "lease.mint",
                Fault::OutcomeUnknown.as_str(),
                "",
            )],
        )
        .await
    }

    async fn take(&mut self, event: Event) -> Result<(), CatalogError> {
        match event {
            Event::Arrived(org, node) => {
                for id in self.table.of_node(&org, &node) {
                    self.attend(id).await?;
                }
                Ok(())
            }
            Event::Lost(id) => self.lost(id).await,
            Event::Revoke(org, id, reply) => {
                let open = self.table.get(id);
                let known = open.is_some_and(|lease| lease.place.org == org);
                if known {
                    self.replace(id, "an operator ended it").await?;
                }
                // Who asked may have gone away.
                reply.send(known).ok();
                Ok(())
            }
            Event::Broken(id, why) => {
                self.busy.remove(&id);
                let manager = self.turns.end(id);
                error!(lease = %id, why, "A call for a lease broke off inside the hub.");
                match self.table.get(id).cloned() {
                    Some(lease) if lease.handle.is_none() => self.cut_off(lease).await,
                    Some(lease) => {
                        let broke = ManagerError::new(Fault::Failed, "a call broke off in the hub");
                        self.failed(lease, broke).await
                    }
                    None => Ok(()),
                }?;
                self.pass_on(manager).await
            }
            Event::Done(id, outcome) => {
                self.busy.remove(&id);
                let manager = self.turns.end(id);
                self.settle(id, outcome).await?;
                self.attend(id).await?;
                self.pass_on(manager).await
            }
        }
    }

    /// A live lease whose value nobody has is replaced beside itself: the node keeps what it has.
    async fn lost(&mut self, id: LeaseId) -> Result<(), CatalogError> {
        let Some(lease) = self.table.get(id) else {
            return Ok(());
        };
        let replaced = self.table.successor(lease).is_some();
        if lease.state == LeaseState::Live && lease.current && !replaced {
            self.supersede(id).await?;
        }
        Ok(())
    }

    /// Takes the news of the feed.
    async fn catch_up(&mut self) -> Result<(), CatalogError> {
        loop {
            let news = self.parts.catalog.feed(self.seq, PAGE).await?;
            let oldest = news.first().map(|entry| entry.seq);
            if oldest.is_some_and(|oldest| oldest > self.seq + 1) {
                // The feed forgets: whoever is that far behind looks at everything.
                self.seq = news.last().map_or(self.seq, |entry| entry.seq);
                self.start().await?;
                continue;
            }
            let full = news.len() >= PAGE as usize;
            let mut changed = BTreeSet::new();
            let mut reported = BTreeSet::new();
            for entry in news {
                self.seq = entry.seq;
                match entry.event {
                    FeedEvent::Bindings(_) | FeedEvent::Revoked => {
                        changed.insert((entry.org, entry.node))
                    }
                    FeedEvent::Status => reported.insert((entry.org, entry.node)),
                };
            }
            for (org, node) in &changed {
                self.sync(org, node).await?;
            }
            for (org, node) in &reported {
                for id in self.table.of_node(org, node) {
                    self.attend(id).await?;
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Looks at every lease whose time has come.
    async fn look(&mut self) -> Result<(), CatalogError> {
        self.look_at_epochs();
        let now = clock::now();
        if self.pace.len() > 2 * self.table.len() {
            self.pace.forget(now);
        }
        self.table.forget_unused();
        let due: Vec<_> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.due.remove(&id);
            self.attend(id).await?;
        }
        Ok(())
    }

    /// Leases hang on something of the hub's own at their manager: when that is another one, all of
    /// the manager's are looked at, for they die with the old one.
    fn look_at_epochs(&mut self) {
        let managers: Vec<_> = self.parts.registry.iter().cloned().collect();
        for manager in managers {
            let Some(epoch) = manager.epoch() else {
                continue;
            };
            let before = self.epochs.insert(manager.name.clone(), epoch.clone());
            if before.is_none_or(|before| before == epoch) {
                continue;
            }
            warn!(manager = %manager.name, "The hub has another session there: its leases are replaced.");
            let now = clock::now();
            let own = self
                .table
                .iter()
                .filter(|lease| lease.place.reference.manager() == Some(&manager.name));
            let own: Vec<_> = own.map(|lease| (lease.id, now)).collect();
            self.due.extend(own);
        }
    }

    /// What a lease has still to live does not become more because somebody sets the clock back: all its
    /// times go back with it. Should that be cut off, leases that began in the future are seen to at once.
    async fn look_at_clock(&mut self) -> Result<(), CatalogError> {
        let Some(back) = self.setback.look() else {
            return Ok(());
        };
        warn!(
            seconds = back.as_secs(),
            "The clock was set back; leases end when they were to end."
        );
        self.not_before.clear();
        let earlier = |at: Timestamp| at.saturating_sub(back).unwrap_or(Timestamp::MIN);
        let mut changes = Vec::new();
        for lease in self.table.iter() {
            let mut moved = lease.clone();
            moved.granted_at = lease.granted_at.map(earlier);
            moved.ends_at = lease.ends_at.map(earlier);
            if let Some(trouble) = &mut moved.trouble {
                trouble.since = earlier(trouble.since);
            }
            if moved != *lease {
                changes.push(LeaseChange::Set(Box::new(moved)));
            }
        }
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(PART));
            self.change(changes, Vec::new()).await?;
            changes = rest;
        }
        let now = clock::now();
        self.due
            .extend(self.table.iter().map(|lease| (lease.id, now)));
        Ok(())
    }

    async fn look_at_all(&mut self) -> Result<(), CatalogError> {
        let all: Vec<_> = self.table.iter().map(|lease| lease.id).collect();
        for id in all {
            self.attend(id).await?;
        }
        Ok(())
    }

    /// Does what is next for a lease.
    async fn attend(&mut self, id: LeaseId) -> Result<(), CatalogError> {
        if self.busy.contains(&id) {
            return Ok(());
        }
        let Some(lease) = self.table.get(id).cloned() else {
            self.due.remove(&id);
            self.not_before.remove(&id);
            return Ok(());
        };
        if let Some(until) = self.not_before.get(&id).copied() {
            if until > clock::now() {
                self.due.insert(id, until);
                return Ok(());
            }
            self.not_before.remove(&id);
        }
        let manager = self.manager_of(&lease);
        let epoch = manager.as_ref().and_then(|manager| manager.epoch());
        let place = &lease.place;
        let superseded = lease.state == LeaseState::Live && !lease.current;
        let in_use = superseded && self.in_use(&lease).await?;
        let step = decide(Situation {
            lease: &lease,
            effect: self.table.effect(place),
            now: clock::now(),
            present: self.parts.feed.is_connected(&place.org, &place.node),
            epoch: epoch.as_deref(),
            successor: self.table.successor(&lease),
            in_use,
            taken: self.table.is_taken(&lease),
        });
        match (step, manager) {
            (Step::Wait(Some(until)), _) => {
                self.due.insert(id, until);
                Ok(())
            }
            (Step::Wait(None), _) => {
                self.due.remove(&id);
                Ok(())
            }
            (Step::Supersede, _) => self.supersede(id).await,
            (Step::Replace, _) => self.replace(id, "it ended").await,
            (Step::Bury, _) => self.bury(lease, "its own end").await,
            (Step::Mint | Step::Renew | Step::Revoke, None) => self.unknown_manager(lease).await,
            (Step::Mint | Step::Renew | Step::Revoke, Some(manager)) => {
                self.call(step, lease, manager).await
            }
        }
    }

    /// Asks a manager, once it is the lease's turn.
    async fn call(
        &mut self,
        step: Step,
        lease: LeaseRecord,
        manager: Arc<Guarded>,
    ) -> Result<(), CatalogError> {
        let id = lease.id;
        let too_often = match step {
            Step::Mint => self.too_often(&lease),
            _ => None,
        };
        if let Some(error) = too_often.or_else(|| manager.held_back()) {
            return self.failed(lease, error).await;
        }
        if !self.turns.begin(&lease, &manager.name, at_once(&manager)) {
            self.due.remove(&id);
            return Ok(());
        }
        let begun = match step {
            Step::Renew => {
                self.renew(lease, manager);
                Ok(())
            }
            Step::Revoke => self.end(lease, manager).await,
            _ => self.mint(lease, manager).await,
        };
        if !self.busy.contains(&id)
            && let Some(manager) = self.turns.end(id)
        {
            // It had nothing to ask. Who waits is attended in the next round: not from within this
            // one, which would be as deep as the queue is long.
            let most = self.most_at(&manager);
            while let Some(next) = self.turns.next(&manager, most) {
                self.due.insert(next, clock::now());
            }
        }
        begun
    }

    /// So many calls for leases at once.
    fn most_at(&self, manager: &ManagerName) -> usize {
        let found = self.parts.registry.named(manager);
        found.map_or(1, |manager| at_once(manager))
    }

    /// Credentials that live for moments are not made without end.
    fn too_often(&self, lease: &LeaseRecord) -> Option<ManagerError> {
        let now = clock::now();
        let until = self.pace.earliest(&lease.place, now)?;
        let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let error = ManagerError::new(
            Fault::RateLimited,
            "credentials of it are made too often: let them live longer at their manager",
        );
        Some(error.after(Some(wait)).unasked())
    }

    /// Attends those whose turn it is at a manager where a call is over.
    async fn pass_on(&mut self, manager: Option<ManagerName>) -> Result<(), CatalogError> {
        let Some(manager) = manager else {
            return Ok(());
        };
        let most = self.most_at(&manager);
        while let Some(next) = self.turns.next(&manager, most) {
            self.attend(next).await?;
        }
        Ok(())
    }

    /// Whether the node's last report since its successor came still names the lease's version. Without
    /// such a report it may.
    async fn in_use(&self, lease: &LeaseRecord) -> Result<bool, CatalogError> {
        let place = &lease.place;
        let Some(next) = self.table.successor(lease) else {
            return Ok(false);
        };
        let reports = self
            .parts
            .catalog
            .reports(&place.org, Some(&place.node))
            .await?;
        let Some(report) = reports.into_iter().next() else {
            return Ok(true);
        };
        if next.granted_at.is_none_or(|granted| report.at < granted) {
            return Ok(true);
        }
        let mark = format!("{}+", lease.id.version());
        let deployments = report.status.deployments.iter();
        Ok(deployments
            .filter(|deployment| deployment.id == place.deployment)
            .flat_map(|deployment| deployment.applied.values())
            .any(|version| version.as_str().starts_with(&mark)))
    }

    fn manager_of(&self, lease: &LeaseRecord) -> Option<Arc<Guarded>> {
        let found = self.parts.registry.of(&lease.place.reference);
        found.ok().flatten().cloned()
    }

    async fn unknown_manager(&mut self, lease: LeaseRecord) -> Result<(), CatalogError> {
        let name = lease.place.reference.manager();
        let name = name.map_or_else(String::new, ToString::to_string);
        let error = ManagerError::new(
            Fault::UnknownManager,
            format!("this hub has no secrets manager \"{name}\" (any more)"),
        );
        self.failed(lease, error).await
    }

    /// Notes a failure; what failed is tried again later. A call that was kept back is no try, and
    /// what is noted already is not written again.
    async fn failed(
        &mut self,
        mut lease: LeaseRecord,
        error: ManagerError,
    ) -> Result<(), CatalogError> {
        let now = clock::now();
        let (id, unasked) = (lease.id, error.unasked);
        let earliest = error.retry_after.or_else(|| unasked.then_some(RETRY));
        let known = lease.trouble.as_ref().map(|trouble| trouble.fault) == Some(error.fault);
        if !unasked || !known {
            warn!(lease = %id, secret = %lease.place.reference, node = %lease.place.node, %error,
                "A lease is in trouble.");
            // Waiting is counted from here.
            lease.trouble = Some(trouble(error, None, now));
        }
        if !unasked {
            lease.attempts = lease.attempts.saturating_add(1);
        }
        if self.table.get(id) != Some(&lease) {
            let change = LeaseChange::Set(Box::new(lease));
            self.change(vec![change], Vec::new()).await?;
        }
        if let Some(wait) = earliest {
            let until = after(now, wait);
            self.not_before.insert(id, until);
            self.due.insert(id, until);
        }
        Ok(())
    }

    async fn change(
        &mut self,
        changes: Vec<LeaseChange>,
        audit: Vec<NewAudit>,
    ) -> Result<(), CatalogError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changed = self.parts.catalog.change_leases(&changes, audit).await?;
        for (lease, change) in changed.into_iter().zip(changes) {
            if let LeaseChange::Want(wish) = &change
                && !wish.beside
            {
                self.make_room(&wish.place, lease.id);
            }
            self.due.insert(lease.id, clock::now());
            self.table.put(lease);
        }
        Ok(())
    }

    /// As the catalog did: only the newest of the place is current.
    fn make_room(&mut self, place: &crate::catalog::records::LeasePlace, newest: LeaseId) {
        let others: Vec<_> = self
            .table
            .of_place(place)
            .filter(|lease| lease.current && lease.id != newest)
            .cloned()
            .collect();
        for mut other in others {
            other.current = false;
            self.table.put(other);
        }
    }

    fn until_due(&self) -> Duration {
        let now = clock::now();
        let next = self.due.iter().filter(|(id, _)| !self.busy.contains(id));
        let next = next.map(|(_, at)| *at).min();
        next.map_or(IDLE, |at| {
            Duration::try_from(at.duration_since(now))
                .unwrap_or_default()
                .min(IDLE)
        })
    }
}

pub(super) fn audit(lease: &LeaseRecord, action: &str, result: &str, detail: &str) -> NewAudit {
    let place = &lease.place;
    NewAudit {
        org: place.org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: action.to_owned(),
        object: format!(
            "lease/{} {} on node/{}",
            lease.id, place.reference, place.node
        ),
        result: result.to_owned(),
        detail: detail.to_owned(),
        peer: "-".to_owned(),
    }
}

/// So many calls for leases at once.
fn at_once(manager: &Guarded) -> usize {
    manager.settings.limits.concurrent.max(1)
}

fn note(lease: &LeaseRecord, what: &str) {
    let place = &lease.place;
    info!(lease = %lease.id, secret = %place.reference, org = %place.org, node = %place.node, "{what}");
}

const RETRY: Duration = Duration::from_secs(1);
const PAGE: u32 = 1_024;
/// So many leases by one transaction.
const PART: usize = 256;
/// Clocks and sessions are looked at so often at least: they may be others.
const IDLE: Duration = Duration::from_secs(10);
