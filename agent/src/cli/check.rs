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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::super::Exit;
    use super::patient::fabricated;
    use super::*;

    /// Everything below a directory, with what would tell a change.
    fn tree(dir: &Path, found: &mut BTreeMap<PathBuf, (u32, u64, i64, i64)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let it = fs::symlink_metadata(&path).unwrap();
            let marks = (it.mode(), it.ino(), it.mtime(), it.mtime_nsec());
            if it.is_dir() {
                tree(&path, found);
            }
            found.insert(path, marks);
        }
    }

    #[tokio::test]
    async fn a_node_is_looked_at_as_a_whole_and_nothing_is_changed() {
        let (root, patient) = fabricated::patient();
        patient.write("etc/edge-secrets/services.d/a.yaml", "service: myorg/a\n");
        patient.write("state/x", "");
        fs::create_dir(&patient.config.runtime_dir).unwrap();
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        tree(root.path(), &mut before);
        let ended = run(&patient.config_path, Output::Table).await;
        assert!(ended.is_err(), "the node is not enrolled");
        tree(root.path(), &mut after);
        assert_eq!(before, after);
    }

    #[tokio::test]
    async fn a_refused_configuration_ends_it_with_64() {
        let (_root, patient) = fabricated::patient();
        fs::write(&patient.config_path, "of_tomorrow: 1\n").unwrap();
        let ended = run(&patient.config_path, Output::Json).await;
        assert_eq!(ended.unwrap_err().exit, Exit::Usage);
    }
}
