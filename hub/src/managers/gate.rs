//! What keeps a manager from being asked too much: a bound on calls at once, a pace, and a breaker
//! that leaves it alone for a while when it is in trouble as a whole.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Fault, ManagerError};

/// Bounds of one manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most calls at once; at least 1.
    pub concurrent: usize,
    /// Most calls a second; at least 1.
    pub per_second: u32,
}

/// The gate of one manager.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next call may begin.
    next: Instant,
    /// How many calls in a row met a manager in trouble.
    failures: u32,
    /// Until then nobody asks, and why.
    open: Option<(Instant, ManagerError)>,
}

/// Whether who looks at the gate goes through it at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Ahead,
    AndGo,
}

/// A call that is being made.
pub struct Entered<'a> {
    gate: &'a Gate,
    done: bool,
    _permit: SemaphorePermit<'a>,
}

impl Gate {
    /// A gate with these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            permits: Semaphore::new(limits.concurrent.max(1)),
            interval: Duration::from_secs(1) / limits.per_second.max(1),
            state: Mutex::new(State {
                next: Instant::now(),
                failures: 0,
                open: None,
            }),
        }
    }

    /// Waits for a call's turn.
    ///
    /// # Errors
    /// At once, with what was wrong last, while the manager is left alone;
    /// [`Fault::RateLimited`] when the turn would come later than after [`MAX_WAIT`].
    pub async fn enter(&self) -> Result<Entered<'_>, ManagerError> {
        let latest = Instant::now() + MAX_WAIT;
        self.expect_closed(Look::Ahead)?;
        let Ok(Ok(permit)) = timeout_at(latest, self.permits.acquire()).await else {
            return Err(busy());
        };
        let turn = self.turn(latest)?;
        sleep_until(turn).await;
        // It may have opened meanwhile.
        self.expect_closed(Look::AndGo)?;
        Ok(Entered {
            gate: self,
            done: false,
            _permit: permit,
        })
    }

    /// Why the manager is left alone now, and for how long still.
    #[must_use]
    pub fn is_open(&self) -> Option<(Duration, ManagerError)> {
        let state = self.lock();
        let (until, error) = state.open.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then(|| (left, error.clone()))
    }

    /// Somebody asked the manager beside the gate, and it is well: who waits for it need not. That it wants
    /// fewer calls, and for how long, is still so.
    pub fn found_well(&self) {
        let mut state = self.lock();
        state.failures = 0;
        let over = |(_, error): &mut (Instant, ManagerError)| {
            error.fault != Fault::RateLimited || error.retry_after.is_none()
        };
        state.open.take_if(over);
    }

    fn expect_closed(&self, look: Look) -> Result<(), ManagerError> {
        let mut state = self.lock();
        let now = Instant::now();
        let failures = state.failures;
        match &mut state.open {
            Some((until, error)) if *until > now => {
                let wait = until.duration_since(now);
                Err(error.clone().after(Some(wait)).unasked())
            }
            // One goes ahead to see; the others wait for what it finds.
            Some((until, _)) if look == Look::AndGo => {
                *until = now + pause(failures);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn turn(&self, latest: Instant) -> Result<Instant, ManagerError> {
        let mut state = self.lock();
        let turn = state.next.max(Instant::now());
        if turn > latest {
            return Err(busy());
        }
        state.next = turn + self.interval;
        Ok(turn)
    }

    fn well(&self) {
        let mut state = self.lock();
        state.failures = 0;
        state.open = None;
    }

    fn ill(&self, error: &ManagerError) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        let wait = match error.retry_after {
            Some(wait) => wait.min(MAX_PAUSE),
            None if state.failures < PATIENCE => return,
            None => pause(state.failures),
        };
        state.open = Some((Instant::now() + wait, error.clone()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered<'_> {
    /// Says how the call went.
    pub fn leave<T>(mut self, result: &Result<T, ManagerError>) {
        // What the backend refused by itself says nothing of the manager.
        let unasked = matches!(result, Err(error) if error.fault.is_of_the_asker());
        self.done = !unasked;
        match result {
            Err(_) if unasked => {}
            Err(error) if error.fault.is_of_the_manager() => self.gate.ill(error),
            _ => self.gate.well(),
        }
    }
}

impl Drop for Entered<'_> {
    /// A call that was given up in the middle says nothing good of the manager, and nothing bad.
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.gate.lock();
            if let Some((until, _)) = &mut state.open {
                *until = Instant::now();
            }
        }
    }
}

fn busy() -> ManagerError {
    ManagerError::new(
        Fault::RateLimited,
        "too many calls of it wait for their turn at the hub already",
    )
    .unasked()
}

/// Longer with every failure, up to a minute, and not the same for all.
fn pause(failures: u32) -> Duration {
    let doubled = failures.saturating_sub(PATIENCE).min(6);
    let whole = Duration::from_secs(1 << doubled).min(MAX_PAUSE);
    let share = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    whole.mul_f64(0.5 + share / 2.0)
}

/// So many failures in a row are taken for chance.
const PATIENCE: u32 = 3;
/// Longest time for which a manager is left alone.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longest wait for a turn.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrent: usize, per_second: u32) -> Gate {
        Gate::new(Limits {
            concurrent,
            per_second,
        })
    }

    async fn call(gate: &Gate, fault: Option<Fault>) -> Result<(), ManagerError> {
        let entered = gate.enter().await?;
        let result = match fault {
            Some(fault) => Err(ManagerError::new(fault, "…")),
            None => Ok(()),
        };
        entered.leave(&result);
        result
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_their_pace() {
        let gate = gate(8, 10);
        let start = Instant::now();
        for _ in 0..11 {
            call(&gate, None).await.unwrap();
        }
        assert_eq!(start.elapsed().as_millis(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_in_trouble_is_left_alone_and_found_well_again() {
        let gate = gate(8, 1_000);
        for _ in 0..PATIENCE {
            assert_eq!(
                call(&gate, Some(Fault::Unreachable))
                    .await
                    .unwrap_err()
                    .fault,
                Fault::Unreachable
            );
        }
        let (left, error) = gate.is_open().unwrap();
        assert_eq!(error.fault, Fault::Unreachable);
        // Nobody asks, and everybody hears why.
        let refused = gate.enter().await.err().unwrap();
        assert_eq!(refused.fault, Fault::Unreachable);
        assert!(refused.retry_after.is_some());
        tokio::time::sleep(left).await;
        // One goes ahead, the others wait.
        let ahead = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_err());
        ahead.leave(&Ok::<_, ManagerError>(()));
        call(&gate, None).await.unwrap();
        assert!(gate.is_open().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_secrets_trouble_is_not_the_managers() {
        let gate = gate(8, 1_000);
        for _ in 0..20 {
            call(&gate, Some(Fault::Locked)).await.unwrap_err();
        }
        call(&gate, None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_unasked_says_nothing_of_the_manager() {
        let gate = gate(8, 1_000);
        for _ in 0..PATIENCE {
            call(&gate, Some(Fault::Unreachable)).await.unwrap_err();
            call(&gate, Some(Fault::Unsupported)).await.err();
        }
        assert_eq!(gate.is_open().unwrap().1.fault, Fault::Unreachable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_says_when_is_not_asked_before() {
        let gate = gate(8, 1_000);
        let entered = gate.enter().await.unwrap();
        let wait = Some(Duration::from_secs(7));
        let limited = ManagerError::new(Fault::RateLimited, "…").after(wait);
        entered.leave(&Err::<(), _>(limited));
        assert_eq!(gate.is_open().unwrap().0, Duration::from_secs(7));
        tokio::time::sleep(Duration::from_secs(7)).await;
        call(&gate, None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_it_well_ends_the_pause_unless_it_wants_fewer_calls() {
        let gate = gate(8, 1_000);
        for _ in 0..PATIENCE {
            call(&gate, Some(Fault::Unreachable)).await.unwrap_err();
        }
        assert!(gate.is_open().is_some());
        gate.found_well();
        assert!(gate.is_open().is_none());
        // What failed before is forgotten too.
        call(&gate, Some(Fault::Unreachable)).await.unwrap_err();
        call(&gate, None).await.unwrap();

        let entered = gate.enter().await.unwrap();
        let limited = ManagerError::new(Fault::RateLimited, "…").after(Some(MAX_PAUSE));
        entered.leave(&Err::<(), _>(limited));
        gate.found_well();
        assert_eq!(gate.is_open().unwrap().0, MAX_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_does_not_shut_the_gate() {
        let gate = gate(1, 1_000);
        for _ in 0..PATIENCE {
            call(&gate, Some(Fault::TimedOut)).await.unwrap_err();
        }
        tokio::time::sleep(MAX_PAUSE).await;
        drop(gate.enter().await.unwrap());
        call(&gate, None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_does_not_grow_without_end() {
        let gate = gate(1, 1_000);
        let _held = gate.enter().await.unwrap();
        assert_eq!(gate.enter().await.err().unwrap().fault, Fault::RateLimited);
    }
}
