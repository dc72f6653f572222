//! What is in a backup: a tar archive of the data directory's files, a list of them first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::app::DATABASE_FILE;
use crate::place::Place;

/// What the archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    /// The version of the hub that made it.
    pub(super) hub: String,
    pub(super) files: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// A file to be taken, and what it is called in the archive.
pub(super) struct Taken {
    name: String,
    file: File,
    bytes: u64,
}

impl Taken {
    pub(super) fn open(name: &str, path: &Path) -> Result<Self, BackupError> {
        let opened = File::open(path).and_then(|file| {
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        });
        let (file, bytes) = opened.map_err(|error| BackupError::file(path, error))?;
        Ok(Self {
            name: name.into(),
            file,
            bytes,
        })
    }
}

/// What lies in a data directory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its regular files, by name.
    pub(super) files: Vec<(String, PathBuf)>,
    /// What is no such file.
    pub(super) left: Vec<String>,
}

/// What lies in `dir`, but for what `without` names.
pub(super) fn contents(dir: &Path, without: &[&str]) -> Result<Contents, BackupError> {
    let mut found = Contents::default();
    for entry in fs::read_dir(dir).map_err(|error| BackupError::file(dir, error))? {
        let entry = entry.map_err(|error| BackupError::file(dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if without.contains(&name.as_str()) {
            continue;
        }
        let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
        if regular && is_plain(&name) {
            found.files.push((name, entry.path()));
        } else {
            found.left.push(name);
        }
    }
    found.files.sort();
    found.left.sort();
    Ok(found)
}

/// Writes the archive.
pub(super) fn pack<W: Write>(files: Vec<Taken>, out: W) -> io::Result<(List, W)> {
    if files.len() > MAX_FILES {
        let why = format!("the data directory has more than {MAX_FILES} files");
        return Err(io::Error::other(why));
    }
    let large = |taken: &&Taken| taken.name != DATABASE_FILE && taken.bytes > MAX_SMALL;
    if let Some(Taken { name, .. }) = files.iter().find(large) {
        let why = format!("{name} is no file of a hub: it has more than 16 MiB; put it elsewhere");
        return Err(io::Error::other(why));
    }
    let list = List {
        hub: env!("CARGO_PKG_VERSION").into(),
        files: files
            .iter()
            .map(|taken| Listed {
                name: taken.name.clone(),
                bytes: taken.bytes,
            })
            .collect(),
    };
    let mut archive = tar::Builder::new(out);
    let text = serde_json::to_vec(&list)?;
    append(&mut archive, LIST, text.len() as u64, &text[..])?;
    for taken in files {
        append(&mut archive, &taken.name, taken.bytes, taken.file)?;
    }
    let out = archive.into_inner()?;
    Ok((list, out))
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: u64,
    from: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    let mut counted = Counted {
        from: from.take(bytes),
        read: 0,
    };
    archive.append_data(&mut header, name, &mut counted)?;
    // The header has been written: a shorter file would shift all that follows.
    if counted.read != bytes {
        return Err(io::Error::other(format!("{name} became shorter meanwhile")));
    }
    Ok(())
}

struct Counted<R> {
    from: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(room)?;
        self.read += len as u64;
        Ok(len)
    }
}

/// Where the files of an archive go.
pub(super) trait Shelf {
    /// Takes the file and says how much it was.
    fn take(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, BackupError>;
}

/// They are read, and that is all.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) struct Nowhere;

#[cfg(any(test, feature = "fuzzing"))]
impl Shelf for Nowhere {
    fn take(&mut self, _name: &str, from: &mut dyn Read) -> Result<u64, BackupError> {
        Ok(io::copy(from, &mut io::sink())?)
    }
}

impl Shelf for &Place {
    fn take(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, BackupError> {
        let made = self.create(name, from);
        made.map_err(|error| BackupError::file(&self.path(name), error))
    }
}

/// Reads an archive to its end.
pub(super) fn unpack(from: impl Read, shelf: &mut dyn Shelf) -> Result<List, BackupError> {
    let mut archive = tar::Archive::new(from);
    // Raw, so that no name or header is read that is longer than a header has room for.
    let mut entries = archive.entries()?.raw(true);
    let first = entries.next().ok_or(BackupError::NotOne)??;
    if name_of(&first)? != LIST || first.size() > MAX_LIST {
        return Err(BackupError::NotOne);
    }
    let list: List = serde_json::from_reader(first).map_err(|_| BackupError::NotOne)?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in entries {
        let mut entry = entry?;
        let name = name_of(&entry)?;
        if found.len() == MAX_FILES || !seen.insert(name.clone()) {
            return Err(BackupError::NotOne);
        }
        // Before anything is written: nothing that is not listed, and of the keys no more than keys have.
        let listed = Listed {
            name: name.clone(),
            bytes: entry.size(),
        };
        if !list.files.contains(&listed) {
            return Err(BackupError::Incomplete);
        }
        if name != DATABASE_FILE && listed.bytes > MAX_SMALL {
            return Err(BackupError::NotOne);
        }
        let bytes = shelf.take(&name, &mut entry)?;
        found.push(Listed { name, bytes });
    }
    // What follows the archive's end is read too: only the stream's end says that it is whole.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if found != list.files {
        return Err(BackupError::Incomplete);
    }
    Ok(list)
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, BackupError> {
    let path = entry.path()?;
    let name = path.to_str().filter(|name| is_plain(name));
    match (name, entry.header().entry_type()) {
        (Some(name), tar::EntryType::Regular) => Ok(name.to_owned()),
        _ => Err(BackupError::NotOne),
    }
}

/// The name of a file in the directory itself, and of nothing hidden.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
}

const LIST: &str = "backup.json";
const MAX_LIST: u64 = 1024 * 1024;
const MAX_FILES: usize = 1000;
/// Most bytes of any file but the database.
const MAX_SMALL: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType)]) -> Vec<u8> {
        let list = List {
            hub: "0".into(),
            files: Vec::new(),
        };
        let mut builder = tar::Builder::new(Vec::new());
        let text = serde_json::to_vec(&list).unwrap();
        append(&mut builder, LIST, text.len() as u64, &text[..]).unwrap();
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(0);
            // The builder refuses such names; an attacker's would not.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn nothing_leaves_the_directory() {
        use tar::EntryType;
        for (name, kind) in [
            ("../x", EntryType::Regular),
            ("/etc/x", EntryType::Regular),
            ("a/b", EntryType::Regular),
            (".x", EntryType::Regular),
            ("x", EntryType::Symlink),
            ("x", EntryType::Link),
            ("x", EntryType::Directory),
            ("x", EntryType::Fifo),
            ("x", EntryType::GNULongName),
            ("x", EntryType::GNULongLink),
            ("x", EntryType::XHeader),
            ("x", EntryType::XGlobalHeader),
            ("x", EntryType::GNUSparse),
        ] {
            let refused = unpack(&archive(&[(name, kind)])[..], &mut Nowhere);
            assert!(
                matches!(refused, Err(BackupError::NotOne)),
                "{name} {kind:?}"
            );
        }
        let regular = ("x", EntryType::Regular);
        let unlisted = unpack(&archive(&[regular])[..], &mut Nowhere);
        assert!(matches!(unlisted, Err(BackupError::Incomplete)));
        assert!(unpack(&archive(&[])[..], &mut Nowhere).is_ok());
    }

    #[test]
    fn what_is_no_file_is_left_out_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "x").unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let found = contents(dir.path(), &["lock"]).unwrap();
        let names: Vec<_> = found.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (names, found.left),
            (vec!["a", "b"], vec!["link".into(), "sub".into()])
        );
    }
}
