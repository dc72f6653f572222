//! Which system calls change something, and what.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::libc;
use nix::unistd::Pid;

/// How a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file or directory is made.
    Make,
    /// Bytes are written, or room for them taken.
    Write,
    /// Something gets another name, or a link.
    Name,
    /// Something is removed.
    Remove,
    /// A mode or an owner.
    Mode,
    /// What was done before is made durable.
    Sync,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// How.
    pub kind: Kind,
    /// The system call.
    pub call: &'static str,
    /// What is changed.
    pub path: PathBuf,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Make, "make"),
    (Kind::Write, "write"),
    (Kind::Name, "name"),
    (Kind::Remove, "remove"),
    (Kind::Mode, "mode"),
    (Kind::Sync, "sync"),
];

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        let word = word.map_or("", |(_, word)| word);
        write!(f, "{word} {} {}", self.call, self.path.display())
    }
}

impl FromStr for Act {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().ok_or(());
        let (kind, call, path) = (word()?, word()?, word()?);
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == kind).ok_or(())?;
        let call = CALLS.iter().find(|known| known.name == call).ok_or(())?;
        Ok(Self {
            kind: *kind,
            call: call.name,
            path: path.into(),
        })
    }
}

/// How a system call says what it is about: which of its arguments.
#[derive(Debug, Clone, Copy)]
enum About {
    /// A descriptor.
    Fd(usize),
    /// A path from the working directory.
    Path(usize),
    /// A directory's descriptor and a path from there.
    At(usize, usize),
}

struct Call {
    number: libc::c_long,
    name: &'static str,
    kind: Kind,
    about: About,
}

const fn call(number: libc::c_long, name: &'static str, kind: Kind, about: About) -> Call {
    Call {
        number,
        name,
        kind,
        about,
    }
}

/// Opening counts where it makes or empties a file.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    call(libc::SYS_write, "write", Kind::Write, About::Fd(0)),
    call(libc::SYS_pwrite64, "pwrite64", Kind::Write, About::Fd(0)),
    call(libc::SYS_writev, "writev", Kind::Write, About::Fd(0)),
    call(libc::SYS_pwritev, "pwritev", Kind::Write, About::Fd(0)),
    call(libc::SYS_pwritev2, "pwritev2", Kind::Write, About::Fd(0)),
    call(libc::SYS_sendfile, "sendfile", Kind::Write, About::Fd(0)),
    call(libc::SYS_copy_file_range, "copy_file_range", Kind::Write, About::Fd(2)),
    call(libc::SYS_splice, "splice", Kind::Write, About::Fd(2)),
    call(libc::SYS_ftruncate, "ftruncate", Kind::Write, About::Fd(0)),
    call(libc::SYS_fallocate, "fallocate", Kind::Write, About::Fd(0)),
    call(libc::SYS_fsync, "fsync", Kind::Sync, About::Fd(0)),
    call(libc::SYS_fdatasync, "fdatasync", Kind::Sync, About::Fd(0)),
    call(libc::SYS_syncfs, "syncfs", Kind::Sync, About::Fd(0)),
    call(libc::SYS_msync, "msync", Kind::Sync, About::Fd(0)),
    call(libc::SYS_fchmod, "fchmod", Kind::Mode, About::Fd(0)),
    call(libc::SYS_fchown, "fchown", Kind::Mode, About::Fd(0)),
    call(libc::SYS_fchmodat, "fchmodat", Kind::Mode, About::At(0, 1)),
    call(FCHMODAT2, "fchmodat2", Kind::Mode, About::At(0, 1)),
    call(libc::SYS_fchownat, "fchownat", Kind::Mode, About::At(0, 1)),
    call(libc::SYS_openat, "openat", Kind::Make, About::At(0, 1)),
    call(libc::SYS_mkdirat, "mkdirat", Kind::Make, About::At(0, 1)),
    call(libc::SYS_mknodat, "mknodat", Kind::Make, About::At(0, 1)),
    call(libc::SYS_symlinkat, "symlinkat", Kind::Name, About::At(1, 2)),
    call(libc::SYS_linkat, "linkat", Kind::Name, About::At(2, 3)),
    call(libc::SYS_renameat, "renameat", Kind::Name, About::At(2, 3)),
    call(libc::SYS_renameat2, "renameat2", Kind::Name, About::At(2, 3)),
    call(libc::SYS_unlinkat, "unlinkat", Kind::Remove, About::At(0, 1)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_open, "open", Kind::Make, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_creat, "creat", Kind::Make, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_mkdir, "mkdir", Kind::Make, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_chmod, "chmod", Kind::Mode, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_chown, "chown", Kind::Mode, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_symlink, "symlink", Kind::Name, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_link, "link", Kind::Name, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_rename, "rename", Kind::Name, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_unlink, "unlink", Kind::Remove, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_rmdir, "rmdir", Kind::Remove, About::Path(0)),
];

/// The change that a call in one of `dirs` is about to make, from its number and arguments.
pub(super) fn act(tid: Pid, number: u64, arguments: [u64; 6], dirs: &[PathBuf]) -> Option<Act> {
    let call = CALLS.iter().find(|call| call.number as u64 == number)?;
    let argument = |at: usize| arguments.get(at).copied().unwrap_or_default();
    let flags = match call.number {
        libc::SYS_openat => Some(argument(2)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Some(argument(1)),
        _ => None,
    };
    if flags.is_some_and(|flags| flags & u64::from(CHANGING) == 0) {
        return None;
    }
    let path = match call.about {
        About::Fd(fd) => of_fd(tid, argument(fd))?,
        About::Path(at) => from(tid, AT_CWD, &text(tid, argument(at))?)?,
        About::At(fd, at) => from(tid, argument(fd), &text(tid, argument(at))?)?,
    };
    dirs.iter().any(|dir| path.starts_with(dir)).then_some(Act {
        kind: call.kind,
        call: call.name,
        path,
    })
}

fn of_fd(tid: Pid, fd: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{tid}/fd/{}", fd as i32)).ok()
}

fn from(tid: Pid, fd: u64, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let dir = match fd as i32 {
        libc::AT_FDCWD => fs::read_link(format!("/proc/{tid}/cwd")).ok()?,
        _ => of_fd(tid, fd)?,
    };
    Some(dir.join(path))
}

/// A path in the process's memory.
fn text(tid: Pid, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 256];
    while bytes.len() < 4096 {
        let got = memory
            .read_at(&mut piece, address + bytes.len() as u64)
            .ok()?;
        let piece = piece.get(..got)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(piece.get(..end)?);
            return Some(std::ffi::OsString::from_vec(bytes).into());
        }
        bytes.extend_from_slice(piece);
    }
    None
}

const CHANGING: u32 = (libc::O_CREAT | libc::O_TRUNC).cast_unsigned();
const AT_CWD: u64 = libc::AT_FDCWD as u64;
/// The libc crate has it not for every target.
const FCHMODAT2: libc::c_long = 452;
