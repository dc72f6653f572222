//! What a change of definitions did, or would do, in words.

use edge_secrets_hub::wire::{BoundName, ChangeKind, Published};

use crate::error::Error;
use crate::output::{Table, Ui, count};

/// Shows it; `did` is what happens to the definition, like `Policy uplink is published`, and `would`
/// what a dry run only asks about, like `Publishing policy uplink`.
pub(super) fn show(
    published: &Published,
    did: &str,
    would: &str,
    ui: &mut Ui,
) -> Result<(), Error> {
    ui.show(published, |_| render(published, did, would))
}

/// The same as text.
pub(super) fn render(published: &Published, did: &str, would: &str) -> String {
    let mut nodes: Vec<_> = published
        .changes
        .iter()
        .map(|change| &change.node)
        .collect();
    nodes.sort();
    nodes.dedup();
    let touched = count(nodes.len(), "node");
    let untouched = published.untouched_nodes;
    let mut text = if published.dry_run {
        format!(
            "Dry run: nothing has changed. {would} would change {touched} and leave {untouched} as \
             they are.\n"
        )
    } else {
        format!("{did}: {touched} changed, {untouched} left as they are.\n")
    };
    if !published.changes.is_empty() {
        let mut table = Table::new(["NODE", "", "SERVICE", "VERSION", "SECRETS"]);
        for change in &published.changes {
            table.row([
                change.node.to_string(),
                verb(change.change).to_owned(),
                change.service.to_string(),
                change.service_version.clone(),
                bound(&change.secrets),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    for warning in &published.warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text
}

fn verb(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Deploy => "gains",
        ChangeKind::Update => "updates",
        ChangeKind::Undeploy => "loses",
    }
}

/// `name -> reference`; where several are tried, in their order.
fn bound(secrets: &[BoundName]) -> String {
    let bound = |secret: &BoundName| {
        let references: Vec<_> = secret.references.iter().map(ToString::to_string).collect();
        format!("{} -> {}", secret.name, references.join(" else "))
    };
    secrets.iter().map(bound).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published(dry_run: bool) -> Published {
        serde_json::from_value(json!({
            "dry_run": dry_run,
            "changes": [
                {"node": "edge-01", "service": {"org": "myorg", "url": "com.example.uplink"},
                 "service_version": "1.2.0", "policy": "uplink", "change": "deploy",
                 "secrets": [{"name": "myCloudServiceCred",
                              "references": ["node/edge-01/xyz", "xyz"]}]},
                {"node": "edge-01", "service": {"org": "myorg", "url": "com.example.gps"},
                 "service_version": "1.0.0", "policy": "uplink", "change": "undeploy",
                 "secrets": []},
            ],
            "untouched_nodes": 41,
            "warnings": ["no service declares `old`"],
        }))
        .unwrap()
    }

    #[test]
    fn who_gains_and_who_loses_is_said_per_node() {
        let text = render(
            &published(false),
            "Policy uplink is published",
            "Publishing it",
        );
        assert_eq!(
            text,
            "Policy uplink is published: 1 node changed, 41 left as they are.\n\
             \n\
             NODE     -      SERVICE                   VERSION  SECRETS\n\
             edge-01  gains  myorg/com.example.uplink  1.2.0    myCloudServiceCred -> \
             node/edge-01/xyz else xyz\n\
             edge-01  loses  myorg/com.example.gps     1.0.0    -\n\
             \n\
             warning: no service declares `old`\n"
                .replace("NODE     -    ", "NODE          ")
        );
    }

    #[test]
    fn a_dry_run_says_first_that_nothing_changed() {
        let text = render(
            &published(true),
            "Policy uplink is published",
            "Publishing it",
        );
        assert!(
            text.starts_with("Dry run: nothing has changed. Publishing it would change 1 node "),
            "{text}"
        );
        assert!(!text.contains("is published"), "{text}");
    }
}
