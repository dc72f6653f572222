//! Credentials that Vault makes, each with a lease of its own.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::api::{Api, Ask};
use super::place::Path;
use super::refusal::{self, Texts};
use crate::route::at;
use crate::{Description, Effect, Fault, LeaseHandle, ManagerError, Minted, Target, Term, payload};

/// Whether the role is there, where the hub may look. Never makes a credential.
pub(super) async fn describe(api: &Api, place: &Path) -> Result<Description, ManagerError> {
    let mut described = Description::new(Effect::Mints, None);
    let role = place.path.rsplit('/').next().unwrap_or_default();
    match roles(api, &place.mount).await {
        Ok(roles) if roles.iter().any(|name| name == role) => {}
        Ok(roles) if !roles.is_empty() => {
            return Err(ManagerError::new(
                Fault::Missing,
                format!("{} has no role {role}", place.mount),
            ));
        }
        Ok(_) => described.notes.push(UNSEEN.into()),
        Err(error) if matches!(error.fault, Fault::Denied | Fault::Unsupported) => {
            described.notes.push(UNSEEN.into());
        }
        Err(error) => return Err(error),
    }
    Ok(described)
}

/// The names of a mount's roles; none where there are none, or none are told.
pub(super) async fn roles(api: &Api, mount: &str) -> Result<Vec<String>, ManagerError> {
    api.list(at("/v1/{*mount}/roles", &[mount])).await
}

pub(super) async fn mint(
    api: &Api,
    target: Target<'_>,
    place: &Path,
) -> Result<Minted, ManagerError> {
    let ask = Ask::get(at("/v1/{*mount}/{*path}", &[&place.mount, &place.path]));
    let reply = api.ask(&ask).await.map_err(super::unknown_when_lost)?;
    if !reply.is_success() {
        let error = refusal::of(&reply);
        if Texts::of(&reply).say("unknown role") {
            return Err(ManagerError::new(
                Fault::Missing,
                format!("{} has no such role", place.mount),
            ));
        }
        // What lost its answer between a proxy and Vault may have been done.
        return Err(match reply.status {
            502 | 504 => super::unknown(),
            _ => error,
        });
    }
    let made: Made<'_> = reply.json().map_err(|_| super::unknown())?;
    if made.lease_id.is_empty() {
        return Err(ManagerError::unsupported(
            target,
            "gives no lease with its credentials: its mount is none of type `dynamic`",
        ));
    }
    // One that nobody can name can be neither renewed nor ended.
    let handle = LeaseHandle::new(made.lease_id).map_err(|_| super::unknown())?;
    match payload::from_object(made.data) {
        Ok(payload) => Ok(Minted {
            payload,
            handle,
            term: Term {
                duration: super::seconds(made.lease_duration),
                renewable: made.renewable,
            },
            usable_after: Duration::ZERO,
        }),
        Err(error) => {
            // Nobody can have it, so nobody shall: else it ends by itself.
            if let Err(error) = revoke(api, &handle).await {
                tracing::warn!(%error, "a credential that cannot be delivered stays until it ends");
            }
            Err(error)
        }
    }
}

pub(super) async fn renew(
    api: &Api,
    handle: &LeaseHandle,
    want: Duration,
) -> Result<Term, ManagerError> {
    let body = json!({"lease_id": handle.as_str(), "increment": want.as_secs().max(1)});
    let ask = Ask::post(at("/v1/sys/leases/renew", &[]), &body)?;
    let reply = api.ask(&ask).await?;
    if reply.is_success() {
        let renewed: Renewed = reply.json()?;
        return Ok(Term {
            duration: super::seconds(renewed.lease_duration),
            renewable: renewed.renewable,
        });
    }
    let texts = Texts::of(&reply);
    if LEASE_GONE.iter().any(|known| texts.say(known)) {
        return Err(ManagerError::new(
            Fault::LeaseGone,
            "there is no such lease there any more",
        ));
    }
    if texts.say("lease is not renewable") {
        return Err(ManagerError::new(
            Fault::Unsupported,
            "the lease cannot be renewed",
        ));
    }
    Err(refusal::of(&reply))
}

pub(super) async fn revoke(api: &Api, handle: &LeaseHandle) -> Result<(), ManagerError> {
    let body = json!({"lease_id": handle.as_str(), "sync": true});
    let ask = Ask::post(at("/v1/sys/leases/revoke", &[]), &body)?;
    let reply = api.ask(&ask).await?;
    let texts = Texts::of(&reply);
    if reply.is_success() || LEASE_GONE.iter().any(|known| texts.say(known)) {
        return Ok(());
    }
    Err(refusal::of(&reply))
}

#[derive(Deserialize)]
struct Made<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Renewed {
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

const LEASE_GONE: [&str; 3] = ["lease not found", "invalid lease", "lease expired"];
const UNSEEN: &str = "whether there is such a role is not known: the hub may not list the roles";
