//! `edge-secrets secret …`

use std::fmt;

use edge_secrets_hub::generator::Generator;
use edge_secrets_hub::metadata::{Label, Labels, MetaChange};
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{
    RestoreSecret, SecretInfo, SecretRemoved, SecretSet, SetSecret, VersionInfo, paths,
};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Secret, SecretVersion};
use http::Method;

use super::Session;
use crate::cli::{SecretCommand, SetArgs};
use crate::client::{Target, at};
use crate::error::Error;
use crate::output::{Table, count};
use crate::times::age;

mod edit;
mod generate;
mod managed;
mod metadata;
mod payload;
mod reveal;

pub(super) use managed::is_managed;
pub(super) use reveal::AsText;

/// Asks for a value at the terminal, without echo.
///
/// # Errors
/// When it cannot be read or is too large.
pub(super) fn prompt(name: &impl fmt::Display) -> Result<Secret, Error> {
    payload::prompt(name)
}

/// Fetches the value that is delivered: its fields.
///
/// # Errors
/// When it is denied, or what comes is not what was asked for.
pub(super) async fn reveal(name: &SecretRef, session: &mut Session<'_>) -> Result<Secret, Error> {
    reveal::fetch(name, None, session).await
}

/// Sets a secret to these fields; what is known of it beside its value stays.
///
/// # Errors
/// When the hub refuses.
pub(super) async fn set_payload(
    name: &SecretRef,
    payload: Secret,
    session: &mut Session<'_>,
) -> Result<SecretSet, Error> {
    let value = Value {
        payload,
        meta: MetaChange::default(),
        generator: None,
    };
    value.put(name, None, session).await
}

pub(super) async fn run(command: SecretCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        SecretCommand::Set(args) => set(&args, session).await,
        SecretCommand::Generate(args) => generate::run(args, session).await,
        SecretCommand::Rotate { name } => generate::rotate(&name, session).await,
        SecretCommand::Edit { name, meta } => edit::run(&name, meta, session).await,
        SecretCommand::List {
            prefix,
            labels,
            search,
            due,
        } => match managed::prefix_of(prefix.as_deref().unwrap_or_default())? {
            Some(_) if due => Err(Error::Usage(
                "what is due is known of the hub's own secrets alone: leave --due out".to_owned(),
            )),
            Some((manager, folder)) => {
                let asked = managed::Asked {
                    folder: &folder,
                    labels: &labels,
                    search: search.as_deref(),
                };
                managed::list(&manager, asked, session).await
            }
            None if search.is_some() => Err(Error::Usage(
                "it is managers outside the hub that search: name one, as in `secret list pim: \
                 --search TEXT`"
                    .to_owned(),
            )),
            None => list(prefix, labels, due, session).await,
        },
        SecretCommand::Create(args) => managed::create(args, session).await,
        SecretCommand::Show {
            name,
            reveal: true,
            version,
        } => reveal::run(&name, version, session).await,
        SecretCommand::Show {
            name,
            reveal: false,
            version: Some(version),
        } => match managed::is_managed(&name, session).await? {
            true => managed::show_version(&name, &version, session).await,
            false => show_version(&name, &version, session).await,
        },
        SecretCommand::Show { name, .. } => match managed::is_managed(&name, session).await? {
            true => managed::show(&name, session).await,
            false => show(&name, session).await,
        },
        SecretCommand::Versions { name } => match managed::is_managed(&name, session).await? {
            true => managed::versions(&name, session).await,
            false => versions(&name, session).await,
        },
        SecretCommand::Restore { name, version } => restore(&name, version, session).await,
        SecretCommand::Rm { name } => remove(&name, session).await,
    }
}

async fn set(args: &SetArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let value = Value {
        // Before anybody types a value.
        meta: metadata::change(&args.meta, session.ui.now())?,
        payload: payload::read(args, session.ui)?,
        generator: None,
    };
    value.send(&args.name, None, session).await
}

/// A new value, and what goes with it.
struct Value {
    payload: Secret,
    meta: MetaChange,
    generator: Option<Generator>,
}

impl Value {
    /// Sets it, only over the version `over` where one is named, and says so.
    async fn send(
        self,
        name: &SecretRef,
        over: Option<&SecretVersion>,
        session: &mut Session<'_>,
    ) -> Result<(), Error> {
        let done = self.put(name, over, session).await?;
        show_set(name, &done, session)
    }

    /// Seals it to the hub and sets it.
    async fn put(
        self,
        name: &SecretRef,
        over: Option<&SecretVersion>,
        session: &mut Session<'_>,
    ) -> Result<SecretSet, Error> {
        let Self {
            payload,
            meta,
            generator,
        } = self;
        let info = session.hub_info().await?;
        let reference = name.to_string();
        let place = Place::Set {
            org: &info.org,
            user: &info.user,
            reference: &reference,
        };
        let sealed = info
            .sealing_key
            .seal(&place, &payload)
            .map_err(|error| Error::Failed(format!("the value cannot be sealed: {error}")))?;
        // From here on there is ciphertext only.
        drop(payload);
        let body = SetSecret {
            sealed,
            meta,
            generator,
        };
        let target = route(paths::SECRET, name, session);
        let client = &mut session.client;
        client.send_over(Method::PUT, target, &body, over).await
    }
}

async fn restore(
    name: &SecretRef,
    version: SecretVersion,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let target = route(paths::SECRET_RESTORE, name, session);
    let done: SecretSet = session
        .client
        .send(Method::POST, target, &RestoreSecret { version })
        .await?;
    show_set(name, &done, session)
}

fn show_set(name: &SecretRef, done: &SecretSet, session: &mut Session<'_>) -> Result<(), Error> {
    if session.ui.for_people() {
        for warning in &done.warnings {
            session.ui.note(&format!("warning: {warning}"));
        }
    }
    session.ui.show(done, |_| {
        let reach = match (done.nodes, done.at_next_look) {
            (0, false) => "no node gets it yet".to_owned(),
            (0, true) => "no node binds it yet".to_owned(),
            (nodes, false) => format!("it goes to {}", count(nodes, "node")),
            (1, true) => "1 node binds it, and is told when the hub has looked there".to_owned(),
            (nodes, true) => {
                format!("{nodes} nodes bind it, and are told when the hub has looked there")
            }
        };
        format!("Secret {name} is at version {}; {reach}.\n", done.version)
    })
}

async fn list(
    prefix: Option<String>,
    labels: Vec<Label>,
    due: bool,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let labels = Labels::try_from(labels).map_err(|error| Error::Usage(error.to_string()))?;
    let target = at(paths::SECRETS, &[session.client.org().as_str()])
        .with_some("prefix", prefix)
        .with_some("labels", (!labels.is_empty()).then_some(labels))
        .with_some("due", due.then_some(true));
    let secrets: Vec<SecretInfo> = session.client.get(target).await?;
    session
        .ui
        .show_list(&secrets, "There are no such secrets.", |now| {
            let headers = ["SECRET", "VERSION", "UPDATED", "BY", "LABELS", "DUE"];
            let mut table = Table::new(headers);
            for secret in &secrets {
                table.row([
                    secret.reference.to_string(),
                    secret.version.to_string(),
                    age(secret.updated_at, now),
                    secret.updated_by.to_string(),
                    secret.meta.labels.to_string(),
                    metadata::due(secret, now),
                ]);
            }
            table.render()
        })
}

async fn show(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(paths::SECRET, name, session);
    let secret: SecretInfo = session.client.get(target).await?;
    session
        .ui
        .show(&secret, |now| metadata::facts(&secret, now))
}

async fn show_version(
    name: &SecretRef,
    wanted: &SecretVersion,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let versions = fetch_versions(name, session).await?;
    let found = versions.iter().find(|version| version.version == *wanted);
    let version = found.ok_or_else(|| no_version(name, wanted))?;
    session.ui.show(version, |now| {
        Table::facts([
            ("secret", name.to_string()),
            ("version", version.version.to_string()),
            ("delivered", yes_no(version.current)),
            ("fields", version.fields.join(", ")),
            (
                "created",
                format!("{} by {}", age(version.created_at, now), version.created_by),
            ),
            ("restored from", optional(version.restored_from.as_ref())),
        ])
    })
}

async fn versions(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let versions = fetch_versions(name, session).await?;
    session
        .ui
        .show_list(&versions, "There are no versions.", |now| {
            let headers = [
                "VERSION",
                "DELIVERED",
                "FIELDS",
                "CREATED",
                "BY",
                "RESTORED FROM",
            ];
            let mut table = Table::new(headers);
            for version in &versions {
                table.row([
                    version.version.to_string(),
                    yes_no(version.current),
                    version.fields.join(", "),
                    age(version.created_at, now),
                    version.created_by.to_string(),
                    optional(version.restored_from.as_ref()),
                ]);
            }
            table.render()
        })
}

async fn remove(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    session
        .ui
        .confirm(&format!("Remove secret {name} with all its versions?"))?;
    let target = route(paths::SECRET, name, session);
    let done: SecretRemoved = session.client.ask(Method::DELETE, target).await?;
    session.ui.show(&done, |_| match done.nodes {
        0 => format!("Secret {name} is removed; no node was bound to it.\n"),
        nodes => format!(
            "Secret {name} is removed. {} bound to it: they keep what they have, and their \
             deployments are blocked until it is set again or unbound.\n",
            if nodes == 1 {
                "1 node is".to_owned()
            } else {
                format!("{nodes} nodes are")
            }
        ),
    })
}

fn no_version(name: &SecretRef, wanted: &SecretVersion) -> Error {
    Error::Failed(format!(
        "secret {name} has no version {wanted}; `edge-secrets secret versions {name}` lists them"
    ))
}

async fn fetch_versions(
    name: &SecretRef,
    session: &mut Session<'_>,
) -> Result<Vec<VersionInfo>, Error> {
    let target = route(paths::SECRET_VERSIONS, name, session);
    session.client.get(target).await
}

fn route(template: &str, name: &SecretRef, session: &Session<'_>) -> Target {
    at(
        template,
        &[session.client.org().as_str(), &name.to_string()],
    )
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn optional(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}
