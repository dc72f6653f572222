//! From what the node should have to what lies on tmpfs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use edge_secrets_protocol::binding::{Bindings, FetchItem, FetchResult};
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{NodeId, OrgId, SealingKey};
use jiff::Timestamp;

use crate::status::ServiceStatus;

/// Where and how values are delivered.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The runtime directory.
    pub dir: PathBuf,
    /// Mount a tmpfs there when it is none and that is allowed; else require that it is one.
    pub mount: bool,
    /// The tmpfs's size in bytes, where it is mounted here.
    pub size: u64,
    /// How long a superseded generation waits for its readers before it is wiped all the same.
    pub grace: Duration,
}

/// Keeps what lies on tmpfs as the bindings want it. Synchronous: tmpfs does not block, and the one
/// locked buffer is used by one delivery at a time.
pub struct Reconciler {}

/// Why the runtime directory cannot be used at all. Says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

impl Reconciler {
    /// Takes the runtime directory over: mounts or checks it, locks it against a second agent,
    /// sweeps what a former life left, and reads what is delivered. Changes nothing that services
    /// read.
    pub fn open(_options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        unimplemented!()
    }

    /// Takes what the node should have, wipes at once what it should not have any more, and gives
    /// the values to fetch (none that is delivered already, each once).
    pub fn desire(&mut self, _bindings: &Bindings, _now: Timestamp) -> Vec<FetchItem> {
        unimplemented!()
    }

    /// Delivers what was fetched: every consumer whose values are complete gets its next generation;
    /// a deployment that lacks one stays as it was. What fails is in the report.
    pub fn deliver(
        &mut self,
        _org: &OrgId,
        _node: &NodeId,
        _keys: &[&SealingKey],
        _fetched: &[(FetchItem, FetchResult)],
        _now: Timestamp,
    ) {
        unimplemented!()
    }

    /// What to tell the hub.
    pub fn report(&self) -> StatusReport {
        unimplemented!()
    }

    /// What to tell people.
    pub fn services(&self) -> Vec<ServiceStatus> {
        unimplemented!()
    }

    /// Wipes superseded generations whose readers are gone or whose grace is over, and says when to
    /// look again.
    pub fn tick(&mut self, _now: Instant) -> Option<Instant> {
        unimplemented!()
    }

    /// Wipes everything, tries every file, and says what could not be wiped.
    pub fn wipe_all(&mut self, _now: Timestamp) -> Result<(), RuntimeError> {
        unimplemented!()
    }

    /// How the runtime directory is kept out of swap, for people.
    pub fn protection(&self) -> String {
        unimplemented!()
    }
}
