//! Keys with an end: made by one read, ended by their version's id.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::IbmCloud;
use super::api::date_of;
use super::describe::SKEW;
use super::place::{Place, SecretType, is_uuid};
use super::wire::Held;
use crate::http::Reply;
use crate::route::at;
use crate::{Fault, LeaseHandle, ManagerError, Minted, Term};

/// What a key is ended by. Two reads of one reused key have the same: they are one lease.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handle {
    secret: String,
    key: String,
}

impl IbmCloud {
    /// One read of the secret, which may make a key and end the one before. What is checked before
    /// gives no value, and is asked for only when it was not just looked at.
    pub(super) async fn mint_key(&self, place: &Place) -> Result<Minted, ManagerError> {
        let id = self.id_of(place).await?;
        let recent = self.known.seen(&id, RECENT);
        let metadata = match recent.filter(|seen| place.may_be(seen)) {
            Some(metadata) => metadata,
            None => self.metadata(place).await?.0,
        };
        if metadata.secret_type != SecretType::IamCredentials {
            let why = format!("{place} makes no credentials: it is read");
            return Err(ManagerError::new(Fault::Unsupported, why));
        }
        if metadata.reuse_api_key && self.share_reused {
            let why = format!("the key of {place} is shared: it is read, and nobody has it alone");
            return Err(ManagerError::new(Fault::Unsupported, why));
        }
        if metadata.locks_total.unwrap_or_default() > 0 && !metadata.reuse_api_key {
            let why = format!("{place} is locked there: remove the lock, or no key can be made");
            return Err(ManagerError::new(Fault::Locked, why));
        }
        // A login that fails is no unknown outcome.
        self.api.log_in().await?;
        let reply = self
            .api
            .get(at("/api/v2/secrets/{id}", &[&metadata.id]))
            .await;
        match reply {
            Ok(reply) => minted(place, &metadata.id, &reply),
            Err(error) => {
                self.known.forget(&metadata.id);
                match error.fault {
                    Fault::Missing => {
                        self.metadata(place).await?;
                        let why = format!("{place} is another secret now");
                        Err(ManagerError::new(Fault::Superseded, why))
                    }
                    Fault::Failed
                    | Fault::Malformed
                    | Fault::TimedOut
                    | Fault::TooLarge
                    | Fault::Unavailable => Err(unknown(place, &error).after(error.retry_after)),
                    _ => Err(error),
                }
            }
        }
    }

    /// Ends the key by the id of its version, if that is still the current one: a successor's key
    /// stays, also one that is made between the look and the deletion.
    pub(super) async fn end_key(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        let lease: Handle = serde_json::from_str(handle.as_str())
            .ok()
            .filter(|lease: &Handle| is_uuid(&lease.secret))
            .ok_or_else(|| {
                ManagerError::new(Fault::Malformed, "the lease is none of this manager")
            })?;
        let Some(current) = self.current(&lease.secret).await? else {
            return Ok(());
        };
        let is_current = current.api_key_id.as_deref() == Some(&lease.key);
        if !is_current || current.payload_available == Some(false) {
            return Ok(());
        }
        if self.is_shared(&lease.secret).await? {
            return Ok(());
        }
        self.known.forget(&lease.secret);
        let route = at(
            "/api/v2/secrets/{id}/versions/{version}/secret_data",
            &[&lease.secret, &current.id],
        );
        match self.api.delete(route).await {
            Ok(_) => Ok(()),
            Err(error) if error.fault == Fault::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the key that one node had alone is everybody's by now: it is not that node's to end.
    async fn is_shared(&self, id: &str) -> Result<bool, ManagerError> {
        if !self.share_reused {
            return Ok(false);
        }
        let (metadata, _) = self.metadata(&Place::Id(id.to_owned())).await?;
        Ok(metadata.reuse_api_key)
    }
}

fn minted(place: &Place, id: &str, reply: &Reply) -> Result<Minted, ManagerError> {
    let held: Held<'_> = reply.json().map_err(|error| unknown(place, &error))?;
    let now = date_of(reply);
    let reused = held.reuse_api_key == Some(true);
    let left = held.expiration_date.map(|end| left(end, now));
    let life = match (left, held.ttl) {
        // A reused key may be half-way through its life.
        (Some(left), _) if reused => Some(left),
        (Some(left), Some(ttl)) => Some(left.min(ttl)),
        (left, ttl) => left.or(ttl),
    };
    let (Some(life), Some(key)) = (life, &held.api_key_id) else {
        let error = ManagerError::new(
            Fault::Malformed,
            "its answer has no end or no id of the key",
        );
        return Err(unknown(place, &error));
    };
    let duration = life.saturating_sub(SKEW);
    if reused && duration.is_zero() {
        let why = format!("the key of {place} ends now, and the next one is made after that");
        return Err(ManagerError::new(Fault::Busy, why).after(Some(life + SKEW)));
    }
    let payload = held
        .payload_of(place, SecretType::IamCredentials)
        .map_err(|error| unknown(place, &error))?;
    let handle = Handle {
        secret: id.to_owned(),
        key: key.clone(),
    };
    let handle = serde_json::to_string(&handle).unwrap_or_default();
    Ok(Minted {
        payload,
        handle: LeaseHandle::new(handle).map_err(|error| unknown(place, &error))?,
        term: Term {
            duration,
            renewable: false,
        },
        usable_after: USABLE_AFTER,
    })
}

fn left(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

fn unknown(place: &Place, why: &ManagerError) -> ManagerError {
    ManagerError::new(
        Fault::OutcomeUnknown,
        format!(
            "{place} may have another key now that nobody holds, and its last one may be dead: {}",
            why.detail
        ),
    )
}

/// IAM takes a new key a moment after it was made.
const USABLE_AFTER: Duration = Duration::from_secs(2);
/// How old a look at the flag, the lock and the name may be.
const RECENT: Duration = Duration::from_secs(60);
