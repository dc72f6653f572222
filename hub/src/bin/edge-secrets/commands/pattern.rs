//! `edge-secrets pattern …`

use edge_secrets_hub::wire::{PatternInfo, Published, paths};
use edge_secrets_protocol::PatternName;
use http::Method;

use super::{Session, changes};
use crate::cli::PatternCommand;
use crate::client::{Target, at};
use crate::error::Error;
use crate::input::read_document;
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
            let target = route(&name, session).with("dry_run", dry_run);
            let target = target.with("allow_missing", allow_missing);
            publish(&name, &file, target, session).await
        }
        PatternCommand::List => list(session).await,
        PatternCommand::Show { name } => show(&name, session).await,
        PatternCommand::Rm { name, dry_run } => remove(&name, dry_run, session).await,
    }
}

async fn publish(
    name: &PatternName,
    file: &str,
    target: Target,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let document = read_document(&file.into(), session.ui)?;
    let published: Published = session
        .client
        .send_document(Method::PUT, target, document.media_type, document.body)
        .await
        .map_err(|error| error.about(&document.name))?;
    changes::show(
        &published,
        &format!("Pattern {name} is published"),
        &format!("Publishing pattern {name}"),
        session.ui,
    )
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

async fn show(name: &PatternName, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(name, session);
    // A YAML value keeps the order in which the pattern was written.
    let document: serde_yaml::Value = session.client.get(target).await?;
    session.ui.show(&document, |_| {
        serde_yaml::to_string(&document).unwrap_or_default()
    })
}

async fn remove(name: &PatternName, dry_run: bool, session: &mut Session<'_>) -> Result<(), Error> {
    let did = format!("Pattern {name} is withdrawn");
    let would = format!("Withdrawing pattern {name}");
    if !dry_run {
        if session.ui.will_ask() {
            // Who is asked should see what they are asked about.
            let published = withdraw(name, true, session).await?;
            let text = changes::render(&published, &did, &would);
            session.ui.note(&text);
        }
        session.ui.confirm(&format!(
            "Withdraw pattern {name} and wipe what it delivered?"
        ))?;
    }
    let published = withdraw(name, dry_run, session).await?;
    changes::show(&published, &did, &would, session.ui)
}

async fn withdraw(
    name: &PatternName,
    dry_run: bool,
    session: &mut Session<'_>,
) -> Result<Published, Error> {
    let target = route(name, session).with("dry_run", dry_run);
    session.client.ask(Method::DELETE, target).await
}

fn services(pattern: &PatternInfo) -> String {
    let services = pattern.services.iter().map(ToString::to_string);
    services.collect::<Vec<_>>().join(", ")
}

fn route(name: &PatternName, session: &Session<'_>) -> Target {
    at(
        paths::PATTERN,
        &[session.client.org().as_str(), name.as_str()],
    )
}
