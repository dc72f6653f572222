//! `edge-secrets pattern …`

use edge_secrets_hub::wire::{PatternInfo, paths};
use edge_secrets_protocol::{OrgId, PatternChoice, PatternName};

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
        PatternCommand::List { of } => list(of.as_ref(), session).await,
        PatternCommand::Show { name } => show(&name, session).await,
        PatternCommand::Rm { name, dry_run } => named(&name).remove(dry_run, session).await,
    }
}

async fn show(
    PatternChoice { org, name }: &PatternChoice,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    named(name).show_of(org.as_ref(), session).await
}

async fn list(of: Option<&OrgId>, session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::PATTERNS, &[session.client.org().as_str()]).with_some("of", of);
    let patterns: Vec<PatternInfo> = session.client.get(target).await?;
    let none = match of {
        None => "There are no patterns.".to_owned(),
        Some(org) => format!("There are no public patterns of {org}."),
    };
    session.ui.show_list(&patterns, &none, |now| {
        let mut table = Table::new(["PATTERN", "SERVICES", "PUBLIC", "NODES", "OWNER", "UPDATED"]);
        for pattern in &patterns {
            table.row([
                pattern.name.to_string(),
                services(pattern),
                if pattern.public { "yes" } else { "no" }.to_owned(),
                pattern.nodes.to_string(),
                pattern
                    .owner
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
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
