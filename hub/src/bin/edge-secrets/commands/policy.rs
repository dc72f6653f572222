//! `edge-secrets policy …`

use edge_secrets_hub::wire::{PolicyInfo, Published, paths};
use edge_secrets_protocol::PolicyName;
use http::Method;

use super::{Session, changes};
use crate::cli::PolicyCommand;
use crate::client::{Target, at};
use crate::error::Error;
use crate::input::read_document;
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
            let target = route(&name, session).with("dry_run", dry_run);
            let target = target.with("allow_missing", allow_missing);
            publish(&name, &file, target, session).await
        }
        PolicyCommand::List => list(session).await,
        PolicyCommand::Show { name } => show(&name, session).await,
        PolicyCommand::Rm { name, dry_run } => remove(&name, dry_run, session).await,
    }
}

async fn publish(
    name: &PolicyName,
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
        &format!("Policy {name} is published"),
        &format!("Publishing policy {name}"),
        session.ui,
    )?;
    if !published.dry_run && !published.changes.is_empty() {
        session.ui.hint(&format!(
            "\nFollow it with: edge-secrets rollout {name} --watch"
        ));
    }
    Ok(())
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

async fn show(name: &PolicyName, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(name, session);
    // A YAML value keeps the order in which the policy was written.
    let document: serde_yaml::Value = session.client.get(target).await?;
    session.ui.show(&document, |_| {
        serde_yaml::to_string(&document).unwrap_or_default()
    })
}

async fn remove(name: &PolicyName, dry_run: bool, session: &mut Session<'_>) -> Result<(), Error> {
    let did = format!("Policy {name} is withdrawn");
    let would = format!("Withdrawing policy {name}");
    if !dry_run {
        if session.ui.will_ask() {
            // Who is asked should see what they are asked about.
            let published = withdraw(name, true, session).await?;
            let text = changes::render(&published, &did, &would);
            session.ui.note(&text);
        }
        session.ui.confirm(&format!(
            "Withdraw policy {name} and wipe what it delivered?"
        ))?;
    }
    let published = withdraw(name, dry_run, session).await?;
    changes::show(&published, &did, &would, session.ui)
}

async fn withdraw(
    name: &PolicyName,
    dry_run: bool,
    session: &mut Session<'_>,
) -> Result<Published, Error> {
    let target = route(name, session).with("dry_run", dry_run);
    session.client.ask(Method::DELETE, target).await
}

fn route(name: &PolicyName, session: &Session<'_>) -> Target {
    at(
        paths::POLICY,
        &[session.client.org().as_str(), name.as_str()],
    )
}
