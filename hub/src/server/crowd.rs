//! How many connections that have not said who they are come from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by address what is there at once: no more addresses than connections.
#[derive(Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place among those of one address, until it is dropped.
pub(super) struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// A place, if the address has fewer than `most`.
    pub(super) fn enter(&self, address: IpAddr, most: usize) -> Option<Place> {
        let address = network(address);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.address);
            }
        }
    }
}

/// The address, or for IPv6 the /64 that one host has all of.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let crowd = Crowd::default();
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = crowd.enter(one, 2).unwrap();
        let second = crowd.enter(one, 2).unwrap();
        assert!(crowd.enter(one, 2).is_none());
        let other = crowd.enter(two, 2).unwrap();
        drop(first);
        let third = crowd.enter(one, 2).unwrap();
        assert!(crowd.enter(one, 2).is_none());
        drop((second, third, other));
        assert!(crowd.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_ipv6_host_is_one_address() {
        let crowd = Crowd::default();
        let _place = crowd.enter("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(crowd.enter("2001:db8::2".parse().unwrap(), 1).is_none());
        assert!(crowd.enter("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
        let _mapped = crowd.enter("::ffff:10.0.0.1".parse().unwrap(), 1).unwrap();
        assert!(crowd.enter([10, 0, 0, 1].into(), 1).is_none());
    }
}
