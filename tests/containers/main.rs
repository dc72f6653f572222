//! Real containers of a real podman, fed by a real hub and agent.
//!
//! They need root, podman, runc and a static busybox, some of them curl and jq too; where one is missing every trial is reported
//! as ignored, with what is missing as its kind.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

mod edge;
mod examples;
mod living;
mod mounts;
mod owners;
mod secrets_api;

use std::process::ExitCode;

use edge_secrets_tests::podman;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting for processes.
    arguments.test_threads.get_or_insert(4);
    let missing = podman::missing();
    let mut trials: Vec<_> = [
        examples::trials,
        living::trials,
        mounts::trials,
        owners::trials,
    ]
    .iter()
    .flat_map(|more| more())
    .map(|(name, test)| trial(name, test, missing.as_deref()))
    .collect();
    let missing = missing.or_else(podman::missing_tools);
    let more = secrets_api::trials().into_iter();
    trials.extend(more.map(|(name, test)| trial(name, test, missing.as_deref())));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A trial's name, and what it does.
type Named = (&'static str, fn());

/// The trials, each named after its function.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$((concat!(module_path!(), "::", stringify!($test)), $test as fn())),*]
    };
}
pub(crate) use trials;

/// A trial that passes when it does not panic. The name goes without this program's own.
fn trial(name: &'static str, test: fn(), missing: Option<&str>) -> Trial {
    let name = name.strip_prefix("containers::").unwrap_or(name);
    let trial = Trial::test(name, move || {
        test();
        Ok(())
    });
    match missing {
        Some(missing) => trial.with_kind(missing).with_ignored_flag(true),
        None => trial,
    }
}
