//! `GET /v1/metrics`: what the hub counts, in the Prometheus text format, for administrators.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::routing::get;

use super::peer::UserPeer;
use super::problem::ApiError;
use crate::catalog::records::{LeaseState, Role, Unsettled};
use crate::clock;
use crate::hub::Hub;
use crate::managers::guarded::{Count, Guarded};
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
    managers(&hub, &peer, &mut text);
    leases(&hub, &peer, &mut text).await?;
    let watching = hub.feed.connected(&peer.org) as f64;
    WATCHING.write(&mut text, [(vec![], watching)]);
    lagging(&hub, &peer, &mut text).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// Those that the caller's organisation may use.
fn managers(hub: &Hub, peer: &UserPeer, text: &mut String) {
    let managers: Vec<_> = hub.managers.usable_by(&peer.org).collect();
    let calls: Vec<_> = managers
        .iter()
        .flat_map(|manager| {
            manager
                .counts()
                .into_iter()
                .map(move |count| (manager, count))
        })
        .collect();
    let by_call = |value: fn(&Count) -> f64| {
        calls.iter().map(move |(manager, ((call, result), count))| {
            let labels = vec![
                ("manager", manager.name.as_str()),
                ("call", call.as_str()),
                ("result", *result),
            ];
            (labels, value(count))
        })
    };
    CALLS.write(text, by_call(|count| count.calls as f64));
    SECONDS.write(text, by_call(|count| count.time.as_secs_f64()));
    let each = |value: fn(&Guarded) -> f64| {
        managers.iter().map(move |manager| {
            let labels = vec![("manager", manager.name.as_str())];
            (labels, value(manager))
        })
    };
    UNKNOWN.write(text, each(|manager| manager.unknown_outcomes() as f64));
    KEPT.write(text, each(|manager| manager.kept_values() as f64));
    OPEN.write(
        text,
        each(|manager| f64::from(u8::from(manager.left_alone().is_some()))),
    );
}

async fn leases(hub: &Hub, peer: &UserPeer, text: &mut String) -> Result<(), ApiError> {
    let leases = hub.catalog.count_leases(&peer.org).await?;
    // Dead ones are kept for a while, and are not asked for: their number would say nothing.
    let open = LeaseState::ALL.into_iter();
    let open = open.filter(|state| *state != LeaseState::Ended);
    let series = open.map(|state| {
        let count = leases.get(&state).copied().unwrap_or_default();
        (vec![("state", state.as_str())], count as f64)
    });
    LEASES.write(text, series);
    Ok(())
}

/// Costs what there is to tell: the catalog keeps an index of these nodes alone.
async fn lagging(hub: &Hub, peer: &UserPeer, text: &mut String) -> Result<(), ApiError> {
    let lagging = hub.catalog.lagging(&peer.org).await?;
    let nodes: Vec<_> = lagging.iter().map(|lag| &lag.node).collect();
    let watching = hub.feed.watching(&peer.org, &nodes);
    let of = |connected: bool| {
        let nodes = lagging.iter().zip(&watching);
        nodes.filter_map(move |(lag, watches)| lag.since.filter(|_| *watches == connected))
    };
    let by_connected = |value: &dyn Fn(bool) -> f64| {
        [(true, "yes"), (false, "no")]
            .map(|(connected, label)| (vec![("connected", label)], value(connected)))
    };
    let now = clock::now();
    // A clock that was set back makes nobody ahead.
    let longest = |connected| {
        let since = of(connected).min();
        since.map_or(0.0, |since| {
            now.duration_since(since).as_secs_f64().max(0.0)
        })
    };
    BEHIND.write(
        text,
        by_connected(&|connected| of(connected).count() as f64),
    );
    BEHIND_SECONDS.write(text, by_connected(&longest));
    let unsettled = Unsettled::ALL.map(|state| {
        let lagging = lagging.iter();
        // What is said of what counts no more is not counted.
        let of = lagging.filter(|lag| lag.since.is_none() && lag.unsettled == Some(state));
        (vec![("state", state.as_str())], of.count() as f64)
    });
    UNSETTLED.write(text, unsettled);
    Ok(())
}

/// A metric: its series stand together, behind what it is.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Metric {
    /// Names and codes have no character that a label would have to escape.
    fn write<'a>(&self, text: &mut String, series: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let Self { name, kind, help } = self;
        // Writing to a string does not fail.
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        for (labels, value) in series {
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
    }
}

const CALLS: Metric = Metric {
    name: "edge_secrets_hub_manager_calls_total",
    kind: "counter",
    help: "Calls of secrets managers, by what was asked and what came of it.",
};
const SECONDS: Metric = Metric {
    name: "edge_secrets_hub_manager_seconds_total",
    kind: "counter",
    help: "Time that those calls took.",
};
const UNKNOWN: Metric = Metric {
    name: "edge_secrets_manager_unknown_outcomes_total",
    kind: "counter",
    help: "Credentials that were asked for, and of which nobody knows whether they were made.",
};
const KEPT: Metric = Metric {
    name: "edge_secrets_hub_manager_kept_values",
    kind: "gauge",
    help: "Values of a manager that are kept in memory.",
};
const OPEN: Metric = Metric {
    name: "edge_secrets_hub_manager_left_alone",
    kind: "gauge",
    help: "1 while a manager is left alone because it is in trouble.",
};
const LEASES: Metric = Metric {
    name: "edge_secrets_hub_leases",
    kind: "gauge",
    help: "Leases of the caller's organisation, by state.",
};
const WATCHING: Metric = Metric {
    name: "edge_secrets_hub_watching_nodes",
    kind: "gauge",
    help: "Nodes of the caller's organisation that watch this hub now.",
};
const BEHIND: Metric = Metric {
    name: "edge_secrets_hub_nodes_behind",
    kind: "gauge",
    help: "Nodes of the caller's organisation that should have what they have not reported to have worked through, by whether they watch this hub now.",
};
const BEHIND_SECONDS: Metric = Metric {
    name: "edge_secrets_hub_nodes_behind_longest_seconds",
    kind: "gauge",
    help: "For how long the longest of them is behind.",
};
const UNSETTLED: Metric = Metric {
    name: "edge_secrets_hub_nodes_unsettled",
    kind: "gauge",
    help: "Nodes of the caller's organisation that are not behind and could not do all, by the worst that they reported of a deployment.",
};
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
