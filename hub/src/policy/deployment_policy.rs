//! Deployment policies.

use edge_secrets_protocol::{ServiceId, ServiceUrl};

use super::DocumentError;
use super::arch::Arch;
use super::binding::Binding;
use super::constraint::{Constraint, read_constraints};
use super::document::{self, Fault};
use super::field::Field;
use super::property::{PropertySet, read_properties};
use super::version::Version;
use crate::reference::SecretRef;

/// A deployment policy in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct DeploymentPolicy {
    service: ServiceId,
    arch: Arch,
    versions: Vec<VersionChoice>,
    properties: PropertySet,
    constraints: Vec<Constraint>,
    bindings: Vec<Binding>,
    json: String,
}

/// One version that the policy may deploy.
#[derive(Debug, Clone)]
pub(super) struct VersionChoice {
    pub(super) text: String,
    pub(super) version: Version,
    /// The lowest is tried first; those without one come last.
    pub(super) priority: Option<u64>,
    /// Where it stands in `serviceVersions`.
    pub(super) index: usize,
}

impl DeploymentPolicy {
    /// Reads a policy, JSON (when it starts with `{`) or YAML, of at most 1 MiB.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let root = document::read(text)?;
        let json = document::write(&root)?;
        Self::read(&Field::root(&root), json).map_err(|fault| fault.in_text(text))
    }

    /// The whole document as JSON, unknown fields included; `parse` reads it again.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.json.clone()
    }

    /// The service it deploys.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Every secret reference that a binding names, once each, sorted.
    #[must_use]
    pub fn references(&self) -> Vec<SecretRef> {
        let bound = self.bindings.iter().flat_map(Binding::references);
        let mut references: Vec<_> = bound.cloned().collect();
        references.sort_unstable();
        references.dedup();
        references
    }

    pub(super) fn arch(&self) -> &Arch {
        &self.arch
    }

    /// In the order in which they are tried.
    pub(super) fn versions(&self) -> &[VersionChoice] {
        &self.versions
    }

    pub(super) fn properties(&self) -> &PropertySet {
        &self.properties
    }

    pub(super) fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    fn read(root: &Field<'_>, json: String) -> Result<Self, Fault> {
        let service = root.require("service")?;
        Ok(Self {
            service: ServiceId {
                org: service.require("org")?.parse()?,
                url: service.require("name")?.parse::<ServiceUrl>()?,
            },
            arch: Arch::new(service.text_or_empty("arch")?),
            versions: read_versions(&service.require("serviceVersions")?)?,
            properties: PropertySet::new(read_properties(&root.list("properties")?)?),
            constraints: read_constraints(root.get("constraints")?)?,
            bindings: Binding::read_all(&root.list("secretBinding")?)?,
            json,
        })
    }
}

fn read_versions(field: &Field<'_>) -> Result<Vec<VersionChoice>, Fault> {
    let mut versions = Vec::new();
    for (index, item) in field.items()?.iter().enumerate() {
        let version = item.require("version")?;
        versions.push(VersionChoice {
            text: version.text()?.to_owned(),
            version: version.parse()?,
            priority: match item.get("priority")? {
                Some(priority) => read_priority(&priority)?,
                None => None,
            },
            index,
        });
    }
    if versions.is_empty() {
        return Err(field.refuse("expected at least one version"));
    }
    if versions.len() > MAX_VERSIONS {
        return Err(field.refuse(format!("expected at most {MAX_VERSIONS} versions")));
    }
    versions.sort_by_key(|choice| (choice.priority.is_none(), choice.priority, choice.index));
    Ok(versions)
}

/// A priority says how often and how long to try before the next version is taken, or it says
/// nothing at all.
fn read_priority(priority: &Field<'_>) -> Result<Option<u64>, Fault> {
    let value = priority.count("priority_value")?;
    for name in ["retries", "retry_durations"] {
        if (priority.count(name)? != 0) != (value != 0) {
            return Err(priority.refuse(
                "expected `priority_value`, `retries` and `retry_durations` all set or all 0",
            ));
        }
    }
    Ok((value != 0).then_some(value))
}

const MAX_VERSIONS: usize = 64;

#[cfg(test)]
mod tests;
