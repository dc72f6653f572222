//! What a manager keeps over restarts of the hub: its session there, where leases hang on it.

use async_trait::async_trait;
use edge_secrets_protocol::Secret;
use tokio::sync::Mutex;

use crate::ManagerError;

/// One secret blob per manager, kept encrypted. What it holds is the manager's own affair.
#[async_trait]
pub trait Kept: Send + Sync + 'static {
    /// What was kept last.
    async fn load(&self) -> Result<Option<Secret>, ManagerError>;

    /// Keeps this instead. Durable when it returns.
    async fn save(&self, session: &Secret) -> Result<(), ManagerError>;
}

/// Keeps it in memory alone: for checks and tests.
#[derive(Default)]
pub struct InMemory(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Kept for InMemory {
    async fn load(&self) -> Result<Option<Secret>, ManagerError> {
        Ok(self.0.lock().await.clone().map(Secret::new))
    }

    async fn save(&self, session: &Secret) -> Result<(), ManagerError> {
        *self.0.lock().await = Some(session.expose().to_vec());
        Ok(())
    }
}
