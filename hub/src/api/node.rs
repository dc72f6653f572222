//! The node protocol, version 1: seven calls, described in `protocol/openapi.yaml`.

mod bindings;
mod enroll;
mod facts;
mod renew;
mod secrets;
mod status;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post, put};
use edge_secrets_protocol::{Generation, routes};

use super::failures::Failures;
use super::peer::NodePeer;
use crate::catalog::records::{Actor, NewAudit};
use crate::clock;
use crate::hub::Hub;

/// The seven calls, still without their hub.
pub fn router() -> Router<Arc<Hub>> {
    calls()
        .into_iter()
        .fold(Router::new(), |router, (_, path, call)| {
            router.route(path, call)
        })
}

/// Method, path and handler of every call: what the description is held to.
fn calls() -> [(&'static str, &'static str, MethodRouter<Arc<Hub>>); 7] {
    let failures = Arc::new(Failures::default());
    [
        (
            "post",
            routes::ENROLL,
            post(enroll::call).layer(axum::Extension(failures)),
        ),
        ("post", routes::RENEW, post(renew::call)),
        ("put", routes::NODE, put(facts::call)),
        ("get", routes::WATCH, get(watch::call)),
        ("get", routes::BINDINGS, get(bindings::call)),
        ("post", routes::SECRETS, post(secrets::call)),
        ("put", routes::STATUS, put(status::call)),
    ]
}

/// An audit record of what a node did, done well.
fn audited(peer: &NodePeer, action: &str, object: String) -> NewAudit {
    NewAudit {
        org: peer.org.clone(),
        at: clock::now(),
        actor: Actor::Node(peer.node.clone()),
        action: action.into(),
        object,
        result: OK.into(),
        detail: String::new(),
        peer: peer.address.to_string(),
    }
}

/// A generation in a query or a header, where there is a well-formed one.
fn generation(text: &str) -> Option<Generation> {
    text.trim().parse().ok().map(Generation)
}

const OK: &str = "ok";

#[cfg(test)]
mod tests;
