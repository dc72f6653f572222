//! IAM: tokens for the API key, and the API keys that Secrets Manager makes.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde_json::json;

use super::answers::{Refusal, random, refuse, uuid};
use crate::{Request, Response};

/// An account at IAM.
pub struct Account {
    /// The API key that lets in.
    pub api_key: String,
    /// How long a token lives.
    pub token_life: Duration,
    /// What is said of that life, where that is another.
    pub announced_life: Option<Duration>,
    /// Whether nobody is let in, whatever they send.
    pub locked_out: bool,
    /// How many times an API key was brought to the token endpoint.
    pub exchanges: usize,
    /// How many keys were made.
    pub minted: usize,
    tokens: BTreeMap<String, Timestamp>,
    keys: BTreeMap<String, Timestamp>,
}

impl Account {
    pub(super) fn new(api_key: &str) -> Self {
        Self {
            api_key: api_key.into(),
            token_life: Duration::from_secs(3600),
            announced_life: None,
            locked_out: false,
            exchanges: 0,
            minted: 0,
            tokens: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Whether a key that was made still lets in.
    #[must_use]
    pub fn works(&self, key: &str, now: Timestamp) -> bool {
        self.keys.get(key).is_some_and(|end| now < *end)
    }

    /// Ends every token.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Every token that was given and not forgotten.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.keys().cloned().collect()
    }

    pub(super) fn make_key(&mut self, end: Timestamp) -> String {
        let key = format!("made-{}", random(24));
        self.keys.insert(key.clone(), end);
        self.minted += 1;
        key
    }

    pub(super) fn end_key(&mut self, key: &str) {
        self.keys.remove(key);
    }

    pub(super) fn token(&mut self, request: &Request, now: Timestamp) -> Response {
        self.exchanges += 1;
        let form = request.form();
        let field = |name: &str| {
            form.iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        if field("grant_type") != Some("urn:ibm:params:oauth:grant-type:apikey") {
            return refusal("BXNIM0109E", "Property missing or empty: grant_type.");
        }
        if self.locked_out || field("apikey") != Some(&self.api_key) {
            return refusal("BXNIM0415E", "Provided API key could not be found.");
        }
        let seconds = |life: Duration| i64::try_from(life.as_secs()).expect("a life");
        let life = seconds(self.announced_life.unwrap_or(self.token_life));
        let end = now.as_second() + life;
        let token = jwt(now.as_second(), end);
        let expiry = Timestamp::from_second(now.as_second() + seconds(self.token_life));
        self.tokens.insert(token.clone(), expiry.expect("a time"));
        Response::json(
            200,
            &json!({
                "access_token": token, "refresh_token": "not_supported", "token_type": "Bearer",
                "expires_in": life, "expiration": end, "scope": "ibm openid",
            }),
        )
    }

    pub(super) fn check(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let sent = request.header("authorization").unwrap_or_default();
        let token = sent.strip_prefix("Bearer ").unwrap_or_default();
        let alive = self.tokens.get(token).is_some_and(|end| now < *end);
        if self.locked_out || !alive {
            return Err(refuse(401, format!("the token {token} is not valid")));
        }
        Ok(())
    }
}

fn refusal(code: &str, message: &str) -> Response {
    let body = json!({
        "errorCode": code, "errorMessage": message,
        "context": { "requestId": uuid(), "url": "https://iam.cloud.ibm.com" },
    });
    Response::json(400, &body)
}

/// A token of the shape that clients look into.
fn jwt(issued: i64, end: i64) -> String {
    let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = part(json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = part(json!({ "iat": issued, "exp": end, "jti": uuid(), "iam_id": "iam-Fake" }));
    format!("{header}.{claims}.{}", random(16))
}
