//! The edge-secrets hub: it knows which node should have which secret, and gives it to that node
//! alone, sealed. `ARCHITECTURE.md` has the map.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod backup;
pub mod ca;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deploy;
mod disk;
pub mod feed;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod generator;
pub mod hub;
pub mod init;
pub mod keys;
pub mod lease;
pub mod managers;
pub mod metadata;
pub mod observe;
pub mod operator;
pub mod pki;
mod place;
pub mod policy;
pub mod rights;
pub mod server;
pub mod wire;

pub use edge_secrets_managers::{reference, route};
