//! Who the node is: its keys and certificate on disk, enrolment, and renewal.
//!
//! Key, certificate, trust bundle and sealing key stand in one directory that is swapped as a whole
//! ([`Store`]), so that they fit each other after a crash at any instant.

pub mod certificate;
mod custody;
mod enrol;
mod keys;
mod pinned;
pub mod renewal;
mod sealing;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_secrets_protocol::{NodeId, OrgId, PublicKey};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use certificate::{CertificateError, CertificateFacts, Validity};
pub use custody::{Custody, CustodyError};
pub use enrol::{EnrolError, enrol};
pub use keys::KeyError;
pub use renewal::renew;
pub use sealing::{Resealer, SealingKeys};
pub use store::{Material, SetNumber, Store, StoreError};

use crate::config::{Node, SealingKeyCustody};
use crate::hub::tls;

/// An identity that is ready to connect with. The private key is inside the TLS configuration.
pub struct NodeIdentity {
    /// The node's organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// When the certificate is good.
    pub validity: Validity,
    /// What opens values that are sealed to this node.
    pub sealing: SealingKeys,
    /// How the sealing key in use is kept.
    pub custody: SealingKeyCustody,
    /// Why the sealing key in use opens nothing, where it does not.
    pub sealing_lost: Option<String>,
    /// Stands for the enrolment, over renewals: its first sealing key's public half.
    pub enrolment: PublicKey,
    /// How to connect to the hub.
    pub tls: Arc<ClientConfig>,
    /// Which set of the store this is.
    pub set: SetNumber,
}

/// Keys and certificates that cannot be used. Says what to do; shows nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate is not a node's.
    #[error("the node's certificate cannot be used: {0}; enrol again")]
    Certificate(#[from] CertificateError),
    /// A file is not what it should be.
    #[error("{0} is malformed; enrol again")]
    Malformed(&'static str),
    /// A file of the identity in use is damaged, or not there. What services read is left as it is.
    #[error(
        "{}: {reason}. What services read stays. Put the file back as it was, or enrol again: get a token \
         with `edge-secrets node token NODE`, then `edge-secrets-agent enroll --force --token -`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration speaks of another node.
    #[error(
        "the certificate is of node {certified}, the configuration (node.org, node.id) says \
         {configured}: correct the configuration, or enrol again as that node"
    )]
    OtherNode {
        /// `ORG/NODE` of the certificate.
        certified: String,
        /// What the configuration says.
        configured: String,
    },
    /// The state directory fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key does not fit the certificate, or there is no authority to trust.
    #[error("the identity does not fit together: {0}; enrol again")]
    Tls(#[from] rustls::Error),
}

impl IdentityError {
    /// Says which file of the set in `dir` it is about.
    fn of_set(self, dir: &Path) -> Self {
        let (name, reason) = match self {
            Self::Certificate(error) => ("node.crt", error.to_string()),
            Self::Malformed(name) => (name, "it is malformed".to_owned()),
            Self::Tls(error) => {
                let reason = format!("it does not fit node.crt and ca.crt beside it: {error}");
                ("node.key", reason)
            }
            other => return other,
        };
        let path = dir.join(name);
        Self::Damaged { path, reason }
    }
}

impl NodeIdentity {
    /// Reads what the store keeps; `None` when the node is not enrolled.
    ///
    /// # Errors
    /// When something is there and cannot be used.
    pub fn load(store: &Store) -> Result<Option<Self>, IdentityError> {
        let loaded = store.load().map_err(|error| match error.lost() {
            Some((path, reason)) => IdentityError::Damaged { path, reason },
            None => error.into(),
        });
        let Some((set, stored)) = loaded? else {
            return Ok(None);
        };
        let (next, former) = store.other_sealing_keys(set)?;
        let ready = ready(&stored.key, &stored.certificate, &stored.trust_bundle);
        let (facts, tls) = ready.map_err(|error| error.of_set(&store.set_dir(set)))?;
        let sealing = stored.sealing;
        Ok(Some(Self {
            org: facts.org,
            node: facts.node,
            validity: facts.validity,
            sealing: SealingKeys::new(sealing.key, next, former),
            custody: sealing.custody,
            sealing_lost: sealing.lost,
            enrolment: stored.enrolment,
            tls: Arc::new(tls),
            set,
        }))
    }

    /// What was just put into the store.
    fn installed(store: &Store) -> Result<Self, IdentityError> {
        Self::load(store)?.ok_or(IdentityError::Malformed("the identity in use"))
    }

    /// Checks that the configuration, where it names a node, names this one.
    ///
    /// # Errors
    /// When it names another.
    pub fn check_configured(&self, configured: &Node) -> Result<(), IdentityError> {
        check_configured(&self.org, &self.node, configured)
    }
}

/// What the certificate says, and how to connect with it; checks that all parts fit each other.
fn ready(
    key: &str,
    certificate: &str,
    trust_bundle: &str,
) -> Result<(CertificateFacts, ClientConfig), IdentityError> {
    let chain = certificates(certificate, "node.crt")?;
    let authorities = certificates(trust_bundle, "ca.crt")?;
    let leaf = chain.first().ok_or(IdentityError::Malformed("node.crt"))?;
    let facts = certificate::inspect(leaf)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .ok()
        .filter(|key| tls::is_key(key))
        .ok_or(IdentityError::Malformed("node.key"))?;
    let tls = tls::with_identity(&authorities, chain, key)?;
    Ok((facts, tls))
}

fn check_configured(org: &OrgId, node: &NodeId, configured: &Node) -> Result<(), IdentityError> {
    let other_org = configured.org.as_ref().filter(|o| *o != org);
    let other_node = configured.id.as_ref().filter(|n| *n != node);
    if other_org.is_none() && other_node.is_none() {
        return Ok(());
    }
    let configured = format!(
        "{}/{}",
        other_org.unwrap_or(org),
        other_node.unwrap_or(node)
    );
    Err(IdentityError::OtherNode {
        certified: format!("{org}/{node}"),
        configured,
    })
}

fn certificates(
    pem: &str,
    file: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|list| !list.is_empty() && list.len() <= MAX_CHAIN)
        .ok_or(IdentityError::Malformed(file))
}

/// SHA-256 over a certificate's DER form, as tokens carry it.
#[cfg(test)]
pub(crate) fn fingerprint(der: &[u8]) -> Option<[u8; 32]> {
    pinned::sha256(&tls::provider(), der)
}

const MAX_CHAIN: usize = 16;

#[cfg(test)]
mod tests;
