//! Connections: accepting, TLS, HTTP/2, and an orderly end.

mod connection;
mod crowd;
mod steady;
pub mod tls;
mod verifier;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::Config;
use crate::pki::Pki;
use crate::pki::identity::ClientCertificate;
use crowd::Crowd;
use tls::ServerCertificate;

pub(crate) use crowd::network;

/// Tells whose certificate counts. TLS lets in whatever the hub has ever issued and has not expired.
#[async_trait]
pub trait Acquaintance: Send + Sync {
    /// Whether the certificate is one that may do anything now. Who cannot be told is known: each call finds
    /// out anew.
    async fn knows(&self, certificate: &ClientCertificate) -> bool;
}

/// A server that holds its address and accepts nothing yet.
pub struct Server {
    listener: TcpListener,
    connections: Arc<connection::Settings>,
    room: Arc<Semaphore>,
    /// Those that have not said yet who they are, or have no certificate that counts.
    unknown: Crowd,
    most_unknown: usize,
    drain: Duration,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// TLS refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// How to stop. Both can be given at any time, the second after the first too.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Accept nothing more, let requests under way end, then end.
    pub graceful: CancellationToken,
    /// End now.
    pub immediate: CancellationToken,
}

impl Server {
    /// Binds the configured address and prepares TLS.
    ///
    /// # Errors
    /// When the address is taken or not this machine's, or TLS cannot be set up.
    pub async fn bind(
        config: &Config,
        pki: &Pki,
        certificate: Arc<ServerCertificate>,
        router: Router,
        acquaintance: Arc<dyn Acquaintance>,
    ) -> Result<Self, ServerError> {
        let grace = config.node_certificates.renewal_grace;
        let tls = tls::server_config(pki, grace, certificate)
            .map_err(|error| ServerError::Tls(error.to_string()))?;
        let failed = |source| ServerError::Listen {
            address: config.listen,
            source,
        };
        Ok(Self {
            listener: TcpListener::bind(config.listen).await.map_err(failed)?,
            connections: Arc::new(connection::Settings {
                tls: TlsAcceptor::from(Arc::new(tls)),
                router,
                acquaintance,
                trust_domain: pki.trust_domain().clone(),
                renewal_grace: grace,
                handshake_timeout: config.limits.handshake_timeout,
                max_streams: config.limits.max_streams,
                reader_timeout: config.limits.reader_timeout,
                drain: config.limits.shutdown_timeout,
            }),
            room: Arc::new(Semaphore::new(config.limits.max_connections)),
            unknown: Crowd::default(),
            most_unknown: config.limits.max_unknown_per_address,
            drain: config.limits.shutdown_timeout,
        })
    }

    /// The address that is really listened on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, and returns when the last connection has ended.
    pub async fn run(self, stop: Stop) {
        let tasks = TaskTracker::new();
        tokio::select! {
            () = self.accept(&tasks, &stop) => {}
            () = stop.graceful.cancelled() => {}
            () = stop.immediate.cancelled() => {}
        }
        // New connections are refused by the system from here on.
        drop(self.listener);
        tasks.close();
        stop.graceful.cancel();
        let drained = async {
            tokio::select! {
                () = tasks.wait() => {}
                () = stop.immediate.cancelled() => {}
            }
        };
        if timeout(self.drain, drained).await.is_err() {
            warn!(
                connections = tasks.len(),
                "Requests did not end in time; their connections are cut."
            );
        }
        stop.immediate.cancel();
        tasks.wait().await;
    }

    async fn accept(&self, tasks: &TaskTracker, stop: &Stop) {
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&self.room).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let Some(place) = self.unknown.enter(address.ip(), self.most_unknown) else {
                        debug!(%address, "Too many unknown connections of one address; refused.");
                        continue;
                    };
                    let (settings, stop) = (Arc::clone(&self.connections), stop.clone());
                    tasks.spawn(async move {
                        let immediate = stop.immediate.clone();
                        tokio::select! {
                            () = connection::serve(&settings, stream, address, place, &stop) => {}
                            () = immediate.cancelled() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {
                    debug!(%error, "A connection ended before it was accepted.");
                }
                Err(error) => {
                    // Out of descriptors or memory: others must end first.
                    warn!(%error, "No connection can be accepted; trying again.");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests;
