//! The people and programs of an organisation.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use edge_secrets_protocol::{Code, UserId};

use super::session::Session;
use crate::api::body;
use crate::api::problem::ApiError;
use crate::catalog::records::{Role, UserRecord};
use crate::clock;
use crate::hub::Hub;
use crate::rights::Call;
use crate::wire::{NewUser, UserCertificate, UserInfo, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::USERS, get(list).post(add))
        .route(paths::USER, delete(remove))
}

async fn list(session: Session) -> Result<Json<Vec<UserInfo>>, ApiError> {
    session
        .require(Call::Administer, "user.list", "users")
        .await?;
    let users = session.hub.catalog.users(&session.org).await?;
    let info = |record: UserRecord| UserInfo {
        user: record.user,
        role: record.role,
        created_at: record.created_at,
    };
    Ok(Json(users.into_iter().map(info).collect()))
}

async fn add(
    session: Session,
    body::Json(body): body::Json<NewUser>,
) -> Result<Json<UserCertificate>, ApiError> {
    let object = object(&body.user);
    session
        .require(Call::Administer, "user.add", &object)
        .await?;
    let (hub, org) = (&session.hub, &session.org);
    let private = format!("user/{}/", body.user);
    if !hub.catalog.secrets(org, &private).await?.is_empty() {
        // Whoever comes under an old name must not come into its secrets.
        let detail = format!(
            "There are private secrets of an earlier user {}: remove those that \
             `edge-secrets secret list {private}` shows first, or choose another name.",
            body.user
        );
        return Err(ApiError::new(Code::Conflict, detail));
    }
    // First the certificate: a request that cannot be signed adds nobody.
    let issued = hub.pki.issue_user(
        &body.csr,
        org,
        &body.user,
        hub.config.user_certificates.lifetime,
    )?;
    let record = UserRecord {
        org: org.clone(),
        user: body.user,
        role: body.role,
        created_at: clock::now(),
    };
    let mut audit = session.audit("user.add", object);
    audit.detail = match record.role {
        Role::Admin => "role admin".to_owned(),
        Role::User => "role user".to_owned(),
    };
    hub.catalog.add_user(&record, audit).await?;
    hub.catalog
        .add_user_certificate(org, &record.user, &issued.record())
        .await?;
    Ok(Json(UserCertificate {
        certificate: issued.certificate_pem_chain,
        trust_bundle: hub.pki.trust_bundle_pem().to_owned(),
    }))
}

async fn remove(session: Session) -> Result<StatusCode, ApiError> {
    let user: UserId = session.param("user")?;
    let object = object(&user);
    session
        .require(Call::Administer, "user.remove", &object)
        .await?;
    let (hub, org) = (&session.hub, &session.org);
    if user == session.peer.user {
        let detail = "Nobody removes themselves; ask another administrator.";
        return Err(ApiError::new(Code::Conflict, detail));
    }
    // Two administrators who remove each other at once would leave none.
    let _turn = hub.models.turn(org).await;
    let users = hub.catalog.users(org).await?;
    let stays_administered = users
        .iter()
        .any(|other| other.role == Role::Admin && other.user != user);
    if !stays_administered {
        let detail = format!("{user} is the last administrator of {org}; name another one first.");
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let audit = session.audit("user.remove", object);
    hub.catalog.remove_user(org, &user, audit).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn object(user: &UserId) -> String {
    format!("user/{user}")
}
