//! `mount`: the tmpfs, before anybody needs it and with a right that the agent itself does without.

use std::io::ErrorKind;
use std::path::Path;

use super::{Failure, say};
use crate::config::{Config, ConfigError};
use crate::delivery;
use crate::reconcile::RuntimeOptions;

/// A tmpfs that is there already is left as it is, whoever uses it.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    say(delivery::prepare(&options(path)?)?)
}

/// The defaults where there is no configuration: the tmpfs is there before the node is set up. A
/// configuration that is wrong is refused, because another directory may stand in it.
fn options(path: &Path) -> Result<RuntimeOptions, ConfigError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(RuntimeOptions::default()),
        _ => Config::load(path).map(|config| config.runtime()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_configuration_means_the_defaults_and_a_wrong_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let found = options(&path).unwrap();
        assert_eq!(found.dir, Path::new("/run/edge-secrets"));
        assert!(found.mount);
        fs::write(
            &path,
            "hub: { url: https://hub:1 }\nruntime_dir: /dev/shm/x\n",
        )
        .unwrap();
        assert_eq!(options(&path).unwrap().dir, Path::new("/dev/shm/x"));
        fs::write(
            &path,
            "hub: { url: https://hub:1 }\nruntime_dri: /dev/shm/x\n",
        )
        .unwrap();
        assert!(options(&path).is_err());
    }
}
