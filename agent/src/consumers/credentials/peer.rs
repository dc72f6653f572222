//! The connection itself.
//!
//! Readiness comes in edges: a call that the kernel can answer at once is made without asking for
//! it, and only then is an edge awaited. So a connection that waits wakes nobody.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{MsgFlags, Shutdown, getsockopt, send, shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;

use std::os::fd::AsRawFd;

use super::address::{AddressError, Request};
use crate::sys::unread_by_peer;

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
}

impl From<UnixStream> for Peer {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}

impl Peer {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.peer_addr()?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self::from)
    }

    /// The user who connected, as the kernel saw it then.
    pub(super) fn uid(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.stream, PeerCredentials)?.uid())
    }

    /// What the peer asks for.
    ///
    /// # Errors
    /// When its address does not say.
    pub(super) fn request(&self) -> Result<Request, AddressError> {
        let address = self.stream.peer_addr().ok();
        let name = address
            .as_ref()
            .and_then(|address| address.as_abstract_name());
        Request::parse(name.ok_or(AddressError::NotAbstract)?)
    }

    /// Returns when the peer has closed the connection. systemd shuts its own direction down at
    /// once: that is not it.
    pub(super) async fn gone(&self) {
        loop {
            match self.stream.ready(Interest::WRITABLE).await {
                Ok(ready) if !ready.is_write_closed() => self.wait_for_the_next_edge(),
                _ => return,
            }
        }
    }

    /// Makes `call`, a write to the socket, when the socket has room.
    ///
    /// # Errors
    /// Those of the call but `WouldBlock`.
    pub(super) async fn write(
        &self,
        mut call: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match call(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => return done,
            }
            self.stream.ready(Interest::WRITABLE).await?;
            let again = || call(&self.stream);
            match self.stream.try_io(Interest::WRITABLE, again) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Returns when the peer has read every byte that was written.
    ///
    /// # Errors
    /// When it has closed the connection.
    pub(super) async fn read_all(&self) -> io::Result<()> {
        loop {
            if unread_by_peer(self.stream.as_fd())? <= 1 {
                return Ok(());
            }
            let ready = self.stream.ready(Interest::WRITABLE).await?;
            if ready.is_write_closed() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.wait_for_the_next_edge();
        }
    }

    /// Ends the stream: what the peer has read is its credential, wherever else the connection is
    /// still open.
    pub(super) fn finish(&self) {
        // It fails only when the peer has gone.
        shutdown(self.stream.as_raw_fd(), Shutdown::Write).ok();
    }

    /// Makes the peer's unit fail: more zeros than systemd takes, whatever it has read before, and
    /// the end only then.
    pub(super) async fn fail(&self) {
        let mut left = TOO_MUCH;
        while left > 0 {
            let zeros = |socket: &UnixStream| {
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                send(socket.as_raw_fd(), &ZEROS, flags).map_err(io::Error::from)
            };
            match self.write(zeros).await {
                Ok(written) => left = left.saturating_sub(written),
                Err(_) => break,
            }
        }
        self.finish();
    }

    /// Forgets that the socket is known to be ready; the kernel tells of the next change.
    fn wait_for_the_next_edge(&self) {
        let not_now = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        self.stream.try_io(Interest::WRITABLE, not_now).ok();
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// systemd takes 1 MiB for all credentials of a unit.
const TOO_MUCH: usize = 4 * 1024 * 1024;
static ZEROS: [u8; 4096] = [0; 4096];
