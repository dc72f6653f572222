//! Secrets that managers outside the hub keep.

use edge_secrets_hub::managers::{ManagerName, NewCredential};
use edge_secrets_hub::metadata::Label;
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{ManagedEntry, ManagedInfo, ManagedPage, ManagedVersion, paths};
use edge_secrets_protocol::SecretVersion;
use http::Method;
use jiff::Timestamp;

use super::super::Session;
use super::no_version;
use crate::cli::CreateArgs;
use crate::client::{Target, at};
use crate::error::Error;
use crate::output::Table;
use crate::times::age;

/// The reference as the hub will take it, and whether a manager outside the hub keeps it. Asks the hub
/// only where no manager is named.
pub(in crate::commands) async fn is_managed(
    name: &SecretRef,
    session: &mut Session<'_>,
) -> Result<bool, Error> {
    if let Some(manager) = name.manager() {
        return Ok(!manager.is_embedded());
    }
    let default = session.hub_info().await?.default_manager;
    Ok(name.resolved(default.as_ref()).manager().is_some())
}

/// The manager and the folder that a prefix names, where it names a manager outside the hub.
pub(super) fn prefix_of(prefix: &str) -> Result<Option<(ManagerName, String)>, Error> {
    let Some((manager, path)) = prefix.split_once(':') else {
        return Ok(None);
    };
    let manager: ManagerName = manager
        .parse()
        .map_err(|error: edge_secrets_protocol::NameError| Error::Usage(error.to_string()))?;
    Ok((!manager.is_embedded()).then(|| (manager, path.to_owned())))
}

/// Most entries of one listing: what is more is for a narrower prefix.
const MAX_ENTRIES: usize = 10_000;

/// What is to be listed.
pub(super) struct Asked<'a> {
    pub(super) folder: &'a str,
    pub(super) labels: &'a [Label],
    pub(super) search: Option<&'a str>,
}

pub(super) async fn list(
    manager: &ManagerName,
    asked: Asked<'_>,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let mut entries: Vec<ManagedEntry> = Vec::new();
    let mut page = None;
    loop {
        let labels: Vec<_> = asked.labels.iter().map(ToString::to_string).collect();
        let labels = (!labels.is_empty()).then(|| labels.join(","));
        let target = at(
            paths::MANAGED_LIST,
            &[session.client.org().as_str(), manager.as_str()],
        )
        .with("prefix", asked.folder)
        .with_some("labels", labels)
        .with_some("search", asked.search)
        .with_some("page", page.take());
        let part: ManagedPage = session.client.get(target).await?;
        entries.extend(part.entries);
        page = part.next;
        if page.is_none() {
            break;
        }
        if entries.len() >= MAX_ENTRIES {
            session.ui.note(&format!(
                "only the first {} are shown: name a folder",
                entries.len()
            ));
            break;
        }
    }
    let none = "There is nothing there that you may reach.";
    session.ui.show_list(&entries, none, |_| {
        let mut table = Table::new(["SECRET", "READING IT", "LABELS"]);
        for entry in &entries {
            table.row([
                entry.name.clone(),
                entry
                    .effect
                    .map(|effect| effect.as_str().to_owned())
                    .unwrap_or_default(),
                entry.labels.join(", "),
            ]);
        }
        table.render()
    })
}

pub(super) async fn show(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(paths::MANAGED, name, session);
    let secret: ManagedInfo = session.client.get(target).await?;
    show_info(&secret, session)
}

pub(super) async fn show_version(
    name: &SecretRef,
    wanted: &SecretVersion,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let versions = fetch_versions(name, session).await?;
    let found = versions.iter().find(|version| version.version == *wanted);
    let version = found.ok_or_else(|| no_version(name, wanted))?;
    session.ui.show(version, |now| {
        Table::facts([
            ("secret", name.secret().to_string()),
            ("version", version.version.to_string()),
            ("created", created(version, now)),
            ("gone", version.gone.clone().unwrap_or_default()),
        ])
    })
}

fn created(version: &ManagedVersion, now: Timestamp) -> String {
    version
        .created_at
        .map(|at| age(at, now))
        .unwrap_or_default()
}

async fn fetch_versions(
    name: &SecretRef,
    session: &mut Session<'_>,
) -> Result<Vec<ManagedVersion>, Error> {
    let target = route(paths::MANAGED_VERSIONS, name, session);
    session.client.get(target).await
}

pub(super) async fn versions(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let versions = fetch_versions(name, session).await?;
    session
        .ui
        .show_list(&versions, "There are no versions.", |now| {
            let mut table = Table::new(["VERSION", "CREATED", "GONE"]);
            for version in &versions {
                table.row([
                    version.version.to_string(),
                    created(version, now),
                    version.gone.clone().unwrap_or_default(),
                ]);
            }
            table.render()
        })
}

pub(super) async fn create(args: CreateArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let new = NewCredential {
        ttl_seconds: args.ttl.as_secs(),
        access_groups: args.access_groups,
        service_id: args.service_id,
        reuse: args.reuse,
        labels: args.labels,
        description: args.description,
    };
    let target = route(paths::MANAGED, &args.name, session);
    let made: ManagedInfo = session.client.send(Method::POST, target, &new).await?;
    if session.ui.for_people() {
        let reference = &made.reference;
        session
            .ui
            .print(&format!("Secret {reference} is made.\n"))?;
    }
    show_info(&made, session)
}

fn show_info(secret: &ManagedInfo, session: &mut Session<'_>) -> Result<(), Error> {
    session.ui.show(secret, |now| {
        let mut text = Table::facts([
            ("secret", secret.reference.to_string()),
            ("reading it", secret.effect.as_str().to_owned()),
            (
                "version",
                secret
                    .version
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("fields", secret.fields.join(", ")),
            ("labels", secret.labels.join(", ")),
            (
                "credentials live",
                secret
                    .ttl_seconds
                    .map(|ttl| format!("{ttl} s"))
                    .unwrap_or_default(),
            ),
            (
                "ends",
                secret.expires_at.map(|at| age(at, now)).unwrap_or_default(),
            ),
            (
                "updated",
                secret.updated_at.map(|at| age(at, now)).unwrap_or_default(),
            ),
        ]);
        for note in &secret.notes {
            text.push_str(note);
            text.push('\n');
        }
        text
    })
}

fn route(template: &str, name: &SecretRef, session: &Session<'_>) -> Target {
    at(
        template,
        &[session.client.org().as_str(), &name.secret().to_string()],
    )
}
