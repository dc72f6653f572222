//! What the hub has, and what it says to what is to be published.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_hub::catalog::records::Role;
use edge_secrets_hub::policy::ServiceDefinition;
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{
    HubInfo, ManagedInfo, PatternInfo, PolicyInfo, Published, SecretInfo, ServiceInfo, paths,
};
use edge_secrets_protocol::{Code, OrgId, ServiceId, UserId};
use http::Method;
use serde_json::Value;

use super::super::{Session, secret};
use super::assemble::Identity;
use super::recognise::Kind;
use super::report::State;
use super::understand::{Document, Understood};
use crate::client::{Target, at};
use crate::error::Error;

/// What the hub has, by its names.
pub(super) struct Standing {
    services: Vec<ServiceInfo>,
    /// Who published what.
    policies: BTreeMap<String, UserId>,
    patterns: BTreeMap<String, UserId>,
    /// The names of patterns that are for other organisations too.
    public: BTreeSet<String>,
}

impl Standing {
    pub(super) async fn fetch(session: &mut Session<'_>) -> Result<Self, Error> {
        let org = session.client.org().clone();
        let services = session
            .client
            .get(at(paths::SERVICES, &[org.as_str()]))
            .await?;
        let policies: Vec<PolicyInfo> = session
            .client
            .get(at(paths::POLICIES, &[org.as_str()]))
            .await?;
        let owners = policies
            .into_iter()
            .map(|policy| (policy.name.to_string(), policy.owner));
        let patterns: Vec<PatternInfo> = session
            .client
            .get(at(paths::PATTERNS, &[org.as_str()]))
            .await?;
        let public = patterns.iter().filter(|pattern| pattern.public);
        let public = public.map(|pattern| pattern.name.to_string()).collect();
        let pattern_owners = patterns
            .into_iter()
            .filter_map(|pattern| Some((pattern.name.to_string(), pattern.owner?)));
        Ok(Self {
            services,
            policies: owners.collect(),
            patterns: pattern_owners.collect(),
            public,
        })
    }

    /// How a document stands against what the hub has.
    pub(super) async fn of(
        &self,
        one: &Understood,
        session: &mut Session<'_>,
    ) -> Result<State, Error> {
        let known = match one.identity() {
            Identity::Service(id, version, arch) => self.services.iter().any(|service| {
                service.url == id.url && service.version == version && service.arch == arch
            }),
            Identity::Policy(_) | Identity::Pattern(_) => self.owner(one).is_some(),
        };
        if !known {
            return Ok(State::New);
        }
        let target = document(&one.identity(), session.client.org());
        let mut there: Value = match session.client.get(target).await {
            Ok(there) => there,
            // It went meanwhile.
            Err(error) if error.code() == Some(Code::NotFound) => return Ok(State::New),
            Err(error) => return Err(error),
        };
        let own: Option<Value> = serde_json::from_str(&one.to_json()).ok();
        let brings_policy = own
            .as_ref()
            .is_some_and(|own| own.get(OWN_POLICY).is_some());
        // Publishing a definition without one leaves the service's own policy alone.
        if one.kind() == Kind::Service
            && !brings_policy
            && let Value::Object(there) = &mut there
        {
            there.remove(OWN_POLICY);
        }
        Ok(if own == Some(there) {
            State::Unchanged
        } else {
            State::Changed
        })
    }

    /// Whether the caller may put a policy or pattern in the place of what is there. Definitions are the
    /// hub's to say: it can be asked about them.
    pub(super) fn may_replace(&self, one: &Understood, info: &HubInfo) -> bool {
        info.role == Role::Admin || self.owner(one).is_none_or(|owner| *owner == info.user)
    }

    /// Whether the caller may publish this as far as others' nodes are concerned: a pattern that is public,
    /// or was, is an administrator's.
    pub(super) fn may_share(&self, one: &Understood, info: &HubInfo) -> bool {
        let is_public = match &one.document {
            Document::Pattern(name, pattern) => {
                pattern.is_public() || self.public.contains(name.as_str())
            }
            _ => false,
        };
        info.role == Role::Admin || !is_public
    }

    /// Who published the policy or pattern that is there.
    fn owner(&self, one: &Understood) -> Option<&UserId> {
        match one.identity() {
            Identity::Service(..) => None,
            Identity::Policy(name) => self.policies.get(name.as_str()),
            Identity::Pattern(name) => self.patterns.get(name.as_str()),
        }
    }

    /// The definitions of these services and of what they require, as far as the hub has them.
    pub(super) async fn definitions(
        &self,
        needed: BTreeSet<ServiceId>,
        session: &mut Session<'_>,
    ) -> Result<Vec<ServiceDefinition>, Error> {
        let org = session.client.org().clone();
        let mut by_url: BTreeMap<&str, Vec<&ServiceInfo>> = BTreeMap::new();
        for service in &self.services {
            by_url
                .entry(service.url.as_str())
                .or_default()
                .push(service);
        }
        let mut open: Vec<ServiceId> = needed.into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut definitions = Vec::new();
        while let Some(id) = open.pop() {
            if id.org != org || !seen.insert(id.clone()) {
                continue;
            }
            for info in by_url.get(id.url.as_str()).into_iter().flatten() {
                let identity =
                    Identity::Service(id.clone(), info.version.clone(), info.arch.clone());
                let there: Value = session.client.get(document(&identity, &org)).await?;
                // One that this version cannot read places nothing either.
                if let Ok(definition) = ServiceDefinition::parse(&there.to_string()) {
                    open.extend(definition.required().cloned());
                    definitions.push(definition);
                }
            }
        }
        Ok(definitions)
    }
}

/// Whether a secret is there that the caller may bind.
pub(super) async fn is_there(
    reference: &SecretRef,
    session: &mut Session<'_>,
) -> Result<bool, Error> {
    let managed = secret::is_managed(reference, session).await?;
    let reference = reference.secret().to_string();
    let name = [session.client.org().as_str(), &reference];
    let seen = match managed {
        true => {
            let target = at(paths::MANAGED, &name);
            session.client.get::<ManagedInfo>(target).await.map(drop)
        }
        false => {
            let target = at(paths::SECRET, &name);
            session.client.get::<SecretInfo>(target).await.map(drop)
        }
    };
    match seen {
        Ok(()) => Ok(true),
        Err(error) if error.code().is_some() && !error.is_unavailable() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Publishes a document, or only asks.
pub(super) async fn publish(
    one: &Understood,
    dry_run: bool,
    allow_missing: bool,
    session: &mut Session<'_>,
) -> Result<Published, Error> {
    let org = session.client.org().clone();
    let (method, target) = match one.identity() {
        Identity::Service(..) => (Method::POST, at(paths::SERVICES, &[org.as_str()])),
        Identity::Policy(name) => {
            let target = at(paths::POLICY, &[org.as_str(), name.as_str()]);
            (Method::PUT, target.with("allow_missing", allow_missing))
        }
        Identity::Pattern(name) => {
            let target = at(paths::PATTERN, &[org.as_str(), name.as_str()]);
            (Method::PUT, target.with("allow_missing", allow_missing))
        }
    };
    let target = target.with("dry_run", dry_run);
    let body = one.to_json().into();
    session
        .client
        .send_document(method, target, JSON, body)
        .await
}

fn document(identity: &Identity, org: &OrgId) -> Target {
    match identity {
        Identity::Service(id, version, arch) => at(paths::SERVICE, &[org.as_str()])
            .with("url", &id.url)
            .with("version", version)
            .with("arch", arch),
        Identity::Policy(name) => at(paths::POLICY, &[org.as_str(), name.as_str()]),
        Identity::Pattern(name) => at(paths::PATTERN, &[org.as_str(), name.as_str()]),
    }
}

/// The field of a definition that the service's own policy stands in.
const OWN_POLICY: &str = "servicePolicy";
const JSON: &str = "application/json";
