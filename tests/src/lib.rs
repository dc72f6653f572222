//! The harness of the end-to-end suite: real hub and agent processes in a temporary place, the real
//! operator's command, a raw client of the protocol, and scanners that look for a value from outside.
//!
//! Everything that is started is killed, and every file is removed, when its owner is dropped, also
//! when a test panics. Waits end with an event (a file, a line, a long poll); [`DEADLINE`] only
//! bounds them, so that a test that cannot pass fails.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a harness fails by panicking: the message is the test's"
)]

pub mod agent;
pub mod binaries;
pub mod canary;
pub mod client;
pub mod clock;
pub mod cut;
pub mod daemon;
pub mod hub;
pub mod ibm;
pub mod node;
pub mod nspawn;
pub mod operator;
pub mod podman;
pub mod port;
pub mod postgres;
pub mod reader;
pub mod relay;
pub mod samples;
pub mod scan;
pub mod secret_server;
pub mod secrets_api;
pub mod stand_in;
pub mod unit;
pub mod vault;
pub mod wait;

pub use agent::TestAgent;
pub use canary::Canary;
pub use client::{Answer, Client, Credentials};
pub use clock::Clock;
pub use cut::Cut;
pub use hub::TestHub;
pub use ibm::TestIbm;
pub use node::RawNode;
pub use operator::Operator;
pub use podman::Podman;
pub use postgres::Postgres;
pub use secret_server::TestSecretServer;
pub use stand_in::StandIn;
pub use vault::TestVault;
pub use wait::DEADLINE;

/// The organisation that every test hub serves.
pub const ORG: &str = "myorg";

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
