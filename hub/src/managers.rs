//! Secrets managers, behind one trait. The hub reads from them; nodes never do.

pub mod embedded;
pub mod envelope;

pub use edge_secrets_managers::*;
