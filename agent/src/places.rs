//! Places for connections, by who calls: a user, a service. Short calls and long waits have places of
//! their own, so that waits never hold up a call; and who opens connections without asking anything
//! displaces himself first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All places that some callers share.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections of one caller that do not wait.
    pub(crate) short_each: usize,
    /// The same of all callers together.
    pub(crate) short_all: usize,
    /// Calls of one caller that wait.
    pub(crate) waits_each: usize,
    /// The same of all callers together.
    pub(crate) waits_all: usize,
    /// Of `waits_each`, those that a caller may have however many the others have.
    pub(crate) waits_sure: usize,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    /// Connections that wait for nothing but their peer, in the order of their coming.
    short: BTreeMap<u64, Held>,
    /// How many calls of each caller wait.
    waits: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct Held {
    caller: u32,
    displaced: CancellationToken,
}

/// A connection's place. Free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    caller: u32,
    number: AtomicU64,
    displaced: CancellationToken,
    places: Places,
}

/// Leave to wait. When dropped, the connection is back among the short calls: its peer may be slow
/// to take the answer.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    place: &'a Place,
}

impl Places {
    /// None is taken yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            taken: Arc::default(),
        }
    }

    /// A place for a new connection. There always is one: where the caller has too many, or all
    /// together have, the longest-held place is taken away. Who asks right after connecting is
    /// answered long before it comes to that.
    pub(crate) fn take(&self, caller: u32) -> Place {
        let displaced = CancellationToken::new();
        Place {
            caller,
            number: AtomicU64::new(self.taken().enter(caller, displaced.clone(), self.bounds)),
            displaced,
            places: self.clone(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing between two locks leaves it half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn enter(&mut self, caller: u32, displaced: CancellationToken, bounds: Bounds) -> u64 {
        let own = self
            .short
            .values()
            .filter(|held| held.caller == caller)
            .count();
        let oldest = if own >= bounds.short_each {
            let mut own = self.short.iter().filter(|(_, held)| held.caller == caller);
            own.next().map(|(number, _)| *number)
        } else if self.short.len() >= bounds.short_all {
            self.short.keys().next().copied()
        } else {
            None
        };
        if let Some(held) = oldest.and_then(|oldest| self.short.remove(&oldest)) {
            held.displaced.cancel();
        }
        self.last += 1;
        self.short.insert(self.last, Held { caller, displaced });
        self.last
    }
}

impl Place {
    /// Ends when the place is needed for somebody else.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Leaves the short calls' place for one of the waits'; `None` when all of these are taken, or
    /// all that one caller may have.
    pub(crate) fn wait(&self) -> Option<Waiting<'_>> {
        let bounds = self.places.bounds;
        let mut taken = self.places.taken();
        let all: usize = taken.waits.values().sum();
        let own = taken.waits.entry(self.caller).or_default();
        let crowded = all >= bounds.waits_all && *own >= bounds.waits_sure;
        if *own >= bounds.waits_each || crowded {
            return None;
        }
        *own += 1;
        drop(taken);
        self.leave();
        Some(Waiting { place: self })
    }

    fn leave(&self) {
        let number = self.number.load(Ordering::Relaxed);
        self.places.taken().short.remove(&number);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Place {
            caller,
            number,
            displaced,
            places,
        } = self.place;
        let mut taken = places.taken();
        match taken.waits.get_mut(caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.waits.remove(caller)),
        }
        number.store(
            taken.enter(*caller, displaced.clone(), places.bounds),
            Ordering::Relaxed,
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAITS_PER_USER: usize = 64;
    const MAX_WAITS: usize = 128;
    const MAX_SHORT: usize = 128;
    const MAX_PER_USER: usize = 32;

    fn places() -> Places {
        Places::new(Bounds {
            short_each: MAX_PER_USER,
            short_all: MAX_SHORT,
            waits_each: MAX_WAITS_PER_USER,
            waits_all: MAX_WAITS,
            waits_sure: 0,
        })
    }

    fn gone(place: &Place) -> bool {
        place.displaced.is_cancelled()
    }

    #[test]
    fn who_takes_too_many_places_loses_the_oldest_of_his_own() {
        let places = places();
        let other = places.take(1);
        let own: Vec<_> = (0..MAX_PER_USER).map(|_| places.take(2)).collect();
        assert!(!own.iter().any(gone));
        let _more = places.take(2);
        assert!(gone(&own[0]) && !gone(&own[1]) && !gone(&other));
    }

    #[test]
    fn all_together_lose_the_oldest_of_all() {
        let places = places();
        let held: Vec<_> = (0..MAX_SHORT as u32)
            .map(|caller| places.take(caller))
            .collect();
        assert!(!held.iter().any(gone));
        let _more = places.take(u32::MAX);
        assert_eq!(held.iter().filter(|place| gone(place)).count(), 1);
        assert!(gone(&held[0]));
    }

    #[test]
    fn a_wait_leaves_its_place_and_comes_back_and_waits_are_bounded() {
        let places = places();
        let held: Vec<_> = (0..=MAX_WAITS_PER_USER).map(|_| places.take(1)).collect();
        // The first ones had to make room, which does not keep a call that is being read from it.
        let mut waits: Vec<_> = held[1..]
            .iter()
            .map(|place| place.wait().unwrap())
            .collect();
        assert!(held[0].wait().is_none(), "every wait of this user is taken");
        waits.pop();
        assert_eq!(places.taken().short.len(), 1, "who has waited is back");
        assert!(held[0].wait().is_some());
        drop(waits);
        drop(held);
        assert!(places.taken().short.is_empty() && places.taken().waits.is_empty());
    }

    #[test]
    fn one_user_cannot_take_every_wait() {
        let places = places();
        let take = |caller| {
            (0..MAX_WAITS_PER_USER)
                .map(|_| places.take(caller))
                .collect::<Vec<_>>()
        };
        let (one, two, third) = (take(1), take(2), places.take(3));
        let first: Vec<_> = one.iter().filter_map(Place::wait).collect();
        assert_eq!(first.len(), MAX_WAITS_PER_USER);
        assert!(third.wait().is_some());
        let second: Vec<_> = two.iter().filter_map(Place::wait).collect();
        assert_eq!(second.len(), MAX_WAITS - MAX_WAITS_PER_USER);
        assert!(third.wait().is_none(), "all together are bounded too");
    }

    #[test]
    fn what_a_caller_is_sure_of_the_others_cannot_take() {
        let places = Places::new(Bounds {
            short_each: 8,
            short_all: 64,
            waits_each: 8,
            waits_all: 16,
            waits_sure: 1,
        });
        let held: Vec<_> = (0..24).map(|number| places.take(number / 8)).collect();
        let (greedy, late) = held.split_at(16);
        let mut waits: Vec<_> = greedy.iter().filter_map(Place::wait).collect();
        assert_eq!(waits.len(), 16, "all there are for everybody");
        let sure = late[0].wait();
        assert!(sure.is_some());
        assert!(late[1].wait().is_none(), "one is sure and no more");
        // When the others have gone the rest is there for who comes.
        waits.clear();
        assert!(late[1].wait().is_some());
    }
}
