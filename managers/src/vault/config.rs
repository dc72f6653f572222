//! How `hub.yaml` names a Vault.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use serde::Deserialize;

use crate::credential::CredentialFile;
use crate::http::BaseUrl;

/// One Vault or OpenBao, as its members stand in `hub.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// Where it is: `https://vault.example.com:8200`.
    pub address: BaseUrl,
    /// The CAs that its certificate comes from, PEM; those of the system when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The namespace that everything is in: `team/edge`.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// How the hub logs in.
    pub auth: Auth,
    /// What is read from: the first KV mount is the one that references mean by default.
    #[serde(default = "default_mounts", deserialize_with = "mounts")]
    pub mounts: Vec<Mount>,
    /// Whether the hub may write to KV mounts.
    #[serde(default)]
    pub write: bool,
    /// Addresses of the cluster's other nodes that a standby may redirect to.
    #[serde(default)]
    pub redirects_to: Vec<BaseUrl>,
}

/// A namespace: 1 to 256 of `A-Z a-z 0-9 . _ -` and `/` between its parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Namespace(String);

/// How the hub logs in.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawAuth")]
pub enum Auth {
    /// With a role id and a secret id.
    AppRole(AppRole),
    /// With a TLS client certificate.
    Cert(Cert),
    /// With a token that somebody else made and puts into this file.
    Token(CredentialFile),
}

/// A role of the method `approle`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawAppRole")]
pub struct AppRole {
    /// The role's id.
    pub role_id: CredentialFile,
    /// What proves it.
    pub secret_id: SecretId,
    /// Where the method is: `auth/MOUNT`.
    pub mount: MountPath,
}

/// Where the secret id comes from.
#[derive(Debug, Clone)]
pub enum SecretId {
    /// From this file.
    Plain(CredentialFile),
    /// From Vault, for the wrapping token in this file: once.
    Wrapped(CredentialFile),
}

/// A role of the method `cert`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cert {
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The role; Vault looks for one that fits when absent.
    #[serde(default)]
    pub role: Option<String>,
    /// Where the method is: `auth/MOUNT`.
    #[serde(default = "default_cert")]
    pub mount: MountPath,
}

/// Something that secrets are read from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where it is mounted.
    pub path: MountPath,
    /// What is mounted there.
    #[serde(rename = "type")]
    pub engine: Engine,
    /// What stands before every reference's path there; `{org}` becomes the organisation. KV alone.
    #[serde(default)]
    pub root: Root,
}

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// KV version 1: without versions. To tell whether a value has changed, it is read.
    Kv1,
    /// KV version 2.
    Kv2,
    /// One that makes credentials with a lease: databases, clouds, message brokers.
    Dynamic,
}

/// Where something is mounted: parts as in a reference, `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct MountPath(String);

/// A path with or without `{org}` as parts; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Root(String);

impl Auth {
    /// The files that prove who the hub is.
    #[must_use]
    pub fn credentials(&self) -> Vec<&CredentialFile> {
        match self {
            Self::AppRole(role) => {
                let (SecretId::Plain(secret_id) | SecretId::Wrapped(secret_id)) = &role.secret_id;
                vec![&role.role_id, secret_id]
            }
            // Its key is read when the backend is made.
            Self::Cert(_) => Vec::new(),
            Self::Token(token) => vec![token],
        }
    }
}

impl VaultConfig {
    /// The same with relative paths made relative to `base`, the directory of `hub.yaml`.
    #[must_use]
    pub fn based_on(self, base: &Path) -> Self {
        let auth = match self.auth {
            Auth::AppRole(role) => Auth::AppRole(AppRole {
                role_id: role.role_id.based_on(base),
                secret_id: match role.secret_id {
                    SecretId::Plain(file) => SecretId::Plain(file.based_on(base)),
                    SecretId::Wrapped(file) => SecretId::Wrapped(file.based_on(base)),
                },
                mount: role.mount,
            }),
            Auth::Cert(cert) => Auth::Cert(Cert {
                certificate: base.join(cert.certificate),
                key: base.join(cert.key),
                ..cert
            }),
            Auth::Token(file) => Auth::Token(file.based_on(base)),
        };
        Self {
            ca_file: self.ca_file.map(|path| base.join(path)),
            auth,
            ..self
        }
    }
}

impl Namespace {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn header(&self) -> HeaderValue {
        // Its characters are a header's: it was parsed.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl MountPath {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Root {
    /// For this organisation, with a slash at its end unless it is empty.
    pub(super) fn of(&self, org: &str) -> String {
        match self.0.as_str() {
            "" => String::new(),
            root => format!("{}/", root.replace(ORG, org)),
        }
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = parts(&text, "namespace", "._-")?;
        Ok(Self(path))
    }
}

impl TryFrom<String> for MountPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = parts(&text, "mount", "._-@")?;
        Ok(Self(path))
    }
}

impl TryFrom<String> for Root {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.trim_matches('/').is_empty() {
            return Ok(Self::default());
        }
        let plain = text.replace(ORG, "org");
        parts(&plain, "root", "._-@")?;
        Ok(Self(text.trim_matches('/').to_owned()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    approle: Option<AppRole>,
    cert: Option<Cert>,
    token: Option<CredentialFile>,
}

impl TryFrom<RawAuth> for Auth {
    type Error = &'static str;

    fn try_from(raw: RawAuth) -> Result<Self, Self::Error> {
        match (raw.approle, raw.cert, raw.token) {
            (Some(role), None, None) => Ok(Self::AppRole(role)),
            (None, Some(cert), None) => Ok(Self::Cert(cert)),
            (None, None, Some(file)) => Ok(Self::Token(file)),
            _ => Err("auth takes exactly one of approle, cert and token"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAppRole {
    role_id: CredentialFile,
    secret_id: Option<CredentialFile>,
    wrapped_secret_id: Option<CredentialFile>,
    #[serde(default = "default_approle")]
    mount: MountPath,
}

impl TryFrom<RawAppRole> for AppRole {
    type Error = &'static str;

    fn try_from(raw: RawAppRole) -> Result<Self, Self::Error> {
        let secret_id = match (raw.secret_id, raw.wrapped_secret_id) {
            (Some(file), None) => SecretId::Plain(file),
            (None, Some(file)) => SecretId::Wrapped(file),
            _ => return Err("approle takes exactly one of secret_id and wrapped_secret_id"),
        };
        Ok(Self {
            role_id: raw.role_id,
            secret_id,
            mount: raw.mount,
        })
    }
}

fn mounts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Mount>, D::Error> {
    let mounts = Vec::<Mount>::deserialize(deserializer)?;
    check_mounts(&mounts).map_err(serde::de::Error::custom)?;
    Ok(mounts)
}

/// What would make a reference mean two things, or none.
fn check_mounts(mounts: &[Mount]) -> Result<(), String> {
    if !(1..=MAX_MOUNTS).contains(&mounts.len()) {
        return Err(format!("mounts takes 1 to {MAX_MOUNTS}"));
    }
    let mut seen = BTreeSet::new();
    let first_kv = mounts.iter().position(|m| m.engine != Engine::Dynamic);
    for (at, mount) in mounts.iter().enumerate() {
        let path = mount.path.as_str();
        if !seen.insert(path) {
            return Err(format!("mount {path} stands there twice"));
        }
        if mount.engine == Engine::Dynamic && mount.root != Root::default() {
            return Err(format!("mount {path} is dynamic: it takes no root"));
        }
        let first = path.split('/').next().unwrap_or_default();
        if first_kv != Some(at) && RESERVED.contains(&first) {
            return Err(format!(
                "mount {path} cannot be referred to: `{first}/` means another thing at the start \
                 of a reference; make it the first KV mount"
            ));
        }
    }
    Ok(())
}

fn parts(text: &str, what: &str, punctuation: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    let fits = |part: &str| !part.starts_with('.') && !part.is_empty() && part.chars().all(plain);
    if path.len() <= MAX_PATH && path.split('/').all(fits) {
        return Ok(path.to_owned());
    }
    Err(format!(
        "{what} {text:?} is not parts of A-Z a-z 0-9 {punctuation} with `/` between them"
    ))
}

fn default_mounts() -> Vec<Mount> {
    vec![Mount {
        path: MountPath("secret".into()),
        engine: Engine::Kv2,
        root: Root::default(),
    }]
}

fn default_approle() -> MountPath {
    MountPath("approle".into())
}

fn default_cert() -> MountPath {
    MountPath("cert".into())
}

const ORG: &str = "{org}";
const RESERVED: [&str; 3] = ["openhorizon", "user", "node"];
const MAX_MOUNTS: usize = 64;
const MAX_PATH: usize = 256;
