//! What is done after a swap: debounced, one at a time per consumer, tried again until it is done.
//! Each consumer's action has a task of its own, so that a hanging one holds up nobody else.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::profile::{Action, OnChange};
use crate::delivery::ConsumerId;
use crate::status::ActionStatus;

/// Carries actions out.
pub(crate) trait Perform: Send + Sync + 'static {
    /// One attempt. Ends when the action has ended, whatever came of it; a time limit is the
    /// caller's, who drops the future: whatever runs then is ended with it.
    fn perform(
        &self,
        action: &Action,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), ActionError>> + Send;
}

/// Why an action failed. Says what to do; never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ActionError(pub(crate) String);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) consumer: ConsumerId,
    /// The generation that the action was for.
    pub(crate) generation: String,
    pub(crate) result: Result<(), ActionError>,
}

/// Every consumer's action.
#[derive(Debug)]
pub(crate) struct Actions<P> {
    performer: Arc<P>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    running: BTreeMap<ConsumerId, ActionStatus>,
}

impl<P: Perform> Actions<P> {
    /// Nothing to do yet. Each attempt's end is told through `outcomes`.
    pub(crate) fn new(performer: P, outcomes: mpsc::UnboundedSender<Outcome>) -> Self {
        Self {
            performer: Arc::new(performer),
            outcomes,
            running: BTreeMap::new(),
        }
    }

    /// The consumer reads another generation. Called again for the same generation it does nothing,
    /// unless the action has become another one.
    pub(crate) fn changed(&mut self, consumer: &ConsumerId, generation: &str, what: &OnChange) {
        let _ = (consumer, generation, what, &self.performer, &self.outcomes);
    }

    /// Keeps only the actions of consumers for which `keep` says so; what runs of others is ended.
    pub(crate) fn retain(&mut self, keep: impl Fn(&ConsumerId) -> bool) {
        self.running.retain(|consumer, _| keep(consumer));
    }

    /// How the consumer's last action went, or goes.
    pub(crate) fn status(&self, consumer: &ConsumerId) -> Option<ActionStatus> {
        self.running.get(consumer).cloned()
    }
}
