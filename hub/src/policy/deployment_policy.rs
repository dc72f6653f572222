//! Deployment policies.

use edge_secrets_protocol::ServiceId;

use super::DocumentError;
use super::binding::Binding;
use super::constraint::{Constraint, read_constraints};
use super::document::{self, Fault};
use super::field::Field;
use super::offer::{Offer, Spelling, Terms};
use super::property::{PropertySet, read_properties};
use crate::reference::SecretRef;

/// A deployment policy in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct DeploymentPolicy {
    offer: Offer,
    properties: PropertySet,
    constraints: Vec<Constraint>,
    bindings: Vec<Binding>,
    json: String,
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
        &self.offer.service
    }

    /// Every secret reference that a binding names, once each, sorted.
    #[must_use]
    pub fn references(&self) -> Vec<SecretRef> {
        Binding::all_references(&self.bindings)
    }

    /// What decides about its service.
    pub(super) fn terms(&self) -> Terms<'_> {
        Terms {
            offer: &self.offer,
            bindings: &self.bindings,
            policy: Some(self),
        }
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
        Ok(Self {
            offer: Offer::read(&root.require("service")?, &SPELLING)?,
            properties: PropertySet::new(read_properties(&root.list("properties")?)?),
            constraints: read_constraints(root.get("constraints")?)?,
            bindings: Binding::read_all(&root.list("secretBinding")?)?,
            json,
        })
    }
}

const SPELLING: Spelling = Spelling {
    org: "org",
    url: "name",
    arch: "arch",
};

#[cfg(test)]
mod tests;
