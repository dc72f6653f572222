//! Secrets of the hub's own manager. Values come and go sealed.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Fields, SecretVersion};
use serde::Deserialize;

use super::session::{Params, Session};
use crate::api::body;
use crate::api::problem::ApiError;
use crate::catalog::records::{Committed, SecretRecord};
use crate::hub::Hub;
use crate::managers::embedded::SetError;
use crate::managers::{SecretManager, Target};
use crate::reference::SecretRef;
use crate::rights::{Call, SecretCall};
use crate::wire::{
    RestoreSecret, RevealSecret, SecretInfo, SecretRemoved, SecretRevealed, SecretSet, SetSecret,
    VersionInfo, paths,
};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::SECRETS, get(list))
        .route(paths::SECRET, get(show).put(set).delete(remove))
        .route(paths::SECRET_VERSIONS, get(versions))
        .route(paths::SECRET_RESTORE, post(restore))
        .route(paths::SECRET_REVEAL, post(reveal))
}

/// Refuses a reference to a secrets manager that this hub does not have.
pub(super) fn expect_known_manager(reference: &SecretRef) -> Result<(), String> {
    match reference.manager() {
        None => Ok(()),
        Some(manager) => Err(format!(
            "secret reference \"{reference}\" names the secrets manager \"{manager}\", which this \
             hub does not have; it has its own, which is meant when none is named: write \"{}\"",
            reference.path()
        )),
    }
}

#[derive(Deserialize)]
struct Prefix {
    #[serde(default)]
    prefix: String,
}

async fn list(
    session: Session,
    Params(query): Params<Prefix>,
) -> Result<Json<Vec<SecretInfo>>, ApiError> {
    session.require(Call::See, "secret.list", "secrets").await?;
    let prefix = query.prefix.strip_prefix('/').unwrap_or(&query.prefix);
    let records = session.hub.catalog.secrets(&session.org, prefix).await?;
    let seen =
        |record: &SecretRecord| session.may(Call::Secret(SecretCall::List, &record.reference));
    let infos = records.into_iter().filter(seen);
    Ok(Json(infos.map(|record| info(record, Vec::new())).collect()))
}

async fn show(session: Session) -> Result<Json<SecretInfo>, ApiError> {
    let reference = asked(&session, SecretCall::List, "secret.show").await?;
    let record = existing(&session, &reference).await?;
    let mut fields = Vec::new();
    if session.may(Call::Secret(SecretCall::Read, &reference)) {
        let catalog = &session.hub.catalog;
        let mut versions = catalog
            .versions(&session.org, &reference)
            .await?
            .into_iter();
        let current = versions.find(|version| version.version == record.current);
        fields = current.map(|version| version.fields).unwrap_or_default();
    }
    Ok(Json(info(record, fields)))
}

async fn versions(session: Session) -> Result<Json<Vec<VersionInfo>>, ApiError> {
    let reference = asked(&session, SecretCall::Read, "secret.versions").await?;
    let record = existing(&session, &reference).await?;
    let catalog = &session.hub.catalog;
    let versions = catalog.versions(&session.org, &reference).await?;
    let info = |version: crate::catalog::records::VersionRecord| VersionInfo {
        current: version.version == record.current,
        version: version.version,
        fields: version.fields,
        created_at: version.created_at,
        created_by: version.created_by,
        restored_from: version.restored_from,
    };
    Ok(Json(versions.into_iter().map(info).collect()))
}

async fn set(
    session: Session,
    headers: HeaderMap,
    body::Json(body): body::Json<SetSecret, MAX_ADMIN_REQUEST>,
) -> Result<Json<SecretSet>, ApiError> {
    let reference = asked(&session, SecretCall::Write, "secret.set").await?;
    let expected = expected(&headers)?;
    let (hub, org, user) = (&session.hub, &session.org, &session.peer.user);
    let place = Place::Set {
        org,
        user,
        reference: &reference.to_string(),
    };
    let payload = body.sealed.open(&hub.sealing_key, &place).map_err(|error| {
        let detail = format!(
            "The value for {reference} was not taken: {error}. Seal it to this hub's present key, \
             for this reference."
        );
        ApiError::new(Code::Invalid, detail)
    })?;
    Fields::decode(payload.expose()).map_err(|error| {
        let detail = format!("The value for {reference} was not taken: {error}.");
        ApiError::new(Code::Invalid, detail)
    })?;
    let audit = session.audit("secret.set", object(&reference));
    let set = hub
        .secrets
        .set(org, &reference, &payload, user, expected, audit)
        .await
        .map_err(not_set)?;
    Ok(answer(set))
}

async fn restore(
    session: Session,
    body::Json(body): body::Json<RestoreSecret, MAX_ADMIN_REQUEST>,
) -> Result<Json<SecretSet>, ApiError> {
    let reference = asked(&session, SecretCall::Write, "secret.restore").await?;
    let (hub, org, user) = (&session.hub, &session.org, &session.peer.user);
    let mut audit = session.audit("secret.restore", object(&reference));
    audit.detail = format!("from version {}", body.version);
    let set = hub
        .secrets
        .restore(org, &reference, &body.version, user, audit)
        .await
        .map_err(not_set)?;
    Ok(answer(set))
}

fn answer((version, committed): (SecretVersion, Committed)) -> Json<SecretSet> {
    Json(SecretSet {
        version,
        nodes: committed.touched.len(),
        at: committed.at,
    })
}

async fn reveal(
    session: Session,
    body::Json(body): body::Json<RevealSecret, MAX_ADMIN_REQUEST>,
) -> Result<Json<SecretRevealed>, ApiError> {
    let reference = asked(&session, SecretCall::Read, "secret.reveal").await?;
    let (hub, org, user) = (&session.hub, &session.org, &session.peer.user);
    let version = match body.version {
        Some(version) => version,
        None => existing(&session, &reference).await?.current,
    };
    let target = Target {
        org,
        reference: &reference,
    };
    let payload = hub.secrets.read(target, &version).await?;
    let place = Place::Reveal {
        org,
        user,
        reference: &reference.to_string(),
        version: &version,
    };
    let sealed = body.seal_to.seal(&place, &payload).map_err(|error| {
        let detail = format!("The value of {reference} was not sealed: {error}.");
        ApiError::new(Code::BadRequest, detail)
    })?;
    let mut audit = session.audit("secret.reveal", object(&reference));
    audit.detail = format!("version {version}");
    hub.catalog.append_audit(vec![audit]).await?;
    Ok(Json(SecretRevealed { version, sealed }))
}

async fn remove(session: Session) -> Result<Json<SecretRemoved>, ApiError> {
    let reference = asked(&session, SecretCall::Remove, "secret.remove").await?;
    let audit = session.audit("secret.remove", object(&reference));
    let secrets = &session.hub.secrets;
    let committed = secrets.remove(&session.org, &reference, audit).await?;
    Ok(Json(SecretRemoved {
        nodes: committed.touched.len(),
    }))
}

/// The reference that the path names, once the caller may do this to it.
async fn asked(session: &Session, call: SecretCall, action: &str) -> Result<SecretRef, ApiError> {
    let reference: SecretRef = session.param("reference")?;
    let object = object(&reference);
    session
        .require(Call::Secret(call, &reference), action, object)
        .await?;
    expect_known_manager(&reference)
        .map_err(|fault| ApiError::new(Code::Invalid, format!("The {fault}.")))?;
    Ok(reference)
}

async fn existing(session: &Session, reference: &SecretRef) -> Result<SecretRecord, ApiError> {
    let record = session.hub.catalog.secret(&session.org, reference).await?;
    record.ok_or_else(|| {
        let detail = format!("Secret \"{reference}\" does not exist.");
        ApiError::new(Code::NotFound, detail)
    })
}

/// What the caller believes to stand there, as the request's preconditions say.
fn expected(headers: &HeaderMap) -> Result<Option<Option<SecretVersion>>, ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(None)),
        (Some(tag), None) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.ok_or_else(bad_precondition)?.parse()?;
            Ok(Some(Some(version)))
        }
        _ => Err(bad_precondition()),
    }
}

fn bad_precondition() -> ApiError {
    ApiError::new(
        Code::BadRequest,
        "The precondition is neither `If-Match: \"VERSION\"` nor `If-None-Match: *`.",
    )
}

fn not_set(error: SetError) -> ApiError {
    let code = match error {
        SetError::Catalog(error) => return error.into(),
        SetError::Envelope(_) => Code::Failed,
        SetError::Payload(_) | SetError::OtherManager(_) => Code::Invalid,
        SetError::Conflict(_) => Code::Conflict,
        SetError::NoVersion(..) => Code::NotFound,
    };
    ApiError::new(code, format!("The secret was not set: {error}."))
}

fn object(reference: &SecretRef) -> String {
    format!("secret/{reference}")
}

fn info(record: SecretRecord, fields: Vec<String>) -> SecretInfo {
    SecretInfo {
        reference: record.reference,
        version: record.current,
        created_at: record.created_at,
        updated_at: record.updated_at,
        updated_by: record.updated_by,
        fields,
    }
}
