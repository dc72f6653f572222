//! A service with the versions of it that may be deployed: a deployment policy has one, a pattern
//! several.

use edge_secrets_protocol::{ServiceId, ServiceUrl};

use super::arch::Arch;
use super::binding::Binding;
use super::deployment_policy::DeploymentPolicy;
use super::document::{Fault, path};
use super::field::Field;
use super::version::Version;

/// A service with its versions, as a document offers it.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) service: ServiceId,
    pub(super) arch: Arch,
    /// In the order in which they are tried.
    pub(super) versions: Vec<VersionChoice>,
    /// Where it stands in its document: `service`, `services[2]`.
    pub(super) place: String,
    /// Seconds after which a node that is away is to be told of; none where it does not say.
    pub(super) heartbeat: Option<u64>,
    /// What of it has no effect here, for whoever publishes it.
    pub(super) idle: Vec<String>,
}

/// One version that may be deployed.
#[derive(Debug, Clone)]
pub(super) struct VersionChoice {
    pub(super) text: String,
    pub(super) version: Version,
    /// The lowest is tried first; those without one come last.
    pub(super) priority: Option<u64>,
    /// Where it stands in `serviceVersions`.
    pub(super) index: usize,
}

/// An offer with all of its document that decides about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) offer: &'a Offer,
    pub(super) bindings: &'a [Binding],
    /// What it demands of nodes and tells them: absent for a pattern, which nodes choose for
    /// themselves.
    pub(super) policy: Option<&'a DeploymentPolicy>,
}

impl Terms<'_> {
    /// What the document is.
    pub(super) fn kind(&self) -> &'static str {
        match self.policy {
            Some(_) => "policy",
            None => "pattern",
        }
    }
}

/// What a document calls the fields of an offer.
pub(super) struct Spelling {
    pub(super) org: &'static str,
    pub(super) url: &'static str,
    pub(super) arch: &'static str,
}

impl Offer {
    /// Reads an offer: 1 to 64 versions.
    pub(super) fn read(field: &Field<'_>, spelling: &Spelling) -> Result<Self, Fault> {
        Ok(Self {
            service: ServiceId {
                org: field.require(spelling.org)?.parse()?,
                url: field.require(spelling.url)?.parse::<ServiceUrl>()?,
            },
            arch: Arch::new(field.text_or_empty(spelling.arch)?),
            versions: read_versions(&field.require("serviceVersions")?)?,
            place: path(field.steps()),
            heartbeat: heartbeat(field)?,
            idle: idle(field)?,
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

fn heartbeat(offer: &Field<'_>) -> Result<Option<u64>, Fault> {
    let Some(health) = offer.get("nodeHealth")? else {
        return Ok(None);
    };
    // What is no number is refused with the rest of the document.
    let seconds = health.get("missing_heartbeat_interval")?;
    let seconds = seconds.and_then(|seconds| seconds.value().as_u64());
    Ok(seconds.filter(|seconds| *seconds != 0))
}

/// Of Open Horizon's ways of upgrading only `immediate` is what happens here.
fn idle(offer: &Field<'_>) -> Result<Vec<String>, Fault> {
    let mut idle = Vec::new();
    for version in offer.list("serviceVersions")? {
        let Some(upgrade) = version.get("upgradePolicy")? else {
            continue;
        };
        let Some(lifecycle) = upgrade.get("lifecycle")?.filter(|one| one.value() != "") else {
            continue;
        };
        let word = lifecycle.word(&["immediate", "never", "agreement"])?;
        if word != "immediate" {
            idle.push(format!(
                "{}: `{word}` has no effect here: a change is delivered at once",
                path(lifecycle.steps())
            ));
        }
    }
    Ok(idle)
}

const MAX_VERSIONS: usize = 64;
