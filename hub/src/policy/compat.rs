//! Whether one policy or pattern deploys a service on one node, and which version.

use super::arch::Arch;
use super::attempt::Attempt;
use super::board::{Board, Wanted};
use super::definition::ServiceDefinition;
use super::deployment_policy::DeploymentPolicy;
use super::node::NodeView;
use super::offer::{Offer, Terms, VersionChoice};
use super::property::{Properties, PropertySet, PropertyValue};
use super::{Rule, Services};

/// Where the rules that were applied are written down, when somebody wants to know.
pub(super) trait Trace {
    /// Whether the remaining rules are of interest once one does not hold.
    const WANTS_ALL: bool;

    /// Writes a rule down.
    fn note(&mut self, rule: &str, holds: bool, detail: impl FnOnce() -> String);
}

/// Nobody wants to know: the first rule that does not hold ends it.
#[derive(Default)]
pub(super) struct Silent;

impl Trace for Silent {
    const WANTS_ALL: bool = false;

    fn note(&mut self, _: &str, _: bool, _: impl FnOnce() -> String) {}
}

impl Trace for Vec<Rule> {
    const WANTS_ALL: bool = true;

    fn note(&mut self, rule: &str, holds: bool, detail: impl FnOnce() -> String) {
        self.push(Rule {
            rule: rule.to_owned(),
            holds,
            detail: detail(),
        });
    }
}

/// What is deployed on the node beside what is claimed there: the service, and then what that
/// requires. The versions are tried by priority; the first whose rules all hold is taken.
pub(super) fn decide<'a, T: Trace>(
    node: &NodeView,
    terms: Terms<'a>,
    services: &'a Services,
    board: &Board<'a>,
    trace: &mut T,
) -> Option<Vec<Wanted<'a>>> {
    let admitted = admits(node, terms, trace);
    if !admitted && !T::WANTS_ALL {
        return None;
    }
    let offer = terms.offer;
    for version in &offer.versions {
        let candidates = defined(offer, version, node.arch(), services);
        if candidates.is_empty() {
            trace.note("service version", false, || {
                undefined(offer, version, node.arch(), services)
            });
        }
        for definition in candidates {
            let attempt = Attempt {
                node,
                terms,
                version,
                definition,
                services,
                board,
            };
            if let Some(wanted) = attempt.run(trace) {
                return admitted.then_some(wanted);
            }
        }
    }
    None
}

/// Whether the node satisfies what is demanded of it whatever the version.
pub(super) fn admits<T: Trace>(node: &NodeView, terms: Terms<'_>, trace: &mut T) -> bool {
    let arch_fits = terms.offer.arch.admits(node.arch());
    let mut admitted = arch_fits;
    trace.note("arch", arch_fits, || {
        let wanted = shown(Some(&terms.offer.arch));
        format!(
            "the {} wants {wanted}, the node is {}",
            terms.kind(),
            shown_node(node.arch())
        )
    });
    if !admitted && !T::WANTS_ALL {
        return false;
    }
    for constraint in terms
        .policy
        .into_iter()
        .flat_map(DeploymentPolicy::constraints)
    {
        let holds = constraint.holds(node.properties());
        admitted &= holds;
        trace.note("policy constraint", holds, || {
            constraint.explained(node.properties())
        });
        if !admitted && !T::WANTS_ALL {
            return false;
        }
    }
    admitted
}

/// The definitions of a version that may run on the node, the best first: one for exactly its
/// architecture, then one for any; the version as the document writes it, then other spellings.
fn defined<'a>(
    offer: &Offer,
    version: &VersionChoice,
    node: Option<&Arch>,
    services: &'a Services,
) -> Vec<&'a ServiceDefinition> {
    let fits = |definition: &&ServiceDefinition| {
        *definition.parsed_version() == version.version
            && definition.parsed_arch().admits(node)
            && definition.parsed_arch().matches(&offer.arch)
    };
    let of_service = services.of(&offer.service).iter();
    let mut found: Vec<_> = of_service.map(|one| &one.document).filter(fits).collect();
    found.sort_by_key(|definition| {
        let other_spelling = definition.version() != version.text;
        let any_arch = !definition.parsed_arch().is_named();
        (
            any_arch,
            other_spelling,
            definition.version(),
            definition.arch(),
        )
    });
    found
}

fn undefined(
    offer: &Offer,
    version: &VersionChoice,
    node: Option<&Arch>,
    services: &Services,
) -> String {
    let same = services.of(&offer.service).iter().map(|one| &one.document);
    let same = same.filter(|definition| *definition.parsed_version() == version.version);
    let mut archs: Vec<&str> = same.map(ServiceDefinition::arch).collect();
    archs.sort_unstable();
    let name = format!("{} {}", offer.service, version.text);
    if archs.is_empty() {
        format!("{name} is not published")
    } else {
        let (archs, node) = (archs.join(", "), shown_node(node));
        format!("{name} is published for {archs}; the node is {node}")
    }
}

/// What the node's constraints see: the service's built-in properties, which a policy cannot claim
/// otherwise, then the deployment policy's, then those of the service's own policy.
pub(super) struct ConsumerProperties<'a> {
    pub(super) definition: &'a ServiceDefinition,
    pub(super) policy: &'a DeploymentPolicy,
}

impl Properties for ConsumerProperties<'_> {
    fn get(&self, name: &str) -> Option<&PropertyValue> {
        let built_in: &PropertySet = self.definition.built_in();
        built_in
            .get(name)
            .or_else(|| self.policy.properties().get(name))
            .or_else(|| self.definition.policy().properties().get(name))
    }
}

pub(super) fn shown(arch: Option<&Arch>) -> &str {
    arch.filter(|arch| arch.is_named())
        .map_or("any arch", Arch::as_str)
}

fn shown_node(arch: Option<&Arch>) -> &str {
    arch.filter(|arch| arch.is_named())
        .map_or("of unknown arch", Arch::as_str)
}
