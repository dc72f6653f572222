//! `POST /v1/renew`: a new certificate, and perhaps a new sealing key, over the old identity.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use edge_secrets_protocol::enroll::{Identity, RenewRequest};
use tracing::info;

use super::audited;
use crate::api::body::Json;
use crate::api::peer::{Connected, Peer, RenewingPeer, revoked};
use crate::api::problem::ApiError;
use crate::catalog::CatalogError;
use crate::catalog::records::NewAudit;
use crate::hub::Hub;

/// The older certificates stay good until they expire: the node may fail to keep the new one.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    connected: Connected,
    _: RenewingPeer,
    Json(request): Json<RenewRequest>,
) -> Result<Answer<Identity>, ApiError> {
    // The body took its time: another may have enrolled as this node meanwhile, and the old
    // identity must not become a new one beside theirs.
    let RenewingPeer(peer) = RenewingPeer::known(&connected, &hub).await?;
    let Peer::Node { serial, .. } = &connected.peer else {
        return Err(ApiError::denied());
    };
    let lifetime = hub.config.node_certificates.lifetime;
    let issued = hub
        .pki
        .issue_node(&request.csr, &peer.org, &peer.node, lifetime)?;
    let sealing_key = request.sealing_key.as_ref();
    let rotated = if sealing_key.is_some() {
        ", new sealing key"
    } else {
        ""
    };
    let audit = NewAudit {
        detail: format!("certificate {}{rotated}", issued.serial),
        ..audited(&peer, "node.renew", format!("node/{}", peer.node))
    };
    let certificate = issued.record();
    hub.catalog
        .renew_node(
            &peer.org,
            &peer.node,
            serial,
            &certificate,
            sealing_key,
            audit,
        )
        .await
        .map_err(|error| match error {
            // It was there when the call came.
            CatalogError::NotFound(_) => revoked(&peer.node),
            error => error.into(),
        })?;
    info!(org = %peer.org, node = %peer.node, serial = issued.serial, "Node certificate renewed.");
    Ok(Answer(Identity {
        org: peer.org,
        node: peer.node,
        certificate: issued.certificate_pem_chain,
        trust_bundle: hub.pki.trust_bundle_pem().to_owned(),
    }))
}
