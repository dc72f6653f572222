//! Log lines that others can cause are bounded.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines in so much time.
#[derive(Debug)]
pub(super) struct Seldom {
    burst: u32,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Seldom {
    pub(super) fn new(burst: u32, window: Duration) -> Self {
        Self {
            burst,
            window,
            state: Mutex::default(),
        }
    }

    /// Whether a line may be written now; then also how many were not since the last one.
    pub(super) fn may(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |since| now.saturating_duration_since(since) >= self.window;
        if state.since.is_none_or(over) {
            state.since = Some(now);
            state.said = 0;
        }
        if state.said < self.burst {
            state.said += 1;
            Some(std::mem::take(&mut state.unsaid))
        } else {
            state.unsaid += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_few_lines_and_the_next_one_says_how_many_were_left_out() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let seldom = Seldom::new(2, minute);
        let said = (0..100).filter_map(|_| seldom.may(start)).count();
        assert_eq!(said, 2);
        assert_eq!(seldom.may(start + minute), Some(98));
        assert_eq!(seldom.may(start + minute), Some(0));
        assert_eq!(seldom.may(start + minute), None);
    }
}
