//! Delivered files, for the agent itself.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::consumers::names::FileName;

/// Opens a file of a generation for reading: no link is followed, and nothing blocks.
///
/// # Errors
/// The system's reason: `ENOENT` where it is not there, `EWOULDBLOCK` where it is just being wiped.
pub(crate) fn open_delivered(generation: &Path, file: &FileName) -> nix::Result<File> {
    let mut dir: OwnedFd = open(generation, DIRECTORY, Mode::empty())?;
    let name = match file.below() {
        Some(below) => {
            dir = openat(&dir, file.top(), DIRECTORY, Mode::empty())?;
            below
        }
        None => file.top(),
    };
    openat(&dir, name, FILE, Mode::empty()).map(File::from)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK);
