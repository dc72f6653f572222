//! Secrets of the hub's own manager. Values come and go sealed.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Fields, Secret, SecretVersion};

use super::managed;
use super::session::{Params, Session};
use crate::api::body;
use crate::api::problem::ApiError;
use crate::catalog::records::{NewMeta, SecretPut, SecretRecord};
use crate::clock;
use crate::hub::Hub;
use crate::managers::embedded::{NewValue, SetError};
use crate::managers::{SecretManager, Target, payload};
use crate::reference::SecretRef;
use crate::rights::{Call, SecretCall};
use crate::wire::{
    RestoreSecret, RevealSecret, SecretInfo, SecretRemoved, SecretRevealed, SecretSet, SetSecret,
    VersionInfo, paths,
};

use metadata::Query;

mod metadata;

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::SECRETS, get(list))
        .route(
            paths::SECRET,
            get(show).put(set).patch(metadata::edit).delete(remove),
        )
        .route(paths::SECRET_VERSIONS, get(versions))
        .route(paths::SECRET_RESTORE, post(restore))
        .route(paths::SECRET_REVEAL, post(reveal))
}

async fn list(
    session: Session,
    Params(query): Params<Query>,
) -> Result<Json<Vec<SecretInfo>>, ApiError> {
    session.require(Call::See, "secret.list", "secrets").await?;
    let (filter, now) = (query.filter()?, clock::now());
    let records = session.hub.catalog.secrets(&session.org, filter.prefix());
    let seen = |record: &SecretRecord| {
        session.may(Call::Secret(SecretCall::List, &record.reference)) && filter.takes(record, now)
    };
    let infos = records.await?.into_iter().filter(seen);
    Ok(Json(
        infos.map(|record| metadata::info(record, now)).collect(),
    ))
}

async fn show(session: Session) -> Result<Json<SecretInfo>, ApiError> {
    let reference = asked(&session, SecretCall::List, "secret.show").await?;
    let record = existing(&session, &reference).await?;
    Ok(Json(detail(&session, record).await?))
}

/// What the caller may see of a secret that they may know of.
async fn detail(session: &Session, record: SecretRecord) -> Result<SecretInfo, ApiError> {
    let generator = record.generator.clone();
    let mut info = metadata::info(record, clock::now());
    if session.may(Call::Secret(SecretCall::Read, &info.reference)) {
        let catalog = &session.hub.catalog;
        let versions = catalog.versions(&session.org, &info.reference).await?;
        let mut versions = versions.into_iter();
        let current = versions.find(|version| version.version == info.version);
        info.fields = current.map(|version| version.fields).unwrap_or_default();
        info.generator = generator;
    }
    Ok(info)
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
    let written: SecretRef = session.param("reference")?;
    let reference = allowed(&session, SecretCall::Write, "secret.set").await?;
    let expected = expected(&headers)?;
    metadata::expect_future_end(&body.meta)?;
    let (hub, org, user) = (&session.hub, &session.org, &session.peer.user);
    let place = Place::Set {
        org,
        user,
        reference: &written.to_string(),
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
    if let Some(manager) = hub.managers.of(&reference)? {
        if !body.meta.is_empty() || body.generator.is_some() {
            let detail = "Labels, ends and the like of it are kept by its manager: set them there.";
            return Err(ApiError::new(Code::Invalid, detail));
        }
        let set = managed::set(&session, manager, &reference, &payload, expected).await?;
        return Ok(Json(set));
    }
    let mut audit = session.audit("secret.set", object(&reference));
    audit.detail = body.meta.to_string();
    if body.generator.is_some() {
        audit.add_detail("generated");
    }
    let value = NewValue {
        org,
        reference: &reference,
        payload: &payload,
        by: user,
        meta: NewMeta {
            change: body.meta,
            generator: Some(body.generator),
        },
    };
    let set = hub.secrets.set(value, expected, audit).await;
    Ok(answer(&reference, set.map_err(not_set)?))
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
    Ok(answer(&reference, set))
}

fn answer(reference: &SecretRef, set: (SecretVersion, SecretPut)) -> Json<SecretSet> {
    let (version, put) = set;
    let lifted = |end| {
        format!(
            "The end of {reference}, {end}, had come; it is lifted, so that the new value is \
             delivered. Give it another with `edge-secrets secret edit {reference} --expires T`."
        )
    };
    Json(SecretSet {
        version,
        nodes: put.committed.touched.len(),
        at_next_look: false,
        at: put.committed.at,
        warnings: put.lifted_end.map(lifted).into_iter().collect(),
    })
}

async fn reveal(
    session: Session,
    body::Json(body): body::Json<RevealSecret, MAX_ADMIN_REQUEST>,
) -> Result<Json<SecretRevealed>, ApiError> {
    let written: SecretRef = session.param("reference")?;
    let reference = allowed(&session, SecretCall::Read, "secret.reveal").await?;
    let (hub, org, user) = (&session.hub, &session.org, &session.peer.user);
    let (version, payload) = match hub.managers.of(&reference)? {
        Some(manager) => managed::reveal(&session, manager, &reference, body.version).await?,
        None => own_value(&session, &reference, body.version).await?,
    };
    let place = Place::Reveal {
        org,
        user,
        reference: &written.to_string(),
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

async fn own_value(
    session: &Session,
    reference: &SecretRef,
    version: Option<SecretVersion>,
) -> Result<(SecretVersion, Arc<Secret>), ApiError> {
    let secret = reference.secret();
    let version = match version {
        Some(version) => version,
        None => existing(session, &secret).await?.current,
    };
    let target = Target {
        org: &session.org,
        reference: &secret,
    };
    let whole = session.hub.secrets.read(target, &version).await?;
    let value = match reference.field() {
        Some(field) => payload::only(&whole, field)?,
        None => whole,
    };
    Ok((version, Arc::new(value)))
}

/// The resolved reference that the path names, once the caller may do this to it.
async fn allowed(session: &Session, call: SecretCall, action: &str) -> Result<SecretRef, ApiError> {
    let written: SecretRef = session.param("reference")?;
    let reference = session.resolved(&written);
    let object = object(&reference);
    session
        .require(Call::Secret(call, &reference), action, object)
        .await?;
    Ok(reference)
}

/// The same for what only the hub's own secrets have: whole ones, without a field.
async fn asked(session: &Session, call: SecretCall, action: &str) -> Result<SecretRef, ApiError> {
    let reference = allowed(session, call, action).await?;
    if session.hub.managers.of(&reference)?.is_some() {
        let detail = format!("{reference} is kept by another secrets manager: do this there.");
        return Err(ApiError::new(Code::Invalid, detail));
    }
    if reference.field().is_some() {
        let detail = format!("This is of whole secrets: leave the field of {reference} out.");
        return Err(ApiError::new(Code::Invalid, detail));
    }
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
    ApiError::new(code, format!("The secret was not changed: {error}."))
}

fn object(reference: &SecretRef) -> String {
    format!("secret/{reference}")
}
