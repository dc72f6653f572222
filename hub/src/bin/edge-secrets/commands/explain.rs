//! `edge-secrets explain …`

use edge_secrets_hub::wire::{Explanation, NodeDeployment, VerdictInfo, paths};

use jiff::Timestamp;

use super::{Session, standing};
use crate::cli::ExplainArgs;
use crate::client::at;
use crate::error::Error;
use crate::output::Table;

pub(super) async fn run(args: ExplainArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let org = session.client.org().to_string();
    let target = at(paths::NODE_EXPLAIN, &[&org, args.node.as_str()])
        .with_some("service", args.service.as_ref());
    let explanation: Explanation = session.client.get(target).await?;
    session.ui.show(&explanation, |now| {
        render(&explanation, args.service.as_deref(), now)
    })
}

fn render(explanation: &Explanation, service: Option<&str>, now: Timestamp) -> String {
    let node = &explanation.node;
    let pattern = match &explanation.pattern {
        None => String::new(),
        Some(pattern) if pattern.found => format!("Node {node} is on pattern {}.\n", pattern.name),
        Some(pattern) => format!(
            "Node {node} is on pattern {}, which is not there, or not public: nothing is deployed by it.\n",
            pattern.name
        ),
    };
    if explanation.verdicts.is_empty() {
        if explanation.pattern.is_some() {
            return pattern;
        }
        return match service {
            Some(service) => format!(
                "No policy deploys service {service}: publish one, or see `edge-secrets policy \
                 list`.\n"
            ),
            None => "There are no policies.\n".to_owned(),
        };
    }
    let blocks = explanation
        .verdicts
        .iter()
        .map(|found| verdict(found, node.as_str(), now));
    let pattern = (!pattern.is_empty()).then_some(pattern);
    let blocks: Vec<_> = pattern.into_iter().chain(blocks).collect();
    let notes = explanation.notes.iter();
    let notes = notes.map(|note| format!("\nnote: {node}: {note}\n"));
    blocks.join("\n") + &notes.collect::<String>()
}

fn verdict(verdict: &VerdictInfo, node: &str, now: Timestamp) -> String {
    let is = if verdict.deployed { "is" } else { "is not" };
    let mut text = format!(
        "Service {} {is} deployed on {node} by {}\n",
        verdict.service,
        verdict.policy.titled()
    );
    for rule in &verdict.rules {
        let mark = if rule.holds { '✓' } else { '✗' };
        text.push_str(&format!("  {mark} {}: {}\n", rule.rule, rule.detail));
    }
    if let Some(found) = &verdict.deployment {
        text.push_str(&format!("  version {}", found.service_version));
        text.push_str(&deployment(found, now));
    }
    for found in &verdict.required {
        text.push_str(&format!(
            "  requires {} {}",
            found.service, found.service_version
        ));
        text.push_str(&deployment(found, now));
    }
    text
}

fn deployment(deployment: &NodeDeployment, now: Timestamp) -> String {
    let mut text = format!(", {}", standing::state(deployment.state));
    let error = standing::error(deployment.error.as_ref());
    if !error.is_empty() {
        text.push_str(&format!(" ({error})"));
    }
    text.push('\n');
    let mut table = Table::new(["SECRET", "REFERENCE", "STANDING"]);
    for secret in &deployment.secrets {
        table.row([
            secret.name.to_string(),
            secret
                .reference
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            standing::secret(secret),
        ]);
    }
    if !deployment.secrets.is_empty() {
        for line in table.render().lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    for secret in &deployment.secrets {
        if let Some(trouble) = &secret.trouble {
            let trouble = standing::trouble(trouble, now);
            text.push_str(&format!("    ! {}: {trouble}\n", secret.name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn trouble_is_told_also_of_what_is_ready_or_pending() {
        let service = json!({"org": "myorg", "url": "com.example.uplink"});
        let trouble = |fault: &str, detail: &str| json!({"fault": fault, "detail": detail, "since": "2026-03-01T11:55:00Z"});
        let explanation: Explanation = serde_json::from_value(json!({
            "node": "edge-01",
            "verdicts": [{
                "policy": "uplink", "service": service, "deployed": true, "rules": [],
                "deployment": {
                    "id": "d", "service": service, "service_version": "1.2.0",
                    "policy": "uplink", "state": "pending",
                    "secrets": [
                        {"name": "cred", "reference": "vault:db", "state": "ready",
                         "version": "7", "applied": "7",
                         "trouble": trouble("sealed", "it is sealed")},
                        {"name": "tls", "reference": "vault:tls", "state": "ready",
                         "version": "1", "applied": "1"},
                        {"name": "user", "reference": "vault:database/creds/x",
                         "state": "pending",
                         "trouble": trouble("unreachable", "no connection")}]}}],
        }))
        .unwrap();
        assert_eq!(
            render(&explanation, None, now()),
            "Service myorg/com.example.uplink is deployed on edge-01 by policy uplink\n  \
               version 1.2.0, pending\n    \
                 SECRET  REFERENCE               STANDING\n    \
                 cred    vault:db                applied 7\n    \
                 tls     vault:tls               applied 1\n    \
                 user    vault:database/creds/x  pending at its manager\n    \
                 ! cred: it is sealed (sealed for 5m); next: unseal the manager\n    \
                 ! user: no connection (unreachable for 5m); next: check network, `ca_file` and \
                 TLS 1.3 between hub and manager\n"
        );
    }

    #[test]
    fn every_rule_and_every_secret_is_accounted_for() {
        let service = json!({"org": "myorg", "url": "com.example.uplink"});
        let explanation: Explanation = serde_json::from_value(json!({
            "node": "edge-01",
            "verdicts": [
                {"policy": "uplink", "service": service, "deployed": true,
                 "rules": [{"rule": "arch", "holds": true, "detail": "amd64 is amd64"}],
                 "deployment": {
                    "id": "d", "service": service, "service_version": "1.2.0",
                    "policy": "uplink", "state": "blocked",
                    "secrets": [
                        {"name": "cred", "reference": "xyz", "state": "ready", "version": "7",
                         "applied": "7"},
                        {"name": "tls", "state": "missing"}],
                    "error": {"code": "missing", "detail": "tls does not exist"}}},
                {"policy": "uplink-eu", "service": service, "deployed": false,
                 "rules": [{"rule": "policy constraint", "holds": false,
                            "detail": "site == munich, and site is berlin"}]},
            ],
            "notes": ["x has no effect"],
        }))
        .unwrap();
        assert_eq!(
            render(&explanation, None, now()),
            "Service myorg/com.example.uplink is deployed on edge-01 by policy uplink\n  \
               ✓ arch: amd64 is amd64\n  \
               version 1.2.0, blocked (missing: tls does not exist)\n    \
                 SECRET  REFERENCE  STANDING\n    \
                 cred    xyz        applied 7\n    \
                 tls     -          missing\n\
             \n\
             Service myorg/com.example.uplink is not deployed on edge-01 by policy uplink-eu\n  \
               ✗ policy constraint: site == munich, and site is berlin\n\
             \n\
             note: edge-01: x has no effect\n"
        );
        let none = Explanation {
            verdicts: vec![],
            ..explanation
        };
        assert!(render(&none, Some("x"), now()).contains("No policy deploys service x"));
    }
}
