//! Service definitions.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{Code, Problem, ServiceUrl, Source};
use serde::Deserialize;

use super::document::{self, DryRun};
use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{Change, ServiceRecord};
use crate::clock;
use crate::deploy::model::{Model, service_key};
use crate::deploy::plan::new_faults;
use crate::hub::Hub;
use crate::policy::{ServiceDefinition, ring, unmet};
use crate::rights::Call;
use crate::wire::{Published, ServiceInfo, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::SERVICES, get(list).post(publish))
        .route(paths::SERVICE, get(show).delete(remove))
}

async fn list(session: Session) -> Result<Json<Vec<ServiceInfo>>, ApiError> {
    session
        .require(Call::See, "service.list", "services")
        .await?;
    let model = current(&session).await?;
    let info = |record: &Arc<ServiceRecord>| {
        let (id, services) = (model.id_of(&record.url), &model.definitions.services);
        let parsed = services.get(&id, &record.version, &record.arch);
        ServiceInfo {
            url: record.url.clone(),
            version: record.version.clone(),
            arch: record.arch.clone(),
            secrets: parsed.map_or_else(Vec::new, |parsed| parsed.document.secret_names()),
            owner: record.owner.clone(),
            updated_at: record.updated_at,
        }
    };
    Ok(Json(model.services.values().map(info).collect()))
}

async fn publish(
    session: Session,
    Params(DryRun { dry_run }): Params<DryRun>,
    request: Request,
) -> Result<Json<Published>, ApiError> {
    let free = Call::Define { owner: None };
    session.require(free, PUBLISH, "services").await?;
    let text = document::read(&session, request).await?;
    let definition = ServiceDefinition::parse_for(&text, &session.org)
        .map_err(|error| document::refused("service definition", &error))?;
    if let Some(slip) = definition.slip() {
        return Err(document::refused("service definition", slip));
    }
    let kept_from_before = definition.policy_json().is_none();
    let definition = match kept_from_before {
        true => with_kept_policy(&session, definition).await?,
        false => definition,
    };
    let id = definition.id();
    if id.org != session.org {
        let detail = format!(
            "The service definition is refused at org: it is of \"{}\" and cannot be published in \
             \"{}\".",
            id.org, session.org
        );
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let record = ServiceRecord {
        url: id.url.clone(),
        version: definition.version().to_owned(),
        arch: definition.arch().to_owned(),
        owner: session.peer.user.clone(),
        public: definition.is_public(),
        document: definition.to_json(),
        updated_at: clock::now(),
    };
    let key = service_key(&record);
    let audit = session.audit(PUBLISH, object(&session, &record));
    let change = Change::PutService(record);
    let probe = change.clone();
    let kept = definition.policy_json();
    let check = |model: &Model| {
        expect_owner(&session, model.services.get(&key))?;
        // A policy that came meanwhile must not be lost.
        let present = model.services.get(&key).filter(|_| kept_from_before);
        if present.is_some_and(|present| own_policy(present) != kept) {
            return Err(Problem::new(Code::Conflict, MEANWHILE));
        }
        expect_own_service(&session, model, &key.0)?;
        let after = model.definitions_after(&probe);
        if let Some(ring) = ring(definition.id(), &after) {
            let detail = format!("The service definition is refused at requiredServices: {ring}.");
            return Err(Problem::new(Code::Invalid, detail));
        }
        let broken = new_faults(definition.id(), &model.definitions, &after)
            .into_iter()
            .map(sentence);
        let missing = unmet(&definition, &after);
        Ok(definition
            .notes()
            .into_iter()
            .chain(missing)
            .chain(broken)
            .collect())
    };
    let published = document::publish(&session, change, audit, dry_run, &check).await?;
    Ok(Json(published))
}

/// Which definition is meant.
#[derive(Deserialize)]
pub(super) struct Which {
    pub(super) url: ServiceUrl,
    #[serde(default)]
    version: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// The definition with the policy of its own that the one in whose place it comes has, unless it brings
/// one: as in Open Horizon, publishing a definition leaves its policy alone.
async fn with_kept_policy(
    session: &Session,
    definition: ServiceDefinition,
) -> Result<ServiceDefinition, ApiError> {
    let url = definition.id().url.clone();
    let key = (
        url,
        definition.version().to_owned(),
        definition.arch().to_owned(),
    );
    let model = current(session).await?;
    let Some(kept) = model
        .services
        .get(&key)
        .and_then(|present| own_policy(present))
    else {
        return Ok(definition);
    };
    definition.with_policy(Some(&kept)).map_err(|error| {
        document::refused("service definition, with the service's policy,", &error)
    })
}

fn own_policy(record: &ServiceRecord) -> Option<String> {
    let definition = ServiceDefinition::parse(&record.document).ok()?;
    definition.policy_json()
}

async fn show(session: Session, Params(which): Params<Which>) -> Result<Response, ApiError> {
    let object = format!("service/{}", which.url);
    session.require(Call::See, "service.show", object).await?;
    let record = find(&*current(&session).await?, &which)?;
    Ok(document::stored(&record.document))
}

async fn remove(
    session: Session,
    Params(which): Params<Which>,
) -> Result<Json<Published>, ApiError> {
    let free = Call::Define { owner: None };
    let named = format!("service/{}", which.url);
    session.require(free, REMOVE, named).await?;
    let record = find(&*current(&session).await?, &which)?;
    let key = service_key(&record);
    let change = Change::RemoveService {
        url: record.url.clone(),
        version: record.version.clone(),
        arch: record.arch.clone(),
    };
    let probe = change.clone();
    let check = |model: &Model| {
        expect_owner(&session, model.services.get(&key))?;
        let after = model.definitions_after(&probe);
        let service = model.id_of(&key.0);
        let broken = new_faults(&service, &model.definitions, &after);
        if broken.is_empty() {
            return Ok(Vec::new());
        }
        let broken: Vec<_> = broken.into_iter().map(sentence).collect();
        let detail = format!(
            "The service definition is still needed, change or remove the policies and patterns first: {}.",
            broken.join("; ")
        );
        Err(Problem::new(Code::Conflict, detail))
    };
    let audit = session.audit(REMOVE, object(&session, &record));
    let published = document::publish(&session, change, audit, which.dry_run, &check).await?;
    Ok(Json(published))
}

pub(super) async fn current(session: &Session) -> Result<Arc<Model>, ApiError> {
    let hub = &session.hub;
    Ok(hub.models.current(&*hub.catalog, &session.org).await?)
}

/// The one definition that fits; an exact fit before others.
pub(super) fn find(model: &Model, which: &Which) -> Result<Arc<ServiceRecord>, ApiError> {
    let Which {
        url, version, arch, ..
    } = which;
    let exact = (url.clone(), version.clone(), arch.clone());
    if let Some(record) = model.services.get(&exact) {
        return Ok(Arc::clone(record));
    }
    let fits = |record: &&Arc<ServiceRecord>| {
        record.url == *url
            && (version.is_empty() || record.version == *version)
            && (arch.is_empty() || record.arch == *arch)
    };
    let found: Vec<_> = model.services.values().filter(fits).collect();
    match found.as_slice() {
        [record] => Ok(Arc::clone(record)),
        [] => {
            let detail = format!("There is no service definition {url} {version} {arch}");
            Err(ApiError::new(
                Code::NotFound,
                format!("{}.", detail.trim_end()),
            ))
        }
        several => {
            let several: Vec<_> = several
                .iter()
                .map(|record| format!("{} {}", record.version, record.arch))
                .collect();
            let detail = format!(
                "{url} has several definitions; name the version and the architecture: {}.",
                several.join(", ")
            );
            Err(ApiError::new(Code::Conflict, detail))
        }
    }
}

/// Denied unless the caller may put something in this record's place.
pub(super) fn expect_owner(
    session: &Session,
    present: Option<&Arc<ServiceRecord>>,
) -> Result<(), Problem> {
    let owner = present.map(|record| &record.owner);
    if session.may(Call::Define { owner }) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::Denied,
            "Another user published this definition.",
        ))
    }
}

/// Denied where others alone have published definitions of this service: one more would decide what
/// becomes of the secrets that their policies bind.
fn expect_own_service(session: &Session, model: &Model, url: &ServiceUrl) -> Result<(), Problem> {
    let of_service = model.services.values().filter(|record| record.url == *url);
    let mut owners = of_service.map(|record| &record.owner).peekable();
    let may = |owner| session.may(Call::Define { owner: Some(owner) });
    if owners.peek().is_none() || owners.any(may) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::Denied,
            "Another user published this service.",
        ))
    }
}

fn sentence((source, faults): (Source, Vec<String>)) -> String {
    let source = match source {
        Source::Policy(name) => format!("policy \"{name}\""),
        Source::Pattern(id) => format!("pattern \"{}\"", id.name),
    };
    format!(
        "{source} could not be deployed as it is: {}",
        faults.join("; ")
    )
}

pub(super) fn object(session: &Session, record: &ServiceRecord) -> String {
    let ServiceRecord {
        url, version, arch, ..
    } = record;
    format!("service/{}/{url} {version} {arch}", session.org)
        .trim_end()
        .to_owned()
}

pub(super) const MEANWHILE: &str =
    "The service definition was changed meanwhile: look and try again.";
const PUBLISH: &str = "service.publish";
const REMOVE: &str = "service.remove";
