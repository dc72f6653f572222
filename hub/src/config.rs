//! `hub.yaml`: what the hub is told. Unknown keys are errors, with the line where they stand.

pub mod managers;
pub mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use edge_secrets_protocol::OrgId;
use serde::{Deserialize, Serialize};

use crate::managers::ManagerName;
use managers::{ManagerConfig, Managers};

/// What the hub was told. Every value is checked and every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is that `init` made.
    pub data_dir: PathBuf,
    /// The address to listen on; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// DNS names and IP addresses that the server's certificate is for.
    pub server_names: Vec<String>,
    /// The trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// Nodes' certificates.
    pub node_certificates: NodeCertificates,
    /// Users' certificates.
    pub user_certificates: UserCertificates,
    /// What is logged, and how.
    pub log: Log,
    /// What one process takes on at once.
    pub limits: Limits,
    /// The secrets managers outside the hub.
    pub managers: Managers,
}

/// How long nodes' certificates live.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeCertificates {
    /// From issue to expiry; at least a minute.
    #[serde(deserialize_with = "units::duration")]
    pub lifetime: Duration,
    /// For how long after its expiry a certificate can still be renewed.
    #[serde(deserialize_with = "units::duration")]
    pub renewal_grace: Duration,
}

impl Default for NodeCertificates {
    fn default() -> Self {
        Self {
            lifetime: 7 * DAY,
            renewal_grace: 30 * DAY,
        }
    }
}

/// How long users' certificates live.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserCertificates {
    /// From issue to expiry; at least a minute.
    #[serde(deserialize_with = "units::duration")]
    pub lifetime: Duration,
}

impl Default for UserCertificates {
    fn default() -> Self {
        Self {
            lifetime: 365 * DAY,
        }
    }
}

/// What is logged, and how. Logs go to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives like `info,edge_secrets_hub=debug`.
    pub level: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What one process takes on at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most open connections; further ones wait to be accepted.
    pub max_connections: usize,
    /// Most connections of one address (for IPv6 of one /64) that are in their TLS handshake or have no
    /// client certificate; further ones are closed at once.
    pub max_unknown_per_address: usize,
    /// How long a connection may take for its TLS handshake.
    #[serde(deserialize_with = "units::duration")]
    pub handshake_timeout: Duration,
    /// Most requests at once on one connection.
    pub max_streams: u32,
    /// For how long a piece of an answer may lie unread before its connection is cut.
    #[serde(deserialize_with = "units::duration")]
    pub reader_timeout: Duration,
    /// How long requests under way may take when the hub is told to stop, or when the certificate
    /// of their connection has expired.
    #[serde(deserialize_with = "units::duration")]
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 120_000,
            max_unknown_per_address: 1_000,
            handshake_timeout: Duration::from_secs(10),
            max_streams: 64,
            reader_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// The trust domain of SPIFFE identities: 1 to 255 of `a-z 0-9 . _ -` (SPIFFE ID §2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("edge-secrets.internal".into())
    }
}

impl FromStr for TrustDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(plain) {
            return Err(format!(
                "trust domain {text:?} is not 1 to 255 of a-z, 0-9, `.`, `_` and `-`"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

impl Config {
    /// Reads `hub.yaml`. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value outside its bounds.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let refused = |reason: String| ConfigError {
            path: path.into(),
            line: None,
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        // Defaults alone would be another hub, at another address.
        if text.trim().is_empty() {
            let reason = "it is empty; put it back as it was, or write `{}` for a hub of defaults";
            return Err(refused(reason.into()));
        }
        Self::parse(&text, path)
    }

    /// What [`load`](Self::load) does with the file's text. `path` need not exist.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = serde_yaml::from_str(text).map_err(|error| ConfigError {
            path: path.into(),
            line: error.location().map(|location| location.line()),
            reason: error.to_string(),
        })?;
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let config = Self {
            data_dir: base.join(file.data_dir.unwrap_or_default()),
            listen: file.listen,
            server_names: file.server_names,
            trust_domain: file.trust_domain,
            node_certificates: file.node_certificates,
            user_certificates: file.user_certificates,
            log: file.log,
            limits: file.limits,
            managers: Managers {
                managers: file.managers,
                defaults: file.default_managers,
            }
            .based_on(base),
        };
        config.check().map_err(|(key, reason)| ConfigError {
            path: path.into(),
            line: line_of(text, key),
            reason,
        })?;
        Ok(config)
    }

    /// The first value out of bounds: its key, and what is wrong.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let least = Duration::from_secs(60);
        let positive = |limit: usize| (1..=10_000_000).contains(&limit);
        let rules = [
            (
                self.server_names.is_empty(),
                "server_names",
                "`server_names` must name at least one DNS name or IP address",
            ),
            (
                self.node_certificates.lifetime < least,
                "node_certificates",
                "`node_certificates.lifetime` must be at least 60s",
            ),
            (
                self.user_certificates.lifetime < least,
                "user_certificates",
                "`user_certificates.lifetime` must be at least 60s",
            ),
            (
                !positive(self.limits.max_connections),
                "max_connections",
                "`limits.max_connections` must be between 1 and 10000000",
            ),
            (
                !positive(self.limits.max_unknown_per_address),
                "max_unknown_per_address",
                "`limits.max_unknown_per_address` must be between 1 and 10000000",
            ),
            (
                !positive(self.limits.max_streams as usize),
                "max_streams",
                "`limits.max_streams` must be between 1 and 10000000",
            ),
            (
                self.limits.handshake_timeout.is_zero(),
                "handshake_timeout",
                "`limits.handshake_timeout` must not be zero",
            ),
            (
                self.limits.reader_timeout.is_zero(),
                "reader_timeout",
                "`limits.reader_timeout` must not be zero",
            ),
        ];
        if let Some((_, key, reason)) = rules.into_iter().find(|(broken, ..)| *broken) {
            return Err((key, reason.into()));
        }
        if let Some(name) = self.server_names.iter().find(|name| !server_name(name)) {
            let reason = format!("server name {name:?} is neither a DNS name nor an IP address");
            return Err(("server_names", reason));
        }
        if let Err(error) = self.log.level.parse::<tracing_subscriber::EnvFilter>() {
            return Err(("level", format!("`log.level`: {error}")));
        }
        self.managers.check()
    }
}

/// Whether a certificate can be issued for this name.
#[must_use]
pub fn server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    #[serde(default = "default_server_names")]
    server_names: Vec<String>,
    #[serde(default)]
    trust_domain: TrustDomain,
    #[serde(default)]
    node_certificates: NodeCertificates,
    #[serde(default)]
    user_certificates: UserCertificates,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    managers: Vec<ManagerConfig>,
    #[serde(default, with = "serde_with::rust::maps_duplicate_key_is_error")]
    default_managers: BTreeMap<OrgId, ManagerName>,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT))
}

fn default_server_names() -> Vec<String> {
    vec!["localhost".into(), "127.0.0.1".into(), "::1".into()]
}

/// The first line that sets `key`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .position(|line| {
            line.trim_start_matches([' ', '{', ','])
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(':'))
        })
        .map(|at| at + 1)
}

/// Where the hub listens unless it is told otherwise.
pub const DEFAULT_PORT: u16 = 8443;

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/hub/hub.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_stand_where_nothing_is_said() {
        let config = parse("listen: 127.0.0.1:0\n").unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/hub"));
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.node_certificates.lifetime, 7 * DAY);
        assert_eq!(config.node_certificates.renewal_grace, 30 * DAY);
        assert_eq!(config.trust_domain.as_str(), "edge-secrets.internal");
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        assert_eq!(
            parse("data_dir: data").unwrap().data_dir,
            Path::new("/etc/hub/data")
        );
        assert_eq!(parse("data_dir: /srv").unwrap().data_dir, Path::new("/srv"));
        let here = Config::parse("data_dir: data", Path::new("hub.yaml")).unwrap();
        assert_eq!(here.data_dir, Path::new("./data"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("listen: 127.0.0.1:1\nlog:\n  levle: info\n").unwrap_err();
        assert!(error.starts_with("/etc/hub/hub.yaml:3: "), "{error}");
        assert!(error.contains("levle"), "{error}");
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_their_line() {
        for (text, line, said) in [
            ("listen: nowhere", 1, "listen: invalid"),
            (
                "log: {level: info}\nnode_certificates: {lifetime: 7}",
                2,
                "7",
            ),
            (
                "listen: 127.0.0.1:1\nnode_certificates:\n  lifetime: 5s",
                2,
                "at least 60s",
            ),
            ("server_names: []", 1, "at least one"),
            ("server_names: ['a b']", 1, "a b"),
            ("trust_domain: Upper.Case", 1, "Upper.Case"),
            ("log:\n  level: 'loud=='", 2, "log.level"),
            ("limits:\n  max_connections: 0", 2, "max_connections"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(&format!("hub.yaml:{line}: ")),
                "{text}: {error}"
            );
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
