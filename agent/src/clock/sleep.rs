//! A sleep of the kernel's (timerfd_create(2)): one wake-up per deadline. The runtime's own timer wheel
//! wakes up to three times for a deadline some seconds away, which an idle agent would do all day.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::BootTime;

/// Ends at its deadline, and stays over.
pub(crate) struct KernelSleep {
    fd: AsyncFd<OwnedFd>,
}

impl KernelSleep {
    /// So long from now, while the machine is awake.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub(crate) fn lasting(duration: Duration) -> io::Result<Self> {
        Self::new(
            ClockId::CLOCK_MONOTONIC,
            duration,
            TimerSetTimeFlags::empty(),
        )
    }

    /// Until then, whether or not the machine was suspended meanwhile.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub(crate) fn until(deadline: BootTime) -> io::Result<Self> {
        let since = deadline.since(BootTime::LONG_AGO);
        let absolute = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        Self::new(ClockId::CLOCK_BOOTTIME, since, absolute)
    }

    fn new(clock: ClockId, time: Duration, flags: TimerSetTimeFlags) -> io::Result<Self> {
        let timer = TimerFd::new(clock, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        // Zero would mean never, and the kernel's seconds are signed.
        let time = time.clamp(Duration::from_nanos(1), FAR);
        timer.set(Expiration::OneShot(TimeSpec::from_duration(time)), flags)?;
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

/// Some centuries.
const FAR: Duration = Duration::from_secs(1 << 34);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Now;
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_its_deadline_and_not_before() {
        for millis in [0, 30] {
            let wanted = Duration::from_millis(millis);
            let start = Instant::now();
            KernelSleep::lasting(wanted).unwrap().await;
            assert!(start.elapsed() >= wanted);
            let deadline = Now::read().boot.after(wanted);
            KernelSleep::until(deadline).unwrap().await;
            assert!(Now::read().boot >= deadline);
        }
        KernelSleep::until(BootTime::LONG_AGO).unwrap().await;
    }

    #[tokio::test]
    async fn a_sleep_that_is_over_stays_over() {
        let mut sleep = KernelSleep::lasting(Duration::ZERO).unwrap();
        (&mut sleep).await;
        (&mut sleep).await;
    }

    #[tokio::test]
    async fn the_end_of_time_is_not_reached() {
        let far = BootTime::LONG_AGO.after(Duration::MAX);
        let sleep = KernelSleep::until(far).unwrap();
        let soon = KernelSleep::lasting(Duration::from_millis(10)).unwrap();
        tokio::select! {
            () = sleep => panic!("it is not the end of time"),
            () = soon => {}
        }
    }
}
