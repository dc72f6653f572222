//! Small files in the state directory, each there as a whole or not at all, also after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Puts a file there (0600), synced, in the place of what had its name. The directory is still to be
/// synced ([`sync`]), once for all that was put there.
///
/// # Errors
/// When it cannot be written; then what was there before still is, and nothing is left beside it.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}{FRESH}"));
    remove_file(&fresh)?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let written = written.and_then(|()| fs::rename(&fresh, dir.join(name)));
    if written.is_err() {
        // On a full disk it would take the room that the next attempt needs.
        fs::remove_file(&fresh).ok();
    }
    written
}

/// Makes a directory's entries durable.
///
/// # Errors
/// When that fails: what was renamed or removed there may come back after a power cut.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a file, wiped when dropped.
///
/// # Errors
/// When it cannot be read or has more than `most` bytes.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if len > most {
        return Err(damaged());
    }
    // Room for all of it at once, so that nothing is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(damaged()),
    }
}

/// Removes a file, when it is there.
///
/// # Errors
/// When it is there still.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Overwrites a key's file, when it is there, before it goes. On a disk this is a best effort: the
/// medium may keep the old blocks.
///
/// # Errors
/// When it cannot be overwritten.
pub(crate) fn overwrite(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(mut file) => {
            let len = usize::try_from(file.metadata()?.len()).unwrap_or(MOST_OVERWRITTEN);
            file.write_all(&vec![0; len.min(MOST_OVERWRITTEN)])?;
            file.sync_all()
        }
        // Not there, or no file: nothing to overwrite.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Removes a directory with all that is in it, when it is there, for good.
///
/// # Errors
/// When something is left.
pub(crate) fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => dir.parent().map_or(Ok(()), sync),
    }
}

/// A file that is not what was written.
pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

const FRESH: &str = ".new";
const MOST_OVERWRITTEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), "a", b"one").unwrap();
        replace(dir.path(), "a", b"two").unwrap();
        sync(dir.path()).unwrap();
        let path = dir.path().join("a");
        assert_eq!(*read(&path, 3).unwrap(), b"two");
        assert!(read(&path, 2).is_err());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Something in the way of the rename.
        fs::create_dir(dir.path().join("b")).unwrap();
        assert!(replace(dir.path(), "b", b"three").is_err());
        assert!(!dir.path().join("b.new").exists());
        overwrite(&path).unwrap();
        assert_eq!(*read(&path, 3).unwrap(), [0; 3]);
        overwrite(&dir.path().join("absent")).unwrap();
        remove_all(&dir.path().join("absent")).unwrap();
    }
}
