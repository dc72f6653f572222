//! The hub as a whole: from its configuration to its end.

mod background;

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::SealingKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::DropGuard;
use tracing::{error, info};
use zeroize::Zeroizing;

use crate::api;
use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Catalog, CatalogError};
use crate::clock;
use crate::config::Config;
use crate::deploy::Models;
use crate::disk;
use crate::feed::{self, Feed};
use crate::hub::Hub;
use crate::keys;
use crate::lease::{Desk, Leases};
use crate::managers::ManagerName;
use crate::managers::embedded::{Embedded, KeptSession};
use crate::managers::session::Kept;
use crate::observe::Hints;
use crate::pki::{CA_CERTIFICATE_FILE, Pki, PkiError};
use crate::server::tls::ServerCertificate;
use crate::server::{Acquaintance, Server, ServerError, Stop};

/// Why the hub does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory is not one that `init` made.
    #[error("{}: {reason}. `edge-secrets-hub init --data-dir DIR` makes a data directory", path.display())]
    DataDir {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the data directory is not what was written. It is left as it is.
    #[error(
        "{}: {reason}. Nothing was changed: put the file back as it was, or bring a backup back into a \
         new directory (edge-secrets-hub restore)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data directory cannot be written just now.
    #[error(
        "{}: {reason}. A hub needs a data directory that it can write: make room, or mount it so",
        path.display()
    )]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// Another hub serves this data directory.
    #[error("another hub is serving {} already, or its keys or organisations are changed", .0.display())]
    Locked(PathBuf),
    /// A backup is made of this data directory, or its keys are exchanged.
    #[error("a backup is made of {}, or its keys are exchanged: try again when that is done", .0.display())]
    Maintained(PathBuf),
    /// The master key is not the one that the database is encrypted under.
    #[error(
        "{} does not open what is in the database: put back the master key that belongs to it",
        .0.display()
    )]
    OtherMasterKey(PathBuf),
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// There is no server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A secrets manager of the configuration cannot be used.
    #[error("hub.yaml: {0}")]
    Managers(String),
    /// The system does not let the hub be stopped by a signal, or the like.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl AppError {
    /// A file that cannot be used: damaged, where the rest of a hub is there.
    pub(crate) fn unfit(path: &Path, reason: String) -> Self {
        let rest = [CA_CERTIFICATE_FILE, DATABASE_FILE, MASTER_KEY_FILE];
        let mut rest = rest.iter().map(|name| path.with_file_name(name));
        let path = path.to_owned();
        match rest.any(|other| other != path && other.exists()) {
            true => Self::Damaged { path, reason },
            false => Self::DataDir { path, reason },
        }
    }

    fn of_pki(error: PkiError) -> Self {
        match error {
            PkiError::File { path, reason } => Self::unfit(&path, reason),
            other => Self::Pki(other),
        }
    }

    fn of_database(path: &Path, error: CatalogError) -> Self {
        match error {
            CatalogError::Storage(reason) => Self::unfit(path, reason),
            other => Self::disk(path, &other),
        }
    }

    /// The disk's trouble with a file.
    pub(crate) fn disk(path: &Path, reason: &impl ToString) -> Self {
        Self::Disk {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Whether trying again without changing something is in vain.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::DataDir { .. }
                | Self::Damaged { .. }
                | Self::OtherMasterKey(_)
                | Self::Managers(_)
                | Self::Pki(PkiError::File { .. })
        )
    }
}

/// A hub that holds its address and data directory and serves nobody yet.
pub struct Bound {
    hub: Arc<Hub>,
    catalog: Arc<SqliteCatalog>,
    server: Server,
    certificate: Arc<ServerCertificate>,
    address: SocketAddr,
    desk: Desk,
    /// Held for as long as the data directory is used.
    _lock: File,
}

/// Opens what `init` made and binds the address.
///
/// # Errors
/// When something of it is missing, damaged or used by another hub, or the address cannot be bound.
pub async fn build(config: Config) -> Result<Bound, AppError> {
    let dir = config.data_dir.clone();
    let lock = serving(&dir)?;
    let pki = Pki::load(&dir, config.trust_domain.clone()).map_err(AppError::of_pki)?;
    let sealing_key = key(&dir.join(SEALING_KEY_FILE), |bytes| {
        SealingKey::from_bytes(bytes).ok()
    })?;
    let certificate = Arc::new(ServerCertificate::issue(&pki, &config.server_names)?);
    let catalog = Arc::new(database(&dir).await?);
    let master = match keys::settle(&dir, &catalog).await {
        Ok(master) => master,
        Err(error) => {
            catalog.close().await;
            return Err(error);
        }
    };
    let secrets = Embedded::new(Arc::clone(&catalog) as Arc<dyn Catalog>, master);
    let secrets = Arc::new(secrets);
    let kept = |manager: &ManagerName| -> Arc<dyn Kept> {
        Arc::new(KeptSession::new(Arc::clone(&secrets), manager.clone()))
    };
    let managers = match config.managers.build(kept) {
        Ok(managers) => managers,
        Err(reason) => {
            catalog.close().await;
            return Err(AppError::Managers(reason));
        }
    };
    let (leases, desk) = Leases::new();
    let hub = Arc::new(Hub {
        secrets,
        managers,
        hints: Hints::default(),
        leases,
        catalog: Arc::clone(&catalog) as Arc<dyn Catalog>,
        pki,
        feed: Feed::new(),
        sealing_key,
        models: Models::default(),
        config,
    });
    let router = api::router(Arc::clone(&hub));
    let acquaintance = Arc::clone(&hub) as Arc<dyn Acquaintance>;
    let shown = Arc::clone(&certificate);
    let bound = Server::bind(&hub.config, &hub.pki, shown, router, acquaintance).await;
    let server = match bound {
        Ok(server) => server,
        Err(error) => {
            catalog.close().await;
            return Err(error.into());
        }
    };
    let address = server.address()?;
    Ok(Bound {
        hub,
        catalog,
        server,
        certificate,
        address,
        desk,
        _lock: lock,
    })
}

/// The database of a data directory, which must be there and sound.
///
/// # Errors
/// When it is not, or the disk fails.
pub(crate) async fn database(dir: &Path) -> Result<SqliteCatalog, AppError> {
    let path = dir.join(DATABASE_FILE);
    if !path.exists() {
        return Err(AppError::unfit(&path, "there is no database".into()));
    }
    let opened = SqliteCatalog::open_sound(&path).await;
    opened.map_err(|error| AppError::of_database(&path, error))
}

impl Bound {
    /// The address that is really listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parts, for those who look at a hub from within.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Serves until SIGTERM or SIGINT, then lets requests under way end; a second signal cuts them.
    /// Calls `listening` with the address once signals are heeded: whoever is told may send one.
    ///
    /// # Errors
    /// When signals cannot be awaited.
    pub async fn run_until_shutdown(
        self,
        listening: impl FnOnce(SocketAddr),
    ) -> Result<(), AppError> {
        let stop = Stop::default();
        let _ended = on_signals(&stop)?;
        listening(self.address);
        self.run(stop).await;
        Ok(())
    }

    /// Serves until told to stop, and returns when everything is closed.
    pub async fn run(self, stop: Stop) {
        let Self {
            hub,
            catalog,
            server,
            certificate,
            address,
            desk,
            _lock,
        } = self;
        info!(%address, trust_domain = %hub.pki.trust_domain(), "Listening.");
        // No one watches yet, so that what came before now is news to nobody.
        let seq = *catalog.bell().borrow();
        let follower = feed::follow(hub.feed.clone(), Arc::clone(&hub.catalog), seq);
        let follower = AbortOnDrop(tokio::spawn(follower));
        let renewal = AbortOnDrop(tokio::spawn(renew(Arc::clone(&hub), certificate)));
        let background = AbortOnDrop(tokio::spawn(background::run(Arc::clone(&hub), desk)));
        let closing = async {
            stop.graceful.cancelled().await;
            info!("Stopping.");
            // Watches and long waits are requests too: they end first.
            hub.feed.close();
        };
        let (served, closing) = (server.run(stop.clone()), std::pin::pin!(closing));
        futures_util::future::join(served, closing).await;
        drop((follower, renewal, background));
        catalog.close().await;
        info!("Stopped.");
    }
}

/// Exchanges the server's certificate in time. Looks often, by the wall clock: a timer of months would not
/// count the days that the machine slept, and a clock that was wrong at the start may have been set since.
async fn renew(hub: Arc<Hub>, certificate: Arc<ServerCertificate>) {
    loop {
        sleep(LOOK).await;
        match certificate.renew_if_due(&hub.pki, &hub.config.server_names, clock::now()) {
            Ok(true) => info!("The server's certificate is renewed."),
            Ok(false) => {}
            Err(error) => error!(%error, "The server's certificate is not renewed."),
        }
    }
}

fn on_signals(stop: &Stop) -> Result<DropGuard, AppError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio_util::sync::CancellationToken::new();
    let (guard, stop) = (ended.clone().drop_guard(), stop.clone());
    tokio::spawn(async move {
        for token in [stop.graceful, stop.immediate] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = ended.cancelled() => return,
            }
            token.cancel();
        }
    });
    Ok(guard)
}

/// One process at a time: SQLite would cope, but the bell rings in one process alone.
///
/// # Errors
/// When a hub serves the directory, or the lock cannot be taken.
pub(crate) fn serving(dir: &Path) -> Result<File, AppError> {
    lock(dir, LOCK_FILE, || AppError::Locked(dir.into()))
}

/// One backup or change of keys at a time, whether a hub serves or not.
///
/// # Errors
/// When another one is under way, or the lock cannot be taken.
pub(crate) fn alone(dir: &Path) -> Result<File, AppError> {
    lock(dir, MAINTENANCE_FILE, || AppError::Maintained(dir.into()))
}

fn lock(dir: &Path, name: &str, held: impl FnOnce() -> AppError) -> Result<File, AppError> {
    let path = dir.join(name);
    let unfit = |error: &std::io::Error| match disk::may_pass(error) {
        true => AppError::disk(&path, error),
        false => AppError::DataDir {
            path: path.clone(),
            reason: error.to_string(),
        },
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| unfit(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(held()),
        Err(TryLockError::Error(error)) => Err(unfit(&error)),
    }
}

pub(crate) fn key<K>(path: &Path, read: impl FnOnce(&[u8]) -> Option<K>) -> Result<K, AppError> {
    let unfit = |reason: String| AppError::unfit(path, reason);
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| unfit(error.to_string()))?);
    crate::managers::credential::expect_private(path).map_err(unfit)?;
    read(&bytes).ok_or_else(|| unfit("the key is malformed".into()))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often the server's certificate is looked at.
const LOOK: Duration = Duration::from_secs(15);
/// The key that wraps the keys of all embedded secrets: raw bytes.
pub const MASTER_KEY_FILE: &str = "master.key";
/// The key that opens what operators send: raw bytes.
pub const SEALING_KEY_FILE: &str = "sealing.key";
/// The catalog.
pub const DATABASE_FILE: &str = "hub.db";
/// Held while a backup is made or keys are exchanged.
pub const MAINTENANCE_FILE: &str = "maintenance.lock";
/// Held while a hub serves.
pub const LOCK_FILE: &str = "lock";

#[cfg(test)]
mod tests;
