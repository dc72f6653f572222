//! The timer of the connection's pings: one wake-up per deadline. The runtime's own timer wheel
//! wakes up to three times for a deadline some seconds away, which an idle agent would do all day.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Makes timers of the kernel (timerfd_create(2)), or of the runtime where there are none left.
#[derive(Debug, Clone, Copy)]
pub(super) struct KernelTimer;

impl Timer for KernelTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        match KernelSleep::new(duration) {
            Ok(sleep) => Box::pin(sleep),
            Err(_) => Box::pin(RuntimeSleep(Box::pin(tokio::time::sleep(duration)))),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

struct KernelSleep {
    fd: AsyncFd<OwnedFd>,
}

impl KernelSleep {
    fn new(duration: Duration) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Zero would mean never.
        let duration = duration.max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(duration));
        timer.set(once, TimerSetTimeFlags::empty())?;
        #[expect(
            deprecated,
            reason = "its caller must keep the descriptor open and the same, as OwnedFd does; the \
                      newer `register` is unsafe to call"
        )]
        let fd = AsyncFd::new(OwnedFd::from(timer))?;
        Ok(Self { fd })
    }
}

impl Future for KernelSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Readable from the deadline on, for ever: that it was polled before does not matter. An
        // error, which only a runtime that shuts down gives, ends the sleep as well.
        if let Ok(mut guard) = ready!(self.fd.poll_read_ready(context)) {
            guard.retain_ready();
        }
        Poll::Ready(())
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
        for millis in [0, 30] {
            let wanted = Duration::from_millis(millis);
            let start = Instant::now();
            KernelTimer.sleep(wanted).await;
            assert!(start.elapsed() >= wanted);
        }
        KernelTimer.sleep_until(Instant::now()).await;
        RuntimeSleep(Box::pin(tokio::time::sleep(Duration::ZERO))).await;
    }

    #[tokio::test]
    async fn a_sleep_that_is_over_stays_over() {
        let mut sleep = KernelSleep::new(Duration::ZERO).unwrap();
        (&mut sleep).await;
        (&mut sleep).await;
    }
}
