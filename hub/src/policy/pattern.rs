//! Patterns: services that a node has for choosing the pattern, instead of by policies.

use edge_secrets_protocol::{OrgId, PatternName, ServiceId};
use serde_json::Value;

use super::DocumentError;
use super::binding::Binding;
use super::document::{self, Fault};
use super::field::Field;
use super::offer::{Offer, Spelling, Terms};
use super::schema;
use super::user_input::Told;
use crate::reference::SecretRef;

/// A pattern in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct Pattern {
    name: Option<PatternName>,
    org: Option<OrgId>,
    public: bool,
    offers: Vec<Offer>,
    agreement_less: Vec<Offer>,
    bindings: Vec<Binding>,
    told: Vec<Told>,
    /// Fields that are nearly known ones.
    slips: Vec<DocumentError>,
    /// Fields that are not known.
    strangers: Vec<DocumentError>,
    json: String,
}

impl Pattern {
    /// Reads a pattern, JSON (when it starts with `{`) or YAML, of at most 1 MiB: 1 to 256 services.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let root = document::read(text)?;
        let json = document::write(&root)?;
        let field = Field::root(&root);
        let in_text = |fault: Fault| fault.in_text(text);
        let mut pattern = Self::read(&field, json).map_err(in_text)?;
        let strangers = schema::check_pattern(&field).map_err(in_text)?;
        pattern.slips = strangers.slips.into_iter().map(in_text).collect();
        pattern.strangers = strangers.others.into_iter().map(in_text).collect();
        Ok(pattern)
    }

    /// The whole document as JSON, unknown fields included; `parse` reads it again.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.json.clone()
    }

    /// The name that the file gives it, where it does: what it is published as decides.
    #[must_use]
    pub fn name(&self) -> Option<&PatternName> {
        self.name.as_ref()
    }

    /// The organisation that the file gives it, where it does.
    #[must_use]
    pub fn org(&self) -> Option<&OrgId> {
        self.org.as_ref()
    }

    /// Whether nodes of other organisations may use it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.public
    }

    /// The services that it deploys, once each, in the order in which they stand there.
    #[must_use]
    pub fn services(&self) -> Vec<&ServiceId> {
        let mut services = Vec::with_capacity(self.offers.len());
        for Offer { service, .. } in &self.offers {
            if !services.contains(&service) {
                services.push(service);
            }
        }
        services
    }

    /// After how many seconds one of its services wants to know of a node that is away; the shortest.
    #[must_use]
    pub fn heartbeat(&self) -> Option<u64> {
        self.offers.iter().filter_map(|offer| offer.heartbeat).min()
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

    /// What decides about each service, in the order in which they stand there.
    pub(super) fn terms(&self) -> impl Iterator<Item = Terms<'_>> {
        self.offers.iter().map(|offer| Terms {
            offer,
            bindings: &self.bindings,
            policy: None,
        })
    }

    /// Services that run without an agreement. Open Horizon binds no secrets to them.
    pub(super) fn agreement_less(&self) -> &[Offer] {
        &self.agreement_less
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// What it tells services.
    pub(super) fn told(&self) -> &[Told] {
        &self.told
    }

    /// The first of its fields that is nearly a known one, which it was meant to be: such a pattern is not
    /// published.
    #[must_use]
    pub fn slip(&self) -> Option<&DocumentError> {
        self.slips.first()
    }

    /// Its fields that are nearly known ones, which they were meant to be: such a pattern is not
    /// published.
    pub(super) fn slips(&self) -> impl Iterator<Item = String> {
        self.slips.iter().map(ToString::to_string)
    }

    /// What whoever publishes it should know, whatever the definitions: parts that have no effect here.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.iter().map(ToString::to_string);
        let idle = self.offers.iter().flat_map(|offer| &offer.idle);
        strangers.chain(idle.cloned())
    }

    fn read(root: &Field<'_>, json: String) -> Result<Self, Fault> {
        for protocol in root.list("agreementProtocols")? {
            protocol.require("name")?.word(&["Basic"])?;
        }
        let services = root.require("services")?;
        let items = services.items()?;
        if items.is_empty() {
            return Err(services.refuse("expected at least one service"));
        }
        if let Some(excess) = items.get(MAX_OFFERS) {
            return Err(excess.refuse(format!("is one service too many: {MAX_OFFERS} may be")));
        }
        let (mut offers, mut agreement_less) = (Vec::new(), Vec::new());
        for item in &items {
            let offer = Offer::read(item, &SPELLING)?;
            match item.flag("agreementLess")? {
                true => agreement_less.push(offer),
                false => offers.push(offer),
            }
        }
        Ok(Self {
            name: optional(root, "name")?,
            org: optional(root, "org")?,
            public: root.flag("public")?,
            offers,
            agreement_less,
            bindings: Binding::read_all(&root.list("secretBinding")?)?,
            told: Told::read_all(&root.list("userInput")?)?,
            slips: Vec::new(),
            strangers: Vec::new(),
            json,
        })
    }
}

/// A name that may be absent or empty, as `hzn` writes it.
fn optional<T>(root: &Field<'_>, name: &str) -> Result<Option<T>, Fault>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    match root.get(name)? {
        Some(field) if field.value() != &Value::from("") => field.parse().map(Some),
        _ => Ok(None),
    }
}

const SPELLING: Spelling = Spelling {
    org: "serviceOrgid",
    url: "serviceUrl",
    arch: "serviceArch",
};
const MAX_OFFERS: usize = 256;

#[cfg(test)]
mod tests;
