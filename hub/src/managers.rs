//! Secrets managers, behind one trait. The hub reads from them; nodes never do.

pub mod embedded;
pub mod envelope;

use async_trait::async_trait;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};

use crate::reference::SecretRef;

/// Why a manager gave no value. Never holds anything of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagerError {
    /// The manager says there is no such secret, or no such version.
    #[error("{0} does not exist")]
    Missing(String),
    /// The hub may not read it there.
    #[error("the manager denies {0}")]
    Denied(String),
    /// It cannot answer now: unreachable, sealed, throttling.
    #[error("the manager cannot answer now: {0}")]
    Unavailable(String),
    /// It answered with something that is no value, or a kept value does not decrypt.
    #[error("the manager failed on {0}")]
    Failed(String),
}

/// What a read does beside giving the value. It decides caching, retry and sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may be repeated and shared.
    Pure,
}

/// A secrets manager.
#[async_trait]
pub trait SecretManager: Send + Sync + 'static {
    /// What reading this secret does.
    fn effect(&self, reference: &SecretRef) -> Effect;

    /// The payload of exactly this version, see [`edge_secrets_protocol::Fields`].
    async fn read(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError>;
}
