//! The hub's own secrets manager.

#[cfg(test)]
mod conforms;
mod kept;
mod reads;

use std::sync::Arc;

use edge_secrets_protocol::secret::PayloadError;
use edge_secrets_protocol::{Fields, OrgId, Secret, SecretVersion, UserId};
use tokio::sync::Mutex;

use super::envelope::{self, Envelope, MasterKey, Slot};
use super::{Fault, ManagerError};
use crate::catalog::records::{
    Committed, EncryptedVersion, NewAudit, NewMeta, SecretPut, SecretRecord,
};
use crate::catalog::{Catalog, CatalogError};
use crate::metadata::MetaChange;
use crate::reference::SecretRef;

pub use kept::KeptSession;

/// Secrets in the catalog, every version encrypted under a key of its own.
pub struct Embedded {
    catalog: Arc<dyn Catalog>,
    master: MasterKey,
    /// Within one hub the next version number is taken by one after the other; only between hubs
    /// must it be tried again.
    numbering: Mutex<()>,
}

/// A value to set, and what to change with it.
pub struct NewValue<'a> {
    /// The organisation.
    pub org: &'a OrgId,
    /// Which secret.
    pub reference: &'a SecretRef,
    /// The payload, see [`Fields`].
    pub payload: &'a Secret,
    /// Who sets it.
    pub by: &'a UserId,
    /// What changes of its metadata.
    pub meta: NewMeta,
}

/// Why a secret was not set. Never holds anything of the value.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The payload is not one.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The reference names another manager, where the value must be set.
    #[error("{0} belongs to another secrets manager: set it there")]
    OtherManager(SecretRef),
    /// The current version is not the expected one.
    #[error("{0} was changed meanwhile: look at it again")]
    Conflict(SecretRef),
    /// There is no such version to restore.
    #[error("{0} has no version {1}: `edge-secrets secret versions {0}` lists them")]
    NoVersion(SecretRef, SecretVersion),
    /// The value could not be encrypted, or the kept one does not decrypt.
    #[error("the value of {0} could not be encrypted or decrypted: check the hub's master key")]
    Envelope(SecretRef),
    /// The catalog did not do it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Embedded {
    /// Keeps secrets in `catalog`, encrypted under `master`.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>, master: MasterKey) -> Self {
        Self {
            catalog,
            master,
            numbering: Mutex::new(()),
        }
    }

    /// Makes a value the secret's next version. With `expected`, only while the current version is
    /// that one (`Some(None)`: while there is none). The version carries the time of `audit`, and the
    /// detail of `audit` gets the version's number.
    ///
    /// # Errors
    /// When the payload is malformed, the current version another, or the catalog fails.
    pub async fn set(
        &self,
        value: NewValue<'_>,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<(SecretVersion, SecretPut), SetError> {
        self.add(value, None, expected, audit).await
    }

    /// Changes a secret's metadata. With `expected`, only while the current version is that one.
    ///
    /// # Errors
    /// When there is no such secret, the current version is another, or the catalog fails.
    pub async fn edit(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        change: &MetaChange,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<(SecretRecord, Committed), SetError> {
        if reference.manager().is_some() {
            return Err(SetError::OtherManager(reference.clone()));
        }
        let edited = self
            .catalog
            .edit_secret(org, reference, change, expected, audit);
        edited.await.map_err(|error| match error {
            CatalogError::Conflict => SetError::Conflict(reference.clone()),
            error => error.into(),
        })
    }

    /// Makes the value of an old version the current one, as a new version.
    ///
    /// # Errors
    /// When there is no such version, or the catalog fails.
    pub async fn restore(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        version: &SecretVersion,
        by: &UserId,
        audit: NewAudit,
    ) -> Result<(SecretVersion, SecretPut), SetError> {
        let kept = self.catalog.encrypted(org, reference, version).await?;
        let kept = kept.ok_or_else(|| SetError::NoVersion(reference.clone(), version.clone()))?;
        let payload = self
            .decrypt(org, reference, &kept)
            .map_err(|_| SetError::Envelope(reference.clone()))?;
        let value = NewValue {
            org,
            reference,
            payload: &payload,
            by,
            meta: NewMeta::default(),
        };
        self.add(value, Some(version), None, audit).await
    }

    /// Removes a secret with every version of it. Should it be set again, its numbers go on.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] when there is no such secret.
    pub async fn remove(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        audit: NewAudit,
    ) -> Result<Committed, CatalogError> {
        self.catalog.remove_secret(org, reference, audit).await
    }

    async fn add(
        &self,
        new: NewValue<'_>,
        restored_from: Option<&SecretVersion>,
        expected: Option<Option<SecretVersion>>,
        audit: NewAudit,
    ) -> Result<(SecretVersion, SecretPut), SetError> {
        let NewValue { org, reference, .. } = new;
        if reference.manager().is_some() {
            return Err(SetError::OtherManager(reference.clone()));
        }
        let fields = Fields::decode(new.payload.expose())?
            .names()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let _turn = self.numbering.lock().await;
        for _ in 0..ATTEMPTS {
            let last = self.catalog.last_version(org, reference).await?;
            let version = next_version(last)?;
            let envelope = self.encrypt(&new, &version)?;
            let encrypted = EncryptedVersion {
                version: version.clone(),
                wrapped_key: envelope.wrapped_key,
                ciphertext: envelope.ciphertext,
                fields: fields.clone(),
                created_by: new.by.clone(),
                created_at: audit.at,
                restored_from: restored_from.cloned(),
            };
            let audit = with_version(audit.clone(), &version);
            let expected_now = expected.clone();
            let (catalog, meta) = (&self.catalog, &new.meta);
            let put = catalog.put_secret(org, reference, &encrypted, meta, expected_now, audit);
            match put.await {
                Ok(put) => return Ok((version, put)),
                Err(CatalogError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            // Another hub took the number, or the secret is not as expected: only the latter lasts.
            if let Some(expected) = &expected {
                let current = self.catalog.secret(org, reference).await?;
                if current.map(|secret| secret.current) != *expected {
                    break;
                }
            }
        }
        Err(SetError::Conflict(reference.clone()))
    }

    fn encrypt(&self, new: &NewValue<'_>, version: &SecretVersion) -> Result<Envelope, SetError> {
        let slot = Slot {
            org: new.org,
            reference: new.reference,
            version,
        };
        envelope::close(&self.master, slot, new.payload)
            .map_err(|_| SetError::Envelope(new.reference.clone()))
    }

    fn decrypt(
        &self,
        org: &OrgId,
        reference: &SecretRef,
        kept: &EncryptedVersion,
    ) -> Result<Secret, ManagerError> {
        let slot = Slot {
            org,
            reference,
            version: &kept.version,
        };
        envelope::open(&self.master, slot, &kept.wrapped_key, &kept.ciphertext).map_err(|_| {
            let detail = "the kept value does not decrypt: check the hub's master key";
            ManagerError::new(Fault::Failed, detail)
        })
    }
}

fn next_version(last: u64) -> Result<SecretVersion, CatalogError> {
    last.saturating_add(1)
        .to_string()
        .parse()
        .map_err(|_| CatalogError::Storage("there is no next version".into()))
}

fn with_version(mut audit: NewAudit, version: &SecretVersion) -> NewAudit {
    audit.add_detail(&format!("version {version}"));
    audit
}

/// So many other hubs may come between before it is given up.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests;
