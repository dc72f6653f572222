//! The timer of the connection's pings: sleeps of the kernel's, one wake-up each.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::clock::KernelSleep;

/// Makes timers of the kernel, or of the runtime where there are no descriptors left.
#[derive(Debug, Clone, Copy)]
pub(super) struct KernelTimer;

impl Timer for KernelTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        match KernelSleep::lasting(duration) {
            Ok(sleep) => Box::pin(sleep),
            Err(_) => Box::pin(RuntimeSleep(Box::pin(tokio::time::sleep(duration)))),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Sleep for KernelSleep {}

struct RuntimeSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for RuntimeSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for RuntimeSleep {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_its_deadline_and_not_before() {
        let wanted = Duration::from_millis(30);
        let start = Instant::now();
        KernelTimer.sleep(wanted).await;
        assert!(start.elapsed() >= wanted);
        KernelTimer.sleep_until(Instant::now()).await;
        RuntimeSleep(Box::pin(tokio::time::sleep(Duration::ZERO))).await;
    }
}
