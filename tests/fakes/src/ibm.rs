//! A stand-in for IBM Cloud: IAM's token endpoint and Secrets Manager, API v2, at one address.
//!
//! What it makes of `reuse_api_key` is what IBM documents: off, every read of the secret makes another
//! key and ends the one before; on, the key is the same until its end.

mod account;
mod answers;
mod calls;
mod secret;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::account::Account;
use self::answers::{Refusal, refuse};
pub use self::secret::{Secret, Version};
use super::{App, Request, Response};

/// What the account of the API key may do: each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Names and metadata.
    Reader,
    /// Values too.
    SecretsReader,
    /// Makes, rotates and ends secrets.
    Writer,
    /// Configures engines.
    Manager,
}

/// A secret group.
#[derive(Debug, Clone)]
pub struct Group {
    /// A UUID, or `default`.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The stand-in.
pub struct Ibm {
    /// IAM's side: the API key, its tokens, and the keys that were made.
    pub account: Account,
    /// What the account may do.
    pub role: Role,
    /// Groups that the account has lost: lists leave them out, all else is refused.
    pub hidden: BTreeSet<String>,
    /// All groups.
    pub groups: Vec<Group>,
    /// All secrets.
    pub secrets: Vec<Secret>,
    /// Configurations, by name.
    pub configurations: BTreeMap<String, Value>,
    /// How many times a value was in an answer.
    pub given: usize,
}

impl Ibm {
    /// An instance with nothing in it but the default group, reached with this API key.
    #[must_use]
    pub fn new(api_key: &str) -> Self {
        Self {
            account: Account::new(api_key),
            role: Role::Manager,
            hidden: BTreeSet::new(),
            groups: vec![Group {
                id: "default".into(),
                name: "default".into(),
            }],
            secrets: Vec::new(),
            configurations: BTreeMap::new(),
            given: 0,
        }
    }

    /// Adds a group; its id.
    pub fn add_group(&mut self, name: &str) -> String {
        let id = answers::uuid();
        self.groups.push(Group {
            id: id.clone(),
            name: name.into(),
        });
        id
    }

    /// Adds a secret as the body of a create says it; its id.
    ///
    /// # Panics
    /// When such a create is refused.
    pub fn seed(&mut self, body: &Value, now: Timestamp) -> String {
        let answer = self.create(body, now);
        let secret = answer.unwrap_or_else(|refusal| panic!("{} {body}", refusal.message));
        self.given -= 1;
        secret["id"].as_str().expect("an id").to_owned()
    }

    /// A secret.
    ///
    /// # Panics
    /// When there is none with this id.
    pub fn secret(&mut self, id: &str) -> &mut Secret {
        let found = self.secrets.iter_mut().find(|secret| secret.id == id);
        found.expect("a secret")
    }

    /// Gives a secret another value, as a rotation does.
    ///
    /// # Panics
    /// When such a rotation is refused.
    pub fn rotate(&mut self, id: &str, body: &Value, now: Timestamp) {
        if let Err(refusal) = self.add_version(id, body, now) {
            panic!("{}", refusal.message);
        }
        self.given -= 1;
    }

    fn route(&mut self, request: &Request, now: Timestamp) -> Result<Response, Refusal> {
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        if path == ["identity", "token"] && request.method == Method::POST {
            return Ok(self.account.token(request, now));
        }
        self.account.check(request, now)?;
        let ["api", "v2", path @ ..] = path.as_slice() else {
            return Err(refuse(404, "is not a valid access endpoint"));
        };
        self.call(request, path, now)
    }

    fn need(&self, role: Role) -> Result<(), Refusal> {
        if self.role < role {
            return Err(refuse(403, "the account has not the role for it"));
        }
        Ok(())
    }
}

impl App for Ibm {
    fn answer(&mut self, request: &Request, now: Timestamp) -> Response {
        let response = match self.route(request, now) {
            Ok(response) => response,
            Err(refusal) => {
                let quoted = format!("{}: {}", request.path, refusal.message);
                let body = json!({
                    "errors": [{ "code": "fake_code", "message": quoted }],
                    "trace": answers::uuid(),
                    "status_code": refusal.status,
                });
                Response::json(refusal.status, &body)
            }
        };
        response
            .with("date", &answers::http_date(now))
            .with("x-correlation-id", &answers::uuid())
    }
}
