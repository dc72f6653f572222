//! What the types of an answer do not say by themselves: bounds, and texts that are safe to show.
//! The hub is trusted with values, not with this node's terminal, log or memory.

use std::collections::BTreeSet;

use edge_secrets_protocol::Problem;
use edge_secrets_protocol::binding::Bindings;
use edge_secrets_protocol::limits::MAX_DEPLOYMENTS;

/// Whether bindings, whole or a difference, are within bounds and do not contradict themselves.
///
/// # Errors
/// The reason.
pub(crate) fn check(bindings: &Bindings) -> Result<(), &'static str> {
    if bindings.deployments.len() + bindings.unchanged.len() > MAX_DEPLOYMENTS {
        return Err("it has too many deployments");
    }
    let mut ids = BTreeSet::new();
    let changed = bindings.deployments.iter().map(|deployment| &deployment.id);
    if !changed
        .chain(&bindings.unchanged)
        .all(|id| ids.insert(id.as_str()))
    {
        return Err("it has a deployment twice");
    }
    for deployment in &bindings.deployments {
        let version = &deployment.service_version;
        if version.len() > MAX_SERVICE_VERSION || version.chars().any(unfit) {
            return Err("it has a service version that is none");
        }
        let consumers = &deployment.consumers;
        if deployment.secrets.len() > MAX_SECRETS
            || consumers.len() > MAX_CONSUMERS
            || consumers.iter().any(|c| c.secrets.len() > MAX_SECRETS)
        {
            return Err("it has a deployment with too many secrets or consumers");
        }
    }
    Ok(())
}

/// The problem with a detail of one line that is not too long to log.
pub(crate) fn tame(problem: Problem) -> Problem {
    let detail = problem.detail.chars();
    let mut shown: String = detail
        .take(MAX_DETAIL)
        .map(|c| if unfit(c) { ' ' } else { c })
        .collect();
    if shown.len() < problem.detail.len() {
        shown.push('…');
    }
    Problem {
        status: problem.status,
        ..Problem::new(problem.code, shown)
    }
}

/// What a terminal or a line of a log would not show as a letter: controls, line separators, and
/// marks that turn the reading direction around.
fn unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) const MAX_DETAIL: usize = 1000;
const MAX_SERVICE_VERSION: usize = 1024;
/// Twice what a service definition may have.
const MAX_SECRETS: usize = 1024;
const MAX_CONSUMERS: usize = 256;
