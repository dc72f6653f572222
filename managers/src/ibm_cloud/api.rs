//! Calls to the service: with a token, and with what its refusals mean.

use std::time::Duration;

use edge_secrets_protocol::Secret;
use http::{HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Deserialize;

use super::IbmCloudConfig;
use super::iam::Iam;
use super::place::is_uuid;
use crate::http::{BaseUrl, HttpClient, HttpConfig, Reply, Request};
use crate::route::Route;
use crate::{Fault, ManagerError};

/// One instance and the tokens for it.
pub(super) struct Api {
    http: HttpClient,
    iam: Iam,
}

impl Api {
    pub(super) fn new(config: &IbmCloudConfig, timeout: Duration) -> Result<Self, String> {
        let client = |base: &BaseUrl| {
            HttpClient::new(&HttpConfig {
                base: base.clone(),
                ca_file: config.ca_file.clone(),
                identity: None,
                timeout,
            })
        };
        Ok(Self {
            http: client(&config.url)?,
            iam: Iam::new(client(&config.iam_url)?, config.api_key.clone()),
        })
    }

    /// Sees to it that there is a token, so that the next call is that call alone.
    pub(super) async fn log_in(&self) -> Result<(), ManagerError> {
        self.iam.token().await.map(drop)
    }

    /// Reads what is at `route`.
    pub(super) async fn get(&self, route: Route) -> Result<Reply, ManagerError> {
        self.call(Method::GET, &route, None).await
    }

    /// Sends JSON.
    pub(super) async fn post(&self, route: Route, body: &Secret) -> Result<Reply, ManagerError> {
        self.call(Method::POST, &route, Some((JSON, body))).await
    }

    /// Sends changed members of an engine's configuration.
    pub(super) async fn patch_engine(
        &self,
        route: Route,
        body: &Secret,
    ) -> Result<Reply, ManagerError> {
        self.call(Method::PATCH, &route, Some((MERGE_PATCH, body)))
            .await
    }

    /// Ends what is at `route`.
    pub(super) async fn delete(&self, route: Route) -> Result<Reply, ManagerError> {
        self.call(Method::DELETE, &route, None).await
    }

    /// One call. It is sent a second time only after a 401, with another token: nothing was done then.
    async fn call(
        &self,
        method: Method,
        route: &Route,
        body: Option<(&'static str, &Secret)>,
    ) -> Result<Reply, ManagerError> {
        let mut token = self.iam.token().await?;
        let mut again = false;
        loop {
            let mut request = Request::new(method.clone(), route.clone());
            if let Some((media_type, body)) = body {
                request = request.body(media_type, Secret::new(body.expose().to_vec()));
            }
            if method == Method::PATCH {
                request = request.header(CONFIGURATION, HeaderValue::from_static(ENGINE));
            }
            let request = request.credential(header::AUTHORIZATION, "Bearer ", &token.text)?;
            let reply = self.http.send(request).await?;
            if reply.status == 401 && !again {
                self.iam.forget(&token).await;
                token = self.iam.token().await?;
                again = true;
                continue;
            }
            if reply.status == 401 {
                self.iam.refused(&token).await;
            }
            return match reply.is_success() {
                true => Ok(reply),
                false => Err(refusal(&reply)),
            };
        }
    }
}

/// When the service answered, by its own clock where it tells.
pub(super) fn date_of(reply: &Reply) -> Timestamp {
    reply
        .header(&header::DATE)
        .and_then(|date| DateTimeParser::new().parse_timestamp(date).ok())
        .unwrap_or_else(Timestamp::now)
}

/// IBM's container of errors, of which only the trace is shown: messages quote what they were sent.
#[derive(Deserialize)]
struct Container {
    errors: Vec<serde::de::IgnoredAny>,
    trace: Option<String>,
}

fn refusal(reply: &Reply) -> ManagerError {
    let container = reply.json_or_none::<Container>();
    let is_its_own = container.as_ref().is_some_and(|c| !c.errors.is_empty());
    let (fault, what) = match reply.status {
        400 | 422 => (Fault::Invalid, "it does not take the request"),
        401 => (
            Fault::Unauthenticated,
            "it does not take a new token: has the hub's service id access to the instance, and do \
             context-based restrictions allow the hub's address?",
        ),
        403 => (
            Fault::Denied,
            "the hub's service id has not the role for it there",
        ),
        // That of a proxy or a wrong address must never pass for a secret's absence.
        404 | 410 if is_its_own => (Fault::Missing, "it has nothing there"),
        409 => (
            Fault::Conflict,
            "it is there already, or was changed meanwhile",
        ),
        412 => (Fault::Locked, "it is locked there: remove the lock first"),
        413 => (Fault::TooLarge, "it does not take so much"),
        429 => (Fault::RateLimited, "it wants fewer calls"),
        502..=504 => (Fault::Unavailable, "it cannot do it now"),
        500..=599 => (Fault::Failed, "it failed"),
        _ => (
            Fault::Malformed,
            "its answer is none of Secrets Manager: is `url` the instance's address?",
        ),
    };
    let status = reply.status;
    let trace = container
        .and_then(|container| container.trace)
        .filter(|trace| is_uuid(trace));
    let shown = match trace {
        Some(trace) => format!("{what} (status {status}, trace {trace})"),
        None => format!("{what} (status {status})"),
    };
    ManagerError::new(fault, shown).after(reply.retry_after())
}

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Which configuration a patch is of.
const CONFIGURATION: HeaderName = HeaderName::from_static("x-sm-accept-configuration-type");
/// The one that is patched from here.
pub(super) const ENGINE: &str = "iam_credentials_configuration";
