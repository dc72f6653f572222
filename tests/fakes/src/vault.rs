//! A stand-in for HashiCorp Vault and OpenBao: KV of both versions, a database engine, AppRole and
//! certificates, tokens with their leases, response wrapping, policies, namespaces, the seal.
//!
//! Paths in this interface are as in a request without `/v1/`, with the namespace in front.

mod acl;
mod answer;
mod approle;
mod cert;
mod database;
mod kv1;
mod kv2;
mod leases;
mod sys;
mod tokens;
mod wrapping;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use self::answer::{Answer, Outcome, refuse};
use super::{App, Request, Response};

pub use self::acl::Rule;
pub use self::approle::AppRole;
pub use self::cert::CertRole;
pub use self::database::{Event, Role};
pub use self::tokens::NewToken;

/// The whole server. Everything but its faults is changed by [`act`](Self::act), as an operator would.
pub struct Vault {
    namespaces: BTreeSet<String>,
    mounts: BTreeMap<String, Engine>,
    auths: BTreeMap<String, AuthMethod>,
    tokens: tokens::Tokens,
    leases: BTreeMap<String, leases::Lease>,
    wrapped: BTreeMap<String, wrapping::Wrapped>,
    policies: BTreeMap<String, Vec<Rule>>,
    root: String,
    hook: Option<Hook>,
    /// Whether it is sealed.
    pub sealed: bool,
    /// The address of the active node, where this one is a standby that does not forward.
    pub standby: Option<String>,
    /// How many seconds callers are to wait, where a rate limit is exceeded.
    pub rate_limited: Option<u64>,
    /// What it counted.
    pub counted: Counted,
}

/// What the stand-in counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Answers with a value in them, credentials included.
    pub values: usize,
    /// Credentials that the database engine made.
    pub minted: usize,
    /// Successful logins.
    pub logins: usize,
    /// Refused logins.
    pub refused_logins: usize,
    /// Renewals of a token by itself.
    pub token_renewals: usize,
    /// Wrapped answers that were unwrapped.
    pub unwrapped: usize,
    /// Requests without `X-Vault-Request: true`.
    pub unmarked: usize,
}

/// What is told of every user that the database engine makes, renews and removes.
pub type Hook = Box<dyn FnMut(Event) + Send>;

/// What is mounted.
pub(crate) enum Engine {
    Kv1(kv1::Store),
    Kv2(kv2::Store),
    Database(database::Database),
}

/// A way to log in.
pub(crate) enum AuthMethod {
    AppRole(approle::Roles),
    Cert(cert::Roles),
}

/// One request, as far as it is understood.
pub(crate) struct Call<'a> {
    verb: Verb,
    namespace: String,
    /// With the namespace in front.
    path: String,
    query: &'a [(String, String)],
    body: Value,
    certificate: Option<&'a [u8]>,
    /// The token that it came with, where that is alive.
    token: Option<String>,
    now: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    List,
    Write,
    Patch,
    Delete,
}

impl Vault {
    /// A new one: KV v2 at `secret`, AppRole and certificates, nothing in them, not sealed.
    #[must_use]
    pub fn new() -> Self {
        let mut vault = Self {
            namespaces: BTreeSet::new(),
            mounts: BTreeMap::new(),
            auths: BTreeMap::new(),
            tokens: tokens::Tokens::default(),
            leases: BTreeMap::new(),
            wrapped: BTreeMap::new(),
            policies: BTreeMap::new(),
            root: String::new(),
            hook: None,
            sealed: false,
            standby: None,
            rate_limited: None,
            counted: Counted::default(),
        };
        let root = NewToken {
            policies: vec!["root".into()],
            ..NewToken::default()
        };
        vault.root = vault.token(root, Timestamp::now());
        vault.mount("secret", "kv2");
        vault.enable_auth("approle", "approle");
        vault.enable_auth("cert", "cert");
        vault
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root
    }

    /// Adds a namespace.
    pub fn namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
    }

    /// Mounts an empty engine: `kv1`, `kv2` or `database`.
    ///
    /// # Panics
    /// When there is no such engine.
    pub fn mount(&mut self, path: &str, engine: &str) {
        let engine = match engine {
            "kv1" => Engine::Kv1(kv1::Store::default()),
            "kv2" => Engine::Kv2(kv2::Store::default()),
            "database" => Engine::Database(database::Database::default()),
            _ => panic!("no engine {engine}"),
        };
        self.mounts.insert(path.to_owned(), engine);
    }

    /// Adds a way to log in: `approle` or `cert`, at `auth/PATH`.
    ///
    /// # Panics
    /// When there is no such method.
    pub fn enable_auth(&mut self, path: &str, method: &str) {
        let method = match method {
            "approle" => AuthMethod::AppRole(approle::Roles::default()),
            "cert" => AuthMethod::Cert(cert::Roles::default()),
            _ => panic!("no auth method {method}"),
        };
        self.auths.insert(path.to_owned(), method);
    }

    /// Sets a policy.
    pub fn policy(&mut self, name: &str, rules: &[Rule]) {
        self.policies.insert(name.to_owned(), rules.to_vec());
    }

    /// Makes a token.
    pub fn token(&mut self, new: NewToken, now: Timestamp) -> String {
        self.tokens.create(new, now).id.clone()
    }

    /// Whom to tell of database users.
    pub fn on_user(&mut self, hook: impl FnMut(Event) + Send + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// Does what a request of the root token would do, sealed or not. Counts nothing.
    ///
    /// # Panics
    /// When it is refused: the message is the answer.
    pub fn act(&mut self, method: &str, path: &str, body: Value, now: Timestamp) -> Value {
        let counted = self.counted;
        let call = Call {
            verb: verb(&method.parse().expect("a method"), None).expect("a verb"),
            namespace: self.namespace_of(path),
            path: path.to_owned(),
            query: &[],
            body,
            certificate: None,
            token: Some(self.root.clone()),
            now,
        };
        let outcome = self.dispatch(&call);
        self.counted = counted;
        match outcome {
            Ok(answer) => answer.body.unwrap_or(Value::Null),
            Err(answer) => panic!("{method} {path}: {:?}", answer.body),
        }
    }

    fn serve(&mut self, request: &Request, now: Timestamp) -> Outcome {
        let segments = request.segments();
        let path = match segments.split_first() {
            Some((first, rest)) if first == "v1" => rest.join("/"),
            _ => return refuse(404, &[]),
        };
        if let Some(answer) = self.before(&path, request, now) {
            return answer;
        }
        let given = request.header("x-vault-namespace").unwrap_or_default();
        let path = match given.trim_matches('/') {
            "" => path,
            namespace => format!("{namespace}/{path}"),
        };
        let namespace = self.namespace_of(&path);
        let Some(verb) = verb(&request.method, request.query("list")) else {
            return refuse(405, &["unsupported operation"]);
        };
        let bearer = request.header("authorization");
        let token = request
            .header("x-vault-token")
            .or_else(|| bearer.and_then(|text| text.strip_prefix("Bearer ")));
        let call = Call {
            verb,
            namespace,
            path,
            query: &request.query,
            body: request.json(),
            certificate: request.certificate.as_deref(),
            token: token.map(str::to_owned),
            now,
        };
        self.authorize(&call)?;
        let answer = self.dispatch(&call)?;
        match request.header("x-vault-wrap-ttl") {
            Some(ttl) => self.wrap(&call, ttl, answer),
            None => Ok(answer),
        }
    }

    /// What holds whatever the path: the seal, standby nodes, rate limits.
    fn before(&self, path: &str, request: &Request, now: Timestamp) -> Option<Outcome> {
        if let Some(answer) = self.health(path, request, now) {
            return Some(Ok(answer));
        }
        if self.sealed && path != "sys/unseal" {
            return Some(refuse(503, &["Vault is sealed"]));
        }
        if let Some(active) = &self.standby {
            let query: Vec<_> = request
                .query
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let location = format!("{active}{}?{}", request.path, query.join("&"));
            return Some(Ok(Answer::redirect(
                location.trim_end_matches('?').to_owned(),
            )));
        }
        if let Some(seconds) = self.rate_limited {
            let text = format!("request path {path:?}: rate limit quota exceeded");
            let mut answer = Answer::errors(429, &[&text]);
            answer.retry_after = Some(seconds);
            return Some(Err(answer));
        }
        None
    }

    fn dispatch(&mut self, call: &Call<'_>) -> Outcome {
        let local = call.local();
        match local.split('/').collect::<Vec<_>>().as_slice() {
            ["sys", "wrapping", rest @ ..] => return self.wrapping(call, rest),
            ["sys", "leases", rest @ ..] => return self.leases(call, rest),
            ["sys", rest @ ..] => return self.sys(call, rest),
            ["auth", "token", rest @ ..] => return self.token_api(call, rest),
            _ => {}
        }
        let (kind, path) = match local.strip_prefix("auth/") {
            Some(rest) => ("auth", call.global(rest)),
            None => ("mount", call.path.clone()),
        };
        let mounts: Vec<&String> = match kind {
            "auth" => self.auths.keys().collect(),
            _ => self.mounts.keys().collect(),
        };
        let of = |mount: &&&String| {
            path.strip_prefix(mount.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let Some(mount) = mounts.iter().filter(of).max_by_key(|mount| mount.len()) else {
            let text = format!("no handler for route {local:?}. route entry not found.");
            return refuse(404, &[&text]);
        };
        let mount = (*mount).clone();
        let rest = path.get(mount.len() + 1..).unwrap_or_default().to_owned();
        if kind == "auth" {
            match self.auths.get(&mount) {
                Some(AuthMethod::AppRole(_)) => self.approle(call, &mount, &rest),
                Some(AuthMethod::Cert(_)) => self.cert(call, &mount, &rest),
                None => refuse(404, &[]),
            }
        } else {
            match self.mounts.get_mut(&mount) {
                Some(Engine::Kv1(store)) => store.answer(call, &rest, &mut self.counted),
                Some(Engine::Kv2(store)) => store.answer(call, &rest, &mut self.counted),
                Some(Engine::Database(_)) => self.database(call, &mount, &rest),
                None => refuse(404, &[]),
            }
        }
    }

    fn namespace_of(&self, path: &str) -> String {
        let of = |namespace: &&String| {
            path.strip_prefix(namespace.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let mut namespaces: Vec<_> = self.namespaces.iter().filter(of).collect();
        namespaces.sort_by_key(|namespace| namespace.len());
        namespaces.pop().cloned().unwrap_or_default()
    }
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}

impl App for Vault {
    fn answer(&mut self, request: &Request, now: Timestamp) -> Response {
        self.expire(now);
        if request.header("x-vault-request") != Some("true") {
            self.counted.unmarked += 1;
        }
        match self.serve(request, now) {
            Ok(answer) | Err(answer) => answer.into_response(),
        }
    }
}

impl Call<'_> {
    /// The path within its namespace.
    fn local(&self) -> &str {
        let rest = self.path.strip_prefix(&self.namespace);
        rest.unwrap_or(&self.path).trim_start_matches('/')
    }

    /// A path of this namespace, with it in front.
    fn global(&self, local: &str) -> String {
        match self.namespace.as_str() {
            "" => local.to_owned(),
            namespace => format!("{namespace}/{local}"),
        }
    }

    fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn text(&self, name: &str) -> &str {
        self.body
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

fn verb(method: &Method, list: Option<&str>) -> Option<Verb> {
    match method.as_str() {
        "GET" | "HEAD" if list.is_some_and(is_true) => Some(Verb::List),
        "GET" | "HEAD" => Some(Verb::Read),
        "LIST" => Some(Verb::List),
        "POST" | "PUT" => Some(Verb::Write),
        "PATCH" => Some(Verb::Patch),
        "DELETE" => Some(Verb::Delete),
        _ => None,
    }
}

/// As Go reads it: the official Python client says `True`.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// So many random bytes, as hexadecimal digits.
fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("randomness");
    data_encoding::HEXLOWER.encode(&random)
}

fn uuid() -> String {
    let digits = random(16);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 2);
    now.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn seconds_until(end: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(end.duration_since(now).as_secs()).unwrap_or(0)
}

/// A duration as people write it: seconds, or with a unit.
fn seconds(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let unit = |suffix: &str, factor: u64| {
        let number: u64 = text.strip_suffix(suffix)?.parse().ok()?;
        Some(number * factor)
    };
    text.parse()
        .ok()
        .or_else(|| unit("s", 1))
        .or_else(|| unit("m", 60))
        .or_else(|| unit("h", 3600))
}
