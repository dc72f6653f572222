//! Services' own policies: what a service says of itself and demands of nodes, whoever deploys it. They
//! stand in the records of the definitions.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{Code, Problem};

use super::document;
use super::services::{self, Which};
use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{Change, ServiceRecord};
use crate::clock;
use crate::deploy::model::{Model, service_key};
use crate::hub::Hub;
use crate::policy::ServiceDefinition;
use crate::rights::Call;
use crate::wire::{Published, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new().route(paths::SERVICE_POLICY, get(show).put(publish).delete(remove))
}

async fn show(session: Session, Params(which): Params<Which>) -> Result<Response, ApiError> {
    let object = format!("service/{}", which.url);
    session
        .require(Call::See, "service.policy.show", object)
        .await?;
    let (record, definition) = find(&session, &which).await?;
    let policy = definition.policy_json().ok_or_else(|| absent(&record))?;
    Ok(document::stored(&policy))
}

async fn publish(
    session: Session,
    Params(which): Params<Which>,
    request: Request,
) -> Result<Json<Published>, ApiError> {
    require(&session, &which, PUBLISH).await?;
    let text = document::read(&session, request).await?;
    change(&session, &which, PUBLISH, Some(&text)).await
}

async fn remove(
    session: Session,
    Params(which): Params<Which>,
) -> Result<Json<Published>, ApiError> {
    require(&session, &which, REMOVE).await?;
    let (record, definition) = find(&session, &which).await?;
    definition.policy_json().ok_or_else(|| absent(&record))?;
    change(&session, &which, REMOVE, None).await
}

async fn require(session: &Session, which: &Which, action: &str) -> Result<(), ApiError> {
    let free = Call::Define { owner: None };
    let object = format!("service/{}", which.url);
    session.require(free, action, object).await
}

/// Puts the policy into the definition's record, whose owner stays who published it.
async fn change(
    session: &Session,
    which: &Which,
    action: &str,
    policy: Option<&str>,
) -> Result<Json<Published>, ApiError> {
    let (record, definition) = find(session, which).await?;
    let changed = definition
        .with_policy(policy)
        .map_err(|error| document::refused("service policy", &error))?;
    let key = service_key(&record);
    let check = |model: &Model| {
        let present = model.services.get(&key);
        services::expect_owner(session, present)?;
        // What was published meanwhile must not be undone.
        if present.is_none_or(|present| present.document != record.document) {
            return Err(Problem::new(Code::Conflict, services::MEANWHILE));
        }
        Ok(changed.notes())
    };
    let change = Change::PutService(ServiceRecord {
        document: changed.to_json(),
        updated_at: clock::now(),
        ..(*record).clone()
    });
    let audit = session.audit(action, services::object(session, &record));
    let published = document::publish(session, change, audit, which.dry_run, &check).await?;
    Ok(Json(published))
}

async fn find(
    session: &Session,
    which: &Which,
) -> Result<(Arc<ServiceRecord>, ServiceDefinition), ApiError> {
    let record = services::find(&*services::current(session).await?, which)?;
    let definition = ServiceDefinition::parse(&record.document)
        .map_err(|error| document::refused("stored service definition", &error))?;
    Ok((record, definition))
}

fn absent(record: &ServiceRecord) -> ApiError {
    let (url, version) = (&record.url, &record.version);
    let detail = format!("The service {url} {version} has no policy of its own.");
    ApiError::new(Code::NotFound, detail)
}

const PUBLISH: &str = "service.policy.set";
const REMOVE: &str = "service.policy.remove";
