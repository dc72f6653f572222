//! The values of live credentials, in this process's memory alone: a lease whose value is gone is
//! replaced by another one, never read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use edge_secrets_protocol::Secret;

use crate::catalog::records::LeaseId;

/// Values by lease. Clones share them; what is removed is wiped once nobody seals it any more.
#[derive(Clone, Default)]
pub struct Values(Arc<Mutex<HashMap<LeaseId, Arc<Secret>>>>);

impl Values {
    /// The value of a lease, where this process made it.
    #[must_use]
    pub fn get(&self, lease: LeaseId) -> Option<Arc<Secret>> {
        self.lock().get(&lease).cloned()
    }

    pub(super) fn put(&self, lease: LeaseId, value: Secret) {
        self.lock().insert(lease, Arc::new(value));
    }

    pub(super) fn remove(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseId, Arc<Secret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
