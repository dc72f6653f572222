//! `edge-secrets rollout …`

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_hub::catalog::records::Trouble;
use edge_secrets_hub::managers::Fault;
use edge_secrets_hub::wire::{Rollout, RolloutNode, paths};
use edge_secrets_protocol::{NodeId, Source};
use jiff::Timestamp;

use super::follow::Follower;
use super::{Session, standing};
use crate::cli::RolloutArgs;
use crate::client::at;
use crate::error::Error;
use crate::output::{Table, count};
use crate::times::{age, age_or_never};

pub(super) async fn run(args: RolloutArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let org = session.client.org().clone();
    let target = match (&args.policy, &args.pattern) {
        (Some(policy), _) => at(paths::ROLLOUT, &[org.as_str(), policy.as_str()]),
        (None, Some(pattern)) => {
            let id = pattern.of(&org);
            let target = at(paths::PATTERN_ROLLOUT, &[org.as_str(), id.name.as_str()]);
            target.with("of", &id.org)
        }
        // The arguments are refused before.
        (None, None) => return Ok(()),
    };
    let mut rollout: Rollout = session.client.get(target.clone()).await?;
    if !args.watch {
        return session.ui.show(&rollout, |now| render(&rollout, now));
    }
    let mut follower = Follower::default();
    loop {
        session
            .ui
            .show_next(&rollout, |now| render(&rollout, now))?;
        if rollout.applied >= rollout.total {
            return Ok(());
        }
        let shown = rollout.tag;
        rollout = loop {
            let target = target.clone().with("after", &shown);
            let next: Rollout = follower.ask(target, session).await?;
            if next.tag != shown {
                break next;
            }
        };
    }
}

fn render(rollout: &Rollout, now: Timestamp) -> String {
    let Rollout {
        policy,
        applied,
        total,
        ..
    } = rollout;
    if *total == 0 {
        return match policy {
            Source::Policy(policy) => format!("Policy {policy}: it matches no node.\n"),
            Source::Pattern(id) => format!("Pattern {id}: it deploys on no node.\n"),
        };
    }
    let cells = |node: &RolloutNode| {
        [
            standing::state(node.state).to_owned(),
            secrets(node),
            age_or_never(node.reported_at, now),
            standing::error(node.error.as_ref()),
        ]
    };
    let table = match policy {
        Source::Policy(_) => {
            let mut table = Table::new(["NODE", "STATE", "SECRETS", "REPORTED", "REASON"]);
            for node in &rollout.nodes {
                let [state, secrets, reported, reason] = cells(node);
                table.row([node.node.to_string(), state, secrets, reported, reason]);
            }
            table
        }
        Source::Pattern(_) => {
            let headers = ["NODE", "SERVICE", "STATE", "SECRETS", "REPORTED", "REASON"];
            let mut table = Table::new(headers);
            for node in &rollout.nodes {
                let service = node.service.as_ref().map(ToString::to_string);
                let [state, secrets, reported, reason] = cells(node);
                let (name, service) = (node.node.to_string(), service.unwrap_or_default());
                table.row([name, service, state, secrets, reported, reason]);
            }
            table
        }
    };
    let title = match policy {
        Source::Policy(policy) => format!("Policy {policy}"),
        Source::Pattern(id) => format!("Pattern {id}"),
    };
    format!(
        "{title}: applied {applied}/{total}\n{}{}{}",
        table.render(),
        troubles(&rollout.nodes, now),
        away(rollout, now)
    )
}

/// Who is away for longer than the policy's `nodeHealth` lets pass.
fn away(rollout: &Rollout, now: Timestamp) -> String {
    let line = |node: &RolloutNode| {
        let since = age(node.away_since?, now);
        let allowed = rollout.heartbeat.unwrap_or_default();
        Some(format!(
            "! {} went away {since} (nodeHealth: {allowed}s); it keeps what it has\n",
            node.node
        ))
    };
    rollout.nodes.iter().filter_map(line).collect()
}

/// What the service reads, and what it requires reads.
fn secrets(node: &RolloutNode) -> String {
    let own = (!node.secrets.is_empty() || node.required.is_empty())
        .then(|| standing::secrets(&node.secrets));
    let required = node.required.iter().map(|one| {
        let secrets = standing::secrets(&one.secrets);
        format!("{}: {secrets}", one.service.url)
    });
    own.into_iter()
        .chain(required)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Each trouble once, however many nodes wait for it: a manager's is mostly that of all.
fn troubles(nodes: &[RolloutNode], now: Timestamp) -> String {
    let mut found: BTreeMap<(String, Fault, &str), (&Trouble, BTreeSet<&NodeId>)> = BTreeMap::new();
    for node in nodes {
        let required = node.required.iter().flat_map(|one| &one.secrets);
        for secret in node.secrets.iter().chain(required) {
            let Some(trouble) = &secret.trouble else {
                continue;
            };
            let what = match &secret.reference {
                Some(reference) => reference.to_string(),
                None => secret.name.to_string(),
            };
            let (oldest, nodes) = found
                .entry((what, trouble.fault, &trouble.detail))
                .or_insert_with(|| (trouble, BTreeSet::new()));
            if trouble.since < oldest.since {
                *oldest = trouble;
            }
            nodes.insert(&node.node);
        }
    }
    let line = |((what, ..), (trouble, nodes)): (&(String, _, _), &(&Trouble, BTreeSet<_>))| {
        let trouble = standing::trouble(trouble, now);
        format!("! {what} on {}: {trouble}\n", count(nodes.len(), "node"))
    };
    found.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trouble_that_many_wait_for_is_told_once() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let node = |node: &str, state: &str, since: &str| {
            let trouble = json!({"fault": "sealed", "detail": "it is sealed",
                                 "since": format!("2026-03-01T{since}:00Z")});
            let cred = match state {
                "applied" => json!({"state": "ready", "version": "7", "applied": "7"}),
                _ => json!({"state": "pending"}),
            };
            let mut cred = cred;
            cred["name"] = "cred".into();
            cred["reference"] = "vault:db".into();
            cred["trouble"] = trouble;
            json!({"node": node, "state": state, "secrets": [cred]})
        };
        let rollout: Rollout = serde_json::from_value(json!({
            "policy": "uplink", "tag": "t", "applied": 1, "total": 2,
            "nodes": [node("edge-01", "applied", "11:58"), node("edge-02", "pending", "11:55")],
        }))
        .unwrap();
        assert_eq!(
            render(&rollout, now),
            "Policy uplink: applied 1/2\n\
             NODE     STATE    SECRETS                       REPORTED  REASON\n\
             edge-01  applied  cred: applied 7               never     -\n\
             edge-02  pending  cred: pending at its manager  never     -\n\
             ! vault:db on 2 nodes: it is sealed (sealed for 5m); next: unseal the manager\n"
        );
    }

    #[test]
    fn it_is_said_who_has_what_and_who_has_not_and_why() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let cred = |applied: &str| {
            json!([{"name": "cred", "reference": "xyz", "state": "ready", "version": "7",
                    "applied": applied}])
        };
        let rollout: Rollout = serde_json::from_value(json!({
            "policy": "uplink", "tag": "t", "applied": 1, "total": 2,
            "nodes": [
                {"node": "edge-01", "state": "applied", "secrets": cred("7"),
                 "reported_at": "2026-03-01T11:59:18Z"},
                {"node": "edge-02", "state": "failed", "secrets": cred("6"),
                 "away_since": "2026-03-01T11:40:00Z",
                 "error": {"code": "failed", "detail": "tmpfs is full"}},
            ],
            "heartbeat": 600,
        }))
        .unwrap();
        assert_eq!(
            render(&rollout, now),
            "Policy uplink: applied 1/2\n\
             NODE     STATE    SECRETS                               REPORTED  REASON\n\
             edge-01  applied  cred: applied 7                       42s ago   -\n\
             edge-02  failed   cred: version 7 is due, 6 is applied  never     \
             failed: tmpfs is full\n\
             ! edge-02 went away 20m ago (nodeHealth: 600s); it keeps what it has\n"
        );
    }
}
