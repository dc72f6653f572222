//! What a secret is, from its metadata.

use std::cmp::Reverse;
use std::time::Duration;

use edge_secrets_protocol::SecretVersion;
use jiff::{SignedDuration, Timestamp};

use super::IbmCloud;
use super::api::date_of;
use super::place::{Place, SecretType};
use super::wire::{Metadata, VersionMetadata, Versions};
use crate::route::at;
use crate::{Description, Effect, Fault, Health, ManagerError, Version};

impl IbmCloud {
    pub(super) async fn look_healthy(&self) -> Result<Health, ManagerError> {
        let (_, now) = self
            .page(at("/api/v2/secrets", &[]).with("limit", 1))
            .await?;
        let skew = now.duration_since(Timestamp::now()).abs();
        let mut notes = Vec::new();
        if skew > SignedDuration::from_secs(60) {
            notes.push(format!(
                "its clock and the hub's are {} s apart: keys will be replaced too early or too late",
                skew.as_secs()
            ));
        }
        Ok(Health {
            version: None,
            notes,
        })
    }

    pub(super) async fn describe_place(&self, place: &Place) -> Result<Description, ManagerError> {
        let (metadata, now) = self.metadata(place).await?;
        self.describe_found(&metadata, now).await
    }

    /// With a call only where its version may have moved.
    pub(super) async fn describe_found(
        &self,
        metadata: &Metadata,
        now: Timestamp,
    ) -> Result<Description, ManagerError> {
        if metadata.secret_type == SecretType::IamCredentials {
            return describe_keys(metadata, now, self.share_reused);
        }
        let current = match self.known.current(metadata) {
            Some(current) => current,
            None => {
                let current = self.current(&metadata.id).await?;
                self.known.learn_current(metadata, current.as_ref());
                current
            }
        };
        describe_value(metadata, current.as_ref(), now)
    }

    /// The current version; none where there is none.
    pub(super) async fn current(&self, id: &str) -> Result<Option<VersionMetadata>, ManagerError> {
        let route = at("/api/v2/secrets/{id}/versions/current/metadata", &[id]);
        match self.api.get(route).await {
            Ok(reply) => reply.json().map(Some),
            Err(error) if error.fault == Fault::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn versions_of(&self, place: &Place) -> Result<Vec<Version>, ManagerError> {
        let (metadata, now) = self.metadata(place).await?;
        if metadata.secret_type == SecretType::IamCredentials {
            let described = describe_keys(&metadata, now, self.share_reused)?;
            let version = |version| Version {
                version,
                created_at: None,
                gone: None,
            };
            return Ok(described.version.map(version).into_iter().collect());
        }
        let route = at("/api/v2/secrets/{id}/versions", &[&metadata.id]);
        let reply = self.api.get(route).await?;
        let now = date_of(&reply);
        let mut found = reply.json::<Versions>()?.versions;
        found.sort_by_key(|version| {
            let is_current = version.alias.as_deref() == Some("current");
            Reverse((is_current, version.created_at))
        });
        let shown = found.into_iter().map(|version| {
            Ok(Version {
                version: version_of(&version.id)?,
                created_at: version.created_at,
                gone: match (version.payload_available, version.expiration_date) {
                    (Some(false), _) => Some("deleted"),
                    (_, Some(end)) if end <= now => Some("expired"),
                    _ => None,
                },
            })
        });
        shown.collect()
    }
}

/// Of a secret whose value stands there.
fn describe_value(
    metadata: &Metadata,
    current: Option<&VersionMetadata>,
    now: Timestamp,
) -> Result<Description, ManagerError> {
    expect_alive(metadata)?;
    let name = &metadata.name;
    let Some(current) = current else {
        let why = format!("{name} has no version yet");
        return Err(ManagerError::new(Fault::Missing, why));
    };
    if current.payload_available == Some(false) {
        let why = format!("the value of {name} was deleted there");
        return Err(ManagerError::new(Fault::Deleted, why));
    }
    let end = metadata.expiration_date.or(current.expiration_date);
    if end.is_some_and(|end| end <= now) {
        return Err(ManagerError::new(
            Fault::Expired,
            format!("{name} has ended: rotate it there"),
        ));
    }
    let version = version_of(&current.id)?;
    let mut described = Description::new(Effect::Pure, Some(version));
    described.fields = fields_of(metadata.secret_type);
    described.expires_at = end;
    described.ttl = metadata.ttl;
    common(metadata, &mut described);
    Ok(described)
}

/// Of a secret that makes keys.
fn describe_keys(
    metadata: &Metadata,
    now: Timestamp,
    share_reused: bool,
) -> Result<Description, ManagerError> {
    // A key that has ended may deactivate its secret until the next read makes another one.
    let ended = metadata.expiration_date.is_some_and(|end| end <= now);
    if !(ended && metadata.state == Some(DEACTIVATED)) {
        expect_alive(metadata)?;
    }
    let mut described = if metadata.reuse_api_key && share_reused {
        let (version, end) = match live_key(metadata, now) {
            Some(key) => (version_of(key)?, metadata.expiration_date),
            None => (unmade(metadata)?, None),
        };
        let mut described = Description::new(Effect::Pure, Some(version));
        described.expires_at = end;
        described
    } else {
        let mut described = Description::new(Effect::MintsAndInvalidates, None);
        described.identity = Some(metadata.id.clone());
        described
    };
    described.fields = fields_of(metadata.secret_type);
    described.ttl = metadata.ttl;
    common(metadata, &mut described);
    let locked = metadata.locks_total.unwrap_or_default() > 0;
    if metadata.reuse_api_key && !share_reused {
        described.notes.push(
            "its key is the same for all who read it (reuse_api_key is on), and goes to one node \
             alone until `share_reused` is set for this manager"
                .into(),
        );
    }
    if locked && !metadata.reuse_api_key {
        described
            .notes
            .push("it is locked there: no key can be made until the lock is removed".into());
    }
    Ok(described)
}

fn common(metadata: &Metadata, described: &mut Description) {
    described.labels.clone_from(&metadata.labels);
    described.updated_at = metadata.updated_at;
    if metadata.state == Some(SUSPENDED) {
        described.notes.push("it is suspended there".into());
    }
}

fn expect_alive(metadata: &Metadata) -> Result<(), ManagerError> {
    let name = &metadata.name;
    let (fault, why) = match metadata.state {
        Some(DEACTIVATED) => (Fault::Expired, "is deactivated there: rotate it"),
        Some(DESTROYED) => (Fault::Deleted, "is destroyed there"),
        _ => return Ok(()),
    };
    Err(ManagerError::new(fault, format!("{name} {why}")))
}

/// The id of the key that lets in now.
fn live_key(metadata: &Metadata, now: Timestamp) -> Option<&str> {
    let key = metadata.api_key_id.as_deref()?;
    let ended = metadata.expiration_date.is_some_and(|end| end <= now);
    (!ended).then_some(key)
}

/// What the key is called that the next read makes: nobody knows its id before.
fn unmade(metadata: &Metadata) -> Result<SecretVersion, ManagerError> {
    match &metadata.api_key_id {
        Some(ended) => version_of(&format!("{AFTER}{ended}")),
        None => version_of(FIRST),
    }
}

/// The ended key that this is the successor of; empty for the first key; none for a key's own id.
pub(super) fn successor_of(version: &SecretVersion) -> Option<&str> {
    match version.as_str() {
        FIRST => Some(""),
        text => text.strip_prefix(AFTER),
    }
}

pub(super) fn version_of(id: &str) -> Result<SecretVersion, ManagerError> {
    id.parse().map_err(|_| {
        ManagerError::new(
            Fault::Malformed,
            "its answer has a version without a usable id",
        )
    })
}

fn fields_of(kind: SecretType) -> Vec<String> {
    let names: &[&str] = match kind {
        SecretType::Arbitrary => &["value"],
        SecretType::UsernamePassword => &["password", "username"],
        SecretType::IamCredentials => &["apikey"],
        _ => &[],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What is subtracted from every end: clocks differ.
pub(super) const SKEW: Duration = Duration::from_secs(30);
const SUSPENDED: u64 = 2;
const DEACTIVATED: u64 = 3;
const DESTROYED: u64 = 5;
const FIRST: &str = "first";
const AFTER: &str = "after-";
