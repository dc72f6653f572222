//! What a node's certificate says: who it is, and from when to when.

use edge_secrets_protocol::{NodeId, OrgId};
use jiff::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub not_before: Timestamp,
    /// Up to and including then.
    pub not_after: Timestamp,
}

/// What a certificate says of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// When it is good.
    pub validity: Validity,
}

/// A certificate that is not a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It does not parse.
    #[error("it does not parse")]
    Malformed,
    /// It has not exactly one name `spiffe://…/org/ORG/node/NODE`.
    #[error("it has not exactly one name spiffe://<trust domain>/org/<org>/node/<node>")]
    NotANode,
}

/// Reads a node's certificate. Its signature is not checked here: the hub does that.
///
/// # Errors
/// When it does not parse or is not a node's.
pub fn inspect(der: &[u8]) -> Result<CertificateFacts, CertificateError> {
    let malformed = CertificateError::Malformed;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| malformed)?;
    let time = |at: i64| Timestamp::from_second(at).map_err(|_| malformed);
    let validity = Validity {
        not_before: time(certificate.validity().not_before.timestamp())?,
        not_after: time(certificate.validity().not_after.timestamp())?,
    };
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| malformed)?
        .ok_or(CertificateError::NotANode)?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else {
        return Err(CertificateError::NotANode);
    };
    let (org, node) = node_of(uri).ok_or(CertificateError::NotANode)?;
    Ok(CertificateFacts {
        org,
        node,
        validity,
    })
}

/// `spiffe://<trust domain>/org/<org>/node/<node>` (SPIFFE-ID §2).
fn node_of(uri: &str) -> Option<(OrgId, NodeId)> {
    let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let (org, node) = path.strip_prefix("org/")?.split_once("/node/")?;
    if trust_domain.is_empty() {
        return None;
    }
    Some((org.parse().ok()?, node.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nodes_name_is_a_node() {
        let (org, node) = node_of("spiffe://edge.example/org/my.org/node/edge-01").unwrap();
        assert_eq!((org.as_str(), node.as_str()), ("my.org", "edge-01"));
        for uri in [
            "spiffe://td/org/o/user/u",
            "spiffe:///org/o/node/n",
            "https://td/org/o/node/n",
            "spiffe://td/org/o/node/",
            "spiffe://td/org/o/node/n/x",
            "spiffe://td/org/../node/n",
        ] {
            assert_eq!(node_of(uri), None, "{uri}");
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(inspect(b"no"), Err(CertificateError::Malformed));
    }
}
