//! Places for connections. Short calls and long waits have places of their own, so that waits never
//! hold up a call; and who opens connections without asking anything displaces himself first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// All places of one socket.
#[derive(Debug, Clone)]
pub(super) struct Places {
    short: Arc<Mutex<Short>>,
    waits: Arc<Semaphore>,
}

/// Connections that do not wait for anything but their peer.
#[derive(Debug, Default)]
struct Short {
    last: u64,
    /// In the order of their coming.
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    uid: u32,
    displaced: CancellationToken,
}

/// A connection's place. Free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    uid: u32,
    number: AtomicU64,
    displaced: CancellationToken,
    places: Places,
}

/// Leave to wait. When dropped, the connection is back among the short calls: its peer may be slow
/// to take the answer.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    place: &'a Place,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            short: Arc::default(),
            waits: Arc::new(Semaphore::new(MAX_WAITS)),
        }
    }

    /// A place for a new connection. There always is one: where the user has too many, or all
    /// together have, the longest-held place is taken away. Who asks right after connecting is
    /// answered long before it comes to that.
    pub(super) fn take(&self, uid: u32) -> Place {
        let displaced = CancellationToken::new();
        Place {
            uid,
            number: AtomicU64::new(self.short().enter(uid, displaced.clone())),
            displaced,
            places: self.clone(),
        }
    }

    fn short(&self) -> MutexGuard<'_, Short> {
        // Nothing between two locks leaves it half changed.
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Short {
    fn enter(&mut self, uid: u32, displaced: CancellationToken) -> u64 {
        let own = self.held.values().filter(|held| held.uid == uid).count();
        let oldest = if own >= MAX_PER_USER {
            let mut own = self.held.iter().filter(|(_, held)| held.uid == uid);
            own.next().map(|(number, _)| *number)
        } else if self.held.len() >= MAX_SHORT {
            self.held.keys().next().copied()
        } else {
            None
        };
        if let Some(held) = oldest.and_then(|oldest| self.held.remove(&oldest)) {
            held.displaced.cancel();
        }
        self.last += 1;
        self.held.insert(self.last, Held { uid, displaced });
        self.last
    }
}

impl Place {
    /// Ends when the place is needed for somebody else.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Leaves the short calls' place for one of the waits'; `None` when all of these are taken.
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        let permit = self.places.waits.clone().try_acquire_owned().ok()?;
        self.leave();
        Some(Waiting {
            place: self,
            _permit: permit,
        })
    }

    fn leave(&self) {
        let number = self.number.load(Ordering::Relaxed);
        self.places.short().held.remove(&number);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Place {
            uid,
            number,
            displaced,
            places,
        } = self.place;
        let fresh = places.short().enter(*uid, displaced.clone());
        number.store(fresh, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

pub(super) const MAX_WAITS: usize = 64;
const MAX_SHORT: usize = 128;
pub(super) const MAX_PER_USER: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(place: &Place) -> bool {
        place.displaced.is_cancelled()
    }

    #[test]
    fn who_takes_too_many_places_loses_the_oldest_of_his_own() {
        let places = Places::new();
        let other = places.take(1);
        let own: Vec<_> = (0..MAX_PER_USER).map(|_| places.take(2)).collect();
        assert!(!own.iter().any(gone));
        let _more = places.take(2);
        assert!(gone(&own[0]) && !gone(&own[1]) && !gone(&other));
    }

    #[test]
    fn all_together_lose_the_oldest_of_all() {
        let places = Places::new();
        let held: Vec<_> = (0..MAX_SHORT as u32).map(|uid| places.take(uid)).collect();
        assert!(!held.iter().any(gone));
        let _more = places.take(u32::MAX);
        assert_eq!(held.iter().filter(|place| gone(place)).count(), 1);
        assert!(gone(&held[0]));
    }

    #[test]
    fn a_wait_leaves_its_place_and_comes_back_and_waits_are_bounded() {
        let places = Places::new();
        let held: Vec<_> = (0..=MAX_WAITS as u32).map(|uid| places.take(uid)).collect();
        let mut waits: Vec<_> = held[1..]
            .iter()
            .map(|place| place.wait().unwrap())
            .collect();
        assert_eq!(places.short().held.len(), 1);
        assert!(held[0].wait().is_none(), "every wait is taken");
        assert_eq!(places.short().held.len(), 1, "it keeps its short place");
        waits.pop();
        assert_eq!(places.short().held.len(), 2, "who has waited is back");
        assert!(held[0].wait().is_some());
        drop(waits);
        drop(held);
        assert!(places.short().held.is_empty());
    }
}
