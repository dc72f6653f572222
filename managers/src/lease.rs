//! What a manager gives with a credential that it makes.

use std::fmt;
use std::time::Duration;

use edge_secrets_protocol::Secret;

use crate::{Fault, ManagerError};

/// A credential that was just made, or a secret that was just taken.
pub struct Minted {
    /// Its value, see [`edge_secrets_protocol::Fields`].
    pub payload: Secret,
    /// What it is renewed and revoked by.
    pub handle: LeaseHandle,
    /// How long it lives.
    pub term: Term,
    /// How long it may be refused where it is used, for it is new.
    pub usable_after: Duration,
}

/// For how long, counted from before the manager was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Its length; already shortened by what the manager's clock may differ.
    pub duration: Duration,
    /// Whether it can be made longer.
    pub renewable: bool,
}

/// What a manager knows a lease by: no secret, opaque, 1 to [`MAX_HANDLE`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseHandle(String);

impl LeaseHandle {
    /// A manager's handle.
    ///
    /// # Errors
    /// [`Fault::Malformed`] when it is empty, too long or has a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, ManagerError> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_HANDLE || text.chars().any(char::is_control) {
            return Err(ManagerError::new(
                Fault::Malformed,
                "its answer has a lease without a usable id",
            ));
        }
        Ok(Self(text))
    }

    /// As the manager gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Longest handle, in bytes.
pub const MAX_HANDLE: usize = 1024;
