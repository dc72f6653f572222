//! Waiting at the hub for what comes next.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::Session;
use crate::client::Target;
use crate::error::Error;

/// Asks again and again, and survives a hub that is away for a while.
#[derive(Debug, Default)]
pub(super) struct Follower {
    failures: u32,
}

impl Follower {
    /// Asks once, where the hub may hold its answer back until there is something new. A hub that
    /// is away is waited for, without end.
    ///
    /// # Errors
    /// When the hub refuses.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        target: Target,
        session: &mut Session<'_>,
    ) -> Result<T, Error> {
        let target = target.with("wait", WAIT.as_secs());
        loop {
            let asked = Instant::now();
            match session.client.poll(target.clone(), WAIT).await {
                Err(error) if error.is_unavailable() => {
                    if self.failures == 0 {
                        session
                            .ui
                            .note(&format!("{error}; trying again until it is back"));
                    }
                    sleep(self.pause()).await;
                    self.failures = self.failures.saturating_add(1);
                }
                Ok(answer) => {
                    if self.failures > 0 {
                        let hub = session.client.hub().as_str().to_owned();
                        session.ui.note(&format!("the hub at {hub} is back"));
                    }
                    self.failures = 0;
                    return Ok(self.paced(answer, asked).await);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What stands between us and the hub may not wait as the hub does.
    async fn paced<T>(&self, answer: T, asked: Instant) -> T {
        let earliest = asked + LEAST_BETWEEN;
        tokio::time::sleep_until(earliest).await;
        answer
    }

    fn pause(&self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        pause.min(LONGEST_PAUSE)
    }
}

const WAIT: Duration = Duration::from_secs(30);
/// Ten times a second is faster than anybody reads.
const LEAST_BETWEEN: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let pause = |failures| Follower { failures }.pause();
        assert_eq!(pause(0), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 4);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
