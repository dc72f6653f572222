//! Who is calling: what the certificate says, and what the catalog makes of it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use edge_secrets_protocol::{Code, NodeId, OrgId, UserId, routes};

use super::problem::ApiError;
use crate::catalog::records::{Actor, NewAudit, Role};
use crate::clock;
use crate::hub::Hub;
use crate::pki::identity::{ClientCertificate, Principal};
use crate::server::Acquaintance;

/// Who the certificate of a connection says is there, at the time of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// No certificate.
    Anonymous,
    /// A node.
    Node {
        /// Its organisation.
        org: OrgId,
        /// Its name.
        node: NodeId,
        /// Its certificate's serial number, lower-case hexadecimal.
        serial: String,
        /// The certificate has expired: it may renew, and nothing else.
        expired: bool,
    },
    /// A person or program.
    User {
        /// Their organisation.
        org: OrgId,
        /// Their name.
        user: UserId,
        /// Their certificate's serial number, lower-case hexadecimal.
        serial: String,
    },
}

/// What the server puts among a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Who.
    pub peer: Peer,
    /// From where.
    pub address: SocketAddr,
}

/// A user whom the catalog knows. What they may do is decided by [`crate::rights`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPeer {
    /// Their organisation.
    pub org: OrgId,
    /// Their name.
    pub user: UserId,
    /// Their role now.
    pub role: Role,
    /// From where they call.
    pub address: SocketAddr,
}

/// An enrolled node, not revoked, with a certificate that is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePeer {
    /// Its organisation.
    pub org: OrgId,
    /// Its name.
    pub node: NodeId,
    /// From where it calls.
    pub address: SocketAddr,
}

/// An enrolled node, not revoked, whose certificate may have expired within the grace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewingPeer(pub NodePeer);

impl FromRequestParts<Arc<Hub>> for Connected {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _hub: &Arc<Hub>) -> Result<Self, ApiError> {
        Ok(connected(parts)?.clone())
    }
}

impl FromRequestParts<Arc<Hub>> for UserPeer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        Self::known(connected(parts)?, hub).await
    }
}

impl UserPeer {
    /// The user, as the catalog knows them now.
    ///
    /// # Errors
    /// `denied` when it is no user, or the catalog knows them no more.
    pub async fn known(connected: &Connected, hub: &Hub) -> Result<Self, ApiError> {
        let Connected { peer, address } = connected;
        let Peer::User { org, user, serial } = peer else {
            return Err(ApiError::new(
                Code::Denied,
                "This call is for users: it needs a user's client certificate.",
            ));
        };
        let known = hub.catalog.user_identity(serial).await?;
        match known {
            Some(known) if known.org == *org && known.user == *user => Ok(Self {
                org: known.org,
                user: known.user,
                role: known.role,
                address: *address,
            }),
            _ => Err(ApiError::new(
                Code::Denied,
                "This user certificate is not known here (any more); ask an administrator for one.",
            )),
        }
    }
}

impl FromRequestParts<Arc<Hub>> for NodePeer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        let connected = connected(parts)?;
        let known = match enrolled(connected, hub).await {
            Ok((_, true)) => Err(ApiError::new(
                Code::CertificateExpired,
                "The node's certificate has expired: renew it, or enrol again.",
            )),
            Ok((node, false)) => Ok(node),
            Err(error) => Err(error),
        };
        if let Err(error) = &known
            && parts.uri.path() == routes::SECRETS
        {
            refused_fetch(connected, hub, error.0.code).await?;
        }
        known
    }
}

/// Every fetch is in the audit trail, also that of a node which is none (any more).
async fn refused_fetch(connected: &Connected, hub: &Hub, code: Code) -> Result<(), ApiError> {
    let Peer::Node { org, node, .. } = &connected.peer else {
        return Ok(());
    };
    let record = NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Node(node.clone()),
        action: "secret.fetch".into(),
        object: format!("node {node}"),
        result: code.to_string(),
        detail: String::new(),
        peer: connected.address.to_string(),
    };
    Ok(hub.catalog.append_audit(vec![record]).await?)
}

impl FromRequestParts<Arc<Hub>> for RenewingPeer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        Self::known(connected(parts)?, hub).await
    }
}

impl RenewingPeer {
    /// The node, as the catalog knows it now.
    ///
    /// # Errors
    /// When it is no node, the catalog knows it no more, or it is revoked.
    pub async fn known(connected: &Connected, hub: &Hub) -> Result<Self, ApiError> {
        let (node, _) = enrolled(connected, hub).await?;
        Ok(Self(node))
    }
}

/// The node, if it is one that the catalog knows and that is not revoked, and whether its
/// certificate has expired.
async fn enrolled(connected: &Connected, hub: &Hub) -> Result<(NodePeer, bool), ApiError> {
    let Connected { peer, address } = connected;
    let Peer::Node {
        org,
        node,
        serial,
        expired,
    } = peer
    else {
        return Err(ApiError::new(
            Code::Denied,
            "This call is for nodes: it needs a node's client certificate. Enrol first.",
        ));
    };
    let known = hub.catalog.node_identity(serial).await?;
    match known {
        Some(known) if known.org == *org && known.node == *node => {
            if known.revoked {
                return Err(revoked(node));
            }
            let node = NodePeer {
                org: known.org,
                node: known.node,
                address: *address,
            };
            Ok((node, *expired))
        }
        // Nothing else tells a machine that was away to wipe what it had.
        None if hub.catalog.was_removed(org, node).await? => Err(ApiError::new(
            Code::NodeRevoked,
            format!("Node {node} was removed."),
        )),
        _ => Err(ApiError::new(
            Code::NotEnrolled,
            "This node certificate is not known here (any more): enrol again with a new token.",
        )),
    }
}

#[async_trait]
impl Acquaintance for Hub {
    async fn knows(&self, certificate: &ClientCertificate) -> bool {
        let (catalog, serial) = (&self.catalog, &certificate.serial);
        match &certificate.principal {
            Principal::Node { org, node } => match catalog.node_identity(serial).await {
                Ok(known) => known.is_some_and(|known| {
                    known.org == *org && known.node == *node && !known.revoked
                }),
                Err(_) => true,
            },
            Principal::User { org, user } => match catalog.user_identity(serial).await {
                Ok(known) => known.is_some_and(|known| known.org == *org && known.user == *user),
                Err(_) => true,
            },
        }
    }
}

/// The answer to a revoked node.
#[must_use]
pub fn revoked(node: &NodeId) -> ApiError {
    ApiError::new(Code::NodeRevoked, format!("Node {node} is revoked."))
}

fn connected(parts: &Parts) -> Result<&Connected, ApiError> {
    parts.extensions.get::<Connected>().ok_or_else(|| {
        ApiError::internal(&std::io::Error::other(
            "the request came without its connection",
        ))
    })
}
