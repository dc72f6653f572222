//! Deployment policies.

use edge_secrets_protocol::ServiceId;

use super::DocumentError;
use super::binding::Binding;
use super::constraint::{Constraint, read_constraints};
use super::document::{self, Fault};
use super::field::Field;
use super::offer::{Offer, Spelling, Terms};
use super::property::{PropertySet, read_properties};
use super::schema;
use super::user_input::Told;
use crate::reference::SecretRef;

/// A deployment policy in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct DeploymentPolicy {
    offer: Offer,
    properties: PropertySet,
    constraints: Vec<Constraint>,
    bindings: Vec<Binding>,
    told: Vec<Told>,
    /// Fields that are nearly known ones.
    slips: Vec<DocumentError>,
    /// Fields that are not known.
    strangers: Vec<DocumentError>,
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
        let field = Field::root(&root);
        let in_text = |fault: Fault| fault.in_text(text);
        let mut policy = Self::read(&field, json).map_err(in_text)?;
        let strangers = schema::check_policy(&field).map_err(in_text)?;
        policy.slips = strangers.slips.into_iter().map(in_text).collect();
        policy.strangers = strangers.others.into_iter().map(in_text).collect();
        Ok(policy)
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

    /// After how many seconds a node that is away is to be told of: its `nodeHealth`.
    #[must_use]
    pub fn heartbeat(&self) -> Option<u64> {
        self.offer.heartbeat
    }

    /// Every secret reference that a binding names, once each, sorted.
    #[must_use]
    pub fn references(&self) -> Vec<SecretRef> {
        Binding::all_references(&self.bindings)
    }

    /// The path to where it binds a secret, the first of several.
    #[must_use]
    pub fn place_of(&self, reference: &SecretRef) -> Option<&str> {
        Binding::place_of(&self.bindings, reference)
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

    /// What it tells services.
    pub(super) fn told(&self) -> &[Told] {
        &self.told
    }

    /// The first of its fields that is nearly a known one, which it was meant to be: such a policy is not
    /// published.
    #[must_use]
    pub fn slip(&self) -> Option<&DocumentError> {
        self.slips.first()
    }

    /// Its fields that are nearly known ones, which they were meant to be: such a policy is not published.
    pub(super) fn slips(&self) -> impl Iterator<Item = String> {
        self.slips.iter().map(ToString::to_string)
    }

    /// What whoever publishes it should know, whatever the definitions: parts that have no effect here.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.iter().map(ToString::to_string);
        strangers.chain(self.offer.idle.iter().cloned())
    }

    fn read(root: &Field<'_>, json: String) -> Result<Self, Fault> {
        Ok(Self {
            offer: Offer::read(&root.require("service")?, &SPELLING)?,
            properties: PropertySet::new(read_properties(&root.list("properties")?)?),
            constraints: read_constraints(root.get("constraints")?)?,
            bindings: Binding::read_all(&root.list("secretBinding")?)?,
            told: Told::read_all(&root.list("userInput")?)?,
            slips: Vec::new(),
            strangers: Vec::new(),
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
