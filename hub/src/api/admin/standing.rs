//! Where deployments stand: what the hub wants against what the node reported. Pure.

use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::status::{
    DeploymentError, DeploymentState, DeploymentStatus, StatusReport,
};
use edge_secrets_protocol::{Code, DeploymentId};

use crate::catalog::records::{BoundDeployment, NodeBindings};
use crate::wire::{Leaving, NodeDeployment, SecretStanding};

/// Every deployment that the node should have, in the bindings' order.
#[must_use]
pub fn standing(bindings: &NodeBindings, report: Option<&StatusReport>) -> Vec<NodeDeployment> {
    let of = |bound: &BoundDeployment| {
        let mut reported = report.into_iter().flat_map(|report| &report.deployments);
        let reported = reported.find(|reported| reported.id == bound.placed.id);
        // A report from before the node's last change says nothing of why it is not there yet.
        let current = report.is_some_and(|report| report.generation >= bindings.generation);
        stand(bound, reported, current)
    };
    bindings.deployments.iter().map(of).collect()
}

/// Every deployment that the node reported, should not have any more, and has not wiped yet.
#[must_use]
pub fn leaving(bindings: &NodeBindings, report: Option<&StatusReport>) -> Vec<Leaving> {
    let reported = report.into_iter().flat_map(|report| &report.deployments);
    let wanted = |id: &DeploymentId| {
        let mut deployments = bindings.deployments.iter();
        deployments.any(|bound| bound.placed.id == *id) || bindings.unchanged.contains(id)
    };
    reported
        .filter(|reported| reported.state != DeploymentState::Wiped && !wanted(&reported.id))
        .map(|reported| Leaving {
            id: reported.id.clone(),
            service: reported.service.clone(),
            secrets: reported.applied.keys().cloned().collect(),
            error: reported.error.clone(),
        })
        .collect()
}

fn stand(
    bound: &BoundDeployment,
    reported: Option<&DeploymentStatus>,
    current: bool,
) -> NodeDeployment {
    let secrets: Vec<_> = bound
        .secrets
        .iter()
        .map(|secret| {
            let reference = bound.resolved.get(&secret.name);
            let detail = bound.details.get(&secret.name);
            let applied = reported.and_then(|reported| reported.applied.get(&secret.name));
            SecretStanding {
                name: secret.name.clone(),
                expires_at: secret.expires_at,
                effect: detail.and_then(|detail| detail.effect),
                trouble: detail.and_then(|detail| detail.trouble.clone()),
                reference: reference.cloned(),
                state: secret.state.clone(),
                optional: (bound.placed.bindings.get(&secret.name))
                    .is_some_and(|binding| binding.optional),
                // The version of another reference stays as the node told it: it is none of this
                // one's, whatever its number.
                applied: applied.map(|applied| {
                    let known = reference.and_then(|r| r.version_from_node(applied));
                    known.unwrap_or_else(|| applied.clone())
                }),
            }
        })
        .collect();
    let (state, error) = decide(&secrets, reported, current);
    NodeDeployment {
        id: bound.placed.id.clone(),
        service: bound.placed.service.clone(),
        service_version: bound.placed.service_version.clone(),
        policy: bound.placed.policy.clone(),
        required_by: bound.placed.required_by.clone(),
        state,
        secrets,
        error,
    }
}

fn decide(
    secrets: &[SecretStanding],
    reported: Option<&DeploymentStatus>,
    current: bool,
) -> (DeploymentState, Option<DeploymentError>) {
    if let Some(error) = secrets.iter().find_map(obstacle) {
        return (DeploymentState::Blocked, Some(error));
    }
    let pending = (DeploymentState::Pending, None);
    let Some(reported) = reported else {
        return pending;
    };
    match reported.state {
        // With an error it is applied, and who should have heard of it has not.
        DeploymentState::Applied if secrets.iter().all(is_applied) => {
            (DeploymentState::Applied, reported.error.clone())
        }
        DeploymentState::Blocked | DeploymentState::Failed | DeploymentState::Stopped
            if current =>
        {
            (reported.state, reported.error.clone())
        }
        DeploymentState::Applied
        | DeploymentState::Blocked
        | DeploymentState::Failed
        | DeploymentState::Pending
        | DeploymentState::Stopped
        | DeploymentState::Wiped => pending,
    }
}

fn is_applied(secret: &SecretStanding) -> bool {
    match &secret.state {
        SecretState::Ready { version } => secret.applied.as_ref() == Some(version),
        // What it had of it is wiped.
        SecretState::Missing if secret.optional => secret.applied.is_none(),
        SecretState::Pending | SecretState::Missing | SecretState::Denied | SecretState::Failed => {
            false
        }
    }
}

/// Why the hub cannot give this secret, and what to do.
fn obstacle(secret: &SecretStanding) -> Option<DeploymentError> {
    let name = &secret.name;
    let code = match secret.state {
        SecretState::Ready { .. } | SecretState::Pending => return None,
        SecretState::Missing if secret.optional => return None,
        SecretState::Missing => Code::Missing,
        SecretState::Denied => Code::Denied,
        SecretState::Failed => Code::Failed,
    };
    if let Some(trouble) = &secret.trouble {
        let reference = secret.reference.as_ref();
        let bound = reference.map_or_else(String::new, |reference| format!(" ({reference})"));
        return Some(DeploymentError {
            code,
            detail: format!("\"{name}\"{bound}: {} ({})", trouble.detail, trouble.fault),
        });
    }
    let detail = match code {
        Code::Missing => format!("the secret that \"{name}\" is bound to does not exist; set it"),
        Code::Denied => {
            format!(
                "\"{name}\" is bound to a user's private secret or another node's, which is not for this node"
            )
        }
        _ => format!("the secrets manager fails on the secret that \"{name}\" is bound to"),
    };
    Some(DeploymentError { code, detail })
}

#[cfg(test)]
mod tests;
