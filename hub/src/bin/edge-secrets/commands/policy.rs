//! `edge-secrets policy …`

use edge_secrets_hub::wire::{PolicyInfo, paths};
use edge_secrets_protocol::PolicyName;

use super::Session;
use super::named::Named;
use crate::cli::PolicyCommand;
use crate::client::at;
use crate::error::Error;
use crate::output::Table;
use crate::times::age;

pub(super) async fn run(command: PolicyCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        PolicyCommand::Publish {
            name,
            file,
            dry_run,
            allow_missing,
        } => {
            let published = named(&name)
                .publish(&file, dry_run, allow_missing, session)
                .await?;
            if !published.dry_run && !published.changes.is_empty() {
                session.ui.hint(&format!(
                    "\nFollow it with: edge-secrets rollout {name} --watch"
                ));
            }
            Ok(())
        }
        PolicyCommand::List => list(session).await,
        PolicyCommand::Show { name } => named(&name).show(session).await,
        PolicyCommand::Rm { name, dry_run } => named(&name).remove(dry_run, session).await,
    }
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::POLICIES, &[session.client.org().as_str()]);
    let policies: Vec<PolicyInfo> = session.client.get(target).await?;
    session
        .ui
        .show_list(&policies, "There are no deployment policies.", |now| {
            let mut table = Table::new(["POLICY", "SERVICE", "NODES", "OWNER", "UPDATED"]);
            for policy in &policies {
                table.row([
                    policy.name.to_string(),
                    policy.service.to_string(),
                    policy.nodes.to_string(),
                    policy.owner.to_string(),
                    age(policy.updated_at, now),
                ]);
            }
            table.render()
        })
}

fn named(name: &PolicyName) -> Named<'_> {
    Named {
        title: "Policy",
        noun: "policy",
        path: paths::POLICY,
        name: name.as_str(),
    }
}
