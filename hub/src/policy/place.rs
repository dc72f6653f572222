//! The deployments of a node, and the reasons for them.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{DeploymentId, OrgId, PolicyName, SecretName, ServiceId, UserId};

use super::binding::ChosenOne;
use super::compat::{self, Choice, Silent, Trace as _};
use super::deployment_policy::DeploymentPolicy;
use super::node::NodeView;
use super::{Definitions, Published, Rule, Verdict};
use crate::catalog::records::{Placed, PlacedBinding};
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// The deployments that a node should have, sorted by id.
///
/// When several policies deploy one service on the node, the one whose name comes first (by bytes)
/// does; [`explain`] says so.
#[must_use]
pub fn place(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Placed> {
    let default = definitions.default_manager.as_ref();
    let mut winners: BTreeMap<&ServiceId, (&PolicyName, &UserId, Choice<'_>)> = BTreeMap::new();
    // By name: the first that deploys a service is the one.
    for (name, published) in &definitions.policies {
        let Published {
            owner,
            document: policy,
        } = &**published;
        let service = policy.service();
        if winners.contains_key(service) {
            continue;
        }
        if let Some(choice) = compat::decide(node, policy, &definitions.services, &mut Silent) {
            winners.insert(service, (name, owner, choice));
        }
    }
    let placed = |(service, (name, owner, choice))| {
        placed(org, node, (service, name, owner), &choice, default)
    };
    let mut placed: Vec<Placed> = winners.into_iter().map(placed).collect();
    placed.sort_by(|a, b| a.id.cmp(&b.id));
    placed
}

/// The same, with the reasons: one verdict per policy, by name.
#[must_use]
pub fn explain(org: &OrgId, node: &NodeView, definitions: &Definitions) -> Vec<Verdict> {
    let default = definitions.default_manager.as_ref();
    let mut winners: BTreeMap<&ServiceId, &PolicyName> = BTreeMap::new();
    let mut losers: BTreeMap<&ServiceId, Vec<&str>> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(definitions.policies.len());
    for (name, published) in &definitions.policies {
        let Published {
            owner,
            document: policy,
        } = &**published;
        let mut rules = Vec::new();
        let choice = compat::decide(node, policy, &definitions.services, &mut rules);
        let service = policy.service();
        for (_, bound) in choice.iter().flat_map(|choice| choice.bindings.values()) {
            note_denial(&bound.reference, node, owner, &mut rules);
        }
        let placed = choice.and_then(|choice| match winners.get(service) {
            None => {
                winners.insert(service, name);
                Some(placed(org, node, (service, name, owner), &choice, default))
            }
            Some(winner) => {
                rules.note(ONE_POLICY, false, || {
                    format!("policy {winner} deploys {service} here: its name comes first")
                });
                losers.entry(service).or_default().push(name.as_str());
                None
            }
        });
        verdicts.push(Verdict {
            policy: name.clone(),
            service: service.clone(),
            placed,
            rules,
        });
    }
    for verdict in &mut verdicts {
        if let (Some(_), Some(losers)) = (&verdict.placed, losers.get(&verdict.service)) {
            let detail = format!("comes before {} by name", losers.join(", "));
            verdict.rules.push(Rule {
                rule: ONE_POLICY.to_owned(),
                holds: true,
                detail,
            });
        }
    }
    verdicts
}

/// Whether the node satisfies the policy's constraints and architecture. Where it does not, the
/// policy deploys nothing there and stands in no other's way, so a change of the policy alone
/// touches only nodes that its old or its new self could place on. Cheap: no version, binding or
/// definition is looked at.
#[must_use]
pub fn could_place(node: &NodeView, policy: &DeploymentPolicy) -> bool {
    compat::admits(node, policy, &mut Silent)
}

fn placed(
    org: &OrgId,
    node: &NodeView,
    (service, policy, owner): (&ServiceId, &PolicyName, &UserId),
    choice: &Choice<'_>,
    default: Option<&ManagerName>,
) -> Placed {
    let bind = |(name, (binding, bound)): (&&SecretName, &ChosenOne<'_>)| {
        let reference = &bound.reference.resolved(default);
        let mut candidates = Vec::with_capacity(2);
        if binding.node_level && reference.node().is_none() {
            candidates.push(reference.at_node(node.id()));
        }
        candidates.push(reference.clone());
        let denied = is_denied(reference, node, owner);
        ((*name).clone(), PlacedBinding { candidates, denied })
    };
    Placed {
        id: deployment_id(org, policy, service),
        policy: policy.clone(),
        service: service.clone(),
        service_version: choice.definition.version().to_owned(),
        consumers: choice.definition.consumers().to_vec(),
        bindings: choice.bindings.iter().map(bind).collect(),
    }
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

fn note_denial(reference: &SecretRef, node: &NodeView, owner: &UserId, rules: &mut Vec<Rule>) {
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

/// The same for every version and binding that the policy ever has for the service.
fn deployment_id(org: &OrgId, policy: &PolicyName, service: &ServiceId) -> DeploymentId {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        org.as_str(),
        policy.as_str(),
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
const ID_BYTES: usize = 16;
