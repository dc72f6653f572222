//! A directory that is filled as a whole or left as it was.
//!
//! Everything is made in a directory within it and moved up at the end. The directory itself may be
//! a mount point, which nothing can be renamed onto; so what is moved up is undone on failure.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::init::CONFIG_FILE;

/// Why a directory is not filled.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is something already.
    #[error("{} is not empty (it has {found:?}); nothing is ever overwritten: name another directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// What filled it was killed.
    #[error("{} has what an init or a restore that was cut off has left: remove it, and repeat", .0.display())]
    CutOff(PathBuf),
    /// A file or directory cannot be made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A directory to be filled. Dropped before [`finish`](Self::finish) has succeeded, it removes what
/// it made.
pub(crate) struct Place {
    dir: PathBuf,
    /// Whether the directory was made here.
    made: bool,
    /// How many directories above it have an entry that was made here.
    above: usize,
    moved: Vec<PathBuf>,
    finished: bool,
}

impl Place {
    /// Makes `dir`, or takes it if it is empty; nobody else may look into it.
    pub(crate) fn prepare(dir: &Path) -> Result<Self, PlaceError> {
        let above = dir.ancestors().take_while(|dir| !dir.exists()).count();
        let made = match fs::read_dir(dir) {
            Ok(mut entries) => {
                if let Some(entry) = entries.next() {
                    if dir.join(WORKSHOP).exists() && !dir.join(CONFIG_FILE).exists() {
                        return Err(PlaceError::CutOff(dir.into()));
                    }
                    let found = entry.map_err(at(dir))?.file_name();
                    return Err(PlaceError::NotEmpty {
                        dir: dir.into(),
                        found: found.to_string_lossy().into_owned(),
                    });
                }
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = dir.parent() {
                    fs::create_dir_all(parent).map_err(at(parent))?;
                }
                private_dir(dir)?;
                true
            }
            Err(error) => return Err(at(dir)(error)),
        };
        let place = Self {
            dir: dir.into(),
            made,
            above,
            moved: Vec::new(),
            finished: false,
        };
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(at(dir))?;
        // Fails if another init has come between: then what is here is not ours to remove.
        if let Err(error) = private_dir(&place.workshop()) {
            std::mem::forget(place);
            return Err(error);
        }
        Ok(place)
    }

    /// Where a file is while the directory is being filled.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.workshop().join(name)
    }

    /// Makes a file, readable by its owner alone, and brings it to the disk.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        let made = self.create(name, &mut &*bytes);
        made.map(drop).map_err(at(&self.path(name)))
    }

    /// The same with what a reader gives. Tells how much it was.
    pub(crate) fn create(&self, name: &str, from: &mut dyn io::Read) -> io::Result<u64> {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(self.path(name))?;
        let len = io::copy(from, &mut file)?;
        file.sync_all()?;
        Ok(len)
    }

    /// Moves everything to its place, `last` after all else.
    pub(crate) fn finish(&mut self, last: &str) -> Result<(), PlaceError> {
        let workshop = self.workshop();
        let mut names = Vec::new();
        for entry in fs::read_dir(&workshop).map_err(at(&workshop))? {
            names.push(entry.map_err(at(&workshop))?.file_name());
        }
        names.sort_by_key(|name| name == last);
        for name in names {
            let target = self.dir.join(&name);
            fs::rename(workshop.join(&name), &target).map_err(at(&target))?;
            self.moved.push(target);
        }
        fs::remove_dir(&workshop).map_err(at(&workshop))?;
        // And that it is there at all, as are those above it that were made for it.
        let ancestors = self.dir.ancestors().take(1 + self.above);
        for dir in ancestors.filter(|dir| !dir.as_os_str().is_empty()) {
            disk::sync(dir).map_err(at(dir))?;
        }
        if self.above > 0 && self.dir.is_relative() {
            disk::sync(Path::new(".")).map_err(at(Path::new(".")))?;
        }
        self.finished = true;
        Ok(())
    }

    fn workshop(&self) -> PathBuf {
        self.dir.join(WORKSHOP)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // The first error is already on its way to the caller; what cannot be removed stays.
        for path in &self.moved {
            fs::remove_file(path).ok();
        }
        fs::remove_dir_all(self.workshop()).ok();
        if self.made {
            fs::remove_dir(&self.dir).ok();
        }
    }
}

fn private_dir(dir: &Path) -> Result<(), PlaceError> {
    DirBuilder::new().mode(0o700).create(dir).map_err(at(dir))
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> PlaceError + use<> {
    let path = path.to_owned();
    |source| PlaceError::File { path, source }
}

const WORKSHOP: &str = ".new";
