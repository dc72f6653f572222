//! Secret bindings: what a service calls a secret, and what the secrets manager calls it.
//!
//! A policy may have several entries for one service. Of those that match a definition (same
//! organisation and url, arch and version admitted), each declared secret takes the most specific
//! that binds it: one for a named arch before one for any; then one whose version range lies within
//! the other's. Entries of which neither is more specific must agree, else none is taken and the
//! contradiction is a fault. The order in the document never matters.

use std::collections::BTreeMap;

use edge_secrets_protocol::{NameError, SecretName, ServiceId, ServiceUrl};
use serde_json::Value;

use super::arch::Arch;
use super::definition::ServiceDefinition;
use super::document::{Fault, path};
use super::field::Field;
use super::version::VersionRange;
use crate::reference::SecretRef;

/// One entry of `secretBinding`.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) index: usize,
    pub(super) service: ServiceId,
    pub(super) arch: Arch,
    pub(super) range: VersionRange,
    pub(super) node_level: bool,
    pub(super) secrets: BTreeMap<SecretName, Bound>,
    /// `allowNodeLevelSecrets` stands there, which one page of Open Horizon's documents has.
    pub(super) misspelt_node_level: bool,
}

/// What one name is bound to, and where in the document.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) reference: SecretRef,
    pub(super) place: String,
}

/// The binding of one secret, with the entry that it stands in.
pub(super) type ChosenOne<'a> = (&'a Binding, &'a Bound);

/// The chosen binding of every declared secret, by name.
pub(super) type Chosen<'a> = BTreeMap<&'a SecretName, ChosenOne<'a>>;

/// Why the bindings do not fit a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BindingFault {
    /// In Open Horizon's words.
    #[error(
        "No secret binding found for the following service secrets: [{}]",
        .0.iter().map(SecretName::as_str).collect::<Vec<_>>().join(", ")
    )]
    Unbound(Vec<SecretName>),
    /// Two entries, neither more specific than the other.
    #[error(
        "secret {name} is bound twice: {one} and {other} apply equally and differ; remove one, or \
         narrow its arch or version range"
    )]
    Contradiction {
        name: SecretName,
        one: String,
        other: String,
    },
}

impl Binding {
    /// Reads `secretBinding`: at most 256 entries, which bind at most 4096 secrets together.
    pub(super) fn read_all(list: &[Field<'_>]) -> Result<Vec<Self>, Fault> {
        if let Some(excess) = list.get(MAX_BINDINGS) {
            return Err(excess.refuse(format!("is one entry too many: {MAX_BINDINGS} may be")));
        }
        let mut bound = 0;
        let mut bindings = Vec::with_capacity(list.len());
        for (index, field) in list.iter().enumerate() {
            let binding = Self::read(index, field)?;
            bound += binding.secrets.len();
            if bound > MAX_BOUND {
                let reason = format!("binds, with those before it, more than {MAX_BOUND} secrets");
                return Err(field.refuse(reason));
            }
            bindings.push(binding);
        }
        Ok(bindings)
    }

    /// Every reference that these name, once each, sorted.
    pub(super) fn all_references(bindings: &[Self]) -> Vec<SecretRef> {
        let bound = bindings.iter().flat_map(|binding| binding.secrets.values());
        let mut references: Vec<_> = bound.map(|bound| bound.reference.clone()).collect();
        references.sort_unstable();
        references.dedup();
        references
    }

    /// Where a secret is bound first.
    pub(super) fn place_of<'a>(bindings: &'a [Self], reference: &SecretRef) -> Option<&'a str> {
        let mut bound = bindings.iter().flat_map(|binding| binding.secrets.values());
        let found = bound.find(|bound| bound.reference == *reference)?;
        Some(&found.place)
    }

    /// Whether it is meant for this definition.
    pub(super) fn matches(&self, definition: &ServiceDefinition) -> bool {
        self.service == *definition.id()
            && self.range.contains(definition.parsed_version())
            && self.arch.matches(definition.parsed_arch())
    }

    fn is_more_specific_than(&self, other: &Self) -> bool {
        match (self.arch.is_named(), other.arch.is_named()) {
            (true, false) => true,
            (false, true) => false,
            _ => other.range.is_wider_than(&self.range),
        }
    }

    fn read(index: usize, field: &Field<'_>) -> Result<Self, Fault> {
        let range = match field.get("serviceVersionRange")? {
            Some(range) => range.parse()?,
            None => VersionRange::any(),
        };
        let mut secrets: BTreeMap<SecretName, Bound> = BTreeMap::new();
        for item in field.require("secrets")?.items()? {
            let (name, bound) = read_pair(&item)?;
            if let Some(earlier) = secrets.get(&name)
                && earlier.reference != bound.reference
            {
                return Err(item.refuse(format!(
                    "binds {name} to {}, but {} binds it to {}",
                    bound.reference, earlier.place, earlier.reference
                )));
            }
            secrets.entry(name).or_insert(bound);
        }
        if secrets.len() > MAX_SECRETS {
            return Err(field.refuse(format!("binds more than {MAX_SECRETS} secrets")));
        }
        Ok(Self {
            index,
            service: ServiceId {
                org: field.require("serviceOrgid")?.parse()?,
                url: field.require("serviceUrl")?.parse::<ServiceUrl>()?,
            },
            arch: Arch::new(field.text_or_empty("serviceArch")?),
            range,
            node_level: field.flag("enableNodeLevelSecrets")?,
            secrets,
            misspelt_node_level: field.get("allowNodeLevelSecrets")?.is_some(),
        })
    }
}

impl Bound {
    fn agrees_with(&self, node_level: bool, other: &Self, other_node_level: bool) -> bool {
        self.reference == other.reference && node_level == other_node_level
    }
}

/// Chooses a binding for every secret that `definition` declares; an optional one may have none.
pub(super) fn choose<'a>(
    bindings: &'a [Binding],
    definition: &'a ServiceDefinition,
) -> Result<Chosen<'a>, BindingFault> {
    let matching: Vec<&Binding> = bindings.iter().filter(|b| b.matches(definition)).collect();
    let mut chosen = Chosen::new();
    let mut unbound = Vec::new();
    for name in definition.declared() {
        match choose_one(&matching, name)? {
            Some(bound) => {
                chosen.insert(name, bound);
            }
            None if definition.is_optional(name) => {}
            None => unbound.push(name.clone()),
        }
    }
    if !unbound.is_empty() {
        return Err(BindingFault::Unbound(unbound));
    }
    Ok(chosen)
}

fn choose_one<'a>(
    matching: &[&'a Binding],
    name: &SecretName,
) -> Result<Option<ChosenOne<'a>>, BindingFault> {
    let binds = |binding: &&'a Binding| binding.secrets.get(name).map(|bound| (*binding, bound));
    let binding: Vec<ChosenOne<'a>> = matching.iter().filter_map(binds).collect();
    let outdone = |candidate: &&ChosenOne<'a>| {
        binding
            .iter()
            .any(|other| other.0.is_more_specific_than(candidate.0))
    };
    let mut best = binding.iter().filter(|candidate| !outdone(candidate));
    let Some(first) = best.next() else {
        return Ok(None);
    };
    for other in best {
        let (node_level, other_node_level) = (first.0.node_level, other.0.node_level);
        if !first.1.agrees_with(node_level, other.1, other_node_level) {
            return Err(BindingFault::Contradiction {
                name: name.clone(),
                one: first.1.place.clone(),
                other: other.1.place.clone(),
            });
        }
    }
    Ok(Some(*first))
}

fn read_pair(item: &Field<'_>) -> Result<(SecretName, Bound), Fault> {
    let Value::Object(map) = item.value() else {
        return Err(item.expected("one entry such as `{\"myCred\": \"managerSecret\"}`"));
    };
    if map.len() != 1 {
        return Err(item.refuse(format!("expected one entry, found {}", map.len())));
    }
    let entries = item.entries()?;
    let [(name, reference)] = entries.as_slice() else {
        return Err(item.expected("one entry"));
    };
    let refused = |error: NameError| item.refuse(error.to_string());
    Ok((
        name.parse().map_err(refused)?,
        Bound {
            reference: reference.parse()?,
            place: path(item.steps()),
        },
    ))
}

const MAX_BINDINGS: usize = 256;
const MAX_SECRETS: usize = 1024;
const MAX_BOUND: usize = 4 * MAX_SECRETS;

#[cfg(test)]
mod tests;
