//! What every operator's call has in common: who calls, which organisation the path names, whether
//! it is allowed, and what the audit trail hears of it.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use edge_secrets_protocol::{Code, NameError, OrgId};
use serde::de::DeserializeOwned;
use tracing::error;

use crate::api::peer::{Connected, UserPeer};
use crate::api::problem::ApiError;
use crate::catalog::records::{Actor, NewAudit, Role};
use crate::clock;
use crate::hub::Hub;
use crate::managers::ManagerName;
use crate::reference::SecretRef;
use crate::rights::{Call, Caller, allowed};

/// One call of an operator. It may do nothing before [`require`](Self::require) let it.
pub(super) struct Session {
    /// The hub.
    pub(super) hub: Arc<Hub>,
    /// Who calls.
    pub(super) peer: UserPeer,
    /// The organisation that the path names; perhaps not the caller's.
    pub(super) org: OrgId,
    connected: Connected,
    params: Vec<(String, String)>,
    audited: AtomicBool,
}

impl Session {
    /// A part of the path, as a validated name.
    pub(super) fn param<T: FromStr<Err = NameError>>(&self, name: &str) -> Result<T, ApiError> {
        Ok(self.text(name).parse()?)
    }

    /// A part of the path as it is.
    pub(super) fn text(&self, name: &str) -> &str {
        let mut params = self.params.iter();
        let text = params.find(|(key, _)| key == name);
        text.map_or("", |(_, text)| text.as_str())
    }

    /// The manager that references without one mean; the hub's own when absent.
    pub(super) fn default_manager(&self) -> Option<&ManagerName> {
        self.hub.config.managers.default_of(&self.org)
    }

    /// A reference that somebody wrote, in the form that the hub keeps.
    pub(super) fn resolved(&self, written: &SecretRef) -> SecretRef {
        written.resolved(self.default_manager())
    }

    /// Whether the caller may make this call.
    pub(super) fn may(&self, call: Call<'_>) -> bool {
        let caller = Caller {
            org: &self.peer.org,
            user: &self.peer.user,
            role: self.peer.role,
        };
        allowed(caller, &self.org, call)
    }

    /// Refuses the call unless the caller may make it; the refusal is audited.
    pub(super) async fn require(
        &self,
        call: Call<'_>,
        action: &str,
        object: impl Display,
    ) -> Result<(), ApiError> {
        if self.may(call) {
            self.still().await
        } else {
            Err(self.deny(action, object).await)
        }
    }

    /// Refuses the call unless the caller is who they were when it began: a body may take long to
    /// come, and whoever was removed meanwhile does nothing more with it.
    pub(super) async fn still(&self) -> Result<(), ApiError> {
        if UserPeer::known(&self.connected, &self.hub).await? == self.peer {
            Ok(())
        } else {
            Err(ApiError::denied())
        }
    }

    /// Writes down that the call is refused. What the caller reads depends on the rights alone,
    /// never on what is there.
    pub(super) async fn deny(&self, action: &str, object: impl Display) -> ApiError {
        let mut record = self.audit(action, &object);
        record.result = Code::Denied.to_string();
        if self.peer.org != self.org {
            // The other organisation's trail is not for strangers to fill.
            record.org = self.peer.org.clone();
            record.detail = format!("in organisation {}", self.org);
        }
        if let Err(error) = self.hub.catalog.append_audit(vec![record]).await {
            error!(user = %self.peer.user, action, %error, "A refusal was not audited.");
        }
        let (user, org) = (&self.peer.user, &self.peer.org);
        let role = match self.peer.role {
            Role::Admin => "administrator",
            Role::User => "user",
        };
        ApiError::new(
            Code::Denied,
            format!(
                "{user}, {role} of {org}, may not do {action} on {object} in {}.",
                self.org
            ),
        )
    }

    /// The audit record of this call, were it to succeed.
    pub(super) fn audit(&self, action: &str, object: impl Display) -> NewAudit {
        self.audited.store(true, Ordering::Relaxed);
        NewAudit {
            org: self.org.clone(),
            at: clock::now(),
            actor: Actor::User(self.peer.user.clone()),
            action: action.to_owned(),
            object: object.to_string(),
            result: "ok".to_owned(),
            detail: String::new(),
            peer: self.peer.address.to_string(),
        }
    }
}

impl Drop for Session {
    /// The call is over: who follows the audit trail looks whether it left a record.
    fn drop(&mut self) {
        if self.audited.load(Ordering::Relaxed) {
            self.hub.models.audited(&self.peer.org);
        }
    }
}

impl FromRequestParts<Arc<Hub>> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        let connected = Connected::from_request_parts(parts, hub).await?;
        let peer = UserPeer::known(&connected, hub).await?;
        let params = RawPathParams::from_request_parts(parts, hub)
            .await
            .map_err(|error| ApiError::new(Code::BadRequest, format!("The path: {error}.")))?;
        let params: Vec<_> = params
            .iter()
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .collect();
        let org = params.iter().find(|(key, _)| key == "org");
        let org = org.map_or("", |(_, text)| text.as_str()).parse()?;
        Ok(Self {
            hub: Arc::clone(hub),
            peer,
            org,
            connected,
            params,
            audited: AtomicBool::new(false),
        })
    }
}

/// The query of a call, parsed. Refused as a problem.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Hub>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, hub).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(refused) => Err(ApiError::new(Code::BadRequest, refused.body_text())),
        }
    }
}
