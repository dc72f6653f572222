//! `edge-secrets secretsmanager …`: what `hzn secretsmanager` does, in its words.

use edge_secrets_hub::catalog::records::Role;
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{HubInfo, ManagedInfo, SecretInfo, SecretRemoved, paths};
use edge_secrets_protocol::{Code, Fields, Secret};
use http::Method;
use serde::Serialize;

use super::{Session, secret};
use crate::cli::{AddArgs, NodeArg, SecretsManagerArgs, SecretsManagerCommand, TheirSecretCommand};
use crate::client::{Target, at};
use crate::error::Error;
use crate::input::read_value;
use crate::output::{Format, Ui};

use name::{Meant, Scope};

mod identity;
mod name;
mod show;

pub(super) async fn run(args: SecretsManagerArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok();
    let context = (session.client.org(), session.client.user());
    let settled = identity::settle(args.org.as_deref(), args.user_pw.as_ref(), env, context)?;
    if let Some(note) = settled.note {
        session.ui.note(note);
    }
    if settled.org != *session.client.org() {
        return Err(other_org(&settled.org, session).await);
    }
    let SecretsManagerCommand::Secret(command) = args.command;
    match command {
        TheirSecretCommand::Add(args) => add(args, session).await,
        TheirSecretCommand::List { name, all, node } => {
            let name = name.unwrap_or_default();
            if all {
                return list(None, session).await;
            }
            match Meant::read(&name, node.node.as_deref()).map_err(bad_name)? {
                Meant::Scope(scope) => list(Some(&scope), session).await,
                Meant::Secret(reference) => exists(&reference, session).await,
            }
        }
        TheirSecretCommand::Read { name, node } => read(&secret_of(&name, &node)?, session).await,
        TheirSecretCommand::Remove { name, force, node } => {
            remove(&secret_of(&name, &node)?, force, session).await
        }
    }
}

async fn add(args: AddArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let reference = secret_of(&args.name, &args.node)?;
    if !args.stray.is_empty() {
        return Err(Error::Usage(
            "there is more on the line than one name: a value with spaces stands in quotes, or comes \
             with -f. What was given there should be considered seen"
                .to_owned(),
        ));
    }
    if args.detail.is_some() && args.file.is_some() {
        let text = "-f is mutually exclusive with --secretDetail.";
        return Err(Error::Usage(text.to_owned()));
    }
    let there = is_there(&reference, "add", session).await?;
    let payload = payload(&args, &reference, session.ui)?;
    if there && !args.overwrite {
        let question = format!(
            "Secret \"{reference}\" already exists in the secrets manager. Do you want to overwrite?"
        );
        if !session.ui.answer(&question) {
            return session.ui.print("Exiting.\n");
        }
    }
    let set = secret::set_payload(&reference, payload, session).await;
    let set = set.map_err(|error| in_their_words(error, "create", &reference, session))?;
    for warning in &set.warnings {
        session.ui.note(&format!("warning: {warning}"));
    }
    session.ui.print(&format!(
        "Secret \"{reference}\" successfully added to the secrets manager.\n"
    ))
}

/// The fields `key` and `value`.
fn payload(args: &AddArgs, reference: &SecretRef, ui: &mut Ui) -> Result<Secret, Error> {
    let read;
    let value = match (&args.detail, &args.file) {
        (Some(detail), _) => {
            ui.note(
                "warning: other processes and the shell's history see a value on the command line; \
                 use -f FILE, or -f- for standard input",
            );
            detail.value()
        }
        (None, Some(file)) => {
            read = read_value(&file.as_str().into(), "-f", ui)?;
            &read
        }
        (None, None) if ui.in_is_terminal() => {
            read = secret::prompt(reference)?;
            &read
        }
        (None, None) => {
            let text = "Must specify either -f or --secretDetail.";
            return Err(Error::Usage(text.to_owned()));
        }
    };
    if value.is_empty() {
        // A script whose source failed must not replace a good credential by nothing.
        return Err(Error::Usage("the value is empty".to_owned()));
    }
    let field = |name: &str| {
        name.parse()
            .map_err(|error| Error::Failed(format!("{error}")))
    };
    let fields = [
        (field("key")?, args.key.as_bytes()),
        (field("value")?, value.expose()),
    ];
    Fields::encode(&fields).map_err(|error| Error::Usage(error.to_string()))
}

/// Lists a scope, its names without what they all begin with, or everything.
async fn list(scope: Option<&Scope>, session: &mut Session<'_>) -> Result<(), Error> {
    let info = session.hub_info().await?;
    if let Some(manager) = info.default_manager.as_ref().filter(|m| !m.is_embedded()) {
        return Err(Error::Failed(format!(
            "the organisation's secrets are kept by {manager}: `edge-secrets secret list {manager}:` \
             lists them"
        )));
    }
    let prefix = scope.map(Scope::prefix).unwrap_or_default();
    if let Some(user) = scope.and_then(|scope| scope.user.as_ref())
        && *user != info.user
        && info.role != Role::Admin
    {
        let what = format!("secret \"{}\"", prefix.trim_end_matches('/'));
        return Err(permission_denied(&info, "list", &what));
    }
    let target = at(paths::SECRETS, &[info.org.as_str()]);
    let target = target.with_some("prefix", (!prefix.is_empty()).then_some(&prefix));
    let secrets: Vec<SecretInfo> = session.client.get(target).await?;
    let names: Vec<String> = secrets
        .iter()
        .filter(|secret| scope.is_none_or(|scope| scope.has(&secret.reference)))
        .map(|secret| secret.reference.to_string())
        .map(|name| name.strip_prefix(&prefix).unwrap_or(&name).to_owned())
        .collect();
    result(&names, session.ui)
}

async fn exists(reference: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let exists = is_there(reference, "list", session).await?;
    result(&Exists { exists }, session.ui)?;
    match exists {
        true => Ok(()),
        false => Err(Error::Absent),
    }
}

async fn read(reference: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let payload = secret::reveal(reference, session).await;
    let payload = payload.map_err(|error| in_their_words(error, "read", reference, session))?;
    let bytes = show::details(&payload, session.ui.format())?;
    session.ui.raw(&bytes)
}

async fn remove(
    reference: &SecretRef,
    force: bool,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let question =
        format!("Are you sure you want to remove secret {reference} from the secrets manager?");
    if !force && !session.ui.answer(&question) {
        return session.ui.print("Exiting.\n");
    }
    let target = of_secret(paths::SECRET, reference, session);
    let done: Result<SecretRemoved, Error> = session.client.ask(Method::DELETE, target).await;
    let done = done.map_err(|error| match error.code() {
        Some(Code::NotFound) => Error::Worded {
            code: Code::NotFound,
            text: format!(
                "Secret \"{reference}\" not found in the secrets manager, nothing to remove."
            ),
        },
        _ => in_their_words(error, "remove", reference, session),
    })?;
    if done.nodes > 0 {
        let nodes = crate::output::count(done.nodes, "node");
        session.ui.note(&format!(
            "note: {nodes} bound to it keep what they have; their deployments are blocked until it is \
             added again or unbound"
        ));
    }
    session.ui.print(&format!(
        "Secret \"{reference}\" successfully deleted from the secrets manager.\n"
    ))
}

async fn is_there(
    reference: &SecretRef,
    verb: &str,
    session: &mut Session<'_>,
) -> Result<bool, Error> {
    let found = if secret::is_managed(reference, session).await? {
        let target = of_secret(paths::MANAGED, reference, session);
        session.client.get::<ManagedInfo>(target).await.map(drop)
    } else {
        let target = of_secret(paths::SECRET, reference, session);
        session.client.get::<SecretInfo>(target).await.map(drop)
    };
    match found {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.code(), Some(Code::NotFound | Code::Missing)) => Ok(false),
        Err(error) => Err(in_their_words(error, verb, reference, session)),
    }
}

/// What the hub refused, as scripts look for it; everything else as it is.
fn in_their_words(error: Error, verb: &str, reference: &SecretRef, session: &Session<'_>) -> Error {
    match error.code() {
        Some(Code::Denied) => Error::Worded {
            code: Code::Denied,
            text: format!(
                "Permission denied, user \"{}\" cannot {verb} secret \"{reference}\" in organization \
                 \"{}\"",
                session.client.user(),
                session.client.org()
            ),
        },
        Some(Code::NotFound | Code::Missing) => Error::Worded {
            code: Code::NotFound,
            text: format!("No secret(s) found under secret name \"{reference}\""),
        },
        _ => error,
    }
}

fn permission_denied(info: &HubInfo, verb: &str, what: &str) -> Error {
    Error::Worded {
        code: Code::Denied,
        text: format!(
            "Permission denied, user \"{}\" cannot {verb} {what} in organization \"{}\"",
            info.user, info.org
        ),
    }
}

/// The hub decides, and keeps a record: what comes back is its refusal.
async fn other_org(org: &edge_secrets_protocol::OrgId, session: &mut Session<'_>) -> Error {
    let target = at(paths::SECRETS, &[org.as_str()]);
    let seen = session.client.get::<Vec<SecretInfo>>(target).await;
    match seen.err() {
        Some(error) if error.code() == Some(Code::Denied) => Error::Worded {
            code: Code::Denied,
            text: format!(
                "Permission denied, user \"{}\" of organization \"{}\" cannot access secrets in \
                 organization \"{org}\"",
                session.client.user(),
                session.client.org()
            ),
        },
        Some(error) => error,
        None => Error::Usage(format!(
            "the context is of organisation {}, and {org} is asked for: name a context of {org}",
            session.client.org()
        )),
    }
}

fn secret_of(name: &str, node: &NodeArg) -> Result<SecretRef, Error> {
    Meant::secret(name, node.node.as_deref()).map_err(bad_name)
}

fn bad_name(fault: name::NameFault) -> Error {
    Error::Usage(fault.to_string())
}

fn of_secret(template: &str, reference: &SecretRef, session: &Session<'_>) -> Target {
    let org = session.client.org().as_str();
    at(template, &[org, &reference.to_string()])
}

/// A result without values: JSON, as the original writes it, unless another format was asked for.
fn result<T: Serialize>(value: &T, ui: &mut Ui) -> Result<(), Error> {
    let bytes = show::bytes(value, ui.format())?;
    ui.raw(&bytes)
}

#[derive(Serialize)]
struct Exists {
    exists: bool,
}

#[cfg(test)]
mod tests;
