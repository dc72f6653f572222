//! What is done after a swap: debounced, one at a time per consumer, tried again until it is done.
//! Each consumer's action has a task of its own, so that a hanging one holds up nobody else. The task
//! exists while there is something to do: a node where nothing changes has none, and no timer either.
//!
//! ```text
//! changed() --> waits `debounce` after the first change; further ones are swallowed
//!                 |
//!                 v
//!            one attempt, at most `timeout` long ------------> Outcome, for each attempt
//!                 |        |                |
//!                 |        | failed         | changed meanwhile
//!                 |        v                v
//!                 |   waits 1 s, doubling   begins anew: one more attempt for the newest generation,
//!                 |   up to 5 min           after a debounce of its own
//!                 v
//!               done: the task ends
//! ```
//!
//! An attempt that runs is never cut short by a change, only by its time limit and by
//! [`retain`](Actions::retain). What is pending is not remembered over a restart of the agent.

mod command;
pub(crate) mod perform;
mod work;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::work::{Attempt, Step, Work};
use super::profile::{Action, OnChange};
use crate::delivery::ConsumerId;
use crate::hub::backoff::random;
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
    running: BTreeMap<ConsumerId, Running>,
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
    /// unless its action is still undone and has become another one, which then takes its place: an
    /// edited profile alone is no change of a secret.
    ///
    /// Must be called on a tokio runtime.
    pub(crate) fn changed(&mut self, consumer: &ConsumerId, generation: &str, what: &OnChange) {
        let now = Instant::now();
        let performer = &self.performer;
        let outcomes = &self.outcomes;
        let spawn = |shared: &Arc<Shared>| {
            let (performer, outcomes) = (performer.clone(), outcomes.clone());
            let task = carry_out(consumer.clone(), shared.clone(), performer, outcomes);
            AbortOnDropHandle::new(tokio::spawn(task))
        };
        match self.running.entry(consumer.clone()) {
            Entry::Vacant(entry) => {
                let shared = Arc::new(Shared {
                    work: Mutex::new(Work::new(generation, what, now)),
                    news: Notify::new(),
                });
                let task = spawn(&shared);
                entry.insert(Running { shared, task });
            }
            Entry::Occupied(mut entry) => {
                let running = entry.get_mut();
                let mut work = running.shared.work();
                if !work.changed(generation, what, now) {
                    return;
                }
                // A task that has ended without resting has panicked: nobody else clears that up.
                let begin = work.wake() || running.task.is_finished();
                drop(work);
                if begin {
                    running.task = spawn(&running.shared);
                } else {
                    running.shared.news.notify_one();
                }
            }
        }
    }

    /// Keeps only the actions of consumers for which `keep` says so; what runs of others is ended,
    /// and nothing more is told of them but what was told already.
    pub(crate) fn retain(&mut self, keep: impl Fn(&ConsumerId) -> bool) {
        self.running.retain(|consumer, _| keep(consumer));
    }

    /// How the consumer's last action went, or goes.
    pub(crate) fn status(&self, consumer: &ConsumerId) -> Option<ActionStatus> {
        let running = self.running.get(consumer)?;
        Some(running.shared.work().status().clone())
    }
}

/// What an action does, for people: `reload uplink.service`. Of a command only the program.
pub(crate) fn describe(action: &Action) -> String {
    match action {
        Action::Reload(unit) => format!("reload {unit}"),
        Action::Restart(unit) => format!("restart {unit}"),
        Action::TryRestart(unit) => format!("try-restart {unit}"),
        Action::SignalUnit(unit, signal) => format!("send {signal} to {unit}"),
        Action::SignalContainer(container, signal) => {
            format!("send {signal} to container {container}")
        }
        Action::Command { argv, .. } => {
            format!("run {}", argv.first().map_or("nothing", String::as_str))
        }
    }
}

/// One consumer's action, and the task that carries it out, or did.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    /// Told when `work` is due at another time than before.
    news: Notify,
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        // Nobody panics half-way through changing it; if somebody did, the newest is still wanted.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer's task: until nothing is left to do.
async fn carry_out<P: Perform>(
    consumer: ConsumerId,
    shared: Arc<Shared>,
    performer: Arc<P>,
    outcomes: mpsc::UnboundedSender<Outcome>,
) {
    loop {
        let step = shared.work().step(Instant::now());
        match step {
            Step::Rest => return,
            // Whether it is time or something is new, the next step tells.
            Step::Wait(until) => timeout_at(until, shared.news.notified())
                .await
                .unwrap_or_default(),
            Step::Attempt(attempt) => {
                let result = attempt_once(&*performer, &attempt).await;
                let retry = shared
                    .work()
                    .ended(&attempt, &result, Instant::now(), random());
                tell(&consumer, &attempt, &result, retry);
                // Nobody listens any more only when the agent ends.
                let outcome = Outcome {
                    consumer: consumer.clone(),
                    generation: attempt.generation,
                    result,
                };
                outcomes.send(outcome).ok();
            }
        }
    }
}

async fn attempt_once<P: Perform>(performer: &P, attempt: &Attempt) -> Result<(), ActionError> {
    let limit = attempt.what.timeout;
    let performed = performer.perform(&attempt.what.action, limit);
    timeout(limit, performed).await.unwrap_or_else(|_| {
        Err(ActionError(format!(
            "it did not end within {limit:?}; see why, or give it a longer timeout in its profile"
        )))
    })
}

fn tell(
    consumer: &ConsumerId,
    attempt: &Attempt,
    result: &Result<(), ActionError>,
    retry: Option<Duration>,
) {
    let action = describe(&attempt.what.action);
    match (result, retry) {
        (Ok(()), _) => info!(%consumer, action, "On-change action done."),
        (Err(error), Some(retry_in)) => {
            warn!(%consumer, action, %error, ?retry_in, "On-change action failed; it is tried again.");
        }
        (Err(error), None) => {
            warn!(%consumer, action, %error, "On-change action failed; a newer one follows.");
        }
    }
}
