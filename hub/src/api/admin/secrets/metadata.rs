//! Secrets' metadata: how it is changed, shown, and looked through.

use axum::Json;
use axum::http::HeaderMap;
use edge_secrets_protocol::Code;
use jiff::Timestamp;
use serde::Deserialize;

use super::{asked, detail, expected, not_set, object};
use crate::api::admin::session::Session;
use crate::api::body;
use crate::api::problem::ApiError;
use crate::catalog::records::SecretRecord;
use crate::clock;
use crate::metadata::{Labels, MetaChange};
use crate::rights::SecretCall;
use crate::wire::{DUE_SOON, SecretEdited, SecretInfo};

pub(super) async fn edit(
    session: Session,
    headers: HeaderMap,
    body::Json(change): body::Json<MetaChange, MAX_CHANGE>,
) -> Result<Json<SecretEdited>, ApiError> {
    let reference = asked(&session, SecretCall::Write, "secret.edit").await?;
    let expected = expected(&headers)?;
    if change.is_empty() {
        let nothing = "Nothing is to be changed: give labels, description, expires_at, max_versions \
                      or rotate_every_seconds.";
        return Err(ApiError::new(Code::Invalid, nothing));
    }
    expect_future_end(&change)?;
    let mut audit = session.audit("secret.edit", object(&reference));
    audit.detail = change.to_string();
    let secrets = &session.hub.secrets;
    let (record, committed) = secrets
        .edit(&session.org, &reference, &change, expected, audit)
        .await
        .map_err(not_set)?;
    Ok(Json(SecretEdited {
        info: detail(&session, record).await?,
        nodes: committed.touched.len(),
    }))
}

/// Refuses an end that has come already: it would be taken for one to come.
pub(super) fn expect_future_end(change: &MetaChange) -> Result<(), ApiError> {
    match change.expires_at.flatten() {
        Some(end) if end <= clock::now() => Err(ApiError::new(
            Code::Invalid,
            format!("The end {end} has come already: give a later one, or none."),
        )),
        _ => Ok(()),
    }
}

/// What everybody who may know of it sees.
pub(super) fn info(record: SecretRecord, now: Timestamp) -> SecretInfo {
    SecretInfo {
        expired: record.meta.has_ended(now),
        rotation_due_at: record.meta.rotation_due_at(record.updated_at),
        reference: record.reference,
        version: record.current,
        created_at: record.created_at,
        updated_at: record.updated_at,
        updated_by: record.updated_by,
        meta: record.meta,
        fields: Vec::new(),
        generator: None,
    }
}

/// Which secrets are listed, as it is asked.
#[derive(Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    prefix: String,
    labels: Option<String>,
    #[serde(default)]
    due: bool,
}

impl Query {
    pub(super) fn filter(self) -> Result<Filter, ApiError> {
        let labels = self.labels.map(|text| text.parse::<Labels>()).transpose();
        let labels = labels.map_err(|error| {
            let detail = format!("The labels to look for are not taken: {error}.");
            ApiError::new(Code::BadRequest, detail)
        })?;
        Ok(Filter {
            prefix: self.prefix,
            labels: labels.unwrap_or_default(),
            due: self.due,
        })
    }
}

/// Which secrets are listed.
pub(super) struct Filter {
    prefix: String,
    labels: Labels,
    due: bool,
}

impl Filter {
    /// What their references begin with.
    pub(super) fn prefix(&self) -> &str {
        self.prefix.strip_prefix('/').unwrap_or(&self.prefix)
    }

    /// Whether this is one of them.
    pub(super) fn takes(&self, record: &SecretRecord, now: Timestamp) -> bool {
        let soon = now.checked_add(DUE_SOON).unwrap_or(Timestamp::MAX);
        let rotation = record.meta.rotation_due_at(record.updated_at);
        let due = || record.meta.has_ended(soon) || rotation.is_some_and(|due| due <= now);
        record.meta.labels.hold(&self.labels) && (!self.due || due())
    }
}

/// Metadata at its largest is some kilobytes.
const MAX_CHANGE: usize = 64 * 1024;
