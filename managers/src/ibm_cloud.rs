//! IBM Cloud Secrets Manager, API v2.
//!
//! Most of its secrets are values that a read does nothing to. One type is different: reading
//! `iam_credentials` with `reuse_api_key` off makes another API key and ends the one before. Such a
//! read happens in [`SecretManager::mint`] alone; all looking goes by metadata, which never makes one.

mod api;
mod describe;
mod iam;
mod known;
mod lease;
mod listing;
mod lookup;
mod place;
mod sweep;
#[cfg(test)]
mod tests;
mod values;
mod wire;
mod writing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use serde::Deserialize;

use self::api::Api;
use self::known::Known;
use self::place::Place;
use crate::credential::CredentialFile;
use crate::http::BaseUrl;
use crate::{
    Description, Engine, Fault, Health, Kind, LeaseHandle, ListQuery, ManagerError, Minted,
    NewCredential, Page, SecretManager, Target, Term, Version,
};

/// How an instance is reached, and what the hub may do there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IbmCloudConfig {
    /// The instance's endpoint, public or private:
    /// `https://INSTANCE.REGION.secrets-manager.appdomain.cloud`.
    pub url: BaseUrl,
    /// Where IAM gives tokens for the API key.
    #[serde(default = "public_iam")]
    pub iam_url: BaseUrl,
    /// The API key of the hub's service id, alone in a file. Read anew for every token.
    pub api_key: CredentialFile,
    /// The CAs to trust at both addresses, PEM; those of the system when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether the hub may make and set secrets there, and configure the engine.
    #[serde(default)]
    pub write: bool,
    /// Whether an `iam_credentials` secret with `reuse_api_key` on may go to many nodes: they all have
    /// the one key then, and lose it together. Else it goes to one node, like those without.
    #[serde(default)]
    pub share_reused: bool,
    /// The access groups, by id, that `iam_credentials` may be made for; none when absent. Whoever has
    /// such a key has all that its groups may do.
    #[serde(default)]
    pub access_groups: Vec<String>,
    /// The service ids that `iam_credentials` may be made for; none when absent.
    #[serde(default)]
    pub service_ids: Vec<String>,
}

impl IbmCloudConfig {
    /// The same with relative paths made relative to `base`.
    #[must_use]
    pub fn based_on(self, base: &Path) -> Self {
        Self {
            api_key: self.api_key.based_on(base),
            ca_file: self.ca_file.map(|file| base.join(file)),
            ..self
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant that a test reads")]
fn public_iam() -> BaseUrl {
    IAM.parse().expect("a URL")
}

/// One instance.
pub struct IbmCloud {
    api: Api,
    known: Known,
    write: bool,
    share_reused: bool,
    access_groups: Vec<String>,
    service_ids: Vec<String>,
}

impl IbmCloud {
    /// A backend for one instance; `timeout` is for one request. Nothing is asked yet.
    ///
    /// # Errors
    /// When a CA file cannot be read; the text says which.
    pub fn new(config: &IbmCloudConfig, timeout: Duration) -> Result<Self, String> {
        Ok(Self {
            api: Api::new(config, timeout)?,
            known: Known::default(),
            write: config.write,
            share_reused: config.share_reused,
            access_groups: config.access_groups.clone(),
            service_ids: config.service_ids.clone(),
        })
    }

    fn expect_write(&self) -> Result<(), ManagerError> {
        if self.write {
            return Ok(());
        }
        Err(ManagerError::new(
            Fault::Unsupported,
            "the hub does not write here: set `write: true` for this manager in its configuration",
        ))
    }
}

#[async_trait]
impl SecretManager for IbmCloud {
    fn kind(&self) -> Kind {
        Kind::IbmCloud
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Place::of(target.reference).map(|place| place.to_string())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        self.look_healthy().await
    }

    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        let place = Place::of(target.reference)?;
        self.describe_place(&place).await
    }

    fn describes_together(&self) -> bool {
        true
    }

    async fn describe_all(&self, targets: &[Target<'_>]) -> Vec<Result<Description, ManagerError>> {
        self.sweep(targets).await
    }

    fn lists_labels(&self) -> bool {
        true
    }

    fn searches(&self) -> bool {
        true
    }

    async fn list(&self, _: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        self.list_page(query).await
    }

    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        let place = Place::of(target.reference)?;
        self.versions_of(&place).await
    }

    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let place = Place::of(target.reference)?;
        self.read_version(&place, version).await
    }

    async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        let place = Place::of(target.reference)?;
        self.mint_key(&place).await
    }

    async fn renew(&self, _: &LeaseHandle, _: Duration) -> Result<Term, ManagerError> {
        Err(ManagerError::new(
            Fault::Unsupported,
            "a key's end is set when it is made: it is replaced, never renewed",
        ))
    }

    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        self.end_key(handle).await
    }

    async fn write(
        &self,
        target: Target<'_>,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        self.expect_write()?;
        let place = Place::of(target.reference)?;
        self.set_value(&place, payload, expected).await
    }

    async fn create(&self, target: Target<'_>, new: &NewCredential) -> Result<(), ManagerError> {
        self.expect_write()?;
        let place = Place::of(target.reference)?;
        self.create_credential(&place, new).await
    }

    async fn put_engine(&self, name: &str, key: &Secret) -> Result<Engine, ManagerError> {
        self.expect_write()?;
        self.configure_engine(name, key).await
    }
}

const IAM: &str = "https://iam.cloud.ibm.com";
