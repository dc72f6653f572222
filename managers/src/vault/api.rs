//! Requests to Vault: their headers, redirects of standby nodes, and tokens that have died.

use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::Secret;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use serde::Serialize;

use super::config::{Auth, Namespace, VaultConfig};
use super::refusal;
use super::session::{Session, Sessions};
use crate::http::{BaseUrl, HttpClient, HttpConfig, Reply, Request};
use crate::route::Route;
use crate::{Fault, ManagerError};

/// What is asked, and can be asked again.
pub(super) struct Ask {
    method: Method,
    route: Route,
    body: Option<Secret>,
    namespaced: bool,
    #[cfg(test)]
    wrapped: bool,
}

/// The connection to one Vault, without a token.
pub(super) struct Wire {
    http: HttpClient,
    others: Vec<HttpClient>,
    namespace: Option<Namespace>,
}

/// The connection with the hub's token.
pub(super) struct Api {
    pub(super) wire: Arc<Wire>,
    pub(super) sessions: Sessions,
}

impl Ask {
    pub(super) fn get(route: Route) -> Self {
        Self::new(Method::GET, route)
    }

    pub(super) fn list(route: Route) -> Self {
        let list = Method::from_bytes(b"LIST").unwrap_or(Method::GET);
        Self::new(list, route)
    }

    pub(super) fn post(route: Route, body: &impl Serialize) -> Result<Self, ManagerError> {
        let body = serde_json::to_vec(body)
            .map_err(|_| ManagerError::new(Fault::Invalid, "the request cannot be written"))?;
        Ok(Self {
            body: Some(Secret::new(body)),
            ..Self::new(Method::POST, route)
        })
    }

    /// Of the whole server rather than of a namespace.
    pub(super) fn of_the_server(self) -> Self {
        Self {
            namespaced: false,
            ..self
        }
    }

    /// Whose answer is to be had once, for the token that comes instead: what operators ask for.
    #[cfg(test)]
    pub(super) fn wrapped(self) -> Self {
        Self {
            wrapped: true,
            ..self
        }
    }

    fn new(method: Method, route: Route) -> Self {
        Self {
            method,
            route,
            body: None,
            namespaced: true,
            #[cfg(test)]
            wrapped: false,
        }
    }
}

impl Wire {
    pub(super) fn new(config: &VaultConfig, timeout: Duration) -> Result<Self, String> {
        let client = |base: &BaseUrl| {
            HttpClient::new(&HttpConfig {
                base: base.clone(),
                ca_file: config.ca_file.clone(),
                identity: match &config.auth {
                    Auth::Cert(cert) => Some((cert.certificate.clone(), cert.key.clone())),
                    Auth::AppRole(_) | Auth::Token(_) => None,
                },
                timeout,
            })
        };
        Ok(Self {
            http: client(&config.address)?,
            others: config
                .redirects_to
                .iter()
                .map(client)
                .collect::<Result<_, _>>()?,
            namespace: config.namespace.clone(),
        })
    }

    /// Asks once; where a standby sends to a node that the configuration lists, there once too.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        token: Option<&Secret>,
    ) -> Result<Reply, ManagerError> {
        let reply = self.http.send(self.request(ask, token)?).await?;
        if reply.status != TEMPORARY_REDIRECT {
            return Ok(reply);
        }
        let target = reply.header(&header::LOCATION).and_then(target);
        let listed = target.as_ref().and_then(|target| {
            let mut others = self.others.iter();
            others.find(|other| is_same_server(other.base(), target))
        });
        let Some(other) = listed else {
            let to = target.map_or_else(|| "another node".to_owned(), |to| to.to_string());
            return Err(ManagerError::new(
                Fault::Unavailable,
                format!(
                    "it is a standby and redirects to {to}: set `address` to the active node, or \
                     list that address under `redirects_to`"
                ),
            ));
        };
        let reply = other.send(self.request(ask, token)?).await?;
        if reply.status == TEMPORARY_REDIRECT {
            return Err(ManagerError::new(
                Fault::Unavailable,
                "the node that it redirects to redirects too: no node is active now",
            ));
        }
        Ok(reply)
    }

    fn request(&self, ask: &Ask, token: Option<&Secret>) -> Result<Request, ManagerError> {
        let mut request = Request::new(ask.method.clone(), ask.route.clone()).header(
            HeaderName::from_static("x-vault-request"),
            HeaderValue::from_static("true"),
        );
        if let Some(namespace) = self.namespace.as_ref().filter(|_| ask.namespaced) {
            let name = HeaderName::from_static("x-vault-namespace");
            request = request.header(name, namespace.header());
        }
        #[cfg(test)]
        if ask.wrapped {
            let name = HeaderName::from_static("x-vault-wrap-ttl");
            request = request.header(name, HeaderValue::from_static("60s"));
        }
        if let Some(token) = token {
            let name = HeaderName::from_static("x-vault-token");
            request = request.credential(name, "", token)?;
        }
        if let Some(body) = &ask.body {
            let body = Secret::new(body.expose().to_vec());
            request = request.body("application/json", body);
        }
        Ok(request)
    }
}

impl Api {
    /// Asks with the hub's token, and with a new one when that has died. An answer of 403 is one of
    /// the policies then.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Reply, ManagerError> {
        let session = self.sessions.current().await?;
        let reply = self.wire.ask(ask, Some(session.token())).await?;
        if reply.status != FORBIDDEN {
            return Ok(reply);
        }
        match self.sessions.after_refusal(session).await? {
            None => Ok(reply),
            Some(session) => self.wire.ask(ask, Some(session.token())).await,
        }
    }

    /// The same, where only success is an answer.
    pub(super) async fn expect(&self, ask: &Ask) -> Result<Reply, ManagerError> {
        let reply = self.ask(ask).await?;
        match reply.is_success() {
            true => Ok(reply),
            false => Err(refusal::of(&reply)),
        }
    }

    /// The names in a folder; none where there is nothing.
    pub(super) async fn list(&self, route: Route) -> Result<Vec<String>, ManagerError> {
        let mut reply = self.ask(&Ask::list(route.clone())).await?;
        if reply.status == NOT_ALLOWED {
            // Some proxies let no LIST through.
            reply = self.ask(&Ask::get(route.with("list", true))).await?;
        }
        if !reply.is_success() {
            let error = refusal::of(&reply);
            return match error.fault {
                Fault::Missing => Ok(Vec::new()),
                _ => Err(error),
            };
        }
        let listed: Listed = reply.json()?;
        Ok(listed.data.keys)
    }

    /// The session that is in use now, if there is one.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.sessions.now()
    }
}

#[derive(serde::Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(serde::Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// The server of a redirect: nothing else of it is used.
fn target(location: &str) -> Option<BaseUrl> {
    let uri: Uri = location.parse().ok()?;
    format!("{}://{}", uri.scheme_str()?, uri.authority()?)
        .parse()
        .ok()
}

fn is_same_server(listed: &BaseUrl, target: &BaseUrl) -> bool {
    listed.is_tls() == target.is_tls()
        && listed.host().eq_ignore_ascii_case(target.host())
        && listed.port() == target.port()
}

pub(super) const FORBIDDEN: u16 = 403;
const NOT_ALLOWED: u16 = 405;
const TEMPORARY_REDIRECT: u16 = 307;
