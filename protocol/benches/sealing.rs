//! What sealing one value costs: `cargo bench -p edge-secrets-protocol`.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should end at once"
)]

use std::time::{Duration, Instant};

use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{OrgId, SealingKey, Secret, UserId};

fn main() {
    let key = SealingKey::generate();
    let public = key.public();
    let (org, user): (OrgId, UserId) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
    let place = Place::Set {
        org: &org,
        user: &user,
        reference: "db",
    };
    let value = Secret::new(vec![7; 1024]);
    let sealed = public.seal(&place, &value).unwrap();
    let mut room = [0; 1024];
    println!("1 KiB, {ROUNDS} rounds      p50        p99");
    report("key from its bytes", || {
        SealingKey::from_bytes(key.expose()).unwrap();
    });
    report("seal, new exchange", || {
        public.seal(&place, &value).unwrap();
    });
    let sealer = public.sealer().unwrap();
    report("seal, same exchange", || {
        sealer.seal(&place, &value).unwrap();
    });
    let other = public.seal(&place, &value).unwrap();
    let mut turns = [&sealed, &other].into_iter().cycle();
    report("open, new exchange", || {
        let sealed = turns.next().unwrap();
        sealed.open_into(&key, &place, &mut room).unwrap();
    });
    report("open, same exchange", || {
        sealed.open_into(&key, &place, &mut room).unwrap();
    });
}

fn report(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    println!(
        "{what:<20} {:>8.1} us {:>8.1} us",
        micros(ROUNDS / 2),
        micros(ROUNDS * 99 / 100)
    );
}

const ROUNDS: usize = 2000;
