//! What the checks look at: gathered once, so that all speak of the same moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use nix::unistd::{geteuid, mkdtemp};

use crate::config::Config;
use crate::consumers::profile::Profile;
use crate::consumers::profiles::{ProfileStore, Profiles};
use crate::identity::{IdentityError, NodeIdentity, Store};
use crate::local_api::{self, ClientError};
use crate::status::{AgentStatus, ProfileProblem};

/// The node.
pub(super) struct Patient {
    /// Where the system's files are looked for: `/`, and another place in tests.
    pub(super) root: PathBuf,
    pub(super) config_path: PathBuf,
    pub(super) config: Config,
    pub(super) now: Timestamp,
    /// Who looks.
    pub(super) uid: u32,
    pub(super) identity: Result<Option<NodeIdentity>, IdentityError>,
    pub(super) status: Result<AgentStatus, ClientError>,
    /// What is good of `services.d` as it is now.
    pub(super) profiles: Profiles,
    pub(super) problems: Vec<ProfileProblem>,
}

impl Patient {
    pub(super) async fn examine(config_path: &Path, config: Config) -> Self {
        let (profiles, problems) = read_profiles(&config.services_dir);
        Self {
            root: "/".into(),
            config_path: config_path.to_owned(),
            now: Timestamp::now(),
            uid: geteuid().as_raw(),
            identity: NodeIdentity::load(&Store::new(&config.state_dir)),
            status: local_api::status(&config.socket()).await,
            profiles,
            problems,
            config,
        }
    }

    /// A file of the system's, bounded; `None` when it is not there or cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        crate::config::read_bounded(&self.root.join(path)).ok()
    }

    /// A path of the system's.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The user that the agent runs as: whoever owns its state; who looks, where there is none.
    pub(super) fn agent_uid(&self) -> u32 {
        fs::metadata(&self.config.state_dir).map_or(self.uid, |found| found.uid())
    }

    /// Whether who looks sees what the agent sees.
    pub(super) fn sees_all(&self) -> bool {
        self.uid == 0 || self.uid == self.agent_uid()
    }

    /// The swap devices in use (proc(5), `swaps`).
    pub(super) fn swaps(&self) -> Vec<String> {
        let swaps = self.read("proc/swaps").unwrap_or_default();
        let devices = swaps
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next());
        devices.map(str::to_owned).collect()
    }

    pub(super) fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.iter()
    }
}

/// The store remembers good files; here it gets a place that is thrown away at once.
fn read_profiles(dir: &Path) -> (Profiles, Vec<ProfileProblem>) {
    let kept = mkdtemp(&std::env::temp_dir().join("edge-secrets-check-XXXXXX"));
    let place = kept
        .as_deref()
        .unwrap_or_else(|_| Path::new("/nonexistent"));
    let store = ProfileStore::open(dir, place);
    if let Ok(kept) = &kept {
        // Left behind it would be a directory of the node's own configuration, of this user alone.
        fs::remove_dir_all(kept).ok();
    }
    let profiles = Profiles::clone(&store.profiles());
    (profiles, store.problems().to_vec())
}

#[cfg(test)]
pub(super) mod fabricated {
    //! A node of paper.

    use super::*;
    use crate::status::{HubState, HubStatus};

    /// An empty root with a configuration that points into it.
    pub(crate) fn patient() -> (tempfile::TempDir, Patient) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let config_path = root.path().join("etc/edge-secrets/agent.yaml");
        let base = root.path().display().to_string();
        let text = format!(
            "hub: {{ url: \"https://127.0.0.1:1\" }}\nstate_dir: {base}/state\n\
             runtime_dir: {base}/run-edge\n"
        );
        fs::create_dir_all(config_path.parent().unwrap()).unwrap();
        fs::write(&config_path, text).unwrap();
        let patient = Patient {
            root: root.path().to_owned(),
            config: Config::load(&config_path).unwrap(),
            config_path,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            uid: geteuid().as_raw(),
            identity: Ok(None),
            status: Err(ClientError::NotRunning(String::new())),
            profiles: Profiles::default(),
            problems: Vec::new(),
        };
        (root, patient)
    }

    impl Patient {
        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    pub(crate) fn status() -> AgentStatus {
        AgentStatus {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            org: "myorg".parse().unwrap(),
            node: "edge-01".parse().unwrap(),
            hub: HubStatus {
                url: "https://hub:1".into(),
                state: HubState::Connected,
                since: Timestamp::UNIX_EPOCH,
                error: None,
                certificate_not_after: None,
            },
            generation: Default::default(),
            protection: vec![],
            services: vec![],
            profile_problems: vec![],
            cache: None,
        }
    }
}
