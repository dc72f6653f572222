//! The secrets managers outside the hub: which there are, and how they are.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Json, Router};

use super::session::Session;
use crate::api::problem::ApiError;
use crate::hub::Hub;
use crate::managers::guarded::Guarded;
use crate::managers::{ManagerError, ManagerName};
use crate::rights::Call;
use crate::wire::{CallCount, ManagerCheck, ManagerInfo, ManagerTrouble, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::MANAGERS, get(list))
        .route(paths::MANAGER_CHECK, post(check))
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
    Ok(Json(session.hub.managers.iter().map(info).collect()))
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
    let manager = session.hub.managers.named(&name)?;
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

fn trouble(error: ManagerError) -> ManagerTrouble {
    ManagerTrouble {
        fault: error.fault,
        detail: error.detail,
    }
}
