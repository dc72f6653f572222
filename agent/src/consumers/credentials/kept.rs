//! Connections that outlive the agent in the service manager's descriptor store (sd_notify(3),
//! `FDSTORE=1`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tracing::warn;

/// The service manager's descriptor store.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// Whether what is stored comes back after a restart.
    fn keeps(&self) -> bool;
    /// Stores a copy under `name`. One that is stored already stays under the name it has.
    fn store(&self, name: &str, fd: BorrowedFd<'_>);
    /// Forgets what is stored under `name`; nothing happens when it is not there.
    fn unstore(&self, name: &str);
}

/// One connection's part of the store.
#[derive(Debug)]
pub(super) struct Kept<K> {
    keeper: Arc<K>,
    id: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Waiting,
    Sending,
}

impl<K: Keeper> Kept<K> {
    /// Not in the store.
    pub(super) fn new(keeper: Arc<K>) -> Self {
        let mut random = [0; 8];
        // Without randomness from the kernel names could meet; nothing starts then anyway.
        if let Err(error) = getrandom::fill(&mut random) {
            warn!(%error, "No randomness.");
        }
        let mut id = String::new();
        for byte in random {
            write!(id, "{byte:02x}").ok();
        }
        Self {
            keeper,
            id,
            state: State::Absent,
        }
    }

    /// Whether a former life may have written a part of an answer.
    pub(super) fn was_sending(&self) -> bool {
        self.state == State::Sending
    }

    /// Whether it is in the store.
    pub(super) fn is_stored(&self) -> bool {
        self.state != State::Absent
    }

    /// Whether what is in the store comes back after a restart.
    pub(super) fn keeps(&self) -> bool {
        self.keeper.keeps()
    }

    /// From now on the connection outlives the agent.
    pub(super) fn waiting(&mut self, connection: impl AsFd) {
        if self.keeper.keeps() && self.state == State::Absent {
            self.keeper.store(&self.connection(), connection.as_fd());
            self.state = State::Waiting;
        }
    }

    /// From now on a part of an answer may have been written: the next life must not write a whole
    /// one behind it.
    pub(super) fn sending(&mut self, connection: impl AsFd) {
        self.waiting(connection);
        if self.state != State::Waiting {
            return;
        }
        // The mark is any descriptor that stays good by itself and that the store cannot take for
        // another: it compares files where the kernel does not let it compare descriptors.
        match UnixDatagram::unbound() {
            Ok(mark) => {
                self.keeper.store(&self.mark(), mark.as_fd());
                self.state = State::Sending;
            }
            Err(error) => {
                warn!(%error, "An answer cannot be marked, and is lost if the agent is killed now.");
                self.keeper.unstore(&self.connection());
                self.state = State::Absent;
            }
        }
    }

    /// The answer is whole, or nobody is there to read it: the next life need not know of it.
    pub(super) fn forget(self) {
        // The mark goes last: until then the next life fails what it finds.
        if self.state != State::Absent {
            self.keeper.unstore(&self.connection());
        }
        if self.state == State::Sending {
            self.keeper.unstore(&self.mark());
        }
    }

    fn connection(&self) -> String {
        format!("{CONNECTION}{}", self.id)
    }

    fn mark(&self) -> String {
        format!("{MARK}{}", self.id)
    }
}

/// Tells the stored connections and their marks apart, and forgets marks without a connection.
pub(super) fn sort<K: Keeper>(
    stored: Vec<(String, OwnedFd)>,
    keeper: &Arc<K>,
) -> Vec<(Kept<K>, OwnedFd)> {
    let mut connections = BTreeMap::new();
    let mut marks = BTreeSet::new();
    for (name, fd) in stored {
        if let Some(id) = name.strip_prefix(MARK) {
            marks.insert(id.to_owned());
        } else if let Some(id) = name.strip_prefix(CONNECTION) {
            connections.insert(id.to_owned(), fd);
        }
    }
    for id in marks.iter().filter(|id| !connections.contains_key(*id)) {
        keeper.unstore(&format!("{MARK}{id}"));
    }
    let kept = |(id, fd)| {
        let state = if marks.contains(&id) {
            State::Sending
        } else {
            State::Waiting
        };
        let keeper = keeper.clone();
        (Kept { keeper, id, state }, fd)
    };
    connections.into_iter().map(kept).collect()
}

/// Begins the name of a stored connection.
const CONNECTION: &str = "credential-";
/// Begins the name of the mark beside a stored connection that is in the middle of its answer.
const MARK: &str = "credential-sending-";
