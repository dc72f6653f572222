//! Secrets managers, behind one trait. The hub reads from them; nodes never do.

pub mod cache;
pub mod embedded;
pub mod envelope;
pub mod gate;
pub mod guarded;
pub mod policy;
pub mod registry;
#[cfg(test)]
pub(crate) mod shelf;

pub use edge_secrets_managers::*;
