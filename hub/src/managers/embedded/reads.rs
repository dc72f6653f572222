//! The hub's own manager as one among others.

use async_trait::async_trait;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};

use super::Embedded;
use crate::catalog::CatalogError;
use crate::managers::{
    Description, Effect, Fault, Health, Kind, ListQuery, Listed, ManagerError, Page, SecretManager,
    Target, Version,
};

#[async_trait]
impl SecretManager for Embedded {
    fn kind(&self) -> Kind {
        Kind::Embedded
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Ok(target.reference.path())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        Ok(Health {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            notes: Vec::new(),
        })
    }

    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        let Target { org, reference } = target;
        let record = self.catalog.secret(org, reference).await.map_err(failed)?;
        let record = record.ok_or_else(missing)?;
        let versions = self.catalog.versions(org, reference).await;
        let mut versions = versions.map_err(failed)?.into_iter();
        let current = versions.find(|version| version.version == record.current);
        Ok(Description {
            fields: current.map(|version| version.fields).unwrap_or_default(),
            updated_at: Some(record.updated_at),
            ..Description::new(Effect::Pure, Some(record.current))
        })
    }

    async fn list(&self, org: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        let records = self.catalog.secrets(org, &query.prefix).await;
        let listed = |path| Listed {
            path,
            effect: Some(Effect::Pure),
            labels: Vec::new(),
        };
        let paths = records.map_err(failed)?.into_iter();
        Ok(Page {
            entries: paths
                .map(|record| listed(record.reference.path()))
                .collect(),
            next: None,
        })
    }

    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        let versions = self.catalog.versions(target.org, target.reference).await;
        let versions = versions.map_err(failed)?;
        if versions.is_empty() {
            return Err(missing());
        }
        let version = |record: crate::catalog::records::VersionRecord| Version {
            version: record.version,
            created_at: Some(record.created_at),
            gone: None,
        };
        Ok(versions.into_iter().map(version).collect())
    }

    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let Target { org, reference } = target;
        let kept = self.catalog.encrypted(org, reference, version).await;
        let kept = kept.map_err(failed)?.ok_or_else(missing)?;
        self.decrypt(org, reference, &kept)
    }
}

fn missing() -> ManagerError {
    ManagerError::new(
        Fault::Missing,
        "there is no such secret, or no such version",
    )
}

fn failed(error: CatalogError) -> ManagerError {
    ManagerError::new(Fault::Unavailable, error.to_string())
}
