//! The only unsafe code of the agent: memory mappings as slices, the calls that nix lacks
//! (`memfd_secret`, write leases, what is unsent on a socket, a peer's groups), and descriptors that
//! were inherited. Everything here has a safe face.
#![expect(
    unsafe_code,
    reason = "raw mappings, inherited descriptors and a few system calls that have no safe wrapper \
              elsewhere"
)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};
use nix::unistd::ftruncate;

/// A private piece of memory, zeros at first, unmapped when dropped. Wiping it is the owner's task.
pub(crate) struct Map {
    start: NonNull<u8>,
    len: NonZeroUsize,
}

impl Map {
    /// Memory that the kernel itself does not map, from `memfd_secret(2)`: never swapped, moved,
    /// dumped or inherited. Fails where the kernel has none or `RLIMIT_MEMLOCK` is too low.
    pub(crate) fn secret(len: NonZeroUsize) -> nix::Result<Self> {
        // SAFETY: the call takes one flags argument, reads no memory and gives a new descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just given this descriptor, and nothing else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let size = i64::try_from(len.get()).map_err(|_| Errno::EFBIG)?;
        ftruncate(&fd, size)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses an unused address; the mapping outlives the descriptor.
        let start = unsafe { mman::mmap(None, len, protection, MapFlags::MAP_SHARED, &fd, 0)? };
        let map = Self {
            start: start.cast(),
            len,
        };
        map.advise(MmapAdvise::MADV_DONTFORK)?;
        Ok(map)
    }

    /// Ordinary anonymous memory, kept out of core dumps and children.
    pub(crate) fn anonymous(len: NonZeroUsize) -> nix::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses an unused address.
        let start = unsafe { mman::mmap_anonymous(None, len, protection, MapFlags::MAP_PRIVATE)? };
        let map = Self {
            start: start.cast(),
            len,
        };
        map.advise(MmapAdvise::MADV_DONTDUMP)?;
        map.advise(MmapAdvise::MADV_WIPEONFORK)?;
        map.advise(MmapAdvise::MADV_DONTFORK)?;
        Ok(map)
    }

    /// Keeps the memory out of swap, as far as `RLIMIT_MEMLOCK` allows.
    pub(crate) fn lock(&self) -> nix::Result<()> {
        // SAFETY: the range is a mapping of our own; locking does not change its content.
        unsafe { mman::mlock(self.start.cast(), self.len.get()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` bytes, readable, writable, initialised (zeros), used by
        // nobody else, and borrowed for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len.get()) }
    }

    fn advise(&self, advice: MmapAdvise) -> nix::Result<()> {
        // SAFETY: the range is a mapping of our own, and none of the advice given in this file
        // changes what this process reads from it.
        unsafe { mman::madvise(self.start.cast(), self.len.get(), advice) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is a mapping of our own, and no slice of it can outlive `self`. It
        // cannot fail for a range that was mapped as a whole.
        unsafe { mman::munmap(self.start.cast(), self.len.get()) }.ok();
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Map` has no shared mutability.
unsafe impl Send for Map {}

/// Takes a write lease (fcntl(2), `F_SETLEASE`) on an open file: it succeeds only when nobody else
/// has the file open or mapped, and ends with the descriptor.
///
/// # Errors
/// `EAGAIN` when somebody has it.
pub(crate) fn write_lease(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // Who opens the file meanwhile breaks the lease, and the kernel then sends a signal: by default
    // SIGIO, which would end the agent. SIGURG is ignored by default.
    // SAFETY: both calls take integers alone, and the descriptor is open while it is borrowed.
    let signal = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, libc::SIGURG) };
    Errno::result(signal)?;
    // SAFETY: as above.
    let lease = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    Errno::result(lease).map(drop)
}

/// The descriptors that systemd has handed to this process, with their names (sd_listen_fds(3)), set
/// to be closed in children. A second call gives none.
///
/// # Errors
/// When what the environment says of them is malformed, or one of them is not open.
pub(crate) fn inherited() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let fds = sd_notify::listen_fds_with_names()?;
    Ok(fds
        .map(|(fd, name)| {
            // SAFETY: the descriptor is open, as was just checked. systemd handed it to this very
            // process (LISTEN_PID), so nothing else in it owns it, and it is given out only once.
            (name, unsafe { OwnedFd::from_raw_fd(fd) })
        })
        .collect())
}

/// How much of what was written to a Unix stream socket its peer has not read yet (`SIOCOUTQ`,
/// which is `TIOCOUTQ`). Counts the kernel's own memory for it, so it is more than the bytes; 0 or 1
/// when the peer has read everything.
pub(crate) fn unread_by_peer(socket: BorrowedFd<'_>) -> nix::Result<usize> {
    let mut size: libc::c_int = 0;
    // SAFETY: the call writes one integer to where it is pointed, and the descriptor is open while
    // it is borrowed.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut size) };
    Errno::result(done)?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// The supplementary groups that the other end of a Unix socket had when it connected (unix(7),
/// `SO_PEERGROUPS`).
///
/// # Errors
/// When the kernel is older than Linux 4.13, or the socket is none of these.
pub(crate) fn peer_groups(fd: BorrowedFd<'_>) -> nix::Result<Vec<libc::gid_t>> {
    let mut groups = vec![0; MAX_GROUPS];
    let size = size_of::<libc::gid_t>();
    let mut len = libc::socklen_t::try_from(groups.len() * size).map_err(|_| Errno::ERANGE)?;
    // SAFETY: the kernel writes at most `len` bytes into the vector's own memory, which is as long,
    // and any bytes are valid ids; `len` outlives the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    Errno::result(result)?;
    groups.truncate(usize::try_from(len).unwrap_or(0) / size);
    Ok(groups)
}

/// Far more than anybody is in; a peer with more gets `ERANGE`.
const MAX_GROUPS: usize = 1024;
/// `F_SETSIG` of Linux (`include/uapi/asm-generic/fcntl.h`); the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;
