//! `agent.yaml`: what the administrator told the agent. Unknown keys are errors, and every error
//! names the file, the line and the reason. No value of a secret ever stands here.

mod properties;
mod units;
mod url;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_secrets_protocol::{NodeId, OrgId};
use serde::{Deserialize, Serialize};

pub use properties::Properties;
pub use units::{ByteSize, Span, UnitError};
pub use url::{HubUrl, UrlError};

use crate::reconcile::RuntimeOptions;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the hub is.
    pub hub: Hub,
    /// What this node is and says of itself.
    #[serde(default)]
    pub node: Node,
    /// How the node's keys are kept.
    #[serde(default)]
    pub identity: Identity,
    /// Where identity and sealed cache stand. Absolute.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where values are delivered: tmpfs or ramfs. Absolute.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// The tmpfs at the runtime directory.
    #[serde(default)]
    pub tmpfs: Tmpfs,
    /// How values are wiped.
    #[serde(default)]
    pub wipe: Wipe,
    /// What is kept for times without a hub.
    #[serde(default)]
    pub offline: Offline,
    /// Where delivery profiles stand. Relative to the configuration.
    #[serde(default = "default_services_dir")]
    pub services_dir: PathBuf,
    /// The local socket for people and programs.
    #[serde(default)]
    pub local_api: LocalSocket,
    /// The container engine's API.
    #[serde(default)]
    pub containers: Containers,
    /// What services of Open Horizon expect of their node.
    #[serde(default)]
    pub open_horizon: OpenHorizon,
    /// When a service manager is told that the agent is ready.
    #[serde(default)]
    pub ready: Ready,
    /// What is logged, to standard error.
    #[serde(default)]
    pub log: Log,
}

/// The local socket for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSocket {
    /// The group that may use it; the agent's own when absent.
    #[serde(default)]
    pub group: Option<String>,
}

/// The container engine's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// Its Unix socket; podman's, else Docker's, where they usually are, when absent. Absolute.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

/// What services of Open Horizon expect of their node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenHorizon {
    /// Whether every consumer has a secrets API of its own where no profile says otherwise.
    #[serde(default)]
    pub secrets_api: bool,
}

/// When a service manager is told that the agent is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// How long the hub is waited for at most: a node without its hub must start too.
    #[serde(default = "default_ready")]
    pub timeout: Span,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            timeout: default_ready(),
        }
    }
}

/// Where the hub is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// `https://HOST[:PORT]`.
    pub url: HubUrl,
}

/// What this node is and says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The node; the certificate says who it is, and must agree with this where it is given.
    #[serde(default)]
    pub id: Option<NodeId>,
    /// The node's organisation; likewise.
    #[serde(default)]
    pub org: Option<OrgId>,
    /// What policies' constraints are compared with.
    #[serde(default)]
    pub properties: Properties,
    /// The node policy in Open Horizon's schema, JSON or YAML. Relative to the configuration.
    #[serde(default)]
    pub policy_file: Option<PathBuf>,
}

/// How the node's keys are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// How the key is kept that opens the sealed cache.
    #[serde(default)]
    pub sealing_key: SealingKeyCustody,
}

/// How the key is kept that opens the sealed cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealingKeyCustody {
    /// As it is, in a file that only the agent's user reads.
    #[default]
    File,
    /// Encrypted under the credential `edge-secrets-key` of the agent's unit.
    Credential,
}

/// The tmpfs at the runtime directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Its size where the agent mounts it.
    #[serde(default = "default_tmpfs_size")]
    pub size: ByteSize,
    /// Whether the agent mounts it.
    #[serde(default)]
    pub mount: Mount,
}

impl Default for Tmpfs {
    fn default() -> Self {
        Self {
            size: default_tmpfs_size(),
            mount: Mount::default(),
        }
    }
}

/// Whether the agent mounts a tmpfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mount {
    /// Mount one if that is allowed, else require that there is one.
    #[default]
    Auto,
    /// Require that there is one.
    Never,
}

/// How values are wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wipe {
    /// How long a superseded value waits for readers that still have it open.
    #[serde(default = "default_grace")]
    pub grace: Span,
}

impl Default for Wipe {
    fn default() -> Self {
        Self {
            grace: default_grace(),
        }
    }
}

/// What is kept for times without a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offline {
    /// Whether sealed values are kept in the state directory.
    #[serde(default)]
    pub cache: Cache,
    /// For how long services read what they have, and what is kept is kept, while nothing is heard of
    /// the hub. Then everything is wiped until it is heard.
    #[serde(default = "default_max_age")]
    pub max_age: Span,
}

impl Default for Offline {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            max_age: default_max_age(),
        }
    }
}

/// Whether sealed values are kept in the state directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// Nothing is kept.
    Off,
    /// Sealed values are kept.
    #[default]
    Sealed,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// From which level on.
    #[serde(default)]
    pub level: LogLevel,
    /// How a line looks.
    #[serde(default)]
    pub format: LogFormat,
}

/// From which level on something is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A configuration that is refused: `FILE:LINE: reason`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When the file cannot be read, does not parse, has an unknown key or an unusable value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fail = |line, reason| ConfigError {
            file: path.to_owned(),
            line,
            reason,
        };
        let text =
            read_bounded(path).map_err(|error| fail(None, format!("cannot be read: {error}")))?;
        let mut config = Self::parse(&text).map_err(|(line, reason)| fail(line, reason))?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        if let Some(policy) = &mut config.node.policy_file {
            *policy = base.join(&*policy);
        }
        config.services_dir = base.join(&config.services_dir);
        Ok(config)
    }

    /// How the runtime directory is set up.
    #[must_use]
    pub fn runtime(&self) -> RuntimeOptions {
        RuntimeOptions {
            dir: self.runtime_dir.clone(),
            mount: self.tmpfs.mount == Mount::Auto,
            size: self.tmpfs.size.bytes(),
            grace: self.wipe.grace.duration(),
        }
    }

    /// Where the last good version of each profile is remembered.
    #[must_use]
    pub fn kept_profiles(&self) -> PathBuf {
        self.state_dir.join("profiles")
    }

    /// The socket where units get their credentials.
    #[must_use]
    pub fn credentials_socket(&self) -> PathBuf {
        self.runtime_dir.join(CREDENTIALS_SOCKET)
    }

    /// The local socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join(SOCKET_NAME)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        let config: Self = serde_yaml::from_str(text).map_err(|error| yaml_reason(&error))?;
        for (key, dir) in [
            ("state_dir", &config.state_dir),
            ("runtime_dir", &config.runtime_dir),
        ] {
            if !dir.is_absolute() {
                let line = text.lines().position(|line| line.starts_with(key));
                let reason = format!("{key} must be an absolute path, not {}", dir.display());
                return Err((line.map(|line| line + 1), reason));
            }
        }
        Ok(config)
    }
}

impl Default for RuntimeOptions {
    /// What a configuration means that says nothing of it.
    fn default() -> Self {
        Self {
            dir: default_runtime_dir(),
            mount: Mount::default() == Mount::Auto,
            size: default_tmpfs_size().bytes(),
            grace: default_grace().duration(),
        }
    }
}

/// Reads a text file of at most 1 MiB.
///
/// # Errors
/// When it cannot be read, is larger, or is not UTF-8.
pub fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other("the file is larger than 1 MiB"));
    }
    Ok(text)
}

/// The line and the reason of a YAML error, apart.
pub(crate) fn yaml_reason(error: &serde_yaml::Error) -> (Option<usize>, String) {
    let text = error.to_string();
    let line = error.location().map(|at| at.line());
    let reason = match text.rsplit_once(" at line ") {
        Some((reason, _)) if line.is_some() => reason.to_owned(),
        _ => text,
    };
    (line, reason)
}

fn default_state_dir() -> PathBuf {
    "/var/lib/edge-secrets".into()
}

fn default_services_dir() -> PathBuf {
    "services.d".into()
}

fn default_ready() -> Span {
    Span::new(Duration::from_secs(30))
}

fn default_runtime_dir() -> PathBuf {
    "/run/edge-secrets".into()
}

fn default_tmpfs_size() -> ByteSize {
    ByteSize::new(16 * 1024 * 1024)
}

fn default_grace() -> Span {
    Span::new(Duration::from_secs(10))
}

fn default_max_age() -> Span {
    Span::new(Duration::from_secs(30 * 24 * 3600))
}

/// Where the configuration stands unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/edge-secrets/agent.yaml";

const SOCKET_NAME: &str = "agent.sock";
const CREDENTIALS_SOCKET: &str = "credentials.sock";
const MAX_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
