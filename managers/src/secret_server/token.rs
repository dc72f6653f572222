//! The hub's token at the manager: one login at a time, renewed before it ends, and no login right
//! after one that was refused.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge_secrets_protocol::Secret;
use http::Method;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::errors::{not_there, refusal, unauthenticated};
use super::model::Grant;
use crate::credential::CredentialFile;
use crate::http::{HttpClient, Reply, Request};
use crate::route::at;
use crate::{Fault, ManagerError};

/// Who logs in.
pub(super) struct Account {
    pub(super) username: CredentialFile,
    pub(super) password: CredentialFile,
    pub(super) domain: Option<String>,
}

/// A token that was given.
pub(super) struct Token {
    pub(super) text: Secret,
    /// Which one it is.
    serial: u64,
    renew_at: Instant,
    ends_at: Instant,
}

/// The one token of all calls.
pub(super) struct Session {
    account: Account,
    /// Logins that failed: who waited for one of them has its answer.
    failures: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    token: Option<Arc<Token>>,
    refresh: Option<Secret>,
    serial: u64,
    /// Why the last login failed.
    failed: Option<ManagerError>,
    /// When one was refused.
    refused: Option<Instant>,
    /// When a token was last replaced because of an answer of 403.
    denied: Option<Instant>,
}

impl Session {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            failures: AtomicU64::new(0),
            now: Mutex::default(),
        }
    }

    /// A token that is good for a while.
    pub(super) async fn token(&self, http: &HttpClient) -> Result<Arc<Token>, ManagerError> {
        let before = self.failures.load(Ordering::SeqCst);
        let mut now = self.now.lock().await;
        let old = now.token.clone();
        if let Some(token) = &old
            && Instant::now() < token.renew_at
        {
            return Ok(Arc::clone(token));
        }
        match self.renew(http, &mut now, before).await {
            Ok(token) => Ok(token),
            // It has not ended yet: trouble with its renewal is none of today's callers.
            Err(error) => old.filter(|old| Instant::now() < old.ends_at).ok_or(error),
        }
    }

    /// Another token, instead of one that the manager refused with this answer. `None` when the answer
    /// means something else than that.
    pub(super) async fn instead_of(
        &self,
        http: &HttpClient,
        refused: &Token,
        reply: &Reply,
    ) -> Result<Option<Arc<Token>>, ManagerError> {
        let before = self.failures.load(Ordering::SeqCst);
        let mut now = self.now.lock().await;
        if let Some(token) = &now.token
            && token.serial != refused.serial
        {
            return Ok(Some(Arc::clone(token)));
        }
        if reply.status == 403 {
            // Whoever may not do something may not do it with another token either.
            let recently = |at: Instant| at.elapsed() < DENIED_AGAIN;
            if now.denied.is_some_and(recently) {
                return Ok(None);
            }
            now.denied = Some(Instant::now());
        }
        // What the manager forgot, it does not refresh either.
        now.token = None;
        now.refresh = None;
        self.renew(http, &mut now, before).await.map(Some)
    }

    /// Says that even a new token was refused: the next login waits.
    pub(super) async fn was_refused(&self) {
        let mut now = self.now.lock().await;
        now.token = None;
        now.refresh = None;
        now.refused = Some(Instant::now());
    }

    async fn renew(
        &self,
        http: &HttpClient,
        now: &mut Now,
        before: u64,
    ) -> Result<Arc<Token>, ManagerError> {
        if self.failures.load(Ordering::SeqCst) != before
            && let Some(error) = &now.failed
        {
            return Err(error.clone());
        }
        match self.granted(http, now).await {
            Ok(grant) => {
                now.failed = None;
                now.refused = None;
                Ok(keep(now, grant))
            }
            Err(error) => {
                if error.fault == Fault::Unauthenticated {
                    now.refused = Some(Instant::now());
                }
                now.failed = Some(error.clone());
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    async fn granted(&self, http: &HttpClient, now: &mut Now) -> Result<Granted, ManagerError> {
        // Taken out: a refresh token is good once.
        if let Some(refresh) = now.refresh.take() {
            let form = [
                ("grant_type", REFRESH.as_bytes()),
                ("refresh_token", refresh.expose()),
            ];
            match ask(http, &form).await {
                Err(error) if error.fault == Fault::Unauthenticated => {}
                answer => return answer,
            }
        }
        if let Some(at) = now.refused {
            sleep_until(at + AFTER_A_REFUSAL).await;
        }
        let username = read(&self.account.username)?;
        let password = read(&self.account.password)?;
        let mut form = vec![
            ("grant_type", PASSWORD.as_bytes()),
            ("username", username.expose()),
            ("password", password.expose()),
        ];
        if let Some(domain) = &self.account.domain {
            form.push(("domain", domain.as_bytes()));
        }
        ask(http, &form).await
    }
}

/// A grant, and when it was asked for.
struct Granted {
    asked: Instant,
    life: Duration,
    token: Secret,
    refresh: Option<Secret>,
}

fn keep(now: &mut Now, granted: Granted) -> Arc<Token> {
    now.serial += 1;
    now.refresh = granted.refresh;
    let token = Arc::new(Token {
        text: granted.token,
        serial: now.serial,
        renew_at: granted.asked + granted.life.mul_f64(RENEW_AT),
        ends_at: granted.asked + granted.life,
    });
    now.token = Some(Arc::clone(&token));
    token
}

async fn ask(http: &HttpClient, form: &[(&str, &[u8])]) -> Result<Granted, ManagerError> {
    let asked = Instant::now();
    let request = Request::new(Method::POST, at("/oauth2/token", &[]));
    let reply = http
        .send(request.body("application/x-www-form-urlencoded", encoded(form)))
        .await?;
    match reply.status {
        200..300 => {}
        400 | 401 | 403 => return Err(refused(reply.status)),
        404 => return Err(not_there(404)),
        _ => return Err(refusal(&reply, "the login")),
    }
    let grant: Grant = reply.json()?;
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let life = grant
        .expires_in
        .get()
        .filter(|_| !grant.access_token.expose().is_empty());
    let life = life.ok_or_else(|| {
        ManagerError::new(
            Fault::Malformed,
            "its answer to the login has no token with a life",
        )
    })?;
    Ok(Granted {
        asked,
        life: Duration::from_secs(life.min(LONGEST)),
        token: secret(grant.access_token.expose()),
        refresh: grant.refresh_token.map(|text| secret(text.expose())),
    })
}

fn refused(status: u16) -> ManagerError {
    let text = format!(
        "it refuses the hub's login (status {status}): check username, password and domain, that the \
         account is an application account without a second factor, and that it is not locked"
    );
    // Each refused login counts towards the account's lock.
    unauthenticated(&text).after(Some(WAIT_FOR_PEOPLE))
}

fn read(file: &CredentialFile) -> Result<Secret, ManagerError> {
    file.read().map_err(|why| {
        unauthenticated(&format!(
            "the hub's credential for it cannot be read: {why}"
        ))
    })
}

/// A form's body.
fn encoded(form: &[(&str, &[u8])]) -> Secret {
    let longest = form
        .iter()
        .map(|(name, value)| name.len() + 3 * value.len() + 2);
    // The final capacity at once: a growing text would leave copies behind.
    let mut body = Zeroizing::new(String::with_capacity(longest.sum()));
    for (name, value) in form {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        for byte in *value {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                body.push(char::from(*byte));
            } else {
                write!(body, "%{byte:02X}").ok();
            }
        }
    }
    Secret::new(body.as_bytes().to_vec())
}

const PASSWORD: &str = "password";
const REFRESH: &str = "refresh_token";
/// The part of its life after which a token is replaced.
const RENEW_AT: f64 = 0.8;
/// Longest life of a token that is believed, in seconds.
const LONGEST: u64 = 24 * 60 * 60;
/// How long no login follows one that was refused.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(1);
/// How long the hub as a whole should leave it alone then.
const WAIT_FOR_PEOPLE: Duration = Duration::from_secs(30);
/// How long an answer of 403 is not blamed on the token again.
const DENIED_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_byte_by_byte() {
        let body = encoded(&[("a", b"x y&=%+"), ("b", "ü".as_bytes()), ("c", b"")]);
        assert_eq!(body.expose(), b"a=x%20y%26%3D%25%2B&b=%C3%BC&c=");
    }
}
