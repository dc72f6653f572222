//! What a consumer's own secrets API stands on: a directory that its container mounts, with the socket
//! and what is needed to use it, and one of the agent's own with what it must remember.
//!
//! ```text
//! <runtime dir>/
//!   ess/<org>/<service url>/<consumer>/{essapi.sock, auth.json, cert.pem, env}
//!   ess-own/<org>/<service url>/<consumer>/...
//! ```
//!
//! Neither tree is there before the first door is made. The directory that is mounted outlives its door,
//! as the one with the secrets outlives an undeployment: a running container's mount stays good.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::dir::{Dir, FsError};
use super::sweep::each_place;
use super::wipe::{wipe_now, wipe_tree};
use super::{ConsumerId, Delivery, OPEN_DIR, OWN_DIR, Ownership, ensure_place, place, random_name};

/// One consumer's door, which is there or is just being made.
#[derive(Debug)]
pub(crate) struct Door {
    shown: Dir,
    own: Dir,
}

impl Delivery {
    /// Makes what is not there of a consumer's door.
    pub(crate) fn door(&self, consumer: &ConsumerId) -> Result<Door, FsError> {
        let shown = self.root().ensure_dir(SHOWN, OPEN_DIR)?;
        let shown = ensure_place(&shown, consumer, OPEN_DIR)?;
        shown.require_memory()?;
        let own = self.root().ensure_dir(OWN, OWN_DIR)?;
        let own = ensure_place(&own, consumer, OWN_DIR)?;
        own.require_memory()?;
        for dir in [&shown, &own] {
            sweep(dir)?;
        }
        Ok(Door { shown, own })
    }

    /// Every consumer that has, or once had, a door.
    pub(crate) fn doors(&self) -> Vec<ConsumerId> {
        let mut found = Vec::new();
        for tree in [SHOWN, OWN] {
            let Ok(root) = self.root().open_dir(tree) else {
                continue;
            };
            // What cannot be looked at cannot be cleared either, which is said then.
            each_place(&root, &mut Vec::new(), |consumer, _, _| {
                found.extend(consumer);
            });
        }
        found.sort();
        found.dedup();
        found
    }

    /// The directory that a container mounts.
    pub(crate) fn door_directory(&self, consumer: &ConsumerId) -> PathBuf {
        let mut path = self.root().path().join(SHOWN);
        path.extend(consumer.components());
        path
    }

    /// Wipes all of a door but the directory that is mounted. Tries everything and gives every error.
    pub(crate) fn close_door(&self, consumer: &ConsumerId) -> Vec<FsError> {
        let mut errors = Vec::new();
        let shown = self.root().open_dir(SHOWN);
        match shown.and_then(|shown| place(&shown, consumer)) {
            Ok(shown) => match shown.list() {
                Ok(entries) => {
                    let wiped = entries.iter().map(|(name, _)| wipe_now(&shown, name));
                    errors.extend(wiped.filter_map(Result::err));
                }
                Err(error) => errors.push(error),
            },
            Err(error) if error.is_missing() => {}
            Err(error) => errors.push(error),
        }
        let [org, service, name] = consumer.components();
        let own = self.root().open_dir(OWN).and_then(|own| own.open_dir(org));
        match own.and_then(|org| org.open_dir(service)) {
            Ok(service) => errors.extend(wipe_tree(&service, OsStr::new(&name))),
            Err(error) if error.is_missing() => {}
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Closes every door.
    pub(super) fn close_doors(&self) -> Vec<FsError> {
        let doors = self.doors();
        doors
            .iter()
            .flat_map(|consumer| self.close_door(consumer))
            .collect()
    }
}

impl Door {
    /// Puts a file where the service can see it, in the place of another one.
    pub(crate) fn show(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        owner: Ownership,
    ) -> Result<(), FsError> {
        replace(&self.shown, name, content, mode, owner)
    }

    /// Binds the socket, in the place of one that a former life left.
    pub(crate) fn bind(&self, mode: u32, owner: Ownership) -> Result<UnixListener, FsError> {
        self.shown.bind_socket(SOCKET, mode, owner)
    }

    /// Gives the socket to somebody else; who is connected stays so.
    pub(crate) fn give_socket(&self, mode: u32, owner: Ownership) -> Result<(), FsError> {
        self.shown.give_away(SOCKET, mode, owner)
    }

    /// What the agent remembers under this name; none where that cannot be read.
    pub(crate) fn remembered(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let file = self.own.open_file(name, OFlag::O_RDONLY).ok()?;
        let len = file.metadata().ok()?.len().min(MAX_OWN);
        // The final capacity at once: a growing vector would leave copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(len).ok()? + 1));
        file.take(MAX_OWN).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Remembers it, in the place of what was remembered.
    pub(crate) fn remember(&self, name: &str, content: &[u8]) -> Result<(), FsError> {
        replace(&self.own, name, content, 0o600, Ownership::default())
    }
}

/// Wipes what a former life was killed in the middle of writing.
fn sweep(dir: &Dir) -> Result<(), FsError> {
    for (name, _) in dir.list()? {
        if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
            wipe_now(dir, &name)?;
        }
    }
    Ok(())
}

fn replace(
    dir: &Dir,
    name: &str,
    content: &[u8],
    mode: u32,
    owner: Ownership,
) -> Result<(), FsError> {
    dir.require_memory()?;
    let temporary = random_name(TEMPORARY);
    let written = dir
        .write_new(&temporary, content, mode, owner)
        .and_then(|_| dir.rename(&temporary, dir, name));
    if written.is_err() {
        wipe_now(dir, OsStr::new(&temporary)).ok();
    }
    written
}

/// What Open Horizon calls the socket.
pub(crate) const SOCKET: &str = "essapi.sock";
/// What files begin with, here and at the socket's, until they are whole.
const TEMPORARY: &str = "..new.";
const SHOWN: &str = "ess";
const OWN: &str = "ess-own";
const MAX_OWN: u64 = 4 * 1024 * 1024;
