//! The operators' calls, as [`crate::wire`] has them.
//!
//! Every call asks [`crate::rights`] first; refusals and changes are audited, the latter in the same
//! transaction, and a value is shown only once the audit trail durably says so.

mod audit;
mod document;
mod explain;
mod leases;
mod managed;
mod managers;
mod nodes;
mod patterns;
mod policies;
mod rollout;
mod secrets;
mod service_policy;
mod services;
mod session;
pub mod standing;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::api::peer::UserPeer;
use crate::hub::Hub;
use crate::wire::{HubInfo, paths};

/// Every call of operators, to be given its hub.
pub fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::HUB, get(hub_info))
        .merge(secrets::router())
        .merge(services::router())
        .merge(service_policy::router())
        .merge(policies::router())
        .merge(patterns::router())
        .merge(rollout::router())
        .merge(nodes::router())
        .merge(explain::router())
        .merge(users::router())
        .merge(audit::router())
        .merge(managers::router())
        .merge(managed::router())
        .merge(leases::router())
}

async fn hub_info(State(hub): State<Arc<Hub>>, peer: UserPeer) -> Json<HubInfo> {
    let default = hub.config.managers.default_of(&peer.org);
    Json(HubInfo {
        default_manager: default.cloned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sealing_key: hub.sealing_key.public(),
        org: peer.org,
        user: peer.user,
        role: peer.role,
    })
}
