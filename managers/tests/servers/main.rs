//! The conformance suite over real servers, where the environment names one. Else a trial is reported
//! as ignored, with what it needs.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

mod vault;

use std::env;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A name, the variables that it needs, and what it does.
type Server = (&'static str, &'static [&'static str], fn());

const SERVERS: &[Server] = &[("vault", &["VAULT_ADDR", "VAULT_TOKEN"], vault::conforms)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = SERVERS
        .iter()
        .map(|&(name, variables, test)| {
            let trial = Trial::test(format!("{name}_conforms"), move || {
                test();
                Ok(())
            });
            match variables.iter().all(|name| env::var_os(name).is_some()) {
                true => trial,
                false => trial
                    .with_kind(format!("needs {}", variables.join(", ")))
                    .with_ignored_flag(true),
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
