//! The directory of the profiles, read with suspicion: a profile can name commands that run as root.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The names of the profile files in the directory, in order; none when there is no directory.
///
/// # Errors
/// Why nothing in it may be believed, or why it cannot be read.
pub(super) fn list(dir: &Path) -> Result<Vec<OsString>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let opened = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(unreadable)?,
    };
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_dir() {
        return Err("is not a directory".to_owned());
    }
    trust(&metadata)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // What cannot be looked at is left to reading it, which says why.
        let other = || fs::metadata(dir.join(&name)).is_ok_and(|metadata| !metadata.is_file());
        if is_profile(&name) && !other() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a text file of at most `max` bytes that only root and the agent's user can have written.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn read(path: &Path, max: u64) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Not waiting: a pipe that was put there would hold up the agent.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    trust(&metadata)?;
    let real = path.canonicalize().map_err(unreadable)?;
    if let Some(parent) = real.parent() {
        fs::metadata(parent)
            .map_err(unreadable)
            .and_then(|metadata| trust(&metadata))
            .map_err(|reason| format!("its directory {} {reason}", parent.display()))?;
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file)
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(format!("is larger than {} KiB", max / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// Not hidden, not what an editor or a package manager leaves behind: those end otherwise.
fn is_profile(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && (name.ends_with(b".yaml") || name.ends_with(b".yml"))
}

fn trust(metadata: &Metadata) -> Result<(), String> {
    let agent = nix::unistd::geteuid().as_raw();
    trusted(metadata.uid(), metadata.mode(), agent)
}

fn trusted(owner: u32, mode: u32, agent: u32) -> Result<(), String> {
    if owner != 0 && owner != agent {
        return Err(format!(
            "belongs to user {owner}, who could have the agent run anything: \
             give it to root (chown root)"
        ));
    }
    if mode & 0o022 != 0 {
        return Err(format!(
            "can be written by others (mode {:04o}), who could have the agent run anything: \
             forbid that (chmod go-w)",
            mode & 0o7777
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Whatever the umask says.
    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_root_and_the_agent_are_trusted() {
        for (owner, mode) in [(0, 0o100_644), (7, 0o100_600), (0, 0o40_755)] {
            assert_eq!(trusted(owner, mode, 7), Ok(()));
        }
        assert!(trusted(8, 0o100_600, 7).unwrap_err().contains("chown root"));
        for mode in [0o100_664, 0o100_646, 0o41_777] {
            assert!(trusted(0, mode, 7).unwrap_err().contains("chmod go-w"));
        }
    }

    #[test]
    fn leftovers_and_other_things_are_no_profiles() {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o700);
        let at = |name: &str| dir.path().join(name);
        for name in [
            "b.yaml",
            "a.yml",
            ".hidden.yaml",
            "a.yaml~",
            ".a.yaml.swp",
            "a.yaml.dpkg-new",
            "a.json",
            "yaml",
        ] {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir(at("dir.yaml")).unwrap();
        nix::unistd::mkfifo(&at("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("b.yaml", at("c.yaml")).unwrap();
        symlink("nowhere", at("d.yaml")).unwrap();
        let names = list(dir.path()).unwrap();
        assert_eq!(names, ["a.yml", "b.yaml", "c.yaml", "d.yaml"]);
        assert_eq!(list(&at("missing")), Ok(Vec::new()));
        assert!(list(&at("b.yaml")).unwrap_err().contains("not a directory"));
        assert!(
            read(&at("d.yaml"), 9)
                .unwrap_err()
                .contains("cannot be read")
        );
        assert!(read(&at("pipe.yaml"), 9).unwrap_err().contains("regular"));
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o700);
        let file = dir.path().join("a.yaml");
        fs::write(&file, "text").unwrap();
        chmod(&file, 0o644);
        assert_eq!(read(&file, 4).as_deref(), Ok("text"));
        assert!(read(&file, 3).unwrap_err().contains("larger"));
        chmod(&file, 0o664);
        assert!(read(&file, 4).unwrap_err().contains("mode 0664"));
        chmod(&file, 0o644);
        chmod(dir.path(), 0o770);
        assert!(read(&file, 4).unwrap_err().contains("its directory"));
        assert!(list(dir.path()).unwrap_err().contains("chmod"));
        chmod(dir.path(), 0o700);
        fs::write(&file, [0xff]).unwrap();
        assert!(read(&file, 4).unwrap_err().contains("UTF-8"));
    }
}
