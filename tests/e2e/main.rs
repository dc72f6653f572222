//! The end-to-end suite: real processes over real sockets, values on a real tmpfs.
//!
//! What needs root says so in its kind and is ignored without it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

mod backup;
mod border;
mod ca;
mod cases;
mod clocks;
mod definitions;
mod delivery;
mod faults;
mod formats;
mod identity;
mod killing;
mod managers;
mod network;
mod offline;
mod open_horizon;
mod operators;
mod patterns;
mod peers;
mod rights;
mod scale;
mod secrets_api;
mod services;
mod soak;
mod stillborn;
mod storage;
mod whole;
mod wipe;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting for processes.
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for more in [
        backup::trials,
        border::trials,
        ca::trials,
        clocks::trials,
        definitions::trials,
        delivery::trials,
        faults::trials,
        formats::trials,
        identity::trials,
        killing::trials,
        managers::trials,
        network::trials,
        offline::trials,
        open_horizon::trials,
        operators::trials,
        patterns::trials,
        peers::trials,
        rights::trials,
        scale::trials,
        secrets_api::trials,
        services::trials,
        soak::trials,
        stillborn::trials,
        storage::trials,
        whole::trials,
        wipe::trials,
    ] {
        trials.extend(more());
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// One trial per function, named after it.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(crate::trial(concat!(module_path!(), "::", stringify!($test)), $test)),*]
    };
}
pub(crate) use trials;

/// A trial that passes when it does not panic. The name goes without this program's own.
fn trial(name: &str, test: fn()) -> Trial {
    let name = name.strip_prefix("e2e::").unwrap_or(name);
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// A trial that only root can run.
fn as_root(name: &str, test: fn()) -> Trial {
    trial(name, test)
        .with_kind("needs root")
        .with_ignored_flag(!edge_secrets_tests::is_root())
}
