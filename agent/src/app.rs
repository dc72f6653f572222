//! The daemon: [`build`] takes everything over that it needs, [`Bound::run`] lives until told to stop.
//!
//! One task owns the node's state and does everything in turn (`app/agent.rs`); beside it run the
//! connection's own task, the watch that notes hints, and the local socket. The watch is a hint and
//! the pull is the truth: every hint, reconnect, resync and retry goes the one way through
//! `converge`.

mod agenda;
mod agent;
mod board;
mod facts;
mod files;
mod hints;
mod log;
mod session;
mod signals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use facts::gather as gather_facts;
pub use log::init as init_log;

use crate::config::Config;
use crate::identity::{IdentityError, NodeIdentity, Store};
use crate::local_api::{BindError, LocalApi, LocalApiOptions};
use crate::metrics::Counters;
use crate::reconcile::{Reconciler, RuntimeError};

use agent::Agent;
use board::Board;

/// An agent that holds its runtime directory, its identity and its local socket.
pub struct Bound {
    agent: Agent,
    api: LocalApi,
    stop: CancellationToken,
}

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node is not enrolled.
    #[error(
        "this node is not enrolled (no identity in {}): get a token with `edge-secrets node token \
         NODE` and run `edge-secrets-agent enroll --token -`",
        .0.display()
    )]
    NotEnrolled(PathBuf),
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Signals cannot be awaited.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    /// The local socket cannot be bound.
    #[error("the local socket {} cannot be bound: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: BindError,
    },
}

/// Takes over what the agent needs. Nothing is connected yet, and nothing that services read has
/// changed. `protection` says what was reached for the process's own memory.
///
/// # Errors
/// When the node is not enrolled, or the runtime directory or the local socket cannot be used.
pub fn build(
    config: Config,
    config_path: &Path,
    protection: Vec<String>,
) -> Result<Bound, AppError> {
    let store = Store::new(&config.state_dir);
    let Some(identity) = NodeIdentity::load(&store)? else {
        return Err(AppError::NotEnrolled(config.state_dir));
    };
    identity.check_configured(&config.node)?;
    let mut reconciler = Reconciler::open(&config.runtime())?;
    reconciler.deliver_as(&identity.sealing_key.public());
    let board = Board::new(&config, &identity, protection, &reconciler);
    let (path, group) = (config.socket(), config.local_api.group.clone());
    let watch = board.watch();
    let stop = CancellationToken::new();
    let agent = Agent::new(
        config,
        config_path,
        store,
        identity,
        reconciler,
        board,
        stop.clone(),
    );
    let api = LocalApi::bind(LocalApiOptions {
        path: path.clone(),
        group,
        status: watch,
        refresh: agent.reload_bell(),
        counters: Arc::new(Counters::default()),
    })
    .map_err(|source| AppError::Socket { path, source })?;
    Ok(Bound { agent, api, stop })
}

impl Bound {
    /// Who the node is.
    #[must_use]
    pub fn node(&self) -> (&OrgId, &NodeId) {
        self.agent.node()
    }

    /// Ends [`run`](Self::run) when cancelled.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs until SIGTERM or SIGINT; SIGHUP re-reads the configuration. Leaves what services read
    /// as it is (invariant 10).
    ///
    /// # Errors
    /// When signals cannot be handled.
    pub async fn run_until_signal(self) -> Result<(), AppError> {
        let signals = signals::spawn(self.stop.clone(), self.agent.reload_bell());
        let _signals = AbortOnDrop(signals.map_err(AppError::Signals)?);
        self.run().await;
        Ok(())
    }

    /// Runs until [`stopper`](Self::stopper) is cancelled.
    pub async fn run(mut self) {
        let _api = AbortOnDrop(tokio::spawn(self.api.serve()));
        self.agent.run().await;
    }
}

/// A task that lives no longer than this.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
