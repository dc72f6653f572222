//! What was asked of a stand-in.

use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use super::Request;

/// One call, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query, decoded, in its order.
    pub query: Vec<(String, String)>,
}

/// Every call that arrived, also those that met a fault. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Call>>>);

impl Log {
    /// All calls, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// How many calls `wanted` accepts.
    pub fn count(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.lock().iter().filter(|call| wanted(call)).count()
    }

    /// Forgets what came before.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn push(&self, request: &Request) {
        self.lock().push(Call {
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
