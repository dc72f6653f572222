//! Why the engine did not do what it was asked for, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::consumers::names::ContainerName;

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// None of the sockets exists.
    #[error(
        "no container engine is there ({} does not exist): run `systemctl enable --now \
         podman.socket`, or start Docker, or name the socket in agent.yaml: containers.socket",
        list(.0)
    )]
    NotThere(Vec<PathBuf>),
    /// Nobody listens.
    #[error(
        "no container engine answers at {} ({source}): run `systemctl enable --now podman.socket`, \
         or for Docker `systemctl start docker`", socket.display()
    )]
    NotListening {
        /// The socket.
        socket: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The agent's user may not connect.
    #[error(
        "the agent may not use {}: let it run as root or in the group that owns the socket",
        .0.display()
    )]
    Denied(PathBuf),
    /// There is no such container.
    #[error(
        "there is no container called {0}: compare the profile with `podman ps -a` or `docker ps -a`"
    )]
    NoContainer(ContainerName),
    /// The engine says no.
    #[error("the container engine refuses {what} (HTTP status {status}): {message}")]
    Refused {
        /// What it was asked to do.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Its reason, shortened and made printable.
        message: String,
    },
    /// It takes too long.
    #[error(
        "the container engine at {} has not answered within {after:?}: see `systemctl status \
         podman.service` or `systemctl status docker.service`", socket.display()
    )]
    TooSlow {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// It broke off, or said something else than was asked for.
    #[error("the container engine's answer is not understood: {0}")]
    Answer(String),
}

impl EngineError {
    /// Why the socket could not be connected to.
    pub(super) fn connecting(socket: &Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied(socket),
            _ => Self::NotListening { socket, source },
        }
    }

    /// A conversation that broke.
    pub(super) fn broken(error: &hyper::Error) -> Self {
        Self::Answer(error.to_string())
    }

    /// Whether the engine cannot be reached at all, for whatever container.
    pub(super) fn is_away(&self) -> bool {
        matches!(
            self,
            Self::NotThere(_) | Self::NotListening { .. } | Self::Denied(_)
        )
    }
}

fn list(sockets: &[PathBuf]) -> String {
    let shown: Vec<_> = sockets.iter().map(|s| s.display().to_string()).collect();
    shown.join(" or ")
}
