//! What keeps a policy from being published.

use std::collections::BTreeSet;

use edge_secrets_protocol::{SecretName, UserId};

use super::Services;
use super::binding::{self, Binding, BindingFault};
use super::closure::{Whereabouts, closure};
use super::definition::ServiceDefinition;
use super::deployment_policy::{DeploymentPolicy, VersionChoice};
use super::nearest::hint;
use super::node::{ALLOW_PRIVILEGED, is_reserved};
use super::requirement::Kind;

/// What keeps a policy from being published: every fault, not the first alone. Warnings are apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyCheck {
    /// Each names what is wrong, where, and what to do.
    pub faults: Vec<String>,
    /// Bindings that no service needs, and the like.
    pub warnings: Vec<String>,
}

/// Checks a policy against the definitions it deploys: at least one of its versions must be deployable
/// on some node, with every secret bound that it and what it requires declare; versions and
/// architectures that are not would be skipped, which is a warning. No secret may be bound twice, nor
/// another user's private secret. Whether the references exist is for the caller, who can ask the
/// managers.
#[must_use]
pub fn check_policy(
    policy: &DeploymentPolicy,
    publisher: &UserId,
    services: &Services,
) -> PolicyCheck {
    let mut check = PolicyCheck::default();
    let mut deployed = Vec::new();
    let mut skipped = Vec::new();
    let mut contradictions = BTreeSet::new();
    let mut deployable = false;
    let mut versions: Vec<_> = policy.versions().iter().collect();
    versions.sort_by_key(|version| version.index);
    for version in versions {
        let found = definitions_of(policy, version, services);
        if found.is_empty() {
            skipped.push(unknown_version(policy, version, services));
        }
        for definition in found {
            match deploy(policy, definition, services, &mut deployed) {
                Ok(()) => deployable = true,
                Err(Obstacle::Contradiction(fault)) => {
                    contradictions.insert(fault);
                }
                Err(Obstacle::Skipped(reason)) => skipped.push(reason),
            }
        }
    }
    if deployable {
        let skipped = skipped
            .iter()
            .map(|reason| format!("{reason}; it would be skipped"));
        check.warnings.extend(skipped);
    } else {
        check.faults.append(&mut skipped);
    }
    check.faults.extend(contradictions);
    check_scopes(policy, publisher, &mut check);
    warn_of_unneeded(policy, &deployed, &mut check);
    warn_of_no_effect(policy, &mut check);
    check
}

/// Why one definition cannot be deployed.
enum Obstacle {
    /// Nobody knows what is meant.
    Contradiction(String),
    /// Another version may be taken.
    Skipped(String),
}

/// Whether a definition could run somewhere, with all that it requires, which is added to `deployed`.
fn deploy<'a>(
    policy: &DeploymentPolicy,
    definition: &'a ServiceDefinition,
    services: &'a Services,
    deployed: &mut Vec<&'a ServiceDefinition>,
) -> Result<(), Obstacle> {
    let named =
        |one: &ServiceDefinition| format!("{} {} ({})", one.id(), one.version(), one.arch());
    if definition.kind() == Kind::Cluster {
        let reason = format!("service: {} is for clusters alone", named(definition));
        return Err(Obstacle::Skipped(reason));
    }
    let members = closure(definition, Whereabouts::Anywhere, services, &|_| None);
    let members = members.map_err(|fault| Obstacle::Skipped(format!("service: {fault}")))?;
    let mut obstacle = Ok(());
    for member in &members {
        deployed.push(member.definition);
        let Err(fault) = binding::choose(policy.bindings(), member.definition) else {
            continue;
        };
        let reason = format!("secretBinding: {}: {fault}", named(member.definition));
        obstacle = Err(match fault {
            BindingFault::Unbound(_) => {
                Obstacle::Skipped(format!("{reason}; bind them in secretBinding"))
            }
            BindingFault::Contradiction { .. } => return Err(Obstacle::Contradiction(reason)),
        });
    }
    obstacle
}

fn definitions_of<'a>(
    policy: &DeploymentPolicy,
    version: &VersionChoice,
    services: &'a Services,
) -> Vec<&'a ServiceDefinition> {
    let fits = |definition: &&ServiceDefinition| {
        *definition.parsed_version() == version.version
            && definition.parsed_arch().matches(policy.arch())
    };
    let of_service = services.of(policy.service()).iter();
    let mut found: Vec<_> = of_service.map(|one| &one.document).filter(fits).collect();
    found.sort_by_key(|definition| (definition.version(), definition.arch()));
    found
}

fn unknown_version(
    policy: &DeploymentPolicy,
    version: &VersionChoice,
    services: &Services,
) -> String {
    let (service, wanted) = (policy.service(), &version.text);
    let of_service = services.of(service).iter().map(|one| &one.document);
    let known: BTreeSet<String> = of_service
        .map(|one| format!("{} ({})", one.version(), one.arch()))
        .collect();
    if known.is_empty() {
        let ids: Vec<String> = services.ids().map(ToString::to_string).collect();
        let hint = hint(&service.to_string(), ids.iter().map(String::as_str));
        return format!("service: {service} is not published: publish its definition first{hint}");
    }
    let known: Vec<String> = known.into_iter().collect();
    let arch = match policy.arch().is_named() {
        true => format!(" for {}", policy.arch().as_str()),
        false => String::new(),
    };
    format!(
        "service.serviceVersions[{}]: {service} {wanted} is not published{arch}; published: {}",
        version.index,
        known.join(", ")
    )
}

fn check_scopes(policy: &DeploymentPolicy, publisher: &UserId, check: &mut PolicyCheck) {
    for bound in policy
        .bindings()
        .iter()
        .flat_map(|binding| binding.secrets.values())
    {
        let (place, reference) = (&bound.place, &bound.reference);
        if let Some(user) = reference.user().filter(|user| *user != publisher) {
            check.faults.push(format!(
                "{place}: {reference} is private to user {user}; only a policy that {user} \
                 publishes can bind it"
            ));
        }
        if let Some(node) = reference.node() {
            check.warnings.push(format!(
                "{place}: {reference} is for node {node} alone; other nodes are denied it"
            ));
        }
    }
}

fn warn_of_unneeded(
    policy: &DeploymentPolicy,
    deployed: &[&ServiceDefinition],
    check: &mut PolicyCheck,
) {
    let needed = |binding: &Binding, name: &SecretName| {
        deployed
            .iter()
            .any(|d| binding.matches(d) && d.declared().contains(name))
    };
    for binding in policy.bindings() {
        let names = binding.secrets.keys().filter(|name| !needed(binding, name));
        let unneeded: Vec<&str> = names.map(SecretName::as_str).collect();
        if !unneeded.is_empty() {
            check.warnings.push(format!(
                "secretBinding[{}]: The following secret bindings are not required by any \
                 services: [{}]",
                binding.index,
                unneeded.join(", ")
            ));
        }
    }
}

fn warn_of_no_effect(policy: &DeploymentPolicy, check: &mut PolicyCheck) {
    for binding in policy.bindings().iter().filter(|b| b.misspelt_node_level) {
        check.warnings.push(format!(
            "secretBinding[{}]: `allowNodeLevelSecrets` has no effect; did you mean \
             `enableNodeLevelSecrets`?",
            binding.index
        ));
    }
    let names = policy.properties().names();
    for name in names.filter(|name| is_reserved(name) && *name != ALLOW_PRIVILEGED) {
        check.warnings.push(format!(
            "properties: names with `openhorizon.` are the hub's to give; the value of {name} may \
             have no effect"
        ));
    }
}
