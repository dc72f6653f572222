//! What the watch says, noted as it comes and read when there is time: however many events arrive
//! while the agent is busy, they make one pull.

use std::future::{Future, pending};

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::watch::{BindingsEvent, WatchEvent};
use tokio::sync::watch;

use super::AbortOnDrop;
use crate::hub::{HubError, WatchStream};

/// All that the watch has said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint {
    /// The last event.
    pub(super) latest: Option<BindingsEvent>,
    pub(super) revoked: bool,
    /// How often it has said something.
    count: u64,
    /// Why it says no more.
    pub(super) ended: Option<HubError>,
}

/// A watch that is followed. Dropping it ends the stream.
pub(super) struct Hints {
    receiver: watch::Receiver<Hint>,
    /// How much of it was read.
    read: u64,
    _task: AbortOnDrop,
}

impl Hints {
    pub(super) fn follow(mut stream: WatchStream) -> Self {
        let (sender, receiver) = watch::channel(Hint::default());
        let task = tokio::spawn(async move {
            loop {
                match stream.next().await {
                    Ok(events) => sender.send_modify(|hint| hint.take(&events)),
                    Err(error) => {
                        sender.send_modify(|hint| hint.ended = Some(error));
                        return;
                    }
                }
            }
        });
        Self {
            receiver,
            read: 0,
            _task: AbortOnDrop::new(task),
        }
    }

    /// All that was said so far, when that is more than at the last call.
    ///
    /// Counted here, since waiting marks what the channel holds as seen.
    pub(super) fn news(&mut self) -> Option<Hint> {
        let hint = self.receiver.borrow();
        let more = hint.count != self.read || hint.ended.is_some();
        self.read = hint.count;
        more.then(|| hint.clone())
    }

    /// Waits until the hub says that the node is revoked; for ever where it never does.
    pub(super) fn revoked(&self) -> impl Future<Output = ()> + use<> {
        let mut receiver = self.receiver.clone();
        async move {
            if receiver.wait_for(|hint| hint.revoked).await.is_err() {
                pending().await
            }
        }
    }

    /// Whether there is more than this generation.
    pub(super) fn are_beyond(&self, generation: Option<Generation>) -> bool {
        let latest = self.receiver.borrow().latest.map(|event| event.generation);
        latest > generation
    }

    /// Waits until there are news.
    pub(super) async fn changed(&mut self) {
        // An error means that the stream has ended, which `news` tells.
        self.receiver.changed().await.ok();
    }
}

impl Hint {
    fn take(&mut self, events: &[WatchEvent]) {
        self.count += 1;
        for event in events {
            match event {
                WatchEvent::Bindings(event) => self.latest = Some(*event),
                WatchEvent::Revoked => self.revoked = true,
            }
        }
    }
}
