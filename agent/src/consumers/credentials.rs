//! `LoadCredential=NAME:/run/edge-secrets/credentials.sock` (systemd.exec(5)): one connection per
//! credential, from the service manager, from an address that names unit and credential.
//!
//! # Nothing but the whole value
//!
//! systemd takes whatever it reads until the end of the stream as the credential, an empty or a torn
//! one too; there is no word for "no". Only more than it takes (1 MiB for a unit) makes the unit fail
//! before it starts. So whoever gets no value gets 4 MiB of zeros (`peer::Peer::fail`), and a
//! connection of which a byte may have been read is never closed before its value is whole or the
//! zeros are written.
//!
//! # Over a restart
//!
//! A connection that waits, or that is in the middle of an answer, is in the service manager's
//! descriptor store as `credential-<id>`, so that it outlives the agent. Before the first byte of an
//! answer a second descriptor goes there, `credential-sending-<id>`: the next life cannot know how
//! much was read, and answers such a connection with the zeros. A descriptor cannot change its name
//! there: the store ignores one that it has already. An answer of one piece, which the kernel takes
//! as a whole, needs neither.
//!
//! What is left: a kill between the acceptance of a connection and the first of these, some
//! microseconds; and an agent that dies and is not started again, when the service manager empties
//! the store. The unit then starts with an empty credential. An agent that finds at its start that it
//! cannot run serves what was stored with [`Ending::Stop`] and an empty shelf, so that it is refused.

mod address;
mod answer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod kept;
mod listen;
mod lookup;
mod offer;
mod peer;
mod places;
mod seldom;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use nix::unistd::geteuid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

pub(crate) use self::kept::Keeper;

use self::answer::{Service, ended, serve_one};
use self::kept::{Kept, sort};
use self::peer::Peer;
use self::places::Places;
use self::seldom::Seldom;
use super::names::FileName;
use super::profiles::Profiles;
use crate::delivery::ConsumerId;
use crate::metrics::Counters;

/// What can be given out now. Published by the agent whenever it changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) consumers: BTreeMap<ConsumerId, Shelved>,
}

/// One consumer's live generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelved {
    /// The generation's own directory: what is opened below it is never of another generation.
    pub(crate) generation: PathBuf,
    pub(crate) files: BTreeSet<FileName>,
}

/// Whether the agent goes on, and what becomes of waiting connections when it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It goes on.
    Running,
    /// It is started again at once, and what the service manager keeps comes back. Without a
    /// service manager that keeps anything the same as [`Stop`](Self::Stop).
    Restart,
    /// It stays down, or nobody knows: who waits is refused.
    Stop,
}

/// Serves credentials to the service manager.
#[derive(Debug)]
pub(crate) struct CredentialServer<K> {
    listener: tokio::net::UnixListener,
    stored: Vec<(Peer, Kept<K>)>,
    service: Service<K>,
}

impl<K: Keeper> CredentialServer<K> {
    /// Takes a listening socket, from socket activation or from [`bind`], and the connections that
    /// the service manager kept of a former life, with their names (names that are not of this
    /// server are ignored). The consumer whose profile serves a request is told through `asked`.
    ///
    /// # Errors
    /// When the socket cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        listener: UnixListener,
        stored: Vec<(String, OwnedFd)>,
        shelf: watch::Receiver<Arc<Shelf>>,
        keeper: K,
        asked: mpsc::UnboundedSender<ConsumerId>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let keeper = Arc::new(keeper);
        let mut taken = Vec::new();
        for (kept, fd) in sort(stored, &keeper) {
            match Peer::new(UnixStream::from(fd)) {
                Ok(peer) => taken.push((peer, kept)),
                Err(error) => {
                    warn!(%error, "A stored connection cannot be used: it is dropped.");
                    kept.forget();
                }
            }
        }
        Ok(Self {
            listener: tokio::net::UnixListener::from_std(listener)?,
            stored: taken,
            service: Service {
                keeper,
                shelf,
                asked,
                trusts: system_or_own,
                places: Places::default(),
                strangers: Seldom::new(1, LOG_WINDOW),
                refusals: Seldom::new(LOG_BURST, LOG_WINDOW),
                counters: Arc::default(),
            },
        })
    }

    /// Serves until `ending` says that the agent ends (its sender gone is a stop), and then at most 5
    /// seconds longer: answers in the middle are finished; who waits stays with the service manager
    /// or is refused, as [`Ending`] says.
    pub(crate) async fn serve(self, mut ending: watch::Receiver<Ending>) {
        let Self {
            listener,
            stored,
            service,
        } = self;
        let service = Arc::new(service);
        let mut connections = JoinSet::new();
        for (peer, kept) in stored {
            // One that a former life accepted had its place then; there are no more than that.
            let place = service.places.try_open();
            let one = serve_one(service.clone(), peer, kept, ending.clone());
            connections.spawn(async move {
                one.await;
                drop(place);
            });
        }
        loop {
            tokio::select! {
                _ = ended(&mut ending) => break,
                Some(done) = connections.join_next() => report(done),
                accepted = accept(&listener, &service) => match accepted {
                    Ok((place, peer)) => {
                        let kept = Kept::new(service.keeper.clone());
                        let one = serve_one(service.clone(), peer, kept, ending.clone());
                        let mut one = Box::pin(async move {
                            one.await;
                            drop(place);
                        });
                        // Its first step now: a task of its own would wait for its turn, and for
                        // that long the connection would be nowhere but in this process.
                        if (&mut one).now_or_never().is_none() {
                            connections.spawn(one);
                        }
                    }
                    Err(error) => {
                        warn!(%error, "The credentials socket cannot take a connection.");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        // Nobody is accepted any more; who stands in the queue of a socket that goes with this
        // process gets an error, which fails the unit too.
        drop(listener);
        while let Some(done) = connections.join_next().await {
            report(done);
        }
    }

    /// Counts what is given and what is refused.
    pub(crate) fn counted(mut self, counters: Arc<Counters>) -> Self {
        self.service.counters = counters;
        self
    }

    /// As if another user's service manager connected.
    #[cfg(test)]
    fn trust_nobody(mut self) -> Self {
        self.service.trusts = |_| false;
        self
    }
}

/// Binds the socket at `path` with mode 0600, in the place of one that a former life left. There is
/// no moment in which nothing stands there, and none in which others may connect. The caller holds
/// the runtime directory, so that no other agent lives. The socket stays when the agent ends: who
/// connects then is refused by the kernel, which fails the unit, and the next life takes its place.
///
/// # Errors
/// When something other than a socket stands there, or it cannot be bound.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    listen::bind(path)
}

async fn accept<K>(
    listener: &tokio::net::UnixListener,
    service: &Service<K>,
) -> io::Result<(places::Open, Peer)> {
    let place = service.places.open().await;
    let (stream, _) = listener.accept().await?;
    Ok((place, Peer::from(stream)))
}

fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        error!(%error, "A connection for a credential was dropped without a whole answer.");
    }
}

/// root, as which the system's service manager connects, and the user that the agent runs as, as
/// which that user's own service manager does.
fn system_or_own(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

const ACCEPT_RETRY: Duration = Duration::from_millis(500);
const LOG_WINDOW: Duration = Duration::from_secs(60);
const LOG_BURST: u32 = 20;
