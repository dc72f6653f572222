//! Documents that operators publish: how they are read, refused, and what publishing them did.

use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use edge_secrets_protocol::Code;
use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use jiff::Timestamp;
use serde::Deserialize;

use super::session::Session;
use crate::api::body;
use crate::api::problem::ApiError;
use crate::catalog::records::{Change, Followers, NewAudit};
use crate::deploy::{self, Check, DeployError, Preview, plan};
use crate::policy::DocumentError;
use crate::wire::{Elsewhere, MAX_CHANGES, Published};

/// Whether a change is only asked about.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DryRun {
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// The document in a request's body, from a caller who is still known when it has come.
pub(super) async fn read(session: &Session, request: Request) -> Result<String, ApiError> {
    body::expect_media_type(request.headers(), &MEDIA_TYPES)?;
    let bytes = body::read(request, MAX_ADMIN_REQUEST).await?;
    session.still().await?;
    String::from_utf8(bytes.into())
        .map_err(|_| ApiError::new(Code::BadRequest, "The document is not UTF-8 text."))
}

/// Says that a document is refused, where in it, and why.
pub(super) fn refused(what: &str, error: &DocumentError) -> ApiError {
    ApiError::new(Code::Invalid, format!("The {what} is refused: {error}."))
}

/// Makes a change of definitions, or only says what it would do.
pub(super) async fn publish(
    session: &Session,
    change: Change,
    audit: NewAudit,
    dry_run: bool,
    check: &Check<'_>,
) -> Result<Published, ApiError> {
    let (hub, org) = (&*session.hub, &session.org);
    let (action, object) = (audit.action.clone(), audit.object.clone());
    let elsewhere = elsewhere(session, &change).await?;
    let outcome = if dry_run {
        let preview = deploy::preview(hub, org, change, check).await;
        preview.map(|preview| published(preview, elsewhere, None))
    } else {
        let done = deploy::publish(hub, org, change, audit, check).await;
        done.map(|(preview, committed)| published(preview, elsewhere, Some(committed.at)))
    };
    match outcome {
        Ok(published) => Ok(published),
        Err(DeployError::Refused(problem)) if problem.code == Code::Denied => {
            Err(session.deny(&action, object).await)
        }
        Err(DeployError::Refused(problem)) => Err(problem.into()),
        Err(DeployError::Catalog(error)) => Err(error.into()),
    }
}

/// Answers with a stored document as it is.
pub(super) fn stored(document: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, document.to_owned()).into_response()
}

/// How many nodes of other organisations a change concerns, where it is one of something public.
async fn elsewhere(session: &Session, change: &Change) -> Result<Option<Elsewhere>, ApiError> {
    let (hub, org) = (&*session.hub, &session.org);
    let model = hub.models.current(&*hub.catalog, org).await?;
    let patterns = plan::shared_patterns(&model, change);
    if patterns.is_empty() {
        return Ok(None);
    }
    let Followers { orgs, nodes } = hub.catalog.followers(org, &patterns).await?;
    Ok((nodes > 0).then_some(Elsewhere { orgs, nodes }))
}

fn published(
    mut preview: Preview,
    elsewhere: Option<Elsewhere>,
    at: Option<Timestamp>,
) -> Published {
    let more_changes = preview.changes.len().saturating_sub(MAX_CHANGES);
    preview.changes.truncate(MAX_CHANGES);
    Published {
        dry_run: at.is_none(),
        changes: preview.changes,
        more_changes,
        untouched_nodes: preview.untouched_nodes,
        warnings: preview.warnings,
        elsewhere,
        at,
    }
}

const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "text/yaml"];
