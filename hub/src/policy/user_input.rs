//! User input: what a service wants to be told, and what a policy tells it.
//!
//! Open Horizon deploys a service only when all its inputs are given, by the policy or by the node. Here
//! nobody starts services, and what a node's administrator gives them is not known: an input that the
//! policy does not give is told when the policy is published, and keeps no secret from anybody.

use edge_secrets_protocol::{ServiceId, ServiceUrl};

use super::arch::Arch;
use super::definition::ServiceDefinition;
use super::document::Fault;
use super::field::Field;
use super::version::VersionRange;

/// What a policy tells a service.
#[derive(Debug, Clone)]
pub(super) struct Told {
    service: ServiceId,
    arch: Arch,
    range: VersionRange,
    names: Vec<String>,
}

impl Told {
    /// Reads a policy's `userInput`: at most 256 entries.
    pub(super) fn read_all(list: &[Field<'_>]) -> Result<Vec<Self>, Fault> {
        bounded(list, "entry")?;
        list.iter().map(Self::read).collect()
    }

    fn read(field: &Field<'_>) -> Result<Self, Fault> {
        let range = field.get("serviceVersionRange")?;
        let inputs = field.list("inputs")?;
        bounded(&inputs, "input")?;
        let name = |input: &Field<'_>| Ok(input.require("name")?.text()?.to_owned());
        Ok(Self {
            service: ServiceId {
                org: field.require("serviceOrgid")?.parse()?,
                url: field.require("serviceUrl")?.parse::<ServiceUrl>()?,
            },
            arch: Arch::new(field.text_or_empty("serviceArch")?),
            range: match range {
                Some(range) => range.parse()?,
                None => VersionRange::any(),
            },
            names: inputs.iter().map(name).collect::<Result<_, Fault>>()?,
        })
    }

    fn is_for(&self, definition: &ServiceDefinition) -> bool {
        self.service == *definition.id()
            && self.range.contains(definition.parsed_version())
            && self.arch.matches(definition.parsed_arch())
    }
}

/// The inputs of a definition that have no default: somebody must give them. At most 256.
pub(super) fn read_wanted(list: &[Field<'_>]) -> Result<Vec<String>, Fault> {
    bounded(list, "input")?;
    let mut wanted = Vec::new();
    for input in list {
        let name = input.require("name")?.text()?;
        let default = input.get("defaultValue")?;
        let given = default.is_some_and(|default| default.value() != "");
        if !given {
            wanted.push(name.to_owned());
        }
    }
    Ok(wanted)
}

/// What of it the policy does not give.
pub(super) fn untold<'a>(definition: &'a ServiceDefinition, told: &[Told]) -> Vec<&'a str> {
    let given = |name: &str| {
        let mut of_service = told.iter().filter(|told| told.is_for(definition));
        of_service.any(|told| told.names.iter().any(|given| given == name))
    };
    let wanted = definition.wanted_inputs().iter();
    wanted
        .map(String::as_str)
        .filter(|name| !given(name))
        .collect()
}

fn bounded(list: &[Field<'_>], what: &str) -> Result<(), Fault> {
    match list.get(MAX_ENTRIES) {
        Some(excess) => Err(excess.refuse(format!("is one {what} too many: {MAX_ENTRIES} may be"))),
        None => Ok(()),
    }
}

const MAX_ENTRIES: usize = 256;
