//! `edge-secrets node …`

use edge_secrets_hub::catalog::records::Unsettled;
use edge_secrets_hub::wire::{
    NewToken, NodeDetail, NodeInfo, NodePattern, NodeState, Published, TokenIssued, paths,
};
use edge_secrets_protocol::node::Property;
use edge_secrets_protocol::{NodeId, PatternChoice};
use http::Method;
use jiff::Timestamp;

use super::{Session, changes, standing};
use crate::cli::NodeCommand;
use crate::client::{Target, at};
use crate::error::Error;
use crate::output::Table;
use crate::times::{age, age_or_never};

pub(super) async fn run(command: NodeCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        NodeCommand::Token {
            node,
            ttl,
            owner,
            pattern,
        } => {
            let request = NewToken {
                ttl_seconds: ttl.as_secs().max(1),
                owner,
                pattern,
            };
            token(&node, &request, session).await
        }
        NodeCommand::Pattern {
            node,
            pattern,
            dry_run,
            ..
        } => put_on(&node, pattern, dry_run, session).await,
        NodeCommand::List { behind: false } => list(session).await,
        NodeCommand::List { behind: true } => behind(session).await,
        NodeCommand::Show { node } => show(&node, session).await,
        NodeCommand::Revoke { node } => revoke(&node, session).await,
        NodeCommand::Rm { node } => remove(&node, session).await,
    }
}

async fn token(node: &NodeId, request: &NewToken, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(paths::NODE_TOKEN, node, session);
    let issued: TokenIssued = session.client.send(Method::POST, target, request).await?;
    session
        .ui
        .show(&issued, |_| format!("{}\n", issued.token))?;
    let expiry = age(issued.expires_at, session.ui.now());
    session.ui.hint(&format!(
        "\nIt works once and expires {expiry}. On {node}: edge-secrets-agent enroll --token -"
    ));
    Ok(())
}

async fn put_on(
    node: &NodeId,
    pattern: Option<PatternChoice>,
    dry_run: bool,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let target = route(paths::NODE_PATTERN, node, session).with("dry_run", dry_run);
    let to = match &pattern {
        Some(pattern) => format!("pattern {pattern}"),
        None => "policies".to_owned(),
    };
    let request = NodePattern { pattern };
    let published: Published = session.client.send(Method::PUT, target, &request).await?;
    changes::show(
        &published,
        &format!("Node {node} is on {to}"),
        &format!("Putting node {node} on {to}"),
        session.ui,
    )
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::NODES, &[session.client.org().as_str()]);
    let nodes: Vec<NodeInfo> = session.client.get(target).await?;
    session.ui.show_list(&nodes, "There are no nodes.", |now| {
        let headers = [
            "NODE",
            "OWNER",
            "PATTERN",
            "STATE",
            "CONNECTED",
            "GENERATION",
            "REPORTED",
        ];
        let mut table = Table::new(headers);
        for node in &nodes {
            table.row([
                node.node.to_string(),
                node.owner
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                pattern(node),
                state(node).to_owned(),
                connected(node).to_owned(),
                generation(node),
                age_or_never(node.seen_at, now),
            ]);
        }
        table.render()
    })
}

/// What each lacks is in `node show`; here it is said who lacks anything, and since when.
async fn behind(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::NODES, &[session.client.org().as_str()]).with("behind", true);
    let nodes: Vec<NodeInfo> = session.client.get(target).await?;
    session
        .ui
        .show_list(&nodes, "Every node has what it should.", |now| {
            render_behind(&nodes, now)
        })
}

fn render_behind(nodes: &[NodeInfo], now: Timestamp) -> String {
    let headers = [
        "NODE",
        "CONNECTED",
        "GENERATION",
        "BEHIND",
        "DEPLOYMENTS",
        "REPORTED",
    ];
    let mut table = Table::new(headers);
    for node in nodes {
        table.row([
            node.node.to_string(),
            connected(node).to_owned(),
            generation(node),
            behind_since(node, now),
            unsettled(node).to_owned(),
            age_or_never(node.seen_at, now),
        ]);
    }
    table.render()
}

async fn show(node: &NodeId, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(paths::NODE, node, session);
    let detail: NodeDetail = session.client.get(target).await?;
    session.ui.show(&detail, |now| render(&detail, now))
}

async fn revoke(node: &NodeId, session: &mut Session<'_>) -> Result<(), Error> {
    session.ui.confirm(&format!(
        "Revoke node {node}? It wipes every secret it has, and must enrol again."
    ))?;
    let target = route(paths::NODE_REVOKE, node, session);
    session.client.command(Method::POST, target).await?;
    done(
        &format!(
            "Node {node} is revoked: it gets nothing more, and wipes what it has as soon as it \
                  hears of it."
        ),
        session,
    )
}

async fn remove(node: &NodeId, session: &mut Session<'_>) -> Result<(), Error> {
    session.ui.confirm(&format!(
        "Forget node {node}? It wipes what it has as soon as it hears of it; to come back it must \
         enrol again."
    ))?;
    let target = route(paths::NODE, node, session);
    session.client.command(Method::DELETE, target).await?;
    done(&format!("Node {node} is forgotten."), session)
}

/// Programs have the exit code: their output stays empty rather than becoming text.
fn done(text: &str, session: &mut Session<'_>) -> Result<(), Error> {
    if session.ui.for_people() {
        session.ui.print(&format!("{text}\n"))
    } else {
        Ok(())
    }
}

fn render(detail: &NodeDetail, now: Timestamp) -> String {
    let info = &detail.info;
    let facts = &detail.facts;
    let mut text = Table::facts([
        ("node", info.node.to_string()),
        (
            "owner",
            info.owner
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("pattern", pattern(info)),
        ("state", state(info).to_owned()),
        ("connected", connected(info).to_owned()),
        ("generation", generation(info)),
        ("behind", behind_since(info, now)),
        ("reported", age_or_never(info.seen_at, now)),
        ("enrolled", age(detail.enrolled_at, now)),
        ("agent", facts.agent_version.clone()),
        ("properties", properties(&facts.properties)),
        ("measured", properties(&facts.built_in)),
    ]);
    if detail.deployments.is_empty() {
        text.push_str("\nNothing is deployed.\n");
        return text;
    }
    let mut table = Table::new(["SERVICE", "VERSION", "POLICY", "STATE", "SECRETS", "REASON"]);
    for deployment in &detail.deployments {
        table.row([
            deployment.service.to_string(),
            deployment.service_version.clone(),
            deployment.policy.to_string(),
            standing::state(deployment.state).to_owned(),
            standing::secrets(&deployment.secrets),
            standing::error(deployment.error.as_ref()),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    text
}

fn properties(properties: &[Property]) -> String {
    let one = |property: &Property| format!("{}={}", property.name, property.value);
    properties.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn pattern(node: &NodeInfo) -> String {
    let pattern = node.pattern.as_ref();
    pattern.map(ToString::to_string).unwrap_or_default()
}

fn state(node: &NodeInfo) -> &'static str {
    match node.state {
        NodeState::Active => "active",
        NodeState::Revoked => "revoked",
    }
}

fn connected(node: &NodeInfo) -> &'static str {
    if node.connected { "yes" } else { "no" }
}

/// `7`, or what of it is worked through: `5/7`.
fn generation(node: &NodeInfo) -> String {
    match node.applied {
        Some(applied) if applied == node.generation => node.generation.to_string(),
        Some(applied) => format!("{applied}/{}", node.generation),
        None => format!("-/{}", node.generation),
    }
}

fn behind_since(node: &NodeInfo, now: Timestamp) -> String {
    match node.behind_since {
        Some(since) => format!("since {}", age(since, now)),
        None => "no".to_owned(),
    }
}

fn unsettled(node: &NodeInfo) -> &'static str {
    node.unsettled.map(Unsettled::as_str).unwrap_or_default()
}

fn route(template: &str, node: &NodeId, session: &Session<'_>) -> Target {
    at(template, &[session.client.org().as_str(), node.as_str()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_shown_with_its_deployments() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let mut detail = json!({
            "node": "edge-01", "owner": "alice", "state": "active", "connected": true,
            "generation": 7, "applied": 5, "seen_at": "2026-03-01T11:57:00Z",
            "behind_since": "2026-03-01T11:56:00Z",
            "enrolled_at": "2026-02-27T12:00:00Z",
            "facts": {"properties": [{"name": "site", "value": "berlin"}],
                      "built_in": [{"name": "openhorizon.cpu", "value": 4}],
                      "agent_version": "0.1.0"},
            "deployments": [{
                "id": "d1", "service": {"org": "myorg", "url": "com.example.uplink"},
                "service_version": "1.2.0", "policy": "uplink", "state": "blocked",
                "secrets": [{"name": "cred", "reference": "xyz", "state": "missing"}],
                "error": {"code": "missing", "detail": "cred does not exist"},
            }],
        });
        let read = |json: &serde_json::Value| serde_json::from_value(json.clone()).unwrap();
        assert_eq!(
            render(&read(&detail), now),
            "node:        edge-01\n\
             owner:       alice\n\
             pattern:     -\n\
             state:       active\n\
             connected:   yes\n\
             generation:  5/7\n\
             behind:      since 4m ago\n\
             reported:    3m ago\n\
             enrolled:    2d ago\n\
             agent:       0.1.0\n\
             properties:  site=\"berlin\"\n\
             measured:    openhorizon.cpu=4\n\
             \n\
             SERVICE                   VERSION  POLICY  STATE    SECRETS        REASON\n\
             myorg/com.example.uplink  1.2.0    uplink  blocked  cred: missing  \
             missing: cred does not exist\n"
        );
        detail["deployments"] = json!([]);
        assert!(render(&read(&detail), now).ends_with("\nNothing is deployed.\n"));
    }

    #[test]
    fn who_is_behind_is_told_from_who_could_not_do_all() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let nodes = json!([
            {"node": "edge-02", "state": "active", "connected": false, "generation": 7,
             "applied": 5, "seen_at": "2026-03-01T11:00:00Z",
             "behind_since": "2026-03-01T11:56:00Z"},
            {"node": "edge-03", "state": "active", "connected": true, "generation": 2,
             "applied": 2, "seen_at": "2026-03-01T11:57:00Z", "unsettled": "failed"},
        ]);
        let nodes: Vec<NodeInfo> = serde_json::from_value(nodes).unwrap();
        assert_eq!(
            render_behind(&nodes, now),
            "NODE     CONNECTED  GENERATION  BEHIND        DEPLOYMENTS  REPORTED\n\
             edge-02  no         5/7         since 4m ago  -            1h ago\n\
             edge-03  yes        2           no            failed       3m ago\n"
        );
    }
}
