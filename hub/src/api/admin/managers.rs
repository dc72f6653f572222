//! The secrets managers outside the hub: which there are, and how they are.

use std::sync::Arc;

use axum::routing::{get, post, put};
use axum::{Json, Router};

use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Secret};

use super::session::Session;
use crate::api::body;
use crate::api::problem::ApiError;
use crate::hub::Hub;
use crate::managers::guarded::Guarded;
use crate::managers::{ManagerError, ManagerName};
use crate::rights::Call;
use crate::wire::{
    CallCount, EngineSet, ManagerCheck, ManagerInfo, ManagerTrouble, SetEngine, paths,
};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::MANAGERS, get(list))
        .route(paths::MANAGER_CHECK, post(check))
        .route(paths::MANAGER_ENGINE, put(engine))
}

async fn list(session: Session) -> Result<Json<Vec<ManagerInfo>>, ApiError> {
    session
        .require(Call::See, "manager.list", "managers")
        .await?;
    let observed = session.hub.catalog.observed(false).await?;
    let info = |manager: &Arc<Guarded>| {
        let own = observed.iter().filter(|observed| {
            observed.org == session.org && observed.reference.manager() == Some(&manager.name)
        });
        let troubled = own.clone().filter(|observed| {
            let known = observed.known.as_ref();
            known.is_some_and(|known| known.trouble.is_some())
        });
        info(&session, manager, own.count(), troubled.count())
    };
    // What others use is none of this organisation's business.
    let usable = session.hub.managers.usable_by(&session.org);
    Ok(Json(usable.map(info).collect()))
}

fn info(session: &Session, manager: &Guarded, watched: usize, troubled: usize) -> ManagerInfo {
    let calls = manager.counts().into_iter();
    let count = |((call, result), count): ((crate::managers::guarded::Call, &str), _)| {
        let count: crate::managers::guarded::Count = count;
        CallCount {
            call: call.as_str().to_owned(),
            result: result.to_owned(),
            count: count.calls,
            millis: u64::try_from(count.time.as_millis()).unwrap_or(u64::MAX),
        }
    };
    let left_alone = manager.left_alone();
    ManagerInfo {
        name: manager.name.clone(),
        kind: manager.kind(),
        default: session.default_manager() == Some(&manager.name),
        paths: manager.settings.paths.prefixes(&session.org),
        watched,
        troubled,
        trouble: manager.trouble().map(trouble),
        left_alone_seconds: left_alone.map(|left| left.as_secs()),
        calls: calls.map(count).collect(),
    }
}

async fn check(session: Session) -> Result<Json<ManagerCheck>, ApiError> {
    let name: ManagerName = session.param("manager")?;
    session
        .require(Call::Administer, "manager.check", format!("manager/{name}"))
        .await?;
    let manager = session.hub.managers.named_for(&session.org, &name)?;
    Ok(Json(match manager.health().await {
        Ok(health) => ManagerCheck {
            healthy: true,
            version: health.version,
            trouble: None,
            notes: health.notes,
        },
        Err(error) => ManagerCheck {
            healthy: false,
            version: None,
            trouble: Some(trouble(error)),
            notes: Vec::new(),
        },
    }))
}

/// Gives a manager the key that it makes credentials with.
async fn engine(
    session: Session,
    body::Json(set): body::Json<SetEngine, MAX_ADMIN_REQUEST>,
) -> Result<Json<EngineSet>, ApiError> {
    let manager: ManagerName = session.param("manager")?;
    let object = format!("manager/{manager}");
    session
        .require(Call::Administer, "manager.engine", &object)
        .await?;
    let SetEngine { name, sealed } = set;
    if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        let detail = format!("An engine's configuration is called by 1 to {MAX_NAME} characters.");
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let (hub, org) = (&session.hub, &session.org);
    let place = Place::Engine {
        org,
        user: &session.peer.user,
        manager: manager.as_str(),
        name: &name,
    };
    let untaken = |why: &dyn std::fmt::Display| {
        let detail = format!("The key for {manager} was not taken: {why}.");
        ApiError::new(Code::Invalid, detail)
    };
    let key = sealed
        .open(&hub.sealing_key, &place)
        .map_err(|error| untaken(&format_args!("{error}; seal it to this hub's present key")))?;
    if !is_key(&key) {
        let what = format_args!("a key is 1 to {MAX_KEY} printable characters without spaces");
        return Err(untaken(&what));
    }
    let guarded = hub.managers.named_for(org, &manager)?;
    let mut audit = session.audit("manager.engine", &object);
    let done = guarded.put_engine(org, &name, &key).await;
    match &done {
        Ok(engine) => audit.detail = format!("{} {name}, {}", engine.kind, did(engine.replaced)),
        Err(error) => {
            audit.result = error.fault.to_string();
            audit.detail = format!("{name}: {}", error.detail);
        }
    }
    hub.catalog.append_audit(vec![audit]).await?;
    let engine = done?;
    Ok(Json(EngineSet {
        kind: engine.kind.to_owned(),
        replaced: engine.replaced,
        manager,
        name,
    }))
}

fn did(replaced: bool) -> &'static str {
    if replaced { "replaced" } else { "made" }
}

fn is_key(key: &Secret) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.expose().iter().all(u8::is_ascii_graphic)
}

fn trouble(error: ManagerError) -> ManagerTrouble {
    ManagerTrouble {
        fault: error.fault,
        detail: error.detail,
    }
}

const MAX_NAME: usize = 128;
const MAX_KEY: usize = 4096;
