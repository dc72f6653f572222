//! What is remembered of bindings, and how that is written. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::binding::{Bindings, BoundSecret, Deployment, FetchItem, SecretState};
use edge_secrets_protocol::{NodeId, OrgId, PublicKey, SecretName, SecretVersion, ServiceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{BootMark, BootTime, Now};
use crate::ends::Desired;
use crate::hub::check_bindings;

/// The enrolment that a cache is of: its first sealing key stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whose {
    org: OrgId,
    node: NodeId,
    /// SHA-256 over that key's public half.
    key: String,
}

impl Whose {
    pub(crate) fn new(org: &OrgId, node: &NodeId, key: &PublicKey) -> Self {
        Self {
            org: org.clone(),
            node: node.clone(),
            key: HEXLOWER.encode(digest(&SHA256, &key.to_bytes()).as_ref()),
        }
    }
}

/// The file that says what is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    whose: Whose,
    /// When it was written.
    wall: Timestamp,
    boot_ms: BootTime,
    /// In which boot; an index of before this was written has none.
    #[serde(default)]
    boot: Option<BootMark>,
    /// Whole, with the lives that values still had then.
    bindings: Bindings,
}

impl Index {
    pub(super) fn of(whose: &Whose, desired: &Desired, now: Now, boot: &BootMark) -> Self {
        Self {
            whose: whose.clone(),
            wall: now.wall,
            boot_ms: now.boot,
            boot: Some(boot.clone()),
            bindings: desired.told_at(now),
        }
    }

    /// A line that says what this is and has the rest's checksum, then JSON.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        Ok(Self::checked(&json))
    }

    /// The same around anything.
    pub(super) fn checked(json: &[u8]) -> Vec<u8> {
        let mut bytes = format!("{MAGIC}{}\n", checksum(json)).into_bytes();
        bytes.extend_from_slice(json);
        bytes
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// The reason, which quotes nothing.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let rest = bytes
            .strip_prefix(MAGIC.as_bytes())
            .ok_or("its index is not of this version")?;
        let (sum, json) = rest.split_at_checked(SUM).ok_or("its index is cut off")?;
        let json = json.strip_prefix(b"\n").ok_or("its index is damaged")?;
        if sum != checksum(json).as_bytes() {
            return Err("its index is damaged");
        }
        let index: Self = serde_json::from_slice(json).map_err(|_| "its index is damaged")?;
        let whole = index.bindings.since.is_none() && index.bindings.unchanged.is_empty();
        match whole && check_bindings(&index.bindings).is_ok() {
            true => Ok(index),
            false => Err("its index contradicts itself"),
        }
    }

    /// What the node should have, as far as that can be told now. After a restart of the agent, lives have
    /// gone on by the time since boot, whatever the wall clock was set to. After a boot the wall clock
    /// counts; where it is behind the one that wrote this, nobody can tell how long it was, and whatever
    /// ends has ended.
    ///
    /// # Errors
    /// When this is of another enrolment.
    pub(super) fn desired(
        self,
        whose: &Whose,
        now: Now,
        boot: &BootMark,
    ) -> Result<Desired, &'static str> {
        if self.whose != *whose {
            return Err("it is of another enrolment");
        }
        let by_wall = Duration::try_from(self.wall.duration_until(now.wall)).ok();
        let by_boot = now.boot.since(self.boot_ms);
        let passed = match self.boot.as_ref() == Some(boot) {
            true => Some(by_boot),
            // Of another boot, perhaps: then it says too little, and the wall clock decides.
            false => by_wall.map(|by_wall| by_wall.max(by_boot)),
        };
        let mut bindings = self.bindings;
        for deployment in &mut bindings.deployments {
            for secret in &mut deployment.secrets {
                let left =
                    |ms| Duration::from_millis(ms).saturating_sub(passed.unwrap_or(Duration::MAX));
                let left = secret.expires_in_ms.map(left);
                secret.expires_in_ms =
                    left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Ok(Desired::new(bindings, now))
    }
}

/// What is to be remembered after `before` now that `desired` is known, when these values are at hand.
/// A service whose next versions have not all arrived, or that the hub cannot tell all of just now, keeps
/// the ones it had, all of them, until then: it never reads versions together that never were the hub's word
/// together. Where it had not all of them, or may not have one any more, it keeps none.
pub(crate) fn remember(
    desired: &Desired,
    before: Option<&Desired>,
    at_hand: &BTreeSet<FetchItem>,
) -> Desired {
    let mut remembered = desired.clone();
    let Some(before) = before else {
        return remembered;
    };
    let mut behind = false;
    for deployment in &desired.bindings().deployments {
        let mut former = before.bindings().deployments.iter();
        let Some(former) = former.find(|f| f.service == deployment.service) else {
            continue;
        };
        let had: BTreeMap<_, _> = ready(former)
            .filter(|item| at_hand.contains(item))
            .map(|item| (item.name.clone(), item))
            .collect();
        let arrived = |secret: &BoundSecret| match &secret.state {
            SecretState::Ready { version } => {
                at_hand.contains(&item(deployment, &secret.name, version))
            }
            _ => false,
        };
        let may_keep = |secret: &BoundSecret| {
            let lost = matches!(secret.state, SecretState::Missing | SecretState::Denied);
            !lost && had.contains_key(&secret.name)
        };
        let secrets = &deployment.secrets;
        if secrets.iter().all(arrived) || !secrets.iter().all(may_keep) {
            continue;
        }
        for secret in secrets {
            let Some(kept) = had.get(&secret.name) else {
                continue;
            };
            match &secret.state {
                // It may have another end now.
                SecretState::Ready { version } if *version == kept.version => continue,
                SecretState::Ready { .. } => behind = true,
                _ => {}
            }
            remembered.keep_version(
                &deployment.id,
                &secret.name,
                &kept.version,
                (before, &former.id),
            );
        }
    }
    if behind {
        // What is delivered may be newer than this already.
        remembered.is_of(before.bindings().generation);
    }
    remembered
}

/// The values that a deployment can read.
pub(crate) fn ready(deployment: &Deployment) -> impl Iterator<Item = FetchItem> {
    deployment
        .secrets
        .iter()
        .filter_map(|secret| match &secret.state {
            SecretState::Ready { version } => Some(item(deployment, &secret.name, version)),
            _ => None,
        })
}

/// The names that a value may be kept of.
pub(crate) fn named(desired: &Desired) -> BTreeSet<(&ServiceId, &SecretName)> {
    let deployments = desired.bindings().deployments.iter();
    let named = deployments.flat_map(|deployment| {
        let secrets = deployment.secrets.iter();
        let kept = secrets
            .filter(|secret| !matches!(secret.state, SecretState::Missing | SecretState::Denied));
        kept.map(|secret| (&deployment.service, &secret.name))
    });
    named.collect()
}

fn item(deployment: &Deployment, name: &SecretName, version: &SecretVersion) -> FetchItem {
    FetchItem {
        service: deployment.service.clone(),
        name: name.clone(),
        version: version.clone(),
    }
}

fn checksum(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

const MAGIC: &str = "edge-secrets-cache 1 ";
/// Hexadecimal digits of SHA-256.
const SUM: usize = 64;
