//! `status` and `wait`: what the running agent tells.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_secrets_protocol::status::DeploymentState;
use serde::Serialize;

use super::{Exit, Failure, Output, WAIT_SLICE, say};
use crate::local_api;
use crate::status::{AgentStatus, HubState, ServiceStatus};

pub(super) async fn show(socket: &Path, output: Output) -> Result<(), Failure> {
    let status = local_api::status(socket).await?;
    let other = |error: &dyn std::fmt::Display| Failure::new(Exit::Other, error);
    match output {
        Output::Table => say(table(&status).trim_end()),
        Output::Json => say(serde_json::to_string_pretty(&status).map_err(|e| other(&e))?),
        Output::Yaml => say(serde_yaml::to_string(&status)
            .map_err(|e| other(&e))?
            .trim_end()),
    }
}

pub(super) async fn wait(socket: &Path, service: &str, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let answer = local_api::wait(socket, service, left.min(WAIT_SLICE)).await?;
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
    text.push('\n');
    if status.services.is_empty() {
        let why = match hub.state {
            HubState::Connected => "Nothing is deployed to this node.",
            _ => "Nothing is delivered.",
        };
        text.push_str(why);
        return text;
    }
    let mut rows =
        vec![["SERVICE", "SECRET", "STATE", "VERSION", "WANTED", "SINCE"].map(String::from)];
    for service in &status.services {
        let name = format!("{} {}", service.service, service.service_version);
        rows.push([
            name,
            format!("({})", service.policy),
            word(&service.state),
            String::new(),
            String::new(),
            second(service.since),
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
            ]);
        }
    }
    text.push_str(&columns(&rows));
    for service in &status.services {
        if let Some(error) = &service.error {
            writeln!(
                text,
                "\n{}: {}: {}",
                service.service, error.code, error.detail
            )
            .ok();
        }
        if service.state != DeploymentState::Wiped {
            for consumer in &service.consumers {
                let name = &consumer.name;
                writeln!(text, "{} {name}: {}", service.service, consumer.directory).ok();
            }
        }
    }
    text
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
                             "since": "2026-01-02T00:00:00Z"}],
                "consumers": [{"name": "main", "directory": "/run/x"}],
            }],
        }))
        .unwrap();
        let table = table(&status);
        for part in [
            "myorg/edge-01",
            "disconnected since 2026-01-01T00:00:00Z",
            "cannot be reached",
            "com.example.uplink 1.2.3",
            "missing: cred does not exist",
            "main: /run/x",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let row = table.lines().find(|line| line.contains("cred ")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["cred", "applied", "3", "4", "2026-01-02T00:00:00Z"]);
    }
}
