//! What keeps a policy or a pattern from being published.

use std::collections::BTreeSet;

use edge_secrets_protocol::{SecretName, UserId};

use super::Services;
use super::binding::{self, Binding, BindingFault};
use super::closure::{Whereabouts, closure};
use super::definition::ServiceDefinition;
use super::deployment_policy::DeploymentPolicy;
use super::nearest::hint;
use super::node::{ALLOW_PRIVILEGED, is_reserved};
use super::offer::{Offer, Terms, VersionChoice};
use super::pattern::Pattern;
use super::requirement::Kind;
use super::user_input::{self, Told};
use crate::reference::SecretRef;

/// What keeps a policy or a pattern from being published: every fault, not the first alone. Warnings
/// are apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyCheck {
    /// Each names what is wrong, where, and what to do.
    pub faults: Vec<String>,
    /// Bindings that no service needs, and the like.
    pub warnings: Vec<String>,
    /// The references that only optional secrets are bound to: nothing waits for them.
    pub optional: BTreeSet<SecretRef>,
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
    let offered = Offered::new(policy.terms(), services);
    offered.tell(true, &mut check);
    check.faults.extend(policy.slips());
    check_scopes(policy.bindings(), "policy", publisher, &mut check);
    warn_of_unneeded(policy.bindings(), &offered.deployed, &mut check);
    warn_of_misspelt(policy.bindings(), &mut check);
    warn_of_reserved(policy, &mut check);
    warn_of_inputs(policy.told(), "policy", &offered.deployed, &mut check);
    check.warnings.extend(policy.notes());
    check.optional = optional_references(policy.bindings(), services);
    check
}

/// Checks a pattern likewise: of each of its services at least one version must be deployable. Services
/// for clusters may stand beside others. One without an agreement gets no secrets, as in Open Horizon.
#[must_use]
pub fn check_pattern(pattern: &Pattern, publisher: &UserId, services: &Services) -> PolicyCheck {
    let mut check = PolicyCheck::default();
    let all = pattern.terms().map(|terms| Offered::new(terms, services));
    let all: Vec<_> = all.collect();
    let any_for_machines = all.iter().any(|offered| !offered.for_clusters_alone);
    let mut deployed = Vec::new();
    for offered in &all {
        let needed = !(offered.for_clusters_alone && any_for_machines);
        offered.tell(needed, &mut check);
        deployed.extend(&offered.deployed);
    }
    // What two of its services require is wrong once.
    let mut told = BTreeSet::new();
    check.faults.retain(|fault| told.insert(fault.clone()));
    check.faults.extend(pattern.slips());
    check_scopes(pattern.bindings(), "pattern", publisher, &mut check);
    warn_of_unneeded(pattern.bindings(), &deployed, &mut check);
    warn_of_misspelt(pattern.bindings(), &mut check);
    warn_of_inputs(pattern.told(), "pattern", &deployed, &mut check);
    check.warnings.extend(pattern.notes());
    warn_of_no_agreement(pattern, services, &mut check);
    check.optional = optional_references(pattern.bindings(), services);
    if pattern.is_public() {
        warn_of_strangers(pattern, &deployed, &mut check);
    }
    check
}

/// What can become of one offer.
struct Offered<'a> {
    /// Every definition that could run, with all that it requires.
    deployed: Vec<&'a ServiceDefinition>,
    deployable: bool,
    /// There are definitions, and all are for clusters.
    for_clusters_alone: bool,
    skipped: Vec<String>,
    contradictions: BTreeSet<String>,
}

impl<'a> Offered<'a> {
    fn new(terms: Terms<'_>, services: &'a Services) -> Self {
        let mut offered = Self {
            deployed: Vec::new(),
            deployable: false,
            for_clusters_alone: false,
            skipped: Vec::new(),
            contradictions: BTreeSet::new(),
        };
        let (mut any, mut any_for_machines) = (false, false);
        let mut versions: Vec<_> = terms.offer.versions.iter().collect();
        versions.sort_by_key(|version| version.index);
        for version in versions {
            let found = definitions_of(terms.offer, version, services);
            if found.is_empty() {
                let unknown = unknown_version(terms.offer, version, services);
                offered.skipped.push(unknown);
            }
            for definition in found {
                any = true;
                any_for_machines |= definition.kind() != Kind::Cluster;
                match deploy(terms, definition, services, &mut offered.deployed) {
                    Ok(()) => offered.deployable = true,
                    Err(Obstacle::Contradiction(fault)) => {
                        offered.contradictions.insert(fault);
                    }
                    Err(Obstacle::Skipped(reason)) => offered.skipped.push(reason),
                }
            }
        }
        offered.for_clusters_alone = any && !any_for_machines;
        offered
    }

    /// What is skipped is a fault where nothing is left, and something is needed.
    fn tell(&self, needed: bool, check: &mut PolicyCheck) {
        if self.deployable || !needed {
            let skipped = self.skipped.iter();
            let skipped = skipped.map(|reason| format!("{reason}; it would be skipped"));
            check.warnings.extend(skipped);
        } else {
            check.faults.extend(self.skipped.iter().cloned());
        }
        check.faults.extend(self.contradictions.iter().cloned());
    }
}

/// Those of the bound references that only optional secrets are bound to, as far as definitions are
/// published.
fn optional_references(bindings: &[Binding], services: &Services) -> BTreeSet<SecretRef> {
    let (mut optional, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for binding in bindings {
        for (name, bound) in &binding.secrets {
            let of_service = services.of(&binding.service).iter();
            let of_service = of_service.map(|one| &one.document);
            let declare =
                |one: &&ServiceDefinition| binding.matches(one) && one.declared().contains(name);
            let mut declaring = of_service.filter(declare).peekable();
            let all = declaring.peek().is_some() && declaring.all(|one| one.is_optional(name));
            let found = if all { &mut optional } else { &mut needed };
            found.insert(bound.reference.clone());
        }
    }
    optional.retain(|reference| !needed.contains(reference));
    optional
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
    terms: Terms<'_>,
    definition: &'a ServiceDefinition,
    services: &'a Services,
    deployed: &mut Vec<&'a ServiceDefinition>,
) -> Result<(), Obstacle> {
    let named =
        |one: &ServiceDefinition| format!("{} {} ({})", one.id(), one.version(), one.arch());
    if definition.kind() == Kind::Cluster {
        let place = &terms.offer.place;
        let reason = format!("{place}: {} is for clusters alone", named(definition));
        return Err(Obstacle::Skipped(reason));
    }
    let members = closure(definition, Whereabouts::Anywhere, services, &|_| None);
    let members =
        members.map_err(|fault| Obstacle::Skipped(format!("{}: {fault}", terms.offer.place)))?;
    let mut obstacle = Ok(());
    for member in &members {
        deployed.push(member.definition);
        let Err(fault) = binding::choose(terms.bindings, member.definition) else {
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
    offer: &Offer,
    version: &VersionChoice,
    services: &'a Services,
) -> Vec<&'a ServiceDefinition> {
    let fits = |definition: &&ServiceDefinition| {
        *definition.parsed_version() == version.version
            && definition.parsed_arch().matches(&offer.arch)
    };
    let of_service = services.of(&offer.service).iter();
    let mut found: Vec<_> = of_service.map(|one| &one.document).filter(fits).collect();
    found.sort_by_key(|definition| (definition.version(), definition.arch()));
    found
}

fn unknown_version(offer: &Offer, version: &VersionChoice, services: &Services) -> String {
    let (service, place, wanted) = (&offer.service, &offer.place, &version.text);
    let of_service = services.of(service).iter().map(|one| &one.document);
    let known: BTreeSet<String> = of_service
        .map(|one| format!("{} ({})", one.version(), one.arch()))
        .collect();
    if known.is_empty() {
        let ids: Vec<String> = services.ids().map(ToString::to_string).collect();
        let hint = hint(&service.to_string(), ids.iter().map(String::as_str));
        return format!("{place}: {service} is not published: publish its definition first{hint}");
    }
    let known: Vec<String> = known.into_iter().collect();
    let arch = match offer.arch.is_named() {
        true => format!(" for {}", offer.arch.as_str()),
        false => String::new(),
    };
    format!(
        "{place}.serviceVersions[{}]: {service} {wanted} is not published{arch}; published: {}",
        version.index,
        known.join(", ")
    )
}

fn check_scopes(bindings: &[Binding], kind: &str, publisher: &UserId, check: &mut PolicyCheck) {
    for bound in bindings.iter().flat_map(|binding| binding.secrets.values()) {
        let (place, reference) = (&bound.place, &bound.reference);
        if let Some(user) = reference.user().filter(|user| *user != publisher) {
            check.faults.push(format!(
                "{place}: {reference} is private to user {user}; only a {kind} that {user} \
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
    bindings: &[Binding],
    deployed: &[&ServiceDefinition],
    check: &mut PolicyCheck,
) {
    let needed = |binding: &Binding, name: &SecretName| {
        deployed
            .iter()
            .any(|d| binding.matches(d) && d.declared().contains(name))
    };
    for binding in bindings {
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

fn warn_of_inputs(
    told: &[Told],
    kind: &str,
    deployed: &[&ServiceDefinition],
    check: &mut PolicyCheck,
) {
    let mut lacking = BTreeSet::new();
    for definition in deployed {
        let untold = user_input::untold(definition, told);
        if !untold.is_empty() {
            lacking.insert(format!(
                "userInput: {} {} wants [{}], which this {kind} does not give: Open Horizon waits until \
                 the node gives them, edge-secrets does not",
                definition.id(),
                definition.version(),
                untold.join(", ")
            ));
        }
    }
    check.warnings.extend(lacking);
}

fn warn_of_misspelt(bindings: &[Binding], check: &mut PolicyCheck) {
    for binding in bindings.iter().filter(|b| b.misspelt_node_level) {
        check.warnings.push(format!(
            "secretBinding[{}]: `allowNodeLevelSecrets` has no effect; did you mean \
             `enableNodeLevelSecrets`?",
            binding.index
        ));
    }
}

fn warn_of_reserved(policy: &DeploymentPolicy, check: &mut PolicyCheck) {
    let names = policy.properties().names();
    for name in names.filter(|name| is_reserved(name) && *name != ALLOW_PRIVILEGED) {
        check.warnings.push(format!(
            "properties: names with `openhorizon.` are the hub's to give; the value of {name} may \
             have no effect"
        ));
    }
}

/// A service without an agreement runs without anybody's saying what its secrets are bound to.
fn warn_of_no_agreement(pattern: &Pattern, services: &Services, check: &mut PolicyCheck) {
    for offer in pattern.agreement_less() {
        let of_service = services.of(&offer.service).iter();
        let mut declared: Vec<&str> = of_service
            .flat_map(|one| one.document.declared())
            .map(SecretName::as_str)
            .collect();
        declared.sort_unstable();
        declared.dedup();
        let lacking = match declared.as_slice() {
            [] => String::new(),
            declared => format!("; it declares [{}]", declared.join(", ")),
        };
        check.warnings.push(format!(
            "{}: {} runs without an agreement (`agreementLess`), and so takes no secret bindings: \
             nothing is delivered to it{lacking}",
            offer.place, offer.service
        ));
    }
}

/// What nodes of other organisations do not get of a public pattern.
fn warn_of_strangers(pattern: &Pattern, deployed: &[&ServiceDefinition], check: &mut PolicyCheck) {
    let private: BTreeSet<String> = deployed
        .iter()
        .filter(|definition| !definition.is_public())
        .map(|definition| definition.id().to_string())
        .collect();
    if !private.is_empty() {
        let private: Vec<_> = private.into_iter().collect();
        check.warnings.push(format!(
            "public: these services are not public, so that nodes of other organisations do not get \
             them: [{}]",
            private.join(", ")
        ));
    }
    let bound = pattern.bindings().iter();
    for bound in bound.flat_map(|binding| binding.secrets.values()) {
        if bound.reference.user().is_some() {
            check.warnings.push(format!(
                "{}: {} is private; nodes of other organisations are denied it",
                bound.place, bound.reference
            ));
        }
    }
}
