//! The deployments of a node, and the reasons for them.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use edge_secrets_protocol::binding::{Consumer, ConsumerSecret};
use edge_secrets_protocol::limits::{MAX_DEPLOYMENTS, MAX_NODE_SECRETS};
use edge_secrets_protocol::{DeploymentId, OrgId, SecretName, ServiceId, Source, UserId};

use super::binding::ChosenOne;
use super::board::{Asker, Board, By, Claim};
use super::compat::{self, Silent, Trace};
use super::deployment_policy::DeploymentPolicy;
use super::node::NodeView;
use super::offer::Terms;
use super::{Definitions, Published, Rule, Verdict};
use crate::catalog::records::{Placed, PlacedBinding, Requirer};
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// The deployments that a node should have, sorted by id.
///
/// Policies are asked in the order of their names (by bytes). When several deploy one service, the
/// first does. A service that several require runs once, as the first of them wants it. A node that is
/// on a pattern has what that pattern deploys, in the order of its services, and no policy is asked.
/// [`explain`] says so.
#[must_use]
pub fn place(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Placed> {
    let (board, _) = settle::<Silent>(org, node, definitions);
    let default = definitions.default_manager.as_ref();
    let with_something = |(_, claim): &(&ServiceId, &Claim<'_>)| {
        // What is only required and has no secrets is nothing to us.
        claim.top.is_some() || !claim.definition.declared().is_empty()
    };
    let claims = board.claims().filter(with_something);
    let mut placed: Vec<_> = claims
        .map(|(service, claim)| placed(org, node, service, claim, default))
        .collect();
    if is_foreign(org, node) && !fits_one_node(&placed) {
        return Vec::new();
    }
    placed.sort_by(|a, b| a.id.cmp(&b.id));
    placed
}

/// Whether a node takes an answer with all these. One above the bounds it refuses whole, so that what
/// would make one is refused when it is published. What another organisation publishes nobody here can
/// refuse: nothing of it is placed then, rather than something that the node does not hear of.
#[must_use]
pub fn fits_one_node(deployments: &[Placed]) -> bool {
    let secrets = deployments.iter().map(|placed| {
        let read: usize = placed.consumers.iter().map(|c| c.secrets.len()).sum();
        placed.bindings.len() + read
    });
    deployments.len() <= MAX_DEPLOYMENTS && secrets.sum::<usize>() <= MAX_NODE_SECRETS
}

/// Whether the node is on another organisation's pattern.
fn is_foreign(org: &OrgId, node: &NodeView) -> bool {
    node.pattern().is_some_and(|pattern| pattern.org != *org)
}

/// The same, with the reasons: one verdict per policy, by name; for a node that is on a pattern, first
/// one for each of the pattern's services, in its order.
#[must_use]
pub fn explain(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Verdict> {
    let default = definitions.default_manager.as_ref();
    let (board, outcomes) = settle::<Vec<Rule>>(org, node, definitions);
    let mut losers: BTreeMap<&ServiceId, Vec<String>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.loses) {
        let of_service = losers.entry(&outcome.terms.offer.service).or_default();
        of_service.push(outcome.called());
    }
    let verdict = |outcome: Outcome<'_, Vec<Rule>>| {
        let Outcome {
            asker,
            terms,
            is_placed,
            mut trace,
            ..
        } = outcome;
        let service = &terms.offer.service;
        let claim = board.get(service).filter(|_| is_placed);
        if is_placed && let Some(losers) = losers.get(service) {
            trace.note(rule_of_one(asker.by), true, || {
                let by_name = if terms.policy.is_some() {
                    " by name"
                } else {
                    ""
                };
                format!("comes before {}{by_name}", losers.join(", "))
            });
        }
        for (service, claim) in board.claims() {
            let others = claim.users.iter().map(|(by, _)| *by);
            let others: Vec<_> = others.filter(|by| *by != asker.by).map(called).collect();
            if claim.asker.by == asker.by && !others.is_empty() {
                trace.note("shared service", true, || {
                    format!(
                        "{service} is as this policy wants it, also for {}",
                        others.join(", ")
                    )
                });
            }
        }
        Verdict {
            policy: asker.by.to_source(),
            service: service.clone(),
            placed: claim.map(|claim| placed(org, node, service, claim, default)),
            rules: trace,
        }
    };
    let idle = node.pattern().into_iter().flat_map(|pattern| {
        let policies = definitions.policies.iter();
        policies.map(move |(name, published)| Verdict {
            policy: Source::Policy(name.clone()),
            service: published.document.service().clone(),
            placed: None,
            rules: vec![Rule {
                rule: EITHER.to_owned(),
                holds: false,
                detail: format!("the node is on pattern {pattern}: no policy deploys on it"),
            }],
        })
    });
    let mut verdicts: Vec<_> = outcomes.into_iter().map(verdict).collect();
    let all = board
        .claims()
        .map(|(service, claim)| placed(org, node, service, claim, default));
    if is_foreign(org, node) && !fits_one_node(&all.collect::<Vec<_>>()) {
        for verdict in &mut verdicts {
            verdict.placed = None;
            verdict.rules.push(Rule {
                rule: "node bounds".to_owned(),
                holds: false,
                detail: format!(
                    "the pattern would give the node more than {MAX_DEPLOYMENTS} deployments, or more than \
                     {MAX_NODE_SECRETS} secrets and readers of them: nothing of it is deployed"
                ),
            });
        }
    }
    verdicts.into_iter().chain(idle).collect()
}

/// What came of one policy, or of one service of a pattern.
struct Outcome<'a, T> {
    asker: Asker<'a>,
    terms: Terms<'a>,
    is_placed: bool,
    /// Another policy, or an earlier place of the pattern, deploys its service.
    loses: bool,
    trace: T,
}

impl<T> Outcome<'_, T> {
    fn called(&self) -> String {
        match self.asker.by {
            By::Policy(name) => name.to_string(),
            By::Pattern(_) => self.terms.offer.place.clone(),
        }
    }
}

fn called(by: By<'_>) -> String {
    match by {
        By::Policy(name) => name.to_string(),
        By::Pattern(id) => id.to_string(),
    }
}

/// What is asked for the node, in order: its pattern's services, or else the policies that could place
/// something on it; every policy where somebody wants to know.
fn asked<'a>(
    org: &OrgId,
    node: &NodeView,
    definitions: &'a Definitions,
    all: bool,
) -> Vec<(Asker<'a>, Terms<'a>)> {
    let Some(pattern) = node.pattern() else {
        let policies = match all {
            true => definitions.policies.iter().collect(),
            false => definitions.policies.for_node(node),
        };
        let asked = policies.into_iter().map(|(name, published)| {
            let Published { owner, document } = &**published;
            let (by, owner) = (By::Policy(name), Some(owner));
            (Asker { by, owner }, document.terms())
        });
        return asked.collect();
    };
    let found = definitions.pattern_entry(pattern);
    let asked = found.into_iter().flat_map(|(id, published)| {
        let Published { owner, document } = &**published;
        let owner = (id.org == *org).then_some(owner);
        let by = By::Pattern(id);
        document
            .terms()
            .map(move |terms| (Asker { by, owner }, terms))
    });
    asked.collect()
}

/// Asks them one after the other; what came of each only where somebody wants to know.
fn settle<'a, T: Trace + Default>(
    org: &OrgId,
    node: &NodeView,
    definitions: &'a Definitions,
) -> (Board<'a>, Vec<Outcome<'a, T>>) {
    let mut board = Board::default();
    let mut outcomes = Vec::new();
    let services = definitions.services_on(node.pattern());
    // Where the winner stands in its pattern.
    let mut places: BTreeMap<&ServiceId, &str> = BTreeMap::new();
    for (asker, terms) in asked(org, node, definitions, T::WANTS_ALL) {
        let service = &terms.offer.service;
        let earlier = board.get(service).and_then(|claim| claim.top);
        if earlier.is_some() && !T::WANTS_ALL {
            continue;
        }
        let mut trace = T::default();
        // Of one that comes too late it is told what it would do alone.
        let alone = Board::default();
        let board_seen = if earlier.is_some() { &alone } else { &board };
        let wanted = compat::decide(node, terms, services, board_seen, &mut trace);
        for bound in wanted
            .iter()
            .flatten()
            .flat_map(|wanted| wanted.bindings.values())
        {
            note_denial(&bound.1.reference, node, asker, &mut trace);
        }
        let (is_placed, loses) = (
            wanted.is_some() && earlier.is_none(),
            wanted.is_some() && earlier.is_some(),
        );
        if let (Some(winner), true) = (earlier, loses) {
            trace.note(rule_of_one(asker.by), false, || match winner {
                By::Policy(winner) => {
                    format!("policy {winner} deploys {service} here: its name comes first")
                }
                By::Pattern(_) => {
                    let place = places.get(service).copied().unwrap_or_default();
                    format!("{place} deploys {service} here: it comes first")
                }
            });
        }
        if let Some(wanted) = wanted.filter(|_| is_placed) {
            board.take(asker, wanted);
            places.insert(service, &terms.offer.place);
        }
        if T::WANTS_ALL {
            outcomes.push(Outcome {
                asker,
                terms,
                is_placed,
                loses,
                trace,
            });
        }
    }
    (board, outcomes)
}

/// Whether the node is on policies and satisfies this one's constraints and architecture. Where it does
/// not, the policy deploys nothing there and stands in no other's way, so a change of the policy alone
/// touches only nodes that its old or its new self could place on. Cheap: no version, binding or
/// definition is looked at.
#[must_use]
pub fn could_place(node: &NodeView, policy: &DeploymentPolicy) -> bool {
    node.pattern().is_none() && compat::admits(node, policy.terms(), &mut Silent)
}

fn placed(
    org: &OrgId,
    node: &NodeView,
    service: &ServiceId,
    claim: &Claim<'_>,
    default: Option<&ManagerName>,
) -> Placed {
    let bind = |(name, (binding, bound)): (&&SecretName, &ChosenOne<'_>)| {
        let reference = &bound.reference.resolved(default);
        let mut candidates = Vec::with_capacity(2);
        if binding.node_level && reference.node().is_none() {
            candidates.push(reference.at_node(node.id()));
        }
        candidates.push(reference.clone());
        let denied = is_denied(reference, node, claim.asker);
        let optional = claim.definition.is_optional(name);
        let binding = PlacedBinding {
            candidates,
            denied,
            optional,
        };
        ((*name).clone(), binding)
    };
    let user = |(by, path): &(By<'_>, Vec<&ServiceId>)| Requirer {
        policy: by.to_source(),
        path: path.iter().copied().cloned().collect(),
    };
    let alone = claim.users.len() == 1 && claim.top.is_some();
    Placed {
        id: match claim.top {
            Some(by) => deployment_id(org, &by.to_source().to_string(), service),
            None => deployment_id(org, REQUIRED, service),
        },
        policy: claim.asker.by.to_source(),
        service: service.clone(),
        service_version: claim.definition.version().to_owned(),
        consumers: consumers(claim),
        bindings: claim.bindings.iter().map(bind).collect(),
        required_by: match alone {
            true => Vec::new(),
            false => claim.users.iter().map(user).collect(),
        },
    }
}

/// Who reads what of it: all but those optional secrets that nobody bound.
fn consumers(claim: &Claim<'_>) -> Vec<Consumer> {
    let mut consumers = claim.definition.consumers().to_vec();
    for consumer in &mut consumers {
        let bound = |secret: &ConsumerSecret| claim.bindings.contains_key(&secret.name);
        consumer.secrets.retain(bound);
    }
    consumers
}

/// A user's private secret goes only where the user's own policy or pattern puts it on the user's own
/// node; a node's secret goes to that node alone.
fn is_denied(reference: &SecretRef, node: &NodeView, asker: Asker<'_>) -> bool {
    let other_user = reference
        .user()
        .is_some_and(|user| asker.owner != Some(user) || node.owner() != Some(user));
    let other_node = reference.node().is_some_and(|own| own != node.id());
    other_user || other_node
}

fn note_denial(reference: &SecretRef, node: &NodeView, asker: Asker<'_>, rules: &mut impl Trace) {
    if is_denied(reference, node, asker) {
        rules.note("secret scope", false, || {
            let node_owner = node.owner().map_or("nobody", UserId::as_str);
            let kind = match asker.by {
                By::Policy(_) => "policy",
                By::Pattern(_) => "pattern",
            };
            let owner = asker.owner.map_or("another organisation", UserId::as_str);
            format!(
                "{reference} is denied: {owner} owns the {kind} and {node_owner} the node {}",
                node.id()
            )
        });
    }
}

/// Which rule decides between several that deploy one service.
fn rule_of_one(by: By<'_>) -> &'static str {
    match by {
        By::Policy(_) => "one policy per service",
        By::Pattern(_) => "once in a pattern",
    }
}

/// The same for every version and binding that the policy ever has for the service; and for every
/// policy that requires it, so that one of two may go without the other's secrets.
fn deployment_id(org: &OrgId, policy: &str, service: &ServiceId) -> DeploymentId {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        org.as_str(),
        policy,
        service.org.as_str(),
        service.url.as_str(),
    ] {
        context.update(part.as_bytes());
        // No name holds it, so parts cannot run together.
        context.update(&[0]);
    }
    let hex = HEXLOWER.encode(&context.finish().as_ref()[..ID_BYTES]);
    #[expect(
        clippy::expect_used,
        reason = "32 hexadecimal digits are a deployment id"
    )]
    hex.parse().expect("hexadecimal digits are a deployment id")
}

const EITHER: &str = "pattern or policies";
/// In the place of a policy's name: no policy can be called so.
const REQUIRED: &str = "*";
const ID_BYTES: usize = 16;
