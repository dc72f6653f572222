//! `edge-secrets manager …`

use edge_secrets_hub::managers::ManagerName;
use edge_secrets_hub::wire::{CallCount, EngineSet, ManagerCheck, ManagerInfo, SetEngine, paths};
use edge_secrets_protocol::Secret;
use edge_secrets_protocol::sealed::Place;
use http::Method;

use super::Session;
use crate::cli::{EngineArgs, ManagerCommand};
use crate::client::at;
use crate::error::Error;
use crate::input::{Source, read_value};
use crate::output::Table;

pub(super) async fn run(command: ManagerCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        ManagerCommand::List => list(session).await,
        ManagerCommand::Check { name } => check(&name, session).await,
        ManagerCommand::Engine(args) => engine(args, session).await,
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
        (None, None) => "well".to_owned(),
        (None, Some(left)) => format!("well; left alone for {left} s more: it wants fewer calls"),
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

async fn engine(args: EngineArgs, session: &mut Session<'_>) -> Result<(), Error> {
    if !args.stray.is_empty() {
        return Err(Error::Usage(
            "a key never stands on the command line, where others can see it: use --api-key-file F, \
             or `-` for standard input. What was given there should be considered seen"
                .to_owned(),
        ));
    }
    let EngineArgs { name, engine, .. } = args;
    let source = Source::from(args.api_key_file.as_str());
    let key = without_line_end(read_value(&source, "--api-key-file", session.ui)?);
    if key.is_empty() || !key.expose().iter().all(u8::is_ascii_graphic) {
        return Err(Error::Usage(
            "what --api-key-file names is no API key: it is empty, or has a space or what is no text \
             within"
                .to_owned(),
        ));
    }
    let info = session.hub_info().await?;
    let place = Place::Engine {
        org: &info.org,
        user: &info.user,
        manager: name.as_str(),
        name: &engine,
    };
    let sealed = info
        .sealing_key
        .seal(&place, &key)
        .map_err(|error| Error::Failed(format!("the key cannot be sealed: {error}")))?;
    // From here on there is ciphertext only.
    drop(key);
    let target = at(
        paths::MANAGER_ENGINE,
        &[session.client.org().as_str(), name.as_str()],
    );
    let body = SetEngine {
        name: engine,
        sealed,
    };
    let done: EngineSet = session.client.send(Method::PUT, target, &body).await?;
    session.ui.show(&done, |_| {
        let did = if done.replaced { "replaced" } else { "made" };
        format!(
            "Manager {} makes credentials with this key from now on: its {} {} is {did}.\n",
            done.manager, done.kind, done.name
        )
    })
}

fn without_line_end(value: Secret) -> Secret {
    let bytes = value.expose();
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let len = bytes.iter().rposition(|byte| !is_end(byte));
    let kept = len.map_or(0, |last| last + 1);
    match bytes.get(..kept) {
        Some(kept) if kept.len() < bytes.len() => Secret::new(kept.to_vec()),
        _ => value,
    }
}
