//! The deployments of a node, and the reasons for them.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use edge_secrets_protocol::binding::{Consumer, ConsumerSecret};
use edge_secrets_protocol::{DeploymentId, OrgId, PolicyName, SecretName, ServiceId, UserId};

use super::binding::ChosenOne;
use super::board::{Board, Claim, Source};
use super::compat::{self, Silent, Trace};
use super::deployment_policy::DeploymentPolicy;
use super::node::NodeView;
use super::{Definitions, Published, Rule, Verdict};
use crate::catalog::records::{Placed, PlacedBinding, Requirer};
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// The deployments that a node should have, sorted by id.
///
/// Policies are asked in the order of their names (by bytes). When several deploy one service, the
/// first does. A service that several require runs once, as the first of them wants it. [`explain`]
/// says so.
#[must_use]
pub fn place(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Placed> {
    let (board, _) = settle::<Silent>(node, definitions);
    let default = definitions.default_manager.as_ref();
    let with_something = |(_, claim): &(&ServiceId, &Claim<'_>)| {
        // What is only required and has no secrets is nothing to us.
        claim.top.is_some() || !claim.definition.declared().is_empty()
    };
    let claims = board.claims().filter(with_something);
    let mut placed: Vec<_> = claims
        .map(|(service, claim)| placed(org, node, service, claim, default))
        .collect();
    placed.sort_by(|a, b| a.id.cmp(&b.id));
    placed
}

/// The same, with the reasons: one verdict per policy, by name.
#[must_use]
pub fn explain(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Verdict> {
    let default = definitions.default_manager.as_ref();
    let (board, outcomes) = settle::<Vec<Rule>>(node, definitions);
    let mut losers: BTreeMap<&ServiceId, Vec<&str>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.loses) {
        let of_service = losers.entry(outcome.service).or_default();
        of_service.push(outcome.source.policy.as_str());
    }
    let verdict = |outcome: Outcome<'_, Vec<Rule>>| {
        let Outcome {
            source,
            service,
            is_placed,
            mut trace,
            ..
        } = outcome;
        let claim = board.get(service).filter(|_| is_placed);
        if is_placed && let Some(losers) = losers.get(service) {
            trace.note(ONE_POLICY, true, || {
                format!("comes before {} by name", losers.join(", "))
            });
        }
        for (service, claim) in board.claims() {
            let others = claim.users.iter().map(|(policy, _)| policy.as_str());
            let others: Vec<_> = others
                .filter(|name| *name != source.policy.as_str())
                .collect();
            if claim.source.policy == source.policy && !others.is_empty() {
                trace.note("shared service", true, || {
                    format!(
                        "{service} is as this policy wants it, also for {}",
                        others.join(", ")
                    )
                });
            }
        }
        Verdict {
            policy: source.policy.clone(),
            service: service.clone(),
            placed: claim.map(|claim| placed(org, node, service, claim, default)),
            rules: trace,
        }
    };
    outcomes.into_iter().map(verdict).collect()
}

/// What came of one policy.
struct Outcome<'a, T> {
    source: Source<'a>,
    service: &'a ServiceId,
    is_placed: bool,
    /// Another policy deploys its service.
    loses: bool,
    trace: T,
}

/// Asks the policies one after the other; what came of each only where somebody wants to know.
fn settle<'a, T: Trace + Default>(
    node: &NodeView,
    definitions: &'a Definitions,
) -> (Board<'a>, Vec<Outcome<'a, T>>) {
    let mut board = Board::default();
    let mut outcomes = Vec::new();
    let policies = match T::WANTS_ALL {
        true => definitions.policies.iter().collect(),
        false => definitions.policies.for_node(node),
    };
    for (policy, published) in policies {
        let Published { owner, document } = &**published;
        let (source, service) = (Source { policy, owner }, document.service());
        let earlier = board.get(service).and_then(|claim| claim.top);
        if earlier.is_some() && !T::WANTS_ALL {
            continue;
        }
        let mut trace = T::default();
        // Of one that comes too late it is told what it would do alone.
        let alone = Board::default();
        let board_seen = if earlier.is_some() { &alone } else { &board };
        let services = &definitions.services;
        let wanted = compat::decide(node, document.terms(), services, board_seen, &mut trace);
        for bound in wanted
            .iter()
            .flatten()
            .flat_map(|wanted| wanted.bindings.values())
        {
            note_denial(&bound.1.reference, node, owner, &mut trace);
        }
        let (is_placed, loses) = (
            wanted.is_some() && earlier.is_none(),
            wanted.is_some() && earlier.is_some(),
        );
        if let (Some(winner), true) = (earlier, loses) {
            trace.note(ONE_POLICY, false, || {
                format!("policy {winner} deploys {service} here: its name comes first")
            });
        }
        if let Some(wanted) = wanted.filter(|_| is_placed) {
            board.take(source, wanted);
        }
        if T::WANTS_ALL {
            outcomes.push(Outcome {
                source,
                service,
                is_placed,
                loses,
                trace,
            });
        }
    }
    (board, outcomes)
}

/// Whether the node satisfies the policy's constraints and architecture. Where it does not, the
/// policy deploys nothing there and stands in no other's way, so a change of the policy alone
/// touches only nodes that its old or its new self could place on. Cheap: no version, binding or
/// definition is looked at.
#[must_use]
pub fn could_place(node: &NodeView, policy: &DeploymentPolicy) -> bool {
    compat::admits(node, policy.terms(), &mut Silent)
}

fn placed(
    org: &OrgId,
    node: &NodeView,
    service: &ServiceId,
    claim: &Claim<'_>,
    default: Option<&ManagerName>,
) -> Placed {
    let Source { policy, owner } = claim.source;
    let bind = |(name, (binding, bound)): (&&SecretName, &ChosenOne<'_>)| {
        let reference = &bound.reference.resolved(default);
        let mut candidates = Vec::with_capacity(2);
        if binding.node_level && reference.node().is_none() {
            candidates.push(reference.at_node(node.id()));
        }
        candidates.push(reference.clone());
        let denied = is_denied(reference, node, owner);
        let optional = claim.definition.is_optional(name);
        let binding = PlacedBinding {
            candidates,
            denied,
            optional,
        };
        ((*name).clone(), binding)
    };
    let user = |(policy, path): &(&PolicyName, Vec<&ServiceId>)| Requirer {
        policy: (*policy).clone(),
        path: path.iter().copied().cloned().collect(),
    };
    let alone = claim.users.len() == 1 && claim.top.is_some();
    Placed {
        id: match claim.top {
            Some(policy) => deployment_id(org, policy.as_str(), service),
            None => deployment_id(org, REQUIRED, service),
        },
        policy: policy.clone(),
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

/// A user's private secret goes only where the user's own policy puts it on the user's own node;
/// a node's secret goes to that node alone.
fn is_denied(reference: &SecretRef, node: &NodeView, policy_owner: &UserId) -> bool {
    let other_user = reference
        .user()
        .is_some_and(|user| user != policy_owner || node.owner() != Some(user));
    let other_node = reference.node().is_some_and(|own| own != node.id());
    other_user || other_node
}

fn note_denial(reference: &SecretRef, node: &NodeView, owner: &UserId, rules: &mut impl Trace) {
    if is_denied(reference, node, owner) {
        rules.note("secret scope", false, || {
            let node_owner = node.owner().map_or("nobody", UserId::as_str);
            format!(
                "{reference} is denied: {owner} owns the policy and {node_owner} the node {}",
                node.id()
            )
        });
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

const ONE_POLICY: &str = "one policy per service";
/// In the place of a policy's name: no policy can be called so.
const REQUIRED: &str = "*";
const ID_BYTES: usize = 16;
