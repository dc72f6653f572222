//! Calls of the manager's REST interface, with the hub's token.

use edge_secrets_protocol::Secret;
use http::{HeaderValue, Method, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{is_of_the_token, refusal};
use super::token::{Account, Session};
use crate::ManagerError;
use crate::http::{HttpClient, Reply, Request};
use crate::route::Route;

/// One manager, and the hub's session there.
pub(super) struct Api {
    http: HttpClient,
    session: Session,
}

/// One call; it can be sent twice, for a token may have died.
pub(super) struct Call {
    method: Method,
    route: Route,
    body: Option<Value>,
    accept: &'static str,
}

impl Call {
    pub(super) fn get(route: Route) -> Self {
        Self {
            method: Method::GET,
            route,
            body: None,
            accept: JSON,
        }
    }

    /// With a body, which is no secret.
    pub(super) fn post(route: Route, body: Value) -> Self {
        Self {
            method: Method::POST,
            route,
            body: Some(body),
            accept: JSON,
        }
    }

    /// A file is wanted.
    pub(super) fn for_bytes(mut self) -> Self {
        self.accept = "application/octet-stream, application/json";
        self
    }

    fn with(&self, token: &Secret) -> Result<Request, ManagerError> {
        let request = Request::new(self.method.clone(), self.route.clone())
            .header(header::ACCEPT, HeaderValue::from_static(self.accept))
            .credential(header::AUTHORIZATION, "Bearer ", token)?;
        Ok(match &self.body {
            Some(body) => request.body(JSON, Secret::new(body.to_string().into_bytes())),
            None => request,
        })
    }
}

impl Api {
    pub(super) fn new(http: HttpClient, account: Account) -> Self {
        Self {
            http,
            session: Session::new(account),
        }
    }

    /// Asks without the token.
    pub(super) async fn ask_openly(&self, route: Route) -> Result<Reply, ManagerError> {
        self.http.send(Request::new(Method::GET, route)).await
    }

    /// Reads what is no value. `what` is the call, for people.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        route: Route,
        what: &str,
    ) -> Result<T, ManagerError> {
        let reply = self.send(&Call::get(route)).await?;
        succeeded(reply, what)?.json()
    }

    /// Sends a call whose answer is for the caller to judge, whatever its status.
    pub(super) async fn send(&self, call: &Call) -> Result<Reply, ManagerError> {
        let token = self.session.token(&self.http).await?;
        let reply = self.http.send(call.with(&token.text)?).await?;
        if !is_of_the_token(&reply) {
            return Ok(reply);
        }
        let other = self.session.instead_of(&self.http, &token, &reply).await?;
        let Some(token) = other else {
            return Ok(reply);
        };
        let reply = self.http.send(call.with(&token.text)?).await?;
        if reply.status == 401 {
            self.session.was_refused().await;
            return Err(refusal(&reply, "a call"));
        }
        Ok(reply)
    }
}

/// The answer, if it is one of success.
pub(super) fn succeeded(reply: Reply, what: &str) -> Result<Reply, ManagerError> {
    if reply.is_success() {
        return Ok(reply);
    }
    Err(refusal(&reply, what))
}

const JSON: &str = "application/json";
