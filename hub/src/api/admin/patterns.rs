//! Patterns.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{Code, OrgId, PatternChoice, PatternId, PatternName, Problem, Source};

use super::document::{self, DryRun};
use super::policies::{BoundSecrets, Publishing};
use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{Change, PatternRecord};
use crate::clock;
use crate::deploy::model::Model;
use crate::deploy::plan;
use crate::hub::Hub;
use crate::policy::{Pattern, check_pattern};
use crate::rights::Call;
use crate::wire::{PatternInfo, Published, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::PATTERNS, get(list))
        .route(paths::PATTERN, get(show).put(publish).delete(remove))
}

async fn list(session: Session) -> Result<Json<Vec<PatternInfo>>, ApiError> {
    session
        .require(Call::See, "pattern.list", "patterns")
        .await?;
    let hub = &session.hub;
    let model = hub.models.current(&*hub.catalog, &session.org).await?;
    let infos = tokio::task::spawn_blocking(move || infos(&model)).await;
    infos.map(Json).map_err(|error| ApiError::internal(&error))
}

/// As with policies, an unreadable document has nothing to show.
fn infos(model: &Model) -> Vec<PatternInfo> {
    let counts = plan::node_counts(model);
    let info = |record: &Arc<PatternRecord>| {
        let pattern = model.pattern(&record.name)?;
        Some(PatternInfo {
            name: record.name.clone(),
            services: pattern.services().into_iter().cloned().collect(),
            public: pattern.is_public(),
            nodes: counts
                .get(&Source::Pattern(model.pattern_id(&record.name)))
                .copied()
                .unwrap_or(0),
            owner: record.owner.clone(),
            updated_at: record.updated_at,
        })
    };
    model.patterns.values().filter_map(info).collect()
}

async fn show(session: Session) -> Result<Response, ApiError> {
    let name: PatternName = session.param("pattern")?;
    session
        .require(Call::See, "pattern.show", object(&name))
        .await?;
    let hub = &session.hub;
    let model = hub.models.current(&*hub.catalog, &session.org).await?;
    let record = model.patterns.get(&name).ok_or_else(|| absent(&name))?;
    Ok(document::stored(&record.document))
}

async fn publish(
    session: Session,
    Params(asked): Params<Publishing>,
    request: Request,
) -> Result<Json<Published>, ApiError> {
    let name: PatternName = session.param("pattern")?;
    let free = Call::Define { owner: None };
    session.require(free, PUBLISH, object(&name)).await?;
    let text = document::read(&session, request).await?;
    let title = format!("pattern \"{name}\"");
    let pattern = Pattern::parse(&text).map_err(|error| document::refused(&title, &error))?;
    if let Some(org) = pattern.org().filter(|org| **org != session.org) {
        let detail = format!(
            "The {title} is refused at org: it is of \"{org}\" and cannot be published in \"{}\".",
            session.org
        );
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let bound = BoundSecrets::look(&session, &pattern.references()).await?;
    let user = &session.peer.user;
    let check = |model: &Model| {
        expect_owner(&session, model, &name)?;
        let mut checked = check_pattern(&pattern, user, &model.definitions.services);
        if let Some(other) = pattern.name().filter(|other| **other != name) {
            checked.warnings.push(format!(
                "name: the file calls it \"{other}\"; it is published as \"{name}\""
            ));
        }
        bound.judge(&title, checked, asked.allow_missing)
    };
    let change = Change::PutPattern(PatternRecord {
        name: name.clone(),
        owner: user.clone(),
        public: pattern.is_public(),
        document: pattern.to_json(),
        updated_at: clock::now(),
    });
    let audit = session.audit(PUBLISH, object(&name));
    let published = document::publish(&session, change, audit, asked.dry_run, &check).await?;
    Ok(Json(published))
}

async fn remove(
    session: Session,
    Params(DryRun { dry_run }): Params<DryRun>,
) -> Result<Json<Published>, ApiError> {
    let name: PatternName = session.param("pattern")?;
    let free = Call::Define { owner: None };
    session.require(free, REMOVE, object(&name)).await?;
    let check = |model: &Model| {
        expect_owner(&session, model, &name)?;
        if model.patterns.contains_key(&name) {
            Ok(Vec::new())
        } else {
            Err(absent(&name).0)
        }
    };
    let change = Change::RemovePattern(name.clone());
    let audit = session.audit(REMOVE, object(&name));
    let published = document::publish(&session, change, audit, dry_run, &check).await?;
    Ok(Json(published))
}

/// Denied unless the caller may put something in this pattern's place.
fn expect_owner(session: &Session, model: &Model, name: &PatternName) -> Result<(), Problem> {
    let owner = model.patterns.get(name).map(|record| &record.owner);
    if session.may(Call::Define { owner }) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::Denied,
            "Another user published this pattern.",
        ))
    }
}

/// The pattern that nodes of the organisation can be put on: one of its own, or a public one.
///
/// # Errors
/// `invalid`, in the same words whether it is not there or not public.
pub(super) fn usable(
    model: &Model,
    org: &OrgId,
    choice: &PatternChoice,
) -> Result<PatternId, Problem> {
    let id = choice.of(org);
    if model.definitions.patterns.contains_key(&id) {
        return Ok(id);
    }
    let detail = match id.org == *org {
        true => format!("There is no pattern \"{}\".", id.name),
        false => format!("There is no public pattern \"{id}\"."),
    };
    Err(Problem::new(Code::Invalid, detail))
}

pub(super) fn absent(name: &PatternName) -> ApiError {
    let detail = format!("There is no pattern \"{name}\".");
    ApiError::new(Code::NotFound, detail)
}

pub(super) fn object(name: &PatternName) -> String {
    format!("pattern/{name}")
}

const PUBLISH: &str = "pattern.publish";
const REMOVE: &str = "pattern.remove";
