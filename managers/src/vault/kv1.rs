//! KV version 1. It tells neither a version nor a time, so a keyed hash of the value is the version,
//! and to see whether it has changed the value is read: the one description that does so.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{Fields, Secret, SecretVersion};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, Ask};
use super::kv2::texts;
use super::place::Path;
use crate::route::{Route, at};
use crate::{Description, Effect, Fault, ManagerError, Target, Version, payload};

pub(super) async fn describe(api: &Api, place: &Path) -> Result<Description, ManagerError> {
    let (_, version) = get(api, place).await?;
    let mut described = Description::new(Effect::Pure, Some(version));
    described.notes.push(NOTE.into());
    Ok(described)
}

pub(super) async fn versions(api: &Api, place: &Path) -> Result<Vec<Version>, ManagerError> {
    let (_, version) = get(api, place).await?;
    Ok(vec![Version {
        version,
        created_at: None,
        gone: None,
    }])
}

pub(super) async fn read(
    api: &Api,
    place: &Path,
    wanted: &SecretVersion,
) -> Result<Secret, ManagerError> {
    let (value, version) = get(api, place).await?;
    match version == *wanted {
        true => Ok(value),
        false => Err(ManagerError::new(
            Fault::Superseded,
            "the value is another one by now, and KV version 1 keeps no old ones",
        )),
    }
}

/// Writes, and gives the new version.
pub(super) async fn write(
    api: &Api,
    target: Target<'_>,
    place: &Path,
    value: &Secret,
    expected: Option<Option<SecretVersion>>,
) -> Result<SecretVersion, ManagerError> {
    if expected.is_some() {
        return Err(ManagerError::unsupported(
            target,
            "is on a KV of version 1, which cannot compare before it writes: write without an \
             expected version",
        ));
    }
    let fields = Fields::decode(value.expose())
        .map_err(|error| ManagerError::new(Fault::Unsupported, error.to_string()))?;
    let ask = Ask::post(route(place), &texts(target, &fields)?)?;
    api.expect(&ask).await.map_err(super::unknown_when_lost)?;
    let (_, version) = get(api, place).await?;
    Ok(version)
}

async fn get(api: &Api, place: &Path) -> Result<(Secret, SecretVersion), ManagerError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let reply = api.expect(&Ask::get(route(place))).await?;
    let answer: Answer<'_> = reply.json()?;
    let value = payload::from_object(answer.data)?;
    let key = api.sessions.key().await?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    // The place too: equal values at two places are nobody's business.
    context.update(place.mount.as_bytes());
    context.update(b"\0");
    context.update(place.path.as_bytes());
    context.update(b"\0");
    context.update(value.expose());
    let version = format!("h{}", HEXLOWER.encode(context.sign().as_ref()));
    let version = version
        .parse()
        .map_err(|_| ManagerError::new(Fault::Failed, "its version cannot be written"))?;
    Ok((value, version))
}

fn route(place: &Path) -> Route {
    at("/v1/{*mount}/{*path}", &[&place.mount, &place.path])
}

const NOTE: &str = "it is on a KV of version 1: each look for a change reads the value";
