//! Directories as open descriptors, and the calls relative to them. No path with more than one
//! component is ever given to the kernel and no symbolic link is ever followed, so that nothing
//! planted in the tree leads away from it.

#[cfg(test)]
pub(crate) mod faults;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat,
};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, fchown, fchownat, getegid, geteuid, linkat, symlinkat, unlinkat};

use super::owner::Ownership;
use super::random_name;

/// A call on the runtime directory that failed. Names what and where, and what to do where that is
/// known; never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} {}: {}", path.display(), reason(*errno))]
pub(crate) struct FsError {
    what: &'static str,
    path: PathBuf,
    errno: Errno,
}

impl FsError {
    pub(crate) fn new(what: &'static str, path: PathBuf, errno: Errno) -> Self {
        Self { what, path, errno }
    }

    pub(crate) fn errno(&self) -> Errno {
        self.errno
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.errno == Errno::ENOENT
    }

    /// The file system has no room, in bytes or in inodes.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.errno, Errno::ENOSPC | Errno::EDQUOT)
    }
}

fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => {
            "the tmpfs is full; raise tmpfs.size (or the size of the mount)"
        }
        Errno::ELOOP | Errno::ENOTDIR => {
            "a symbolic link, or something else that does not belong there, is in the way; remove it"
        }
        Errno::EMEDIUMTYPE => "it is not on tmpfs or ramfs, and values are written nowhere else",
        other => other.desc(),
    }
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Link,
    Other,
}

/// An open directory. The path is for messages alone.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a path from outside: the one place where links in the leading components are followed.
    pub(crate) fn open(path: &Path) -> Result<Self, FsError> {
        let fd = openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
            .map_err(|errno| FsError::new("open", path.to_owned(), errno))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn stat_self(&self) -> Result<FileStat, FsError> {
        fstat(&self.fd).map_err(|errno| FsError::new("look at", self.path.clone(), errno))
    }

    /// Holds when the directory itself is on tmpfs or ramfs (invariant 2). Asked before every write,
    /// since a mount can come or go between two.
    pub(crate) fn require_memory(&self) -> Result<(), FsError> {
        let kind = self.file_system()?;
        if kind == FileSystem::Other {
            return Err(FsError::new(
                "write to",
                self.path.clone(),
                Errno::EMEDIUMTYPE,
            ));
        }
        Ok(())
    }

    pub(crate) fn file_system(&self) -> Result<FileSystem, FsError> {
        let stat = fstatfs(&self.fd).map_err(|errno| {
            FsError::new("look at the file system of", self.path.clone(), errno)
        })?;
        let kind = stat.filesystem_type();
        Ok(if kind == TMPFS_MAGIC {
            FileSystem::Tmpfs
        } else if kind.0 as u32 == RAMFS_MAGIC {
            FileSystem::Ramfs
        } else {
            FileSystem::Other
        })
    }

    pub(crate) fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self, FsError> {
        let name = self.name(name.as_ref(), "open")?;
        let fd = openat(&self.fd, name, DIRECTORY, Mode::empty())
            .map_err(|errno| self.error("open", name, errno))?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Opens the directory `name`, made with `mode` when it is not there, whatever the umask.
    pub(crate) fn ensure_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, FsError> {
        let name = name.as_ref();
        match self.open_dir(name) {
            Err(error) if error.is_missing() => self.make_dir(name, mode),
            Ok(dir) => {
                // As `make_dir` leaves it when it is killed half way. Any other mode is somebody's
                // choice.
                if mode != MADE && dir.stat_self()?.st_mode & 0o7777 == MADE {
                    dir.set_mode(mode)?;
                }
                Ok(dir)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the directory `name`, which must not be there.
    pub(crate) fn make_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, FsError> {
        let name = self.name(name.as_ref(), "make")?;
        step(|| mkdirat(&self.fd, name, Mode::from_bits_truncate(MADE)))
            .map_err(|errno| self.error("make", name, errno))?;
        let made = self.open_dir(name).and_then(|dir| {
            dir.set_mode(mode)?;
            Ok(dir)
        });
        if made.is_err() {
            self.rmdir(name).ok();
        }
        made
    }

    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), FsError> {
        step(|| fchmod(&self.fd, Mode::from_bits_truncate(mode)))
            .map_err(|errno| FsError::new("set the mode of", self.path.clone(), errno))
    }

    /// What stands in the directory, without `.` and `..`.
    pub(crate) fn list(&self) -> Result<Vec<(OsString, Kind)>, FsError> {
        let failed = |errno| FsError::new("list", self.path.clone(), errno);
        // A descriptor of its own: reading moves the position that copies would share.
        let fd = openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in nix::dir::Dir::from_fd(fd).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match self.kind(name) {
                Ok(kind) => entries.push((name.to_owned(), kind)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> Result<FileStat, FsError> {
        let name = self.name(name.as_ref(), "look at")?;
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("look at", name, errno))
    }

    pub(crate) fn kind(&self, name: impl AsRef<OsStr>) -> Result<Kind, FsError> {
        Ok(kind(&self.stat(name)?))
    }

    /// The target of the link `name`; `None` when there is no link of that name.
    pub(crate) fn link_target(&self, name: impl AsRef<OsStr>) -> Result<Option<OsString>, FsError> {
        let name = self.name(name.as_ref(), "read")?;
        match readlinkat(&self.fd, name) {
            Ok(target) => Ok(Some(target)),
            Err(Errno::EINVAL | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// Opens a regular file.
    pub(crate) fn open_file(
        &self,
        name: impl AsRef<OsStr>,
        access: OFlag,
    ) -> Result<File, FsError> {
        let name = self.name(name.as_ref(), "open")?;
        // Not blocking, in case that it is a pipe after all.
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| self.error("open", name, errno))?;
        let stat = fstat(&fd).map_err(|errno| self.error("look at", name, errno))?;
        if kind(&stat) == Kind::File {
            Ok(File::from(fd))
        } else {
            Err(self.error("open", name, Errno::ELOOP))
        }
    }

    /// Opens the file `name` for reading and writing, made when it is not there.
    pub(crate) fn ensure_file(&self, name: &str, mode: u32) -> Result<File, FsError> {
        let name = self.name(OsStr::new(name), "open")?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = step(|| openat(&self.fd, name, flags, Mode::from_bits_truncate(mode)))
            .map_err(|errno| self.error("open", name, errno))?;
        Ok(File::from(fd))
    }

    /// Writes a new file as a whole. Mode and owner are right before this returns, and nobody can
    /// reach it before that: it is made readable for the agent alone.
    pub(crate) fn write_new(
        &self,
        name: impl AsRef<OsStr>,
        content: &[u8],
        mode: u32,
        owner: Ownership,
    ) -> Result<FileStat, FsError> {
        let name = self.name(name.as_ref(), "write")?;
        let failed = |errno| self.error("write", name, errno);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = step(|| openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))
            .map_err(failed)?;
        let mut file = File::from(fd);
        step(|| file.write_all(content).map_err(|error| errno(&error))).map_err(failed)?;
        if owner != Ownership::default() {
            step(|| fchown(&file, owner.uid, owner.gid))
                .map_err(|errno| self.error("give away", name, errno))?;
        }
        step(|| fchmod(&file, Mode::from_bits_truncate(mode))).map_err(failed)?;
        fstat(&file).map_err(failed)
    }

    /// The whole of a small file of our own. Not for values.
    pub(crate) fn read_small(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>, FsError> {
        let name = name.as_ref();
        let file = self.open_file(name, OFlag::O_RDONLY)?;
        let mut content = Vec::new();
        file.take(SMALL)
            .read_to_end(&mut content)
            .map_err(|error| self.error("read", name, errno(&error)))?;
        Ok(content)
    }

    /// Gives the file `name` the same name in `to`, as a second link.
    pub(crate) fn link_to(&self, name: &str, to: &Self) -> Result<(), FsError> {
        let name = self.name(OsStr::new(name), "link")?;
        step(|| linkat(&self.fd, name, &to.fd, name, AtFlags::empty()))
            .map_err(|errno| self.error("link", name, errno))
    }

    /// Moves `name` to `to`, over whatever file or link stands there.
    pub(crate) fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new: impl AsRef<OsStr>,
    ) -> Result<(), FsError> {
        let name = self.name(name.as_ref(), "move")?;
        let new = to.name(new.as_ref(), "move to")?;
        step(|| renameat(&self.fd, name, &to.fd, new))
            .map_err(|errno| self.error("move", name, errno))
    }

    /// Makes the link `name`, which must not be there.
    pub(crate) fn symlink(
        &self,
        target: impl AsRef<OsStr>,
        name: impl AsRef<OsStr>,
    ) -> Result<(), FsError> {
        let name = self.name(name.as_ref(), "make")?;
        step(|| symlinkat(target.as_ref(), &self.fd, name))
            .map_err(|errno| self.error("make", name, errno))
    }

    /// Binds a listening socket under `name`, over whatever file, link or socket stands there. Mode and
    /// owner are right before it can be reached; the path may be longer than a socket's can be.
    pub(crate) fn bind_socket(
        &self,
        name: &str,
        mode: u32,
        owner: Ownership,
    ) -> Result<UnixListener, FsError> {
        let name = self.name(OsStr::new(name), "bind")?;
        let temporary = random_name("..new.");
        // By the descriptor: an address holds 107 bytes, and names may be longer (unix(7)).
        let here = format!("/proc/self/fd/{}/{temporary}", self.fd.as_raw_fd());
        let listener = step(|| UnixListener::bind(&here).map_err(|error| errno(&error)))
            .map_err(|errno| self.error("bind", name, errno))?;
        let placed = self
            .give_away(&temporary, mode, owner)
            .and_then(|()| self.rename(&temporary, self, name));
        if placed.is_err() {
            self.unlink(&temporary).ok();
        }
        placed.map(|()| listener)
    }

    /// Sets owner and mode of what stands under `name`, which is no link. Where no owner is said it is
    /// the agent's own again, whoever had it before.
    pub(crate) fn give_away(&self, name: &str, mode: u32, owner: Ownership) -> Result<(), FsError> {
        let name = self.name(OsStr::new(name), "give away")?;
        let failed = |errno| self.error("give away", name, errno);
        let (uid, gid) = (
            owner.uid.unwrap_or_else(geteuid),
            owner.gid.unwrap_or_else(getegid),
        );
        let found = self.stat(name)?;
        if (found.st_uid, found.st_gid) != (uid.as_raw(), gid.as_raw()) {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            step(|| fchownat(&self.fd, name, Some(uid), Some(gid), flags)).map_err(failed)?;
        }
        let mode = Mode::from_bits_truncate(mode);
        step(|| fchmodat(&self.fd, name, mode, FchmodatFlags::FollowSymlink)).map_err(failed)
    }

    /// Removes a file or link. It is no error when it is not there.
    pub(crate) fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        self.remove(name.as_ref(), UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory. It is no error when it is not there.
    pub(crate) fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        self.remove(name.as_ref(), UnlinkatFlags::RemoveDir)
    }

    pub(crate) fn error(&self, what: &'static str, name: &OsStr, errno: Errno) -> FsError {
        FsError::new(what, self.path.join(name), errno)
    }

    fn remove(&self, name: &OsStr, flag: UnlinkatFlags) -> Result<(), FsError> {
        let name = self.name(name, "remove")?;
        match step(|| unlinkat(&self.fd, name, flag)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// One component, and none that leads up. Names are validated types long before; this is the
    /// last door (invariant 8).
    fn name<'n>(&self, name: &'n OsStr, what: &'static str) -> Result<&'n OsStr, FsError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(self.error(what, name, Errno::EINVAL));
        }
        Ok(name)
    }
}

/// What a directory is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ramfs,
    Tmpfs,
    Other,
}

pub(crate) fn kind(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}

pub(crate) fn errno(error: &std::io::Error) -> Errno {
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) => Errno::from_raw(code),
        // What `write_all` says of a file that takes nothing more.
        (None, ErrorKind::WriteZero) => Errno::ENOSPC,
        (None, _) => Errno::EIO,
    }
}

/// Every call that changes something goes through here, so that tests can stop at any of them.
pub(crate) fn step<T>(call: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    #[cfg(test)]
    faults::before()?;
    call()
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// What a directory is made with: for the agent alone.
const MADE: u32 = 0o700;
/// `linux/magic.h`; the libc crate lacks it.
const RAMFS_MAGIC: u32 = 0x8584_58f6;
const SMALL: u64 = 4 * 1024 * 1024;
