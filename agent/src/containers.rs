//! The container engine: podman's or Docker's API over its Unix socket, as far as both are the same.
//!
//! Paths go without a version: podman answers every one, Docker has dropped old ones (its 29 takes
//! none below 1.44), and what is read here has been the same in all of them. Containers are known by
//! name; both engines also take the beginning of an id for one, so an answer counts only when it is
//! about the name that was asked for.

mod api;
mod error;
mod events;
mod inspect;
mod watch;

#[cfg(test)]
mod fake;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::mpsc;

pub(crate) use error::EngineError;

use crate::app::AbortOnDrop;
use crate::consumers::lifecycle::Observed;
use crate::consumers::names::{ContainerName, SignalName};
use inspect::{Found, Liveness};

/// A client of the container engine. Nothing is connected between calls, so that an engine may start
/// later, and podman's socket-activated service may end when nobody needs it.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// The first that exists is used.
    sockets: Arc<[PathBuf]>,
    pace: Pace,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// From a call to its whole answer.
    answer: Duration,
    /// From opening the event stream to looking at all containers again; grows from there.
    look_again: Duration,
    /// At most so long between two such looks.
    look_again_cap: Duration,
}

impl Engine {
    /// Uses this socket; without one the first that exists of podman's and Docker's usual ones,
    /// looked up at each connect.
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        let sockets = match socket {
            Some(socket) => Arc::from([socket]),
            None => USUAL_SOCKETS.iter().map(PathBuf::from).collect(),
        };
        Self {
            sockets,
            pace: PACE,
        }
    }

    /// Sends a signal to the container's first process. A container that does not run needs none:
    /// it reads what is there when it starts. Takes at most 30 seconds.
    ///
    /// # Errors
    /// When no engine answers in time, no container is called so, or the engine refuses.
    pub(crate) async fn signal(
        &self,
        container: &ContainerName,
        signal: SignalName,
    ) -> Result<(), EngineError> {
        let Some(found) = self.look(container).await? else {
            return Err(EngineError::NoContainer(container.clone()));
        };
        if !found.liveness.takes_signals() {
            return Ok(());
        }
        // By id: the container that was looked at, not one that has taken its name since.
        let path = format!("/containers/{}/kill?signal={signal}", found.id);
        let answer = self.ask(Method::POST, &path).await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        // Engines differ in how they say that it has ended meanwhile: 409, or 500 in podman 4.
        match self.look(container).await? {
            Some(now) if now.id == found.id && now.liveness.takes_signals() => {
                Err(answer.refusal(&format!("to send {signal} to container {container}")))
            }
            _ => Ok(()),
        }
    }

    /// Tells through `seen` whether each container is present, at first and at each change, until it
    /// is dropped or nobody receives. While no engine answers each is unknown, with a reason that
    /// says what to do. Two changes that follow closely may be told as one, or, where they cancel
    /// each other, not at all.
    pub(crate) fn watch(
        &self,
        containers: BTreeSet<ContainerName>,
        seen: mpsc::UnboundedSender<Observed>,
    ) -> AbortOnDrop {
        AbortOnDrop::new(tokio::spawn(watch::follow(self.clone(), containers, seen)))
    }

    /// How the container stands; none when there is none of this name.
    async fn look(&self, container: &ContainerName) -> Result<Option<Found>, EngineError> {
        let answer = self
            .ask(Method::GET, &format!("/containers/{container}/json"))
            .await?;
        match answer.status {
            StatusCode::OK => inspect::parse(container, &answer.body),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.refusal(&format!("to tell of container {container}"))),
        }
    }
}

const USUAL_SOCKETS: [&str; 3] = [
    "/run/podman/podman.sock",
    "/run/docker.sock",
    "/var/run/docker.sock",
];

const PACE: Pace = Pace {
    answer: Duration::from_secs(10),
    look_again: Duration::from_secs(1),
    look_again_cap: Duration::from_secs(600),
};

#[cfg(test)]
mod tests;
