//! What one consumer's API tells, shared between the agent, which changes it, and the calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use edge_secrets_protocol::{SecretName, SecretVersion};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeroize::Zeroizing;

use super::notes::Notes;
use super::value::{self, ValueError};
use crate::delivery::{ConsumerId, Door};
use crate::reconcile::Told;

/// One consumer's. Nothing in it is a value: those are read when they are asked for.
pub(super) struct Room {
    consumer: ConsumerId,
    standing: Mutex<Standing>,
    /// Rings when something has changed.
    bell: watch::Sender<()>,
    closed: CancellationToken,
}

struct Standing {
    door: Door,
    notes: Notes,
    told: Option<Told>,
}

impl Room {
    /// Takes over what a former life noted.
    pub(super) fn new(consumer: &ConsumerId, door: Door) -> Self {
        let notes = match door.remembered(NOTES) {
            Some(noted) => serde_json::from_slice(&noted).unwrap_or_else(|_| Notes::lost()),
            None => Notes::default(),
        };
        Self {
            consumer: consumer.clone(),
            standing: Mutex::new(Standing {
                door,
                notes,
                told: None,
            }),
            bell: watch::Sender::new(()),
            closed: CancellationToken::new(),
        }
    }

    /// Takes what can be told now.
    pub(super) fn tell(&self, told: &Told) {
        let mut standing = self.standing();
        if standing.told.as_ref() == Some(told) {
            return;
        }
        // What has ended, or waits for its service to start, is not gone for good: what comes after it
        // is compared with it.
        let readable = told.generation.is_some();
        let news = readable && standing.notes.take(&told.origin.deployment, &told.secrets);
        standing.told = Some(told.clone());
        if news {
            self.note(&standing);
        }
        if readable {
            // Also without news: what was on the list before may be told again.
            self.bell.send_replace(());
        }
    }

    /// Nothing is told any more, and who waits is answered.
    pub(super) fn close(&self) {
        self.standing().told = None;
        self.closed.cancel();
    }

    /// Ends when there is nothing more to tell.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Rings when something has changed since it was asked for.
    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// What has changed and is not acknowledged.
    pub(super) fn updated(&self) -> Vec<SecretName> {
        let mut standing = self.standing();
        let readable = standing
            .told
            .as_ref()
            .is_some_and(|told| told.generation.is_some());
        if readable {
            standing.notes.tell_updated()
        } else {
            Vec::new()
        }
    }

    /// The version of a secret that can be read now.
    pub(super) fn version(&self, name: &SecretName) -> Option<SecretVersion> {
        let standing = self.standing();
        let told = standing
            .told
            .as_ref()
            .filter(|told| told.generation.is_some())?;
        told.secrets.get(name).cloned()
    }

    /// The secret as it is told; none where there is none. It is read here and kept nowhere.
    pub(super) fn value(
        &self,
        name: &SecretName,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ValueError> {
        let mut standing = self.standing();
        let Some(generation) = standing
            .told
            .as_ref()
            .and_then(|told| told.generation.clone())
        else {
            return Ok(None);
        };
        let value = value::read(&generation, name)?;
        if value.is_some() {
            standing.notes.tell(name);
        }
        Ok(value)
    }

    /// The service has received what it was told of the secret. `false` when there is none.
    pub(super) fn receive(&self, name: &SecretName) -> bool {
        let mut standing = self.standing();
        if standing.told.is_none() {
            return false;
        }
        match standing.notes.receive(name) {
            Some(true) => {
                self.note(&standing);
                true
            }
            Some(false) => true,
            None => false,
        }
    }

    /// Lets the door be somebody else's.
    pub(super) fn with_door<T>(&self, work: impl FnOnce(&Door) -> T) -> T {
        work(&self.standing().door)
    }

    /// Where it is, for logs.
    pub(super) fn consumer(&self) -> &ConsumerId {
        &self.consumer
    }

    fn note(&self, standing: &Standing) {
        // Names, versions and numbers: there is nothing that cannot be written.
        let notes = serde_json::to_vec(&standing.notes).unwrap_or_default();
        if let Err(error) = standing.door.remember(NOTES, &notes) {
            // It holds as long as the agent lives; after a restart something is told once more.
            warn!(consumer = %self.consumer, %error, "What a service has acknowledged cannot be noted.");
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Nothing between two locks leaves it half changed.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NOTES: &str = "notes.json";
