//! Crash points: every change that agent and hub make to their files is made the last one in turn, the
//! process is started again, and what must hold then is looked at.
//!
//! Real programs under a tracer (`edge_secrets_tests::cut`). Needs root and ptrace on x86_64; without
//! them every trial is ignored and says which. Ends with a table of scenes and points.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

mod changes;
mod full;
mod hub;
mod identity;
mod listing;
mod node;
mod points;
mod starts;
mod store;

use std::process::ExitCode;

use edge_secrets_tests::cut;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = cut::as_tracer() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting for processes.
    arguments.test_threads.get_or_insert(4);
    let missing = cut::missing();
    let trials = [
        changes::trials(),
        full::trials(),
        hub::trials(),
        identity::trials(),
        starts::trials(),
    ];
    let trials = trials.into_iter().flatten().map(|trial| match &missing {
        // The reason stands where a kind stands: it is shown with the trial's name.
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    points::print();
    conclusion.exit_code()
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
    let name = name.strip_prefix("crash::").unwrap_or(name);
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
