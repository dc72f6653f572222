//! Check-outs: the hub's account has the secret for a while, alone, and gives it back.

use std::time::Duration;

use edge_secrets_protocol::Secret;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::access::{Checkout, busy, left};
use super::api::{Api, Call, succeeded};
use super::errors::absent_or_denied;
use super::held::Lease;
use super::model::State;
use super::{SecretServer, Seen};
use crate::http::Reply;
use crate::lease::{LeaseHandle, Minted, Term};
use crate::route::{Route, at};
use crate::{Fault, ManagerError, Target};

impl SecretServer {
    /// Takes the secret, reads it, and says for how long the hub has it.
    pub(super) async fn check_out(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        let seen = self.look(target).await?;
        let Some(checkout) = seen.access.checkout else {
            return Err(ManagerError::unsupported(
                target,
                "is not checked out at its manager: it is read",
            ));
        };
        let id = seen.summary.id;
        if checkout == Checkout::Free {
            self.take(id, self.comment(&seen)).await?;
        }
        match self.taken(id, &seen).await {
            Ok(minted) => Ok(minted),
            // Nobody would give it back.
            Err(error) => match self.check_in_if_ours(id).await {
                Ok(()) => Err(error),
                Err(_) => Err(unknown()),
            },
        }
    }

    /// Asks for the check-out to last for `want` from now.
    pub(super) async fn extend(
        &self,
        handle: &LeaseHandle,
        want: Duration,
    ) -> Result<Term, ManagerError> {
        let lease = Lease::of(handle)?;
        if !self.held.may_hold(lease).await? {
            return Err(gone());
        }
        let before = self.left_of_ours(lease.id).await?;
        let minutes = want
            .saturating_add(MARGIN)
            .saturating_sub(before)
            .as_secs()
            .div_ceil(60);
        if minutes == 0 {
            return Ok(term(before, true));
        }
        let route = of(lease.id, "extend-check-out");
        let mut data = json!({"minutesToAdd": minutes});
        if let (Some(comment), Some(data)) = (&self.allowed.comment, data.as_object_mut()) {
            data.insert("notes".into(), Value::from(comment.as_str()));
        }
        let call = Call::post(route, json!({"data": data}));
        let reply = self.api.send(&call).await?;
        // Not every secret's check-out may be made longer, and none beyond its bound.
        let refused = matches!(reply.status, 400 | 403 | 404);
        if !refused {
            succeeded(reply, "to extend the check-out")?;
        }
        Ok(term(self.left_of_ours(lease.id).await?, !refused))
    }

    /// Gives the secret back. One that is not the hub's any more is given back already.
    pub(super) async fn give_back(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        let lease = Lease::of(handle)?;
        if !self.held.may_hold(lease).await? {
            return Ok(());
        }
        self.check_in_if_ours(lease.id).await?;
        self.held.give_back(lease).await
    }

    async fn check_in_if_ours(&self, id: u64) -> Result<(), ManagerError> {
        match is_ours(&self.api, id).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // What the account may not see any more, it does not have.
            Err(error) if error.fault == Fault::NotFoundOrDenied => return Ok(()),
            Err(error) => return Err(error),
        }
        let body = match &self.allowed.comment {
            Some(comment) => json!({"comment": comment}),
            None => json!({}),
        };
        let reply = self.api.send(&Call::post(of(id, "check-in"), body)).await?;
        // It may have ended in between.
        if !reply.is_success() && is_ours(&self.api, id).await? {
            succeeded(reply, "to check the secret in")?;
        }
        Ok(())
    }

    async fn take(&self, id: u64, comment: Option<&str>) -> Result<(), ManagerError> {
        if let Some(comment) = comment {
            let template = "/api/v1/secret-access-requests/secrets/{id}/view-comment";
            let route = at(template, &[&id.to_string()]);
            let call = Call::post(route, json!({"comment": comment}));
            succeeded(self.api.send(&call).await?, "the comment")?;
        }
        let call = Call::post(of(id, "check-out"), json!({}));
        match self.api.send(&call).await {
            Ok(reply) if happened(&reply) => Ok(()),
            Ok(reply) if may_have_happened(&reply) => Err(unknown()),
            Ok(reply) => succeeded(reply, "to check the secret out").map(drop),
            Err(error) if may_have_been_sent(&error) => Err(unknown()),
            Err(error) => Err(error),
        }
    }

    async fn taken(&self, id: u64, seen: &Seen) -> Result<Minted, ManagerError> {
        let left = self
            .left_of_ours(id)
            .await
            .map_err(|error| match error.fault {
                Fault::LeaseGone => busy("somebody else was faster to check the secret out", None),
                _ => error,
            })?;
        if left <= MARGIN {
            let why = "the hub's own check-out of the secret is about to end";
            return Err(busy(why, Some(left)));
        }
        let lease = self.held.take(id).await?;
        let payload: Secret = super::values::read(&self.api, id, self.comment(seen)).await?;
        Ok(Minted {
            payload,
            handle: lease.handle()?,
            term: term(left, true),
            usable_after: Duration::ZERO,
        })
    }

    async fn left_of_ours(&self, id: u64) -> Result<Duration, ManagerError> {
        let state = state(&self.api, id).await?;
        if state.is_checked_out_by_current_user != Some(true) {
            return Err(gone());
        }
        left(&state).ok_or_else(|| {
            let why = "its answer does not say how long the check-out lasts";
            ManagerError::new(Fault::Malformed, why)
        })
    }
}

/// What stands between the hub's account and the secret.
pub(super) async fn state(api: &Api, id: u64) -> Result<State, ManagerError> {
    let state: State = api
        .get(of(id, "state"), "a look at the secret's state")
        .await?;
    if state.id == id {
        Ok(state)
    } else {
        Err(absent_or_denied())
    }
}

async fn is_ours(api: &Api, id: u64) -> Result<bool, ManagerError> {
    Ok(state(api, id).await?.is_checked_out_by_current_user == Some(true))
}

fn of(id: u64, what: &str) -> Route {
    at("/api/v1/secrets/{id}/{what}", &[&id.to_string(), what])
}

fn term(left: Duration, renewable: bool) -> Term {
    Term {
        duration: left.saturating_sub(MARGIN),
        renewable,
    }
}

fn happened(reply: &Reply) -> bool {
    reply.is_success() && reply.json::<IgnoredAny>().is_ok()
}

/// A page for people, or a failure in the middle.
fn may_have_happened(reply: &Reply) -> bool {
    reply.is_success() || matches!(reply.status, 500 | 502 | 504)
}

fn may_have_been_sent(error: &ManagerError) -> bool {
    matches!(
        error.fault,
        Fault::TimedOut | Fault::TooLarge | Fault::Malformed
    )
}

fn unknown() -> ManagerError {
    ManagerError::new(
        Fault::OutcomeUnknown,
        "the secret may have been checked out, and nobody knows: the hub's account has it until it is \
         checked in or its time is over",
    )
}

fn gone() -> ManagerError {
    ManagerError::new(
        Fault::LeaseGone,
        "the hub does not have the secret any more",
    )
}

/// What the manager's minutes and the clocks may differ by.
const MARGIN: Duration = Duration::from_secs(30);
