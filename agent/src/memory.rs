//! The agent's own memory: the one buffer in which values are opened, and the switches that keep the
//! process from being dumped.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use zeroize::Zeroize;

use crate::sys::Map;

/// Keeps the process from leaving a core dump and from being read by others of the same user. Says
/// for people what was reached; nothing fails.
///
/// Call it first in `main`. Undone by `execve`. Not promised: that root or the kernel cannot read.
pub fn harden_process() -> Vec<String> {
    let dumpable = match prctl::set_dumpable(false) {
        Ok(()) => "process: not dumpable, not traceable by its own user".to_owned(),
        Err(errno) => format!("process: still dumpable ({errno})"),
    };
    let core = match setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        Ok(()) => "core dumps: size limit 0".to_owned(),
        Err(errno) => format!("core dumps: no size limit ({errno})"),
    };
    vec![dumpable, core]
}

/// How well a [`LockedBuffer`] is kept from leaving the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret(2)`: not even in the kernel's own map.
    SecretMemory,
    /// Locked in RAM and left out of core dumps.
    Locked,
    /// Left out of core dumps; could be swapped out while in use.
    Unlocked,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretMemory => "buffer: secret memory (memfd_secret), never swapped or dumped",
            Self::Locked => "buffer: locked in memory (mlock), not dumped",
            Self::Unlocked => {
                "buffer: not dumped, but it could be swapped: raise LimitMEMLOCK (RLIMIT_MEMLOCK)"
            }
        })
    }
}

/// The one place where values stand in clear: wiped after every use, and never copied when it grows.
pub struct LockedBuffer {
    map: Map,
    protection: Protection,
}

/// There is no memory for the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot get {len} bytes of memory for values: {errno}")]
pub struct BufferError {
    len: usize,
    errno: nix::Error,
}

impl LockedBuffer {
    /// A small buffer, with the best protection that this kernel and the limits give.
    ///
    /// # Errors
    /// When there is no memory at all.
    pub fn new() -> Result<Self, BufferError> {
        Self::with_len(SMALL)
    }

    /// `len` bytes of zero to work in; wiped when the room is dropped. A larger buffer replaces the
    /// present one where that is too small.
    ///
    /// # Errors
    /// When there is no memory for so much.
    pub fn room(&mut self, len: usize) -> Result<Room<'_>, BufferError> {
        if len > self.map.len() {
            // What stood in the smaller one was wiped when its room was dropped.
            *self = Self::with_len(len)?;
        }
        let bytes = self.map.bytes_mut();
        let len = len.min(bytes.len());
        let (room, _) = bytes.split_at_mut(len);
        Ok(Room(room))
    }

    /// Gives memory back that a large value needed and small ones do not.
    pub fn shrink(&mut self) {
        if self.map.len() > LARGE
            && let Ok(small) = Self::new()
        {
            *self = small;
        }
    }

    /// What was reached.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    fn with_len(len: usize) -> Result<Self, BufferError> {
        let whole = len
            .checked_next_multiple_of(PAGE)
            .and_then(NonZeroUsize::new);
        let whole = whole.unwrap_or(NonZeroUsize::MIN.saturating_add(PAGE - 1));
        if let Ok(map) = Map::secret(whole) {
            return Ok(Self {
                map,
                protection: Protection::SecretMemory,
            });
        }
        let map = Map::anonymous(whole).map_err(|errno| BufferError { len, errno })?;
        let protection = match map.lock() {
            Ok(()) => Protection::Locked,
            Err(_) => Protection::Unlocked,
        };
        Ok(Self { map, protection })
    }
}

impl Drop for LockedBuffer {
    fn drop(&mut self) {
        // Every room has wiped itself; this is for a room that was leaked.
        self.map.bytes_mut().zeroize();
    }
}

impl fmt::Debug for LockedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBuffer({:?}, ..)", self.protection)
    }
}

/// A part of the buffer in use.
pub struct Room<'a>(&'a mut [u8]);

impl Deref for Room<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl DerefMut for Room<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

const PAGE: usize = 4096;
const SMALL: usize = 16 * PAGE;
const LARGE: usize = 64 * PAGE;

#[cfg(test)]
mod tests {
    use nix::sys::resource::getrlimit;

    use super::*;

    #[test]
    fn a_room_is_wiped_when_it_is_dropped() {
        let mut buffer = LockedBuffer::new().unwrap();
        buffer.room(7).unwrap().copy_from_slice(b"hunter2");
        assert_eq!(*buffer.room(7).unwrap(), [0; 7]);
        assert!(buffer.map.bytes_mut().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_buffer_grows_for_a_large_value_and_gives_it_back() {
        let mut buffer = LockedBuffer::new().unwrap();
        let large = 3 * LARGE + 1;
        {
            let mut room = buffer.room(large).unwrap();
            assert_eq!(room.len(), large);
            room.fill(7);
        }
        assert!(buffer.room(large).unwrap().iter().all(|byte| *byte == 0));
        buffer.shrink();
        assert_eq!(buffer.map.len(), SMALL);
    }

    #[test]
    fn debug_shows_no_content() {
        let buffer = LockedBuffer::new().unwrap();
        let shown = format!("{buffer:?}");
        assert!(shown.ends_with(", ..)"), "{shown}");
    }

    #[test]
    fn a_hardened_process_leaves_no_dump() {
        let reached = harden_process();
        assert!(reached[0].contains("not dumpable"), "{reached:?}");
        assert!(!prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }

    #[test]
    fn people_are_told_which_protection_was_reached() {
        let buffer = LockedBuffer::new().unwrap();
        let told = buffer.protection().to_string();
        assert_eq!(
            told.contains("could be swapped"),
            buffer.protection() == Protection::Unlocked
        );
    }

    #[test]
    fn ordinary_memory_works_where_there_is_no_secret_memory() {
        let mut map = Map::anonymous(NonZeroUsize::new(PAGE).unwrap()).unwrap();
        map.bytes_mut()[PAGE - 1] = 7;
        assert_eq!(map.bytes_mut()[PAGE - 1], 7);
        assert_eq!(map.len(), PAGE);
    }
}
