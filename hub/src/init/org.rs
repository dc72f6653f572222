//! `edge-secrets-hub add-org`: another organisation at a hub that is there.
//!
//! Nobody of an organisation may make another, so that this is whoever runs the hub's to do, on its
//! machine, while it does not serve.

use std::fmt;
use std::path::PathBuf;

use edge_secrets_protocol::OrgId;

use super::{
    ADMIN, ADMIN_CERTIFICATE_FILE, ADMIN_KEY_FILE, Admin, CONTEXT_FILE, InitError, fill, url,
};
use crate::app::{self, AppError};
use crate::backup::{BackupError, expect_owner};
use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Catalog, CatalogError};
use crate::cli::AddOrg;
use crate::config::{Config, ConfigError};
use crate::pki::{CA_CERTIFICATE_FILE, Pki, PkiError};
use crate::place::{Place, PlaceError};

/// Why there is no new organisation.
#[derive(Debug, thiserror::Error)]
pub enum AddOrgError {
    /// There is one of that name.
    #[error("there is an organisation {0} already")]
    Exists(OrgId),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hub serves, or its directory is not one.
    #[error(transparent)]
    App(#[from] AppError),
    /// The data directory is another user's.
    #[error(transparent)]
    Owner(#[from] BackupError),
    /// Its administrator's context cannot be made, or the catalog does not take it.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl AddOrgError {
    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Exists(_) | Self::Config(_) => true,
            Self::App(error) => error.is_configuration(),
            Self::Owner(error) => error.is_usage(),
            Self::Init(error) => error.is_usage(),
        }
    }
}

impl From<CatalogError> for AddOrgError {
    fn from(error: CatalogError) -> Self {
        Self::Init(error.into())
    }
}

impl From<PkiError> for AddOrgError {
    fn from(error: PkiError) -> Self {
        Self::Init(error.into())
    }
}

impl From<PlaceError> for AddOrgError {
    fn from(error: PlaceError) -> Self {
        Self::Init(error.into())
    }
}

/// What was made; shown, it says what to do next.
#[derive(Debug, Clone)]
pub struct Added {
    org: OrgId,
    out: PathBuf,
    url: String,
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { org, out, url } = self;
        let out = out.display();
        write!(
            f,
            "The hub has an organisation {org}; serve it again. {out}/{CONTEXT_FILE} lets the operator's \
             commands act\nas its user {ADMIN} at {url}, with certificate, key and CA beside it; the key \
             is nowhere else.\n"
        )
    }
}

/// Makes the organisation, its first administrator, and a directory with what that one needs.
///
/// # Errors
/// When the hub serves, there is such an organisation, or something cannot be read or made.
pub async fn add_org(wanted: &AddOrg) -> Result<Added, AddOrgError> {
    let config = Config::load(&wanted.config)?;
    let dir = &config.data_dir;
    expect_owner(dir)?;
    let _serving = app::serving(dir)?;
    let _alone = app::alone(dir)?;
    let pki = Pki::load(dir, config.trust_domain.clone())?;
    let catalog = app::database(dir).await?;
    let added = add_to(&catalog, &config, &pki, wanted).await;
    catalog.close().await;
    added
}

async fn add_to(
    catalog: &SqliteCatalog,
    config: &Config,
    pki: &Pki,
    AddOrg { org, out, .. }: &AddOrg,
) -> Result<Added, AddOrgError> {
    if catalog.orgs().await?.contains(org) && !was_cut_off(catalog, org).await? {
        return Err(AddOrgError::Exists(org.clone()));
    }
    let url = url(&config.server_names, config.listen);
    let admin = Admin::issue(pki, org)?;
    // The files first: an administrator whose key is lost would be of no use.
    let mut place = Place::prepare(out)?;
    let chain = admin.issued.certificate_pem_chain.as_bytes();
    place.write(CA_CERTIFICATE_FILE, pki.trust_bundle_pem().as_bytes())?;
    place.write(ADMIN_CERTIFICATE_FILE, chain)?;
    place.write(ADMIN_KEY_FILE, admin.key.as_bytes())?;
    place.write(CONTEXT_FILE, admin.context(&url, org).as_bytes())?;
    place.finish(CONTEXT_FILE)?;
    fill(catalog, org, &admin, "add-org").await?;
    Ok(Added {
        org: org.clone(),
        out: out.clone(),
        url,
    })
}

/// Whether nobody has ever been able to do anything in the organisation: its making ended before its first
/// administrator had a certificate. A hub before this one made them one after the other.
async fn was_cut_off(catalog: &SqliteCatalog, org: &OrgId) -> Result<bool, CatalogError> {
    let users = catalog.users(org).await?;
    let known = catalog.certificates().await?;
    let mut certificates = known.iter().filter(|one| one.org == *org);
    Ok(users.iter().all(|user| user.user.as_str() == ADMIN) && certificates.next().is_none())
}
