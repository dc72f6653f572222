//! The runtime directory itself: made, mounted or checked, and locked against a second agent.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{major, minor, stat};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::geteuid;

use tracing::warn;

use super::dir::{Dir, FileSystem};
use crate::clock::BootMark;
use crate::reconcile::{RuntimeError, RuntimeOptions};

/// The runtime directory, ready to be used by this process alone.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    pub(crate) dir: Dir,
    /// How it is kept out of swap, for people.
    pub(crate) protection: String,
    /// Lives and dies with what is in the directory.
    pub(crate) boot: BootMark,
    /// Held for as long as this process uses the directory.
    lock: File,
}

impl RuntimeDir {
    /// Makes it as [`prepare`] does, and holds its lock.
    pub(crate) fn open(options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        let (dir, kept) = reach(options, Want::KeptOutOfSwap)?;
        let lock = lock(&dir)?;
        Ok(Self {
            protection: protection(&options.dir, kept),
            boot: boot_mark(&lock),
            dir,
            lock,
        })
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // A child between its fork and its program has this file too: closed here alone it would stay locked.
        self.lock.unlock().ok();
    }
}

/// Makes and mounts the runtime directory as the options say, and says how it keeps what is written
/// there out of swap. Part of a larger tmpfs, as below `/run`, gets a mount of its own too: with its
/// own size, and safe from swap that is switched on later. What is mounted there already stays as it
/// is, so that this may be done again at any time, while an agent uses it too.
///
/// # Errors
/// When it is not in memory and cannot be mounted, or belongs to, or is open to, somebody else.
pub fn prepare(options: &RuntimeOptions) -> Result<String, RuntimeError> {
    let (_, kept) = reach(options, Want::OwnMount)?;
    Ok(protection(&options.dir, kept))
}

/// What is worth a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    KeptOutOfSwap,
    OwnMount,
}

/// The directory, in memory.
fn reach(options: &RuntimeOptions, want: Want) -> Result<(Dir, Swap), RuntimeError> {
    let path = options.dir.as_path();
    let made = make(path)?;
    let mut dir = open(path)?;
    if made {
        // Whatever the umask: services must get through.
        dir.set_mode(0o755)
            .map_err(|error| RuntimeError(error.to_string()))?;
    }
    require_own(&dir)?;
    let mut kept = swap(&dir)?;
    if options.mount && should_mount(path, kept, want) {
        match mount_tmpfs(path, options.size) {
            Ok(()) => {
                // What was open lies under the mount now.
                dir = open(path)?;
                kept = swap(&dir)?;
            }
            // Not allowed: what is there must do, if it is tmpfs at all.
            Err(errno) if kept == Swap::NotMemory => return Err(not_memory(path, Some(errno))),
            Err(_) => {}
        }
    }
    if kept == Swap::NotMemory {
        return Err(not_memory(path, None));
    }
    Ok((dir, kept))
}

fn protection(path: &Path, kept: Swap) -> String {
    format!("runtime directory {}: {}", path.display(), kept.describe())
}

/// How what is written to a directory is kept out of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    NotMemory,
    Ramfs,
    NoSwapOption,
    NoSwapAtStart,
    Swappable,
}

impl Swap {
    fn describe(self) -> &'static str {
        match self {
            Self::NotMemory => "not in memory",
            Self::Ramfs => "ramfs, never swapped",
            Self::NoSwapOption => "tmpfs with noswap",
            Self::NoSwapAtStart => {
                "tmpfs without noswap; this machine had no swap when the agent started"
            }
            Self::Swappable => {
                "tmpfs without noswap: values could be swapped out. Mount it with noswap (Linux 6.4 \
                 or later), encrypt swap, or switch it off"
            }
        }
    }
}

/// Whether it was not there.
fn make(path: &Path) -> Result<bool, RuntimeError> {
    if path.exists() {
        return Ok(false);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map(|()| true)
        .map_err(|error| {
            RuntimeError(format!(
                "cannot make the runtime directory {}: {error}. Make it, or set runtime_dir to a \
                 directory that this user may make",
                path.display()
            ))
        })
}

fn open(path: &Path) -> Result<Dir, RuntimeError> {
    Dir::open(path).map_err(|error| RuntimeError(error.to_string()))
}

/// Whoever may write to the runtime directory decides what services read.
fn require_own(dir: &Dir) -> Result<(), RuntimeError> {
    let stat = dir.stat_self().map_err(|e| RuntimeError(e.to_string()))?;
    let path = dir.path().display();
    let me = geteuid();
    if stat.st_uid != me.as_raw() {
        return Err(RuntimeError(format!(
            "the runtime directory {path} belongs to user {}, and the agent runs as user {me}: \
             chown it, or set runtime_dir to another directory",
            stat.st_uid
        )));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(RuntimeError(format!(
            "the runtime directory {path} can be written to by others: chmod go-w {path}"
        )));
    }
    Ok(())
}

fn swap(dir: &Dir) -> Result<Swap, RuntimeError> {
    let kind = dir.file_system().map_err(|e| RuntimeError(e.to_string()))?;
    Ok(match kind {
        FileSystem::Other => Swap::NotMemory,
        FileSystem::Ramfs => Swap::Ramfs,
        FileSystem::Tmpfs if has_noswap(dir) => Swap::NoSwapOption,
        FileSystem::Tmpfs if no_swap_at_all() => Swap::NoSwapAtStart,
        FileSystem::Tmpfs => Swap::Swappable,
    })
}

/// What is a mount of its own already is the administrator's choice and stays, and what is delivered
/// never vanishes below one that nobody needs.
fn should_mount(path: &Path, kept: Swap, want: Want) -> bool {
    if is_mount_point(path) {
        return false;
    }
    let empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    matches!(kept, Swap::NotMemory | Swap::Swappable) || want == Want::OwnMount && empty()
}

fn is_mount_point(path: &Path) -> bool {
    let parent = path.join("..");
    match (stat(path), stat(&parent)) {
        (Ok(here), Ok(above)) => here.st_dev != above.st_dev || here.st_ino == above.st_ino,
        _ => false,
    }
}

/// `noswap` needs Linux 6.4 and the first user namespace; where it is refused, ramfs would be without
/// a bound, so that plain tmpfs is next.
fn mount_tmpfs(path: &Path, size: u64) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // A page is the least that a file takes; directories and links take an inode and no page.
    let inodes = (size / PAGE).saturating_mul(4).max(LEAST_INODES);
    let options = format!("mode=0755,size={size},nr_inodes={inodes}");
    let try_with = |options: &str| {
        mount(
            Some("edge-secrets"),
            path,
            Some("tmpfs"),
            flags,
            Some(options),
        )
    };
    match try_with(&format!("{options},noswap")) {
        Err(Errno::EINVAL) => try_with(&options),
        result => result,
    }
}

fn lock(dir: &Dir) -> Result<File, RuntimeError> {
    let failed = |error: &dyn std::fmt::Display| {
        RuntimeError(format!("cannot lock {}: {error}", dir.path().display()))
    };
    let file = dir.ensure_file(LOCK, 0o600).map_err(|e| failed(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RuntimeError(format!(
            "another edge-secrets-agent uses {}: stop it first, or give this one a runtime_dir of \
             its own",
            dir.path().display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// The mark that the lock's file bears. It gets one when it has none; where there is no room for that, the
/// next life of the agent takes itself for the first one after a boot.
fn boot_mark(mut lock: &File) -> BootMark {
    let mut bytes = Vec::new();
    let read = lock.take(MOST_MARK).read_to_end(&mut bytes).is_ok();
    if let (true, Ok(mark)) = (read, BootMark::try_from(bytes.as_slice())) {
        return mark;
    }
    let mark = BootMark::new();
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(mark.as_bytes()));
    if let Err(error) = written {
        warn!(%error, "This boot's mark cannot be written.");
    }
    mark
}

fn not_memory(path: &Path, mount: Option<Errno>) -> RuntimeError {
    let path = path.display();
    let tried = match mount {
        Some(errno) => format!(" and could not be mounted as one ({})", errno.desc()),
        None => String::new(),
    };
    RuntimeError(format!(
        "the runtime directory {path} is not tmpfs or ramfs{tried}; values are written nowhere else. \
         Mount one (mount -t tmpfs -o noswap,nosuid,nodev,noexec,mode=0755 edge-secrets {path}), run \
         the agent as root with tmpfs.mount: auto, or set runtime_dir to a directory under \
         XDG_RUNTIME_DIR or /dev/shm"
    ))
}

/// Whether the mount that `dir` is on says `noswap`, from proc(5) `mountinfo`.
fn has_noswap(dir: &Dir) -> bool {
    let (Ok(stat), Ok(mounts)) = (dir.stat_self(), fs::read_to_string("/proc/self/mountinfo"))
    else {
        return false;
    };
    let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(&device))
        .filter_map(|line| line.rsplit(' ').next())
        .any(|options| options.split(',').any(|option| option == "noswap"))
}

/// Asked of the kernel and not of `/proc/swaps`, which a service with `ProcSubset=pid` does not see.
fn no_swap_at_all() -> bool {
    sysinfo().is_ok_and(|machine| machine.swap_total() == 0)
}

/// More than a mark has.
const MOST_MARK: u64 = 64;
const LOCK: &str = "lock";
const PAGE: u64 = 4096;
const LEAST_INODES: u64 = 16 * 1024;
