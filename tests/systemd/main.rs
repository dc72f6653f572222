//! The services' side on a machine: agent and hub from their packages, under a systemd that has
//! really booted.
//!
//! Needs root, systemd-nspawn, a root directory (`bash tests/systemd/prepare`) and the packages
//! (`bash packaging/build`); without one of them every trial is ignored and says which.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

mod credentials;
mod custody;
mod examples;
mod files;
mod lifecycle;
mod node;
mod on_change;
mod packages;
mod unit;

use std::process::ExitCode;

use edge_secrets_tests::nspawn;
use libtest_mimic::{Arguments, Trial};

/// Whether the agent tells systemd when it is ready (`Type=notify`). Without it the node's unit is
/// `Type=exec`.
const NOTIFIES: bool = true;

/// Trials of what the agent does not do yet.
const NOT_YET: &[&str] = &[];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting for a machine.
    arguments.test_threads.get_or_insert(3);
    let missing = nspawn::missing();
    if missing.is_none() && !arguments.list {
        nspawn::isolate();
    }
    let trials = [
        credentials::trials(),
        custody::trials(),
        examples::trials(),
        files::trials(),
        lifecycle::trials(),
        on_change::trials(),
        packages::trials(),
        unit::trials(),
    ];
    let trials = trials
        .into_iter()
        .flatten()
        .map(|trial| judge(trial, missing.as_deref()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The reason stands where a kind stands: it is shown with the trial's name.
fn judge(trial: Trial, missing: Option<&str>) -> Trial {
    let not_yet = NOT_YET
        .iter()
        .any(|prefix| trial.name().starts_with(prefix));
    let reason = missing.or_else(|| not_yet.then_some("awaits the agent's side"));
    match reason {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    }
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
    let name = name.strip_prefix("systemd::").unwrap_or(name);
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
