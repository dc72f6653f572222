//! `POST /v1/enroll`: a token, a signing request and a sealing key for an identity.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::{Extension, Json as Answer};
use edge_secrets_protocol::enroll::{EnrollRequest, Identity};
use edge_secrets_protocol::{Code, Token};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::facts;
use crate::api::body::Json;
use crate::api::failures::Failures;
use crate::api::peer::Connected;
use crate::api::problem::ApiError;
use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, Change, Enrolment, NewAudit};
use crate::clock;
use crate::deploy;
use crate::hub::Hub;

/// Every refused token gets one and the same answer; the reason stands in the audit trail.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    Extension(failures): Extension<Arc<Failures>>,
    connected: Connected,
    Json(request): Json<EnrollRequest>,
) -> Result<Answer<Identity>, ApiError> {
    let address = connected.address.ip();
    if failures.is_full(address, Instant::now()) {
        return Err(ApiError::new(
            Code::RateLimited,
            "Too many refused enrolments from this address; try again in a minute.",
        ));
    }
    let enrolled = enroll(&hub, &connected, request).await;
    if let Err(error) = &enrolled
        && error.code() == Code::Denied
    {
        failures.count(address, Instant::now());
    }
    enrolled.map(Answer)
}

async fn enroll(
    hub: &Hub,
    connected: &Connected,
    request: EnrollRequest,
) -> Result<Identity, ApiError> {
    let EnrollRequest {
        token,
        csr,
        sealing_key,
        facts,
    } = request;
    let text = Zeroizing::new(token);
    let peer = connected.address;
    let Ok(token) = text.parse::<Token>() else {
        // It names no organisation whose trail this could go to.
        warn!(%peer, "An enrolment came with something that is no token.");
        return Err(refused());
    };
    facts::check(&facts)?;
    let view = facts::view(&token.node, &facts)?;
    let audit = NewAudit {
        org: token.org.clone(),
        at: clock::now(),
        actor: Actor::Nobody,
        action: "node.enrol".into(),
        object: format!("node/{}", token.node),
        result: super::OK.into(),
        detail: String::new(),
        peer: peer.to_string(),
    };
    if !hub.pki.is_known(&token.ca_fingerprint) {
        return refuse(hub, audit, "the token is of another hub").await;
    }
    let token_hash = hash(token.expose_secret());
    // Of a token that is not there, the enrolment itself finds out.
    let belongs = hub.catalog.promised(&token_hash).await?.unwrap_or_default();
    if let Some(pattern) = &belongs.pattern {
        facts::expect_one(pattern, view.policy_place())?;
    }
    let lifetime = hub.config.node_certificates.lifetime;
    let issued = hub
        .pki
        .issue_node(&csr, &token.org, &token.node, lifetime)?;
    let enrolment = Enrolment {
        node: token.node.clone(),
        token_hash,
        belongs,
        certificate: issued.record(),
        sealing_key,
        facts,
        at: audit.at,
    };
    let audited = NewAudit {
        detail: format!("certificate {}", issued.serial),
        ..audit.clone()
    };
    let change = Change::Enrol(Box::new(enrolment));
    match deploy::apply(hub, &token.org, change, audited).await {
        Ok(_) => {}
        Err(CatalogError::Token(reason)) => return refuse(hub, audit, reason).await,
        Err(CatalogError::NotFound(_)) => {
            warn!(org = %token.org, %peer, "An enrolment names an organisation that is not here.");
            return Err(refused());
        }
        Err(error) => return Err(error.into()),
    }
    info!(org = %token.org, node = %token.node, %peer, serial = issued.serial, "Node enrolled.");
    Ok(Identity {
        org: token.org,
        node: token.node,
        certificate: issued.certificate_pem_chain,
        trust_bundle: hub.pki.trust_bundle_pem().to_owned(),
    })
}

/// Writes down why, and answers as every refused token is answered.
async fn refuse(hub: &Hub, audit: NewAudit, reason: &str) -> Result<Identity, ApiError> {
    let (org, object, peer) = (audit.org.clone(), audit.object.clone(), audit.peer.clone());
    warn!(%org, object, peer, reason, "Enrolment refused.");
    let record = NewAudit {
        result: Code::Denied.to_string(),
        detail: reason.to_owned(),
        ..audit
    };
    match hub.catalog.append_audit(vec![record]).await {
        // An organisation that is not here has no trail.
        Ok(()) | Err(CatalogError::NotFound(_)) => Err(refused()),
        Err(error) => Err(error.into()),
    }
}

fn refused() -> ApiError {
    ApiError::new(
        Code::Denied,
        "The enrolment token is not accepted: it is unknown, used, expired, or of another hub. \
         Ask for a new one (`edge-secrets node token`).",
    )
}

/// What the catalog keeps of a token.
fn hash(secret: &[u8; 32]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}
