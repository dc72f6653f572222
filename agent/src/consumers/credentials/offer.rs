//! A value that is ready to be given: its file, open.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use tokio::net::UnixStream;

use super::peer::Peer;
use crate::consumers::names::FileName;
use crate::delivery::open_delivered;

/// An open value. As long as it is open, a superseded one is not wiped before its grace is over.
#[derive(Debug)]
pub(super) struct Offer {
    file: File,
    size: u64,
    /// The time of its last change, in seconds and nanoseconds.
    written: (i64, i64),
}

/// Why a value did not arrive as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoiled {
    /// The peer has gone, or does not read on.
    Gone,
    /// The value was wiped while the peer read it.
    Wiped,
}

impl Offer {
    /// Opens `file` of the generation; none when it is not there any more. Between this call's steps
    /// the agent does nothing else, so that what is opened here has not been wiped.
    ///
    /// # Errors
    /// When something other than a regular file stands there, or it cannot be opened.
    pub(super) fn open(generation: &Path, file: &FileName) -> nix::Result<Option<Self>> {
        match open_delivered(generation, file) {
            Ok(file) => {
                let found = file.metadata().map_err(|error| errno(&error))?;
                if !found.is_file() {
                    return Err(Errno::ELOOP);
                }
                Ok(Some(Self {
                    size: found.len(),
                    written: (found.mtime(), found.mtime_nsec()),
                    file,
                }))
            }
            // Not blocking, the wiper's lease gives the latter.
            Err(Errno::ENOENT | Errno::EWOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether one call of the kernel takes all of it on a fresh connection (its queue holds some 200
    /// KiB, and the call goes in steps of 64): nothing can end the agent in the middle.
    pub(super) fn is_one_piece(&self) -> bool {
        self.size <= ONE_PIECE
    }

    /// Gives the value, and returns when the peer has read every byte, with the stream still open.
    ///
    /// The bytes go from the file to the socket without passing through the agent's memory, and not
    /// even a copy is made: the socket's queue holds the file's own pages. What is wiped before the
    /// peer has read it, the peer would read as zeros. So the end of the stream, which makes it a
    /// credential, may only be written when the file is seen to be as it was after the last byte was
    /// read.
    ///
    /// # Errors
    /// When it does not arrive as a whole.
    pub(super) async fn give(&self, peer: &Peer) -> Result<(), Spoiled> {
        let gone = |_| Spoiled::Gone;
        let mut sent = 0_i64;
        loop {
            let left = self.size.saturating_sub(u64::try_from(sent).unwrap_or(0));
            let Ok(left @ 1..) = usize::try_from(left) else {
                break;
            };
            let mut send = |socket: &UnixStream| {
                sendfile(socket, &self.file, Some(&mut sent), left).map_err(io::Error::from)
            };
            if peer.write(&mut send).await.map_err(gone)? == 0 {
                return Err(Spoiled::Wiped);
            }
        }
        peer.read_all().await.map_err(gone)?;
        if self.is_as_it_was() {
            Ok(())
        } else {
            Err(Spoiled::Wiped)
        }
    }

    /// What is undeployed is overwritten and removed at once; what is superseded, overwritten when
    /// its grace is over, which changes the time.
    fn is_as_it_was(&self) -> bool {
        self.file.metadata().is_ok_and(|now| {
            now.nlink() > 0
                && now.len() == self.size
                && (now.mtime(), now.mtime_nsec()) == self.written
        })
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

const ONE_PIECE: u64 = 64 * 1024;
