//! The edge-secrets agent: it pulls what its node should have, resolves the names and delivers the
//! values on tmpfs, and wipes them when they should go. `ARCHITECTURE.md` has the map.

pub mod app;
mod cache;
pub mod cli;
pub mod clock;
pub mod config;
mod consumers;
mod containers;
pub mod delivery;
mod disk;
pub mod ends;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hub;
pub mod identity;
pub mod local_api;
pub mod memory;
mod metrics;
mod places;
pub mod reconcile;
pub mod status;
mod sys;
mod systemd;
