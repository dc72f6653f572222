//! Where secrets and deployments stand, in words.

use edge_secrets_hub::catalog::records::Trouble;
use edge_secrets_hub::wire::SecretStanding;
use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use jiff::Timestamp;

use super::remedy::remedy;
use crate::times::lasting;

/// A deployment's state.
pub(super) fn state(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Applied => "applied",
        DeploymentState::Blocked => "blocked",
        DeploymentState::Failed => "failed",
        DeploymentState::Pending => "pending",
        DeploymentState::Stopped => "stopped",
        DeploymentState::Wiped => "wiped",
    }
}

/// Where one secret stands: what the hub has, and what of it the node has applied.
pub(super) fn secret(standing: &SecretStanding) -> String {
    let applied = standing.applied.as_ref();
    let at_hub = match &standing.state {
        SecretState::Ready { version } => {
            return match applied {
                Some(applied) if applied == version => format!("applied {version}"),
                Some(applied) => format!("version {version} is due, {applied} is applied"),
                None => format!("version {version} is due"),
            };
        }
        SecretState::Pending => "pending at its manager",
        SecretState::Missing if standing.optional => {
            return match applied {
                Some(applied) => format!("missing, and optional; {applied} is to go"),
                None => "missing, and optional".to_owned(),
            };
        }
        SecretState::Missing => "missing",
        SecretState::Denied => "denied",
        SecretState::Failed => "failed at its manager",
    };
    match applied {
        Some(applied) => format!("{at_hub}, {applied} stays applied"),
        None => at_hub.to_owned(),
    }
}

/// Every secret of a deployment, in one line.
pub(super) fn secrets(standings: &[SecretStanding]) -> String {
    let one = |standing: &SecretStanding| format!("{}: {}", standing.name, secret(standing));
    standings.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What is wrong with a secret at its manager, for how long already, and what to do.
pub(super) fn trouble(trouble: &Trouble, now: Timestamp) -> String {
    let Trouble {
        fault,
        detail,
        since,
    } = trouble;
    let lasting = lasting(*since, now);
    format!("{detail} ({fault} for {lasting}); next: {}", remedy(*fault))
}

/// Why a deployment is not applied.
pub(super) fn error(error: Option<&DeploymentError>) -> String {
    error.map_or_else(String::new, |error| {
        format!("{}: {}", error.code, error.detail)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_denied_not_yet_and_failed_are_different_answers() {
        let mut seen = std::collections::BTreeSet::new();
        for (json, text) in [
            (
                json!({"state": "ready", "version": "7", "applied": "7"}),
                "applied 7",
            ),
            (
                json!({"state": "ready", "version": "7", "applied": "6"}),
                "version 7 is due, 6 is applied",
            ),
            (
                json!({"state": "ready", "version": "7"}),
                "version 7 is due",
            ),
            (
                json!({"state": "missing", "applied": "6"}),
                "missing, 6 stays applied",
            ),
            (json!({"state": "missing"}), "missing"),
            (
                json!({"state": "missing", "optional": true}),
                "missing, and optional",
            ),
            (
                json!({"state": "missing", "optional": true, "applied": "6"}),
                "missing, and optional; 6 is to go",
            ),
            (json!({"state": "denied"}), "denied"),
            (json!({"state": "pending"}), "pending at its manager"),
            (json!({"state": "failed"}), "failed at its manager"),
        ] {
            let mut json = json;
            json["name"] = "db".into();
            let standing: SecretStanding = serde_json::from_value(json).unwrap();
            assert_eq!(secret(&standing), text);
            assert!(seen.insert(secret(&standing)));
            assert_eq!(secrets(&[standing]), format!("db: {text}"));
        }
    }
}
