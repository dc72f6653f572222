//! `edge-secrets-hub init`: everything that a hub needs, made once.

pub mod org;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use edge_secrets_protocol::{OrgId, SealingKey, UserId};
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use crate::app::{DATABASE_FILE, MASTER_KEY_FILE, SEALING_KEY_FILE};
use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, NewAudit, Role, UserRecord};
use crate::catalog::sqlite::SqliteCatalog;
use crate::cli::Init;
use crate::clock;
use crate::config::{UserCertificates, server_name};
use crate::managers::envelope::MasterKey;
use crate::pki::{CA_CERTIFICATE_FILE, CA_KEY_FILE, Issued, Pki, PkiError};
use crate::place::{Place, PlaceError};

/// Why nothing was made. Whatever had been made is removed again.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A server name is neither a DNS name nor an IP address.
    #[error("server name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// There is something already, or a file cannot be made.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A certificate or key cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be made.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The system gives no random bytes.
    #[error("no master key: {0}")]
    MasterKey(String),
}

impl InitError {
    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Place(PlaceError::NotEmpty { .. } | PlaceError::CutOff(_)) | Self::ServerName(_)
        )
    }
}

/// What was made; shown, it says what to do next.
#[derive(Debug, Clone)]
pub struct Made {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The organisation.
    pub org: OrgId,
    /// Where the operator's commands go.
    pub url: String,
}

/// Makes the data directory and all that is in it, or nothing.
///
/// # Errors
/// When there is something there already, or something cannot be made.
pub async fn init(wanted: &Init) -> Result<Made, InitError> {
    let names = server_names(&wanted.server_names)?;
    let url = url(&names, wanted.listen);
    let mut place = Place::prepare(&wanted.data_dir)?;

    let (pki, ca_key) = Pki::create(wanted.trust_domain.clone())?;
    let master = MasterKey::generate().map_err(|error| InitError::MasterKey(error.to_string()))?;
    let admin = Admin::issue(&pki, &wanted.org)?;
    populate(&place.path(DATABASE_FILE), &wanted.org, &admin).await?;

    let context = admin.context(&url, &wanted.org);
    let config = config(wanted.listen, &names, wanted.trust_domain.as_str());
    place.write(CA_CERTIFICATE_FILE, pki.trust_bundle_pem().as_bytes())?;
    place.write(CA_KEY_FILE, ca_key.as_bytes())?;
    place.write(MASTER_KEY_FILE, master.expose())?;
    place.write(SEALING_KEY_FILE, SealingKey::generate().expose())?;
    place.write(
        ADMIN_CERTIFICATE_FILE,
        admin.issued.certificate_pem_chain.as_bytes(),
    )?;
    place.write(ADMIN_KEY_FILE, admin.key.as_bytes())?;
    place.write(CONTEXT_FILE, context.as_bytes())?;
    place.write(CONFIG_FILE, config.as_bytes())?;
    // The configuration comes last: without it there is nothing to serve.
    place.finish(CONFIG_FILE)?;
    Ok(Made {
        data_dir: wanted.data_dir.clone(),
        org: wanted.org.clone(),
        url,
    })
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data_dir, org, url } = self;
        let dir = data_dir.display();
        write!(
            f,
            "A hub for organisation {org} is ready in {dir}:\n\
             \x20 {CONFIG_FILE:<12} its configuration\n\
             \x20 {CA_CERTIFICATE_FILE:<12} the certificate authority that nodes and operators trust\n\
             \x20 {CONTEXT_FILE:<12} lets the operator's commands act as user {ADMIN} at {url}\n\
             \x20 {CA_KEY_FILE}, {MASTER_KEY_FILE}, {SEALING_KEY_FILE}, {ADMIN_KEY_FILE}\n\
             \x20              private keys: keep a copy of {MASTER_KEY_FILE} apart from the database's\n\
             \n\
             Next:\n\
             \x20 edge-secrets-hub serve --config {dir}/{CONFIG_FILE}\n\
             \x20 edge-secrets --context {dir}/{CONTEXT_FILE} node token NODE\n"
        )
    }
}

/// The first user, with a key that stands nowhere but in its file.
struct Admin {
    user: UserId,
    key: Zeroizing<String>,
    issued: Issued,
}

impl Admin {
    fn issue(pki: &Pki, org: &OrgId) -> Result<Self, InitError> {
        let unfit = |error: rcgen::Error| PkiError::from(error);
        let user: UserId = ADMIN
            .parse()
            .map_err(|error: edge_secrets_protocol::NameError| {
                PkiError::Authority(error.to_string())
            })?;
        let key = KeyPair::generate().map_err(unfit)?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .map_err(unfit)?;
        let lifetime = UserCertificates::default().lifetime;
        let issued = pki.issue_user(&csr, org, &user, lifetime)?;
        Ok(Self {
            user,
            key: Zeroizing::new(key.serialize_pem()),
            issued,
        })
    }

    fn context(&self, url: &str, org: &OrgId) -> String {
        let user = &self.user;
        format!(
            "# What the operator's commands need; paths are relative to this file.\n\
             hub: {}\norg: {}\nuser: {}\n\
             certificate: {ADMIN_CERTIFICATE_FILE}\nkey: {ADMIN_KEY_FILE}\n\
             ca: {CA_CERTIFICATE_FILE}\n",
            quoted(url),
            quoted(org.as_str()),
            quoted(user.as_str()),
        )
    }
}

async fn populate(database: &Path, org: &OrgId, admin: &Admin) -> Result<(), InitError> {
    let catalog = SqliteCatalog::open(database).await?;
    let done = fill(&catalog, org, admin, "init").await;
    catalog.close().await;
    Ok(done?)
}

/// Writes the organisation and its administrator, unless they are there, and that one's certificate, all at
/// once; `by` stands in the audit trail.
async fn fill(
    catalog: &SqliteCatalog,
    org: &OrgId,
    admin: &Admin,
    by: &str,
) -> Result<(), CatalogError> {
    let audit = |action: &str, object: String| NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: action.into(),
        object,
        result: "ok".into(),
        detail: by.into(),
        peer: String::new(),
    };
    let user = UserRecord {
        org: org.clone(),
        user: admin.user.clone(),
        role: Role::Admin,
        created_at: clock::now(),
    };
    let created = audit("org.create", format!("org/{org}"));
    let added = audit("user.add", format!("user/{}", admin.user));
    let certificate = admin.issued.record();
    catalog.found(&user, &certificate, (&created, &added)).await
}

fn config(listen: SocketAddr, names: &[String], trust_domain: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!(
        "# The hub's configuration. Relative paths are relative to this file; unknown keys are errors.\n\
         listen: {}\n\
         # The names under which nodes and operators reach this hub.\n\
         server_names: [{}]\n\
         trust_domain: {}\n\
         node_certificates: {{lifetime: 7d, renewal_grace: 30d}}\n\
         log: {{level: info, format: text}}\n",
        quoted(&listen.to_string()),
        names.join(", "),
        quoted(trust_domain),
    )
}

/// A JSON string is a YAML string too, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn server_names(wanted: &[String]) -> Result<Vec<String>, InitError> {
    if let Some(bad) = wanted.iter().find(|name| !server_name(name)) {
        return Err(InitError::ServerName(bad.clone()));
    }
    if !wanted.is_empty() {
        return Ok(wanted.to_vec());
    }
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(Into::into).into();
    // A host name that no certificate can carry is left out; `--server-name` says another.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if server_name(host) && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    Ok(names)
}

/// Where the operator's commands go: the first name, at the port that is listened on.
fn url(names: &[String], listen: SocketAddr) -> String {
    let name = names.first().map_or("localhost", String::as_str);
    let port = listen.port();
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{name}:{port}"),
    }
}

/// The first user of a new organisation.
pub const ADMIN: &str = "admin";
/// The hub's configuration.
pub const CONFIG_FILE: &str = "hub.yaml";
/// What the operator's commands need to act as [`ADMIN`].
pub const CONTEXT_FILE: &str = "admin.yaml";
pub(crate) const ADMIN_CERTIFICATE_FILE: &str = "admin.crt";
pub(crate) const ADMIN_KEY_FILE: &str = "admin.key";

#[cfg(test)]
pub(crate) mod tests;
