//! A stand-in for Delinea (Thycotic) Secret Server, as far as a reader of secrets meets it.
//!
//! Known of the original, and so here: what is absent and what is denied have one answer; a plain read
//! checks a secret out; every read leaves a line in its audit; a password may change at check-in.

mod checkout;
mod folders;
mod reading;
mod search;
mod store;
mod token;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::store::{Folder, naive};
pub use self::store::{Item, ItemKind, Stored};
use self::token::Tokens;
use super::{App, Request, Response};

/// The stand-in. What is public may be changed at any time.
pub struct SecretServer {
    /// The hub's account there.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Its domain, which a login has to name.
    pub domain: Option<String>,
    /// How long tokens live, in seconds.
    pub token_life: u64,
    /// What logins say of that: a number, or a text as some versions write it.
    pub expires_in: Value,
    /// Whether tokens come with one to refresh them by.
    pub refreshes: bool,
    /// Whether logins are refused.
    pub locked: bool,
    /// The status that a dead token gets: 401 or 403.
    pub dead_token: u16,
    /// Whether `GET /api/v1/secrets/{id}` is there; `/api/v2` always is.
    pub has_v1_read: bool,
    /// Whether the account may see audits.
    pub audits_permitted: bool,
    /// Whether a check-out may be made longer.
    pub extendable: bool,
    /// The most records in one page.
    pub page: u64,
    /// Values given so far: whole secrets and single fields.
    pub values_given: usize,
    /// Check-outs so far, the unintended ones included.
    pub checkouts: usize,
    /// Logins that succeeded, refreshes not counted.
    pub logins: usize,
    /// Refreshes that succeeded.
    pub refreshed: usize,
    tokens: Tokens,
    folders: Vec<Folder>,
    secrets: Vec<Stored>,
    audits: u64,
}

/// The account that the hub logs in as.
pub const HUB_USER: i64 = 7;
/// Somebody else.
pub const OTHER_USER: i64 = 9;

impl SecretServer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            username: "svc-edge".into(),
            password: "fake-password-&=+ä".into(),
            domain: Some("ad.example.com".into()),
            token_life: 1200,
            expires_in: json!(1200),
            refreshes: false,
            locked: false,
            dead_token: 401,
            has_v1_read: true,
            audits_permitted: true,
            extendable: true,
            page: 500,
            values_given: 0,
            checkouts: 0,
            logins: 0,
            refreshed: 0,
            tokens: Tokens::default(),
            folders: Vec::new(),
            secrets: Vec::new(),
            audits: 0,
        }
    }

    /// Ends every token, as a restart of the original does.
    pub fn end_tokens(&mut self) {
        self.tokens = Tokens::default();
    }

    fn route(&mut self, request: &Request, now: Timestamp) -> Response {
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let Some((&BASE, path)) = path.split_first() else {
            return page_for_people();
        };
        let post = request.method == Method::POST;
        match path {
            ["oauth2", "token"] if post => self.grant(request, now),
            ["api", "v1", "healthcheck"] => Response::json(200, &json!({"Healthy": true})),
            ["api", version @ ("v1" | "v2"), rest @ ..] => {
                if !self.tokens.is_alive(request, now) {
                    let body = json!({"message": "Authentication failed."});
                    return Response::json(self.dead_token, &body);
                }
                self.end_checkouts(now);
                let first = *version == "v1";
                match rest {
                    ["secrets", rest @ ..] => self.secrets(request, first, rest, now),
                    ["folders", rest @ ..] if first => self.folders(request, rest),
                    ["secret-access-requests", "secrets", id, "view-comment"] if first && post => {
                        self.view_comment(request, id)
                    }
                    _ => no_route(),
                }
            }
            _ => page_for_people(),
        }
    }

    fn secrets(
        &mut self,
        request: &Request,
        first: bool,
        rest: &[&str],
        now: Timestamp,
    ) -> Response {
        let post = request.method == Method::POST;
        match rest {
            [] if !post => self.search(request, false),
            ["lookup"] if first => self.search(request, true),
            ["search-total"] if first => self.search_total(request),
            [id] if !post && (!first || self.has_v1_read) => self.whole(request, id, now),
            [_] => no_route(),
            _ if !first => no_route(),
            [id, "summary"] => self.with_id(id, |secret, _| Response::json(200, &secret.summary())),
            [id, "state"] => self.with_id(id, |secret, _| Response::json(200, &secret.state(now))),
            [id, "audits"] => self.audits(request, id),
            [id, "restricted"] if post => self.whole(request, id, now),
            [id, "fields", slug] if !post => self.field(request, id, slug, now),
            [id, "restricted", "fields", slug] if post => self.field(request, id, slug, now),
            [id, "check-out"] if post => self.check_out(id, now),
            [id, "check-in"] if post => self.check_in(id, now),
            [id, "extend-check-out"] if post => self.extend(request, id, now),
            _ => no_route(),
        }
    }

    /// The secret of this id, if it is there and the account may see it.
    fn with_id(
        &mut self,
        id: &str,
        answer: impl FnOnce(&mut Stored, &mut Counters<'_>) -> Response,
    ) -> Response {
        let Ok(id) = id.parse::<u64>() else {
            return no_route();
        };
        let mut counters = Counters {
            values_given: &mut self.values_given,
            checkouts: &mut self.checkouts,
            audits: &mut self.audits,
        };
        let mut secrets = self.secrets.iter_mut();
        match secrets.find(|secret| secret.id == id && secret.visible) {
            Some(secret) => answer(secret, &mut counters),
            None => access_denied(),
        }
    }
}

impl Default for SecretServer {
    fn default() -> Self {
        Self::new()
    }
}

impl App for SecretServer {
    fn answer(&mut self, request: &Request, now: Timestamp) -> Response {
        self.route(request, now)
    }
}

struct Counters<'a> {
    values_given: &'a mut usize,
    checkouts: &'a mut usize,
    audits: &'a mut u64,
}

impl Counters<'_> {
    fn note(&mut self, secret: &mut Stored, action: &str, by: &str, now: Timestamp) {
        *self.audits += 1;
        secret.audits.push(json!({
            "id": *self.audits,
            "action": action,
            "byUserDisplayName": by,
            "dateRecorded": naive(now),
            "notes": "",
            "ticketNumber": null,
        }));
    }
}

/// What is absent and what is denied.
fn access_denied() -> Response {
    refused("API_AccessDenied", "Access Denied")
}

fn refused(code: &str, message: &str) -> Response {
    Response::json(400, &json!({"message": message, "errorCode": code}))
}

fn bad_request(message: &str) -> Response {
    Response::json(400, &json!({"message": message}))
}

fn no_route() -> Response {
    let message = "No HTTP resource was found that matches the request URI.";
    Response::json(404, &json!({"message": message}))
}

fn page_for_people() -> Response {
    Response::text(404, "text/html", "<html><body>Not found</body></html>")
}

/// A part of `all`, as this request wants it.
fn paged(request: &Request, largest: u64, all: Vec<Value>) -> Response {
    let asked = |name: &str| {
        let prefixed = format!("paging.{name}");
        let text = request.query(name).or_else(|| request.query(&prefixed))?;
        text.parse::<u64>().ok()
    };
    let total = all.len() as u64;
    let (skip, take) = (asked("skip").unwrap_or(0), asked("take").unwrap_or(10));
    let take = take.min(largest);
    let records: Vec<_> = all
        .into_iter()
        .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        .take(usize::try_from(take).unwrap_or(usize::MAX))
        .collect();
    let end = skip + records.len() as u64;
    let more = end < total && !records.is_empty();
    let body = json!({
        "skip": skip,
        "take": take,
        "total": total,
        "batchCount": records.len(),
        "hasNext": more,
        "hasPrev": skip > 0,
        "nextSkip": if more { end } else { 0 },
        "prevSkip": skip.saturating_sub(take),
        "records": records,
        "sortBy": [],
        "success": true,
        "severity": "None",
    });
    Response::json(200, &body)
}

const BASE: &str = "SecretServer";
