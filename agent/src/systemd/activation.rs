//! What systemd hands over at start (sd_listen_fds(3)): the listening socket for credentials, and
//! the connections that the process before has stored.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use tracing::{info, warn};

use crate::sys;

/// What was handed over, not blocking and closed in children.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// The socket of `FileDescriptorName=credentials`.
    pub(crate) credentials: Option<UnixListener>,
    /// Connections, and marks beside them, by the names under which they were stored; each starts
    /// with [`STORED_PREFIX`].
    pub(crate) stored: Vec<(String, OwnedFd)>,
}

/// Takes over what was handed over; a second call gets nothing. Whatever else was handed over is
/// closed. To be called before the process opens anything, as only the start knows that the
/// descriptors are those that systemd speaks of.
pub(crate) fn take() -> Inherited {
    match sys::inherited() {
        Ok(fds) => sort(fds),
        Err(reason) => {
            warn!(%reason, "Descriptors from systemd cannot be taken over.");
            Inherited::default()
        }
    }
}

fn sort(fds: Vec<(String, OwnedFd)>) -> Inherited {
    let mut inherited = Inherited::default();
    for (name, fd) in fds {
        // systemd passes names as they were set; a log line is one line.
        let shown = name.escape_default();
        if name == LISTENER && inherited.credentials.is_none() && is_stream(&fd, true) {
            let listener = UnixListener::from(fd);
            match listener.set_nonblocking(true) {
                Ok(()) => inherited.credentials = Some(listener),
                Err(reason) => warn!(%reason, "The socket from systemd cannot be used."),
            }
        } else if name.starts_with(STORED_PREFIX) && is_stream(&fd, false) {
            let stream = UnixStream::from(fd);
            match stream.set_nonblocking(true) {
                Ok(()) => inherited.stored.push((name, stream.into())),
                Err(reason) => warn!(name = %shown, %reason, "A stored connection is lost."),
            }
        } else if name.starts_with(STORED_PREFIX) && is_mark(&fd) {
            inherited.stored.push((name, fd));
        } else {
            warn!(
                name = %shown,
                "Descriptor from systemd closed: it is none that the agent knows. Compare the \
                 socket units' FileDescriptorName= with those of the package."
            );
        }
    }
    if inherited.credentials.is_some() || !inherited.stored.is_empty() {
        info!(
            listening = inherited.credentials.is_some(),
            stored = inherited.stored.len(),
            "Sockets taken over from systemd."
        );
    }
    inherited
}

/// Whether it is an AF_UNIX stream socket, listening or connected.
fn is_stream(fd: &OwnedFd, listening: bool) -> bool {
    let local = getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok();
    let stream = getsockopt(&fd.as_fd(), sockopt::SockType) == Ok(SockType::Stream);
    let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn) == Ok(true);
    let connected = getpeername::<UnixAddr>(fd.as_raw_fd()).is_ok();
    local && stream && listens == listening && (listening || connected)
}

/// Whether it is an AF_UNIX datagram socket, which is stored for its name alone.
fn is_mark(fd: &OwnedFd) -> bool {
    let local = getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok();
    local && getsockopt(&fd.as_fd(), sockopt::SockType) == Ok(SockType::Datagram)
}

const LISTENER: &str = "credentials";
/// What the name of every stored connection starts with.
pub(crate) const STORED_PREFIX: &str = "credential-";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    fn listener(dir: &tempfile::TempDir) -> UnixListener {
        UnixListener::bind(dir.path().join("credentials.sock")).unwrap()
    }

    #[test]
    fn only_what_is_known_and_what_it_should_be_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        let inherited = sort(vec![
            (
                "credentials".to_owned(),
                TcpListener::bind("[::1]:0").unwrap().into(),
            ),
            ("credentials".to_owned(), one.into()),
            ("credentials".to_owned(), listener(&dir).into()),
            ("credential-a".to_owned(), other.into()),
            ("credential-sending-a".to_owned(), datagram.into()),
            (
                "credential-c".to_owned(),
                std::fs::File::open("/dev/null").unwrap().into(),
            ),
            ("unknown".to_owned(), UnixStream::pair().unwrap().0.into()),
        ]);
        assert!(inherited.credentials.is_some());
        let names: Vec<_> = inherited
            .stored
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["credential-a", "credential-sending-a"]);
    }

    #[test]
    fn what_systemd_passes_is_taken_once_and_closed_in_children() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, _peer) = UnixStream::pair().unwrap();
        // The shell puts its input and output where systemd would put the two.
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg("exec 3<&0 4<&1 1>&2; LISTEN_PID=$$ exec \"$0\" \"$@\"")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "systemd::activation::tests::inherit",
            ])
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "credentials:credential-7")
            .stdin(Stdio::from(OwnedFd::from(listener(&dir))))
            .stdout(Stdio::from(OwnedFd::from(kept)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}"
        );
    }

    #[test]
    #[ignore = "run by what_systemd_passes_is_taken_once_and_closed_in_children, in a process of \
                its own"]
    fn inherit() {
        let first = take();
        let second = take();
        assert!(second.credentials.is_none() && second.stored.is_empty());
        let [(name, stored)] = &first.stored[..] else {
            panic!("{first:?}");
        };
        assert_eq!(name, "credential-7");
        let listener = first.credentials.as_ref().unwrap();
        for fd in [listener.as_fd(), stored.as_fd()] {
            let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let status = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
            assert!(status.contains(OFlag::O_NONBLOCK));
        }
    }
}
