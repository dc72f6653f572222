//! `check`: the doctor. Every check is a file of its own and gives findings: what is, whether that
//! is right, and what to do. Changes nothing; works while the agent runs or not, as root or not.

mod agent;
mod clock;
mod configuration;
mod containers;
mod core_dumps;
mod finding;
mod host;
mod hub;
mod identity;
mod kernel;
mod patient;
mod permissions;
mod profiles;
mod runtime_dir;
mod swap;
mod unit_files;
mod units;

use std::path::Path;

use self::finding::{Finding, Report};
use self::patient::Patient;
use super::{Failure, Output};
use crate::config::Config;

/// Looks at everything, in the order in which it should be mended.
pub(super) async fn run(path: &Path, output: Output) -> Result<(), Failure> {
    let mut report = Report::new(output);
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            report.add(vec![configuration::refused(&error)])?;
            return report.end();
        }
    };
    let patient = Patient::examine(path, config).await;
    for check in CHECKS {
        report.add(check(&patient))?;
    }
    report.add(hub::check(&patient).await)?;
    report.end()
}

/// What needs no waiting.
const CHECKS: &[fn(&Patient) -> Vec<Finding>] = &[
    configuration::check,
    configuration::facts,
    kernel::check,
    swap::check,
    core_dumps::check,
    runtime_dir::check,
    identity::files,
    permissions::check,
    clock::check,
    identity::certificate,
    profiles::check,
    host::check,
    units::check,
    containers::check,
    agent::check,
];
