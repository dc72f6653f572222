//! Small files of the data directory, each there as a whole or not at all, also after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

/// Whether it is the disk's trouble, which may pass, and not what is there.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ) || error.raw_os_error() == Some(Errno::EIO as i32)
}

/// Makes a file that is not there yet, readable by its owner alone, and brings it to the disk. Its
/// directory is still to be synced ([`sync`]).
pub(crate) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts a file there as a whole, readable by its owner alone.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    remove(&fresh)?;
    put(&fresh, bytes)?;
    fs::rename(fresh, dir.join(name))?;
    sync(dir)
}

/// Removes what a [`replace`] that was killed has left, overwritten first: it may be a key that nothing came
/// to use.
pub(crate) fn sweep(dir: &Path, name: &str) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    if !fresh.exists() {
        return Ok(());
    }
    overwrite(&fresh)?;
    remove(&fresh)?;
    sync(dir)
}

/// Makes a directory's entries durable.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Overwrites a key, for what that is worth on the disk at hand.
pub(crate) fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![0; len])?;
    file.sync_all()
}

/// Removes a file, when it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_of_the_disk_is_told_from_trouble_with_what_is_there() {
        let passes = |errno: Errno| may_pass(&errno.into());
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EROFS] {
            assert!(passes(errno), "{errno}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::EISDIR] {
            assert!(!passes(errno), "{errno}");
        }
    }
}
