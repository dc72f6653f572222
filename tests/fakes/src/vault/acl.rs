//! Policies: which token may do what where.

use super::answer::refuse;
use super::{Answer, Call, Vault, Verb};

/// What a policy allows on a path, or below it when that ends with `*`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The path, with the namespace in front.
    pub path: String,
    /// Of `read`, `list`, `create`, `update`, `patch`, `delete`.
    pub capabilities: Vec<String>,
}

impl Rule {
    /// A rule with comma-separated capabilities.
    #[must_use]
    pub fn new(path: &str, capabilities: &str) -> Self {
        Self {
            path: path.to_owned(),
            capabilities: capabilities.split(',').map(str::to_owned).collect(),
        }
    }
}

impl Vault {
    /// Lets a call through, or refuses it as the original does: without saying why.
    pub(super) fn authorize(&mut self, call: &Call<'_>) -> Result<(), Answer> {
        if is_open(call.local()) {
            return Ok(());
        }
        let denied = || refuse(403, &["1 error occurred:\n\t* permission denied\n\n"]).map(drop);
        let Some(token) = call.token.as_deref().and_then(|id| self.tokens.get(id)) else {
            return refuse(403, &["permission denied"]).map(drop);
        };
        let mut policies = token.policies.clone();
        if !call.path.starts_with(&token.namespace) {
            return denied();
        }
        if policies.iter().any(|name| name == "root") {
            return Ok(());
        }
        policies.push("default".into());
        if self.allows(&policies, call) {
            return Ok(());
        }
        denied()
    }

    /// The most exact rule decides.
    fn allows(&self, policies: &[String], call: &Call<'_>) -> bool {
        let wanted: &[&str] = match call.verb {
            Verb::Read => &["read"],
            Verb::List => &["list"],
            Verb::Write => &["create", "update"],
            Verb::Patch => &["patch"],
            Verb::Delete => &["delete"],
        };
        if policies.iter().any(|name| name == "default") && BY_DEFAULT.contains(&call.local()) {
            return true;
        }
        let rules = policies.iter().filter_map(|name| self.policies.get(name));
        let matching = rules.flatten().filter(|rule| {
            let path = call.path.trim_end_matches('/');
            match rule.path.strip_suffix('*') {
                Some(prefix) => call.path.starts_with(prefix),
                None => path == rule.path.trim_end_matches('/'),
            }
        });
        let best = matching.max_by_key(|rule| (rule.path.len(), !rule.path.ends_with('*')));
        best.is_some_and(|rule| {
            let mut given = rule.capabilities.iter();
            given.any(|capability| wanted.contains(&capability.as_str()))
        })
    }
}

fn is_open(path: &str) -> bool {
    let login = path.starts_with("auth/") && path.ends_with("/login");
    login || OPEN.contains(&path)
}

/// What works without a token.
const OPEN: [&str; 4] = [
    "sys/unseal",
    "sys/wrapping/lookup",
    "sys/wrapping/unwrap",
    "sys/seal-status",
];

/// What the policy `default` allows, as far as the stand-in has it. Not: to revoke a lease.
const BY_DEFAULT: [&str; 6] = [
    "auth/token/lookup-self",
    "auth/token/renew-self",
    "auth/token/revoke-self",
    "sys/leases/lookup",
    "sys/leases/renew",
    "sys/wrapping/wrap",
];
