//! How often an address was refused: who guesses is shut out for a while, before anything is looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::network;

/// Counts refusals by address, a minute at a time, in bounded memory.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Count>>);

struct Count {
    since: Instant,
    refused: u32,
}

impl Failures {
    /// Whether this address has used up its minute.
    pub(super) fn is_full(&self, address: IpAddr, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&network(address))
            .is_some_and(|count| count.is_current(now) && count.refused >= MOST)
    }

    /// One more refusal.
    pub(super) fn count(&self, address: IpAddr, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if known.len() >= MAX_ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, count| count.is_current(now));
            if known.len() >= MAX_ADDRESSES {
                // So many at once are one attacker with many addresses: a token has 256 bits, and
                // forgetting whom we counted is better than growing or shutting everybody out.
                known.clear();
            }
        }
        let new = Count {
            since: now,
            refused: 0,
        };
        let count = known.entry(address).or_insert(new);
        if !count.is_current(now) {
            *count = Count {
                since: now,
                refused: 0,
            };
        }
        count.refused = count.refused.saturating_add(1);
    }
}

impl Count {
    fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < WINDOW
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// Tokens have 256 bits: enough to spare a site behind one address that has a few wrong ones.
pub(super) const MOST: u32 = 100;
const MAX_ADDRESSES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shut_out_for_the_rest_of_its_minute() {
        let failures = Failures::default();
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let start = Instant::now();
        for _ in 0..MOST {
            assert!(!failures.is_full(one, start));
            failures.count(one, start);
        }
        assert!(failures.is_full(one, start + WINDOW / 2));
        assert!(!failures.is_full(two, start));
        assert!(!failures.is_full(one, start + WINDOW));
        failures.count(one, start + WINDOW);
        assert!(!failures.is_full(one, start + WINDOW));
    }

    #[test]
    fn one_ipv6_host_is_one_address() {
        let failures = Failures::default();
        let now = Instant::now();
        for host in 0..MOST {
            failures.count(format!("2001:db8::{host:x}").parse().unwrap(), now);
        }
        assert!(failures.is_full("2001:db8::ffff".parse().unwrap(), now));
        assert!(!failures.is_full("2001:db8:0:1::1".parse().unwrap(), now));
    }

    #[test]
    fn many_addresses_take_bounded_memory() {
        let failures = Failures::default();
        let now = Instant::now();
        for host in 0..u32::try_from(2 * MAX_ADDRESSES).unwrap() {
            failures.count(IpAddr::V4(host.into()), now);
        }
        assert!(failures.0.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
