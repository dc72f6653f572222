//! `GET /v1/metrics`: what the hub counts, in the Prometheus text format, for administrators.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::routing::get;

use super::peer::UserPeer;
use super::problem::ApiError;
use crate::catalog::records::{LeaseQuery, LeaseState, Role};
use crate::hub::Hub;
use crate::wire::paths;

/// The call, to be given its hub.
pub fn router() -> Router<Arc<Hub>> {
    Router::new().route(paths::METRICS, get(call))
}

async fn call(
    State(hub): State<Arc<Hub>>,
    peer: UserPeer,
) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    if peer.role != Role::Admin {
        return Err(ApiError::denied());
    }
    let mut text = String::new();
    managers(&hub, &mut text);
    leases(&hub, &peer, &mut text).await?;
    metric(
        &mut text,
        "edge_secrets_hub_watching_nodes",
        "gauge",
        "Nodes that watch this hub now.",
    );
    line(
        &mut text,
        "edge_secrets_hub_watching_nodes",
        &[],
        hub.feed.connected() as f64,
    );
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn managers(hub: &Hub, text: &mut String) {
    metric(
        text,
        CALLS,
        "counter",
        "Calls of secrets managers, by what was asked and what came of it.",
    );
    for manager in hub.managers.iter() {
        for ((call, result), count) in manager.counts() {
            let labels = [
                ("manager", manager.name.as_str()),
                ("call", call.as_str()),
                ("result", result),
            ];
            line(text, CALLS, &labels, count.calls as f64);
        }
    }
    metric(text, SECONDS, "counter", "Time that those calls took.");
    for manager in hub.managers.iter() {
        for ((call, result), count) in manager.counts() {
            let labels = [
                ("manager", manager.name.as_str()),
                ("call", call.as_str()),
                ("result", result),
            ];
            line(text, SECONDS, &labels, count.time.as_secs_f64());
        }
    }
    metric(
        text,
        KEPT,
        "gauge",
        "Values of a manager that are kept in memory.",
    );
    for manager in hub.managers.iter() {
        let labels = [("manager", manager.name.as_str())];
        line(text, KEPT, &labels, manager.kept_values() as f64);
    }
    metric(
        text,
        OPEN,
        "gauge",
        "1 while a manager is left alone because it is in trouble.",
    );
    for manager in hub.managers.iter() {
        let labels = [("manager", manager.name.as_str())];
        let open = manager.left_alone().is_some();
        line(text, OPEN, &labels, f64::from(u8::from(open)));
    }
}

async fn leases(hub: &Hub, peer: &UserPeer, text: &mut String) -> Result<(), ApiError> {
    let query = LeaseQuery {
        org: Some(peer.org.clone()),
        ..LeaseQuery::default()
    };
    let leases = hub.catalog.leases(&query).await?;
    metric(
        text,
        LEASES,
        "gauge",
        "Leases of the caller's organisation, by state.",
    );
    for state in [
        LeaseState::Wanted,
        LeaseState::Minting,
        LeaseState::Live,
        LeaseState::Ending,
        LeaseState::Refused,
    ] {
        let count = leases.iter().filter(|lease| lease.state == state).count();
        line(text, LEASES, &[("state", state.as_str())], count as f64);
    }
    Ok(())
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
}

/// Names and codes have no character that a label would have to escape.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    let labels = match labels.as_slice() {
        [] => String::new(),
        labels => format!("{{{}}}", labels.join(",")),
    };
    writeln!(text, "{name}{labels} {value}").ok();
}

const CALLS: &str = "edge_secrets_hub_manager_calls_total";
const SECONDS: &str = "edge_secrets_hub_manager_seconds_total";
const KEPT: &str = "edge_secrets_hub_manager_kept_values";
const OPEN: &str = "edge_secrets_hub_manager_left_alone";
const LEASES: &str = "edge_secrets_hub_leases";
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
