//! How many may be served at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::consumers::names::UnitName;

/// The bounds on connections. Who waits for a value may take most of the places, never all: what can
/// be answered now is not held up by what cannot.
#[derive(Debug)]
pub(super) struct Places {
    open: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    units: Arc<Mutex<BTreeMap<UnitName, usize>>>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Open {
    _permit: Option<OwnedSemaphorePermit>,
}

/// One of a unit's own places, given back when dropped.
#[derive(Debug)]
pub(super) struct UnitPlace {
    units: Arc<Mutex<BTreeMap<UnitName, usize>>>,
    unit: UnitName,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            open: Arc::new(Semaphore::new(MAX_OPEN)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            units: Arc::default(),
        }
    }
}

impl Places {
    /// A place for one more connection, as soon as there is one.
    pub(super) async fn open(&self) -> Open {
        Open {
            // The semaphore is never closed.
            _permit: self.open.clone().acquire_owned().await.ok(),
        }
    }

    /// A place for one more connection, if there is one.
    pub(super) fn try_open(&self) -> Option<Open> {
        place(&self.open)
    }

    /// A place for one more that waits, if there is one.
    pub(super) fn wait(&self) -> Option<Open> {
        place(&self.waiting)
    }

    /// A place for one more who is not trusted, if there is one.
    pub(super) fn stranger(&self) -> Option<Open> {
        place(&self.strangers)
    }

    /// A place of the unit's, if there is one.
    pub(super) fn of(&self, unit: &UnitName) -> Option<UnitPlace> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = units.entry(unit.clone()).or_default();
        if *taken >= MAX_OF_UNIT {
            return None;
        }
        *taken += 1;
        Some(UnitPlace {
            units: self.units.clone(),
            unit: unit.clone(),
        })
    }
}

impl Drop for UnitPlace {
    fn drop(&mut self) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = units.get_mut(&self.unit) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                units.remove(&self.unit);
            }
        }
    }
}

fn place(of: &Arc<Semaphore>) -> Option<Open> {
    let permit = of.clone().try_acquire_owned().ok()?;
    Some(Open {
        _permit: Some(permit),
    })
}

/// Connections that are served at the same time; others stand in the socket's queue.
pub(super) const MAX_OPEN: usize = 256;
/// How many of them may wait for a value that is not there yet.
pub(super) const MAX_WAITING: usize = 192;
/// How many of them may be of one unit. systemd asks for one credential of a unit after the other.
pub(super) const MAX_OF_UNIT: usize = 64;
const MAX_STRANGERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_its_places_and_gives_them_back() {
        let places = Places::default();
        let unit: UnitName = "a.service".parse().unwrap();
        let other: UnitName = "b.service".parse().unwrap();
        let mut taken: Vec<_> = (0..MAX_OF_UNIT).map(|_| places.of(&unit)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(places.of(&unit).is_none());
        assert!(places.of(&other).is_some());
        taken.pop();
        assert!(places.of(&unit).is_some());
        drop(taken);
        assert!(places.units.lock().unwrap().is_empty());
    }

    #[test]
    fn those_who_wait_leave_places_for_others() {
        let places = Places::default();
        let waiting: Vec<_> = (0..MAX_OPEN).map_while(|_| places.wait()).collect();
        assert_eq!(waiting.len(), MAX_WAITING);
        let open: Vec<_> = (0..1000).map_while(|_| places.try_open()).collect();
        assert_eq!(open.len(), MAX_OPEN);
    }
}
