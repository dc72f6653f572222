//! Enrolment: a token for an identity.

use std::sync::Arc;

use edge_secrets_protocol::enroll::{EnrollRequest, Identity};
use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::{Code, SealingKey, Token};

use super::keys::NewKey;
use super::pinned::{PinnedVerifier, sha256};
use super::{IdentityError, KeyError, Material, NodeIdentity, Store, certificates, ready};
use crate::config::Config;
use crate::hub::{Connection, HubError, tls};

/// Why a node is not enrolled. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is an identity already.
    #[error(
        "this node is enrolled already as {0}; to replace its identity, enrol again with --force"
    )]
    Enrolled(String),
    /// The hub refuses the token.
    #[error(
        "the hub refuses the token ({0}): it is wrong, expired, used already, or the node is \
         enrolled; get a new one with `edge-secrets node token NODE` and enrol again"
    )]
    Refused(String),
    /// The hub is not the one that the token names.
    #[error(
        "{0} does not present the CA that the token names: either hub.url names another hub, or \
         something stands between this node and it; nothing was sent"
    )]
    OtherHub(String),
    /// The hub cannot be asked.
    #[error(transparent)]
    Hub(HubError),
    /// What the hub gave, or what is on disk, cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The hub gave something else than was asked for.
    #[error("the hub's answer is refused: {0}")]
    Answer(&'static str),
}

/// Enrols this node with `token`, storing its identity. The token is sent to a server only whose
/// chain ends in the CA that the token names.
///
/// # Errors
/// See [`EnrolError`].
pub async fn enrol(
    config: &Config,
    store: &Store,
    token: Token,
    facts: NodeFacts,
    force: bool,
) -> Result<NodeIdentity, EnrolError> {
    if !force && store.current().map_err(IdentityError::from)?.is_some() {
        let who = match NodeIdentity::load(store) {
            Ok(Some(identity)) => format!("{}/{}", identity.org, identity.node),
            _ => "an identity that cannot be read".to_owned(),
        };
        return Err(EnrolError::Enrolled(who));
    }
    super::check_configured(&token.org, &token.node, &config.node)?;
    let provider = tls::provider();
    let verifier = PinnedVerifier::new(token.ca_fingerprint, provider.clone());
    let mismatch = verifier.mismatch();
    let tls = tls::with_verifier(Arc::new(verifier)).map_err(IdentityError::from)?;
    let connection = match Connection::open(&config.hub.url, Arc::new(tls)).await {
        Ok(connection) => connection,
        Err(_) if mismatch.lock().is_ok_and(|mismatch| *mismatch) => {
            return Err(EnrolError::OtherHub(config.hub.url.to_string()));
        }
        Err(error) => return Err(EnrolError::Hub(error)),
    };

    let fresh = NewKey::generate()?;
    let sealing_key = SealingKey::generate();
    let request = EnrollRequest {
        token: token.expose().to_string(),
        csr: fresh.request,
        sealing_key: sealing_key.public(),
        facts,
    };
    let Identity {
        certificate,
        trust_bundle,
        ..
    } = connection.enroll(&request).await.map_err(refusal)?;
    let material = Material {
        key: fresh.key,
        certificate,
        trust_bundle,
        enrolment: sealing_key.public(),
        sealing_key,
    };

    let trusted = certificates(&material.trust_bundle, "the trust bundle")?;
    if !trusted
        .iter()
        .any(|der| sha256(&provider, der) == Some(token.ca_fingerprint))
    {
        return Err(EnrolError::Answer(
            "its trust bundle lacks the CA that the token names",
        ));
    }
    let (facts, _) = ready(&material.key, &material.certificate, &material.trust_bundle)?;
    if (&facts.org, &facts.node) != (&token.org, &token.node) {
        return Err(EnrolError::Answer(
            "its certificate is of another node than the token",
        ));
    }
    store.install(&material).map_err(IdentityError::from)?;
    store.retire().map_err(IdentityError::from)?;
    Ok(NodeIdentity::installed(store)?)
}

fn refusal(error: HubError) -> EnrolError {
    match error.code() {
        Some(Code::Denied | Code::NotEnrolled | Code::NodeRevoked | Code::Conflict) => {
            EnrolError::Refused(error.detail())
        }
        _ => EnrolError::Hub(error),
    }
}
