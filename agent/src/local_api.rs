//! What people and programs on this node may ask: HTTP/1.1 over a Unix socket that its group may
//! use. Names, versions and states; never a value. Nothing can be changed here; a refresh makes the
//! agent look again at what it looks at anyway. `docs/local-api.md` has it for users.

mod answer;
mod client;
mod peer;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::Problem;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Group;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

pub(crate) use answer::decode as percent_decode;
pub use client::{ClientError, metrics, refresh, services, status, wait};

use self::answer::{Answers, refuse};
use self::peer::Peer;
use crate::metrics::Counters;
use crate::places::{Bounds, Place, Places};
use crate::status::{AgentStatus, ServiceStatus};

/// The socket, bound, with nobody served yet. Removed when dropped.
pub struct LocalApi {
    listener: UnixListener,
    path: PathBuf,
    group: u32,
    answers: Answers,
}

/// What the local socket needs.
pub(crate) struct LocalApiOptions {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// The group that may use it, by name or number; the agent's own when `None`.
    pub(crate) group: Option<String>,
    /// What is told.
    pub(crate) status: watch::Receiver<Arc<AgentStatus>>,
    /// Rung when somebody wants a refresh.
    pub(crate) refresh: Arc<Notify>,
    /// What has been counted.
    pub(crate) counters: Arc<Counters>,
}

/// Why the socket cannot be bound. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no such group.
    #[error(
        "there is no group {0:?} (local_api.group): make it with `groupadd --system {0}`, or name \
         one that is there"
    )]
    UnknownGroup(String),
    /// The socket cannot be given to the group.
    #[error(
        "it cannot be given to the group {group:?} (local_api.group): {source}; run the agent as \
         root, or as a member of that group"
    )]
    Group {
        /// The group as configured.
        group: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// The body of `POST /v1/wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// `ORG/URL`, or the url alone.
    pub service: String,
    /// How long to wait at most; above 10 minutes it is 10 minutes.
    pub timeout_ms: u64,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// Whether the service is deployed here and each of its deployments is applied. One that is
    /// stopped is not.
    pub applied: bool,
    /// Its deployments.
    pub services: Vec<ServiceStatus>,
}

impl LocalApi {
    /// Binds the socket, in the place of one that a former life left. The caller holds the runtime
    /// directory, so that no other agent lives.
    ///
    /// # Errors
    /// When the socket cannot be bound or cannot be given to the group.
    pub(crate) fn bind(options: LocalApiOptions) -> Result<Self, BindError> {
        let LocalApiOptions {
            path,
            group,
            status,
            refresh,
            counters,
        } = options;
        // Before anything is touched: a wrong name changes nothing.
        let gid = group.as_deref().map(group_id).transpose()?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        if let (Some(gid), Some(group)) = (gid, group) {
            chown(&path, None, Some(gid)).map_err(|source| BindError::Group { group, source })?;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o660))?;
        let group = fs::symlink_metadata(&path)?.gid();
        Ok(Self {
            listener,
            path,
            group,
            answers: Answers {
                status,
                refresh,
                counters,
            },
        })
    }

    /// Serves for ever.
    pub async fn serve(self) {
        let places = Places::new(BOUNDS);
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Some(peer) = Peer::of(&stream) else {
                        debug!("Local connection of nobody known.");
                        continue;
                    };
                    let place = places.take(peer.uid);
                    let admitted = peer.admit(self.group);
                    let answers = self.answers.clone();
                    tokio::spawn(converse(stream, peer, admitted, place, answers));
                    // Who is there already comes before who comes next.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    warn!(%error, "The local socket cannot take a connection.");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

impl AgentStatus {
    /// A service's deployments, by `ORG/URL` or the url alone.
    pub fn of_service<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ServiceStatus> {
        self.services
            .iter()
            .filter(move |status| status.is_called(name))
    }
}

impl ServiceStatus {
    /// Whether this is the service's name: `ORG/URL`, or the url alone.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.service.url.as_str() == name || self.service.to_string() == name
    }
}

/// A group's number, by its name or as it is.
pub(crate) fn group_id(group: &str) -> Result<u32, BindError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match Group::from_name(group) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(BindError::UnknownGroup(group.to_owned())),
        Err(errno) => Err(BindError::Group {
            group: group.to_owned(),
            source: errno.into(),
        }),
    }
}

async fn converse(
    stream: UnixStream,
    peer: Peer,
    admitted: Result<(), Problem>,
    place: Place,
    answers: Answers,
) {
    let uid = peer.uid;
    debug!(uid, "Local request.");
    if admitted.is_err() {
        warn!(uid, "Local request of somebody who may not ask.");
    }
    let place = Arc::new(place);
    let service = service_fn(|request| {
        let (answers, place, admitted) = (answers.clone(), place.clone(), admitted.clone());
        async move {
            Ok::<_, Infallible>(match admitted {
                Ok(()) => answers.to(request, &place).await,
                Err(problem) => refuse(&problem),
            })
        }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = timeout(MAX_WAIT + 2 * HEADER_TIMEOUT, conversation) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(uid, %error, "Local request broken off."),
            Err(_) => debug!(uid, "Local request took too long."),
        },
        () = place.displaced() => debug!(uid, "Local connection made room for newer ones."),
    }
}

const STATUS: &str = "/v1/status";
const SERVICES: &str = "/v1/services";
const WAIT: &str = "/v1/wait";
const REFRESH: &str = "/v1/refresh";
const METRICS: &str = "/metrics";
const MAX_HEADERS: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(600);
const BOUNDS: Bounds = Bounds {
    short_each: 32,
    short_all: 128,
    waits_each: 64,
    waits_all: 128,
    waits_sure: 0,
};
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
