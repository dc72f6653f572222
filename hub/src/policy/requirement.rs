//! What a service needs beside itself: other services, and the kind of node.

use edge_secrets_protocol::{ServiceId, ServiceUrl};

use super::arch::Arch;
use super::document::Fault;
use super::field::Field;
use super::version::VersionRange;

/// One entry of `requiredServices`.
#[derive(Debug, Clone)]
pub(super) struct Requirement {
    pub(super) service: ServiceId,
    pub(super) range: VersionRange,
    pub(super) arch: Arch,
    /// Where it stands in `requiredServices`.
    pub(super) index: usize,
}

/// How many of a service run on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharable {
    /// One for all who need it.
    Singleton,
    /// One for each who needs it.
    Multiple,
}

/// What kind of node a definition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Machines with containers: what our nodes are.
    Device,
    /// Kubernetes clusters.
    Cluster,
    /// Either.
    Both,
}

impl Requirement {
    /// Reads `requiredServices`: at most 64.
    pub(super) fn read_all(list: &[Field<'_>]) -> Result<Vec<Self>, Fault> {
        if let Some(excess) = list.get(MAX_REQUIRED) {
            let reason = format!("is one service too many: {MAX_REQUIRED} may be required");
            return Err(excess.refuse(reason));
        }
        let read = |(index, field)| Self::read(index, field);
        list.iter().enumerate().map(read).collect()
    }

    /// `version` is the older name of `versionRange`, and comes first where both stand.
    fn read(index: usize, field: &Field<'_>) -> Result<Self, Fault> {
        let mut range = None;
        for name in ["version", "versionRange"] {
            let text = field.get(name)?.filter(|text| text.value() != "");
            let read = text.map(|text| text.parse()).transpose()?;
            range = range.or(read);
        }
        Ok(Self {
            service: ServiceId {
                org: field.require("org")?.parse()?,
                url: field.require("url")?.parse::<ServiceUrl>()?,
            },
            range: range.unwrap_or_else(VersionRange::any),
            arch: Arch::new(field.text_or_empty("arch")?),
            index,
        })
    }
}

impl Sharable {
    pub(super) fn read(root: &Field<'_>) -> Result<Self, Fault> {
        let Some(field) = root.get("sharable")?.filter(|field| field.value() != "") else {
            return Ok(Self::Multiple);
        };
        // The last two are spellings of older definitions.
        match field.word(&["singleton", "multiple", "single", "exclusive"])? {
            "singleton" | "single" => Ok(Self::Singleton),
            _ => Ok(Self::Multiple),
        }
    }
}

impl Kind {
    /// By which of the two deployments is there.
    pub(super) fn new(device: bool, cluster: bool) -> Self {
        match (device, cluster) {
            (true, true) => Self::Both,
            (false, true) => Self::Cluster,
            (_, false) => Self::Device,
        }
    }
}

const MAX_REQUIRED: usize = 64;
