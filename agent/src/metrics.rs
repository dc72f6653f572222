//! What can be counted and measured, as Prometheus reads it (text exposition format 0.0.4). Labels
//! hold names of services, policies and states: never a secret's name, reference, version or value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use edge_secrets_protocol::status::DeploymentState;
use jiff::Timestamp;

use crate::status::{ActionState, AgentStatus, HubState, ServiceStatus};

/// What has happened since the agent started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Generations of consumers that were swapped in.
    pub(crate) deliveries: Counter,
    /// Deliveries that failed.
    pub(crate) delivery_failures: Counter,
    /// Consumers that were wiped.
    pub(crate) wipes: Counter,
    /// Pulls of the bindings that the hub answered.
    pub(crate) pulls: Counter,
    /// Pulls that failed.
    pub(crate) pull_failures: Counter,
    /// Connections to the hub that were made after the first one.
    pub(crate) reconnects: Counter,
    /// On-change actions that went well.
    pub(crate) actions_ok: Counter,
    /// Attempts at one that failed.
    pub(crate) actions_failed: Counter,
    /// systemd credentials that were given out.
    pub(crate) credentials_served: Counter,
    /// systemd credentials that were asked for and not given out.
    pub(crate) credentials_refused: Counter,
    /// Values that services were told by their own secrets API.
    pub(crate) api_values: Counter,
    /// Calls of it with wrong credentials.
    pub(crate) api_refused: Counter,
    last_contact: AtomicI64,
}

/// Only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The hub has just answered something.
    pub(crate) fn contacted(&self, now: Timestamp) {
        self.last_contact.store(now.as_second(), Ordering::Relaxed);
    }
}

/// The whole answer of `GET /metrics`.
pub(crate) fn render(status: &AgentStatus, counters: &Counters) -> String {
    let mut text = Exposition::default();
    gauges(&mut text, status, counters);
    services(&mut text, status);
    ends(&mut text, status);
    for (name, help, counter) in [
        (
            "deliveries",
            "Consumers' generations swapped in.",
            &counters.deliveries,
        ),
        (
            "delivery_failures",
            "Deliveries that failed.",
            &counters.delivery_failures,
        ),
        ("wipes", "Consumers wiped.", &counters.wipes),
        ("pulls", "Pulls of the bindings answered.", &counters.pulls),
        (
            "pull_failures",
            "Pulls of the bindings that failed.",
            &counters.pull_failures,
        ),
        (
            "reconnects",
            "Connections to the hub after the first.",
            &counters.reconnects,
        ),
        (
            "actions_ok",
            "On-change actions that went well.",
            &counters.actions_ok,
        ),
        (
            "actions_failed",
            "Attempts at on-change actions that failed.",
            &counters.actions_failed,
        ),
        (
            "credentials_served",
            "systemd credentials given out.",
            &counters.credentials_served,
        ),
        (
            "credentials_refused",
            "systemd credentials refused.",
            &counters.credentials_refused,
        ),
        (
            "secrets_api_values",
            "Values told by services' own secrets APIs.",
            &counters.api_values,
        ),
        (
            "secrets_api_refused",
            "Calls of services' own secrets APIs with wrong credentials.",
            &counters.api_refused,
        ),
    ] {
        let name = format!("{name}_total");
        text.family(&name, "counter", help);
        text.sample(&name, &[], counter.get());
    }
    text.0
}

fn gauges(text: &mut Exposition, status: &AgentStatus, counters: &Counters) {
    text.family("agent_info", "gauge", "The agent that answers.");
    text.sample("agent_info", &[("version", &status.agent_version)], 1);
    let connected = status.hub.state == HubState::Connected;
    text.gauge(
        "hub_connected",
        "Whether the hub is connected.",
        u8::from(connected),
    );
    let revoked = status.hub.state == HubState::Revoked;
    text.gauge(
        "node_revoked",
        "Whether the hub revoked the node.",
        u8::from(revoked),
    );
    if let Some(until) = status.hub.certificate_not_after {
        text.gauge(
            "hub_certificate_expiry_timestamp_seconds",
            "When the node's certificate for the hub ends.",
            until.as_second(),
        );
    }
    let contact = counters.last_contact.load(Ordering::Relaxed);
    if contact > 0 {
        let help = "When the hub last answered; absent until it has.";
        text.gauge("last_contact_timestamp_seconds", help, contact);
    }
    let help = "The generation that is worked through.";
    text.gauge("generation", help, status.generation);
    let problems = status.profile_problems.len();
    text.gauge(
        "profile_problems",
        "What is wrong or doubtful in services.d.",
        problems,
    );
    let consumers = status
        .services
        .iter()
        .flat_map(|service| &service.consumers);
    let actions = consumers.filter_map(|consumer| consumer.on_change.as_ref());
    let failing = actions.filter(|action| action.state == ActionState::Failing);
    let help = "Consumers whose on-change action fails at present.";
    text.gauge("on_change_failing", help, failing.count());
}

fn services(text: &mut Exposition, status: &AgentStatus) {
    text.family("deployments", "gauge", "Deployments by state.");
    for (state, word) in STATES {
        let count = status.services.iter().filter(|s| s.state == state).count();
        text.sample("deployments", &[("state", word)], count);
    }
    if status.services.is_empty() {
        return;
    }
    // One that was withdrawn and one that took its place may stand side by side.
    let mut by_name: BTreeMap<_, BTreeSet<DeploymentState>> = BTreeMap::new();
    for ServiceStatus {
        service,
        policy,
        state,
        ..
    } in &status.services
    {
        by_name.entry((service, policy)).or_default().insert(*state);
    }
    text.family(
        "service_state",
        "gauge",
        "1 for the state that the service is in.",
    );
    for ((service, policy), now) in by_name {
        for (state, word) in STATES {
            let labels = [
                ("org", service.org.as_str()),
                ("service", service.url.as_str()),
                ("policy", &policy.to_string()),
                ("state", word),
            ];
            text.sample("service_state", &labels, u8::from(now.contains(&state)));
        }
    }
}

/// The earliest end of each deployment that has one, by service and policy.
fn ends(text: &mut Exposition, status: &AgentStatus) {
    let mut by_name = BTreeMap::new();
    for service in &status.services {
        let ends = service
            .secrets
            .iter()
            .filter_map(|secret| secret.expires_at);
        if let Some(end) = ends.min() {
            let name = (&service.service, &service.policy);
            let earliest = by_name.entry(name).or_insert(end);
            *earliest = end.min(*earliest);
        }
    }
    if by_name.is_empty() {
        return;
    }
    text.family(
        "service_expiry_timestamp_seconds",
        "gauge",
        "When the first of the service's secrets ends, or ended.",
    );
    for ((service, policy), end) in by_name {
        let labels = [
            ("org", service.org.as_str()),
            ("service", service.url.as_str()),
            ("policy", &policy.to_string()),
        ];
        text.sample("service_expiry_timestamp_seconds", &labels, end.as_second());
    }
}

#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String does not fail, here and below.
        writeln!(
            self.0,
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
        )
        .ok();
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        write!(self.0, "{PREFIX}{name}").ok();
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            write!(self.0, "{open}{label}=\"{}\"", escape(text)).ok();
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.0, "{close} {value}").ok();
    }
}

/// A label's value as the format wants it: backslash, quote and line feed are escaped, nothing else.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The media type of [`render`]'s text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PREFIX: &str = "edge_secrets_";
const STATES: [(DeploymentState, &str); 6] = [
    (DeploymentState::Applied, "applied"),
    (DeploymentState::Blocked, "blocked"),
    (DeploymentState::Failed, "failed"),
    (DeploymentState::Pending, "pending"),
    (DeploymentState::Stopped, "stopped"),
    (DeploymentState::Wiped, "wiped"),
];

#[cfg(test)]
mod tests;
