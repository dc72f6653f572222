//! Leases: a credential for each binding on each node, made when the node is there to take it, renewed
//! while it is, replaced before it ends, and dead at its manager when its deployment is over.
//!
//! One task keeps them. What it does is written down before it has an effect that anybody sees: a
//! handle is durable before its credential can be fetched, so that whatever is made can be revoked
//! after a crash, but for a credential whose making was cut off, which dies by its own end.

mod decide;
mod keeper;
mod pace;
mod table;
mod turns;
mod values;

use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId};
use tokio::sync::{mpsc, oneshot};

use crate::catalog::Catalog;
use crate::catalog::records::LeaseId;
use crate::feed::Feed;
use crate::managers::registry::Registry;
use keeper::Keeper;
pub use values::Values;

/// What others tell the keeper of leases. Clones share it.
#[derive(Clone)]
pub struct Leases {
    events: mpsc::UnboundedSender<Event>,
    values: Values,
}

/// Something that the keeper should know.
enum Event {
    /// The node watches this hub now.
    Arrived(OrgId, NodeId),
    /// A node asked for a credential whose value this process does not have.
    Lost(LeaseId),
    /// An operator ends a lease.
    Revoke(OrgId, LeaseId, oneshot::Sender<bool>),
    /// A call of a manager ended inside the hub without an outcome.
    Broken(LeaseId, String),
    /// A call of a manager is done.
    Done(LeaseId, keeper::Outcome),
}

/// What the keeper works with.
pub struct Parts {
    /// Where leases are kept.
    pub catalog: Arc<dyn Catalog>,
    /// Where credentials are made.
    pub registry: Registry,
    /// Who is there.
    pub feed: Feed,
}

/// The keeper's end of the line, until it runs.
pub struct Desk(mpsc::UnboundedReceiver<Event>);

impl Leases {
    /// A line to a keeper that does not run yet.
    #[must_use]
    pub fn new() -> (Self, Desk) {
        let (events, desk) = mpsc::unbounded_channel();
        let leases = Self {
            events,
            values: Values::default(),
        };
        (leases, Desk(desk))
    }

    /// The values of live credentials.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The node watches this hub now.
    pub fn arrived(&self, org: &OrgId, node: &NodeId) {
        self.tell(Event::Arrived(org.clone(), node.clone()));
    }

    /// The value of a live lease is not in this process: it is to be replaced.
    pub fn lost(&self, lease: LeaseId) {
        self.tell(Event::Lost(lease));
    }

    /// Ends a lease of the organisation at its manager; where its binding still stands another one is
    /// made. `false` when there is no such open lease.
    pub async fn revoke(&self, org: &OrgId, lease: LeaseId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Revoke(org.clone(), lease, reply));
        answer.await.unwrap_or(false)
    }

    /// Keeps leases until it is dropped.
    pub async fn keep(&self, desk: Desk, parts: Parts) {
        let keeper = Keeper::new(parts, self.values.clone(), self.events.clone());
        keeper.run(desk.0).await;
    }

    /// A keeper that has gone away keeps nothing: the hub is stopping.
    fn tell(&self, event: Event) {
        self.events.send(event).ok();
    }
}

#[cfg(test)]
mod tests;
