//! The hub's own secrets manager.

/// Secrets in the catalog, every version encrypted under a key of its own.
pub struct Embedded {}
