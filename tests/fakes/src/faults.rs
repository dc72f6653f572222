//! What can go wrong with a manager, switched on by tests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Request, Response};

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is closed before the call is done.
    Drop,
    /// The call is done, and the connection closed before the answer: nobody knows.
    LoseAnswer,
    /// No answer ever comes; the call is not done.
    Hang,
    /// The answer comes after this time.
    Slow(Duration),
    /// A page for people, with status 200, as proxies send it.
    Html,
    /// The answer breaks off in the middle of its body.
    Truncated,
    /// The answer does not end: 64 MiB of JSON.
    Huge,
    /// JSON of another shape: every value of the answer is of another type.
    WrongTypes,
    /// This instead of an answer.
    Answer(Response),
}

type When = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

struct Rule {
    when: When,
    fault: Fault,
    left: Option<usize>,
}

/// The faults that are switched on. Clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    /// Every call from now on.
    pub fn always(&self, fault: Fault) {
        self.when(|_| true, fault);
    }

    /// Every call that `when` accepts, from now on.
    pub fn when(&self, when: impl Fn(&Request) -> bool + Send + Sync + 'static, fault: Fault) {
        self.add(when, fault, None);
    }

    /// The next calls that `when` accepts, so many of them.
    pub fn next(
        &self,
        times: usize,
        when: impl Fn(&Request) -> bool + Send + Sync + 'static,
        fault: Fault,
    ) {
        self.add(when, fault, Some(times));
    }

    /// Everything goes well again.
    pub fn heal(&self) {
        self.lock().clear();
    }

    pub(crate) fn of(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.lock();
        let at = rules
            .iter()
            .position(|rule| rule.left != Some(0) && (rule.when)(request))?;
        let rule = rules.get_mut(at)?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }

    fn add(
        &self,
        when: impl Fn(&Request) -> bool + Send + Sync + 'static,
        fault: Fault,
        left: Option<usize>,
    ) {
        let when: When = Arc::new(when);
        self.lock().push(Rule { when, fault, left });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults(..)")
    }
}
