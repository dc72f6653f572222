//! What the agent tells systemd about itself (sd_notify(3)). Without systemd nothing happens.
//!
//! The environment stays as it is, since changing it is not sound while threads run; whatever the
//! agent starts gets an environment of its own.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The way to the manager that started this process.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    watchdog: Option<Duration>,
    heard: bool,
}

impl Notifier {
    /// Reads the environment.
    pub(crate) fn from_env() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()),
            heard: std::env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }

    /// Whether there is anybody to tell.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard
    }

    /// The agent is ready, or has read its configuration again.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// How things stand, in one line for `systemctl status`.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&line(status))]);
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends that.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(reason) => warn!(%reason, "The clock cannot be read to announce a reload."),
        }
    }

    /// The agent is about to end.
    pub(crate) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// How often to call [`watchdog`](Self::watchdog), where systemd wants a sign of life: twice as
    /// often as it must be.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The agent lives.
    pub(crate) fn watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// Has systemd keep a descriptor and hand it to the agent's next process under that name
    /// (`FileDescriptorStoreMax=`). It is kept even if its other end hangs up, until
    /// [`unstore`](Self::unstore).
    pub(crate) fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        let state = [
            NotifyState::FdStore,
            NotifyState::FdName(name),
            NotifyState::Custom("FDPOLL=0"),
        ];
        if let Err(reason) = storable(name).and_then(|()| sd_notify::notify_with_fds(&state, &[fd]))
        {
            warn!(name, %reason, "systemd cannot be given a descriptor to keep.");
        }
    }

    /// Has systemd close every stored descriptor of that name.
    pub(crate) fn unstore(&self, name: &str) {
        match storable(name) {
            Ok(()) => self.tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]),
            Err(reason) => warn!(name, %reason, "No such descriptor is stored."),
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if let Err(reason) = sd_notify::notify(state) {
            warn!(%reason, "systemd cannot be notified.");
        }
    }
}

/// The protocol is one assignment a line.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// What sd_notify(3) says of FDNAME=.
fn storable(name: &str) -> io::Result<()> {
    let allowed = |c: char| c.is_ascii_graphic() && c != ':';
    if !name.is_empty() && name.len() <= 255 && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name is not one that systemd takes",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

    use super::*;

    #[test]
    fn notifications_reach_the_manager_in_its_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "systemd::notify::tests::speak"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "3000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");

        let mut heard = Vec::new();
        manager.set_nonblocking(true).unwrap();
        let mut descriptors = 0;
        let mut buffer = [0; 512];
        loop {
            let mut space = nix::cmsg_space!([std::os::fd::RawFd; 2]);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<()>(manager.as_raw_fd(), &mut parts, Some(&mut space), flags);
            let Ok(received) = received else { break };
            for message in received.cmsgs().unwrap() {
                if let ControlMessageOwned::ScmRights(fds) = message {
                    descriptors += fds.len();
                }
            }
            let len = received.bytes;
            heard.push(String::from_utf8(buffer[..len].to_vec()).unwrap());
        }
        let reload = heard.remove(2);
        assert!(
            reload.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{reload}"
        );
        let expected = [
            "READY=1\nSTATUS=2 services  ready\n",
            "STATUS=waiting\n",
            "WATCHDOG=1\n",
            "FDSTORE=1\nFDNAME=credential-1\nFDPOLL=0\n",
            "FDSTOREREMOVE=1\nFDNAME=credential-1\n",
            "STOPPING=1\n",
        ];
        assert_eq!(heard, expected);
        assert_eq!(descriptors, 1);
    }

    #[test]
    #[ignore = "run by notifications_reach_the_manager_in_its_protocol, in a process of its own"]
    fn speak() {
        let notifier = Notifier::from_env();
        assert_eq!(
            notifier.watchdog_interval(),
            Some(Duration::from_millis(1500))
        );
        notifier.ready("2 services\n ready");
        notifier.status("waiting");
        notifier.reloading();
        notifier.watchdog();
        notifier.store("credential-1", std::io::stdin().as_fd());
        notifier.store("not:a name", std::io::stdin().as_fd());
        notifier.unstore("credential-1");
        notifier.stopping();
    }
}
