//! Secrets that managers outside the hub keep: looked at without their values, and written where a
//! manager allows it.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use edge_secrets_protocol::{Code, OrgId, Secret, SecretVersion};
use serde::Deserialize;

use super::session::{Params, Session};
use crate::api::body;
use crate::api::problem::ApiError;
use crate::clock;
use crate::hub::Hub;
use crate::managers::guarded::Guarded;
use crate::managers::{
    Effect, ListQuery, ManagerError, ManagerName, NewCredential, Target, payload,
};
use crate::observe::Hint;
use crate::reference::SecretRef;
use crate::rights::{Call, SecretCall};
use crate::wire::{ManagedEntry, ManagedInfo, ManagedPage, ManagedVersion, SecretSet, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::MANAGED_LIST, get(list))
        .route(paths::MANAGED, get(show).post(create))
        .route(paths::MANAGED_VERSIONS, get(versions))
}

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    labels: String,
    search: Option<String>,
    page: Option<String>,
}

async fn list(
    session: Session,
    State(hub): State<Arc<Hub>>,
    Params(query): Params<Query>,
) -> Result<Json<ManagedPage>, ApiError> {
    session.require(Call::See, "secret.list", "secrets").await?;
    let name: ManagerName = session.param("manager")?;
    let manager = hub.managers.named(&name)?;
    let texts = [
        Some(&query.prefix),
        Some(&query.labels),
        query.search.as_ref(),
        query.page.as_ref(),
    ];
    if texts
        .into_iter()
        .flatten()
        .any(|text| text.len() > MAX_TEXT)
    {
        let detail = format!("A parameter of the listing is longer than {MAX_TEXT} bytes.");
        return Err(ApiError::new(Code::TooLarge, detail));
    }
    let labels = query.labels.split(',').filter(|label| !label.is_empty());
    let labels: Vec<_> = labels.map(str::to_owned).collect();
    if labels.len() > MAX_LABELS {
        let detail = format!("A listing is by at most {MAX_LABELS} labels.");
        return Err(ApiError::new(Code::TooLarge, detail));
    }
    let asked = ListQuery {
        prefix: query.prefix,
        labels,
        search: query.search,
        page: query.page,
    };
    let page = match manager.list(&session.org, &asked).await {
        Ok(page) => page,
        Err(error) => {
            let object = format!("secrets/{name}:{}", asked.prefix);
            return Err(refused(&session, "secret.list", &object, error).await);
        }
    };
    let entries = page.entries.into_iter().filter_map(|entry| {
        let written = format!("{name}:{}", entry.path);
        // Another user's private secrets are not even named, and neither are their folders.
        let seen = match entry.path.as_str() {
            ALL_USERS => true,
            folder if folder.ends_with('/') => {
                let (inside, _) = manager.inside(folder)?;
                session.may(Call::Secret(SecretCall::List, &inside))
            }
            _ => session.may(Call::Secret(SecretCall::List, &written.parse().ok()?)),
        };
        seen.then_some(ManagedEntry {
            name: written,
            effect: entry.effect,
            labels: entry.labels,
        })
    });
    Ok(Json(ManagedPage {
        entries: entries.collect(),
        next: page.next,
    }))
}

async fn show(session: Session) -> Result<Json<ManagedInfo>, ApiError> {
    let (reference, manager) = asked(&session, SecretCall::List, "secret.show").await?;
    let described = match manager.describe(target(&session.org, &reference)).await {
        Ok(described) => described,
        Err(error) => {
            let object = format!("secret/{reference}");
            return Err(refused(&session, "secret.show", &object, error).await);
        }
    };
    let reads = session.may(Call::Secret(SecretCall::Read, &reference));
    Ok(Json(ManagedInfo {
        reference,
        effect: described.effect,
        version: described.version,
        fields: if reads { described.fields } else { Vec::new() },
        expires_at: described.expires_at,
        ttl_seconds: described.ttl.map(|ttl| ttl.as_secs()),
        labels: described.labels,
        updated_at: described.updated_at,
        notes: described.notes,
    }))
}

async fn versions(session: Session) -> Result<Json<Vec<ManagedVersion>>, ApiError> {
    let (reference, manager) = asked(&session, SecretCall::Read, "secret.versions").await?;
    let versions = match manager.versions(target(&session.org, &reference)).await {
        Ok(versions) => versions,
        Err(error) => {
            let object = format!("secret/{reference}");
            return Err(refused(&session, "secret.versions", &object, error).await);
        }
    };
    let info = |version: crate::managers::Version| ManagedVersion {
        version: version.version,
        created_at: version.created_at,
        gone: version.gone.map(str::to_owned),
    };
    Ok(Json(versions.into_iter().map(info).collect()))
}

/// Makes a secret whose values its manager makes.
async fn create(
    session: Session,
    body::Json(new): body::Json<NewCredential, MAX_ADMIN_REQUEST>,
) -> Result<Json<ManagedInfo>, ApiError> {
    let (reference, manager) = asked(&session, SecretCall::Write, "secret.create").await?;
    check(&new)?;
    let target = target(&session.org, &reference);
    let mut audit = session.audit("secret.create", format!("secret/{reference}"));
    let created = manager.create(target, &new).await;
    audit.detail = format!("ttl {} s, reuse {}", new.ttl_seconds, new.reuse);
    if let Err(error) = &created {
        audit.result = error.fault.to_string();
        audit.detail.clone_from(&error.detail);
    }
    session.hub.catalog.append_audit(vec![audit]).await?;
    created?;
    look(&session, &reference);
    let described = manager.describe(target).await?;
    Ok(Json(ManagedInfo {
        effect: described.effect,
        version: None,
        fields: described.fields,
        expires_at: described.expires_at,
        ttl_seconds: described.ttl.map(|ttl| ttl.as_secs()),
        labels: described.labels,
        updated_at: described.updated_at,
        notes: described.notes,
        reference,
    }))
}

/// The value of a version, for an operator who may read it. What reading has an effect on is never
/// read to be looked at.
pub(super) async fn reveal(
    session: &Session,
    manager: &Arc<Guarded>,
    reference: &SecretRef,
    version: Option<SecretVersion>,
) -> Result<(SecretVersion, Arc<Secret>), ApiError> {
    let secret = reference.secret();
    let target = target(&session.org, &secret);
    let object = format!("secret/{reference}");
    let described = match manager.describe(target).await {
        Ok(described) => described,
        Err(error) => return Err(refused(session, "secret.reveal", &object, error).await),
    };
    if described.effect != Effect::Pure {
        let detail = format!(
            "Reading {reference} has an effect ({}): it is read to be delivered, and never to be \
             looked at.",
            described.effect.as_str()
        );
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let version = version.or(described.version).ok_or_else(|| {
        let detail = format!("{reference} has no version that could be read.");
        ApiError::new(Code::NotFound, detail)
    })?;
    let whole = match manager.read(target, &version).await {
        Ok(whole) => whole,
        Err(error) => return Err(refused(session, "secret.reveal", &object, error).await),
    };
    let value = match reference.field() {
        Some(field) => Arc::new(payload::only(&whole, field)?),
        None => whole,
    };
    Ok((version, value))
}

/// Sets a value at its manager.
pub(super) async fn set(
    session: &Session,
    manager: &Arc<Guarded>,
    reference: &SecretRef,
    value: &Secret,
    expected: Option<Option<SecretVersion>>,
) -> Result<SecretSet, ApiError> {
    if let Some(field) = reference.field() {
        let detail = format!("One field ({field}) cannot be set alone: set the whole secret.");
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let mut audit = session.audit("secret.set", format!("secret/{reference}"));
    let written = manager
        .write(target(&session.org, reference), value, expected)
        .await;
    match &written {
        Ok(version) => audit.detail = format!("version {version}"),
        Err(error) => {
            audit.result = error.fault.to_string();
            audit.detail.clone_from(&error.detail);
        }
    }
    session.hub.catalog.append_audit(vec![audit]).await?;
    let version = written?;
    look(session, reference);
    let (catalog, org) = (&session.hub.catalog, &session.org);
    Ok(SecretSet {
        version,
        nodes: catalog.binding_nodes(org, reference).await?,
        at_next_look: true,
        at: clock::now(),
        warnings: Vec::new(),
    })
}

/// What the caller reads where a manager did not do it. That it was denied, by the path policy or by the
/// manager, is written down, as every refusal is.
async fn refused(session: &Session, action: &str, object: &str, error: ManagerError) -> ApiError {
    if error.fault.code() == Code::Denied {
        let mut record = session.audit(action, object);
        record.result = error.fault.to_string();
        record.detail.clone_from(&error.detail);
        if let Err(error) = session.hub.catalog.append_audit(vec![record]).await {
            return error.into();
        }
    }
    error.into()
}

/// What a change of ours did is seen at once.
fn look(session: &Session, reference: &SecretRef) {
    if let Some(manager) = reference.manager() {
        let hint = Hint::These(vec![reference.secret()]);
        // Where nothing of the manager is watched there is nothing to see.
        let _watched = session.hub.hints.give(manager, hint);
    }
}

fn check(new: &NewCredential) -> Result<(), ApiError> {
    let unfit = |detail: &str| Err(ApiError::new(Code::Invalid, detail));
    if !(60..=90 * 86_400).contains(&new.ttl_seconds) {
        return unfit("A credential lives between one minute and 90 days.");
    }
    if new.access_groups.is_empty() == new.service_id.is_none() {
        return unfit("Name access groups, or a service id; exactly one of both.");
    }
    let texts = new
        .access_groups
        .iter()
        .chain(&new.service_id)
        .chain(&new.labels);
    let sane =
        |text: &String| (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
    if new.access_groups.len() > 10 || new.labels.len() > 30 || !texts.into_iter().all(sane) {
        return unfit("At most 10 access groups and 30 labels, each of 1 to 128 characters.");
    }
    if new.description.len() > 1024 {
        return unfit("A description has at most 1024 bytes.");
    }
    Ok(())
}

/// The resolved reference that the path names, without a field, and its manager, once the caller may
/// do this to it.
async fn asked(
    session: &Session,
    call: SecretCall,
    action: &str,
) -> Result<(SecretRef, Arc<Guarded>), ApiError> {
    let written: SecretRef = session.param("reference")?;
    let reference = session.resolved(&written).secret();
    session
        .require(
            Call::Secret(call, &reference),
            action,
            format!("secret/{reference}"),
        )
        .await?;
    match session.hub.managers.of(&reference)? {
        Some(manager) => Ok((reference, Arc::clone(manager))),
        None => Err(ApiError::new(
            Code::Invalid,
            format!("{written} is kept by the hub itself, not by a manager outside it."),
        )),
    }
}

fn target<'a>(org: &'a OrgId, reference: &'a SecretRef) -> Target<'a> {
    Target { org, reference }
}

/// Why a reference cannot be bound, or what is odd with it.
pub(super) enum Bindable {
    /// It can.
    Yes,
    /// It can, but.
    But(String),
    /// It cannot.
    No(String),
}

/// Asks a secret's manager whether it is there to be bound. Without a value, and within a bound: a
/// manager that cannot answer now does not keep a policy from being published.
pub(super) async fn bindable(manager: &Guarded, org: &OrgId, reference: &SecretRef) -> Bindable {
    let secret = reference.secret();
    let described = tokio::time::timeout(PATIENCE, manager.describe(target(org, &secret))).await;
    let error: ManagerError = match described {
        Ok(Ok(described)) => {
            let known = described.fields;
            if let Some(field) = reference.field()
                && !known.is_empty()
                && !known.iter().any(|name| name == field.as_str())
            {
                return Bindable::No(format!("secret \"{secret}\" has no field {field}"));
            }
            return if described.effect.is_for_one_node() {
                Bindable::But(format!(
                    "secret \"{secret}\" is for one node alone ({}): the first that gets it keeps \
                     it, all others are denied",
                    described.effect.as_str()
                ))
            } else {
                Bindable::Yes
            };
        }
        Ok(Err(error)) => error,
        Err(_) => {
            let why = "its manager did not answer in time";
            ManagerError::new(crate::managers::Fault::TimedOut, why)
        }
    };
    let said = format!("secret \"{reference}\": {error}");
    if error.fault.is_transient() {
        Bindable::But(format!("{said}; it is bound all the same"))
    } else if error.fault.is_absence() {
        Bindable::No(format!("secret \"{reference}\" does not exist: {error}"))
    } else {
        Bindable::No(said)
    }
}

/// The folder of all users' private secrets.
const ALL_USERS: &str = "user/";
const MAX_TEXT: usize = 1024;
const MAX_LABELS: usize = 30;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
