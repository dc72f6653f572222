//! What a change of definitions did, or would do, in words.

use std::collections::BTreeSet;

use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{BoundName, ChangeKind, Elsewhere, Published};

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
        text.push_str(&format!("{}.\n", tally(published)));
        let mut table = Table::new(["NODE", "", "SERVICE", "VERSION", "SECRETS"]);
        for change in &published.changes {
            table.row([
                change.node.to_string(),
                verb(change.change).to_owned(),
                change.service.to_string(),
                moved(change.was_version.as_deref(), &change.service_version),
                bound(&change.secrets),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    if let Some(Elsewhere { orgs, nodes }) = published.elsewhere {
        let follow = match published.dry_run {
            true => "would follow",
            false => "follow",
        };
        let orgs = count(orgs, "organisation");
        text.push_str(&format!(
            "\nNodes of other organisations that {follow} it: {nodes}, of {orgs}.\n"
        ));
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

/// How many nodes gain a deployment, lose one, and have one that changes.
fn tally(published: &Published) -> String {
    let of = |kind: ChangeKind| {
        let nodes = published.changes.iter().filter(|one| one.change == kind);
        let nodes: BTreeSet<_> = nodes.map(|one| &one.node).collect();
        (verb(kind), nodes.len())
    };
    let all = [ChangeKind::Deploy, ChangeKind::Undeploy, ChangeKind::Update].map(of);
    let some = all.into_iter().filter(|(_, nodes)| *nodes > 0);
    let told = some.map(|(verb, nodes)| {
        // "gains" of one node, "gain" of several.
        let verb = if nodes == 1 {
            verb
        } else {
            verb.trim_end_matches('s')
        };
        format!("{} {verb}", count(nodes, "node"))
    });
    let more = match published.more_changes {
        0 => String::new(),
        more => format!("; {more} more changes are not listed"),
    };
    told.collect::<Vec<_>>().join(", ") + &more
}

/// `name -> reference`; where several are tried, in their order; where it changes, `(was reference)`.
fn bound(secrets: &[BoundName]) -> String {
    let bound = |secret: &BoundName| {
        let (name, now) = (&secret.name, shown(&secret.references));
        match secret.was.as_deref() {
            None => format!("{name} -> {now}"),
            Some([]) => format!("{name} -> {now} (new)"),
            Some(was) if secret.references.is_empty() => {
                format!("{name} goes (was {})", shown(was))
            }
            Some(was) => format!("{name} -> {now} (was {})", shown(was)),
        }
    };
    secrets.iter().map(bound).collect::<Vec<_>>().join(", ")
}

fn shown(references: &[SecretRef]) -> String {
    let references: Vec<_> = references.iter().map(ToString::to_string).collect();
    references.join(" else ")
}

fn moved(was: Option<&str>, now: &str) -> String {
    match was {
        Some(was) => format!("{was} -> {now}"),
        None => now.to_owned(),
    }
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
             1 node gains, 1 node loses.\n\
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
    fn what_moves_is_said_with_where_it_comes_from() {
        let change = |node: &str| {
            json!({"node": node, "service": {"org": "myorg", "url": "u"}, "service_version": "2.0.0",
                "was_version": "1.0.0", "policy": "p", "change": "update", "secrets": [
                    {"name": "a", "references": ["new"], "was": ["node/n/old", "old"]},
                    {"name": "b", "references": ["same"]},
                    {"name": "c", "references": ["x"], "was": []},
                    {"name": "d", "references": [], "was": ["y"]}]})
        };
        let published = serde_json::from_value(json!({
            "dry_run": true, "changes": [change("n1"), change("n2")], "more_changes": 7,
            "untouched_nodes": 1, "warnings": [],
        }))
        .unwrap();
        let text = render(&published, "x", "Publishing policy p");
        assert!(
            text.contains("\n2 nodes update; 7 more changes are not listed.\n"),
            "{text}"
        );
        assert!(text.contains("1.0.0 -> 2.0.0"), "{text}");
        let moves = "a -> new (was node/n/old else old), b -> same, c -> x (new), d goes (was y)";
        assert!(text.contains(moves), "{text}");
    }

    #[test]
    fn nodes_of_others_are_counted() {
        let mut published = published(true);
        assert!(!render(&published, "x", "y").contains("other organisations"));
        published.elsewhere = Some(Elsewhere { orgs: 1, nodes: 7 });
        let text = render(&published, "x", "y");
        let line = "\nNodes of other organisations that would follow it: 7, of 1 organisation.\n";
        assert!(text.contains(line), "{text}");
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
