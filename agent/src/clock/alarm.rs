//! One moment to be woken at, which may be moved.

use std::future::{Future, pending};
use std::pin::Pin;

use super::{BootTime, KernelSleep, Now};

/// Rings at a moment, or never.
#[derive(Default)]
pub(crate) struct Alarm {
    at: Option<BootTime>,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Alarm {
    /// Lets it ring then and at no other time. Costs nothing where that is as it was.
    ///
    /// Must be called on a tokio runtime.
    pub(crate) fn set(&mut self, at: Option<BootTime>) {
        if self.at != at {
            self.at = at;
            self.sleep = at.map(until);
        }
    }

    /// Waits until it rings; from then on it does so at once, until it is set anew.
    pub(crate) async fn rung(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().await,
            None => pending().await,
        }
    }
}

/// A sleep of the kernel's, or of the runtime where there are no descriptors left.
fn until(at: BootTime) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match KernelSleep::until(at) {
        Ok(sleep) => Box::pin(sleep),
        Err(_) => Box::pin(tokio::time::sleep(at.since(Now::read().boot))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_when_it_is_set_to() {
        let mut alarm = Alarm::default();
        let now = Now::read().boot;
        let hour = Duration::from_secs(3600);
        alarm.set(Some(now.after(hour)));
        let soon = now.after(Duration::from_millis(20));
        alarm.set(Some(soon));
        alarm.rung().await;
        assert!(Now::read().boot >= soon);
        alarm.rung().await;

        for never in [Some(now.after(hour)), None] {
            alarm.set(never);
            let short = tokio::time::sleep(Duration::from_millis(5));
            tokio::select! {
                () = alarm.rung() => panic!("it was set to {never:?}"),
                () = short => {}
            }
        }
    }
}
