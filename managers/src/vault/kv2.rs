//! KV version 2: a version is the number that Vault counts.

use std::collections::BTreeMap;

use edge_secrets_protocol::{Fields, Secret, SecretVersion};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, Ask};
use super::place::Path;
use super::refusal::{self, Texts};
use crate::route::{Route, at};
use crate::{Description, Effect, Fault, ManagerError, Target, Version, payload};

pub(super) async fn describe(api: &Api, place: &Path) -> Result<Description, ManagerError> {
    let metadata = metadata(api, place).await?;
    let current = metadata.current()?;
    let mut described = Description::new(Effect::Pure, Some(version(metadata.current_version)?));
    described.expires_at = current.deletion();
    described.updated_at = metadata.updated_time.as_deref().and_then(time);
    let labels = metadata.custom_metadata.into_iter().flatten();
    described.labels = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(described)
}

pub(super) async fn versions(api: &Api, place: &Path) -> Result<Vec<Version>, ManagerError> {
    let metadata = metadata(api, place).await?;
    let mut numbered = Vec::with_capacity(metadata.versions.len());
    for (number, times) in &metadata.versions {
        let number: u64 = number.parse().map_err(|_| malformed())?;
        numbered.push((number, times));
    }
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let seen = numbered.into_iter().map(|(number, times)| {
        Ok(Version {
            version: version(number)?,
            created_at: times.created_time.as_deref().and_then(time),
            gone: times.gone(),
        })
    });
    seen.collect()
}

pub(super) async fn read(
    api: &Api,
    place: &Path,
    wanted: &SecretVersion,
) -> Result<Secret, ManagerError> {
    let Some(number) = number(wanted) else {
        // Of another type of mount, before hub.yaml was changed.
        return Err(gone_since(api, place, wanted, None).await);
    };
    let ask = Ask::get(route("data", place).with("version", number));
    let reply = api.ask(&ask).await?;
    if !reply.is_success() {
        let error = refusal::of(&reply);
        return match error.fault {
            Fault::Missing | Fault::Deleted => {
                Err(gone_since(api, place, wanted, Some(error)).await)
            }
            _ => Err(error),
        };
    }
    let read: Read<'_> = reply.json()?;
    if read.data.metadata.version != number {
        return Err(ManagerError::new(
            Fault::Malformed,
            "it gave another version than was asked for",
        ));
    }
    payload::from_object(read.data.data)
}

/// Writes, and gives the new version. `expected` as in [`crate::SecretManager::write`].
pub(super) async fn write(
    api: &Api,
    target: Target<'_>,
    place: &Path,
    value: &Secret,
    expected: Option<Option<SecretVersion>>,
) -> Result<SecretVersion, ManagerError> {
    let conflict = || {
        ManagerError::new(
            Fault::Conflict,
            format!(
                "{} has another version by now: look at it again",
                target.reference
            ),
        )
    };
    let cas = match expected {
        None => None,
        Some(None) => Some(0),
        Some(Some(version)) => Some(number(&version).ok_or_else(conflict)?),
    };
    #[derive(serde::Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        options: Option<Options>,
        data: BTreeMap<&'a str, &'a str>,
    }
    #[derive(serde::Serialize)]
    struct Options {
        cas: u64,
    }
    let fields = Fields::decode(value.expose())
        .map_err(|error| ManagerError::new(Fault::Unsupported, error.to_string()))?;
    let body = Body {
        options: cas.map(|cas| Options { cas }),
        data: texts(target, &fields)?,
    };
    let reply = api.ask(&Ask::post(route("data", place), &body)?).await;
    let reply = reply.map_err(super::unknown_when_lost)?;
    if reply.is_success() {
        let written: Written = reply.json()?;
        return version(written.data.version);
    }
    let texts = Texts::of(&reply);
    if texts.say("check-and-set parameter did not match") {
        return Err(conflict());
    }
    if texts.say("check-and-set parameter required") {
        return Err(ManagerError::new(
            Fault::Conflict,
            format!(
                "the mount of {} takes a value only with the version that it replaces: say which \
                 one is expected",
                target.reference
            ),
        ));
    }
    Err(refusal::of(&reply))
}

/// The fields as JSON texts.
pub(super) fn texts<'a>(
    target: Target<'_>,
    fields: &Fields<'a>,
) -> Result<BTreeMap<&'a str, &'a str>, ManagerError> {
    let texts = fields.expose().map(|(name, value)| {
        let value = std::str::from_utf8(value).map_err(|_| {
            ManagerError::unsupported(target, "has a field that is no text: KV takes text alone")
        })?;
        Ok((name, value))
    });
    texts.collect()
}

/// Why a version was not to be had: a newer one is a good reason, and no absence of the secret.
async fn gone_since(
    api: &Api,
    place: &Path,
    wanted: &SecretVersion,
    error: Option<ManagerError>,
) -> ManagerError {
    match describe(api, place).await {
        Ok(now) if now.version.as_ref() != Some(wanted) => ManagerError::new(
            Fault::Superseded,
            format!("version {wanted} is no longer there; there is another one"),
        ),
        // It went, or came, between the two answers: what the first one said holds.
        Ok(_) => error.unwrap_or_else(malformed),
        Err(now) if now.fault == Fault::Denied => error.unwrap_or(now),
        Err(now) => now,
    }
}

async fn metadata(api: &Api, place: &Path) -> Result<Metadata, ManagerError> {
    let reply = api.expect(&Ask::get(route("metadata", place))).await?;
    let answer: Answer = reply.json()?;
    Ok(answer.data)
}

fn route(part: &str, place: &Path) -> Route {
    at(
        "/v1/{*mount}/{part}/{*path}",
        &[&place.mount, part, &place.path],
    )
}

fn version(number: u64) -> Result<SecretVersion, ManagerError> {
    number.to_string().parse().map_err(|_| malformed())
}

fn number(version: &SecretVersion) -> Option<u64> {
    let number: u64 = version.as_str().parse().ok()?;
    (number > 0 && number.to_string() == version.as_str()).then_some(number)
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn malformed() -> ManagerError {
    ManagerError::new(
        Fault::Malformed,
        "its metadata has not the shape that it should",
    )
}

#[derive(Deserialize)]
struct Answer {
    data: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    custom_metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    updated_time: Option<String>,
    versions: BTreeMap<String, Times>,
}

impl Metadata {
    /// What is said of the current version, where that can be read.
    fn current(&self) -> Result<&Times, ManagerError> {
        if self.current_version == 0 {
            return Err(ManagerError::new(
                Fault::Missing,
                "the secret has metadata there and no value yet",
            ));
        }
        let current = self.versions.get(&self.current_version.to_string());
        let current = current.ok_or_else(malformed)?;
        match current.gone() {
            None => Ok(current),
            Some(how) => Err(ManagerError::new(
                Fault::Deleted,
                format!(
                    "its current version, {}, was {how} there",
                    self.current_version
                ),
            )),
        }
    }
}

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    created_time: Option<String>,
    #[serde(default)]
    deletion_time: Option<String>,
    #[serde(default)]
    destroyed: bool,
}

impl Times {
    /// When it is deleted, which may be in the future.
    fn deletion(&self) -> Option<Timestamp> {
        self.deletion_time.as_deref().and_then(time)
    }

    fn gone(&self) -> Option<&'static str> {
        if self.destroyed {
            return Some("destroyed");
        }
        let past = self.deletion().is_some_and(|at| at <= Timestamp::now());
        past.then_some("deleted")
    }
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: ReadData<'a>,
}

#[derive(Deserialize)]
struct ReadData<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    metadata: Numbered,
}

#[derive(Deserialize)]
struct Written {
    data: Numbered,
}

#[derive(Deserialize)]
struct Numbered {
    version: u64,
}
