//! Tokens for the hub's API key: one exchange for all who wait, early enough, and never in a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_secrets_protocol::Secret;
use http::Method;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::api::date_of;
use crate::credential::CredentialFile;
use crate::http::{HttpClient, Reply, Request};
use crate::payload::SecretText;
use crate::route::at;
use crate::{Fault, ManagerError};

/// The hub's side of IAM.
pub(super) struct Iam {
    http: HttpClient,
    api_key: CredentialFile,
    /// How many exchanges ended so far: who came before one ended shares how it ended.
    ended: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    failure: Option<ManagerError>,
    /// When the hub was last not let in.
    refused: Option<Instant>,
}

/// A token. It has no `Debug`.
pub(super) struct Token {
    pub(super) text: Secret,
    refresh: Instant,
    end: Instant,
}

impl Iam {
    pub(super) fn new(http: HttpClient, api_key: CredentialFile) -> Self {
        Self {
            http,
            api_key,
            ended: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// A token that is good for a while.
    pub(super) async fn token(&self) -> Result<Arc<Token>, ManagerError> {
        let seen = self.ended.load(Ordering::SeqCst);
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| now < token.refresh) {
            return Ok(Arc::clone(token));
        }
        let failed_meanwhile = self.ended.load(Ordering::SeqCst) != seen;
        if let Some(failure) = state.failure.clone().filter(|_| failed_meanwhile) {
            return alive(&state, now).ok_or(failure);
        }
        if let Some(refused) = state.refused {
            tokio::time::sleep_until((refused + PAUSE).into()).await;
        }
        let answer = self.exchange().await;
        self.ended.fetch_add(1, Ordering::SeqCst);
        match answer {
            Ok(token) => {
                let token = Arc::new(token);
                state.token = Some(Arc::clone(&token));
                (state.failure, state.refused) = (None, None);
                Ok(token)
            }
            Err(failure) => {
                if failure.fault == Fault::Unauthenticated {
                    (state.token, state.refused) = (None, Some(Instant::now()));
                }
                state.failure = Some(failure.clone());
                alive(&state, Instant::now()).ok_or(failure)
            }
        }
    }

    /// The service did not take this token: nobody gets it again.
    pub(super) async fn forget(&self, token: &Arc<Token>) {
        let mut state = self.state.lock().await;
        if state
            .token
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, token))
        {
            state.token = None;
        }
    }

    /// Nor did it take the one that came instead: the next exchange waits.
    pub(super) async fn refused(&self, token: &Arc<Token>) {
        self.forget(token).await;
        self.state.lock().await.refused = Some(Instant::now());
    }

    async fn exchange(&self) -> Result<Token, ManagerError> {
        let key = self.api_key.read().map_err(|why| {
            ManagerError::new(
                Fault::Unauthenticated,
                format!("the hub's API key cannot be read: {why}"),
            )
        })?;
        let request = Request::new(Method::POST, at("/identity/token", &[]))
            .body("application/x-www-form-urlencoded", form(&key));
        let before = Instant::now();
        let reply = self.http.send(request).await?;
        if !reply.is_success() {
            return Err(refusal(&reply));
        }
        let grant: Grant = reply.json()?;
        let life = grant.life(&reply).ok_or_else(|| {
            ManagerError::new(
                Fault::Malformed,
                "IAM's answer does not say how long it is good",
            )
        })?;
        let text = Secret::new(grant.access_token.expose().as_bytes().to_vec());
        Ok(Token::new(text, before, life))
    }
}

impl Token {
    fn new(text: Secret, granted: Instant, life: Duration) -> Self {
        Self {
            text,
            refresh: granted + life * 4 / 5,
            end: granted + life,
        }
    }
}

#[derive(Deserialize)]
struct Grant {
    access_token: SecretText,
    expires_in: Option<u64>,
    expiration: Option<i64>,
}

impl Grant {
    fn life(&self, reply: &Reply) -> Option<Duration> {
        let left = || {
            let left = self.expiration?.checked_sub(date_of(reply).as_second())?;
            u64::try_from(left).ok()
        };
        let seconds = self.expires_in.or_else(left)?;
        Some(Duration::from_secs(seconds.min(LONGEST)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    error_code: String,
}

/// A refresh that failed does not end a token that is still good.
fn alive(state: &State, now: Instant) -> Option<Arc<Token>> {
    let token = state.token.as_ref().filter(|token| now < token.end)?;
    Some(Arc::clone(token))
}

fn refusal(reply: &Reply) -> ManagerError {
    let status = reply.status;
    // IBM's codes and nothing else of the body.
    let code = reply
        .json_or_none::<Refusal>()
        .map(|refusal| refusal.error_code)
        .filter(|code| {
            code.len() <= 12
                && code.starts_with("BXNIM")
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
        .map_or_else(
            || format!("status {status}"),
            |code| format!("status {status}, {code}"),
        );
    let (fault, what) = match status {
        400 | 401 | 403 => (
            Fault::Unauthenticated,
            "IAM does not take the hub's API key: was it deleted, disabled or locked?",
        ),
        429 => (Fault::RateLimited, "IAM wants fewer calls"),
        500..=599 => (Fault::Unavailable, "IAM cannot give a token now"),
        _ => (
            Fault::Malformed,
            "IAM's answer is none: is `iam_url` IAM's address?",
        ),
    };
    ManagerError::new(fault, format!("{what} ({code})")).after(reply.retry_after())
}

fn form(key: &Secret) -> Secret {
    // The final capacity at once: a growing vector would leave copies behind.
    let mut form = Vec::with_capacity(GRANT.len() + 3 * key.len());
    form.extend_from_slice(GRANT.as_bytes());
    for byte in key.expose() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            form.push(*byte);
        } else {
            form.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    Secret::new(form)
}

fn hex(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    }
}

/// Between being refused and asking again.
const PAUSE: Duration = Duration::from_secs(1);
/// No token is believed to live longer than a day, in seconds.
const LONGEST: u64 = 86_400;
const GRANT: &str = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_in_its_place_of_the_form() {
        let form = form(&Secret::new(b"a b&c=d+\xff".to_vec()));
        let text = std::str::from_utf8(form.expose()).unwrap();
        assert_eq!(text.strip_prefix(GRANT), Some("a%20b%26c%3Dd%2B%FF"));
    }

    #[test]
    fn a_token_is_refreshed_at_four_fifths_and_used_to_its_end() {
        let (now, life) = (Instant::now(), Duration::from_secs(3600));
        let token = Arc::new(Token::new(Secret::new(b"t".to_vec()), now, life));
        assert_eq!(token.refresh - now, Duration::from_secs(2880));
        let state = State {
            token: Some(token),
            ..State::default()
        };
        assert!(alive(&state, now + Duration::from_secs(3599)).is_some());
        assert!(alive(&state, now + life).is_none());
    }
}
