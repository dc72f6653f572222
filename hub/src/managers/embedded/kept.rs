//! What the backends of other managers keep, encrypted as the hub's own secrets are.

use std::sync::Arc;

use async_trait::async_trait;
use edge_secrets_protocol::Secret;

use super::Embedded;
use crate::catalog::CatalogError;
use crate::clock;
use crate::managers::envelope::{self, Envelope};
use crate::managers::session::Kept;
use crate::managers::{Fault, ManagerError, ManagerName};

/// One manager's kept session, in the catalog.
pub struct KeptSession {
    embedded: Arc<Embedded>,
    manager: ManagerName,
}

impl KeptSession {
    /// The session of this manager.
    #[must_use]
    pub fn new(embedded: Arc<Embedded>, manager: ManagerName) -> Self {
        Self { embedded, manager }
    }
}

#[async_trait]
impl Kept for KeptSession {
    async fn load(&self) -> Result<Option<Secret>, ManagerError> {
        let catalog = &self.embedded.catalog;
        let kept = catalog.manager_session(&self.manager).await;
        let Some((wrapped_key, ciphertext)) = kept.map_err(failed)? else {
            return Ok(None);
        };
        let envelope = Envelope {
            wrapped_key,
            ciphertext,
        };
        envelope::open_session(&self.embedded.master, &self.manager, &envelope)
            .map(Some)
            .map_err(|_| {
                let why = "its kept session does not decrypt: check the hub's master key";
                ManagerError::new(Fault::Failed, why)
            })
    }

    async fn save(&self, session: &Secret) -> Result<(), ManagerError> {
        let closed = envelope::close_session(&self.embedded.master, &self.manager, session);
        let Envelope {
            wrapped_key,
            ciphertext,
        } = closed
            .map_err(|_| ManagerError::new(Fault::Failed, "its session cannot be encrypted"))?;
        let catalog = &self.embedded.catalog;
        catalog
            .put_manager_session(&self.manager, &wrapped_key, &ciphertext, clock::now())
            .await
            .map_err(failed)
    }
}

fn failed(error: CatalogError) -> ManagerError {
    ManagerError::new(Fault::Unavailable, error.to_string())
}
