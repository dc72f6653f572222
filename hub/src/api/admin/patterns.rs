//! Patterns.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{
    Code, OrgId, PatternChoice, PatternId, PatternName, Problem, Source, UserId,
};
use serde::Deserialize;

use super::document::{self, DryRun};
use super::policies::{Asked, BoundSecrets, Publishing};
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

/// Whose pattern is meant; the organisation's own when absent.
#[derive(Deserialize)]
pub(super) struct Whose {
    pub(super) of: Option<OrgId>,
}

async fn list(
    session: Session,
    Params(Whose { of }): Params<Whose>,
) -> Result<Json<Vec<PatternInfo>>, ApiError> {
    session
        .require(Call::See, "pattern.list", "patterns")
        .await?;
    let of = of.filter(|of| *of != session.org);
    let model = with_public_of(&session, of.as_ref()).await?;
    let infos = tokio::task::spawn_blocking(move || match of {
        None => infos(&model),
        Some(publisher) => foreign_infos(&model, &publisher),
    });
    infos
        .await
        .map(Json)
        .map_err(|error| ApiError::internal(&error))
}

/// The organisation, with what another one publishes where one is asked about.
pub(super) async fn with_public_of(
    session: &Session,
    publisher: Option<&OrgId>,
) -> Result<Arc<Model>, ApiError> {
    let hub = &session.hub;
    let model = hub
        .models
        .current_with(&*hub.catalog, &session.org, publisher);
    Ok(model.await?)
}

/// Of an organisation that is not there, and of one that publishes nothing: none.
fn foreign_infos(model: &Model, publisher: &OrgId) -> Vec<PatternInfo> {
    let counts = plan::node_counts(model);
    let shelf = model.shelves.get(publisher).into_iter();
    let records = shelf.flat_map(|shelf| shelf.patterns.values());
    let info = |record: &Arc<PatternRecord>| {
        let id = PatternId {
            org: publisher.clone(),
            name: record.name.clone(),
        };
        let pattern = &model.definitions.pattern(&id)?.document;
        Some(info_of(record, pattern, &id, &counts, None))
    };
    records.filter_map(info).collect()
}

fn info_of(
    record: &PatternRecord,
    pattern: &Pattern,
    id: &PatternId,
    counts: &BTreeMap<Source, usize>,
    owner: Option<UserId>,
) -> PatternInfo {
    let nodes = counts.get(&Source::Pattern(id.clone()));
    PatternInfo {
        name: record.name.clone(),
        services: pattern.services().into_iter().cloned().collect(),
        public: pattern.is_public(),
        nodes: nodes.copied().unwrap_or(0),
        owner,
        updated_at: record.updated_at,
    }
}

/// As with policies, an unreadable document has nothing to show.
fn infos(model: &Model) -> Vec<PatternInfo> {
    let counts = plan::node_counts(model);
    let info = |record: &Arc<PatternRecord>| {
        let pattern = model.pattern(&record.name)?;
        let (id, owner) = (model.pattern_id(&record.name), record.owner.clone());
        Some(info_of(record, pattern, &id, &counts, Some(owner)))
    };
    model.patterns.values().filter_map(info).collect()
}

async fn show(session: Session, Params(Whose { of }): Params<Whose>) -> Result<Response, ApiError> {
    let name: PatternName = session.param("pattern")?;
    session
        .require(Call::See, "pattern.show", object(&name))
        .await?;
    let of = of.filter(|of| *of != session.org);
    let model = with_public_of(&session, of.as_ref()).await?;
    let record = match of {
        None => model.patterns.get(&name).ok_or_else(|| absent(&name))?,
        Some(org) => {
            let shelf = model.shelves.get(&org);
            let record = shelf.and_then(|shelf| shelf.patterns.get(&name));
            record.ok_or_else(|| absent_public(&PatternId { org, name }))?
        }
    };
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
        expect_sharer(&session, model, &name, pattern.is_public())?;
        let mut checked = check_pattern(&pattern, user, &model.definitions.services);
        if let Some(other) = pattern.name().filter(|other| **other != name) {
            checked.warnings.push(format!(
                "name: the file calls it \"{other}\"; it is published as \"{name}\""
            ));
        }
        let asked = Asked {
            text: &text,
            place_of: &|reference| pattern.place_of(reference),
            allow_missing: asked.allow_missing,
        };
        bound.judge(&title, checked, &asked)
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
        expect_sharer(&session, model, &name, false)?;
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

/// Denied unless the caller may change a pattern that is public, or becomes it.
fn expect_sharer(
    session: &Session,
    model: &Model,
    name: &PatternName,
    becomes_public: bool,
) -> Result<(), Problem> {
    let present = model.patterns.get(name);
    let is_public = becomes_public || present.is_some_and(|record| record.public);
    if !is_public || session.may(Call::Share) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::Denied,
            "Public patterns are the administrators' to publish, change and remove.",
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
    if model.definitions.pattern(&id).is_some() {
        return Ok(id);
    }
    let detail = match id.org == *org {
        true => format!("There is no pattern \"{}\".", id.name),
        false => no_public(&id),
    };
    Err(Problem::new(Code::Invalid, detail))
}

/// Said of what is not there and of what is not public, in an organisation that is there or is not.
fn no_public(id: &PatternId) -> String {
    format!("There is no public pattern \"{id}\".")
}

pub(super) fn absent_public(id: &PatternId) -> ApiError {
    ApiError::new(Code::NotFound, no_public(id))
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
