//! `edge-secrets pattern …`

use edge_secrets_hub::wire::{PatternInfo, paths};
use edge_secrets_protocol::PatternName;

use super::Session;
use super::named::Named;
use crate::cli::PatternCommand;
use crate::client::at;
use crate::error::Error;
use crate::output::Table;
use crate::times::age;

pub(super) async fn run(command: PatternCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        PatternCommand::Publish {
            name,
            file,
            dry_run,
            allow_missing,
        } => {
            named(&name)
                .publish(&file, dry_run, allow_missing, session)
                .await?;
            Ok(())
        }
        PatternCommand::List => list(session).await,
        PatternCommand::Show { name } => named(&name).show(session).await,
        PatternCommand::Rm { name, dry_run } => named(&name).remove(dry_run, session).await,
    }
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::PATTERNS, &[session.client.org().as_str()]);
    let patterns: Vec<PatternInfo> = session.client.get(target).await?;
    session
        .ui
        .show_list(&patterns, "There are no patterns.", |now| {
            let mut table =
                Table::new(["PATTERN", "SERVICES", "PUBLIC", "NODES", "OWNER", "UPDATED"]);
            for pattern in &patterns {
                table.row([
                    pattern.name.to_string(),
                    services(pattern),
                    if pattern.public { "yes" } else { "no" }.to_owned(),
                    pattern.nodes.to_string(),
                    pattern.owner.to_string(),
                    age(pattern.updated_at, now),
                ]);
            }
            table.render()
        })
}

fn services(pattern: &PatternInfo) -> String {
    let services = pattern.services.iter().map(ToString::to_string);
    services.collect::<Vec<_>>().join(", ")
}

fn named(name: &PatternName) -> Named<'_> {
    Named {
        title: "Pattern",
        noun: "pattern",
        path: paths::PATTERN,
        name: name.as_str(),
    }
}
