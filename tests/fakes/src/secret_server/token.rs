//! Logins and tokens.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::json;

use super::SecretServer;
use crate::{Request, Response};

/// The tokens that are alive.
#[derive(Default)]
pub(super) struct Tokens {
    until: HashMap<String, Timestamp>,
    refresh: HashSet<String>,
}

impl Tokens {
    pub(super) fn is_alive(&self, request: &Request, now: Timestamp) -> bool {
        let sent = request.header("authorization").unwrap_or_default();
        let token = sent.strip_prefix("Bearer ").unwrap_or_default();
        self.until.get(token).is_some_and(|until| now < *until)
    }
}

impl SecretServer {
    pub(super) fn grant(&mut self, request: &Request, now: Timestamp) -> Response {
        let form: HashMap<_, _> = request.form().into_iter().collect();
        let sent = |name: &str| form.get(name).map(String::as_str);
        let known = match sent("grant_type") {
            Some("password") => {
                let fits = sent("username") == Some(&self.username)
                    && sent("password") == Some(&self.password)
                    && sent("domain") == self.domain.as_deref();
                self.logins += usize::from(fits && !self.locked);
                fits
            }
            Some("refresh_token") => {
                let token = sent("refresh_token").unwrap_or_default();
                let fits = self.tokens.refresh.remove(token);
                self.refreshed += usize::from(fits && !self.locked);
                fits
            }
            _ => false,
        };
        if !known || self.locked {
            return Response::json(400, &json!({"error": "Login failed."}));
        }
        let token = random();
        let until = now + Duration::from_secs(self.token_life);
        self.tokens.until.insert(token.clone(), until);
        let mut body = json!({"access_token": token, "token_type": "bearer"});
        body["expires_in"] = self.expires_in.clone();
        if self.refreshes {
            let refresh = random();
            self.tokens.refresh.insert(refresh.clone());
            body["refresh_token"] = refresh.into();
        }
        Response::json(200, &body)
    }
}

fn random() -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("random bytes");
    format!("canary-token-{}", HEXLOWER.encode(&bytes))
}
