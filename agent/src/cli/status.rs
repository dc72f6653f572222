//! `status`, `services` and `wait`: what the running agent tells.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_secrets_protocol::Code;
use edge_secrets_protocol::status::DeploymentState;
use serde::Serialize;

use super::{Exit, Failure, Output, WAIT_SLICE, print, say};
use crate::config::SealingKeyCustody;
use crate::local_api::{self, ClientError};
use crate::status::{AgentStatus, ConsumerStatus, HubState, ProfileEffect, ServiceStatus};

pub(super) async fn show(socket: &Path, output: Output) -> Result<(), Failure> {
    let status = local_api::status(socket).await?;
    print(&status, output, |status| Some(table(status)))
}

pub(super) async fn services(
    socket: &Path,
    service: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let mut services = local_api::services(socket).await?;
    if let Some(name) = service {
        services.retain(|status| status.is_called(name));
        if services.is_empty() {
            let why = "is not deployed to this node: see `edge-secrets explain`";
            return Err(Failure::new(Exit::Other, format_args!("{name} {why}")));
        }
    }
    print(&services, output, |services| {
        Some(if services.is_empty() {
            "Nothing is deployed to this node.".into()
        } else {
            service_table(services)
        })
    })
}

pub(super) async fn wait(socket: &Path, service: &str, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let answer = match local_api::wait(socket, service, left.min(WAIT_SLICE)).await {
            // Many wait already, as at boot: there will be room.
            Err(ClientError::Refused(problem))
                if problem.code == Code::RateLimited && left > QUEUE =>
            {
                tokio::time::sleep(QUEUE).await;
                continue;
            }
            answer => answer?,
        };
        if answer.applied {
            return say(format_args!("{service} is applied."));
        }
        if left <= WAIT_SLICE {
            let why = match answer.services.iter().find(|status| !status.is_applied()) {
                Some(status) => reason(status),
                None => "it is not deployed to this node: see `edge-secrets explain`".into(),
            };
            let message = format_args!("{service} is not applied after {limit:?}: {why}");
            return Err(Failure::new(Exit::Other, message));
        }
    }
}

fn reason(status: &ServiceStatus) -> String {
    let state = word(&status.state);
    match &status.error {
        Some(error) => format!("{state}, {}: {}", error.code, error.detail),
        None => state,
    }
}

fn table(status: &AgentStatus) -> String {
    let mut text = String::new();
    let hub = &status.hub;
    let mut line = |name: &str, value: std::fmt::Arguments<'_>| {
        // Writing into a String does not fail.
        writeln!(text, "{name:<11} {value}").ok();
    };
    line("node", format_args!("{}/{}", status.org, status.node));
    line("agent", format_args!("{}", status.agent_version));
    line("hub", format_args!("{}", hub.url));
    line(
        "connection",
        format_args!("{} since {}", word(&hub.state), second(hub.since)),
    );
    if let Some(error) = &hub.error {
        line("", format_args!("{error}"));
    }
    if let Some(until) = hub.certificate_not_after {
        line("certificate", format_args!("until {}", second(until)));
    }
    line("generation", format_args!("{}", status.generation));
    for (at, protection) in status.protection.iter().enumerate() {
        let name = if at == 0 { "protection" } else { "" };
        line(name, format_args!("{protection}"));
    }
    if let Some(cache) = &status.cache {
        let s = if cache.values == 1 { "" } else { "s" };
        let key = match cache.sealing_key {
            SealingKeyCustody::File => "the key in a file beside them",
            SealingKeyCustody::Credential => "the key encrypted under the unit's credential",
        };
        line(
            "cache",
            format_args!("{} sealed value{s}, {key}", cache.values),
        );
        if let Some(error) = &cache.error {
            line("", format_args!("{error}"));
        }
    }
    for problem in &status.profile_problems {
        let at = problem.line.map(|at| format!(":{at}")).unwrap_or_default();
        let effect = match problem.effect {
            ProfileEffect::FormerStays => "refused, its last good version stays",
            ProfileEffect::Ignored => "refused",
            ProfileEffect::Warning => "in force, but",
        };
        let (file, reason) = (&problem.file, &problem.reason);
        line("profile", format_args!("{file}{at}: {effect}: {reason}"));
    }
    text.push('\n');
    if status.services.is_empty() {
        let why = match hub.state {
            HubState::Connected => "Nothing is deployed to this node.",
            _ => "Nothing is delivered.",
        };
        text.push_str(why);
    } else {
        text.push_str(&service_table(&status.services));
    }
    text
}

fn service_table(services: &[ServiceStatus]) -> String {
    let mut rows = vec![
        [
            "SERVICE", "SECRET", "STATE", "VERSION", "WANTED", "SINCE", "ENDS",
        ]
        .map(String::from),
    ];
    for service in services {
        let name = format!("{} {}", service.service, service.service_version);
        rows.push([
            name,
            format!("({})", service.policy),
            word(&service.state),
            String::new(),
            String::new(),
            second(service.since),
            String::new(),
        ]);
        for secret in &service.secrets {
            let version =
                |v: &Option<_>| v.as_ref().map_or_else(|| "-".into(), ToString::to_string);
            let (has, wants) = (version(&secret.version), version(&secret.wanted));
            rows.push([
                String::new(),
                secret.name.to_string(),
                word(&secret.state),
                has,
                wants,
                second(secret.since),
                secret.expires_at.map(second).unwrap_or_default(),
            ]);
        }
    }
    let mut text = columns(&rows);
    for service in services {
        let id = &service.service;
        if let Some(error) = &service.error {
            writeln!(text, "\n{id}: {}: {}", error.code, error.detail).ok();
        }
        if service.state != DeploymentState::Wiped {
            for consumer in &service.consumers {
                consumer_lines(&mut text, &format!("{id} {}", consumer.name), consumer);
            }
        }
    }
    text
}

/// Where a consumer reads, and what its profile makes of it.
fn consumer_lines(text: &mut String, name: &str, consumer: &ConsumerStatus) {
    writeln!(text, "{name}: {}", consumer.directory).ok();
    if let Some(profile) = &consumer.profile {
        writeln!(text, "  profile    {profile}").ok();
    }
    if let Some(action) = &consumer.on_change {
        let (state, since) = (word(&action.state), second(action.since));
        write!(
            text,
            "  on change  {}: {state} since {since}",
            action.action
        )
        .ok();
        if action.failures > 0 {
            write!(text, ", {} failed", action.failures).ok();
        }
        if let Some(error) = &action.error {
            write!(text, ": {error}").ok();
        }
        text.push('\n');
    }
    if let Some(life) = &consumer.lifecycle {
        write!(text, "  lifecycle  {}: {}", life.workload, life.presence).ok();
        if let Some(reason) = &life.reason {
            write!(text, ": {reason}").ok();
        }
        text.push('\n');
    }
}

/// Left-aligned columns, as wide as their widest cell.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            write!(line, "{cell:<width$}  ").ok();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A state as it is written in JSON.
fn word(state: &impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn second(at: jiff::Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

/// How long to stand back when too many wait.
const QUEUE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_hub_services_and_secrets() {
        let status: AgentStatus = serde_json::from_value(serde_json::json!({
            "agent_version": "0.1.0", "org": "myorg", "node": "edge-01",
            "hub": {"url": "https://hub:1", "state": "disconnected",
                    "since": "2026-01-01T00:00:00Z", "error": "https://hub:1 cannot be reached"},
            "generation": 7, "protection": ["tmpfs: noswap"],
            "services": [{
                "deployment": "d1", "service": {"org": "myorg", "url": "com.example.uplink"},
                "service_version": "1.2.3", "policy": "uplink", "state": "blocked",
                "since": "2026-01-01T00:00:00Z",
                "error": {"code": "missing", "detail": "cred does not exist"},
                "secrets": [{"name": "cred", "state": "applied", "version": "3", "wanted": "4",
                             "since": "2026-01-02T00:00:00Z"},
                            {"name": "lease", "state": "applied", "version": "1", "wanted": "1",
                             "since": "2026-01-02T00:00:00Z", "expires_at": "2026-01-02T01:00:00Z"}],
                "consumers": [{"name": "main", "directory": "/run/x", "profile": "uplink.yaml",
                    "on_change": {"action": "reload uplink.service", "state": "failing",
                        "since": "2026-01-03T00:00:00Z", "failures": 2, "error": "no such unit"},
                    "lifecycle": {"workload": "unit uplink.service", "presence": "unknown",
                        "reason": "no D-Bus"}}],
            }],
            "profile_problems": [{"file": "b.yaml", "line": 3, "reason": "unknown key",
                "effect": "former_stays"}],
        }))
        .unwrap();
        let table = table(&status);
        for part in [
            "myorg/edge-01",
            "disconnected since 2026-01-01T00:00:00Z",
            "cannot be reached",
            "com.example.uplink 1.2.3",
            "missing: cred does not exist",
            "main: /run/x\n  profile    uplink.yaml\n",
            "reload uplink.service: failing since 2026-01-03T00:00:00Z, 2 failed: no such unit\n",
            "unit uplink.service: unknown: no D-Bus\n",
            "b.yaml:3: refused, its last good version stays: unknown key\n",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let row = table.lines().find(|line| line.contains("cred ")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["cred", "applied", "3", "4", "2026-01-02T00:00:00Z"]);
        let row = table.lines().find(|line| line.contains("lease ")).unwrap();
        assert!(row.ends_with("  2026-01-02T01:00:00Z"), "{row}");
    }
}
