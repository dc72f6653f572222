//! Loopback ports that stay a test's own over a restart of its hub.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// A free port that nobody else in this process gets, below those that the kernel gives to
/// outgoing connections: nothing takes it while a hub restarts.
///
/// # Panics
/// When there is none.
pub fn reserve() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().expect("the next port");
    let end = first_outgoing();
    let span = end - FIRST;
    // Runs at the same time start at different places.
    let mut port = next.unwrap_or_else(|| {
        FIRST + u16::try_from(RandomState::new().hash_one(0) % u64::from(span)).expect("below span")
    });
    for _ in 0..span {
        port = if port + 1 >= end { FIRST } else { port + 1 };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            *next = Some(port);
            return port;
        }
    }
    panic!("no port is free between {FIRST} and {end}");
}

fn first_outgoing() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > FIRST + 1000)
        .unwrap_or(32768)
}

const FIRST: u16 = 12_000;
