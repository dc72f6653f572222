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
mod host;
mod log;
mod offline;
mod readiness;
mod session;
mod signals;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::{NodeId, OrgId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use facts::gather as gather_facts;
pub use log::init as init_log;

use crate::cache::SealedCache;
use crate::clock::Now;
use crate::config::Config;
use crate::consumers::credentials::{self, CredentialServer, Ending, Keeper, Shelf};
use crate::delivery::ConsumerId;
use crate::identity::{Custody, CustodyError, IdentityError, NodeIdentity, Store};
use crate::local_api::{BindError, LocalApi, LocalApiOptions};
use crate::metrics::Counters;
use crate::reconcile::{Reconciler, RuntimeError};
use crate::systemd::activation;
use crate::systemd::manager::Manager;
use crate::systemd::notify::Notifier;

use agent::{Agent, Parts};
use board::Board;
use host::Host;
use offline::Offline;
use readiness::Readiness;

/// An agent that holds its runtime directory, its identity and its local socket.
pub struct Bound {
    agent: Agent,
    api: LocalApi,
    credentials: Credentials,
    /// What the unit's conditions ask for: without it a restart ends with the stop.
    conditions: [PathBuf; 2],
    stop: CancellationToken,
}

/// The server of systemd credentials, and how it is told to end.
struct Credentials {
    server: CredentialServer<Stored>,
    keeps: bool,
    ending: watch::Sender<Ending>,
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
    /// The sealing key cannot be kept as the configuration wants.
    #[error(transparent)]
    Custody(#[from] CustodyError),
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
    /// The socket where units get their credentials cannot be used.
    #[error("the credentials' socket {} cannot be used: {source}", path.display())]
    Credentials {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
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
    let credentials = Custody::credentials();
    let custody = Custody::of(config.identity.sealing_key, credentials.as_deref())?;
    build_with(config, config_path, protection, custody)
}

fn build_with(
    config: Config,
    config_path: &Path,
    protection: Vec<String>,
    custody: Custody,
) -> Result<Bound, AppError> {
    let store = Store::new(&config.state_dir).with_custody(custody);
    let Some(identity) = NodeIdentity::load(&store)? else {
        return Err(AppError::NotEnrolled(config.state_dir));
    };
    identity.check_configured(&config.node)?;
    if identity.sealing.all().is_empty() {
        let why = identity.sealing_lost.as_deref().unwrap_or("it has no key");
        let reason =
            format!("{why}; the next renewal, at the first contact with the hub, brings a new key");
        warn!(
            reason,
            "What is kept for times without a hub cannot be opened."
        );
        SealedCache::give_up(&config.state_dir, &reason);
    }
    let counters = Arc::new(Counters::default());
    let mut reconciler = Reconciler::open(&config.runtime())?;
    reconciler.count_in(counters.clone());
    let host = Host::new(&config, counters.clone());
    reconciler.serve_apis(config.open_horizon.secrets_api);
    reconciler.shape_by(host.profiles());
    reconciler.deliver_as(&identity.enrolment);
    // Before anybody is told or given anything.
    reconciler.expire(Now::read());
    let boot = reconciler.boot_mark().clone();
    let offline = Offline::open(&config, &identity, Now::read(), boot);
    let board = Board::new(&config, &identity, protection, &reconciler);
    let notifier = Notifier::from_env();
    let (shelf, asked) = (host.shelf(), host.asked());
    let credentials_socket = config.credentials_socket();
    let conditions = [config_path.to_owned(), store.dir().join("identity")];
    let stop = CancellationToken::new();
    let status = board.watch();
    let (group, path) = (config.local_api.group.clone(), config.socket());
    let ready = config.ready.timeout.duration();
    let agent = Agent::new(
        Parts {
            readiness: Readiness::new(notifier.clone(), ready, Instant::now()),
            config,
            store,
            identity,
            reconciler,
            offline,
            board,
            host,
            counters: counters.clone(),
            stop: stop.clone(),
        },
        config_path,
    );
    let api = LocalApi::bind(LocalApiOptions {
        path: path.clone(),
        group,
        status,
        refresh: agent.reload_bell(),
        counters: counters.clone(),
    })
    .map_err(|source| AppError::Socket { path, source })?;
    // Last, so that what fails before leaves waiting units to `refuse_waiting`.
    let mut credentials = credentials(credentials_socket, shelf, asked, notifier)?;
    credentials.server = credentials.server.counted(counters);
    Ok(Bound {
        agent,
        api,
        credentials,
        conditions,
        stop,
    })
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
        let Credentials {
            server,
            keeps,
            ending,
        } = self.credentials;
        let mut credentials = tokio::spawn(server.serve(ending.subscribe()));
        self.agent.run().await;
        // Units that wait for a credential go on waiting over a restart; a real end must not give
        // them an empty one.
        let restart = keeps
            && self.conditions.iter().all(|path| path.exists())
            && restarts(self.agent.manager()).await;
        ending.send_replace(if restart {
            Ending::Restart
        } else {
            Ending::Stop
        });
        if timeout(CREDENTIALS_END, &mut credentials).await.is_err() {
            warn!("Some units still wait for credentials; their connections are dropped.");
            credentials.abort();
        }
    }
}

/// Whether the service manager stops this process to start it again.
async fn restarts(manager: Manager) -> bool {
    let asked = manager.restarts().await;
    asked
        .inspect_err(|error| warn!(%error, "Whether this is a restart is not known."))
        .unwrap_or(false)
}

/// The socket that the service manager hands over, else one of the agent's own.
fn credentials(
    path: PathBuf,
    shelf: watch::Receiver<Arc<Shelf>>,
    asked: mpsc::UnboundedSender<ConsumerId>,
    notifier: Notifier,
) -> Result<Credentials, AppError> {
    let inherited = activation::take();
    // Whoever hands a socket over keeps descriptors too: they are told in the same way.
    let keeps = inherited.credentials.is_some() && notifier.is_heard();
    let failed = |source| AppError::Credentials {
        path: path.clone(),
        source,
    };
    let listener = match inherited.credentials {
        Some(listener) => listener,
        None => credentials::bind(&path).map_err(failed)?,
    };
    let stored = Stored { notifier, keeps };
    let server = CredentialServer::new(listener, inherited.stored, shelf, stored, asked);
    Ok(Credentials {
        server: server.map_err(failed)?,
        keeps,
        ending: watch::Sender::new(Ending::Running),
    })
}

/// The agent does not start: units that wait since a former life fail, instead of starting with an
/// empty credential when the service manager gives their connections up.
pub async fn refuse_waiting() {
    let inherited = activation::take();
    let Some(listener) = inherited.credentials else {
        return;
    };
    let notifier = Notifier::from_env();
    let shelf = watch::Sender::new(Arc::default()).subscribe();
    let stored = Stored {
        keeps: notifier.is_heard(),
        notifier,
    };
    let (asked, _nobody) = mpsc::unbounded_channel();
    match CredentialServer::new(listener, inherited.stored, shelf, stored, asked) {
        Ok(server) => {
            server
                .serve(watch::Sender::new(Ending::Stop).subscribe())
                .await
        }
        Err(error) => warn!(%error, "Units that wait for credentials cannot be refused."),
    }
}

/// The service manager's descriptor store.
#[derive(Debug)]
struct Stored {
    notifier: Notifier,
    keeps: bool,
}

impl Keeper for Stored {
    fn keeps(&self) -> bool {
        self.keeps
    }

    fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        self.notifier.store(name, fd);
    }

    fn unstore(&self, name: &str) {
        self.notifier.unstore(name);
    }
}

/// How long units may take to read what they are answered at the end.
const CREDENTIALS_END: Duration = Duration::from_secs(10);

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
