//! `edge-secrets manager …`

use edge_secrets_hub::managers::ManagerName;
use edge_secrets_hub::wire::{CallCount, ManagerCheck, ManagerInfo, paths};
use http::Method;

use super::Session;
use crate::cli::ManagerCommand;
use crate::client::at;
use crate::error::Error;
use crate::output::Table;

pub(super) async fn run(command: ManagerCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        ManagerCommand::List => list(session).await,
        ManagerCommand::Check { name } => check(&name, session).await,
    }
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::MANAGERS, &[session.client.org().as_str()]);
    let managers: Vec<ManagerInfo> = session.client.get(target).await?;
    let none = "There are no secrets managers but the hub's own.";
    session.ui.show_list(&managers, none, |_| {
        let mut table = Table::new(["MANAGER", "KIND", "PATHS", "SECRETS", "CALLS", "STATE"]);
        for manager in &managers {
            let name = match manager.default {
                true => format!("{} (default)", manager.name),
                false => manager.name.to_string(),
            };
            let secrets = match manager.troubled {
                0 => manager.watched.to_string(),
                troubled => format!("{}, {troubled} in trouble", manager.watched),
            };
            table.row([
                name,
                manager.kind.as_str().to_owned(),
                manager.paths.join(", "),
                secrets,
                calls(&manager.calls),
                state(manager),
            ]);
        }
        table.render()
    })
}

fn calls(calls: &[CallCount]) -> String {
    let all: u64 = calls.iter().map(|call| call.count).sum();
    let well = calls.iter().filter(|call| call.result == "ok");
    let well: u64 = well.map(|call| call.count).sum();
    match all - well {
        0 => all.to_string(),
        failed => format!("{all}, {failed} failed"),
    }
}

fn state(manager: &ManagerInfo) -> String {
    match (&manager.trouble, manager.left_alone_seconds) {
        (None, _) => "well".to_owned(),
        (Some(trouble), None) => format!("{}: {}", trouble.fault, trouble.detail),
        (Some(trouble), Some(left)) => format!(
            "{}: {}; left alone for {left} s more",
            trouble.fault, trouble.detail
        ),
    }
}

async fn check(name: &ManagerName, session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(
        paths::MANAGER_CHECK,
        &[session.client.org().as_str(), name.as_str()],
    );
    let check: ManagerCheck = session.client.ask(Method::POST, target).await?;
    session.ui.show(&check, |_| {
        let mut text = match &check.version {
            Some(version) => format!("Manager {name} ({version}) answers and knows the hub.\n"),
            None => format!("Manager {name} answers and knows the hub.\n"),
        };
        if !check.healthy {
            text.clear();
        }
        for note in &check.notes {
            text.push_str(note);
            text.push('\n');
        }
        text
    })?;
    match check.trouble {
        None => Ok(()),
        Some(trouble) => Err(Error::Failed(format!(
            "manager {name} cannot be used: {} ({})",
            trouble.detail, trouble.fault
        ))),
    }
}
